import { type ExpressionBuilder, sql } from "kysely";
import type { Db } from "../db/database.ts";
import { insertRows, tuple } from "../db/rows.ts";
import type { AuditRow, Database } from "../db/schema.ts";

/** All of them or none. */
export async function insertRecords(db: Db, rows: AuditRow[]): Promise<void> {
  const tuples = rows.map((row) => tuple("auditRecord", row));
  await sql.raw(insertRows("auditRecord", tuples)).execute(db);
}

/** Deletes the oldest of those made before then, whose ids are surely below the other bound; how many there were. */
export async function deleteRecords(
  db: Db,
  { end, beforeId }: { end: Date; beforeId: bigint },
  limit: number,
): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("auditRecord")
    .where("id", "<", beforeId)
    .where("createTime", "<", end)
    .orderBy("id")
    .limit(limit)
    .executeTakeFirst();
  return Number(numDeletedRows);
}

export interface RecordFilter {
  objectId: bigint | undefined;
  accountId: bigint | undefined;
  keyId: bigint | undefined;
  rpc: string;
  /** Only what was refused. */
  refused: boolean;
  startTime: Date | undefined;
  endTime: Date | undefined;
}

/** Ids between these two; without one there is no end on that side. */
export interface Bounds {
  after: bigint | undefined;
  before: bigint | undefined;
}

const SCAN_MAX = 10_000;

/** These have an index each, which ends with the id. The first that is given finds the records. */
const INDEXED = ["objectId", "accountId", "keyId"] as const;

/**
 * One page of records, newest first. It looks through so many of the index at most; where more follow, `rest` is the
 * first that it did not look at.
 */
export async function listRecords(db: Db, filter: RecordFilter, { after, before }: Bounds, limit: number) {
  const indexed = INDEXED.find((column) => filter[column] !== undefined);
  const inReach = (on: ExpressionBuilder<Database, "auditRecord">) => {
    const reach = [on("id", ">", after ?? 0n)];
    if (before !== undefined) reach.push(on("id", "<", before));
    if (indexed) reach.push(on(indexed, "=", filter[indexed] ?? null));
    return on.and(reach);
  };

  const rest = await db
    .selectFrom("auditRecord")
    .select("id")
    .where(inReach)
    .orderBy("id", "desc")
    .limit(1)
    .offset(SCAN_MAX)
    .executeTakeFirst();

  let query = db
    .selectFrom("auditRecord")
    .selectAll()
    .where(inReach)
    .where("id", ">", rest?.id ?? 0n);
  for (const column of INDEXED) {
    const value = filter[column];
    if (value !== undefined) query = query.where(column, "=", value);
  }
  if (filter.rpc !== "") query = query.where("rpc", "=", filter.rpc);
  if (filter.refused) query = query.where("code", "<>", 0);
  if (filter.startTime) query = query.where("createTime", ">=", filter.startTime);
  if (filter.endTime) query = query.where("createTime", "<", filter.endTime);
  return { rows: await query.orderBy("id", "desc").limit(limit).execute(), rest: rest?.id };
}
