import { randomBytes, randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import {
  type MoneyRequest,
  MoneyRequest_Part_State as PartState,
  MoneyRequest_Part_StateSchema,
  MoneyRequest_State as State,
} from "../gen/chatpay/transfer/v1/request_pb.ts";
import { Entry_Cause } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { closeAccount } from "../src/account/closing.ts";
import { equalParts } from "../src/request/request.ts";
import { linkBank } from "./support/banks.ts";
import { chooseSeed } from "./support/load.ts";
import {
  balanceOf,
  differencesIn,
  eventsOf,
  NO_GIFTS,
  openWallet,
  openWallets,
  type Person,
  personAt,
  proveAddress,
  signUp,
} from "./support/people.ts";
import { errorOf, outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";

// Two servers, as two processes would be, that ask for the PIN above 50,000 won and send no more than 100,000 at once.

const databaseUrl = await makeDatabase();
const settings = {
  DATABASE_URL: databaseUrl,
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_PIN_ABOVE: "50000",
  CHATPAY_TIERS: JSON.stringify({ standard: { sendOnce: 100_000 } }),
};
let server: TestServer;
let other: TestServer;

beforeAll(async () => {
  server = await startServer(settings);
  other = await startServer(settings);
});

afterAll(async () => {
  expect(await countsThatDiffer()).toEqual([]);
  expect(await differencesIn(databaseUrl)).toEqual([]);
  await Promise.all([server.stop(), other.stop()]);
});

/** Requests whose counts are not those of their parts, and people of whom more or fewer are counted than are open. */
async function countsThatDiffer() {
  const { db } = server.app;
  const requests = await db.selectFrom("moneyRequest").selectAll().execute();
  const parts = await db.selectFrom("moneyRequestPart").selectAll().execute();
  const allowances = await db.selectFrom("allowance").selectAll().execute();
  const wrong = requests.filter((request) => {
    const own = parts.filter(({ requestId }) => requestId === request.id);
    const paid = own.filter(({ state }) => state === PartState.PAID);
    const paidAmount = paid.reduce((sum, { amount }) => sum + amount, 0n);
    const open = own.filter(({ state }) => state === PartState.OPEN).length;
    const isRight =
      request.parts === own.length &&
      request.openParts === open &&
      request.paidParts === paid.length &&
      request.paidAmount === paidAmount &&
      (request.state === State.OPEN) === open > 0 &&
      (request.dueTime === null) === (open === 0) &&
      paid.every(({ transferId }) => transferId !== null);
    return !isRight;
  });
  const miscounted = allowances.filter(
    ({ id, requests: counted }) =>
      requests.filter((row) => row.requesterWalletId === id && row.state === State.OPEN).length !== counted,
  );
  return [...wrong, ...miscounted];
}

type Asker = Pick<Person, "requests">;
type Asked = Pick<Person, "walletId">;

/** Asks everybody for the same, or for what is said. */
const ask = async ({ requests }: Asker, payers: Asked[], amounts: bigint | bigint[] = 1_000n, more = {}) => {
  const parts = payers.map(({ walletId: payerWalletId }, i) => ({
    payerWalletId,
    amount: typeof amounts === "bigint" ? amounts : (amounts[i] ?? 0n),
  }));
  const { request } = await requests.createRequest({ idempotencyKey: randomUUID(), parts, ...more });
  return request as MoneyRequest;
};

const split = async ({ requests }: Asker, payers: Asked[], total: bigint, more = {}) => {
  const payerWalletIds = payers.map(({ walletId }) => walletId);
  const order = { idempotencyKey: randomUUID(), total, payerWalletIds, ...more };
  return (await requests.splitBill(order)).request as MoneyRequest;
};

const pay = ({ requests }: Asker, { id: requestId }: MoneyRequest, pin = "") => requests.payRequest({ requestId, pin });
const decline = ({ requests }: Asker, { id: requestId }: MoneyRequest) => requests.declineRequest({ requestId });
const cancel = ({ requests }: Asker, { id: requestId }: MoneyRequest) => requests.cancelRequest({ requestId });
const remind = ({ requests }: Asker, { id: requestId }: MoneyRequest) => requests.remindRequest({ requestId });
const look = async ({ requests }: Asker, { id: requestId }: MoneyRequest) =>
  (await requests.getRequest({ requestId })).request as MoneyRequest;

const statesOf = ({ parts }: MoneyRequest) =>
  parts.map(({ state }) => MoneyRequest_Part_StateSchema.value[state]?.localName);

/** What a request that has ended says to whoever comes too late. */
async function endedAs(answer: Promise<unknown>) {
  const [info] = (await errorOf(answer)).findDetails(ErrorInfoSchema);
  return info?.reason === Reason.MONEY_REQUEST_ENDED ? info.metadata.state : `refused otherwise: ${info?.reason}`;
}

/** What the log tells an account of requests, without what is of each. */
const toldOf = async ({ accountId }: Pick<Person, "accountId">) =>
  (await eventsOf(server, accountId)).filter(({ kind }) => kind.startsWith("request."));

const crowd = (count: number, balance = 10_000n) => openWallets(server, count, { balance });

test("T5: everybody who is asked pays their part, and the requester sees who has", async () => {
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];

  const request = await ask(alice, [bob, carol], [3_000n, 4_000n], { memo: "dinner" });
  expect(request).toMatchObject({
    requesterWalletId: alice.walletId,
    amount: 7_000n,
    paidAmount: 0n,
    ownAmount: 0n,
    currency: "KRW",
    memo: "dinner",
    state: State.OPEN,
    partCount: 2,
    openPartCount: 2,
    paidPartCount: 0,
  });
  expect(request.parts.map(({ payerWalletId, amount, state }) => [payerWalletId, amount, state])).toEqual([
    [bob.walletId, 3_000n, PartState.OPEN],
    [carol.walletId, 4_000n, PartState.OPEN],
  ]);
  await pay(carol, request);
  expect(await look(alice, request)).toMatchObject({ state: State.OPEN, paidAmount: 4_000n, openPartCount: 1 });
  await pay(bob, request);

  const ended = await look(alice, request);
  expect(ended).toMatchObject({ state: State.COMPLETED, paidAmount: 7_000n, openPartCount: 0, paidPartCount: 2 });
  expect(statesOf(ended)).toEqual(["PAID", "PAID"]);
  const { transfer } = await bob.transfers.getTransfer({ transferId: ended.parts[0]?.transferId });
  expect(transfer).toMatchObject({
    senderWalletId: bob.walletId,
    recipientWalletId: alice.walletId,
    amount: 3_000n,
    memo: "dinner",
  });
  const { entries } = await alice.wallets.listEntries({ pageSize: 2 });
  expect(entries.map(({ amount, cause, memo }) => [amount, cause, memo])).toEqual([
    [3_000n, Entry_Cause.TRANSFER, "dinner"],
    [4_000n, Entry_Cause.TRANSFER, "dinner"],
  ]);
  expect([await balanceOf(alice), await balanceOf(bob), await balanceOf(carol)]).toEqual([17_000n, 7_000n, 6_000n]);
});

test("T5: the log tells of a request, of each part, and of its end, with the money", async () => {
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const request = await ask(alice, [bob, carol], 1_000n, { memo: "tea" });
  await remind(alice, request);
  await pay(bob, request);
  await pay(carol, request);

  const told = await toldOf(alice);
  expect(told.map(({ kind, accounts, paidAmount, openParts }) => [kind, accounts, paidAmount, openParts])).toEqual([
    ["request.created", [alice, bob, carol].map(({ accountId }) => String(accountId)), undefined, undefined],
    ["request.reminded", [alice, bob, carol].map(({ accountId }) => String(accountId)), "0", 2],
    ["request.part_paid", [alice, bob].map(({ accountId }) => String(accountId)), "1000", 1],
    ["request.part_paid", [alice, carol].map(({ accountId }) => String(accountId)), "2000", 0],
    ["request.completed", [String(alice.accountId)], "2000", 0],
  ]);
  expect(told[0]).toMatchObject({
    requestId: request.id,
    requesterWalletId: alice.walletId,
    payerWalletIds: [bob.walletId, carol.walletId],
    amounts: ["1000", "1000"],
    memo: "tea",
    apiKeyId: expect.stringMatching(/^[0-9]+$/),
  });
  const { parts } = await look(alice, request);
  expect(told[2]).toMatchObject({ payerWalletId: bob.walletId, transferId: parts[0]?.transferId, partAmount: "1000" });
});

test("T5: equal parts add up to the total, differ by one at most, and the first have the more", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 1n, max: 10n ** 12n }), fc.integer({ min: 1, max: 101 }), (total, count) => {
      fc.pre(total >= BigInt(count));
      const parts = equalParts(total, count);

      expect(parts).toHaveLength(count);
      expect(parts.reduce((sum, part) => sum + part, 0n)).toBe(total);
      expect(parts.toSorted((a, b) => (a < b ? 1 : -1))).toEqual(parts);
      expect((parts[0] ?? 0n) - (parts.at(-1) ?? 0n)).toBeLessThanOrEqual(1n);
      expect(parts.at(-1)).toBeGreaterThan(0n);
      expect(equalParts(total, count)).toEqual(parts);
    }),
    { seed: chooseSeed("split") },
  );
});

