import { readRows, selectRows } from "../db/rows.ts";
import type { HoldRow, PostingRow, Row, WalletRow } from "../db/schema.ts";
import type { Session } from "../db/session.ts";
import type { Head } from "./queries.ts";
import type { CountSource, HoldSource, PostingSource } from "./verify.ts";

/** The queries of VerifyBooks: all tables in pages, as they stood when the snapshot was taken. */

export async function beginSnapshot(session: Session): Promise<void> {
  await session.run([
    "set transaction isolation level repeatable read",
    "start transaction with consistent snapshot, read only",
  ]);
}

export async function readHead(session: Session): Promise<Head> {
  const [rows] = await session.run([selectRows("ledgerHead", "where id = 1")]);
  const [head] = readRows("ledgerHead", rows ?? []);
  if (!head) throw new Error("ledger_head has no row");
  return head;
}

export async function readBatches(session: Session, after: bigint, limit: number): Promise<Row<"ledgerBatch">[]> {
  const [rows] = await session.run([selectRows("ledgerBatch", `where id > ${after} order by id limit ${limit}`)]);
  return readRows("ledgerBatch", rows ?? []);
}

export async function hasBatch(session: Session, number: bigint): Promise<boolean> {
  const [rows] = await session.run([`select id from ledger_batch where number = ${number}`]);
  return (rows ?? []).length > 0;
}

export async function readPostings(session: Session, after: bigint, limit: number): Promise<PostingRow[]> {
  const [rows] = await session.run([selectRows("posting", `where id > ${after} order by id limit ${limit}`)]);
  return readRows("posting", rows ?? []);
}

export async function readWallets(session: Session, after: bigint, limit: number): Promise<WalletRow[]> {
  const [rows] = await session.run([selectRows("wallet", `where id > ${after} order by id limit ${limit}`)]);
  return readRows("wallet", rows ?? []);
}

/** What open holds set aside, by wallet, for the wallets after one up to another. */
export async function readHeld(session: Session, after: bigint, upTo: bigint): Promise<Map<bigint, bigint>> {
  const [rows] = await session.run([
    `select wallet_id, sum(remaining) from hold where wallet_id > ${after} and wallet_id <= ${upTo} group by wallet_id`,
  ]);
  return new Map((rows as [string, string][]).map(([id, held]) => [BigInt(id), BigInt(held)]));
}

/** A posting seen from one of its wallets. */
export interface SideRow {
  walletId: bigint;
  sequence: bigint;
  balance: bigint;
  amount: bigint;
  time: string;
}

/** One side of all postings in the order of wallets and their sequences. */
export async function readSide(
  session: Session,
  side: "debit" | "credit",
  last: SideRow | undefined,
  limit: number,
): Promise<SideRow[]> {
  const wallet = `${side}_wallet_id`;
  const sequence = `${side}_sequence`;
  const after = last
    ? `where ${wallet} > ${last.walletId} or (${wallet} = ${last.walletId} and ${sequence} > ${last.sequence})`
    : "";
  const [rows] = await session.run([
    `select ${wallet}, ${sequence}, ${side}_balance, amount, create_time from posting force index (posting_${side})
     ${after} order by ${wallet}, ${sequence} limit ${limit}`,
  ]);
  return (rows as string[][]).map(([walletId = "", seq = "", balance = "", amount = "", time = ""]) => ({
    walletId: BigInt(walletId),
    sequence: BigInt(seq),
    balance: BigInt(balance),
    amount: BigInt(amount),
    time,
  }));
}

export interface SourceRow {
  id: bigint;
  debitWalletId: bigint;
  creditWalletId: bigint;
  amount: bigint;
}

export async function readSource(
  session: Session,
  source: PostingSource,
  after: bigint,
  limit: number,
): Promise<SourceRow[]> {
  const rows = await readNumbers(session, source, after, limit);
  return rows.map(([id = 0n, debitWalletId = 0n, creditWalletId = 0n, amount = 0n]) => ({
    id,
    debitWalletId,
    creditWalletId,
    amount,
  }));
}

export async function readHolds(session: Session, after: bigint, limit: number): Promise<HoldRow[]> {
  const [rows] = await session.run([selectRows("hold", `where id > ${after} order by id limit ${limit}`)]);
  return readRows("hold", rows ?? []);
}

/** A row for which money is, or was, set aside. */
export interface HolderRow {
  id: bigint;
  holdId: bigint;
  walletId: bigint;
  amount: bigint;
  isOpen: boolean;
}

export async function readHolders(
  session: Session,
  source: HoldSource,
  after: bigint,
  limit: number,
): Promise<HolderRow[]> {
  const rows = await readNumbers(session, source, after, limit);
  return rows.map(([id = 0n, holdId = 0n, walletId = 0n, amount = 0n, isOpen]) => ({
    id,
    holdId,
    walletId,
    amount,
    isOpen: isOpen === 1n,
  }));
}

export async function readCounts(
  session: Session,
  source: CountSource,
  after: bigint,
  limit: number,
): Promise<{ id: bigint; counted: bigint; made: bigint }[]> {
  const rows = await readNumbers(session, source, after, limit);
  return rows.map(([id = 0n, counted = 0n, made = 0n]) => ({ id, counted, made }));
}

async function readNumbers(
  session: Session,
  { select, idColumn }: { select: string; idColumn: string },
  after: bigint,
  limit: number,
): Promise<bigint[][]> {
  const [rows] = await session.run([`${select} where ${idColumn} > ${after} order by ${idColumn} limit ${limit}`]);
  return (rows as (string | number)[][]).map((row) => row.map(BigInt));
}
