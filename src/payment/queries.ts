import { Entry_Cause } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db } from "../db/database.ts";
import type { PartnerRow, PaymentRow } from "../db/schema.ts";
import type { PostingSource } from "../ledger/verify.ts";

/** Whose payments: those that an account made, or those that a partner received. */
export type Party = { column: "payerAccountId" | "partnerId"; id: bigint };

export const findPayment = (db: Db, id: bigint): Promise<PaymentRow | undefined> =>
  db.selectFrom("payment").selectAll().where("id", "=", id).executeTakeFirst();

export const findPaymentOf = (db: Db, party: Party, id: bigint): Promise<PaymentRow | undefined> =>
  db.selectFrom("payment").selectAll().where("id", "=", id).where(party.column, "=", party.id).executeTakeFirst();

export const findPaymentByKey = (db: Db, idempotencyKey: Buffer): Promise<PaymentRow | undefined> =>
  db.selectFrom("payment").selectAll().where("idempotencyKey", "=", idempotencyKey).executeTakeFirst();

export interface PaymentList {
  party: Party;
  /** Bounds of the ids. */
  after: bigint | undefined;
  before: bigint | undefined;
  startTime: Date | undefined;
  endTime: Date | undefined;
  limit: number;
}

/** Newest first. */
export function listPayments(
  db: Db,
  { party, after, before, startTime, endTime, limit }: PaymentList,
): Promise<PaymentRow[]> {
  let query = db.selectFrom("payment").selectAll().where(party.column, "=", party.id);
  if (before !== undefined) query = query.where("id", "<", before);
  if (after !== undefined) query = query.where("id", ">", after);
  if (startTime) query = query.where("createTime", ">=", startTime);
  if (endTime) query = query.where("createTime", "<", endTime);
  return query.orderBy("id", "desc").limit(limit).execute();
}

export const findPartner = (db: Db, id: bigint): Promise<PartnerRow | undefined> =>
  db.selectFrom("partner").selectAll().where("id", "=", id).executeTakeFirst();

/** Newest first. */
export function listPartners(db: Db, before: bigint | undefined, limit: number): Promise<PartnerRow[]> {
  let query = db.selectFrom("partner").selectAll();
  if (before !== undefined) query = query.where("id", "<", before);
  return query.orderBy("id", "desc").limit(limit).execute();
}

/** What VerifyBooks expects of payments: one posting each. */
export const paymentPostings: PostingSource = {
  cause: Entry_Cause.PAYMENT,
  name: "payment",
  select: `select payment.id, payment.payer_wallet_id, partner.wallet_id, payment.amount
           from payment join partner on partner.id = payment.partner_id`,
  idColumn: "payment.id",
};
