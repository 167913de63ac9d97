import { randomBytes, randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { addressOf } from "../src/account/address.ts";
import { hashPassword, verifyPassword } from "../src/account/passwords.ts";
import { readConfig } from "../src/config.ts";
import {
  balanceOf,
  differencesIn,
  openPartner,
  openWallet,
  type Person,
  personAt,
  proveAddress,
  signUp,
} from "./support/people.ts";
import { errorOf, outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer, testEnvironment } from "./support/server.ts";

// Two servers, as two processes would be, that ask for the PIN above 1,000 won.

const ABOVE = 1_000n;
const PIN = "135790";
const WRONG = "246801";
const INT64_MAX = 2n ** 63n - 1n;

const databaseUrl = await makeDatabase();
const settings = {
  DATABASE_URL: databaseUrl,
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
};
let server: TestServer;
let other: TestServer;

beforeAll(async () => {
  server = await startServer({ ...settings, CHATPAY_PIN_ABOVE: String(ABOVE) });
  other = await startServer({ ...settings, CHATPAY_PIN_ABOVE: String(ABOVE) });
});

afterAll(async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
  await Promise.all([server.stop(), other.stop()]);
});

type Member = Awaited<ReturnType<typeof signUp>>;

/** Sets the PIN as a person does, with a code from the inbox. */
async function setPin({ accounts, email }: Member, pin: string) {
  const code = await proveAddress(server, email, CodePurpose.SET_PIN);
  await accounts.setPin({ email, code, pin });
}

/** The next code may be sent at once, as if a minute had passed. */
async function letTimePass({ email }: Member) {
  const { key } = addressOf(server.app.config.hashSecret, { email, phone: "" });
  await server.app.redis.del(`chatpay:code:${CodePurpose.SET_PIN}:${key.toString("hex")}`);
}

async function openMember(options: { balance?: bigint; pin?: string } = {}): Promise<Member> {
  const member = await signUp(server, options);
  if (options.pin !== undefined) await setPin(member, options.pin);
  return member;
}

const order = (to: { walletId: string }, amount: bigint, idempotencyKey = randomUUID() as string) => ({
  idempotencyKey,
  recipientWalletId: to.walletId,
  amount,
});

const send = (from: Pick<Person, "transfers">, to: { walletId: string }, amount: bigint, pin = "") =>
  from.transfers.sendTransfer({ ...order(to, amount), pin });

/** The reason of a refusal with its metadata. */
async function detailOf(answer: Promise<unknown>) {
  const [info] = (await errorOf(answer)).findDetails(ErrorInfoSchema);
  return { reason: info?.reason, ...info?.metadata };
}

const triesOf = async ({ accountId }: Pick<Person, "accountId">) =>
  (await server.app.db.selectFrom("account").select("pinTries").where("id", "=", accountId).executeTakeFirstOrThrow())
    .pinTries;

const REQUIRED = { reason: Reason.PIN_REQUIRED, above: String(ABOVE) };
const LOCKED = { code: Code.FailedPrecondition, reason: Reason.PIN_LOCKED };

test("A9: amounts above the limit need the PIN: transfers, batches and payments", async () => {
  const alice = await openMember({ balance: 100_000n, pin: PIN });
  const bob = await openWallet(server);
  const shop = await openPartner(server);
  const pay = (amount: bigint, pin: string) =>
    alice.payments.approvePayment({ partnerId: shop.partnerId, orderKey: randomUUID(), amount, pin });
  const batch = (amounts: bigint[], pin: string) =>
    alice.transfers.batchSendTransfers({ transfers: amounts.map((amount) => order(bob, amount)), pin });

  const refused = await Promise.all(
    [
      send(alice, bob, ABOVE + 1n),
      pay(ABOVE + 1n, ""),
      batch([ABOVE, 1n], ""),
      alice.transfers.batchSendTransfers({ transfers: [{ ...order(bob, ABOVE + 1n), pin: PIN }] }),
    ].map(detailOf),
  );
  expect(refused).toEqual([REQUIRED, REQUIRED, REQUIRED, REQUIRED]);
  expect(await balanceOf(alice)).toBe(100_000n);

  await send(alice, bob, ABOVE);
  await pay(ABOVE, "");
  await batch([ABOVE - 1n, 1n], "");
  await send(alice, bob, ABOVE + 1n, PIN);
  await pay(ABOVE + 2n, PIN);
  await batch([ABOVE, 3n], PIN);
  expect(await balanceOf(alice)).toBe(100_000n - 6n * ABOVE - 6n);
});