test("T5: a bill is split among people, the one who asks first if they take a part", async () => {
  const [alice, ...payers] = (await crowd(4)) as [Person, ...Person[]];

  const among = await split(alice, payers, 10_001n);
  const withHer = await split(alice, payers, 10_001n, { takePart: true });
  const evenly = await split(alice, payers.slice(0, 2), 9_000n, { takePart: true });

  expect(among.parts.map(({ amount }) => amount)).toEqual([3_334n, 3_334n, 3_333n]);
  expect([among.amount, among.ownAmount]).toEqual([10_001n, 0n]);
  expect(withHer.parts.map(({ amount }) => amount)).toEqual([2_500n, 2_500n, 2_500n]);
  expect([withHer.amount, withHer.ownAmount]).toEqual([7_500n, 2_501n]);
  expect(evenly.parts.map(({ amount }) => amount)).toEqual([3_000n, 3_000n]);
  expect([evenly.amount, evenly.ownAmount]).toEqual([6_000n, 3_000n]);
  expect(await refusalOf(split(alice, payers, 3n, { takePart: true }))).toEqual({
    code: Code.InvalidArgument,
    reason: Reason.REQUEST_INVALID,
  });
});

test("T5: a part that is paid twenty times at once, at two servers, is paid once", async () => {
  const [alice, bob] = (await crowd(2)) as [Person, Person];
  const request = await ask(alice, [bob], 6_000n);
  const replayed: string[] = [];
  const onHeader = (header: Headers) => void replayed.push(header.get("idempotency-replayed") ?? "");

  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      personAt(i % 2 === 0 ? server : other, bob).requests.payRequest({ requestId: request.id }, { onHeader }),
    ),
  );

  const ids = answers.map((answer) => answer.request?.parts[0]?.transferId);
  expect(new Set(ids).size).toBe(1);
  expect(replayed.filter((word) => word === "true")).toHaveLength(19);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([16_000n, 4_000n]);
  expect((await toldOf(alice)).filter(({ kind }) => kind === "request.part_paid")).toHaveLength(1);
});

