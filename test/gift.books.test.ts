import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sql } from "kysely";
import { type GiftRow, HOUSE } from "../src/db/schema.ts";
import { acceptGift, declineGift, handOver, sendGift } from "../src/transfer/gift.ts";
import { findGift } from "../src/transfer/queries.ts";
import { type Ledger, makeBooks, makeWallets, openLedger } from "./support/load.ts";
import { differencesIn } from "./support/people.ts";

// Small books with gifts that stand in every way: damage is done to them, found, and undone.

const TABLES = ["wallet", "hold", "posting", "gift", "allowance"];
const HOUR_MS = 60 * 60_000;

const databaseUrl = await makeBooks();
let ledger: Ledger;
let alice: bigint;
let bob: bigint;
/** One that waits, one that was accepted, one that was declined, one that waits at the house, and one accepted there. */
let waiting: GiftRow;
let accepted: GiftRow;
let declined: GiftRow;
let atHouse: GiftRow;
let fromHouse: GiftRow;

beforeAll(async () => {
  ledger = await openLedger(databaseUrl);
  const { db, lane } = ledger;
  [alice, bob] = await makeWallets(ledger, 2, { balance: 100n });
  const give = async (amount: bigint) => {
    const order = { idempotencyKey: randomUUID(), recipientWalletId: bob, amount, memo: "", expireAfterMs: HOUR_MS };
    const rules = { limits: undefined, remindBeforeMs: 0 };
    return (await lane.submit(sendGift({ accountId: alice, walletId: alice }, order, rules))).value;
  };
  [waiting, accepted, declined, atHouse, fromHouse] = [
    await give(1n),
    await give(2n),
    await give(4n),
    await give(8n),
    await give(16n),
  ];
  await lane.submit(acceptGift(accepted, {}));
  await lane.submit(declineGift(declined, {}));
  for (const { id, holdId } of [atHouse, fromHouse]) {
    await lane.submit({
      touches: { wallet: [alice, HOUSE], hold: [holdId], gift: [id], allowance: [alice] },
      decide: (books) => handOver(books, books.find("gift", id) as GiftRow, {}),
    });
  }
  await lane.submit(acceptGift((await findGift(db, fromHouse.id)) as GiftRow, {}));
  for (const table of TABLES)
    await sql`create table ${sql.table(`${table}_kept`)} as select * from ${sql.table(table)}`.execute(db);
});

afterAll(() => ledger.close());

const holdOf = ({ holdId }: GiftRow) => holdId;

