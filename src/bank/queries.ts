import { sql } from "kysely";
import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import { BankAccount_State, BankTransfer_Kind, BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { Entry_Cause } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db, Trx } from "../db/database.ts";
import { type Claim, claimRows, type DueRows, measureDue, putOffRow, type Waiting } from "../db/leases.ts";
import {
  BANK_CLEARING,
  type AccountRow,
  type BankAccountRow,
  type BankGrantRow,
  type Row,
  type BankTransferRow,
} from "../db/schema.ts";
import type { CountSource, HoldSource, PostingSource } from "../ledger/verify.ts";

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

// Links that the log is to be told of

const UNTOLD = { table: "bankAccount", due: "tellDueTime" } as const;

export const claimUntold = (db: Db, claim: Claim): Promise<BankAccountRow[]> => claimRows(db, UNTOLD, claim);

/** Unless somebody has told it by now. */
export async function putOffUntold(db: Db, { id, leaseOwner }: BankAccountRow, dueTime: Date): Promise<void> {
  await db
    .updateTable("bankAccount")
    .set({ tellDueTime: dueTime, leaseOwner: "", leaseUntil: null })
    .where("id", "=", id)
    .where("leaseOwner", "=", leaseOwner)
    .where("tellDueTime", "is not", null)
    .execute();
}

export const measureUntold = (db: Db): Promise<Waiting> => measureDue(db, UNTOLD);

