import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeEach, expect, test } from "vitest";
import { LiveBalance_Status } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { kftcSettings } from "../sandbox/kftc/server.ts";
import { type LinkedBank, linkBank } from "./support/banks.ts";
import { balanceOf, openWallet, type Person, personAt } from "./support/people.ts";
import { startRelay } from "./support/relay.ts";
import { errorOf, outcomeOf } from "./support/rpcs.ts";
import { makeDatabase, redisUrl, startServer, type TestServer } from "./support/server.ts";

// Several servers, as several processes would be, and one centre, which counts how often it is asked for a token.

const settings = {
  DATABASE_URL: await makeDatabase(),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
};
const server = await startServer(settings);
const { kftc } = server;
const { db } = server.app;
const beside = { ...settings, ...kftcSettings(kftc.url) };
const other = await startServer(beside);
afterAll(() => Promise.all([server.stop(), other.stop()]));

const HOUR_MS = 60 * 60_000;
const fromNow = (ms: number) => new Date(Date.now() + ms);

/** No test leaves faults to the next. */
beforeEach(async () => {
  await kftc.clearFaults();
});

/** From now on, how often the centre is asked for a token. */
async function countTokens({ ms = 0 } = {}) {
  const { id } = await kftc.script({ call: "token", kind: "delay", ms, times: 10_000 });
  return async () => (await kftc.listFaults()).find((fault) => fault.id === id)?.used;
}

/** Another process on the same database, for as long as it is needed. */
async function withServer(environment: NodeJS.ProcessEnv, use: (own: TestServer) => Promise<void>) {
  const own = await startServer({ ...beside, ...environment });
  try {
    await use(own);
  } finally {
    await own.stop();
  }
}

async function newcomer(balance = 0n) {
  const person = await openWallet(server, { balance });
  return { ...person, bank: await linkBank(server, person) };
}

const withdraw = ({ banks }: Pick<Person, "banks">, { bankAccount }: LinkedBank, amount = 100n) =>
  banks.withdraw({ idempotencyKey: randomUUID(), bankAccountId: bankAccount.id, amount });
const topUp = ({ banks }: Pick<Person, "banks">, { bankAccount }: LinkedBank, amount = 100n) =>
  banks.topUp({ idempotencyKey: randomUUID(), bankAccountId: bankAccount.id, amount });
const statusOf = async ({ banks }: Pick<Person, "banks">) =>
  (await banks.listBankAccounts({ withBalances: true })).bankAccounts[0]?.liveBalance?.status;

const ownToken = () => db.selectFrom("bankInstitutionToken").selectAll().executeTakeFirst();
const grantOf = ({ accountId }: Pick<Person, "accountId">) =>
  db.selectFrom("bankGrant").selectAll().where("accountId", "=", accountId).executeTakeFirstOrThrow();

/** As if the token of ours were to end then. Processes that have it in memory do not see it. */
const ageOwn = (expireTime: Date) => db.updateTable("bankInstitutionToken").set({ expireTime }).execute();
const ageGrant = ({ accountId }: Pick<Person, "accountId">, expireTime: Date) =>
  db.updateTable("bankGrant").set({ expireTime }).where("accountId", "=", accountId).execute();

// Our own token

test("B2: a token of ours is asked for once, by all processes together, and outlives them", async () => {
  const alice = await newcomer(100_000n);
  await db.deleteFrom("bankInstitutionToken").execute();
  const asked = await countTokens({ ms: 100 });

  await withServer({}, async (one) => {
    await withServer({}, async (two) => {
      const doors = [personAt(one, alice), personAt(two, alice)];
      await Promise.all(Array.from({ length: 10 }, (_, i) => withdraw(doors[i % 2] as Person, alice.bank)));
      await Promise.all(doors.map((door) => withdraw(door, alice.bank)));
    });
  });
  await withServer({}, async (later) => void (await withdraw(personAt(later, alice), alice.bank)));

  expect(await asked()).toBe(1);
  expect(await ownToken()).toMatchObject({ version: 1n });
  expect(await balanceOf(alice)).toBe(100_000n - 13n * 100n);
});

test("B2: a token of ours is renewed a day before it ends", async () => {
  const alice = await newcomer(100_000n);
  await withdraw(alice, alice.bank);
  const asked = await countTokens();

  await ageOwn(fromNow(25 * HOUR_MS));
  await withServer({}, async (own) => void (await withdraw(personAt(own, alice), alice.bank)));
  expect(await asked()).toBe(0);
  await ageOwn(fromNow(23 * HOUR_MS));
  await withServer({}, async (own) => {
    for (let i = 0; i < 3; i += 1) await withdraw(personAt(own, alice), alice.bank);
  });

  expect(await asked()).toBe(1);
  expect((await ownToken())?.expireTime.getTime()).toBeGreaterThan(fromNow(80 * 24 * HOUR_MS).getTime());
});

