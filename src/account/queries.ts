import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import { BankAccount_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Db, Trx } from "../db/database.ts";
import { type Claim, claimRows, type DueRows, measureDue, putOffRow, type Waiting } from "../db/leases.ts";
import type { AccountCleanupRow, AccountRow, IdentityRow, Row, SessionRow } from "../db/schema.ts";
import type { Address } from "./address.ts";

// Accounts

export const findAccount = (db: Db, id: bigint): Promise<AccountRow | undefined> =>
  db.selectFrom("account").selectAll().where("id", "=", id).executeTakeFirst();

export const findAccountByAddress = (db: Db, { kind, key }: Address): Promise<AccountRow | undefined> =>
  db
    .selectFrom("account")
    .selectAll()
    .where(kind === "email" ? "emailKey" : "phoneKey", "=", key)
    .executeTakeFirst();

/** What acting for accounts needs of those that are open. */
export const listOpenAccounts = (db: Db, ids: bigint[]): Promise<{ accountId: bigint; walletId: bigint }[]> =>
  db
    .selectFrom("account")
    .select(["id as accountId", "mainWalletId as walletId"])
    .where("id", "in", ids)
    .where("state", "=", Account_State.OPEN)
    .execute();

/** Whether the account was open and had the password that was known. */
export async function setPasswordHash(
  db: Db,
  { id, passwordHash: before }: Pick<AccountRow, "id" | "passwordHash">,
  passwordHash: string,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("account")
    .set({ passwordHash })
    .where("id", "=", id)
    .where("passwordHash", "=", before)
    .where("state", "=", Account_State.OPEN)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** An account that is not closed, and is not until the commit. */
export const lockOpenAccount = (trx: Trx, id: bigint): Promise<AccountRow | undefined> =>
  trx
    .selectFrom("account")
    .selectAll()
    .where("id", "=", id)
    .where("state", "=", Account_State.OPEN)
    .forUpdate()
    .executeTakeFirst();

export async function listWalletIds(db: Db, accountId: bigint): Promise<bigint[]> {
  const wallets = await db.selectFrom("wallet").select("id").where("accountId", "=", accountId).execute();
  return wallets.map(({ id }) => id);
}

/** Those that are linked. */
export async function listBankAccountIds(db: Db, accountId: bigint): Promise<bigint[]> {
  const linked = await db
    .selectFrom("bankAccount")
    .select("id")
    .where("accountId", "=", accountId)
    .where("state", "=", BankAccount_State.LINKED)
    .execute();
  return linked.map(({ id }) => id);
}

// Closed accounts

const CLEANUPS: DueRows<"accountCleanup"> = { table: "accountCleanup", due: "dueTime", tries: "tries" };

export const claimCleanups = (db: Db, claim: Claim): Promise<AccountCleanupRow[]> => claimRows(db, CLEANUPS, claim);

export const putOffCleanup = (db: Db, row: AccountCleanupRow, dueTime: Date): Promise<void> =>
  putOffRow(db, CLEANUPS, row, dueTime);

export const measureCleanups = (db: Db): Promise<Waiting> => measureDue(db, CLEANUPS);

export async function deleteCleanup(db: Db, accountId: bigint): Promise<void> {
  await db.deleteFrom("accountCleanup").where("id", "=", accountId).execute();
}

// Identities

export const findIdentity = (db: Db, identityKey: Buffer): Promise<IdentityRow | undefined> =>
  db.selectFrom("identity").selectAll().where("identityKey", "=", identityKey).executeTakeFirst();

export const findIdentityOf = (db: Db, accountId: bigint): Promise<IdentityRow | undefined> =>
  db
    .selectFrom("account")
    .innerJoin("identity", "identity.id", "account.identityId")
    .selectAll("identity")
    .where("account.id", "=", accountId)
    .executeTakeFirst();

/** The identity of this key: the one that is given, unless somebody was faster. */
export async function keepIdentity(db: Db, identity: IdentityRow): Promise<IdentityRow> {
  await db
    .insertInto("identity")
    .values(identity)
    .onDuplicateKeyUpdate(({ ref }) => ({ id: ref("identity.id") }))
    .execute();
  return db
    .selectFrom("identity")
    .selectAll()
    .where("identityKey", "=", identity.identityKey)
    .executeTakeFirstOrThrow();
}

// PINs

/** Whether the account is there to have it. */
export async function setPinHash(db: Db, accountId: bigint, pinHash: string, now: Date): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("account")
    .set({ pinHash, pinTries: 0, updateTime: now })
    .where("id", "=", accountId)
    .where("state", "=", Account_State.OPEN)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

export async function setPinTries(trx: Trx, accountId: bigint, pinTries: number): Promise<void> {
  await trx.updateTable("account").set({ pinTries }).where("id", "=", accountId).execute();
}

/** A PIN that has changed meanwhile has tries of its own; so in the next. */
export async function giveBackPinTry(db: Db, accountId: bigint, pinHash: string): Promise<void> {
  await db
    .updateTable("account")
    .set((on) => ({ pinTries: on("pinTries", "-", 1) }))
    .where("id", "=", accountId)
    .where("pinHash", "=", pinHash)
    .where("pinTries", ">", 0)
    .execute();
}

export async function forgetPinTries(db: Db, accountId: bigint, pinHash: string): Promise<void> {
  await db
    .updateTable("account")
    .set({ pinTries: 0 })
    .where("id", "=", accountId)
    .where("pinHash", "=", pinHash)
    .execute();
}

// Sessions

/** What must not change while somebody signs in. */
export const lockAccount = (trx: Trx, id: bigint): Promise<Pick<AccountRow, "state" | "passwordHash"> | undefined> =>
  trx.selectFrom("account").select(["state", "passwordHash"]).where("id", "=", id).forUpdate().executeTakeFirst();

/** Where the person was is theirs, and goes with them. */
export async function eraseSessions(db: Db, accountId: bigint): Promise<void> {
  await db.updateTable("session").set({ device: "", ip: "" }).where("accountId", "=", accountId).execute();
}

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

/** Deletes the first of those that have expired by then; how many there were. */
export async function deleteRefreshTokens(db: Db, expiredBy: Date, limit: number): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("refreshToken")
    .where("expireTime", "<", expiredBy)
    .orderBy("expireTime")
    .limit(limit)
    .executeTakeFirst();
  return Number(numDeletedRows);
}

/** Deletes the first of those that were last used before then; how many there were. */
export async function deleteSessions(db: Db, lastUsedBy: Date, limit: number): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("session")
    .where("lastUseTime", "<", lastUsedBy)
    .orderBy("lastUseTime")
    .limit(limit)
    .executeTakeFirst();
  return Number(numDeletedRows);
}

/** Those of the sessions that were not ended, nor their accounts closed. */
export async function listOpenSessionIds(db: Db, ids: bigint[]): Promise<bigint[]> {
  const found = await db
    .selectFrom("session")
    .innerJoin("account", "account.id", "session.accountId")
    .select("session.id")
    .where("session.id", "in", ids)
    .where("session.revokeTime", "is", null)
    .where("account.state", "=", Account_State.OPEN)
    .execute();
  return found.map(({ id }) => id);
}

export const isSessionOpen = async (db: Db, id: bigint): Promise<boolean> =>
  (await listOpenSessionIds(db, [id])).length > 0;
