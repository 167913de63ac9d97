import { type Kysely, sql } from "kysely";

/** Money that people ask each other for. */
export async function up(db: Kysely<unknown>) {
  if (!(await hasColumn(db, "allowance", "requests"))) {
    await sql`alter table allowance add column requests int not null default 0`.execute(db);
  }

  await sql`
    create table if not exists money_request (
      id                   bigint       not null,
      requester_account_id bigint       not null,
      requester_wallet_id  bigint       not null,
      amount               bigint       not null,
      own_amount           bigint       not null,
      currency             char(3)      character set ascii collate ascii_bin not null,
      memo                 varchar(100) not null,
      state                tinyint      not null,
      parts                int          not null,
      open_parts           int          not null,
      paid_parts           int          not null,
      paid_amount          bigint       not null,
      content_hash         binary(16)   not null,
      api_key_id           bigint       null,
      idempotency_key      binary(16)   not null,
      create_time          datetime(3)  not null,
      update_time          datetime(3)  not null,
      expire_time          datetime(3)  not null,
      due_time             datetime(3)  null,
      tries                int          not null default 0,
      lease_owner          varchar(64)  character set ascii collate ascii_bin not null default '',
      lease_until          datetime(3)  null,
      primary key (id),
      unique key money_request_idempotency (idempotency_key),
      key money_request_requester (requester_account_id, id),
      key money_request_state (requester_account_id, state, id),
      key money_request_due (due_time),
      constraint money_request_amount_positive check (amount > 0 and own_amount >= 0),
      constraint money_request_paid check (paid_amount between 0 and amount),
      constraint money_request_parts
        check (open_parts >= 0 and paid_parts >= 0 and open_parts + paid_parts <= parts)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists money_request_part (
      id               bigint      not null,
      request_id       bigint      not null,
      payer_account_id bigint      not null,
      payer_wallet_id  bigint      not null,
      amount           bigint      not null,
      state            tinyint     not null,
      transfer_id      bigint      null,
      remind_time      datetime(3) null,
      update_time      datetime(3) not null,
      primary key (id),
      unique key money_request_part_payer (request_id, payer_account_id),
      unique key money_request_part_transfer (transfer_id),
      key money_request_part_account (payer_account_id, request_id),
      key money_request_part_state (payer_account_id, state, request_id),
      constraint money_request_part_amount_positive check (amount > 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
}

async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = ${table} and column_name = ${column}`.execute(db);
  return rows.length > 0;
}
