import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import mysql from "mysql2/promise";
import { afterAll, expect, test, vi } from "vitest";
import { Entry_Cause } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Row, TransferRow } from "../src/db/schema.ts";
import { leaseIds } from "../src/id.ts";
import type { Command, Settled } from "../src/ledger/command.ts";
import { unpackEvents } from "../src/ledger/queries.ts";
import { createPartner } from "../src/payment/payment.ts";
import {
  answerOf,
  balancesOf,
  type Ledger,
  type LedgerOptions,
  makeBooks,
  makeWallets,
  openLedger,
  pay,
  transferRow,
  transfersOf,
} from "./support/load.ts";
import { differencesIn } from "./support/people.ts";
import { type Fault, startProxy } from "./support/proxy.ts";

const databaseUrl = await makeBooks();
const ledgers: Ledger[] = [];
const open = async (options: LedgerOptions = {}) => {
  const ledger = await openLedger(databaseUrl, options);
  ledgers.push(ledger);
  return ledger;
};
const ledger = await open();

afterAll(async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
  await Promise.all(ledgers.map((opened) => opened.close()));
});

/** A connection of somebody else, who holds locks until it is ended. */
async function stranger() {
  const connection = await mysql.createConnection(databaseUrl);
  await connection.query("set session innodb_lock_wait_timeout = 5");
  await connection.query("start transaction");
  return connection;
}

/** Waits until the condition holds. */
const until = (holds: () => Promise<boolean> | boolean) =>
  vi.waitFor(async () => expect(await holds()).toBe(true), { timeout: 10_000, interval: 150 });

/** Waits until a batch that touches the wallet waits for somebody's lock. MySQL's view is ever the same when read too often. */
const untilBlocked = (walletId: bigint) =>
  until(async () => {
    const [rows] = await admin.query<mysql.RowDataPacket[]>(
      "select 1 from information_schema.innodb_trx where trx_state = 'LOCK WAIT' and trx_query like ?",
      [`%${walletId}%`],
    );
    return rows.length > 0;
  });
const admin = await mysql.createConnection(databaseUrl);
afterAll(() => admin.end());

/** A command that touches nothing. */
const write = (decide: Command<unknown>["decide"]): Command<unknown> => ({ touches: {}, decide });

test("commands that wait become one batch, and see each other", async () => {
  const own = await open();
  const [alice, bob, carol] = await makeWallets(own, 3, { balance: 10n });
  own.batches.length = 0;

  const answers = await own.lane.submitEach([
    pay({ from: alice, to: bob, amount: 10n }),
    pay({ from: bob, to: carol, amount: 20n }),
    pay({ from: bob, to: carol, amount: 1n }),
    pay({ from: carol, to: alice, amount: 30n }),
  ]);

  expect(answers.map(answerOf)).toEqual(["done", "done", "INSUFFICIENT_FUNDS", "done"]);
  expect(own.batches).toEqual([4]);
  expect(await balancesOf(own, [alice, bob, carol])).toEqual([30n, 0n, 0n]);
});

test("a refusal halfway undoes its command and no other", async () => {
  const [alice, bob] = await makeWallets(ledger, 2, { balance: 10n });
  const halfway: Command<unknown> = {
    ...pay({ from: alice, to: bob, amount: 5n }),
    decide(books) {
      const transfer = transferRow(books.newId(), { from: alice, to: bob, amount: 5n }, books.now);
      const because = { cause: Entry_Cause.TRANSFER, id: transfer.id };
      books.insert("transfer", transfer);
      books.tell("transfer.completed", [alice], {});
      books.move({ from: alice, to: bob, amount: 5n, because });
      books.hold({ wallet: alice, amount: 1n, because, expireTime: books.now });
      books.setState(bob, 2);
      return books.move({ from: bob, to: alice, amount: 5n, because });
    },
  };

  const answers = await ledger.lane.submitEach([
    pay({ from: alice, to: bob, amount: 1n }),
    halfway,
    pay({ from: alice, to: bob, amount: 2n }),
  ]);

  expect(answers.map(answerOf)).toEqual(["done", "WALLET_FROZEN", "done"]);
  expect(await balancesOf(ledger, [alice, bob])).toEqual([7n, 13n]);
  const holds = await ledger.db.selectFrom("hold").selectAll().where("walletId", "=", alice).execute();
  expect(holds).toEqual([]);
});

