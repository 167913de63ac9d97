import { MoneyRequest_Part_State, MoneyRequest_State } from "../../gen/chatpay/transfer/v1/request_pb.ts";
import type { Db } from "../db/database.ts";
import { type Claim, claimRows, measureDue, putOffRow } from "../db/leases.ts";
import type { MoneyRequestPartRow, MoneyRequestRow, WalletRow } from "../db/schema.ts";

/** The wallets of people who are asked. */
export const listWallets = (db: Db, ids: bigint[]): Promise<Pick<WalletRow, "id" | "accountId" | "kind" | "state">[]> =>
  db.selectFrom("wallet").select(["id", "accountId", "kind", "state"]).where("id", "in", ids).execute();

/** A request and what there is to see of its parts. */
export interface Seen {
  request: MoneyRequestRow;
  parts: MoneyRequestPartRow[];
}

export const findRequest = (db: Db, id: bigint): Promise<MoneyRequestRow | undefined> =>
  db.selectFrom("moneyRequest").selectAll().where("id", "=", id).executeTakeFirst();

/** In the order of the request. */
export const listParts = (db: Db, requestId: bigint): Promise<MoneyRequestPartRow[]> =>
  db.selectFrom("moneyRequestPart").selectAll().where("requestId", "=", requestId).orderBy("id").execute();

/** The part of a request that is the payer's, if one is. */
export const findPart = (db: Db, requestId: bigint, payerAccountId: bigint): Promise<MoneyRequestPartRow | undefined> =>
  db
    .selectFrom("moneyRequestPart")
    .selectAll()
    .where("requestId", "=", requestId)
    .where("payerAccountId", "=", payerAccountId)
    .executeTakeFirst();

/** What an account sees of a request: all of its own, its part of another's, and nothing of the rest. */
export async function findSeen(db: Db, accountId: bigint | "all", id: bigint): Promise<Seen | undefined> {
  const request = await findRequest(db, id);
  if (!request) return undefined;
  if (accountId === "all" || request.requesterAccountId === accountId)
    return { request, parts: await listParts(db, id) };
  const part = await findPart(db, id, accountId);
  return part && { request, parts: [part] };
}

export interface RequestList {
  accountId: bigint;
  /** Of the request, or of the account's part of it. */
  state: number | undefined;
  before: bigint | undefined;
  limit: number;
}

/** Those that the account made, newest first. */
export function listSent(db: Db, { accountId, state, before, limit }: RequestList): Promise<MoneyRequestRow[]> {
  let query = db.selectFrom("moneyRequest").selectAll().where("requesterAccountId", "=", accountId);
  if (state !== undefined) query = query.where("state", "=", state);
  if (before !== undefined) query = query.where("id", "<", before);
  return query.orderBy("id", "desc").limit(limit).execute();
}

/** Those of which the account has a part, newest first. */
export async function listReceived(db: Db, { accountId, state, before, limit }: RequestList): Promise<Seen[]> {
  let query = db.selectFrom("moneyRequestPart").selectAll().where("payerAccountId", "=", accountId);
  if (state !== undefined) query = query.where("state", "=", state);
  if (before !== undefined) query = query.where("requestId", "<", before);
  const parts = await query.orderBy("requestId", "desc").limit(limit).execute();
  if (parts.length === 0) return [];
  const ids = parts.map(({ requestId }) => requestId);
  const requests = await db.selectFrom("moneyRequest").selectAll().where("id", "in", ids).execute();
  const byId = new Map(requests.map((request) => [request.id, request]));
  return parts.flatMap((part) => {
    const request = byId.get(part.requestId);
    return request ? [{ request, parts: [part] }] : [];
  });
}

/** Of what an account asked others for, what is open. */
export const listOpenSent = (db: Db, requesterAccountId: bigint, limit: number): Promise<MoneyRequestRow[]> =>
  listSent(db, { accountId: requesterAccountId, state: MoneyRequest_State.OPEN, before: undefined, limit });

/** Of what an account is asked for, what is open. */
export const listOpenParts = (db: Db, payerAccountId: bigint, limit: number): Promise<Seen[]> =>
  listReceived(db, { accountId: payerAccountId, state: MoneyRequest_Part_State.OPEN, before: undefined, limit });

const EXPIRING = { table: "moneyRequest", due: "dueTime", tries: "tries" } as const;

export const claimExpiring = (db: Db, claim: Claim) => claimRows(db, EXPIRING, claim);

export const putOffExpiring = (db: Db, row: MoneyRequestRow, dueTime: Date) => putOffRow(db, EXPIRING, row, dueTime);

export const measureExpiring = (db: Db) => measureDue(db, EXPIRING);