test("A9: a gift needs the PIN as a transfer does, and accepting one needs none", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openMember();
  const gift = order(bob, ABOVE + 1n);
  const given = (pin: string) => alice.transfers.sendGift({ ...gift, pin });

  expect((await detailOf(given(""))).reason).toBe(Reason.PIN_REQUIRED);
  expect((await detailOf(given(WRONG))).reason).toBe(Reason.PIN_WRONG);
  const { transfer } = await given(PIN);
  // What was given under the key before needs none.
  expect((await given("")).transfer).toEqual(transfer);
  await bob.transfers.acceptGift({ transferId: transfer?.id ?? "" });
  await alice.transfers.sendGift(order(bob, ABOVE));

  expect(await balanceOf(bob)).toBe(ABOVE + 1n);
});

test("A9: whoever has no PIN is told so, with the amount that goes without", async () => {
  const alice = await openMember({ balance: 5_000n });
  const bob = await openWallet(server);

  expect(await detailOf(send(alice, bob, 2_000n))).toEqual(REQUIRED);
  expect(await detailOf(send(alice, bob, 2_000n, PIN))).toEqual(REQUIRED);
  expect((await alice.accounts.getAccount({})).account?.hasPin).toBe(false);
});

test("A9: a chat server that acts for somebody needs their PIN as well", async () => {
  const alice = await openMember({ balance: 5_000n, pin: PIN });
  const bob = await openWallet(server);
  const acting = server.client(TransferService, { bearer: server.keys.service, accountId: alice.accountId });

  expect(await detailOf(send({ transfers: acting }, bob, 2_000n))).toEqual(REQUIRED);
  await send({ transfers: acting }, bob, 2_000n, PIN);

  expect(await balanceOf(alice)).toBe(3_000n);
});

test("A9: five wrong PINs in a row lock it, in every process, and the right one is refused then", async () => {
  const alice = await openMember({ balance: 5_000n, pin: PIN });
  const bob = await openWallet(server);
  const elsewhere = personAt(other, alice);

  const wrong = [];
  for (let i = 0; i < 5; i += 1) wrong.push(await detailOf(send(i % 2 === 0 ? alice : elsewhere, bob, 2_000n, WRONG)));
  const locked = await Promise.all([alice, elsewhere].map((at) => refusalOf(send(at, bob, 2_000n, PIN))));

  expect(wrong).toEqual(["4", "3", "2", "1", "0"].map((left) => ({ reason: Reason.PIN_WRONG, tries_left: left })));
  expect(locked).toEqual([LOCKED, LOCKED]);
  expect(await balanceOf(alice)).toBe(5_000n);
  await send(alice, bob, ABOVE);
  expect(await balanceOf(alice)).toBe(4_000n);
});

test("A9: the right PIN forgets what was wrong before", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openWallet(server);

  for (let round = 0; round < 3; round += 1) {
    for (let i = 0; i < 4; i += 1)
      expect((await detailOf(send(alice, bob, 2_000n, WRONG))).reason).toBe(Reason.PIN_WRONG);
    await send(alice, bob, 2_000n, PIN);
    expect(await triesOf(alice)).toBe(0);
  }

  expect(await balanceOf(alice)).toBe(50_000n - 6_000n);
});

test("A9: of twenty guesses at once at two servers five are judged, whatever they pay for", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openWallet(server);
  const shop = await openPartner(server);
  const elsewhere = personAt(other, alice);

  const guesses = Array.from({ length: 20 }, (_, i) => {
    const at = i % 2 === 0 ? alice : elsewhere;
    const pin = String(200_000 + 7 * i);
    if (i % 3 === 0) return send(at, bob, 2_000n, pin);
    if (i % 3 === 1)
      return at.transfers.batchSendTransfers({ transfers: [order(bob, 2_000n), order(bob, 2_000n)], pin });
    return at.payments.approvePayment({ partnerId: shop.partnerId, orderKey: randomUUID(), amount: 2_000n, pin });
  });
  const outcomes = await Promise.all(guesses.map(outcomeOf));

  expect(outcomes.filter((outcome) => outcome === "PermissionDenied PIN_WRONG")).toHaveLength(5);
  expect(outcomes.filter((outcome) => outcome === "FailedPrecondition PIN_LOCKED")).toHaveLength(15);
  expect(await triesOf(alice)).toBe(5);
  expect(await balanceOf(alice)).toBe(50_000n);
});

test("A9: whoever pays many times at once with the right PIN is not locked out", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openWallet(server);

  await Promise.all(Array.from({ length: 20 }, () => send(alice, bob, 2_000n, PIN)));

  expect(await balanceOf(alice)).toBe(10_000n);
  expect(await triesOf(alice)).toBe(0);
});