test("a decide that throws an error of its own hurts only itself", async () => {
  const [alice, bob] = await makeWallets(ledger, 2, { balance: 10n });
  const broken = write(() => {
    throw new TypeError("a mistake");
  });

  const answers = await ledger.lane.submitEach([
    pay({ from: alice, to: bob, amount: 1n }),
    broken,
    pay({ from: alice, to: bob, amount: 2n }),
  ]);

  expect(answers.map(answerOf)).toEqual(["done", "error", "done"]);
  expect(answers[1]?.error).toEqual(new TypeError("a mistake"));
  expect(await balancesOf(ledger, [bob])).toEqual([13n]);
});

test("what the database refuses is refused to its command alone", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 10n });
  const insertTransfer = (changes: Partial<TransferRow>): Command<unknown> =>
    write((books) =>
      books.insert("transfer", {
        ...transferRow(books.newId(), { from: 1n, to: 2n, amount: 1n }, books.now),
        ...changes,
      }),
    );

  const answers = await own.lane.submitEach([
    pay({ from: alice, to: bob, amount: 1n }),
    pay({ from: alice, to: bob, amount: 1n, memo: "x".repeat(101) }),
    insertTransfer({ amount: 0n }),
    insertTransfer({ amount: 2n ** 63n }),
    insertTransfer({ state: 1_000 }),
    pay({ from: alice, to: bob, amount: 2n }),
  ]);

  expect(answers.map(answerOf)).toEqual(["done", "error", "error", "error", "error", "done"]);
  expect(own.trouble).toEqual(["isolate"]);
  expect(await balancesOf(own, [alice, bob])).toEqual([7n, 13n]);
});

test("text reaches the database as it is", async () => {
  const [alice, bob] = await makeWallets(ledger, 2, { balance: 10n });
  const memo = `'; drop table transfer; -- \\' " \u0000 ?? :a 점심 🍜 \n`;

  const { value } = await ledger.lane.submit(pay({ from: alice, to: bob, amount: 1n, memo }));

  const [stored] = await ledger.db.selectFrom("transfer").selectAll().where("id", "=", value.id).execute();
  expect(stored).toEqual(value);
});

test("the same key fifty times at once moves the money once", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const command = pay({ from: alice, to: bob, amount: 3n, key: randomUUID() });
  own.batches.length = 0;

  const answers = await own.lane.submitEach(Array.from({ length: 50 }, () => command));
  const [later] = await own.lane.submitEach([command]);

  expect(own.batches).toEqual([50]);
  expect(answers.map(answerOf)).toEqual(["done", ...Array.from({ length: 49 }, () => "replayed")]);
  expect(new Set([...answers, later].map((answer) => answer?.result?.value.id)).size).toBe(1);
  expect(later?.result).toEqual({ value: answers[0]?.result?.value, replayed: true });
  expect(await balancesOf(own, [alice, bob])).toEqual([97n, 103n]);
});

test("a repeat is known as one when the lane did not expect any", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 10n });
  const sent = pay({ from: alice, to: bob, amount: 6n, key: randomUUID() });
  await own.lane.submit(sent);
  const now = performance.now.bind(performance);
  let hours = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + hours * 3_600_000);
  const later = (...commands: Command<TransferRow>[]) => {
    hours += 1;
    return own.lane.submitEach(commands);
  };

  // The balance would not do for a second time; after the credit it would.
  const poor = await later(pay({ from: alice, to: bob, amount: 1n }), sent, sent);
  await own.lane.submit(pay({ from: bob, to: alice, amount: 10n }));
  const rich = await later(pay({ from: alice, to: bob, amount: 1n }), sent, sent);
  hours += 1;
  const together = await own.lane.submitTogether([sent, pay({ from: alice, to: bob, amount: 100n })]);
  clock.mockRestore();

  expect([...poor, ...rich].map(answerOf)).toEqual(["done", "replayed", "replayed", "done", "replayed", "replayed"]);
  expect(together.map(answerOf)).toEqual(["replayed", "INSUFFICIENT_FUNDS"]);
  expect(own.trouble).toEqual(["retry", "retry", "retry"]);
  expect(await balancesOf(own, [alice, bob])).toEqual([12n, 8n]);
});

test("a key that was refused may be tried again, also in the same batch", async () => {
  const [alice, bob] = await makeWallets(ledger, 2);
  const [carol] = await makeWallets(ledger, 1, { balance: 10n });
  const key = randomUUID();

  const answers = await ledger.lane.submitEach([
    pay({ from: alice, to: bob, amount: 3n, key }),
    pay({ from: carol, to: alice, amount: 3n }),
    pay({ from: alice, to: bob, amount: 3n, key }),
    pay({ from: alice, to: bob, amount: 3n, key }),
  ]);

  expect(answers.map(answerOf)).toEqual(["INSUFFICIENT_FUNDS", "done", "done", "replayed"]);
  expect(await balancesOf(ledger, [alice, bob, carol])).toEqual([0n, 3n, 7n]);
});

