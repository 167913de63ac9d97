import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ConnectError } from "@connectrpc/connect";
import { pino } from "pino";
import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import { Entry_Cause, Wallet_Kind } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { type Db, openDatabase } from "../../src/db/database.ts";
import { migrate } from "../../src/db/migrate.ts";
import type { AccountRow, TransferRow, WalletRow } from "../../src/db/schema.ts";
import { leaseIds, type NewId } from "../../src/id.ts";
import type { Command, Settled } from "../../src/ledger/command.ts";
import { type Lane, type LaneOptions, openLane } from "../../src/ledger/lane.ts";
import { onceKeyOf } from "../../src/ledger/once.ts";
import { adjustWallet } from "../../src/wallet/wallet.ts";
import { makeDatabase } from "./server.ts";

/** A ledger as one process has it: a lane, and ids of its own. */
export interface Ledger {
  databaseUrl: string;
  db: Db;
  lane: Lane;
  newId: NewId;
  /** What the lane met: retry, isolate, ambiguous. */
  trouble: string[];
  /** The number of commands in each batch that committed. */
  batches: number[];
  close(): Promise<void>;
}

export type LedgerOptions = Partial<Pick<LaneOptions, "queueMax" | "batchMax" | "newId">> & {
  /** Where the lane finds the database, if not where everybody does. */
  laneUrl?: string;
};

/** An empty database with the tables. */
export async function makeBooks(): Promise<string> {
  const databaseUrl = await makeDatabase();
  const db = openDatabase(databaseUrl);
  await migrate(db);
  await db.destroy();
  return databaseUrl;
}

export async function openLedger(databaseUrl: string, { laneUrl, ...options }: LedgerOptions = {}): Promise<Ledger> {
  const db = openDatabase(databaseUrl);
  const ids = await leaseIds(db, () => {});
  const trouble: string[] = [];
  const batches: number[] = [];
  const lane = openLane({
    databaseUrl: laneUrl ?? databaseUrl,
    newId: ids.newId,
    log: pino({ level: "silent" }),
    observe: ({ commands }) => void batches.push(commands),
    observeTrouble: (kind) => void trouble.push(kind),
    ...options,
  });
  return {
    databaseUrl,
    db,
    lane,
    newId: ids.newId,
    trouble,
    batches,
    async close() {
      await lane.close();
      ids.close();
      await db.destroy();
    },
  };
}

/** So many ids, each of them known to be there. */
type Ids<Count extends number, Made extends bigint[] = []> = number extends Count
  ? bigint[]
  : Made["length"] extends Count
    ? Made
    : Ids<Count, [...Made, bigint]>;

/** New wallets, by default open main wallets in won; their accounts have the same ids. */
export async function makeWallets<Count extends number>(
  { lane, newId }: Pick<Ledger, "lane" | "newId">,
  count: Count,
  { balance = 0n, ...fields }: Partial<WalletRow> = {},
): Promise<Ids<Count>> {
  const ids = Array.from({ length: count }, newId);
  const opened = await lane.submitEach(ids.map((id) => openWallet(id, fields)));
  const credited = await lane.submitEach(
    balance === 0n
      ? []
      : ids.map((walletId) =>
          adjustWallet({ idempotencyKey: randomUUID(), walletId, amount: balance, reason: "for a test", apiKeyId: 1n }),
        ),
  );
  for (const { error } of [...opened, ...credited]) if (error) throw error;
  return ids as Ids<Count>;
}

const openWallet = (id: bigint, fields: Partial<WalletRow>): Command<WalletRow> => ({
  touches: {},
  decide: (books) => Object.assign(books.openWallet({ id, kind: Wallet_Kind.MAIN }), { accountId: id, ...fields }),
});

export interface Pay {
  from: bigint;
  to: bigint;
  amount: bigint;
  key?: string;
  memo?: string;
}

/** Money from one wallet to another, between wallets of any kind. */
export function pay({ from, to, amount, key = randomUUID(), memo = "" }: Pay): Command<TransferRow> {
  const idempotencyKey = onceKeyOf("test", key);
  return {
    touches: { wallet: [from, to] },
    once: {
      by: "transfer",
      key: idempotencyKey,
      isRepeat: (first) =>
        first.senderWalletId === from &&
        first.recipientWalletId === to &&
        first.amount === amount &&
        first.memo === memo,
    },
    decide(books) {
      const transfer = transferRow(books.newId(), { from, to, amount, memo }, books.now);
      books.move({ from, to, amount, because: { cause: Entry_Cause.TRANSFER, id: transfer.id } });
      books.tell("transfer.completed", [from, to], { transferId: transfer.id, amount });
      return books.insert("transfer", { ...transfer, idempotencyKey });
    },
  };
}

