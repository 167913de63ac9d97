import { CallerKind } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import type { Db, Trx } from "../db/database.ts";
import type { ApiKeyRow } from "../db/schema.ts";

export async function insertKey(trx: Trx, key: ApiKeyRow): Promise<void> {
  await trx.insertInto("apiKey").values(key).execute();
}

export const findKeyById = (db: Db, id: bigint): Promise<ApiKeyRow | undefined> =>
  db.selectFrom("apiKey").selectAll().where("id", "=", id).executeTakeFirst();

export const lockKey = (trx: Trx, id: bigint): Promise<ApiKeyRow> =>
  trx.selectFrom("apiKey").selectAll().where("id", "=", id).forUpdate().executeTakeFirstOrThrow();

export interface KeyList {
  /** If given, only those of this partner. */
  partnerId?: bigint | undefined;
  before?: bigint | undefined;
  limit?: number;
}

/** Newest first. */
export function listKeys(db: Db, { partnerId, before, limit }: KeyList = {}): Promise<ApiKeyRow[]> {
  let query = db.selectFrom("apiKey").selectAll();
  if (partnerId !== undefined) query = query.where("partnerId", "=", partnerId);
  if (before !== undefined) query = query.where("id", "<", before);
  if (limit !== undefined) query = query.limit(limit);
  return query.orderBy("id", "desc").execute();
}

/** A key with the wallet of its partner, if it is a partner's. */
export const findKeyByHash = (db: Db, keyHash: Buffer) =>
  db
    .selectFrom("apiKey")
    .leftJoin("partner", "partner.id", "apiKey.partnerId")
    .select(["apiKey.id", "apiKey.kind", "apiKey.expireTime", "apiKey.partnerId", "apiKey.scopes", "partner.walletId"])
    .where("apiKey.keyHash", "=", keyHash)
    .executeTakeFirst();

/** When a key expires that was not revoked; undefined when it was. */
export const findUnrevokedKey = (db: Db, id: bigint): Promise<Pick<ApiKeyRow, "expireTime"> | undefined> =>
  db.selectFrom("apiKey").select("expireTime").where("id", "=", id).where("revokeTime", "is", null).executeTakeFirst();

/** Whether there is such a partner. If so, nobody else makes keys for it until the commit. */
export const lockPartner = async (trx: Trx, id: bigint): Promise<boolean> =>
  (await trx.selectFrom("partner").select("id").where("id", "=", id).forUpdate().executeTakeFirst()) !== undefined;

/** How many keys of a partner work. */
export async function countWorkingKeys(trx: Trx, partnerId: bigint, now: Date): Promise<number> {
  const { count } = await trx
    .selectFrom("apiKey")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .where("partnerId", "=", partnerId)
    .where("kind", "=", CallerKind.PARTNER)
    .where("revokeTime", "is", null)
    .where((on) => on.or([on("expireTime", "is", null), on("expireTime", ">", now)]))
    .executeTakeFirstOrThrow();
  return Number(count);
}

export async function setKeyExpireTime(trx: Trx, id: bigint, expireTime: Date): Promise<void> {
  await trx.updateTable("apiKey").set({ expireTime }).where("id", "=", id).execute();
}

/** Notes the use of a key, unless a use that is not before `longAgo` was noted. */
export async function markKeyUsed(db: Db, id: bigint, now: Date, longAgo: Date): Promise<void> {
  await db
    .updateTable("apiKey")
    .set({ lastUseTime: now })
    .where("id", "=", id)
    .where((on) => on.or([on("lastUseTime", "is", null), on("lastUseTime", "<", longAgo)]))
    .execute();
}

/** Whether the key was not revoked before. */
export async function markKeyRevoked(db: Db, id: bigint, now: Date): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("apiKey")
    .set({ revokeTime: now })
    .where("id", "=", id)
    .where("revokeTime", "is", null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}