test("a key used for another request is refused, in one batch and later", async () => {
  const [alice, bob] = await makeWallets(ledger, 2, { balance: 10n });
  const key = randomUUID();

  const answers = await ledger.lane.submitEach([
    pay({ from: alice, to: bob, amount: 3n, key }),
    pay({ from: alice, to: bob, amount: 4n, key }),
  ]);
  const [later] = await ledger.lane.submitEach([pay({ from: bob, to: alice, amount: 3n, key })]);

  expect([...answers, later ?? {}].map((answer) => answerOf(answer as Settled<unknown>))).toEqual([
    "done",
    "IDEMPOTENCY_KEY_REUSED",
    "IDEMPOTENCY_KEY_REUSED",
  ]);
  expect(await balancesOf(ledger, [alice, bob])).toEqual([7n, 13n]);
});

test("the same key in two processes moves the money once", async () => {
  const [one, two] = await Promise.all([open(), open()]);
  const [alice, bob] = await makeWallets(one, 2, { balance: 1_000n });

  for (let round = 0; round < 10; round += 1) {
    const key = randomUUID();
    const commands = Array.from({ length: 5 }, () => pay({ from: alice, to: bob, amount: 1n, key }));
    const answers = (await Promise.all([one.lane.submitEach(commands), two.lane.submitEach(commands)])).flat();
    expect(answers.map(answerOf).sort()).toEqual(["done", ...Array.from({ length: 9 }, () => "replayed")]);
  }

  expect(await balancesOf(one, [alice, bob])).toEqual([990n, 1_010n]);
});

test("the same key in two processes makes one row, though no common row is locked", async () => {
  const [one, two] = await Promise.all([open(), open()]);

  const answers: Settled<Row<"partner">>[] = [];
  for (let round = 0; round < 10; round += 1) {
    const command = createPartner({ idempotencyKey: randomUUID(), name: "Demo Shop" });
    answers.push(...(await Promise.all([one, two].map(({ lane }) => lane.submitEach([command])))).flat());
  }

  expect(answers.map(answerOf).sort()).toEqual([...fill(10, "done"), ...fill(10, "replayed")]);
  expect(new Set(answers.map(({ result }) => result?.value.id)).size).toBe(10);
});

const fill = (length: number, text: string) => Array.from({ length }, () => text);

test("commands submitted together happen together or not at all", async () => {
  const [alice, bob] = await makeWallets(ledger, 2, { balance: 10n });
  const key = randomUUID();
  const first = pay({ from: alice, to: bob, amount: 4n, key });

  const [refused, alone] = await Promise.all([
    ledger.lane.submitTogether([first, pay({ from: alice, to: bob, amount: 7n })]),
    ledger.lane.submitTogether([pay({ from: alice, to: bob, amount: 1n })]),
  ]);
  expect(refused.map(answerOf)).toEqual(["BATCH_ABORTED", "INSUFFICIENT_FUNDS"]);
  expect(alone.map(answerOf)).toEqual(["done"]);
  expect(await transfersOf(ledger, key)).toEqual([]);
  expect(await balancesOf(ledger, [alice, bob])).toEqual([9n, 11n]);

  const done = await ledger.lane.submitTogether([first, pay({ from: alice, to: bob, amount: 5n })]);
  expect(done.map(answerOf)).toEqual(["done", "done"]);
  expect(await balancesOf(ledger, [alice, bob])).toEqual([0n, 20n]);
});

test("together, only what an earlier batch made is called a repeat", async () => {
  const [alice, bob] = await makeWallets(ledger, 2, { balance: 10n });
  const earlier = pay({ from: alice, to: bob, amount: 1n, key: randomUUID() });
  const twice = pay({ from: alice, to: bob, amount: 4n, key: randomUUID() });
  const tooMuch = pay({ from: alice, to: bob, amount: 7n });
  await ledger.lane.submit(earlier);

  const answers = await ledger.lane.submitTogether([twice, earlier, twice, tooMuch]);

  expect(answers.map(answerOf)).toEqual(["BATCH_ABORTED", "replayed", "BATCH_ABORTED", "INSUFFICIENT_FUNDS"]);
  expect(await balancesOf(ledger, [alice, bob])).toEqual([9n, 11n]);
});

test("more than one batch takes keeps its order", async () => {
  const own = await open({ batchMax: 4 });
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  own.batches.length = 0;

  const answers = await own.lane.submitEach(
    Array.from({ length: 10 }, (_, i) => pay({ from: alice, to: bob, amount: BigInt(i + 1) })),
  );

  expect(own.batches).toEqual([4, 4, 2]);
  const ids = answers.map(({ result }) => result?.value.id ?? 0n);
  expect(ids).toEqual([...ids].sort((a, b) => (a < b ? -1 : 1)));
});

