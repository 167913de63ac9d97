import { type Kysely, sql } from "kysely";

/**
 * Wallets, holds, postings and the log. Ids are made by the program (id.ts); times are UTC.
 * MySQL commits each statement of this kind at once, so every one can be run again.
 */
export async function up(db: Kysely<unknown>) {
  await sql`
    create table if not exists wallet (
      id          bigint     not null,
      account_id  bigint     null,
      partner_id  bigint     null,
      kind        tinyint    not null,
      state       tinyint    not null,
      currency    char(3)    character set ascii collate ascii_bin not null,
      balance     bigint     not null,
      held        bigint     not null,
      version     bigint     not null,
      sequence    bigint     not null,
      create_time datetime(3) not null default current_timestamp(3),
      update_time datetime(3) not null,
      primary key (id),
      key wallet_account (account_id),
      key wallet_partner (partner_id),
      constraint wallet_held_not_negative check (held >= 0),
      -- Only system wallets, whose kinds start at 10, go below zero.
      constraint wallet_covered check (kind >= 10 or balance >= held)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists hold (
      id          bigint     not null,
      wallet_id   bigint     not null,
      amount      bigint     not null,
      remaining   bigint     not null,
      cause       tinyint    not null,
      cause_id    bigint     not null,
      create_time datetime(3) not null default current_timestamp(3),
      expire_time datetime(3) not null,
      primary key (id),
      key hold_wallet (wallet_id),
      constraint hold_amount_positive check (amount > 0),
      constraint hold_remaining_within check (remaining between 0 and amount)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists posting (
      id               bigint  not null,
      batch_id         bigint  not null,
      debit_wallet_id  bigint  not null,
      debit_sequence   bigint  not null,
      debit_balance    bigint  not null,
      credit_wallet_id bigint  not null,
      credit_sequence  bigint  not null,
      credit_balance   bigint  not null,
      amount           bigint  not null,
      cause            tinyint not null,
      cause_id         bigint  not null,
      create_time      datetime(3) not null,
      primary key (id),
      unique key posting_debit (debit_wallet_id, debit_sequence),
      unique key posting_credit (credit_wallet_id, credit_sequence),
      constraint posting_amount_positive check (amount > 0),
      constraint posting_two_wallets check (debit_wallet_id <> credit_wallet_id)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists ledger_batch (
      id            bigint   not null,
      number        bigint   null,
      last_position bigint   not null,
      event_count   int      not null,
      posting_count int      not null,
      events        longblob not null,
      hash          binary(32) not null,
      create_time   datetime(3) not null,
      primary key (id),
      unique key ledger_batch_number (number),
      key ledger_batch_position (last_position)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  await sql`
    create table if not exists ledger_head (
      id       bigint not null,
      number   bigint not null,
      position bigint not null,
      hash     binary(32) not null,
      primary key (id)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
  await sql`insert into ledger_head (id, number, position, hash) values (1, 0, 0, unhex(repeat('00', 32)))
            on duplicate key update id = id`.execute(db);

  // BANK_CLEARING, kind 10, open, in won.
  await sql`insert into wallet (id, kind, state, currency, balance, held, version, sequence, create_time, update_time)
            values (1, 10, 1, 'KRW', 0, 0, 0, 0, utc_timestamp(3), utc_timestamp(3))
            on duplicate key update id = id`.execute(db);

  await sql`
    create table if not exists process_slot (
      slot        int          not null,
      owner       varchar(64)  not null,
      lease_until bigint       not null,
      primary key (slot)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);
  const slots = Array.from({ length: 1024 }, (_, slot) => sql`(${slot}, '', 0)`);
  await sql`insert into process_slot (slot, owner, lease_until) values ${sql.join(slots)}
            on duplicate key update slot = slot`.execute(db);
}
