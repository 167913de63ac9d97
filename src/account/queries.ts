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

/** A refresh token with its session and person; all of them stay as they are until the commit. */
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
      "account.id as accountId",
      "account.mainWalletId as walletId",
    ])
    .where("refreshToken.tokenHash", "=", tokenHash)
    .forUpdate()
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

export async function revokeSession(db: Db, id: bigint, now: Date): Promise<void> {
  await db
    .updateTable("session")
    .set({ revokeTime: now })
    .where("id", "=", id)
    .where("revokeTime", "is", null)
    .execute();
}

export async function isSessionOpen(db: Db, id: bigint): Promise<boolean> {
  const found = await db
    .selectFrom("session")
    .select("id")
    .where("id", "=", id)
    .where("revokeTime", "is", null)
    .executeTakeFirst();
  return found !== undefined;
}