test("a batch runs beside one that waits, without those that touch the same", async () => {
  // A batch runs beside another from half of the most it takes: here, one.
  const own = await open({ batchMax: 2 });
  const [alice, bob, carol, dave] = await makeWallets(own, 4, { balance: 100n });
  const holder = await stranger();
  await holder.query("select id from wallet where id = ? for update", [alice]);
  const ended: string[] = [];
  const start = async (name: string, from: bigint, to: bigint) => {
    const [answer] = await own.lane.submitEach([pay({ from, to, amount: 60n })]);
    ended.push(`${name} ${answerOf(answer as Settled<unknown>)}`);
  };

  const stuck = start("alice to bob", alice, bob);
  await untilBlocked(alice);
  const behind = [start("bob to carol", bob, carol), start("carol to dave", carol, dave)];
  await until(() => ended.length > 0);
  await sleep(200);

  expect(ended).toEqual(["carol to dave done"]);
  await holder.end();
  await Promise.all([stuck, ...behind]);
  expect(ended).toEqual(["carol to dave done", "alice to bob done", "bob to carol done"]);
  expect(await balancesOf(own, [alice, bob, carol, dave])).toEqual([40n, 100n, 100n, 160n]);
});

test("who has stayed a few times is not overtaken any more", async () => {
  const own = await open({ batchMax: 2 });
  const [alice, bob, carol, dave] = await makeWallets(own, 4, { balance: 100n });
  const holder = await stranger();
  await holder.query("select id from wallet where id = ? for update", [alice]);
  const send = (from: bigint, to: bigint) => own.lane.submitEach([pay({ from, to, amount: 1n })]);

  const stuck = send(alice, bob);
  await untilBlocked(alice);
  const patient = send(carol, bob);
  let overtaken = 0;
  let last = send(dave, carol);
  while (await Promise.race([last.then(() => true), sleep(500, false)])) {
    overtaken += 1;
    last = send(dave, carol);
  }

  expect(overtaken).toBeGreaterThan(0);
  expect(overtaken).toBeLessThan(6);
  await holder.end();
  const answers = await Promise.all([stuck, patient, last]);
  expect(answers.flat().map(answerOf)).toEqual(["done", "done", "done"]);
});

test("of thousands of commands on few wallets none is lost, whatever runs beside them", async () => {
  const own = await open({ batchMax: 8 });
  const wallets = await makeWallets(own, 40, { balance: 1_000_000n });
  const pick = () => wallets[Math.floor(Math.random() * wallets.length)] as bigint;
  const orders = Array.from({ length: 2_000 }, () => ({ from: pick(), to: pick(), amount: 1n })).filter(
    ({ from, to }) => from !== to,
  );

  const answers = await own.lane.submitEach(orders.map(pay));

  expect(answers.map(answerOf)).toEqual(fill(orders.length, "done"));
  expect(own.trouble).toEqual([]);
  const expected = wallets.map((id) =>
    orders.reduce(
      (sum, { from, to, amount }) => sum + (to === id ? amount : 0n) - (from === id ? amount : 0n),
      1_000_000n,
    ),
  );
  expect(await balancesOf(own, wallets)).toEqual(expected);
});

test("a full queue refuses at once, and takes again when there is room", async () => {
  const own = await open({ queueMax: 8 });
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const command = () => pay({ from: alice, to: bob, amount: 1n });
  const holder = await stranger();
  await holder.query("select id from wallet where id = ? for update", [alice]);

  const taken = own.lane.submitEach(Array.from({ length: 8 }, command));
  const refused = await own.lane.submitEach([command(), command()]);
  const together = await own.lane.submitTogether([command(), command()]);

  expect([...refused, ...together].map(answerOf)).toEqual(fill(4, "OVERLOADED"));
  expect(refused[0]?.error).toMatchObject({ code: Code.ResourceExhausted });
  expect(own.lane.size()).toBe(8);
  await holder.end();
  expect((await taken).map(answerOf)).toEqual(fill(8, "done"));
  expect((await own.lane.submitEach([command()])).map(answerOf)).toEqual(["done"]);
  expect(own.lane.size()).toBe(0);
});

test("a command whose caller has gone is dropped before its batch, never after", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const holder = await stranger();
  await holder.query("select id from wallet where id = ? for update", [alice]);
  const [inBatch, waiting] = [new AbortController(), new AbortController()];
  const keys = [randomUUID(), randomUUID()] as const;

  const entered = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n, key: keys[0] })], inBatch);
  await untilBlocked(alice);
  const queued = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n, key: keys[1] })], waiting);
  inBatch.abort();
  waiting.abort();
  await holder.end();

  expect((await entered).map(answerOf)).toEqual(["done"]);
  expect((await queued).map(answerOf)).toEqual(["DEADLINE_EXCEEDED"]);
  expect((await transfersOf(own, keys[0])).length).toBe(1);
  expect(await transfersOf(own, keys[1])).toEqual([]);
});

