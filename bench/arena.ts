import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { Wallet_Kind } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openAccount } from "../src/account/account.ts";
import { type Db, openDatabase } from "../src/db/database.ts";
import { migrate } from "../src/db/migrate.ts";
import { leaseIds, type NewId } from "../src/id.ts";
import type { Command } from "../src/ledger/command.ts";
import { type Lane, openLane } from "../src/ledger/lane.ts";
import { sendTransfer } from "../src/transfer/transfer.ts";
import { adjustWallet } from "../src/wallet/wallet.ts";
import { createDatabase, type Services } from "../tools/services.ts";
import { nextTransfer } from "./contestant.ts";
import { workloadOf } from "./workloads.ts";

/** A database of its own, with people who have money. */
export interface Arena {
  databaseUrl: string;
  redisUrl: string;
  db: Db;
  newId: NewId;
  people: People;
  /** A lane of this process, as the server opens it. */
  openLane(): Lane;
  close(): Promise<void>;
}

/** The account and the wallet of each. */
export interface People {
  accountIds: bigint[];
  walletIds: bigint[];
}

/** More than any of them can spend here. */
const START_MONEY = 1_000_000_000n;
/** Nobody waits for the commands that fill tables, so their batches may be larger than the server's. */
const FILL_BATCH = 4_096;
const FILL_CHUNK = 20_000;

export const log = pino({ level: "warn" }, process.stderr);

/** Opens the database of that name, empty if it is not to be kept, and makes people until there are enough. */
export async function openArena(services: Services, name: string, wallets: number, keep = false): Promise<Arena> {
  const url = new URL(services.databaseUrl);
  const serverUrl = `mysql://${url.username}@${url.host}`;
  if (!keep) await dropDatabase(services.databaseUrl, name);
  await createDatabase(serverUrl, name);
  url.pathname = name;
  const databaseUrl = url.href;

  const db = openDatabase(databaseUrl);
  await migrate(db);
  const { newId, close } = await leaseIds(db, (err) => log.error({ err }, "the process slot was not renewed"));
  const arena = {
    databaseUrl,
    redisUrl: services.redisUrl,
    db,
    newId,
    people: await findPeople(db),
    openLane: () => openLane({ databaseUrl, newId, log }),
    async close() {
      close();
      await db.destroy();
    },
  };
  if (arena.people.walletIds.length < wallets) {
    await fill(arena, newPeople(wallets - arena.people.walletIds.length));
    arena.people = await findPeople(db);
    const poor = await db
      .selectFrom("wallet")
      .select("id")
      .where("kind", "=", Wallet_Kind.MAIN)
      .where("sequence", "=", 0n)
      .execute();
    await fill(arena, startMoney(poor.map(({ id }) => id)));
  }
  return arena;
}

async function dropDatabase(databaseUrl: string, name: string) {
  const db = openDatabase(databaseUrl);
  await db.schema.dropSchema(name).ifExists().execute();
  await db.destroy();
}

async function findPeople(db: Db): Promise<People> {
  const rows = await db.selectFrom("account").select(["id", "mainWalletId"]).orderBy("id").execute();
  return { accountIds: rows.map(({ id }) => id), walletIds: rows.map(({ mainWalletId }) => mainWalletId) };
}

function* newPeople(count: number): Generator<Command<unknown>> {
  for (let i = 0; i < count; i += 1) {
    const address = { kind: "email" as const, text: "somebody@example.com", key: randomBytes(16) };
    yield openAccount(address, { passwordHash: "", displayName: "Somebody", language: "ko" });
  }
}

function* startMoney(walletIds: bigint[]): Generator<Command<unknown>> {
  for (const walletId of walletIds) {
    const idempotencyKey = `start ${walletId}`;
    yield adjustWallet({ walletId, idempotencyKey, amount: START_MONEY, reason: "to start with", apiKeyId: 1n });
  }
}

/** Transfers from anybody to anybody. */
export function* randomTransfers(people: People, count: number): Generator<Command<unknown>> {
  const spread = workloadOf("spread", people.walletIds.length);
  for (let i = 0; i < count; i += 1) {
    const { sender, order } = nextTransfer(people, spread);
    yield sendTransfer(sender, order);
  }
}

/** Runs all of the commands. Throws when one is refused. */
export async function fill(
  { databaseUrl, newId }: Pick<Arena, "databaseUrl" | "newId">,
  commands: Iterable<Command<unknown>>,
  batchMax = FILL_BATCH,
) {
  const lane = openLane({ databaseUrl, newId, log, queueMax: FILL_CHUNK, batchMax });
  try {
    for (const chunk of chunks(commands, FILL_CHUNK)) {
      for (const { error } of await lane.submitEach(chunk)) if (error) throw error;
    }
  } finally {
    await lane.close();
  }
}

function* chunks<T>(values: Iterable<T>, size: number): Generator<T[]> {
  let chunk: T[] = [];
  for (const value of values) {
    chunk.push(value);
    if (chunk.length < size) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}