test("A9: a new PIN, set with a code, unlocks; the one before is wrong then", async () => {
  const alice = await openMember({ balance: 5_000n, pin: PIN });
  const bob = await openWallet(server);
  for (let i = 0; i < 5; i += 1) await errorOf(send(alice, bob, 2_000n, WRONG));
  await letTimePass(alice);

  await setPin(alice, "864209");

  expect(await detailOf(send(alice, bob, 2_000n, PIN))).toEqual({ reason: Reason.PIN_WRONG, tries_left: "4" });
  await send(alice, bob, 2_000n, "864209");
  expect(await balanceOf(alice)).toBe(3_000n);
  expect((await alice.accounts.getAccount({})).account?.hasPin).toBe(true);
});

test("A9: a PIN of one digit or of digits in a row is refused, and costs no code", async () => {
  const alice = await openMember({ balance: 5_000n });
  const { email } = alice;
  const bob = await openWallet(server);
  const code = await proveAddress(server, email, CodePurpose.SET_PIN);
  const refused = { code: Code.InvalidArgument, reason: Reason.PIN_TOO_SIMPLE };

  for (const pin of ["000000", "777777", "012345", "123456", "456789", "654321", "987654", "543210"]) {
    expect(await refusalOf(alice.accounts.setPin({ email, code, pin })), pin).toEqual(refused);
  }
  for (const pin of ["12345", "1234567", "abcdef", "", "１２３４５７"]) {
    expect((await refusalOf(alice.accounts.setPin({ email, code, pin }))).reason, pin).toBe(Reason.REQUEST_INVALID);
  }
  await alice.accounts.setPin({ email, code, pin: "123457" });

  await send(alice, bob, 2_000n, "123457");
  expect(await balanceOf(alice)).toBe(3_000n);
});

test("A9: a PIN is set with a code that was sent to an address of the account, once", async () => {
  const [alice, mallory] = await Promise.all([openMember({ balance: 5_000n }), openMember()]);
  const invalid = { code: Code.InvalidArgument, reason: Reason.CODE_INVALID };
  const code = await proveAddress(server, mallory.email, CodePurpose.SET_PIN);

  // Mallory reads their own mail, and wants to set the PIN in Alice's session.
  expect(await refusalOf(alice.accounts.setPin({ email: mallory.email, code, pin: PIN }))).toEqual(invalid);
  expect(await refusalOf(alice.accounts.setPin({ email: alice.email, code, pin: PIN }))).toEqual(invalid);
  await mallory.accounts.setPin({ email: mallory.email, code, pin: PIN });
  expect(await refusalOf(mallory.accounts.setPin({ email: mallory.email, code, pin: "975310" }))).toEqual(invalid);

  expect((await alice.accounts.getAccount({})).account?.hasPin).toBe(false);
  const acting = server.client(AccountService, { bearer: server.keys.service, accountId: alice.accountId });
  expect((await refusalOf(acting.setPin({ email: alice.email, code, pin: PIN }))).reason).toBe(
    Reason.CALLER_NOT_ALLOWED,
  );
});

test("A9: a repeat finds its answer without a PIN and costs no try, even when the PIN is locked", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openWallet(server);
  const shop = await openPartner(server);
  const one = order(bob, 2_000n);
  const many = { transfers: [order(bob, 2_000n), order(bob, 3_000n)], atomic: true };
  const payment = { partnerId: shop.partnerId, orderKey: randomUUID(), amount: 2_000n };
  const { transfer } = await alice.transfers.sendTransfer({ ...one, pin: PIN });
  await alice.transfers.batchSendTransfers({ ...many, pin: PIN });
  await alice.payments.approvePayment({ ...payment, pin: PIN });
  for (let i = 0; i < 5; i += 1) await errorOf(send(alice, bob, 2_000n, WRONG));

  for (const pin of ["", WRONG, PIN]) {
    expect((await alice.transfers.sendTransfer({ ...one, pin })).transfer).toEqual(transfer);
    const { results } = await alice.transfers.batchSendTransfers({ ...many, pin });
    expect(results.map(({ replayed, outcome }) => [replayed, outcome.case])).toEqual([
      [true, "transfer"],
      [true, "transfer"],
    ]);
    expect((await refusalOf(alice.payments.approvePayment({ ...payment, pin }))).reason).toBe(Reason.PAYMENT_EXISTS);
  }
  // The key of another request moves nothing either.
  expect((await refusalOf(alice.transfers.sendTransfer({ ...one, amount: 9_000n }))).reason).toBe(
    Reason.IDEMPOTENCY_KEY_REUSED,
  );

  expect(await triesOf(alice)).toBe(5);
  expect(await balanceOf(alice)).toBe(50_000n - 9_000n);
});

