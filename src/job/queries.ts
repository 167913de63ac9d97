import { sql } from "kysely";
import type { Db } from "../db/database.ts";
import { type Claim, claimRows, type DueRows, measureDue } from "../db/leases.ts";
import type { JobRow } from "../db/schema.ts";

const dueRow = (name: string): DueRows<"job"> => ({
  table: "job",
  key: "name",
  due: "dueTime",
  tries: "tries",
  where: sql<boolean>`name = ${name}`,
});

/** The job is due now, unless it is known. */
export async function insertJob(db: Db, name: string, now: Date): Promise<void> {
  await db
    .insertInto("job")
    .values({ name, dueTime: now, leaseOwner: "", leaseUntil: null, tries: 0, runs: 0n, lastRunTime: null })
    .onDuplicateKeyUpdate({ name })
    .execute();
}

export const claimJob = (db: Db, name: string, claim: Claim): Promise<JobRow[]> => claimRows(db, dueRow(name), claim);

export const measureJob = (db: Db, name: string) => measureDue(db, dueRow(name));

export async function putOffJob(db: Db, { name, leaseOwner }: JobRow, dueTime: Date): Promise<void> {
  await db
    .updateTable("job")
    .set({ dueTime, leaseOwner: "", leaseUntil: null })
    .where("name", "=", name)
    .where("leaseOwner", "=", leaseOwner)
    .execute();
}

export async function finishJob(db: Db, { name, leaseOwner }: JobRow, now: Date, dueTime: Date): Promise<void> {
  await db
    .updateTable("job")
    .set((on) => ({ dueTime, leaseOwner: "", leaseUntil: null, tries: 0, runs: on("runs", "+", 1n), lastRunTime: now }))
    .where("name", "=", name)
    .where("leaseOwner", "=", leaseOwner)
    .execute();
}