test("a lane that closes runs what waits and takes nothing more", async () => {
  const own = await openLedger(databaseUrl);
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });

  const taken = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  const closed = own.close();
  const refused = await own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  await closed;

  expect((await taken).map(answerOf)).toEqual(["done"]);
  expect(refused.map(answerOf)).toEqual(["SHUTTING_DOWN"]);
});

test("a deadlock is tried again, and nobody hears of it", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const other = await stranger();
  await other.query("select id from wallet where id = ? for update", [bob]);
  // Of two in a deadlock the server ends the one that has changed fewer rows.
  await other.query("update process_slot set owner = 'busy' where slot > 900");

  const answers = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  await untilBlocked(alice);
  await other.query("select id from wallet where id = ? for update", [alice]);
  await other.query("rollback");
  await other.end();

  expect((await answers).map(answerOf)).toEqual(["done"]);
  expect(own.trouble).toContain("retry");
  expect(await balancesOf(own, [alice, bob])).toEqual([99n, 101n]);
});

test("whoever has gone leaves the queue once, however often the others are tried again", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const other = await stranger();
  await other.query("select id from wallet where id = ? for update", [bob]);
  await other.query("update process_slot set owner = 'busy' where slot > 900");

  const gone = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })], { signal: AbortSignal.abort() });
  const answers = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  await untilBlocked(alice);
  await other.query("select id from wallet where id = ? for update", [alice]);
  await other.query("rollback");
  await other.end();

  expect((await gone).map(answerOf)).toEqual(["DEADLINE_EXCEEDED"]);
  expect((await answers).map(answerOf)).toEqual(["done"]);
  expect(own.trouble).toContain("retry");
  expect(own.lane.size()).toBe(0);
});

test("a lock that is held too long is waited for again", async () => {
  const proxy = await startProxy(databaseUrl);
  proxy.script = (sql) =>
    sql.includes("lock_wait_timeout") ? sql.replace(/(?<=lock_wait_timeout = )\d+/, "1") : undefined;
  const own = await open({ laneUrl: proxy.url });
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const holder = await stranger();
  await holder.query("select id from wallet where id = ? for update", [alice]);

  const answers = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  await until(() => own.trouble.length > 0);
  await holder.end();

  expect((await answers).map(answerOf)).toEqual(["done"]);
  expect(new Set(own.trouble)).toEqual(new Set(["retry"]));
  expect(await balancesOf(own, [alice, bob])).toEqual([99n, 101n]);
  await own.lane.close();
  await proxy.close();
});

test("events have positions without a gap, in the order of the commits, with several lanes", async () => {
  const [one, two, three] = await Promise.all([open(), open(), open()]);
  const wallets = await makeWallets(one, 12, { balance: 1_000n });
  const before = await headOf();

  const seen: bigint[] = [];
  const watch = (async () => {
    // A subscriber reads on from its position, and must never find a batch before one it has seen.
    let position = before.position;
    while (position < before.position + 300n) {
      const rows = await one.db
        .selectFrom("ledgerBatch")
        .select(["number", "lastPosition", "eventCount"])
        .where("lastPosition", ">", position)
        .where("number", "is not", null)
        .orderBy("number")
        .execute();
      for (const { lastPosition, eventCount } of rows) {
        expect(lastPosition - BigInt(eventCount)).toBe(position);
        seen.push(lastPosition);
        position = lastPosition;
      }
    }
  })();
  await Promise.all(
    [one, two, three].map(async ({ lane }, l) => {
      for (let i = 0; i < 100; i += 5) {
        const commands = Array.from({ length: 5 }, (_, j) =>
          pay({
            from: at(wallets, i + j + l),
            to: at(wallets, i + 2 * j + l + 1 + ((j + 1) % 12 === 0 ? 1 : 0)),
            amount: 1n,
          }),
        );
        const answers = await lane.submitEach(commands);
        const failed = answers.filter(({ result }) => !result).length;
        // A refused one told nothing: make up for it.
        await lane.submitEach(
          Array.from({ length: failed }, () => pay({ from: at(wallets, 0), to: at(wallets, 1), amount: 1n })),
        );
      }
    }),
  );
  await watch;

  expect((await headOf()).position).toBe(before.position + 300n);
  expect(seen.length).toBeGreaterThan(3);
});