test("T5: of paying and canceling, or declining, at once exactly one wins", async () => {
  const rounds = 20;
  const [alice, bob] = (await crowd(2, 100_000n)) as [Person, Person];
  const [aliceThere, bobThere] = [personAt(other, alice), personAt(other, bob)];
  const seen = new Set<string>();
  let paid = 0n;
  for (let round = 0; round < rounds; round += 1) {
    const request = await ask(alice, [bob]);
    const here = round % 4 < 2;
    const against = () =>
      round % 2 === 0 ? cancel(here ? alice : aliceThere, request) : decline(here ? bob : bobThere, request);

    const [paying, ending] = await Promise.all([outcomeOf(pay(here ? bobThere : bob, request)), outcomeOf(against())]);

    const { state, parts, paidAmount } = await look(alice, request);
    const won = round % 2 === 0 ? PartState.CANCELED : PartState.DECLINED;
    seen.add(`${paying}, ${ending}`);
    expect([paying, ending].filter((outcome) => outcome === "OK")).toHaveLength(1);
    expect([paying, ending]).toContain("FailedPrecondition MONEY_REQUEST_ENDED");
    expect(parts[0]?.state).toBe(paying === "OK" ? PartState.PAID : won);
    expect(state === State.COMPLETED).toBe(paying === "OK");
    expect(paidAmount).toBe(paying === "OK" ? 1_000n : 0n);
    paid += paidAmount;
  }
  expect(seen.size).toBeGreaterThan(0);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([100_000n + paid, 100_000n - paid]);
});

