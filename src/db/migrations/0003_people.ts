import { type Kysely, sql } from "kysely";

/** People, their sessions, and API keys. Secrets are stored as hashes. */
export async function up(db: Kysely<unknown>) {
  await sql`
    create table if not exists account (
      id             bigint       not null,
      email          varchar(254) not null,
      email_key      binary(16)   null,
      password_hash  varchar(200) character set ascii collate ascii_bin not null,
      display_name   varchar(50)  not null,
      state          tinyint      not null,
      main_wallet_id bigint       not null,
      create_time    datetime(3)  not null,
      update_time    datetime(3)  not null,
      primary key (id),
      unique key account_email (email_key)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists session (
      id          bigint      not null,
      account_id  bigint      not null,
      create_time datetime(3) not null,
      revoke_time datetime(3) null,
      primary key (id)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists refresh_token (
      token_hash  binary(32)  not null,
      session_id  bigint      not null,
      create_time datetime(3) not null,
      expire_time datetime(3) not null,
      use_time    datetime(3) null,
      primary key (token_hash)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists api_key (
      id            bigint       not null,
      kind          tinyint      not null,
      partner_id    bigint       null,
      name          varchar(100) not null,
      key_hash      binary(32)   not null,
      ending        char(4)      character set ascii collate ascii_bin not null,
      create_time   datetime(3)  not null,
      expire_time   datetime(3)  null,
      revoke_time   datetime(3)  null,
      last_use_time datetime(3)  null,
      primary key (id),
      unique key api_key_hash (key_hash)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
}