const at = <T>(list: T[], index: number) => list[index % list.length] as T;

async function headOf() {
  return ledger.db.selectFrom("ledgerHead").selectAll().executeTakeFirstOrThrow();
}

test("the events of a batch are those of its commands, in order", async () => {
  const own = await open();
  const [alice, bob] = await makeWallets(own, 2, { balance: 100n });
  const before = await headOf();

  const answers = await own.lane.submitEach([
    pay({ from: alice, to: bob, amount: 1n }),
    pay({ from: alice, to: bob, amount: 1_000n }),
    ...Array.from({ length: 30 }, () => pay({ from: bob, to: alice, amount: 2n })),
  ]);

  const batch = await own.db
    .selectFrom("ledgerBatch")
    .selectAll()
    .where("number", "=", before.number + 1n)
    .executeTakeFirstOrThrow();
  const ids = answers.flatMap(({ result }) => (result ? [String(result.value.id)] : []));
  const events = JSON.parse(unpackEvents(batch.events)) as { kind: string; transferId: string }[];
  expect(events.map(({ transferId }) => transferId)).toEqual(ids);
  expect(batch).toMatchObject({ eventCount: 31, postingCount: 31, lastPosition: before.position + 31n });
});

test("times never run backwards in a wallet, though a process's clock is behind", async () => {
  const [ahead, behind] = await Promise.all([open(), open()]);
  const [alice, bob, carol] = await makeWallets(ahead, 3, { balance: 100n });
  const now = Date.now.bind(Date);

  const times: Date[] = [];
  for (let i = 0; i < 3; i += 1) {
    times.push((await ahead.lane.submit(pay({ from: alice, to: bob, amount: 1n }))).value.createTime);
    const slow = vi.spyOn(Date, "now").mockImplementation(() => now() - 60_000);
    times.push((await behind.lane.submit(pay({ from: bob, to: alice, amount: 1n }))).value.createTime);
    times.push((await behind.lane.submit(pay({ from: bob, to: carol, amount: 1n }))).value.createTime);
    slow.mockRestore();
  }

  expect(times).toEqual([...times].sort((a, b) => a.getTime() - b.getTime()));
});

test("ids are unique and ordered in a process, and unique across processes", async () => {
  const [one, two] = await Promise.all([open(), open()]);
  const now = Date.now.bind(Date);

  const ids = [one, two].map(({ newId }) => {
    const early = Array.from({ length: 20_000 }, newId);
    const stepsBack = vi.spyOn(Date, "now").mockImplementation(() => now() - 5_000);
    const late = Array.from({ length: 20_000 }, newId);
    stepsBack.mockRestore();
    return [...early, ...late];
  });

  for (const made of ids) expect(made.every((id, i) => i === 0 || id > (made[i - 1] ?? 0n))).toBe(true);
  expect(new Set(ids.flat()).size).toBe(80_000);
});

test("a process whose slot another one took while the database was away goes on with a new slot", async () => {
  const { db } = ledger;
  vi.useFakeTimers({ toFake: ["Date", "setInterval", "clearInterval"] });
  const ids = await leaseIds(db, () => {});
  const slotOf = (id: bigint) => Number((id >> 12n) & 1023n);
  const first = ids.newId();
  const slot = slotOf(first);

  // Two minutes without a renewal; meanwhile somebody else takes the slot.
  vi.setSystemTime(Date.now() + 120_000);
  expect(() => ids.newId()).toThrow("mysql does not answer");
  const leaseUntil = BigInt(Date.now() + 60_000);
  await db.updateTable("processSlot").set({ owner: "another", leaseUntil }).where("slot", "=", slot).execute();
  vi.advanceTimersByTime(15_000);
  await until(() => hasId(ids.newId));
  vi.useRealTimers();

  const last = ids.newId();
  expect(last).toBeGreaterThan(first);
  expect(slotOf(last)).not.toBe(slot);
  ids.close();
});

function hasId(newId: () => bigint): boolean {
  try {
    return newId() > 0n;
  } catch {
    return false;
  }
}

// What follows cuts the connection of a lane at every boundary between packets, while a batch runs.

const LOCK = /^start transaction/;
const WRITE = /ledger_head where id = 1 for update$/;
const COMMIT = /;commit$/;
const TOMBSTONE = /^insert into ledger_batch [^;]*$/;

const once = (where: RegExp, fault: Fault) => {
  let met = false;
  return (sql: string) => {
    if (met || !where.test(sql)) return undefined;
    met = true;
    return fault;
  };
};

