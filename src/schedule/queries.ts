import type { Db } from "../db/database.ts";
import { type Claim, claimRows, measureDue, putOffRow } from "../db/leases.ts";
import type { ScheduledTransferRow } from "../db/schema.ts";

/** One of an account, or anybody's. */
export function findScheduled(
  db: Db,
  accountId: bigint | "all",
  id: bigint,
): Promise<ScheduledTransferRow | undefined> {
  const query = db.selectFrom("scheduledTransfer").selectAll().where("id", "=", id);
  return (accountId === "all" ? query : query.where("accountId", "=", accountId)).executeTakeFirst();
}

export const findScheduledByKey = (db: Db, idempotencyKey: Buffer): Promise<ScheduledTransferRow | undefined> =>
  db.selectFrom("scheduledTransfer").selectAll().where("idempotencyKey", "=", idempotencyKey).executeTakeFirst();

export interface ScheduledList {
  accountId: bigint;
  state: number | undefined;
  before?: bigint | undefined;
  limit: number;
}

/** Those that were made last first. */
export function listScheduled(
  db: Db,
  { accountId, state, before, limit }: ScheduledList,
): Promise<ScheduledTransferRow[]> {
  let query = db.selectFrom("scheduledTransfer").selectAll().where("accountId", "=", accountId);
  if (state !== undefined) query = query.where("state", "=", state);
  if (before !== undefined) query = query.where("id", "<", before);
  return query.orderBy("id", "desc").limit(limit).execute();
}

const DUE = { table: "scheduledTransfer", due: "dueTime", tries: "tries" } as const;

export const claimScheduled = (db: Db, claim: Claim) => claimRows(db, DUE, claim);

export const putOffScheduled = (db: Db, row: ScheduledTransferRow, dueTime: Date) => putOffRow(db, DUE, row, dueTime);

export const measureScheduled = (db: Db) => measureDue(db, DUE);