test("T5: what is canceled can be paid no more, and what was paid stays paid", async () => {
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const request = await ask(alice, [bob, carol]);
  await pay(bob, request);

  const { request: canceled } = await cancel(alice, request);
  const again = await cancel(alice, request);

  expect(canceled).toMatchObject({ state: State.CANCELED, paidAmount: 1_000n, openPartCount: 0, paidPartCount: 1 });
  expect(statesOf(canceled as MoneyRequest)).toEqual(["PAID", "CANCELED"]);
  expect(again.request).toEqual(canceled);
  expect(await endedAs(pay(carol, request))).toBe("CANCELED");
  expect(await endedAs(decline(carol, request))).toBe("CANCELED");
  expect(await endedAs(remind(alice, request))).toBe("CANCELED");
  // Whoever has paid is told so again.
  expect((await pay(bob, request)).request?.parts[0]?.state).toBe(PartState.PAID);
  expect(await balanceOf(alice)).toBe(11_000n);
  expect((await toldOf(carol)).map(({ kind }) => kind)).toEqual(["request.created", "request.canceled"]);
});

test("T5: a payer declines for good, and a request whose parts have all ended is over", async () => {
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const request = await ask(alice, [bob, carol]);

  const { request: declined } = await decline(bob, request);
  const again = await decline(bob, request);

  expect(declined).toMatchObject({ state: State.OPEN, openPartCount: 1 });
  expect(again.request).toEqual(declined);
  expect(await endedAs(pay(bob, request))).toBe("DECLINED");
  await pay(carol, request);
  expect(await look(alice, request)).toMatchObject({ state: State.DECLINED, paidAmount: 1_000n, paidPartCount: 1 });
  expect(await endedAs(cancel(alice, request))).toBe("DECLINED");
  expect(await endedAs(decline(carol, request))).toBe("PAID");
  expect((await toldOf(alice)).map(({ kind }) => kind)).toEqual([
    "request.created",
    "request.declined",
    "request.part_paid",
  ]);
});

test("T5: whoever has not paid is reminded once in an hour", async () => {
  const { db } = server.app;
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const request = await ask(alice, [bob, carol]);

  const { request: reminded } = await remind(alice, request);
  expect(reminded?.parts.map(({ remindTime }) => remindTime !== undefined)).toEqual([true, true]);
  const error = await errorOf(remind(alice, request));
  expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe(Reason.TOO_MANY_ATTEMPTS);
  const retrySeconds = Number(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds);
  expect(retrySeconds).toBeGreaterThan(3_500);
  expect(retrySeconds).toBeLessThanOrEqual(3_600);

  // As if an hour had passed since Carol was.
  const remindTime = new Date(Date.now() - 3_600_000);
  const partId = BigInt(reminded?.parts[1]?.id ?? 0);
  await db.updateTable("moneyRequestPart").set({ remindTime }).where("id", "=", partId).execute();
  await remind(personAt(other, alice), request);
  const ofBob = (await toldOf(bob)).filter(({ kind }) => kind === "request.reminded");
  const ofCarol = (await toldOf(carol)).filter(({ kind }) => kind === "request.reminded");
  expect([ofBob.length, ofCarol.length]).toEqual([1, 2]);
  expect(ofCarol[1]).toMatchObject({ payerWalletIds: [carol.walletId], requestId: request.id });
});

test("T5: of many reminders at once one is told", async () => {
  const [alice, bob] = (await crowd(2)) as [Person, Person];
  const request = await ask(alice, [bob]);

  const outcomes = await Promise.all(
    Array.from({ length: 10 }, (_, i) => outcomeOf(remind(personAt(i % 2 ? server : other, alice), request))),
  );

  expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
  expect((await toldOf(bob)).filter(({ kind }) => kind === "request.reminded")).toHaveLength(1);
});

