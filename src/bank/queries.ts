import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import { BankAccount_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Db, Trx } from "../db/database.ts";
import { type Claim, claimRows, type DueRows, measureDue, putOffRow, type Waiting } from "../db/leases.ts";
import type { AccountRow, BankAccountRow, BankGrantRow, Row } from "../db/schema.ts";

// Consents

export async function insertConsent(db: Db, consent: Row<"bankConsent">): Promise<void> {
  await db.insertInto("bankConsent").values(consent).execute();
}

/** Whether the holder has begun this consent, and nobody has come back from it yet. From now on somebody has. */
export async function useConsent(
  db: Db,
  { stateHash, accountId, holderId }: Pick<Row<"bankConsent">, "stateHash" | "accountId" | "holderId">,
  now: Date,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("bankConsent")
    .set({ useTime: now })
    .where("stateHash", "=", stateHash)
    .where("accountId", "=", accountId)
    .where("holderId", "=", holderId)
    .where("expireTime", ">", now)
    .where("useTime", "is", null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** Nothing came of it, so it may be used again. */
export async function giveBackConsent(db: Db, stateHash: Buffer): Promise<void> {
  await db.updateTable("bankConsent").set({ useTime: null }).where("stateHash", "=", stateHash).execute();
}

/** Deletes the first of those that were over by then; how many there were. */
export async function deleteConsents(db: Db, expiredBy: Date, limit: number): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("bankConsent")
    .where("expireTime", "<", expiredBy)
    .orderBy("expireTime")
    .limit(limit)
    .executeTakeFirst();
  return Number(numDeletedRows);
}

// Links

/** Whose bank accounts change. They have no others until the commit, and the account is not closed. */
export const lockOwner = (
  trx: Trx,
  accountId: bigint,
): Promise<Pick<AccountRow, "id" | "displayName" | "identityId"> | undefined> =>
  trx
    .selectFrom("account")
    .select(["id", "displayName", "identityId"])
    .where("id", "=", accountId)
    .where("state", "=", Account_State.OPEN)
    .forUpdate()
    .executeTakeFirst();

export async function setBankAccountCount(trx: Trx, accountId: bigint, bankAccountCount: number): Promise<void> {
  await trx.updateTable("account").set({ bankAccountCount }).where("id", "=", accountId).execute();
}

const linked = (db: Db, accountId: bigint) =>
  db
    .selectFrom("bankAccount")
    .selectAll()
    .where("accountId", "=", accountId)
    .where("state", "=", BankAccount_State.LINKED)
    .orderBy("id");

/** Oldest first. */
export const listLinked = (db: Db, accountId: bigint): Promise<BankAccountRow[]> => linked(db, accountId).execute();

export const lockLinked = (trx: Trx, accountId: bigint): Promise<BankAccountRow[]> =>
  linked(trx, accountId).forUpdate().execute();

export const findLinked = (db: Db, accountId: bigint, id: bigint): Promise<BankAccountRow | undefined> =>
  linked(db, accountId).where("id", "=", id).executeTakeFirst();

export async function insertBankAccount(trx: Trx, bankAccount: BankAccountRow): Promise<void> {
  await trx.insertInto("bankAccount").values(bankAccount).execute();
}

export async function updateBankAccount(trx: Trx, id: bigint, change: Partial<BankAccountRow>): Promise<void> {
  await trx.updateTable("bankAccount").set(change).where("id", "=", id).execute();
}

// What KFTC is to be told

const REVOCATIONS: DueRows<"bankAccount"> = { table: "bankAccount", due: "revokeDueTime", tries: "revokeTries" };

export const claimRevocations = (db: Db, claim: Claim): Promise<BankAccountRow[]> => claimRows(db, REVOCATIONS, claim);

export const putOffRevocation = (db: Db, row: BankAccountRow, dueTime: Date): Promise<void> =>
  putOffRow(db, REVOCATIONS, row, dueTime);

export const measureRevocations = (db: Db): Promise<Waiting> => measureDue(db, REVOCATIONS);

/** They are linked again: the consent that KFTC knows of is the new one. */
export async function forgetRevocations(trx: Trx, fintechUseNums: string[]): Promise<void> {
  if (fintechUseNums.length === 0) return;
  await trx
    .updateTable("bankAccount")
    .set({ revokeDueTime: null })
    .where("fintechUseNum", "in", fintechUseNums)
    .where("revokeDueTime", "is not", null)
    .execute();
}

/** Holds back whoever links a bank account of the account, which may be closed. */
export async function lockAnyOwner(trx: Trx, accountId: bigint): Promise<void> {
  await trx.selectFrom("account").select("id").where("id", "=", accountId).forUpdate().execute();
}

/** KFTC has heard, and whoever told it has the lease still. */
export async function endRevocation(
  trx: Trx,
  { id, leaseOwner }: Pick<BankAccountRow, "id" | "leaseOwner">,
): Promise<void> {
  await trx
    .updateTable("bankAccount")
    .set({ revokeDueTime: null, leaseOwner: "", leaseUntil: null })
    .where("id", "=", id)
    .where("leaseOwner", "=", leaseOwner)
    .execute();
}

/** Of an account none of whose bank accounts are linked by consent, or are to be cancelled. */
export async function deleteUnusedGrant(trx: Trx, accountId: bigint): Promise<void> {
  await trx
    .deleteFrom("bankGrant")
    .where("accountId", "=", accountId)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("bankAccount")
            .select("id")
            .where("accountId", "=", accountId)
            .where("fintechUseNum", "!=", "")
            .where((on) => on.or([on("state", "=", BankAccount_State.LINKED), on("revokeDueTime", "is not", null)])),
        ),
      ),
    )
    .execute();
}

/** Whether somebody has linked, perhaps again, what KFTC calls so. */
export const isLinkedAtCentre = async (db: Db, fintechUseNum: string): Promise<boolean> =>
  (await db
    .selectFrom("bankAccount")
    .select("id")
    .where("fintechUseNum", "=", fintechUseNum)
    .where("state", "=", BankAccount_State.LINKED)
    .executeTakeFirst()) !== undefined;

// Grants

export const findGrant = (db: Db, accountId: bigint): Promise<BankGrantRow | undefined> =>
  db.selectFrom("bankGrant").selectAll().where("accountId", "=", accountId).executeTakeFirst();

/** In the place of the one before. */
export async function keepGrant(trx: Trx, grant: Omit<BankGrantRow, "version">): Promise<void> {
  await trx
    .insertInto("bankGrant")
    .values({ ...grant, version: 1n })
    .onDuplicateKeyUpdate(({ eb, ref }) => ({ ...grant, version: eb(ref("bankGrant.version"), "+", 1n) }))
    .execute();
}

// Ids of calls

export async function insertTranClaim(db: Db, claim: Row<"bankTranClaim">): Promise<void> {
  await db.insertInto("bankTranClaim").values(claim).execute();
}

/** Deletes the first of those of the days before; how many there were. */
export async function deleteTranClaims(db: Db, beforeDay: number, limit: number): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("bankTranClaim")
    .where("day", "<", beforeDay)
    .orderBy("day")
    .limit(limit)
    .executeTakeFirst();
  return Number(numDeletedRows);
}
