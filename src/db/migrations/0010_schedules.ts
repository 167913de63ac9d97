import { type Kysely, sql } from "kysely";

/** Money that is sent at a time to come. */
export async function up(db: Kysely<unknown>) {
  if (!(await hasColumn(db, "allowance", "scheduled"))) {
    await sql`alter table allowance add column scheduled int not null default 0`.execute(db);
  }

  await sql`
    create table if not exists scheduled_transfer (
      id                  bigint       not null,
      account_id          bigint       not null,
      sender_wallet_id    bigint       not null,
      recipient_wallet_id bigint       not null,
      amount              bigint       not null,
      currency            char(3)      character set ascii collate ascii_bin not null,
      memo                varchar(100) not null,
      state               tinyint      not null,
      transfer_time       datetime(3)  not null,
      transfer_id         bigint       null,
      failure_reason      int          not null,
      failure_message     varchar(200) not null,
      api_key_id          bigint       null,
      idempotency_key     binary(16)   not null,
      create_time         datetime(3)  not null,
      update_time         datetime(3)  not null,
      due_time            datetime(3)  null,
      tries               int          not null default 0,
      lease_owner         varchar(64)  character set ascii collate ascii_bin not null default '',
      lease_until         datetime(3)  null,
      primary key (id),
      unique key scheduled_transfer_idempotency (idempotency_key),
      unique key scheduled_transfer_transfer (transfer_id),
      key scheduled_transfer_account (account_id, id),
      key scheduled_transfer_state (account_id, state, id),
      key scheduled_transfer_due (due_time),
      constraint scheduled_transfer_amount_positive check (amount > 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
}

async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = ${table} and column_name = ${column}`.execute(db);
  return rows.length > 0;
}
