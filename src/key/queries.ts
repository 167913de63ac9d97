import type { Db } from "../db/database.ts";
import type { ApiKeyRow } from "../db/schema.ts";

export async function insertKey(db: Db, key: ApiKeyRow): Promise<void> {
  await db.insertInto("apiKey").values(key).execute();
}

/** Newest first. */
export const listKeys = (db: Db): Promise<ApiKeyRow[]> =>
  db.selectFrom("apiKey").selectAll().orderBy("id", "desc").execute();

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

const NOTE_USE_MS = 60_000;

/** Notes the use of a key, once a minute. */
export async function markKeyUsed(db: Db, id: bigint, now: Date): Promise<void> {
  const longAgo = new Date(now.getTime() - NOTE_USE_MS);
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

export async function isPartner(db: Db, id: bigint): Promise<boolean> {
  return (await db.selectFrom("partner").select("id").where("id", "=", id).executeTakeFirst()) !== undefined;
}