test("T5: a request is over when its time is, at once for whoever pays, and soon for all to see", async () => {
  const { db } = server.app;
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const expireTime = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 3_600), nanos: 0 };
  const request = await ask(alice, [bob, carol], 1_000n, { expireTime });
  expect(request.expireTime?.seconds).toBe(expireTime.seconds);
  await pay(bob, request);

  const past = new Date(Date.now() - 1_000);
  const id = BigInt(request.id);
  await db.updateTable("moneyRequest").set({ expireTime: past }).where("id", "=", id).execute();
  expect(await endedAs(pay(carol, request))).toBe("EXPIRED");
  expect(await endedAs(remind(alice, request))).toBe("EXPIRED");
  expect((await look(alice, request)).state).toBe(State.OPEN);
  await db.updateTable("moneyRequest").set({ dueTime: past }).where("id", "=", id).execute();

  await vi.waitFor(async () => expect((await look(alice, request)).state).toBe(State.EXPIRED), { timeout: 20_000 });
  expect(statesOf(await look(alice, request))).toEqual(["PAID", "EXPIRED"]);
  expect(await endedAs(pay(carol, request))).toBe("EXPIRED");
  expect((await toldOf(carol)).map(({ kind }) => kind)).toEqual(["request.created", "request.expired"]);
  expect((await toldOf(alice)).filter(({ kind }) => kind === "request.expired")).toHaveLength(1);
});

test("T5: without a time a request is over in thirty days; a time too near or too far is refused", async () => {
  const [alice, bob] = (await crowd(2)) as [Person, Person];
  const { createTime, expireTime } = await ask(alice, [bob]);
  expect(Number(expireTime?.seconds) - Number(createTime?.seconds)).toBe(30 * 24 * 3_600);

  for (const seconds of [-10, 30, 367 * 24 * 3_600]) {
    const until = { seconds: BigInt(Math.floor(Date.now() / 1_000) + seconds), nanos: 0 };
    expect(await refusalOf(ask(alice, [bob], 1n, { expireTime: until }))).toEqual({
      code: Code.InvalidArgument,
      reason: Reason.REQUEST_INVALID,
    });
  }
});

test("T5: what the payer misses is drawn from their bank", async () => {
  const alice = await openWallet(server);
  const bob = await openWallet(server, { balance: 1_000n });
  const { where } = await linkBank(server, bob, { balance: 20_000n, automaticTopUp: true });
  const request = await ask(alice, [bob], 9_000n);

  await Promise.all([pay(bob, request), pay(bob, request), pay(bob, request)]);

  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([9_000n, 0n]);
  expect((await server.kftc.getAccount(where)).balance).toBe("12000");
});

test("T5: a part is a transfer like any other: it needs funds, the PIN above an amount, and room in the limits", {
  timeout: 120_000,
}, async () => {
  const alice = await openWallet(server);
  const bob = await signUp(server, { balance: 200_000n });
  const poor = await openWallet(server);
  const code = await proveAddress(server, bob.email, CodePurpose.SET_PIN);
  await bob.accounts.setPin({ email: bob.email, code, pin: "135790" });
  const small = await ask(alice, [poor]);
  const large = await ask(alice, [bob], 60_000n);
  const tooLarge = await ask(alice, [bob], 100_001n);

  expect((await refusalOf(pay(poor, small))).reason).toBe(Reason.INSUFFICIENT_FUNDS);
  expect((await refusalOf(pay(bob, large))).reason).toBe(Reason.PIN_REQUIRED);
  expect((await refusalOf(pay(bob, large, "246801"))).reason).toBe(Reason.PIN_WRONG);
  expect((await refusalOf(pay(bob, tooLarge, "135790"))).reason).toBe(Reason.SEND_LIMIT_EXCEEDED);
  await pay(bob, large, "135790");
  // What has happened is answered without it.
  await pay(bob, large);

  expect(statesOf(await look(alice, large))).toEqual(["PAID"]);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([60_000n, 140_000n]);
});

test("T5: only people are asked, each once, and never oneself", async () => {
  const [alice, bob, leaver] = (await openWallets(server, 3)) as [Person, Person, Person];
  await leaver.accounts.closeAccount({});
  const { wallet: savings } = await bob.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  const reasonOf = async (payers: Asked[]) => (await refusalOf(ask(alice, payers))).reason;

  expect(await reasonOf([bob, bob])).toBe(Reason.REQUEST_INVALID);
  expect(await reasonOf([bob, alice])).toBe(Reason.SAME_WALLET);
  expect(await reasonOf([{ walletId: "4242" }])).toBe(Reason.WALLET_NOT_FOUND);
  expect(await reasonOf([{ walletId: "1" }])).toBe(Reason.WALLET_NOT_FOUND);
  expect(await reasonOf([{ walletId: savings?.id ?? "" }])).toBe(Reason.WALLET_NOT_FOUND);
  expect(await reasonOf([leaver])).toBe(Reason.WALLET_CLOSED);
  expect((await alice.requests.listSentRequests({})).requests).toEqual([]);
});

