import { type RawBuilder, sql } from "kysely";
import type { Db } from "./database.ts";
import type { Row, TableName } from "./schema.ts";

/**
 * Rows that are worked on by one process at a time, until their lease is over. Their table has a `lease_owner` and a
 * `lease_until`, and a column that says when a row is due, which an index begins with. All of it goes by the clock of
 * the database, the one that all processes share.
 */

/** A table whose rows are leased. */
type LeasedTable = {
  [T in TableName]: Row<T> extends { leaseOwner: string; leaseUntil: Date | null } ? T : never;
}[TableName];
/** A column of it. */
type Column<T extends LeasedTable, Value> = { [C in keyof Row<T>]: Row<T>[C] extends Value ? C : never }[keyof Row<T>] &
  string;

/** Which rows of a table are work. */
export interface DueRows<T extends LeasedTable> {
  table: T;
  /** When a row is due; a row that has none there is not. */
  due: Column<T, Date | null>;
  /** Counts how often the row was claimed, if the table has such a column. */
  tries?: Column<T, number>;
  /** The primary key, if it is not `id`. */
  key?: Column<T, bigint | string>;
  /** What else makes a row due. */
  where?: RawBuilder<boolean>;
}

/** Who claims how many rows, for how long. The owner is another one each time. */
export interface Claim {
  owner: string;
  limit: number;
  leaseMs: number;
}

const NOW = sql`current_timestamp(3)`;
const isDue = <T extends LeasedTable>({ due, where }: DueRows<T>) =>
  sql<boolean>`${sql.ref(due)} <= ${NOW} and ${where ?? sql`true`}`;
const keyOf = <T extends LeasedTable>({ key }: DueRows<T>) => sql.ref(key ?? "id");
const IS_FREE = sql<boolean>`(lease_until is null or lease_until < ${NOW})`;

/** Rows are looked for again so often when others were faster. */
const LOOKS_MAX = 5;

/**
 * Leases those that have been due for longest. It holds without SKIP LOCKED: of processes that want the same row at
 * once, the second finds it leased when the first has committed. It locks nothing but rows by their primary key, in its
 * order, as those do who change them; an update by the index of what is due would meet them in a deadlock.
 */
export async function claimRows<T extends LeasedTable>(db: Db, rows: DueRows<T>, claim: Claim): Promise<Row<T>[]> {
  for (let looks = 1; ; looks += 1) {
    const free = await findFree(db, rows, claim.limit);
    if (free.length === 0) return [];
    const claimed = await leaseRows(db, rows, free, claim);
    if (claimed.length > 0 || looks === LOOKS_MAX) return claimed;
  }
}

type Key = bigint | string;

async function findFree<T extends LeasedTable>(db: Db, rows: DueRows<T>, limit: number): Promise<Key[]> {
  const { rows: found } = await sql<{ found: Key }>`
    select ${keyOf(rows)} as found from ${sql.table(rows.table)}
    where ${isDue(rows)} and ${IS_FREE} order by ${sql.ref(rows.due)} limit ${limit}`.execute(db);
  return found.map((row) => row.found);
}

async function leaseRows<T extends LeasedTable>(db: Db, rows: DueRows<T>, keys: Key[], { owner, leaseMs }: Claim) {
  const count = rows.tries ? sql`, ${sql.ref(rows.tries)} = ${sql.ref(rows.tries)} + 1` : sql``;
  const isOne = sql<boolean>`${keyOf(rows)} in (${sql.join(keys)})`;
  const { numAffectedRows } = await sql`
    update ${sql.table(rows.table)}
    set lease_owner = ${owner}, lease_until = ${NOW} + interval ${leaseMs * 1_000} microsecond ${count}
    where ${isOne} and ${isDue(rows)} and ${IS_FREE} order by ${keyOf(rows)}`.execute(db);
  if (!numAffectedRows) return [];
  const { rows: leased } = await sql<Row<T>>`
    select * from ${sql.table(rows.table)} where ${isOne} and lease_owner = ${owner}
    order by ${sql.ref(rows.due)}`.execute(db);
  return leased;
}

/** Ends the lease of a row and makes it due at another time, unless somebody else has claimed it since. */
export async function putOffRow<T extends LeasedTable>(
  db: Db,
  { table, due }: Pick<DueRows<T>, "table" | "due">,
  row: { id: bigint; leaseOwner: string },
  dueTime: Date,
): Promise<void> {
  await sql`
    update ${sql.table(table)} set ${sql.ref(due)} = ${dueTime}, lease_owner = '', lease_until = null
    where id = ${row.id} and lease_owner = ${row.leaseOwner}`.execute(db);
}

/** How many rows are due and free, and how long the first of them has been. */
export interface Waiting {
  count: number;
  oldestMs: number;
}

/** Where more wait, so many are counted. */
const COUNT_MAX = 1_000;

/** It looks at so many rows at most, so it may be asked often. */
export async function measureDue<T extends LeasedTable>(db: Db, rows: DueRows<T>): Promise<Waiting> {
  const { rows: found } = await sql<{ count: bigint; oldestMs: bigint | null }>`
    select count(*) as count, timestampdiff(microsecond, min(due), ${NOW}) div 1000 as oldest_ms from (
      select ${sql.ref(rows.due)} as due from ${sql.table(rows.table)}
      where ${isDue(rows)} and ${IS_FREE} order by ${sql.ref(rows.due)} limit ${COUNT_MAX}
    ) waiting`.execute(db);
  return { count: Number(found[0]?.count ?? 0), oldestMs: Number(found[0]?.oldestMs ?? 0) };
}
