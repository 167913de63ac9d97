import { type ExpressionBuilder, sql } from "kysely";
import { Entry_Cause } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db } from "../db/database.ts";
import { BANK_CLEARING, type Database, type WalletRow } from "../db/schema.ts";
import type { PostingSource } from "../ledger/verify.ts";

/** Whose wallets a caller sees; an operator sees all. */
export type Owner = { accountId: bigint } | { partnerId: bigint } | "all";

const ownedBy = (owner: Owner) => (on: ExpressionBuilder<Database, "wallet">) => {
  if (owner === "all") return on.lit(true);
  return "accountId" in owner ? on("accountId", "=", owner.accountId) : on("partnerId", "=", owner.partnerId);
};

export const findWallet = (db: Db, owner: Owner, id: bigint): Promise<WalletRow | undefined> =>
  db.selectFrom("wallet").selectAll().where("id", "=", id).where(ownedBy(owner)).executeTakeFirst();

export const listWallets = (db: Db, owner: Owner, after: bigint, limit: number): Promise<WalletRow[]> =>
  db
    .selectFrom("wallet")
    .selectAll()
    .where(ownedBy(owner))
    .where("id", ">", after)
    .orderBy("id")
    .limit(limit)
    .execute();

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
  limit: number;
}

/** Entries of a wallet, newest first, from both sides of the postings. */
export async function listEntries(db: Db, statement: Statement): Promise<EntryRow[]> {
  const [paid, received] = await Promise.all([listSide(db, "debit", statement), listSide(db, "credit", statement)]);
  return [...paid.map((entry) => ({ ...entry, amount: -entry.amount })), ...received]
    .sort((a, b) => (a.sequence > b.sequence ? -1 : 1))
    .slice(0, statement.limit);
}

function listSide(db: Db, side: "debit" | "credit", statement: Statement): Promise<EntryRow[]> {
  const other = side === "debit" ? "credit" : "debit";
  let query = db
    .selectFrom("posting")
    .leftJoin("transfer", (join) =>
      join.onRef("transfer.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.TRANSFER),
    )
    .leftJoin("payment", (join) =>
      join.onRef("payment.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.PAYMENT),
    )
    .leftJoin("adjustment", (join) =>
      join.onRef("adjustment.id", "=", "posting.causeId").on("posting.cause", "=", Entry_Cause.ADJUSTMENT),
    )
    .select([
      `posting.${side}Sequence as sequence`,
      "posting.amount",
      `posting.${side}Balance as balanceAfter`,
      `posting.${other}WalletId as counterpartyWalletId`,
      "posting.cause",
      "posting.causeId",
      "posting.createTime",
    ])
    .select(sql<string>`coalesce(transfer.memo, payment.order_key, adjustment.reason, '')`.as("memo"))
    .where(`posting.${side}WalletId`, "=", statement.walletId)
    .where(`posting.${side}Sequence`, ">=", statement.from)
    .where(`posting.${side}Sequence`, "<", statement.before);
  if (statement.startTime) query = query.where("posting.createTime", ">=", statement.startTime);
  if (statement.endTime) query = query.where("posting.createTime", "<", statement.endTime);
  return query.orderBy(`posting.${side}Sequence`, "desc").limit(statement.limit).execute();
}

/** What VerifyBooks expects of adjustments: one posting each. */
export const adjustmentPostings: PostingSource = {
  cause: Entry_Cause.ADJUSTMENT,
  name: "adjustment",
  select: `select id, if(amount > 0, ${BANK_CLEARING}, wallet_id), if(amount > 0, wallet_id, ${BANK_CLEARING}), abs(amount)
           from adjustment`,
  idColumn: "id",
};
