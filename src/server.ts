import { sql } from "kysely";
import { createAuthenticate } from "./account/authenticate.ts";
import { createResolve } from "./account/gateway.ts";
import { publicKeySet } from "./account/tokens.ts";
import type { App } from "./app.ts";
import type { Config } from "./config.ts";
import { isMigrated } from "./db/migrate.ts";
import { jobs } from "./jobs.ts";
import { createNoteKeyUse } from "./key/key.ts";
import { routes } from "./routes.ts";
import type { Page } from "./rpc/connect.ts";
import { type Doors, openDoors } from "./rpc/doors.ts";

/** Opens the doors of an app and starts its jobs, as its roles say. Throws when the tables are not up to date. */
export async function openServer(app: App): Promise<Doors> {
  const { config, log, metrics, db } = app;
  if (!(await isMigrated(db))) throw new Error("the tables are not up to date; run: chatpay migrate");
  await warnOfLoss(app);
  const authenticate = createAuthenticate(app);
  const answersGateways = config.gatewaySecret !== undefined && config.roles.includes("account");
  const doors = await openDoors({
    config,
    log,
    metrics,
    trail: app.trail,
    routes: routes(app),
    pages: new Map([["/.well-known/jwks.json", keyPage(config)]]),
    authenticate,
    noteKeyUse: createNoteKeyUse(app),
    rate: app.rates.interceptor,
    resolve: answersGateways ? createResolve(config, authenticate) : undefined,
    healthy: async () => (await sql`select 1`.execute(db)).rows.length === 1,
  });
  if (config.roles.includes("worker")) app.runner.start(jobs(app));
  return doors;
}

/** Whoever keeps it fetches it anew before another key signs; see CHATPAY_TOKEN_SECRET. */
const keyPage = (config: Config): Page => ({
  type: "application/jwk-set+json",
  cacheControl: "public, max-age=300",
  body: JSON.stringify(publicKeySet(config)),
});

/** What was answered is on disk only if MySQL puts it there with each commit. */
async function warnOfLoss({ db, log }: App) {
  const { rows } = await sql<{ Value: string }>`
    show variables where variable_name in ('innodb_flush_log_at_trx_commit', 'sync_binlog')`.execute(
    db.withoutPlugins(),
  );
  if (rows.some(({ Value: value }) => value !== "1")) {
    log.warn("MySQL may lose answered calls in a crash: set innodb_flush_log_at_trx_commit=1 and sync_binlog=1");
  }
}