/** Somebody's account, before its wallets are opened. */
export const accountRow = (id: bigint, mainWalletId: bigint, createTime: Date): AccountRow => ({
  id,
  email: `${id}@example.com`,
  emailKey: null,
  phone: "",
  phoneKey: null,
  passwordHash: "",
  displayName: "Somebody",
  language: "ko",
  state: Account_State.OPEN,
  mainWalletId,
  identityId: null,
  pinHash: "",
  pinTries: 0,
  identityKey: null,
  walletCount: 0,
  bankAccountCount: 0,
  createTime,
  updateTime: createTime,
});

/** The row that a posting needs as its cause, with a key that nobody else has. */
export const transferRow = (id: bigint, { from, to, amount, memo = "" }: Pay, createTime: Date): TransferRow => ({
  id,
  senderWalletId: from,
  recipientWalletId: to,
  amount,
  currency: "KRW",
  memo,
  state: 1,
  idempotencyKey: onceKeyOf("test", randomUUID()),
  createTime,
});

/** The transfers that were made under a key. */
export const transfersOf = ({ db }: Pick<Ledger, "db">, key: string): Promise<TransferRow[]> =>
  db.selectFrom("transfer").selectAll().where("idempotencyKey", "=", onceKeyOf("test", key)).execute();

export async function balancesOf({ db }: Pick<Ledger, "db">, ids: bigint[]): Promise<bigint[]> {
  const rows = await db.selectFrom("wallet").select(["id", "balance"]).where("id", "in", ids).execute();
  const byId = new Map(rows.map(({ id, balance }) => [id, balance]));
  return ids.map((id) => byId.get(id) ?? 0n);
}

/** A server in a process of its own, by `chatpay serve`. */
export interface ServerProcess {
  pid: number;
  grpcPort: number;
  /** What it logged, line by line. */
  logs: string[];
  /** SIGTERM: calls that were accepted are finished. Resolves to the exit code. */
  stop(): Promise<number | null>;
  /** kill -9. */
  kill(): Promise<void>;
}

/** Starts a server on the database and waits until it serves. */
export async function startProcess(
  databaseUrl: string,
  redisUrl: string,
  grpcPort = 0,
  environment: NodeJS.ProcessEnv = {},
): Promise<ServerProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "../../src/main.ts"), "serve"], {
    env: {
      PATH: process.env.PATH,
      CHATPAY_MODE: "development",
      DATABASE_URL: databaseUrl,
      REDIS_URL: redisUrl,
      CHATPAY_HOST: "127.0.0.1",
      CHATPAY_CONNECT_PORT: "0",
      CHATPAY_GRPC_PORT: String(grpcPort),
      CHATPAY_INTERNAL_PORT: "0",
      CHATPAY_SMTP_URL: "smtp://127.0.0.1:25",
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const logs: string[] = [];
  const served = Promise.withResolvers<number>();
  const read = (line: string) => {
    logs.push(line);
    const { msg, grpc } = line.startsWith("{") ? (JSON.parse(line) as { msg?: string; grpc?: number }) : {};
    if (msg === "serving" && grpc !== undefined) served.resolve(grpc);
  };
  for (const output of [child.stdout, child.stderr]) createInterface(output).on("line", read);
  void ended.then((code) => served.reject(new Error(`the server ended with ${code}: ${logs.join("\n")}`)));
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return ended;
  };
  return {
    grpcPort: await served.promise,
    pid: child.pid ?? 0,
    logs,
    stop: () => end("SIGTERM"),
    async kill() {
      await end("SIGKILL");
    },
  };
}

/** What a caller of the lane was told, in a word. */
export function answerOf({ result, error }: Settled<unknown>): string {
  if (result) return result.replayed ? "replayed" : "done";
  const [info] = error instanceof ConnectError ? error.findDetails(ErrorInfoSchema) : [];
  return (info && ReasonSchema.value[info.reason]?.name.replace("REASON_", "")) ?? "error";
}

/** The same numbers for the same seed: mulberry32. */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What a run starts from: CHATPAY_TEST_SEED, or any number. Printed, so that a failure can be had again. */
export function chooseSeed(what: string): number {
  const given = process.env.CHATPAY_TEST_SEED;
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  console.log(`${what}: CHATPAY_TEST_SEED=${seed}`);
  return seed;
}
