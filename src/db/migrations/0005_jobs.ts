import { type Kysely, sql } from "kysely";

/** Jobs that are due once in a period, closed accounts that are to be cleaned up, and what else those who clean up look for. */
export async function up(db: Kysely<unknown>) {
  await sql`
    create table if not exists job (
      name          varchar(64) character set ascii collate ascii_bin not null,
      due_time      datetime(3) not null,
      lease_owner   varchar(64) character set ascii collate ascii_bin not null default '',
      lease_until   datetime(3) null,
      tries         int         not null default 0,
      runs          bigint      not null default 0,
      last_run_time datetime(3) null,
      primary key (name)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists account_cleanup (
      id          bigint      not null,
      due_time    datetime(3) not null,
      lease_owner varchar(64) character set ascii collate ascii_bin not null default '',
      lease_until datetime(3) null,
      tries       int         not null default 0,
      primary key (id),
      key account_cleanup_due (due_time)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  if (!(await hasKey(db, "refresh_token", "refresh_token_expiry"))) {
    await sql`alter table refresh_token add key refresh_token_expiry (expire_time)`.execute(db);
  }

  if (!(await hasKey(db, "session", "session_last_use"))) {
    await sql`alter table session add key session_last_use (last_use_time)`.execute(db);
  }
}

async function hasKey(db: Kysely<unknown>, table: string, key: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.statistics
    where table_schema = database() and table_name = ${table} and index_name = ${key}`.execute(db);
  return rows.length > 0;
}