test("T5: a request that is repeated is made once, and its key is good for no other", async () => {
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const idempotencyKey = randomUUID();
  const asking = (payer: Person, amount = 1_000n, more = {}) =>
    alice.requests.createRequest({ idempotencyKey, parts: [{ payerWalletId: payer.walletId, amount }], ...more });

  const answers = await Promise.all(Array.from({ length: 10 }, () => asking(bob)));
  const [first] = answers;
  await pay(bob, first?.request as MoneyRequest);
  const later = await asking(bob);

  expect(new Set(answers.map(({ request }) => request?.id)).size).toBe(1);
  expect(later.request).toMatchObject({ id: first?.request?.id, state: State.COMPLETED });
  const expireTime = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 7_200), nanos: 0 };
  const others = [
    asking(carol),
    asking(bob, 1_001n),
    asking(bob, 1_000n, { memo: "x" }),
    asking(bob, 1_000n, { expireTime }),
    alice.requests.splitBill({ idempotencyKey, total: 1_000n, payerWalletIds: [carol.walletId] }),
  ];
  const refusals = await Promise.all(others.map(refusalOf));
  expect(new Set(refusals.map(({ reason }) => reason))).toEqual(new Set([Reason.IDEMPOTENCY_KEY_REUSED]));
  expect((await toldOf(alice)).filter(({ kind }) => kind === "request.created")).toHaveLength(1);
});

test("T5: a payer sees their own part, and a stranger nothing", async () => {
  const [alice, bob, carol, dave] = (await crowd(4)) as [Person, Person, Person, Person];
  const request = await ask(alice, [bob, carol], [1_000n, 2_000n]);

  expect((await look(bob, request)).parts.map(({ payerWalletId }) => payerWalletId)).toEqual([bob.walletId]);
  expect(await look(bob, request)).toMatchObject({ amount: 3_000n, partCount: 2 });
  expect((await look(alice, request)).parts).toHaveLength(2);
  const nothing = { code: Code.NotFound, reason: Reason.MONEY_REQUEST_NOT_FOUND };
  for (const call of [look, pay, decline, cancel, remind]) {
    expect(await refusalOf(call(dave, request))).toEqual(nothing);
  }
  for (const call of [cancel, remind]) expect(await refusalOf(call(bob, request))).toEqual(nothing);
  for (const call of [pay, decline]) expect(await refusalOf(call(alice, request))).toEqual(nothing);
});

test("T5: what was asked, and what one is asked for, is listed by page and state", async () => {
  const [alice, bob, carol] = (await crowd(3)) as [Person, Person, Person];
  const made: string[] = [];
  for (let i = 0; i < 5; i += 1) made.unshift((await ask(alice, i % 2 === 0 ? [bob] : [bob, carol])).id);
  const [fifth, fourth, third, second, first] = made as [string, string, string, string, string];
  const named = (id: string) => ({ id }) as MoneyRequest;
  await pay(bob, named(first));
  await pay(bob, named(second));
  await cancel(alice, named(third));

  const page = await alice.requests.listSentRequests({ pageSize: 3 });
  const rest = await alice.requests.listSentRequests({ pageSize: 3, pageToken: page.nextPageToken });
  expect([page, rest].map(({ requests }) => requests.map(({ id }) => id))).toEqual([made.slice(0, 3), made.slice(3)]);
  expect(rest.nextPageToken).toBe("");
  expect(page.requests.flatMap(({ parts }) => parts)).toEqual([]);
  const sentAs = async (state: State) =>
    (await alice.requests.listSentRequests({ state })).requests.map(({ id }) => id);
  expect(await sentAs(State.OPEN)).toEqual([fifth, fourth, second]);
  expect(await sentAs(State.COMPLETED)).toEqual([first]);
  expect(await sentAs(State.CANCELED)).toEqual([third]);

  const receivedAs = async (person: Person, partState: PartState) =>
    (await person.requests.listReceivedRequests({ partState })).requests.map(({ id }) => id);
  expect(await receivedAs(bob, PartState.UNSPECIFIED)).toEqual(made);
  expect(await receivedAs(bob, PartState.OPEN)).toEqual([fifth, fourth]);
  expect(await receivedAs(bob, PartState.PAID)).toEqual([second, first]);
  expect(await receivedAs(carol, PartState.OPEN)).toEqual([fourth, second]);
  const received = await bob.requests.listReceivedRequests({ pageSize: 2 });
  const more = await bob.requests.listReceivedRequests({ pageSize: 3, pageToken: received.nextPageToken });
  expect(more.requests.map(({ id }) => id)).toEqual(made.slice(2));
  expect(received.requests.map(({ parts }) => parts.map(({ payerWalletId }) => payerWalletId))).toEqual([
    [bob.walletId],
    [bob.walletId],
  ]);
  const mixed = alice.requests.listReceivedRequests({ pageToken: page.nextPageToken });
  expect((await refusalOf(mixed)).reason).toBe(Reason.PAGE_TOKEN_INVALID);
  expect((await alice.requests.listReceivedRequests({})).requests).toEqual([]);
});

