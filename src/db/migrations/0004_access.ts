import { type Kysely, sql } from "kysely";

/**
 * What proves people besides a password, where they are signed in, what API keys may do, and the audit trail.
 * A column that is there already means that the statement ran before: MySQL commits each of them at once.
 */
export async function up(db: Kysely<unknown>) {
  await sql`
    create table if not exists identity (
      id           bigint      not null,
      identity_key binary(32)  not null,
      birth_date   char(10)    character set ascii collate ascii_bin not null,
      create_time  datetime(3) not null,
      primary key (id),
      unique key identity_key (identity_key)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  if (!(await hasColumn(db, "account", "phone"))) {
    await sql`
      alter table account
        add column phone       varchar(16)  character set ascii collate ascii_bin not null default '',
        add column phone_key   binary(16)   null,
        add column language    char(2)      character set ascii collate ascii_bin not null default 'ko',
        add column identity_id bigint       null,
        add column pin_hash    varchar(200) character set ascii collate ascii_bin not null default '',
        add column pin_tries   tinyint      not null default 0,
        add column identity_key binary(32)  null,
        add column wallet_count int         not null default 1,
        add unique key account_phone (phone_key),
        add unique key account_identity_key (identity_key),
        add key account_identity (identity_id)`.execute(db);
  }

  if (!(await hasColumn(db, "session", "device"))) {
    await sql`
      alter table session
        add column device        varchar(200) not null default '',
        add column ip            varchar(45)  character set ascii collate ascii_bin not null default '',
        add column last_use_time datetime(3)  not null default current_timestamp(3),
        add key session_account (account_id)`.execute(db);
  }

  if (!(await hasColumn(db, "api_key", "scopes"))) {
    await sql`
      alter table api_key
        add column scopes varchar(200) character set ascii collate ascii_bin not null default '',
        add key api_key_partner (partner_id)`.execute(db);
  }

  await sql`
    create table if not exists audit_record (
      id          bigint       not null,
      create_time datetime(3)  not null,
      rpc         varchar(100) character set ascii collate ascii_bin not null,
      code        tinyint      not null,
      reason      int          not null,
      caller      tinyint      not null,
      account_id  bigint       null,
      partner_id  bigint       null,
      key_id      bigint       null,
      session_id  bigint       null,
      object_id   bigint       null,
      ip          varchar(45)  character set ascii collate ascii_bin not null,
      request_id  varchar(64)  character set ascii collate ascii_bin not null,
      primary key (id),
      key audit_record_account (account_id, id),
      key audit_record_object (object_id, id),
      key audit_record_key (key_id, id)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
}

async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = ${table} and column_name = ${column}`.execute(db);
  return rows.length > 0;
}
