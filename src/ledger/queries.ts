import { createHash, hash } from "node:crypto";
import { constants as zlib, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { isDuplicateKey } from "../db/database.ts";
import { columnName, insertRows, overwriteRows, readRows, selectRows, tuple } from "../db/rows.ts";
import type { PostingRow, Row, TableName, WalletRow } from "../db/schema.ts";
import type { Session } from "../db/session.ts";
import {
  LOCK_ORDER,
  type Locked,
  type LockedTable,
  ONCE,
  type OnceIndex,
  type OnceTable,
  type Writes,
} from "./books.ts";

/** What a batch touches: ids to lock, and unique keys of rows that it would make. */
export interface Touched {
  ids: Map<LockedTable, Set<bigint>>;
  keys: Map<OnceIndex, Map<string, Buffer>>;
}

/** A row that a key has made, found by index and key. */
export type Known = Map<OnceIndex, Map<string, Row<OnceTable>>>;

/** A key as a map can hold it. */
export const keyText = (key: Buffer) => key.toString("latin1");

/**
 * Begins a transaction, locks what the batch touches (tables in one order, ids ascending, so that crossing
 * batches queue instead of deadlocking), then looks the keys up, if asked to: whoever used one on these rows
 * has committed.
 */
export async function lockTouched(
  session: Session,
  { ids, keys }: Touched,
  lookUp: boolean,
): Promise<{ locked: Locked; known: Known }> {
  const lockTables = LOCK_ORDER.filter((table) => ids.get(table)?.size);
  const indexes = lookUp ? [...keys.keys()] : [];
  const [, ...answers] = await session.run([
    "start transaction",
    ...lockTables.map((table) => {
      const ascending = BigInt64Array.from(ids.get(table) ?? []).sort();
      return selectRows(table, `where id in (${ascending.join(",")}) order by id for update`);
    }),
    ...indexes.map((index) => selectRows(ONCE[index][0], whereKey(index, keys.get(index)?.values() ?? []))),
  ]);

  const locked = Object.fromEntries(LOCK_ORDER.map((table) => [table, new Map()])) as unknown as Locked;
  lockTables.forEach((table, i) => {
    for (const row of readRows(table, answers[i] ?? [])) (locked[table] as Map<bigint, typeof row>).set(row.id, row);
  });
  const known: Known = new Map([...keys.keys()].map((index) => [index, new Map()]));
  indexes.forEach((index, i) => {
    const rows = readRows(ONCE[index][0], answers[lockTables.length + i] ?? []);
    known.set(index, new Map(rows.map((row) => [keyText(onceKey(index, row)), row])));
  });
  return { locked, known };
}

const whereKey = (index: OnceIndex, keys: Iterable<Buffer>) =>
  `where ${columnName(ONCE[index][0], ONCE[index][1] as never)} in (${Array.from(keys, (key) => `x'${key.toString("hex")}'`)})`;

/** Whether one of these keys has made a row. */
export async function isAnyKnown(session: Session, keys: { by: OnceIndex; key: Buffer }[]): Promise<boolean> {
  const byIndex = Map.groupBy(keys, ({ by }) => by);
  const statements = Array.from(byIndex, ([index, ofIndex]) =>
    selectRows(
      ONCE[index][0],
      `${whereKey(
        index,
        ofIndex.map(({ key }) => key),
      )} limit 1`,
    ),
  );
  return (await session.run(statements)).some((rows) => rows.length > 0);
}

/** The unique key of a row. */
function onceKey(index: OnceIndex, row: Row<OnceTable>): Buffer {
  return (row as unknown as Record<string, unknown>)[ONCE[index][1]] as Buffer;
}

/** Where the log ends. */
export interface Head {
  number: bigint;
  position: bigint;
  hash: Buffer;
}

type ColumnOf<T extends TableName> = keyof Row<T> & string;

/** Columns that never change but that the constraints speak of, and those that batches change. Nothing else is written. */
export const COLUMNS = {
  account: {
    fixed: ["id", "mainWalletId", "createTime"],
    changing: [
      "email",
      "emailKey",
      "passwordHash",
      "displayName",
      "state",
      "updateTime",
      "phone",
      "phoneKey",
      "language",
      "identityId",
      "pinHash",
      "pinTries",
      "identityKey",
      "walletCount",
      "bankAccountCount",
    ],
  },
  wallet: {
    fixed: ["id", "kind", "currency"],
    changing: ["state", "balance", "held", "version", "sequence", "updateTime"],
  },
  hold: { fixed: ["id", "walletId", "amount", "cause", "causeId", "expireTime"], changing: ["remaining"] },
  allowance: {
    fixed: ["id"],
    changing: [
      "tier",
      "day",
      "drawn",
      "sent",
      "sentToStrangers",
      "bankTransfers",
      "updateTime",
      "requests",
      "scheduled",
      "giftsSent",
      "giftsReceived",
      "incoming",
    ],
  },
  bankAccount: {
    fixed: [
      "id",
      "accountId",
      "bankCode",
      "bankName",
      "maskedNumber",
      "fintechUseNum",
      "canInquire",
      "canDraw",
      "topUpUnit",
      "createTime",
    ],
    changing: [
      "state",
      "numberSealed",
      "linkKey",
      "holderName",
      "alias",
      "primaryOf",
      "automaticTopUp",
      "updateTime",
      "unlinkTime",
      "revokeDueTime",
      "tellDueTime",
    ],
  },
  bankTransfer: {
    fixed: [
      "id",
      "kind",
      "accountId",
      "walletId",
      "bankAccountId",
      "amount",
      "currency",
      "day",
      "tranId",
      "tranDate",
      "idempotencyKey",
      "createTime",
    ],
    changing: ["state", "bankRef", "failureBank", "failureCode", "failureMessage", "drawKey", "updateTime", "dueTime"],
  },
  moneyRequest: {
    fixed: [
      "id",
      "requesterAccountId",
      "requesterWalletId",
      "amount",
      "ownAmount",
      "currency",
      "memo",
      "parts",
      "contentHash",
      "idempotencyKey",
      "createTime",
      "expireTime",
    ],
    changing: ["state", "openParts", "paidParts", "paidAmount", "updateTime", "dueTime"],
  },
  moneyRequestPart: {
    fixed: ["id", "requestId", "payerAccountId", "payerWalletId", "amount"],
    changing: ["state", "transferId", "remindTime", "updateTime"],
  },
  scheduledTransfer: {
    fixed: [
      "id",
      "accountId",
      "senderWalletId",
      "recipientWalletId",
      "amount",
      "currency",
      "memo",
      "transferTime",
      "idempotencyKey",
      "createTime",
    ],
    changing: ["state", "transferId", "failureReason", "failureMessage", "updateTime", "dueTime"],
  },
  gift: {
    fixed: [
      "id",
      "senderAccountId",
      "senderWalletId",
      "recipientAccountId",
      "recipientWalletId",
      "amount",
      "currency",
      "holdId",
      "day",
      "toStranger",
      "idempotencyKey",
      "createTime",
      "expireTime",
    ],
    changing: ["state", "remindTime", "handOverTime", "endTime", "endApiKeyId"],
  },
} as const satisfies { [T in LockedTable]: { fixed: ColumnOf<T>[]; changing: ColumnOf<T>[] } };

/** What a batch may change of a locked row. */
export type Change<T extends LockedTable> = Partial<
  Pick<Row<T>, Extract<(typeof COLUMNS)[T]["changing"][number], keyof Row<T>>>
>;

/** Writes the rows, then locks the end of the log: nobody waits for it while rows are written. */
export async function writeRows(session: Session, writes: Writes, postings: string[]): Promise<Head> {
  const statements: string[] = [];
  for (const [table, rows] of writes.inserted) {
    if (rows.length > 0) statements.push(insertRows(table, tuples(table, rows)));
  }
  if (postings.length > 0) statements.push(insertRows("posting", postings));
  for (const [table, rows] of writes.changed) {
    if (rows.size > 0) statements.push(overwrite(table, rows));
  }
  statements.push("select number, position, hash from ledger_head where id = 1 for update");
  const [head] = (await session.run(statements)).at(-1) as [[string, string, Buffer]];
  return { number: BigInt(head[0]), position: BigInt(head[1]), hash: head[2] };
}

function overwrite<T extends LockedTable>(table: T, rows: Set<Row<LockedTable>>): string {
  const { fixed, changing }: { fixed: readonly string[]; changing: readonly string[] } = COLUMNS[table];
  return overwriteRows(table, rows as Set<Row<T>>, fixed as ColumnOf<T>[], changing as ColumnOf<T>[]);
}

const tuples = <T extends TableName>(table: T, rows: Iterable<Row<TableName>>) =>
  Array.from(rows, (row) => tuple(table, row as Row<T>));

/** A posting as the text that is both written and hashed. */
export const postingText = (posting: PostingRow) => tuple("posting", posting);

/** Writes the batch at the end of the log and commits. After this call fails, only the batch row tells whether it committed. */
export async function commitBatch(session: Session, batch: Row<"ledgerBatch">): Promise<void> {
  await session.run([
    insertRows("ledgerBatch", [tuple("ledgerBatch", batch)]),
    `update ledger_head set number = ${batch.number}, position = ${batch.lastPosition}, hash = x'${batch.hash.toString("hex")}' where id = 1`,
    "commit",
  ]);
}

/**
 * Whether a batch whose commit was not answered has committed. Claims its id, which waits while it might yet:
 * success means that it never will, and the row stays as its tombstone. A duplicate key means that the batch is
 * there, or a tombstone whose own answer was lost; only the batch has a number.
 */
export async function resolveBatch(session: Session, batchId: bigint, now: Date): Promise<boolean> {
  const tombstone = {
    id: batchId,
    number: null,
    lastPosition: 0n,
    eventCount: 0,
    postingCount: 0,
    events: Buffer.alloc(0),
    hash: Buffer.alloc(32),
    createTime: now,
  };
  try {
    await session.run([insertRows("ledgerBatch", [tuple("ledgerBatch", tombstone)])]);
    return false;
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
    const [batches] = await session.run([`select id from ledger_batch where id = ${batchId} and number is not null`]);
    return (batches ?? []).length > 0;
  }
}

type BatchHeader = Pick<
  Row<"ledgerBatch">,
  "id" | "number" | "lastPosition" | "eventCount" | "postingCount" | "createTime"
>;

/** The hash of everything that a batch says. */
export function contentHash(batch: BatchHeader, postingsDigest: Buffer, events: string): Buffer {
  const { id, number, lastPosition, eventCount, postingCount, createTime } = batch;
  return createHash("sha256")
    .update([id, number, lastPosition, eventCount, postingCount, createTime.toISOString()].join("|"))
    .update(postingsDigest)
    .update(events)
    .digest();
}

/** The link of the chain: a batch can be neither changed, removed nor put in without all after it changing. */
export const chainHash = (previous: Buffer, content: Buffer): Buffer =>
  createHash("sha256").update(previous).update(content).digest();

/** The hash of the postings of a batch, in the order of their ids. */
export const digestOf = (postings: string[]): Buffer => hash("sha256", postings.join(","), "buffer");

/** Below this size compression gains nothing. */
const COMPRESS_MIN = 1_024;
const COMPRESSION = { params: { [zlib.ZSTD_c_compressionLevel]: 1 } };

export function packEvents(events: string): Buffer {
  return events.length < COMPRESS_MIN ? Buffer.from(events) : zstdCompressSync(events, COMPRESSION);
}

export function unpackEvents(stored: Buffer): string {
  // A JSON array starts with a bracket, which no Zstandard frame does.
  return (stored[0] === 0x5b ? stored : zstdDecompressSync(stored)).toString();
}

/** The latest time at which one of these wallets changed. */
export function lastChange(wallets: Iterable<WalletRow>): number {
  let last = 0;
  for (const { updateTime } of wallets) last = Math.max(last, updateTime.getTime());
  return last;
}
