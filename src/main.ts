import { ConnectError } from "@connectrpc/connect";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { Redis } from "ioredis";
import { type Logger, pino } from "pino";
import type { Scope } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { createApp, openRedis } from "./app.ts";
import { type Config, ConfigError, readConfig, readDatabaseUrl, readRedisUrl } from "./config.ts";
import { type Db, errorNumber, openDatabase } from "./db/database.ts";
import { migrate } from "./db/migrate.ts";
import { leaseIds, type NewId } from "./id.ts";
import {
  createKey,
  keyKindOf,
  listKeys,
  type MadeKey,
  revokeKey,
  rotateKey,
  SCOPE_NAMES,
  scopeNamed,
  scopeNamesOf,
} from "./key/key.ts";
import { KEY_KINDS, type KeyKind } from "./key/text.ts";
import { verifyBooks } from "./ledger/verify.ts";
import { openServer } from "./server.ts";
import { sources } from "./sources.ts";

/** The `chatpay` command. Exit codes: 0 done; 1 failed, or the books differ; 2 wrong use or configuration. */

const FAILED = 1;
const MISUSED = 2;
/** As MySQL numbers it. */
const TABLE_MISSING = 1146;

// Whoever reads our output may have seen enough.
process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => process.exit(code === "EPIPE" ? 0 : FAILED));

const print = (line: string) => process.stdout.write(`${line}\n`);

function idArgument(text: string): bigint {
  if (!/^[1-9][0-9]{0,18}$/.test(text)) throw new InvalidArgumentError("It must be a decimal id.");
  return BigInt(text);
}

function timeArgument(text: string): Date {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError("It must be a time such as 2027-01-31T00:00:00Z.");
  if (time.getTime() <= Date.now()) throw new InvalidArgumentError("It must lie in the future.");
  return time;
}

function scopesArgument(text: string): Scope[] {
  const scopes = text.split(",").map((name) => {
    const scope = scopeNamed(name.trim());
    if (scope === undefined) throw new InvalidArgumentError(`There is no scope "${name.trim()}".`);
    return scope;
  });
  return [...new Set(scopes)];
}

const OVERLAP_DAYS_MAX = 30;
const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function overlapArgument(text: string): number {
  const [, count, unit] = /^([0-9]{1,7})([smhd])$/.exec(text) ?? [];
  const ms = Number(count) * (UNIT_MS[unit ?? ""] ?? Number.NaN);
  if (Number.isNaN(ms)) throw new InvalidArgumentError("It must be a time such as 90s, 30m, 24h or 7d.");
  if (ms > OVERLAP_DAYS_MAX * 86_400_000) throw new InvalidArgumentError(`It can be ${OVERLAP_DAYS_MAX}d at most.`);
  return ms;
}

const program = new Command("chatpay")
  .description("The money side of a chat app. Configuration comes from the environment; see README.md.")
  .configureHelp({ showGlobalOptions: true })
  .showHelpAfterError()
  .exitOverride();

program
  .command("serve")
  .description("Answer calls on both doors until SIGTERM or SIGINT; a second signal ends at once.")
  .action(async () => serve(readConfig()));

program
  .command("migrate")
  .description("Create the tables or bring them up to date, then exit.")
  .action(() =>
    withDatabase(async (db) => {
      const applied = await migrate(db);
      print(applied.length === 0 ? "the tables are up to date" : `applied ${applied.join(", ")}`);
    }),
  );

program
  .command("verify")
  .description("Check all books as of now. Exits with 1 when anything differs.")
  .option("--json", "print each finding as a line of JSON")
  .action(async ({ json }: { json?: boolean }) => {
    if (!(await verify(readDatabaseUrl(), json === true))) process.exitCode = FAILED;
  });

const key = program.command("key").description("Make, list, replace and revoke API keys.");

key
  .command("create")
  .description("Make an API key. It is shown once and stored as a hash.")
  .addOption(new Option("--kind <kind>", "who will hold it").choices(KEY_KINDS).makeOptionMandatory())
  .requiredOption("--name <name>", "what to call it in lists, at most 100 characters")
  .option("--partner <id>", "the partner that the key is for; with --kind partner", idArgument)
  .option("--scope <scopes>", "what it may do, comma separated; all that its kind may if not given", scopesArgument)
  .option("--expires <time>", "when it stops working, as 2027-01-31T00:00:00Z; never if not given", timeArgument)
  .addHelpText("after", `\nScopes:\n${SCOPE_NAMES.map((name) => `  ${name.toLowerCase()}\n`).join("")}`)
  .action(async (options: { kind: KeyKind; name: string; partner?: bigint; scope?: Scope[]; expires?: Date }) => {
    const { kind, name, partner, scope, expires } = options;
    if ((kind === "partner") !== (partner !== undefined)) {
      throw new UsageError("--partner goes with --kind partner, and only with it");
    }
    if (name.length > 100) throw new UsageError("--name takes at most 100 characters");
    const order = { kind, name, partnerId: partner, scopes: scope, expireTime: expires };
    await withIds(async (db, newId) => printKey(await createKey({ db, newId }, order)));
  });

