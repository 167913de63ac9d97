import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { Db, Trx } from "../db/database.ts";
import type { AccountRow, Row, SessionRow } from "../db/schema.ts";

// Accounts

export const findAccount = (db: Db, id: bigint): Promise<AccountRow | undefined> =>
  db.selectFrom("account").selectAll().where("id", "=", id).executeTakeFirst();

export const findAccountByEmail = (db: Db, emailKey: Buffer): Promise<AccountRow | undefined> =>
  db.selectFrom("account").selectAll().where("emailKey", "=", emailKey).executeTakeFirst();

/** What acting for an account needs of it. */
export const findOpenAccount = (db: Db, id: bigint): Promise<{ accountId: bigint; walletId: bigint } | undefined> =>
  db
    .selectFrom("account")
    .select(["id as accountId", "mainWalletId as walletId"])
    .where("id", "=", id)
    .where("state", "=", Account_State.OPEN)
    .executeTakeFirst();

export async function renameAccount(trx: Trx, id: bigint, displayName: string, now: Date): Promise<void> {
  await trx.updateTable("account").set({ displayName, updateTime: now }).where("id", "=", id).execute();
}

// Sessions

export async function insertSession(trx: Trx, session: SessionRow): Promise<void> {
  await trx.insertInto("session").values(session).execute();
}

export async function insertRefreshToken(trx: Trx, token: Row<"refreshToken">): Promise<void> {
  await trx.insertInto("refreshToken").values(token).execute();
}

/** A refresh token with its session, which stay as they are until the commit, and the person, whose row the lane may need. */
export const lockRefreshToken = (trx: Trx, tokenHash: Buffer) =>
  trx
    .selectFrom("refreshToken")
    .innerJoin("session", "session.id", "refreshToken.sessionId")
    .innerJoin("account", "account.id", "session.accountId")
    .select([
      "refreshToken.expireTime",
      "refreshToken.useTime",
      "session.id as sessionId",
      "session.revokeTime",
      "account.state",
      "account.id as accountId",
      "account.mainWalletId as walletId",
    ])
    .where("refreshToken.tokenHash", "=", tokenHash)
    .forUpdate(["refreshToken", "session"])
    .executeTakeFirst();

export async function isRefreshTokenUnused(trx: Trx, tokenHash: Buffer): Promise<boolean> {
  const found = await trx
    .selectFrom("refreshToken")
    .select("useTime")
    .where("tokenHash", "=", tokenHash)
    .executeTakeFirst();
  return found?.useTime === null;
}

export async function markRefreshTokenUsed(trx: Trx, tokenHash: Buffer, now: Date): Promise<void> {
  await trx.updateTable("refreshToken").set({ useTime: now }).where("tokenHash", "=", tokenHash).execute();
}

/** The sessions that are open: not revoked, and used since then. */
const openSessions = (db: Db, since: Date) =>
  db.selectFrom("session").where("revokeTime", "is", null).where("lastUseTime", ">", since);

/** Newest first. */
export const listSessions = (db: Db, accountId: bigint, since: Date, limit: number): Promise<SessionRow[]> =>
  openSessions(db, since).selectAll().where("accountId", "=", accountId).orderBy("id", "desc").limit(limit).execute();

/** One session, perhaps only if it is the account's; or those of the account, perhaps but one. */
export type Sessions = { id: bigint; accountId?: bigint } | { accountId: bigint; exceptId?: bigint };

/** The ids of those that are open. */
export async function lockSessions(trx: Trx, which: Sessions, since: Date): Promise<bigint[]> {
  const { id, accountId, exceptId } = { id: undefined, exceptId: undefined, ...which };
  let sessions = openSessions(trx, since).select("id").orderBy("id").forUpdate();
  if (id !== undefined) sessions = sessions.where("id", "=", id);
  if (accountId !== undefined) sessions = sessions.where("accountId", "=", accountId);
  if (exceptId !== undefined) sessions = sessions.where("id", "!=", exceptId);
  return (await sessions.execute()).map((session) => session.id);
}

export async function noteSessionUse(trx: Trx, id: bigint, use: Pick<SessionRow, "ip" | "lastUseTime">): Promise<void> {
  await trx.updateTable("session").set(use).where("id", "=", id).execute();
}

export async function revokeSessions(trx: Trx, ids: bigint[], now: Date): Promise<void> {
  if (ids.length > 0) await trx.updateTable("session").set({ revokeTime: now }).where("id", "in", ids).execute();
}

/** Whether the session was not ended, nor its account closed. */
export async function isSessionOpen(db: Db, id: bigint): Promise<boolean> {
  const found = await db
    .selectFrom("session")
    .innerJoin("account", "account.id", "session.accountId")
    .select("session.id")
    .where("session.id", "=", id)
    .where("session.revokeTime", "is", null)
    .where("account.state", "=", Account_State.OPEN)
    .executeTakeFirst();
  return found !== undefined;
}
