import { type Kysely, sql } from "kysely";
import { expect } from "vitest";
import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { type Db, openDatabase } from "../../src/db/database.ts";
import type { Database } from "../../src/db/schema.ts";
import {
  listExpiredGifts,
  listGifts,
  listGiftsReceived,
  listGiftsSent,
  listGiftsToRemindOf,
  listLateGifts,
  measureExpiredGifts,
  measureGiftsToRemindOf,
} from "../../src/transfer/queries.ts";
import { findWallet } from "../../src/wallet/queries.ts";
import { makeBooks } from "../support/load.ts";

/** Each wallet of them gives so many, and is given so many; rows are made a thousand times so many at once. */
const GIFTS_OF_WALLET = 500;
const THOUSAND = 1_000;
/** Of all of them these are due. */
const DUE = 5;
/** Wallets have their ids from here on, gifts from there. */
const WALLETS_FROM = 1_000_000n;
const GIFTS_FROM = 1_000_000_000n;

/** Rows and index entries that MySQL read, of tables that are not its own. */
async function rowsReadBy(db: Kysely<Database>): Promise<bigint> {
  const { rows } = await sql<{ variableName: string; value: string }>`
    show session status where variable_name in
      ('Handler_read_first', 'Handler_read_key', 'Handler_read_last', 'Handler_read_next', 'Handler_read_prev',
       'Handler_read_rnd', 'Handler_read_rnd_next')`.execute(db);
  return rows.reduce((sum, row) => sum + BigInt(Object.values(row)[1] as string), 0n);
}

/** So many gifts that wait, of which a few are due. Rounded up to a thousand. */
async function fill(db: Db, count: number) {
  const wallets = Math.ceil(count / GIFTS_OF_WALLET);
  const day = 24 * 60 * 60;
  await sql`
    insert into wallet (id, account_id, kind, state, currency, balance, held, version, sequence, update_time)
    with recursive n as (select 0 as i union all select i + 1 from n where i < 999)
    select ${WALLETS_FROM} + a.i * 1000 + b.i, 1, 1, 1, 'KRW', ${GIFTS_OF_WALLET}, ${GIFTS_OF_WALLET}, 1, 1, now()
    from n a cross join n b where a.i * 1000 + b.i < ${wallets}`.execute(db);
  for (let made = 0; made < count; made += THOUSAND) {
    await sql`
      insert into gift (id, sender_account_id, sender_wallet_id, recipient_account_id, recipient_wallet_id, amount,
                        currency, state, hold_id, day, to_stranger, idempotency_key, create_time, expire_time, remind_time)
      with recursive n as (select ${made} as i union all select i + 1 from n where i < ${made + THOUSAND - 1})
      select ${GIFTS_FROM} + i, 1, ${WALLETS_FROM} + i % ${wallets}, 1, ${WALLETS_FROM} + (i + 1) % ${wallets}, 1,
             'KRW', ${Transfer_State.PENDING}, i, 0, 0, unhex(left(sha2(i, 256), 32)), now(3) - interval ${day} second,
             now(3) + interval (${day} + i % ${day}) second, now(3) + interval (${day} / 2 + i % ${day}) second
      from n`.execute(db);
  }
  await sql`update gift set expire_time = now(3) - interval 1 second, remind_time = now(3) - interval 1 second
            where id < ${GIFTS_FROM + BigInt(DUE)}`.execute(db);
  await sql`analyze table gift, wallet`.execute(db);
}

/** However many gifts wait, what looks for a few of them reads few. */
export async function expectNoScan(count: number): Promise<void> {
  const db = openDatabase(await makeBooks());
  try {
    await fill(db, count);
    const now = new Date();
    const wallet = WALLETS_FROM + 1n;
    const filter = { walletId: wallet, sides: ["sender", "recipient"] as ("sender" | "recipient")[] };
    const page = { ...filter, counterparty: undefined, startTime: undefined, endTime: undefined };
    const window = { after: 0n, before: 2n ** 63n - 1n, now };
    const waiting = [{ state: Transfer_State.PENDING, late: false }];
    const all = [1, 2, 3, 4, 5].map((state) => ({ state: state as Transfer_State }));
    /** Each with how many rows it gives, and how many it may read for that: of its own wallet, none of the others. */
    const looks: Record<string, [look: (one: Db) => Promise<unknown>, gives: unknown, readMax: number]> = {
      "the job that ends gifts": [(one) => listExpiredGifts(one, now, [], 256).then(lengthOf), DUE, 2 * DUE + 10],
      "the job that reminds": [(one) => listGiftsToRemindOf(one, now, [], 256).then(lengthOf), DUE, 2 * DUE + 10],
      "what is due": [async (one) => (await measureExpiredGifts(one, now)).count, DUE, 4 * DUE + 10],
      "what is to be reminded of": [async (one) => (await measureGiftsToRemindOf(one, now)).count, DUE, 4 * DUE + 10],
      "what a debit releases": [
        (one) => listLateGifts(one, "sender", wallet, now, 256).then(lengthOf),
        1,
        2 * GIFTS_OF_WALLET + 10,
      ],
      "a balance": [
        async (one) => (await findWallet(one, "all", wallet))?.held,
        BigInt(GIFTS_OF_WALLET) - 1n,
        2 * GIFTS_OF_WALLET + 20,
      ],
      "what closing hands over": [
        (one) => listGiftsSent(one, wallet).then(lengthOf),
        GIFTS_OF_WALLET,
        2 * GIFTS_OF_WALLET + 10,
      ],
      "what closing returns": [(one) => listGiftsReceived(one, wallet, 100).then(lengthOf), 100, 300],
      "a page of what waits": [(one) => listGifts(one, page, waiting, window, 50).then(lengthOf), 50, 500],
      "a page of all": [(one) => listGifts(one, page, all, window, 50).then(lengthOf), 50, 600],
      "a page with somebody": [
        (one) => listGifts(one, { ...page, counterparty: wallet + 1n }, all, window, 50).then(lengthOf),
        50,
        600,
      ],
    };
    await db.connection().execute(async (one) => {
      for (const [what, [look, gives, readMax]] of Object.entries(looks)) {
        const before = await rowsReadBy(one);
        const given = await look(one);
        const read = Number((await rowsReadBy(one)) - before);
        expect([what, given]).toEqual([what, gives]);
        expect([what, read, read <= readMax]).toEqual([what, read, true]);
      }
    });
  } finally {
    await db.destroy();
  }
}

const lengthOf = (rows: unknown[]) => rows.length;