/** What is done to the books, and every difference that must be found, no other. */
const damages: [what: string, sql: () => string, differences: () => unknown[]][] = [
  [
    "a gift that waits is made one that has ended",
    () => `update gift set state = 3, end_time = now(3), remind_time = null where id = ${waiting.id}`,
    () => [
      `holds: hold ${holdOf(waiting)}: sets 1 aside where its gift ${waiting.id} needs 0`,
      `counts: wallet ${alice}: says 1 given that wait, the gifts make 0`,
      `counts: wallet ${bob}: says 2 received that wait, the gifts make 1`,
    ],
  ],
  [
    "a gift that has ended is made one that waits",
    () => `update gift set state = 2, end_time = null where id = ${declined.id}`,
    () => [
      `holds: hold ${holdOf(declined)}: sets 0 aside where its gift ${declined.id} needs 4`,
      `counts: wallet ${alice}: says 1 given that wait, the gifts make 2`,
      `counts: wallet ${bob}: says 2 received that wait, the gifts make 3`,
    ],
  ],
  [
    "a gift that was accepted is made one that was declined",
    () => `update gift set state = 3 where id = ${accepted.id}`,
    () => [
      expect.stringMatching(`^causes: posting [0-9]+: its gift ${accepted.id} is not there, or was posted before$`),
    ],
  ],
  [
    "a gift that was declined is made one that was accepted",
    () => `update gift set state = 1 where id = ${declined.id}`,
    () => [`causes: gift ${declined.id}: moved no money`],
  ],
  [
    "it is forgotten that a gift was handed over",
    () => `update gift set hand_over_time = null where id = ${atHouse.id}`,
    () => [
      expect.stringMatching(`^causes: posting [0-9]+: its handed over gift ${atHouse.id} is not there, or was posted`),
      `holds: hold ${holdOf(atHouse)}: sets 0 aside where its gift ${atHouse.id} needs 8`,
      `counts: wallet ${alice}: says 1 given that wait, the gifts make 2`,
    ],
  ],
  [
    "a gift is said to be handed over",
    () => `update gift set hand_over_time = now(3) where id = ${waiting.id}`,
    () => [
      `causes: handed over gift ${waiting.id}: moved no money`,
      `holds: hold ${holdOf(waiting)}: sets 1 aside where its gift ${waiting.id} needs 0`,
      `counts: wallet ${alice}: says 1 given that wait, the gifts make 0`,
    ],
  ],
  [
    "the amount of a gift is changed",
    () => `update gift set amount = amount + 1 where id = ${waiting.id}`,
    () => [
      `holds: hold ${holdOf(waiting)}: differs from its gift ${waiting.id} in hold, wallet or amount`,
      `holds: hold ${holdOf(waiting)}: sets 1 aside where its gift ${waiting.id} needs 2`,
    ],
  ],
  [
    "the recipient of a gift is changed after it was accepted",
    () => `update gift set recipient_wallet_id = ${HOUSE} where id = ${accepted.id}`,
    () => [
      expect.stringMatching(`^causes: posting [0-9]+: differs from its gift ${accepted.id} in wallets or amount$`),
    ],
  ],
  [
    "the sender of a gift is changed",
    () => `update gift set sender_wallet_id = 42 where id = ${waiting.id}`,
    () => [
      `holds: hold ${holdOf(waiting)}: differs from its gift ${waiting.id} in hold, wallet or amount`,
      `counts: wallet ${alice}: says 1 given that wait, the gifts make 0`,
    ],
  ],
  [
    "a gift is deleted",
    () => `delete from gift where id = ${waiting.id}`,
    () => [
      `holds: hold ${holdOf(waiting)}: its gift ${waiting.id} is not there, or has another hold`,
      `counts: wallet ${alice}: says 1 given that wait, the gifts make 0`,
      `counts: wallet ${bob}: says 2 received that wait, the gifts make 1`,
    ],
  ],
  [
    "a gift has two holds",
    () =>
      `insert into hold select id + 1, wallet_id, amount, 0, cause, cause_id, create_time, expire_time from hold where id = ${holdOf(waiting)}`,
    () => [`holds: hold ${holdOf(waiting) + 1n}: its gift ${waiting.id} is not there, or has another hold`],
  ],
  [
    "a hold is deleted",
    () => `delete from hold where id = ${holdOf(declined)}`,
    () => [`holds: gift ${declined.id}: has no hold`],
  ],
  [
    "no job has ended a gift for more than a day",
    () => `update hold set expire_time = '2026-01-01 00:00:00' where id in (${holdOf(waiting)}, ${holdOf(accepted)})`,
    () => [`holds: hold ${holdOf(waiting)}: sets 1 aside, more than a day after it expired`],
  ],
  [
    "the counts of what waits are changed",
    () => `update allowance set gifts_sent = 5, gifts_received = 7 where id = ${alice}`,
    () => [
      `counts: wallet ${alice}: says 5 given that wait, the gifts make 1`,
      `counts: wallet ${alice}: says 7 received that wait, the gifts make 0`,
    ],
  ],
];

test("the books are right before anything is done to them", async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
});

test.for(damages)("VerifyBooks finds it, and where it is, when %s", async ([, damage, differences]) => {
  const { db } = ledger;
  await sql.raw(damage()).execute(db);

  const found = await differencesIn(databaseUrl);

  for (const table of TABLES) {
    await sql`delete from ${sql.table(table)}`.execute(db);
    await sql`insert into ${sql.table(table)} select * from ${sql.table(`${table}_kept`)}`.execute(db);
  }
  // Checks are made in this order, and each of them meets one of these at most.
  expect(found).toEqual(differences());
});
