import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { pino } from "pino";
import { createApp, openRedis } from "./app.ts";
import { type Config, ConfigError, readConfig, readDatabaseUrl, readRedisUrl } from "./config.ts";
import { type Db, errorNumber, openDatabase } from "./db/database.ts";
import { migrate } from "./db/migrate.ts";
import { leaseIds } from "./id.ts";
import { createKey, KEY_KINDS, type KeyKind, keyKindOf, listKeys, revokeKey } from "./key/key.ts";
import { verifyBooks } from "./ledger/verify.ts";
import { openServer } from "./server.ts";
import { postingSources } from "./sources.ts";

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

const key = program.command("key").description("Make, list and revoke API keys.");

key
  .command("create")
  .description("Make an API key. It is shown once and stored as a hash.")
  .addOption(new Option("--kind <kind>", "who will hold it").choices(KEY_KINDS).makeOptionMandatory())
  .requiredOption("--name <name>", "what to call it in lists, at most 100 characters")
  .option("--partner <id>", "the partner that the key is for; with --kind partner", idArgument)
  .option("--expires <time>", "when it stops working, as 2027-01-31T00:00:00Z; never if not given", timeArgument)
  .action((options: { kind: KeyKind; name: string; partner?: bigint; expires?: Date }) =>
    withDatabase(async (db) => {
      if ((options.kind === "partner") !== (options.partner !== undefined)) {
        throw new UsageError("--partner goes with --kind partner, and only with it");
      }
      if (options.name.length > 100) throw new UsageError("--name takes at most 100 characters");
      const ids = await leaseIds(db, () => {});
      try {
        const { kind, name, partner, expires } = options;
        const made = await createKey({ db, newId: ids.newId }, { kind, name, partnerId: partner, expireTime: expires });
        print(`id   ${made.row.id}`);
        print(`key  ${made.key}`);
      } finally {
        ids.close();
      }
    }),
  );

key
  .command("list")
  .description("List all API keys, newest first, by what may be shown of them.")
  .action(() =>
    withDatabase(async (db) => {
      const rows = (await listKeys(db)).map((row) => [
        String(row.id),
        keyKindOf(row),
        `…${row.ending}`,
        row.revokeTime ? "revoked" : row.expireTime && row.expireTime <= new Date() ? "expired" : "valid",
        row.lastUseTime?.toISOString() ?? "never used",
        row.name,
      ]);
      printTable([["ID", "KIND", "KEY", "STATE", "LAST USE", "NAME"], ...rows]);
    }),
  );

key
  .command("revoke")
  .description("End an API key at once.")
  .argument("<id>", "as `chatpay key list` shows it", idArgument)
  .action((id: bigint) =>
    withDatabase(async (db) => {
      const log = pino({ level: "warn" }, process.stderr);
      const redis = openRedis(readRedisUrl(), log);
      try {
        if (!(await revokeKey({ db, redis, log }, id))) throw new UsageError(`no valid key has the id ${id}`);
      } finally {
        redis.disconnect();
      }
      print(`key ${id} is revoked`);
    }),
  );

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
    await doors.stop();
    await app.close();
    log.info("stopped");
    process.exit();
  }
  process.on("SIGTERM", (signal) => void stop(signal));
  process.on("SIGINT", (signal) => void stop(signal));
}

async function verify(databaseUrl: string, json: boolean): Promise<boolean> {
  for await (const finding of verifyBooks(databaseUrl, postingSources)) {
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