/** So that others who wait for the row need not wait for the end of the lease. */
export async function endLease(db: Db, { id, leaseOwner }: Pick<BankAccountRow, "id" | "leaseOwner">): Promise<void> {
  await db
    .updateTable("bankAccount")
    .set({ leaseOwner: "", leaseUntil: null })
    .where("id", "=", id)
    .where("leaseOwner", "=", leaseOwner)
    .execute();
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

/** Whether the grant was still of this version, and is the new one now. */
export async function changeGrant(db: Db, grant: Omit<BankGrantRow, "version">, version: bigint): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("bankGrant")
    .set({ ...grant, version: version + 1n })
    .where("accountId", "=", grant.accountId)
    .where("version", "=", version)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

export const findInstitutionToken = (db: Db, scope: string): Promise<Row<"bankInstitutionToken"> | undefined> =>
  db.selectFrom("bankInstitutionToken").selectAll().where("scope", "=", scope).executeTakeFirst();

/** In the place of the one before; any that works will do. */
export async function keepInstitutionToken(db: Db, token: Row<"bankInstitutionToken">): Promise<void> {
  await db.insertInto("bankInstitutionToken").values(token).onDuplicateKeyUpdate(token).execute();
}

// What secrets from before have sealed

/** Begins otherwise than what the present secret seals. */
const isOutdated = (column: string, keyId: Buffer) =>
  sql<boolean>`left(${sql.ref(column)}, ${keyId.length}) <> ${keyId}`;

type SealedNumber = Pick<BankAccountRow, "id"> & { numberSealed: Buffer };

export const listOutdatedNumbers = (db: Db, keyId: Buffer, after: bigint, limit: number): Promise<SealedNumber[]> =>
  db
    .selectFrom("bankAccount")
    .select(["id", "numberSealed"])
    .where("id", ">", after)
    .where("numberSealed", "is not", null)
    .where(isOutdated("numberSealed", keyId))
    .orderBy("id")
    .limit(limit)
    .$narrowType<{ numberSealed: Buffer }>()
    .execute();

export const listOutdatedGrants = (db: Db, keyId: Buffer, after: bigint, limit: number): Promise<BankGrantRow[]> =>
  db
    .selectFrom("bankGrant")
    .selectAll()
    .where("accountId", ">", after)
    .where((on) => on.or([isOutdated("accessToken", keyId), isOutdated("refreshToken", keyId)]))
    .orderBy("accountId")
    .limit(limit)
    .execute();

export const listOutdatedTokens = (db: Db, keyId: Buffer): Promise<Row<"bankInstitutionToken">[]> =>
  db.selectFrom("bankInstitutionToken").selectAll().where(isOutdated("accessToken", keyId)).execute();

/** Unless it is another one by now. */
export async function resealNumber(db: Db, { id, numberSealed }: SealedNumber, anew: Buffer): Promise<void> {
  await db
    .updateTable("bankAccount")
    .set({ numberSealed: anew })
    .where("id", "=", id)
    .where("numberSealed", "=", numberSealed)
    .execute();
}

/** The same tokens, and so the same version; unless they are others by now. */
export async function resealGrant(
  db: Db,
  { accountId, accessToken, refreshToken }: BankGrantRow,
  anew: Pick<BankGrantRow, "accessToken" | "refreshToken">,
): Promise<void> {
  await db
    .updateTable("bankGrant")
    .set(anew)
    .where("accountId", "=", accountId)
    .where("accessToken", "=", accessToken)
    .where("refreshToken", "=", refreshToken)
    .execute();
}

export async function resealInstitutionToken(
  db: Db,
  { scope, accessToken }: Row<"bankInstitutionToken">,
  anew: Buffer,
): Promise<void> {
  await db
    .updateTable("bankInstitutionToken")
    .set({ accessToken: anew })
    .where("scope", "=", scope)
    .where("accessToken", "=", accessToken)
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

// Transfers

/** The account from which what a debit misses may be drawn, if there is one. */
export const findPrimary = (db: Db, accountId: bigint): Promise<Pick<BankAccountRow, "id"> | undefined> =>
  db
    .selectFrom("bankAccount")
    .select("id")
    .where("primaryOf", "=", accountId)
    .where("automaticTopUp", "=", 1)
    .where("canDraw", "=", 1)
    .executeTakeFirst();

/** Whether one of these keys has made a row, in the column of a table. */
export async function isAnyThere(
  db: Db,
  [table, column]: readonly [table: string, column: string],
  keys: Buffer[],
): Promise<boolean> {
  const { rows } = await sql`
    select 1 from ${sql.table(table)} where ${sql.ref(column)} in (${sql.join(keys)}) limit 1`.execute(db);
  return rows.length > 0;
}

/** The account to which somebody who leaves is paid out, if there is one. */
export const findPayee = (db: Db, accountId: bigint): Promise<Pick<BankAccountRow, "id"> | undefined> =>
  db.selectFrom("bankAccount").select("id").where("primaryOf", "=", accountId).executeTakeFirst();

/** Linked or not: what is under way ends at the account where it began. */
export const getBankAccount = (db: Db, id: bigint): Promise<BankAccountRow> =>
  db.selectFrom("bankAccount").selectAll().where("id", "=", id).executeTakeFirstOrThrow();

export const findBankTransfer = (db: Db, id: bigint): Promise<BankTransferRow | undefined> =>
  db.selectFrom("bankTransfer").selectAll().where("id", "=", id).executeTakeFirst();

export const findBankTransferOf = (db: Db, accountId: bigint, id: bigint): Promise<BankTransferRow | undefined> =>
  db.selectFrom("bankTransfer").selectAll().where("id", "=", id).where("accountId", "=", accountId).executeTakeFirst();

export const findBankTransferByKey = (db: Db, idempotencyKey: Buffer): Promise<BankTransferRow | undefined> =>
  db.selectFrom("bankTransfer").selectAll().where("idempotencyKey", "=", idempotencyKey).executeTakeFirst();

export interface BankTransferList {
  /** Everybody's when there is none. */
  accountId: bigint | undefined;
  state: number | undefined;
  before: bigint | undefined;
  limit: number;
}

/** Newest first. */
export function listBankTransfers(db: Db, { accountId, state, before, limit }: BankTransferList) {
  let query = db.selectFrom("bankTransfer").selectAll();
  if (accountId !== undefined) query = query.where("accountId", "=", accountId);
  if (state !== undefined) query = query.where("state", "=", state);
  // Those that have not ended are few and have an index of their own, so an operator finds them among millions.
  if (state === BankTransfer_State.PENDING || state === BankTransfer_State.UNKNOWN) {
    query = query.where("dueTime", "is not", null);
  }
  if (before !== undefined) query = query.where("id", "<", before);
  return query.orderBy("id", "desc").limit(limit).execute();
}

const OPEN = [BankTransfer_State.PENDING, BankTransfer_State.UNKNOWN];

/** Nobody knows what became of it: it is asked about at that time. What has ended meanwhile stays so. */
export async function setUnknown(db: Db, id: bigint, dueTime: Date): Promise<void> {
  await db
    .updateTable("bankTransfer")
    .set({ state: BankTransfer_State.UNKNOWN, dueTime, updateTime: new Date() })
    .where("id", "=", id)
    .where("state", "in", OPEN)
    .execute();
}

/** Those of which nobody knows what became of them, and each time that the bank was asked. */
const UNKNOWN = { table: "bankTransfer", due: "dueTime", tries: "inquiries" } as const;

export const claimUnknown = (db: Db, claim: Claim) => claimRows(db, UNKNOWN, claim);

/** Unless it has ended by now. */
export async function putOffUnknown(db: Db, { id, leaseOwner }: BankTransferRow, dueTime: Date): Promise<void> {
  await db
    .updateTable("bankTransfer")
    .set({ dueTime, leaseOwner: "", leaseUntil: null })
    .where("id", "=", id)
    .where("leaseOwner", "=", leaseOwner)
    .where("state", "in", OPEN)
    .execute();
}

export const measureUnknown = (db: Db) => measureDue(db, UNKNOWN);

/** More need not be counted to know that banks are in trouble. */
const OPEN_MAX = 1_000;

/** The bank transfers that no bank has decided yet, and how long ago the first of them began. */
export async function measureOpen(db: Db): Promise<Waiting> {
  const { rows } = await sql<{ count: bigint; oldestMs: bigint | null }>`
    select count(*) as count, timestampdiff(microsecond, min(create_time), current_timestamp(3)) div 1000 as oldest_ms
    from (select create_time from bank_transfer where due_time is not null limit ${OPEN_MAX}) open`.execute(db);
  return { count: Number(rows[0]?.count ?? 0), oldestMs: Number(rows[0]?.oldestMs ?? 0) };
}

/** What VerifyBooks expects of bank transfers: those that succeeded made one posting each. */
export const bankTransferPostings: PostingSource = {
  cause: Entry_Cause.BANK_TRANSFER,
  name: "bank transfer",
  select: `select id, if(kind = ${BankTransfer_Kind.WITHDRAWAL}, wallet_id, ${BANK_CLEARING}),
             if(kind = ${BankTransfer_Kind.WITHDRAWAL}, ${BANK_CLEARING}, wallet_id), amount
           from (select * from bank_transfer where state = ${BankTransfer_State.SUCCEEDED}) as succeeded`,
  idColumn: "id",
};

const IS_OPEN = `state in (${OPEN.join(",")})`;

/** Of each withdrawal all is set aside until it has ended; of a draw what the wallet had of its debit, if anything. */
export const bankTransferHolds: HoldSource = {
  cause: Entry_Cause.BANK_TRANSFER,
  name: "bank transfer",
  select: `select id, coalesce(hold_id, 0), wallet_id, if(kind = ${BankTransfer_Kind.WITHDRAWAL}, amount, 0), ${IS_OPEN}
           from (select * from bank_transfer
                 where hold_id is not null or kind = ${BankTransfer_Kind.WITHDRAWAL}) as holding`,
  idColumn: "id",
};

const ofAllowance = (condition: string) =>
  `bank_transfer where bank_transfer.account_id = wallet.account_id and wallet_id = allowance.id and ${condition}`;

/** A draw counts from when it is intended until it has failed. */
export const drawCounts: CountSource = {
  name: "drawn on its day",
  rows: "bank transfers",
  select: `select allowance.id, drawn,
             (select coalesce(sum(amount), 0) from ${ofAllowance(
               `bank_transfer.day = allowance.day and kind <> ${BankTransfer_Kind.WITHDRAWAL} and state <> ${BankTransfer_State.FAILED}`,
             )})
           from allowance join wallet on wallet.id = allowance.id`,
  idColumn: "allowance.id",
};

export const openTransferCounts: CountSource = {
  name: "under way",
  rows: "bank transfers",
  select: `select allowance.id, bank_transfers, (select count(*) from ${ofAllowance(IS_OPEN)})
           from allowance join wallet on wallet.id = allowance.id`,
  idColumn: "allowance.id",
};
