import { type ExpressionBuilder, sql } from "kysely";
import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db } from "../db/database.ts";
import { type AllowanceRow, BANK_CLEARING, type Database, type WalletRow } from "../db/schema.ts";
import type { PostingSource } from "../ledger/verify.ts";

/** Whose wallets a caller sees; an operator sees all. */
export type Owner = { accountId: bigint } | { partnerId: bigint } | "all";

const ownedBy = (owner: Owner) => (on: ExpressionBuilder<Database, "wallet">) => {
  if (owner === "all") return on.lit(true);
  return "accountId" in owner
    ? on("wallet.accountId", "=", owner.accountId)
    : on("wallet.partnerId", "=", owner.partnerId);
};

/** A wallet with what its owner calls it; empty for all but savings. What it holds is what it still sets aside. */
export type NamedWallet = WalletRow & { name: string };

const namedWallets = (db: Db) =>
  db
    .selectFrom("wallet")
    .leftJoin("savings", "savings.walletId", "wallet.id")
    .selectAll("wallet")
    .select([sql<string>`coalesce(savings.name, '')`.as("name"), stillHeld().as("held")]);

/** What is held, but for gifts whose time is over: their money is the sender's again, also when the job is late. */
const stillHeld = () => sql<bigint>`
  if(wallet.held = 0, 0, wallet.held - (
    select cast(coalesce(sum(amount), 0) as signed) from gift
    where sender_wallet_id = wallet.id and state = ${Transfer_State.PENDING} and hand_over_time is null
      and expire_time <= ${new Date()}))`;

export const findWallet = (db: Db, owner: Owner, id: bigint): Promise<NamedWallet | undefined> =>
  namedWallets(db).where("wallet.id", "=", id).where(ownedBy(owner)).executeTakeFirst();

export const listWallets = (db: Db, owner: Owner, after: bigint, limit: number): Promise<NamedWallet[]> =>
  namedWallets(db).where(ownedBy(owner)).where("wallet.id", ">", after).orderBy("wallet.id").limit(limit).execute();

/** The sequence of the wallet's last entry, once whoever writes one at this moment has done so. */
export async function lastSequence(db: Db, walletId: bigint): Promise<bigint> {
  const wallet = await db
    .selectFrom("wallet")
    .select("sequence")
    .where("id", "=", walletId)
    .forShare()
    .executeTakeFirst();
  return wallet?.sequence ?? 0n;
}

/** Where a wallet stood at a moment. */
export interface Moment {
  /** Of the last entry until then; 0 when there was none. */
  sequence: bigint;
  balance: bigint;
}

/** So many entries are looked at together, to find the one where a time lies. */
const PROBES = 32n;

/**
 * Where the wallet stood after all entries up to that time, among those up to the sequence. The times of a wallet's
 * entries never go back and their sequences have no gap, so a few rounds find it among millions.
 */
export async function findMoment(db: Db, walletId: bigint, time: Date, upTo: bigint): Promise<Moment> {
  let found: Moment = { sequence: 0n, balance: 0n };
  // It is the one that was found, or one of those after it and before the end.
  for (let end = upTo + 1n; found.sequence + 1n < end; ) {
    const step = (end - found.sequence - 1n + PROBES - 1n) / PROBES;
    const sequences: bigint[] = [];
    for (let probe = found.sequence + step; probe < end; probe += step) sequences.push(probe);
    const entries = await listMoments(db, walletId, sequences);
    if (entries.length !== sequences.length) throw new Error(`entries of wallet ${walletId} are missing`);
    const later = entries.findIndex(({ createTime }) => createTime > time);
    const last = entries.at(later === -1 ? -1 : later - 1);
    if (later !== -1) end = entries[later]?.sequence ?? end;
    if (later !== 0 && last) found = { sequence: last.sequence, balance: last.balance };
  }
  return found;
}

/** Those entries of a wallet, in order. */
async function listMoments(db: Db, walletId: bigint, sequences: bigint[]): Promise<(Moment & { createTime: Date })[]> {
  const ofSide = (side: "debit" | "credit") =>
    db
      .selectFrom("posting")
      .select([`${side}Sequence as sequence`, `${side}Balance as balance`, "createTime"])
      .where(`${side}WalletId`, "=", walletId)
      .where(`${side}Sequence`, "in", sequences)
      .execute();
  const sides = await Promise.all([ofSide("debit"), ofSide("credit")]);
  return sides.flat().sort((a, b) => (a.sequence < b.sequence ? -1 : 1));
}

export const findAllowance = (db: Db, walletId: bigint): Promise<AllowanceRow | undefined> =>
  db.selectFrom("allowance").selectAll().where("id", "=", walletId).executeTakeFirst();

/** How many savings wallets an account has. */
export interface SavingsCount {
  open: number;
  /** Closed ones too. */
  ever: number;
  /** All wallets, as the account counts them, at the same moment. */
  walletCount: number;
}

