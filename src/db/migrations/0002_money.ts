import { type Kysely, sql } from "kysely";

/** What moves money: transfers, operators' adjustments, partners and payments. */
export async function up(db: Kysely<unknown>) {
  await sql`
    create table if not exists transfer (
      id                  bigint       not null,
      sender_wallet_id    bigint       not null,
      recipient_wallet_id bigint       not null,
      amount              bigint       not null,
      currency            char(3)      character set ascii collate ascii_bin not null,
      memo                varchar(100) not null,
      state               tinyint      not null,
      idempotency_key     binary(16)   not null,
      create_time         datetime(3)  not null,
      primary key (id),
      unique key transfer_idempotency (idempotency_key),
      constraint transfer_amount_positive check (amount > 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists adjustment (
      id              bigint       not null,
      wallet_id       bigint       not null,
      amount          bigint       not null,
      currency        char(3)      character set ascii collate ascii_bin not null,
      reason          varchar(200) not null,
      api_key_id      bigint       not null,
      idempotency_key binary(16)   not null,
      create_time     datetime(3)  not null,
      primary key (id),
      unique key adjustment_idempotency (idempotency_key),
      constraint adjustment_amount_not_zero check (amount <> 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists partner (
      id              bigint       not null,
      name            varchar(100) not null,
      wallet_id       bigint       not null,
      idempotency_key binary(16)   not null,
      create_time     datetime(3)  not null,
      primary key (id),
      unique key partner_idempotency (idempotency_key)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists payment (
      id               bigint      not null,
      partner_id       bigint      not null,
      order_key        varchar(64) not null,
      payer_account_id bigint      not null,
      payer_wallet_id  bigint      not null,
      amount           bigint      not null,
      currency         char(3)     character set ascii collate ascii_bin not null,
      items            mediumtext  not null,
      state            tinyint     not null,
      idempotency_key  binary(16)  not null,
      create_time      datetime(3) not null,
      primary key (id),
      unique key payment_idempotency (idempotency_key),
      key payment_partner (partner_id, id),
      key payment_payer (payer_account_id, id),
      constraint payment_amount_positive check (amount > 0)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
}