/** A batch of three, one of them refused, whose connection meets the fault once; the answers are compared with the books. */
async function runWith(
  fault: Fault,
  where: RegExp,
  during?: (batch: { own: Ledger; alice: bigint }) => Promise<void>,
  another: (sql: string) => Fault | undefined = () => undefined,
) {
  const proxy = await startProxy(databaseUrl);
  const own = await openLedger(databaseUrl, { laneUrl: proxy.url });
  const [alice, bob] = await makeWallets(own, 2, { balance: 10n });
  const keys = [randomUUID(), randomUUID(), randomUUID()] as const;
  const commands = [
    pay({ from: alice, to: bob, amount: 1n, key: keys[0] }),
    pay({ from: alice, to: bob, amount: 100n, key: keys[1] }),
    pay({ from: bob, to: alice, amount: 3n, key: keys[2] }),
  ];
  const first = once(where, fault);
  proxy.script = (sql) => first(sql) ?? another(sql);

  const submitted = own.lane.submitEach(commands);
  await during?.({ own, alice });
  const answers = await submitted;
  const trouble = own.trouble.slice();
  await expectInBooks();
  const again = await own.lane.submitEach(commands);
  await proxy.settled();
  await expectInBooks();

  expect(answers.map(answerOf)).toEqual(["done", "INSUFFICIENT_FUNDS", "done"]);
  expect(again.map(answerOf)).toEqual(["replayed", "INSUFFICIENT_FUNDS", "replayed"]);
  expect(again.map(({ result }) => result?.value.id)).toEqual(answers.map(({ result }) => result?.value.id));
  const batches = await own.db.selectFrom("ledgerBatch").select("number").where("id", ">", bob).execute();
  await own.close();
  await proxy.close();
  const packets = proxy.answers.findLast(({ sql }) => where.test(sql))?.packets ?? 0;
  return { trouble, tombstones: batches.filter(({ number }) => number === null).length, packets };

  async function expectInBooks() {
    const stored = await Promise.all(keys.map((key) => transfersOf(own, key)));
    expect(stored.map((rows) => rows.map(({ id }) => id))).toEqual(
      answers.map(({ result }) => (result ? [result.value.id] : [])),
    );
    expect(await balancesOf(own, [alice, bob])).toEqual([12n, 8n]);
  }
}

test.for([
  ["locks", LOCK],
  ["writes", WRITE],
] as const)("a connection that is cut while the batch %s is another try", async ([, where]) => {
  const { packets } = await runWith({ cut: "before" }, where);
  const faults: Fault[] = [
    { cut: "halfway" },
    { cut: "unanswered" },
    { cut: "delayed", until: sleep(300) },
    // After each packet of the answer, or after some when it has many.
    ...Array.from({ length: packets - 1 }, (_, i) => ({ cut: "answering" as const, packets: i + 1 })).filter(
      (_, i) => packets < 20 || i % 5 === 0,
    ),
  ];

  for (const fault of faults) {
    const { trouble, tombstones } = await runWith(fault, where);
    expect({ fault, trouble, tombstones }).toEqual({ fault, trouble: ["retry"], tombstones: 0 });
  }
});

test("a commit that the server did not get leaves a tombstone and is another try", async () => {
  for (const fault of [{ cut: "before" }, { cut: "halfway" }] as const) {
    expect(await runWith(fault, COMMIT)).toMatchObject({ trouble: ["ambiguous", "retry"], tombstones: 1 });
  }
});

test("a tombstone whose own answer was lost is not taken for the commit", async () => {
  for (const lost of [{ cut: "unanswered" }, { cut: "answering", packets: 1 }] as const) {
    const { trouble, tombstones } = await runWith({ cut: "before" }, COMMIT, undefined, once(TOMBSTONE, lost));
    expect({ lost, trouble, tombstones }).toEqual({ lost, trouble: ["ambiguous", "retry"], tombstones: 1 });
  }
});

test("a commit that the server got, but whose answer was lost, is answered as done", async () => {
  // The server has rolled back when it noticed the cut before it came to the commit.
  for (const fault of [{ cut: "unanswered" }, ...[1, 2].map((packets) => ({ cut: "answering", packets }))] as Fault[]) {
    const { trouble, tombstones } = await runWith(fault, COMMIT);
    expect([`ambiguous 0`, `ambiguous,retry 1`]).toContain(`${trouble} ${tombstones}`);
  }
  expect(await runWith({ cut: "unanswered" }, COMMIT)).toMatchObject({ trouble: ["ambiguous"], tombstones: 0 });
});

test.for([
  ["writing", WRITE, ["retry"]],
  ["committing", COMMIT, ["ambiguous"]],
] as const)("a server that falls silent while it is %s is given up some time", async ([, where, trouble]) => {
  const outcome = await runWith({ cut: "silent" }, where, async ({ own }) => {
    // The batch begins when this returns to the event loop.
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    while (own.trouble.length === 0) {
      await sleep(50);
      vi.advanceTimersByTime(5_000);
    }
    vi.useRealTimers();
  });

  expect(outcome.trouble).toEqual(trouble);
});

