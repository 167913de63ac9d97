import { Entry_Cause } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db } from "../db/database.ts";
import type { TransferRow } from "../db/schema.ts";
import type { PostingSource } from "../ledger/verify.ts";

export const findTransfer = (db: Db, id: bigint): Promise<TransferRow | undefined> =>
  db.selectFrom("transfer").selectAll().where("id", "=", id).executeTakeFirst();

/** The transfer, if one of the account's wallets is a party to it. */
export const findTransferOf = (db: Db, accountId: bigint, id: bigint): Promise<TransferRow | undefined> =>
  db
    .selectFrom("transfer")
    .selectAll()
    .where("id", "=", id)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom("wallet")
          .select("wallet.id")
          .where("wallet.accountId", "=", accountId)
          .where((on) =>
            on.or([
              on("wallet.id", "=", on.ref("transfer.senderWalletId")),
              on("wallet.id", "=", on.ref("transfer.recipientWalletId")),
            ]),
          ),
      ),
    )
    .executeTakeFirst();

/** Those of the keys under which a transfer was made. */
export async function listUsedKeys(db: Db, keys: Buffer[]): Promise<Buffer[]> {
  const made = await db.selectFrom("transfer").select("idempotencyKey").where("idempotencyKey", "in", keys).execute();
  return made.map(({ idempotencyKey }) => idempotencyKey);
}

/** So many of a wallet's last payments are looked through for those whom it has sent money. */
const PAYMENTS_MAX = 10_000;

/** Those of the wallets to which this one has sent money lately. */
export async function listKnownRecipients(
  db: Db,
  senderWalletId: bigint,
  recipientWalletIds: bigint[],
): Promise<Set<bigint>> {
  const known = await db
    .selectFrom((on) =>
      on
        .selectFrom("posting")
        .select(["creditWalletId", "cause"])
        .where("debitWalletId", "=", senderWalletId)
        .orderBy("debitSequence", "desc")
        .limit(PAYMENTS_MAX)
        .as("payment"),
    )
    .select("creditWalletId")
    .distinct()
    .where("creditWalletId", "in", recipientWalletIds)
    .where("cause", "=", Entry_Cause.TRANSFER)
    .execute();
  return new Set(known.map(({ creditWalletId }) => creditWalletId));
}

export type Side = "debit" | "credit";

export interface History {
  walletId: bigint;
  sides: Side[];
  /** Sequences of the wallet: from (included) and to (not included). */
  from: bigint;
  before: bigint;
  counterparty: bigint | undefined;
  state: number | undefined;
  startTime: Date | undefined;
  endTime: Date | undefined;
  limit: number;
}

export type HistoryRow = TransferRow & { sequence: bigint };

/** Transfers of a wallet, newest first, read off its postings: no index of their own is needed. */
export async function listTransfers(db: Db, history: History): Promise<HistoryRow[]> {
  const sides = await Promise.all(history.sides.map((side) => listSide(db, side, history)));
  return sides
    .flat()
    .sort((a, b) => (a.sequence > b.sequence ? -1 : 1))
    .slice(0, history.limit);
}

function listSide(db: Db, side: Side, history: History): Promise<HistoryRow[]> {
  const other = side === "debit" ? "credit" : "debit";
  let query = db
    .selectFrom("posting")
    .innerJoin("transfer", "transfer.id", "posting.causeId")
    .selectAll("transfer")
    .select(`posting.${side}Sequence as sequence`)
    .where(`posting.${side}WalletId`, "=", history.walletId)
    .where(`posting.${side}Sequence`, ">=", history.from)
    .where(`posting.${side}Sequence`, "<", history.before)
    .where("posting.cause", "=", Entry_Cause.TRANSFER);
  if (history.counterparty !== undefined) query = query.where(`posting.${other}WalletId`, "=", history.counterparty);
  if (history.state !== undefined) query = query.where("transfer.state", "=", history.state);
  if (history.startTime) query = query.where("posting.createTime", ">=", history.startTime);
  if (history.endTime) query = query.where("posting.createTime", "<", history.endTime);
  return query.orderBy(`posting.${side}Sequence`, "desc").limit(history.limit).execute();
}

/** The sequence of the wallet's last posting. */
export async function lastSequence(db: Db, walletId: bigint): Promise<bigint> {
  const wallet = await db.selectFrom("wallet").select("sequence").where("id", "=", walletId).executeTakeFirst();
  return wallet?.sequence ?? 0n;
}

/** What VerifyBooks expects of transfers: one posting each. */
export const transferPostings: PostingSource = {
  cause: Entry_Cause.TRANSFER,
  name: "transfer",
  select: "select id, sender_wallet_id, recipient_wallet_id, amount from transfer",
  idColumn: "id",
};
