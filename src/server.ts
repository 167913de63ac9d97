import { sql } from "kysely";
import { createAuthenticate } from "./account/authenticate.ts";
import type { App } from "./app.ts";
import { isMigrated } from "./db/migrate.ts";
import { routes } from "./routes.ts";
import { type Doors, openDoors } from "./rpc/doors.ts";

/** Opens the doors of an app. Throws when the tables are not up to date. */
export async function openServer(app: App): Promise<Doors> {
  const { config, log, metrics, db } = app;
  if (!(await isMigrated(db))) throw new Error("the tables are not up to date; run: chatpay migrate");
  return openDoors({
    config,
    log,
    metrics,
    routes: routes(app),
    authenticate: createAuthenticate(app),
    healthy: async () => (await sql`select 1`.execute(db)).rows.length === 1,
  });
}