test("a commit that is still running when the connection is lost is waited for", async () => {
  const rewrite = (sql: string) => sql.replace(/;commit$/, ";do sleep(0.7);commit");

  const outcome = await runWith({ cut: "unanswered", rewrite }, COMMIT);

  expect(outcome).toMatchObject({ trouble: ["ambiguous"], tombstones: 0 });
});

test("a commit that is killed after the connection is lost is another try", async () => {
  const rewrite = (sql: string) => sql.replace(/;commit$/, ";do sleep(60);commit");

  const outcome = await runWith({ cut: "unanswered", rewrite }, COMMIT, () =>
    until(async () => {
      const [rows] = await admin.query<mysql.RowDataPacket[]>(
        `select id from information_schema.processlist where info = 'do sleep(60)' and db = database()`,
      );
      for (const { id } of rows) await admin.query(`kill ${id}`);
      return rows.length > 0;
    }),
  );

  expect(outcome).toMatchObject({ trouble: ["ambiguous", "retry"], tombstones: 1 });
});

test("a commit that arrives after its batch was given up does nothing", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();

  const outcome = await runWith({ cut: "delayed", until: promise }, COMMIT, async ({ alice }) => {
    // The tombstone stands, and the next try waits for the locks of the first.
    await untilBlocked(alice);
    resolve();
  });

  expect(outcome).toMatchObject({ trouble: ["ambiguous", "retry"], tombstones: 1 });
});

test("while the database does not say whether a commit happened, its batch waits and others are turned away", async () => {
  const proxy = await startProxy(databaseUrl);
  const own = await open({ laneUrl: proxy.url });
  const [alice, bob] = await makeWallets(own, 2, { balance: 10n });
  const cut = once(COMMIT, { cut: "unanswered" });
  proxy.script = (sql) => {
    const fault = cut(sql);
    if (fault) proxy.refusing = true;
    return fault;
  };
  let answered = false;

  const answer = own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  void answer.then(() => (answered = true));
  await until(() => own.trouble.includes("ambiguous"));
  await proxy.settled();
  const behind = await own.lane.submitEach([pay({ from: alice, to: bob, amount: 1n })]);
  expect(behind.map(answerOf)).toEqual(["DEPENDENCY_UNAVAILABLE"]);
  expect(answered).toBe(false);
  expect(await balancesOf(own, [alice])).toEqual([9n]);
  proxy.refusing = false;

  expect((await answer).map(answerOf)).toEqual(["done"]);
  await own.lane.close();
  await proxy.close();
});

test("a repeat is known as one also when the database was away until the last try", async () => {
  const proxy = await startProxy(databaseUrl);
  const own = await open({ laneUrl: proxy.url });
  const [alice, bob] = await makeWallets(own, 2, { balance: 10n });
  const sent = pay({ from: alice, to: bob, amount: 10n, key: randomUUID() });
  await own.lane.submit(sent);
  // So much later that the lane does not expect a repeat any more.
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + 3_600_000);
  let cuts = 0;
  proxy.script = (sql) => {
    if (!LOCK.test(sql) || cuts === 5) return undefined;
    cuts += 1;
    return { cut: "before" };
  };

  const answers = await own.lane.submitEach([sent]);
  clock.mockRestore();

  expect(cuts).toBe(5);
  expect(answers.map(answerOf)).toEqual(["replayed"]);
  expect(await balancesOf(own, [alice, bob])).toEqual([0n, 20n]);
  await own.lane.close();
  await proxy.close();
});

test("a database that is away is answered as such, and the same key works when it is back", async () => {
  const proxy = await startProxy(databaseUrl);
  const own = await open({ laneUrl: proxy.url });
  const [alice, bob] = await makeWallets(own, 2, { balance: 10n });
  const command = pay({ from: alice, to: bob, amount: 1n, key: randomUUID() });
  const cut = once(WRITE, { cut: "before" });
  proxy.script = (sql) => {
    const fault = cut(sql);
    if (fault) proxy.refusing = true;
    return fault;
  };

  const [away] = await own.lane.submitEach([command]);
  proxy.refusing = false;
  const back = await own.lane.submitEach([command, command]);

  expect(away?.error).toMatchObject({ code: Code.Unavailable });
  expect(back.map(answerOf)).toEqual(["done", "replayed"]);
  expect(await balancesOf(own, [alice, bob])).toEqual([9n, 11n]);
  await own.lane.close();
  await proxy.close();
});