test("B2: while no new token of ours is to be had, the one that ends soon is used, and one that has ended is not", async () => {
  const alice = await newcomer(100_000n);
  await withdraw(alice, alice.bank);
  await kftc.script({ call: "token", kind: "status", status: 503, at: "before", times: 100 });

  await ageOwn(fromNow(HOUR_MS));
  await withServer({}, async (own) => void (await withdraw(personAt(own, alice), alice.bank)));
  await ageOwn(fromNow(-1_000));
  await withServer({}, async (own) => {
    const refused = await errorOf(withdraw(personAt(own, alice), alice.bank));
    expect(refused.rawMessage).toMatch(/could not be reached/);
  });

  expect(await balanceOf(alice)).toBe(100_000n - 200n);
});

test("B2: a token of ours that is refused is renewed once, and the call made once more, and not again", async () => {
  const alice = await newcomer(100_000n);
  await withdraw(alice, alice.bank);
  const before = await ownToken();
  const asked = await countTokens();

  await kftc.script({ call: "deposit", kind: "token", code: "O0003" });
  await withdraw(alice, alice.bank);
  expect(await asked()).toBe(1);
  expect(await ownToken()).toMatchObject({ version: (before?.version ?? 0n) + 1n });

  await kftc.script({ call: "deposit", kind: "token", times: 3 });
  const refused = await errorOf(withdraw(alice, alice.bank));
  // No consent of the person's stands behind it, so none is over.
  expect(refused.rawMessage).toMatch(/could not be reached/);
  expect(await asked()).toBe(2);
  expect((await kftc.listFaults()).map(({ call, left }) => [call, left])).toContainEqual(["deposit", 1]);
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 100_000n - 200n, held: 0n });
  await kftc.clearFaults();
  // What another process has renewed is known to be newer than what was refused here.
  await kftc.changeTokens("revoke", "");
  await withdraw(personAt(other, alice), alice.bank);
  await withdraw(alice, alice.bank);
});

// What people let us do

test("B2: a person's token that has ended is renewed once, however many calls meet it in however many processes", async () => {
  const alice = await newcomer();
  const asked = await countTokens({ ms: 200 });
  const doors = [alice, personAt(other, alice)];
  const { version } = await grantOf(alice);

  await kftc.changeTokens("expire", (await grantOf(alice)).userSeqNo);
  const statuses = await Promise.all(Array.from({ length: 12 }, (_, i) => statusOf(doors[i % 2] as Person)));

  expect(new Set(statuses)).toEqual(new Set([LiveBalance_Status.OK]));
  expect(await asked()).toBe(1);
  expect((await grantOf(alice)).version).toBe(version + 1n);
  await ageGrant(alice, fromNow(23 * HOUR_MS));
  await topUp(alice, alice.bank);
  expect(await asked()).toBe(2);
  expect((await grantOf(alice)).expireTime.getTime()).toBeGreaterThan(fromNow(80 * 24 * HOUR_MS).getTime());
});

test("B2: without Redis two processes may renew at once; one does, and the other takes what it got", async () => {
  const alice = await newcomer();
  const relay = await startRelay(redisUrl());
  const away = { REDIS_URL: relay.url };
  await withServer(away, async (one) => {
    await withServer(away, async (two) => {
      relay.cut();
      for (let round = 0; round < 3; round += 1) {
        const { version, userSeqNo } = await grantOf(alice);
        const asked = await countTokens({ ms: 300 });
        await kftc.changeTokens("expire", userSeqNo);

        const outcomes = await Promise.all([one, two].map((at) => outcomeOf(topUp(personAt(at, alice), alice.bank))));

        expect(outcomes).toEqual(["OK", "OK"]);
        expect(await asked()).toBeGreaterThanOrEqual(1);
        expect((await grantOf(alice)).version).toBe(version + 1n);
        await kftc.clearFaults();
      }
    });
  });
  await relay.close();
  expect(await balanceOf(alice)).toBe(600n);
});

test("B2: a refresh token that is refused ends the consent, in the same words for what is drawn and what is asked", async () => {
  const alice = await newcomer(1_000n);
  const bob = await openWallet(server);
  await alice.banks.updateBankAccount({ bankAccountId: alice.bank.bankAccount.id, automaticTopUp: true });
  await kftc.changeTokens("revoke", (await grantOf(alice)).userSeqNo);

  expect(await statusOf(alice)).toBe(LiveBalance_Status.CONSENT_MISSING);
  const drawn = await errorOf(topUp(alice, alice.bank));
  expect(drawn.rawMessage).toMatch(/consent .* is over; link it again/);
  const sent = await errorOf(
    alice.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 2_000n }),
  );
  expect(sent.rawMessage).toBe(drawn.rawMessage);
  // What goes out needs no consent.
  await withdraw(alice, alice.bank);
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 900n, held: 0n });

  await linkBank(server, alice, { citizen: alice.bank.citizen });
  expect(await statusOf(alice)).toBe(LiveBalance_Status.OK);
});

test("B2: while the desk for tokens is away, nothing is taken for over", async () => {
  const alice = await newcomer();
  await kftc.changeTokens("expire", (await grantOf(alice)).userSeqNo);
  await kftc.script({ call: "token", kind: "status", status: 502, at: "before", times: 2 });

  expect(await statusOf(alice)).toBe(LiveBalance_Status.UNAVAILABLE);
  expect((await errorOf(topUp(alice, alice.bank))).rawMessage).toMatch(/could not be reached/);

  expect(await statusOf(alice)).toBe(LiveBalance_Status.OK);
  await topUp(alice, alice.bank);
});