export async function countSavings(db: Db, accountId: bigint): Promise<SavingsCount | undefined> {
  const counted = await db
    .selectFrom("account")
    .leftJoin("wallet", (join) =>
      join.onRef("wallet.accountId", "=", "account.id").on("wallet.kind", "=", Wallet_Kind.SAVINGS),
    )
    .select(({ fn }) => [
      "account.walletCount",
      fn.count<bigint>("wallet.id").as("ever"),
      fn.count<bigint>(sql`if(wallet.state = ${Wallet_State.CLOSED}, null, wallet.id)`).as("open"),
    ])
    .where("account.id", "=", accountId)
    .groupBy("account.id")
    .executeTakeFirst();
  return counted && { ...counted, ever: Number(counted.ever), open: Number(counted.open) };
}

export async function renameSavings(db: Db, walletId: bigint, name: string): Promise<void> {
  await db.updateTable("savings").set({ name }).where("walletId", "=", walletId).execute();
}

export interface EntryRow {
  sequence: bigint;
  /** Negative when the wallet paid. */
  amount: bigint;
  balanceAfter: bigint;
  counterpartyWalletId: bigint;
  cause: number;
  causeId: bigint;
  memo: string;
  createTime: Date;
}

export interface Statement {
  walletId: bigint;
  /** Sequences from (included) and before. */
  from: bigint;
  before: bigint;
  startTime: Date | undefined;
  endTime: Date | undefined;
  /** Oldest first, instead of newest first. */
  ascending?: boolean;
  limit: number;
}

/** Entries of a wallet, newest first unless told otherwise, from both sides of the postings. */
export async function listEntries(db: Db, statement: Statement): Promise<EntryRow[]> {
  const [paid, received] = await Promise.all([listSide(db, "debit", statement), listSide(db, "credit", statement)]);
  return [...paid.map((entry) => ({ ...entry, amount: -entry.amount })), ...received]
    .sort((a, b) => (a.sequence > b.sequence === (statement.ascending ?? false) ? 1 : -1))
    .slice(0, statement.limit);
}

function listSide(db: Db, side: "debit" | "credit", statement: Statement): Promise<EntryRow[]> {
  const other = side === "debit" ? "credit" : "debit";
  let query = db
    .selectFrom("posting")
    .leftJoin("transfer", (join) =>
      join.onRef("transfer.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.TRANSFER),
    )
    .leftJoin("gift", (join) =>
      join
        .onRef("gift.id", "=", "posting.causeId")
        .on("posting.cause", "in", [Entry_Cause.GIFT, Entry_Cause.GIFT_HAND_OVER]),
    )
    .leftJoin("payment", (join) =>
      join.onRef("payment.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.PAYMENT),
    )
    .leftJoin("adjustment", (join) =>
      join.onRef("adjustment.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.ADJUSTMENT),
    )
    .leftJoin("bankTransfer", (join) =>
      join.onRef("bankTransfer.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.BANK_TRANSFER),
    )
    .leftJoin("bankAccount", "bankAccount.id", "bankTransfer.bankAccountId")
    .leftJoin("savingsMove", (join) =>
      join.onRef("savingsMove.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.SAVINGS),
    )
    .leftJoin("savings", "savings.walletId", "savingsMove.savingsWalletId")
    .select([
      `posting.${side}Sequence as sequence`,
      "posting.amount",
      `posting.${side}Balance as balanceAfter`,
      `posting.${other}WalletId as counterpartyWalletId`,
      "posting.cause",
      "posting.causeId",
      "posting.createTime",
    ])
    .select(
      sql<string>`coalesce(transfer.memo, gift.memo, payment.order_key, adjustment.reason, nullif(bank_account.alias, ''),
        concat(bank_account.bank_name, ' ', bank_account.masked_number), savings.name, '')`.as("memo"),
    )
    .where(`posting.${side}WalletId`, "=", statement.walletId)
    .where(`posting.${side}Sequence`, ">=", statement.from)
    .where(`posting.${side}Sequence`, "<", statement.before);
  if (statement.startTime) query = query.where("posting.createTime", ">=", statement.startTime);
  if (statement.endTime) query = query.where("posting.createTime", "<", statement.endTime);
  const order = statement.ascending ? "asc" : "desc";
  return query.orderBy(`posting.${side}Sequence`, order).limit(statement.limit).execute();
}

/** What VerifyBooks expects of adjustments: one posting each. */
export const adjustmentPostings: PostingSource = {
  cause: Entry_Cause.ADJUSTMENT,
  name: "adjustment",
  select: `select id, if(amount > 0, ${BANK_CLEARING}, wallet_id), if(amount > 0, wallet_id, ${BANK_CLEARING}), abs(amount)
           from adjustment`,
  idColumn: "id",
};

/** What VerifyBooks expects of savings moves: one posting each. */
export const savingsPostings: PostingSource = {
  cause: Entry_Cause.SAVINGS,
  name: "savings move",
  select: `select id, if(amount > 0, main_wallet_id, savings_wallet_id), if(amount > 0, savings_wallet_id, main_wallet_id),
                  abs(amount)
           from savings_move`,
  idColumn: "id",
};
