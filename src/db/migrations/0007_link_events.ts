import { type Kysely, sql } from "kysely";

/** Which links are yet to be told of, and through which API key they were made. */
export async function up(db: Kysely<unknown>) {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = 'bank_account' and column_name = 'tell_due_time'`.execute(db);
  if (rows.length > 0) return;
  await sql`
    alter table bank_account
      add column api_key_id bigint null,
      add column tell_due_time datetime(3) null,
      add key bank_account_tell (tell_due_time)`.execute(db);
}
