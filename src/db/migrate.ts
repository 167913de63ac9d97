import { type Migration, Migrator } from "kysely/migration";
import type { Db } from "./database.ts";
import * as ledger from "./migrations/0001_ledger.ts";
import * as money from "./migrations/0002_money.ts";
import * as people from "./migrations/0003_people.ts";
import * as access from "./migrations/0004_access.ts";
import * as jobs from "./migrations/0005_jobs.ts";
import * as bank from "./migrations/0006_bank.ts";
import * as linkEvents from "./migrations/0007_link_events.ts";
import * as requests from "./migrations/0009_requests.ts";
import * as schedules from "./migrations/0010_schedules.ts";
import * as gifts from "./migrations/0011_gifts.ts";
import * as incoming from "./migrations/0012_incoming.ts";

/** In the order in which they are applied. Appended, never edited. */
const migrations: Record<string, Migration> = {
  "0001_ledger": ledger,
  "0002_money": money,
  "0003_people": people,
  "0004_access": access,
  "0005_jobs": jobs,
  "0006_bank": bank,
  "0007_link_events": linkEvents,
  "0009_requests": requests,
  "0010_schedules": schedules,
  "0011_gifts": gifts,
  "0012_incoming": incoming,
};

/** Brings the tables up to date; the names of what was applied now. Several processes may try at once. */
export async function migrate(db: Db): Promise<string[]> {
  const migrator = new Migrator({ db: db.withoutPlugins(), provider: { getMigrations: async () => migrations } });
  const { error, results = [] } = await migrator.migrateToLatest();
  if (error) throw error;
  return results.filter(({ status }) => status === "Success").map(({ migrationName }) => migrationName);
}

/** Whether every migration has been applied. */
export async function isMigrated(db: Db): Promise<boolean> {
  const migrator = new Migrator({ db: db.withoutPlugins(), provider: { getMigrations: async () => migrations } });
  return (await migrator.getMigrations()).every(({ executedAt }) => executedAt !== undefined);
}