key
  .command("list")
  .description("List all API keys, newest first, by what may be shown of them.")
  .action(() =>
    withDatabase(async (db) => {
      const rows = (await listKeys(db)).map((row) => [
        String(row.id),
        keyKindOf(row.kind),
        `…${row.ending}`,
        row.revokeTime ? "revoked" : row.expireTime && row.expireTime <= new Date() ? "expired" : "valid",
        row.expireTime?.toISOString() ?? "never",
        row.lastUseTime?.toISOString() ?? "never used",
        scopeNamesOf(row).join().toLowerCase() || "all",
        row.name,
      ]);
      printTable([["ID", "KIND", "KEY", "STATE", "EXPIRES", "LAST USE", "SCOPES", "NAME"], ...rows]);
    }),
  );

key
  .command("rotate")
  .description("Make an API key like another, which works on for the overlap and then ends.")
  .argument("<id>", "as `chatpay key list` shows it", idArgument)
  .requiredOption("--overlap <time>", "how long both work, as 90s, 30m, 24h or 7d; 0s ends it at once", overlapArgument)
  .action((id: bigint, { overlap }: { overlap: number }) =>
    withIds((db, newId) =>
      withRedis(async (redis, log) => {
        printKey(await rotateKey({ db, newId, redis, log }, { keyId: id, overlapMs: overlap }));
      }),
    ),
  );

key
  .command("revoke")
  .description("End an API key at once.")
  .argument("<id>", "as `chatpay key list` shows it", idArgument)
  .action((id: bigint) =>
    withDatabase(async (db) => {
      await withRedis((redis, log) => revokeKey({ db, redis, log }, id));
      print(`key ${id} is revoked`);
    }),
  );

function printKey({ row, key: text }: MadeKey) {
  print(`id   ${row.id}`);
  print(`key  ${text}`);
}

class UsageError extends Error {}

async function serve(config: Config) {
  const app = await createApp(config);
  const { log } = app;
  if (config.madeUpSecrets.length > 0) {
    log.warn({ secrets: config.madeUpSecrets }, "development mode: secrets were made up and end with this process");
  }
  const doors = await openServer(app);
  log.info({ connect: doors.connectPort, grpc: doors.grpcPort, internal: doors.internalPort }, "serving");

  let stopping = false;
  async function stop(signal: string) {
    if (stopping) {
      log.warn({ signal }, "stopping at once");
      process.exit(FAILED);
    }
    stopping = true;
    log.info({ signal }, "stopping: calls that were accepted are finished");
    // Jobs start nothing new while calls end.
    await Promise.all([doors.stop(), app.runner.close()]);
    await app.close();
    log.info("stopped");
    process.exit();
  }
  process.on("SIGTERM", (signal) => void stop(signal));
  process.on("SIGINT", (signal) => void stop(signal));
}

async function verify(databaseUrl: string, json: boolean): Promise<boolean> {
  for await (const finding of verifyBooks(databaseUrl, sources)) {
    if (json)
      print(JSON.stringify(finding, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)));
    else if (finding.kind === "progress") process.stderr.write(`${finding.check}: ${finding.rows} rows\n`);
    else if (finding.kind === "difference") print(`${finding.check}: ${finding.subject}: ${finding.message}`);
    else {
      const { walletCount, postingCount, batchCount, position, differenceCount } = finding;
      print(`${walletCount} wallets, ${postingCount} postings, ${batchCount} batches, position ${position}`);
      print(finding.clean ? "the books are right" : `${differenceCount} differences`);
    }
    if (finding.kind === "report") return finding.clean;
  }
  return false;
}

async function withDatabase(work: (db: Db) => Promise<void>) {
  const db = openDatabase(readDatabaseUrl());
  try {
    await work(db);
  } finally {
    await db.destroy();
  }
}

/** As a process of its own, which ids need. */
const withIds = (work: (db: Db, newId: NewId) => Promise<void>) =>
  withDatabase(async (db) => {
    const ids = await leaseIds(db, () => {});
    try {
      await work(db, ids.newId);
    } finally {
      ids.close();
    }
  });

/** To tell the servers; without Redis they find out by themselves. */
async function withRedis<T>(work: (redis: Redis, log: Logger) => Promise<T>): Promise<T> {
  const log = pino({ level: "warn" }, process.stderr);
  const redis = openRedis(readRedisUrl(), log);
  try {
    return await work(redis, log);
  } finally {
    redis.disconnect();
  }
}

function printTable(rows: string[][]) {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows)
    print(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}

/** What went wrong, for a person, and the exit code that says what kind of wrong it is. */
function explain(error: unknown): { message: string; exitCode: number } {
  if (error instanceof ConfigError)
    return { message: `the configuration is not right:\n${error.message}`, exitCode: MISUSED };
  if (error instanceof UsageError) return { message: error.message, exitCode: MISUSED };
  if (error instanceof ConnectError) return { message: error.rawMessage, exitCode: FAILED };
  const { code, message } = error as { code?: string; message?: string };
  if (code === "EADDRINUSE") return { message: `a port is taken: ${message}`, exitCode: FAILED };
  if (code === "ECONNREFUSED") return { message: `MySQL does not answer: ${message || code}`, exitCode: FAILED };
  if (errorNumber(error) === TABLE_MISSING)
    return { message: "the tables are not there yet; run: chatpay migrate", exitCode: FAILED };
  return { message: message || String(error), exitCode: FAILED };
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : MISUSED;
  } else {
    const explained = explain(error);
    process.stderr.write(`chatpay: ${explained.message}\n`);
    process.exit(explained.exitCode);
  }
}