test("T5: a person has 100 requests open at a time, and one that ends makes room", async () => {
  const [alice, bob] = (await crowd(2, 200_000n)) as [Person, Person];
  const outcomes = await Promise.allSettled(
    Array.from({ length: 110 }, (_, i) => ask(personAt(i % 2 ? server : other, alice), [bob], 1n)),
  );
  const made = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  const [first, second] = made as [MoneyRequest, MoneyRequest];

  expect(made).toHaveLength(100);
  expect((await refusalOf(ask(alice, [bob]))).reason).toBe(Reason.TOO_MANY);
  await pay(bob, first);
  await decline(bob, second);
  await Promise.all([ask(alice, [bob]), ask(alice, [bob])]);
  expect((await refusalOf(ask(alice, [bob]))).reason).toBe(Reason.TOO_MANY);
});

test("A7: with an account its requests end, and what it was asked for is declined", async () => {
  const [alice, bob, carol] = (await openWallets(server, 3)) as [Person, Person, Person];
  const asked = await ask(alice, [bob, carol]);
  const wanted = await ask(bob, [alice, carol]);
  const many = await Promise.all(Array.from({ length: 60 }, () => ask(alice, [bob], 1n)));

  await alice.accounts.closeAccount({});

  expect(await look(bob, asked)).toMatchObject({ state: State.CANCELED });
  expect(statesOf(await look(bob, wanted))).toEqual(["DECLINED", "OPEN"]);
  for (const one of many) expect((await look(bob, one)).state).toBe(State.CANCELED);
  expect(await endedAs(pay(bob, asked))).toBe("CANCELED");
  expect((await toldOf(bob)).filter(({ kind }) => kind === "request.canceled")).toHaveLength(61);
});

test("A7: until the requests of a closed account have ended nobody pays them; a job ends them after a crash", async () => {
  const { app } = server;
  const [alice, bob] = (await crowd(2, 0n)) as [Person, Person];
  const payer = await openWallet(server, { balance: 5_000n });
  const asked = await ask(alice, [payer]);
  const wanted = await ask(bob, [alice]);

  // All that a closing commits, by a process that died right after.
  const belongings = { walletIds: [BigInt(alice.walletId)], bankAccountIds: [], gifts: NO_GIFTS };
  await app.lane.submit(closeAccount(alice.accountId, belongings));
  expect((await refusalOf(pay(payer, asked))).reason).toBe(Reason.WALLET_CLOSED);
  expect((await look(payer, asked)).state).toBe(State.OPEN);

  const dueTime = new Date(Date.now() - 1_000);
  await app.db.updateTable("accountCleanup").set({ dueTime }).where("id", "=", alice.accountId).execute();
  app.runner.nudge("account.closed");
  await vi.waitFor(async () => expect((await look(payer, asked)).state).toBe(State.CANCELED), { timeout: 20_000 });
  await vi.waitFor(async () => expect(statesOf(await look(bob, wanted))).toEqual(["DECLINED"]), { timeout: 20_000 });
  expect(await balanceOf(payer)).toBe(5_000n);
});
