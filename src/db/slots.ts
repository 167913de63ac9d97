import type { Db } from "./database.ts";

/** Takes the first slot whose lease is over by this process's clock. */
export async function claimSlot(db: Db, owner: string, leaseUntilMs: number): Promise<number> {
  await db
    .updateTable("processSlot")
    .set({ owner, leaseUntil: BigInt(leaseUntilMs) })
    .where("leaseUntil", "<", BigInt(Date.now()))
    .orderBy("slot")
    .limit(1)
    .execute();
  const mine = await db.selectFrom("processSlot").select("slot").where("owner", "=", owner).executeTakeFirst();
  if (!mine) throw new Error("all 1,024 process slots are leased");
  return mine.slot;
}

/** Whether the slot is still this owner's; if so its lease is longer now. */
export async function renewSlot(db: Db, slot: number, owner: string, leaseUntilMs: number): Promise<boolean> {
  const result = await db
    .updateTable("processSlot")
    .set({ leaseUntil: BigInt(leaseUntilMs) })
    .where("slot", "=", slot)
    .where("owner", "=", owner)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}
