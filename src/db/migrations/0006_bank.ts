import { type Kysely, sql } from "kysely";

/** What comes from banks and goes to them, savings, and what may be drawn and sent in a day. */
export async function up(db: Kysely<unknown>) {
  if (!(await hasColumn(db, "account", "bank_account_count"))) {
    await sql`alter table account add column bank_account_count int not null default 0`.execute(db);
  }

  await sql`
    create table if not exists allowance (
      id               bigint      not null,
      tier             varchar(32) character set ascii collate ascii_bin not null,
      day              int         not null,
      drawn            bigint      not null,
      sent             bigint      not null,
      sent_to_strangers bigint     not null,
      bank_transfers   int         not null,
      update_time      datetime(3) not null,
      primary key (id),
      constraint allowance_not_negative
        check (drawn >= 0 and sent >= 0 and sent_to_strangers >= 0 and bank_transfers >= 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists savings (
      wallet_id   bigint      not null,
      account_id  bigint      not null,
      name        varchar(50) not null,
      idempotency_key binary(16) not null,
      create_time datetime(3) not null,
      primary key (wallet_id),
      unique key savings_idempotency (idempotency_key)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists savings_move (
      id                bigint      not null,
      account_id        bigint      not null,
      main_wallet_id    bigint      not null,
      savings_wallet_id bigint      not null,
      amount            bigint      not null,
      currency          char(3)     character set ascii collate ascii_bin not null,
      idempotency_key   binary(16)  not null,
      create_time       datetime(3) not null,
      primary key (id),
      unique key savings_move_idempotency (idempotency_key),
      constraint savings_move_amount_not_zero check (amount <> 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists bank_account (
      id                 bigint         not null,
      account_id         bigint         not null,
      state              tinyint        not null,
      bank_code          char(3)        character set ascii collate ascii_bin not null,
      bank_name          varchar(40)    not null,
      masked_number      varchar(20)    not null,
      number_sealed      varbinary(255) null,
      link_key           binary(16)     null,
      fintech_use_num    varchar(24)    character set ascii collate ascii_bin not null,
      holder_name        varchar(40)    not null,
      alias              varchar(50)    not null,
      primary_of         bigint         null,
      can_inquire        tinyint        not null,
      can_draw           tinyint        not null,
      automatic_top_up   tinyint        not null,
      top_up_unit        bigint         not null,
      create_time        datetime(3)    not null,
      update_time        datetime(3)    not null,
      unlink_time        datetime(3)    null,
      revoke_due_time    datetime(3)    null,
      revoke_tries       int            not null default 0,
      lease_owner        varchar(64)    character set ascii collate ascii_bin not null default '',
      lease_until        datetime(3)    null,
      primary key (id),
      unique key bank_account_link (link_key),
      unique key bank_account_primary (primary_of),
      key bank_account_account (account_id, id),
      key bank_account_fintech (fintech_use_num),
      key bank_account_revoke (revoke_due_time),
      constraint bank_account_unit check (top_up_unit between 1 and 10000)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists bank_consent (
      state_hash  binary(32)  not null,
      account_id  bigint      not null,
      holder_id   bigint      not null,
      create_time datetime(3) not null,
      expire_time datetime(3) not null,
      use_time    datetime(3) null,
      primary key (state_hash),
      key bank_consent_expire (expire_time)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists bank_grant (
      account_id    bigint          not null,
      user_seq_no   varchar(10)     character set ascii collate ascii_bin not null,
      access_token  varbinary(4096) not null,
      refresh_token varbinary(4096) not null,
      scope         varchar(100)    character set ascii collate ascii_bin not null,
      expire_time   datetime(3)     not null,
      version       bigint          not null,
      update_time   datetime(3)     not null,
      primary key (account_id)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists bank_institution_token (
      scope        varchar(20)     character set ascii collate ascii_bin not null,
      access_token varbinary(4096) not null,
      expire_time  datetime(3)     not null,
      version      bigint          not null,
      update_time  datetime(3)     not null,
      primary key (scope)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists bank_tran_claim (
      day         int         not null,
      tran_id     char(20)    character set ascii collate ascii_bin not null,
      create_time datetime(3) not null,
      primary key (day, tran_id)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists bank_transfer (
      id              bigint       not null,
      kind            tinyint      not null,
      account_id      bigint       not null,
      wallet_id       bigint       not null,
      bank_account_id bigint       not null,
      amount          bigint       not null,
      currency        char(3)      character set ascii collate ascii_bin not null,
      state           tinyint      not null,
      hold_id         bigint       null,
      day             int          not null,
      tran_id         char(20)     character set ascii collate ascii_bin not null,
      tran_date       char(8)      character set ascii collate ascii_bin not null,
      bank_ref        varchar(64)  character set ascii collate ascii_bin not null,
      failure_bank    varchar(3)   character set ascii collate ascii_bin not null,
      failure_code    varchar(20)  character set ascii collate ascii_bin not null,
      failure_message varchar(200) not null,
      api_key_id      bigint       null,
      idempotency_key binary(16)   not null,
      draw_key        binary(16)   null,
      create_time     datetime(3)  not null,
      update_time     datetime(3)  not null,
      due_time        datetime(3)  null,
      inquiries       int          not null default 0,
      lease_owner     varchar(64)  character set ascii collate ascii_bin not null default '',
      lease_until     datetime(3)  null,
      primary key (id),
      unique key bank_transfer_idempotency (idempotency_key),
      unique key bank_transfer_draw (draw_key),
      unique key bank_transfer_tran (tran_id, tran_date),
      key bank_transfer_account (account_id, id),
      key bank_transfer_bank_account (bank_account_id, id),
      key bank_transfer_due (due_time),
      constraint bank_transfer_amount_positive check (amount > 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
}

async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = ${table} and column_name = ${column}`.execute(db);
  return rows.length > 0;
}
