import { CamelCasePlugin, CompiledQuery, Kysely, MysqlDialect, type Transaction } from "kysely";
import { createPool, type PoolConnection, type PoolOptions, type TypeCastField } from "mysql2";
import { overloaded } from "../errors.ts";
import type { Database } from "./schema.ts";

/** To read, or to change what is not money. */
export type Db = Kysely<Database>;
/** Inside a transaction. */
export type Trx = Transaction<Database>;

const POOL_MAX = 10;
const POOL_QUEUE_MAX = 1_000;
const CONNECT_TIMEOUT_MS = 5_000;
const LOCK_WAIT_S = 10;

/** What every connection of ours sets: the level of isolation, UTC, and no silent truncation. */
export const SESSION_SETUP = `set session transaction_isolation = 'READ-COMMITTED', time_zone = '+00:00', \
sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,ONLY_FULL_GROUP_BY', \
innodb_lock_wait_timeout = ${LOCK_WAIT_S}`;

/** The settings that every connection shares: integers exact, times UTC. */
export const connectionOptions = (url: string) =>
  ({
    uri: url,
    charset: "utf8mb4_bin",
    timezone: "Z",
    supportBigNumbers: true,
    bigNumberStrings: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    enableKeepAlive: true,
    keepAliveInitialDelay: 10_000,
    flags: ["FOUND_ROWS"],
  }) satisfies PoolOptions;

/** BIGINT as bigint; mysql2 would give strings. */
function readField(field: TypeCastField, next: () => unknown) {
  const value = next();
  return field.type === "LONGLONG" && typeof value === "string" ? BigInt(value) : value;
}

export function openDatabase(url: string): Db {
  const pool = createPool({
    ...connectionOptions(url),
    connectionLimit: POOL_MAX,
    maxIdle: POOL_MAX,
    queueLimit: POOL_QUEUE_MAX,
    typeCast: readField,
  });
  pool.on("connection", endWhenSilent);
  return new Kysely<Database>({
    dialect: new MysqlDialect({
      pool: {
        getConnection: (callback) => pool.getConnection((error, connection) => callback(refusalFor(error), connection)),
        end: (callback) => pool.end(callback),
      },
      onCreateConnection: async (connection) => {
        await connection.executeQuery(CompiledQuery.raw(SESSION_SETUP));
      },
    }),
    plugins: [new CamelCasePlugin()],
  });
}

/** Much longer than any of our queries takes. A server that is silent for so long is taken for gone. */
const ANSWER_MAX_MS = 20_000;

/** A connection whose server fell silent would hold its query, and its place in the pool, until TCP gives up. */
function endWhenSilent(connection: PoolConnection) {
  const query = connection.query.bind(connection) as (...args: unknown[]) => unknown;
  const bounded = (sql: string, values: unknown, answer: (error: unknown, ...rest: unknown[]) => void) =>
    query({ sql, values, timeout: ANSWER_MAX_MS }, (error: NodeJS.ErrnoException | null, ...rest: unknown[]) => {
      if (error?.code === "PROTOCOL_SEQUENCE_TIMEOUT") {
        connection.destroy();
        Object.assign(error, { fatal: true });
      }
      answer(error, ...rest);
    });
  Object.assign(connection, { query: bounded });
}

const POOL_RETRY_MS = 500;

/** A pool with its queue full is an overloaded server, not a broken one. */
const refusalFor = (error: Error | null) =>
  error?.message === "Queue limit reached." ? overloaded(POOL_RETRY_MS) : error;

const ATTEMPTS_MAX = 5;

/** Runs `work` in a transaction, again from the start when the database gave way to another one. */
export async function transact<T>(db: Db, work: (trx: Trx) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction().execute(work);
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || !isRetryable(error)) throw error;
      await pause(attempt);
    }
  }
}

/** A short pause that grows, with jitter so that two who met do not meet again. */
export const pause = (attempt: number) =>
  new Promise<void>((resolve) => setTimeout(resolve, Math.random() * Math.min(200, 5 * 2 ** attempt)));

// By number, because names differ between servers: deadlock, lock wait, NOWAIT, and what distributed
// databases answer when a transaction must be run again (TiDB 8002, 8022, 9007; Vitess 1317).
const RETRYABLE = new Set([1213, 1205, 3572, 1020, 1317, 8002, 8022, 9007]);
const DUPLICATE_KEY = 1062;

export const errorNumber = (error: unknown): number | undefined =>
  error instanceof Error && "errno" in error && typeof error.errno === "number" ? error.errno : undefined;

export const isRetryable = (error: unknown) => RETRYABLE.has(errorNumber(error) ?? 0);
/** A deadlock or a lock wait: MySQL answers them to the statement that meets them, never to a commit. */
export const endedBeforeCommit = (error: unknown) => [1213, 1205].includes(errorNumber(error) ?? 0);
export const isDuplicateKey = (error: unknown) => errorNumber(error) === DUPLICATE_KEY;

// The server is stopping, or closed a connection that was idle or killed.
const CLOSING = new Set([1053, 1927, 4031]);

/** The connection is gone, so what the server did last is not known. */
export const isConnectionLost = (error: unknown) =>
  (error instanceof Error && "fatal" in error && error.fatal === true) || CLOSING.has(errorNumber(error) ?? 0);
