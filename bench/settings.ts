import { join, resolve } from "node:path";

/** Everything that a number in the tables depends on. */

export const ROOT = resolve(import.meta.dirname, "..");
/** The bench's own MySQL and Redis keep their data here, so that the big tables are filled only once. */
export const DATA = resolve(process.env.CHATPAY_BENCH_DIR ?? join(ROOT, ".local/bench"));

/** Durability is MySQL's default, written down so that nobody has to know it. */
export const MYSQL_FLAGS = [
  "--innodb-flush-log-at-trx-commit=1",
  "--sync-binlog=1",
  "--innodb-buffer-pool-size=4G",
  "--innodb-redo-log-capacity=4G",
];

export interface Settings {
  wallets: number;
  /** Contestants take turns so often; the medians count. */
  rounds: number;
  warmupMs: number;
  measureMs: number;
  /** How many connections the transactions may use; each workload uses the number that is best for it. */
  connections: number[];
  calibrateMs: number;
  /** Transfers in flight: what a chat server has open at a busy moment. */
  inFlight: number;
  /** Connections of the load generator to `:50051`. */
  sessions: number;
  /** Keep-alive connections to `:8080`, each with one call at a time. */
  sockets: number;
  /** Calls of BatchSendTransfers in flight, and the transfers in each. */
  batchCalls: number;
  batchSize: number;
  /** How long one client calls before it is the other's turn. */
  latencyMs: number;
  latencyRounds: number;
  /** Transfers in the tables whose disk is measured and whose books are verified. */
  million: number;
  big: { wallets: number; transfers: number; rounds: number; measureMs: number };
  starts: number;
  /** Callers whose credentials are verified, how often in each round, and look-ups of sessions. */
  verify: { people: number; calls: number; rounds: number; lookUps: number };
  /** Transfers and sign-ins that begin each second, and the people who sign in. */
  storm: { transfers: number; signIns: number; people: number; rounds: number; measureMs: number };
  /** Bank transfers of which nobody knows what became of them, and automatic top-ups one after the other. */
  banks: { pending: number; draws: number; rounds: number; measureMs: number };
  /** The server takes so many calls at a time, and is called by `factor` times as many clients. */
  overload: { inFlight: number; factor: number; retryMs: number; measureMs: number };
}

export const FULL: Settings = {
  wallets: 10_000,
  rounds: 3,
  warmupMs: 2_000,
  measureMs: 8_000,
  connections: [4, 8, 16, 32, 64],
  calibrateMs: 2_500,
  inFlight: 1_024,
  sessions: 4,
  sockets: 256,
  batchCalls: 16,
  batchSize: 1_000,
  latencyMs: 2_000,
  latencyRounds: 5,
  million: 1_000_000,
  big: { wallets: 1_000_000, transfers: 5_000_000, rounds: 5, measureMs: 15_000 },
  starts: 5,
  verify: { people: 1_000, calls: 1_000_000, rounds: 5, lookUps: 20_000 },
  storm: { transfers: 500, signIns: 50, people: 1_000, rounds: 5, measureMs: 8_000 },
  banks: { pending: 200, draws: 100, rounds: 7, measureMs: 8_000 },
  overload: { inFlight: 200, factor: 10, retryMs: 500, measureMs: 30_000 },
};

/** A look at whether everything works; its numbers mean little. */
export const QUICK: Settings = {
  ...FULL,
  wallets: 1_000,
  rounds: 1,
  warmupMs: 300,
  measureMs: 1_000,
  connections: [8, 32],
  calibrateMs: 200,
  latencyMs: 500,
  latencyRounds: 1,
  million: 20_000,
  big: { wallets: 20_000, transfers: 50_000, rounds: 1, measureMs: 1_000 },
  starts: 1,
  verify: { people: 200, calls: 100_000, rounds: 3, lookUps: 2_000 },
  storm: { transfers: 500, signIns: 50, people: 100, rounds: 1, measureMs: 3_000 },
  banks: { pending: 50, draws: 10, rounds: 1, measureMs: 1_000 },
  overload: { inFlight: 100, factor: 10, retryMs: 500, measureMs: 4_000 },
};
