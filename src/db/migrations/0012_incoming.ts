import { type Kysely, sql } from "kysely";

/** What is under way from banks takes its room in the wallet. */
export async function up(db: Kysely<unknown>) {
  if (!(await hasColumn(db, "allowance", "incoming"))) {
    await sql`
      alter table allowance add column incoming bigint not null default 0,
      add constraint allowance_incoming_not_negative check (incoming >= 0)`.execute(db);
  }

  // Top-ups, kind 1, that have not ended.
  await sql`
    update allowance set incoming = (
      select coalesce(sum(amount), 0) from bank_transfer
      where wallet_id = allowance.id and kind = 1 and due_time is not null
    )`.execute(db);
}

async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = ${table} and column_name = ${column}`.execute(db);
  return rows.length > 0;
}
