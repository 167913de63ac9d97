import { type Kysely, sql } from "kysely";

/** Gifts, how many of them wait, and the wallet of the house. */
export async function up(db: Kysely<unknown>) {
  await sql`
    create table if not exists gift (
      id                   bigint       not null,
      sender_account_id    bigint       not null,
      sender_wallet_id     bigint       not null,
      recipient_account_id bigint       not null,
      recipient_wallet_id  bigint       not null,
      amount               bigint       not null,
      currency             char(3)      character set ascii collate ascii_bin not null,
      memo                 varchar(100) not null default '',
      state                tinyint      not null,
      hold_id              bigint       not null,
      day                  int          not null,
      to_stranger          tinyint      not null,
      api_key_id           bigint       null,
      idempotency_key      binary(16)   not null,
      create_time          datetime(3)  not null,
      expire_time          datetime(3)  not null,
      remind_time          datetime(3)  null,
      hand_over_time       datetime(3)  null,
      end_time             datetime(3)  null,
      end_api_key_id       bigint       null,
      primary key (id),
      unique key gift_idempotency (idempotency_key),
      key gift_sender (sender_wallet_id, state),
      key gift_recipient (recipient_wallet_id, state),
      key gift_pair (sender_wallet_id, recipient_wallet_id, state),
      key gift_expiry (state, expire_time),
      key gift_reminder (remind_time),
      constraint gift_amount_positive check (amount > 0),
      constraint gift_two_wallets check (sender_wallet_id <> recipient_wallet_id),
      constraint gift_expires_later check (expire_time > create_time),
      constraint gift_state check (state between 1 and 5),
      -- State 2 is pending: it has no end, and whatever has ended is not reminded of.
      constraint gift_end check ((state = 2) = (end_time is null)),
      constraint gift_no_reminder check (state = 2 or remind_time is null)
    ) default charset = utf8mb4 collate = utf8mb4_bin`.execute(db);

  if (!(await hasColumn(db, "allowance", "gifts_sent"))) {
    await sql`
      alter table allowance
        add column gifts_sent int not null default 0,
        add column gifts_received int not null default 0,
        add constraint allowance_gifts_not_negative check (gifts_sent >= 0 and gifts_received >= 0)`.execute(db);
  }

  // HOUSE, kind 11, open, in won.
  await sql`insert into wallet (id, kind, state, currency, balance, held, version, sequence, create_time, update_time)
            values (2, 11, 1, 'KRW', 0, 0, 0, 0, utc_timestamp(3), utc_timestamp(3))
            on duplicate key update id = id`.execute(db);
}

async function hasColumn(db: Kysely<unknown>, table: string, column: string): Promise<boolean> {
  const { rows } = await sql`
    select 1 from information_schema.columns
    where table_schema = database() and table_name = ${table} and column_name = ${column}`.execute(db);
  return rows.length > 0;
}