test("A9: of a batch that happened in part, the rest counts", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openWallet(server);
  const done = order(bob, 5_000n);
  await alice.transfers.sendTransfer({ ...done, pin: PIN });
  const batch = (...amounts: bigint[]) =>
    alice.transfers.batchSendTransfers({ transfers: [done, ...amounts.map((amount) => order(bob, amount))] });

  expect(await detailOf(batch(ABOVE, 1n))).toEqual(REQUIRED);
  await batch(ABOVE - 1n, 1n);

  expect(await balanceOf(alice)).toBe(50_000n - 5_000n - ABOVE);
});

test("A9: a batch is judged by its exact sum, however large, and a wrong PIN costs it one try", async () => {
  const alice = await openMember({ balance: 5_000n, pin: PIN });
  const bob = await openWallet(server);
  const huge = Array.from({ length: 3 }, () => order(bob, INT64_MAX));
  const small = Array.from({ length: 1_000 }, () => order(bob, 2n));

  for (const transfers of [huge, small]) {
    expect(await detailOf(alice.transfers.batchSendTransfers({ transfers }))).toEqual(REQUIRED);
    expect((await detailOf(alice.transfers.batchSendTransfers({ transfers, pin: WRONG }))).reason).toBe(
      Reason.PIN_WRONG,
    );
  }

  expect(await triesOf(alice)).toBe(2);
  await alice.transfers.batchSendTransfers({ transfers: small, pin: PIN });
  expect(await balanceOf(alice)).toBe(3_000n);
});

test("A9: a try that could not be judged does not count", async () => {
  const alice = await openMember({ balance: 50_000n, pin: PIN });
  const bob = await openWallet(server);
  let isBusy = true;
  const others = Array.from({ length: 130 }, async () => {
    while (isBusy) await hashPassword("somebody else's", "pin").catch(() => setImmediate());
  });

  // Now and then there is room for one.
  let outcome = "OK";
  for (let i = 0; outcome === "OK" && i < 20; i += 1) outcome = await outcomeOf(send(alice, bob, 2_000n, PIN));

  isBusy = false;
  await Promise.all(others);
  expect(outcome).toBe("ResourceExhausted OVERLOADED");
  expect(await triesOf(alice)).toBe(0);
});

test("A9: whoever pays does not wait behind strangers who sign in", async () => {
  const alice = await openMember({ balance: 5_000n, pin: PIN });
  const bob = await openWallet(server);
  // As many as may wait, and one that runs on the smallest machine.
  let signingIn = 101;
  const strangers = Array.from({ length: signingIn }, async () => {
    await hashPassword("a stranger's");
    signingIn -= 1;
  });

  const outcome = await outcomeOf(send(alice, bob, 2_000n, PIN));
  const stillSigningIn = signingIn;

  await Promise.all(strangers);
  expect(outcome).toBe("OK");
  expect(stillSigningIn).toBeGreaterThan(0);
});

test("A9: the stored hash alone is not enough to find the PIN", async () => {
  const alice = await openMember({ pin: PIN });
  const { pinHash } = await server.app.db
    .selectFrom("account")
    .select("pinHash")
    .where("id", "=", alice.accountId)
    .executeTakeFirstOrThrow();

  expect(pinHash).toMatch(/^\$argon2id\$/);
  expect(await verifyPassword(PIN, pinHash)).toBe(false);
});

test("A9: without a limit nobody is asked, and with 0 every payment is", async () => {
  const [never, always] = await Promise.all([
    startServer(settings),
    startServer({ ...settings, CHATPAY_PIN_ABOVE: "0" }),
  ]);
  const alice = await openMember({ balance: 5_000n, pin: PIN });
  const bob = await openWallet(server);

  await send(personAt(never, alice), bob, 4_000n);
  await send(personAt(never, alice), bob, 1n, WRONG);
  const refused = detailOf(send(personAt(always, alice), bob, 1n));
  expect(await refused).toEqual({ reason: Reason.PIN_REQUIRED, above: "0" });
  await send(personAt(always, alice), bob, 1n, PIN);

  expect(await balanceOf(alice)).toBe(998n);
  expect(await triesOf(alice)).toBe(0);
  await Promise.all([never.stop(), always.stop()]);
});

test("A9: the limit is an amount in won", () => {
  const limitOf = (text: string) =>
    readConfig({ ...testEnvironment(databaseUrl, 25), CHATPAY_PIN_ABOVE: text }).pinAbove;

  expect(["", "0", "300000"].map(limitOf)).toEqual([undefined, 0n, 300_000n]);
  for (const text of ["-1", "1.5", "1e6", "300,000", "none"]) {
    expect(() => limitOf(text), text).toThrow("CHATPAY_PIN_ABOVE: must be an amount in won");
  }
});
