import { randomUUID } from "node:crypto";
import { durationFromMs, timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import {
  Direction,
  type Transfer,
  Transfer_Kind,
  Transfer_State,
  TransferChange_Kind,
  TransferService,
} from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Job } from "../src/job/runner.ts";
import { jobs } from "../src/jobs.ts";
import { sendGift } from "../src/transfer/gift.ts";
import { linkBank } from "./support/banks.ts";
import {
  balanceOf,
  differencesIn,
  eventsOf,
  openPartner,
  openWallet,
  openWallets,
  type Person,
} from "./support/people.ts";
import { errorOf, refusalOf } from "./support/rpcs.ts";
import { startServer, type TestServer } from "./support/server.ts";

// No server here is a worker: jobs run when a test says so, and are late otherwise.

const ROLES = { CHATPAY_ROLES: "account,money" };
const HOUR_MS = 60 * 60_000;
const FAILED = Code.FailedPrecondition;

let server: TestServer;
let operator: Person["wallets"];

beforeAll(async () => {
  server = await startServer(ROLES);
  operator = server.client(WalletService, { bearer: server.keys.operator });
});
afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const orderFor = (to: Pick<Person, "walletId">, amount: bigint, memo = "") => ({
  idempotencyKey: randomUUID(),
  recipientWalletId: to.walletId,
  amount,
  memo,
});

async function give(from: Person, to: Pick<Person, "walletId">, amount: bigint, memo = ""): Promise<Transfer> {
  const { transfer } = await from.transfers.sendGift(orderFor(to, amount, memo));
  if (!transfer) throw new Error("no gift came back");
  return transfer;
}

/** A gift whose time is over after so short a time as no request may say. */
async function giveBriefly(from: Person, to: Person, amount: bigint, expireAfterMs = 1, at = server): Promise<string> {
  const order = { ...orderFor(to, amount), recipientWalletId: BigInt(to.walletId), expireAfterMs };
  const sender = { accountId: from.accountId, walletId: BigInt(from.walletId) };
  const command = sendGift(sender, order, { limits: undefined, remindBeforeMs: 0 });
  const { value } = await at.app.lane.submit(command);
  await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(value.expireTime.getTime()));
  return String(value.id);
}

/** As if the time of the reminder had come. */
const remindNow = (id: string, { app } = server) =>
  app.db
    .updateTable("gift")
    .set({ remindTime: new Date(Date.now() - 1_000) })
    .where("id", "=", BigInt(id))
    .execute();

/** How a call that is refused because of an ended gift ends. */
async function endedAs(answer: Promise<unknown>) {
  const error = await errorOf(answer);
  const [info] = error.findDetails(ErrorInfoSchema);
  expect([error.code, info?.reason]).toEqual([FAILED, Reason.TRANSFER_ENDED]);
  return info?.metadata.state;
}

/** Balance, held and available. */
async function moneyOf({ wallets }: Pick<Person, "wallets">) {
  const { wallet } = await wallets.getWallet({});
  return [wallet?.balance, wallet?.held, wallet?.available];
}

/** Has a job do what is due of it, until nothing is. */
async function runDue(name: string) {
  const job = jobs(server.app).find((one) => one.name === name) as Job;
  for (;;) {
    const items = await job.claim({ owner: randomUUID(), limit: 1, leaseMs: 60_000 });
    if (items.length === 0) return;
    for (const item of items) expect(await job.run(item, new AbortController().signal)).toBe("done");
  }
}

const kindsOf = async ({ accountId }: Person) =>
  (await eventsOf(server, accountId)).map(({ kind }) => kind).filter((kind) => kind.startsWith("transfer."));

test("T2: a gift leaves what the sender can spend, waits, and is the recipient's when they accept it", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);

  const gift = await give(alice, bob, 300n, "happy birthday");
  expect(gift).toMatchObject({
    senderWalletId: alice.walletId,
    recipientWalletId: bob.walletId,
    amount: 300n,
    currency: "KRW",
    memo: "happy birthday",
    state: Transfer_State.PENDING,
    kind: Transfer_Kind.GIFT,
  });
  expect(gift.endTime).toBeUndefined();
  const times = [gift.createTime, gift.expireTime].map((time) => time && timestampDate(time).getTime());
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBe(72 * HOUR_MS);
  expect(await moneyOf(alice)).toEqual([1_000n, 300n, 700n]);
  expect(await moneyOf(bob)).toEqual([0n, 0n, 0n]);

  const { transfer } = await bob.transfers.acceptGift({ transferId: gift.id });

  expect(transfer).toMatchObject({ id: gift.id, state: Transfer_State.COMPLETED, endTime: expect.anything() });
  expect(await moneyOf(alice)).toEqual([700n, 0n, 700n]);
  expect(await moneyOf(bob)).toEqual([300n, 0n, 300n]);
  const { entries } = await bob.wallets.listEntries({});
  expect(entries).toMatchObject([
    {
      cause: Entry_Cause.GIFT,
      causeId: gift.id,
      amount: 300n,
      memo: "happy birthday",
      counterpartyWalletId: alice.walletId,
    },
  ]);
  expect((await alice.transfers.getTransfer({ transferId: gift.id })).transfer).toEqual(transfer);
});

test.for([
  ["declined", "declineGift", "bob", Transfer_State.DECLINED],
  ["canceled", "cancelGift", "alice", Transfer_State.CANCELED],
] as const)("T2: a gift that is %s is the sender's again", async ([, call, who, state]) => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const { id: transferId } = await give(alice, bob, 300n);

  const { transfer } = await { alice, bob }[who].transfers[call]({ transferId });

  expect(transfer?.state).toBe(state);
  expect(await moneyOf(alice)).toEqual([1_000n, 0n, 1_000n]);
  expect(await moneyOf(bob)).toEqual([0n, 0n, 0n]);
});

test("T2: an end that is repeated answers the same, and any other is refused with what the end was", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const ends = {
    COMPLETED: (transferId: string) => bob.transfers.acceptGift({ transferId }),
    DECLINED: (transferId: string) => bob.transfers.declineGift({ transferId }),
    CANCELED: (transferId: string) => alice.transfers.cancelGift({ transferId }),
  };
  for (const [state, end] of Object.entries(ends)) {
    const { id } = await give(alice, bob, 10n);
    const first = await end(id);

    expect(await end(id)).toEqual(first);
    for (const [, tryOther] of Object.entries(ends).filter(([other]) => other !== state)) {
      expect(await endedAs(tryOther(id))).toBe(state);
    }
  }
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([990n, 10n]);
});

test("T2: a repeated gift waits once, and says by a header that it is a repeat; a key for another gift is refused", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const order = orderFor(bob, 400n);
  const replayed: (string | null)[] = [];
  const onHeader = (header: Headers) => void replayed.push(header.get("idempotency-replayed"));

  const gifts = await Promise.all(Array.from({ length: 20 }, () => alice.transfers.sendGift(order, { onHeader })));

  expect(new Set(gifts.map(({ transfer }) => transfer?.id)).size).toBe(1);
  expect(replayed.filter((header) => header === null).length).toBe(1);
  expect(await moneyOf(alice)).toEqual([1_000n, 400n, 600n]);
  const reused = { code: Code.InvalidArgument, reason: Reason.IDEMPOTENCY_KEY_REUSED };
  for (const other of [{ amount: 401n }, { memo: "x" }, { expireAfter: durationFromMs(HOUR_MS) }]) {
    expect(await refusalOf(alice.transfers.sendGift({ ...order, ...other }))).toEqual(reused);
  }
  await bob.transfers.acceptGift({ transferId: gifts[0]?.transfer?.id ?? "" });
  const again = await alice.transfers.sendGift(order);
  expect(again.transfer?.state).toBe(Transfer_State.COMPLETED);
});

test("T2: a gift lives a minute to 30 days", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const lasting = (ms: number) => alice.transfers.sendGift({ ...orderFor(bob, 1n), expireAfter: durationFromMs(ms) });
  const invalid = { code: Code.InvalidArgument, reason: Reason.REQUEST_INVALID };

  expect(await refusalOf(lasting(59_999))).toEqual(invalid);
  expect(await refusalOf(lasting(30 * 24 * HOUR_MS + 1))).toEqual(invalid);
  for (const ms of [60_000, 30 * 24 * HOUR_MS]) {
    const { transfer } = await lasting(ms);
    const [from, to] = [transfer?.createTime, transfer?.expireTime].map(
      (time) => time && timestampDate(time).getTime(),
    );
    expect((to ?? 0) - (from ?? 0)).toBe(ms);
  }
});

test("T2: what cannot be sent cannot be given", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const [bob, leaver] = await openWallets(server, 2);
  if (!bob || !leaver) throw new Error("nobody there");
  await leaver.accounts.closeAccount({});
  const { wallet } = await bob.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  const to = (walletId: string, amount = 1n) => refusalOf(alice.transfers.sendGift(orderFor({ walletId }, amount)));
  const notFound = { code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND };

  expect(await to(bob.walletId, 11n)).toEqual({ code: FAILED, reason: Reason.INSUFFICIENT_FUNDS });
  expect(await to(alice.walletId)).toEqual({ code: Code.InvalidArgument, reason: Reason.SAME_WALLET });
  expect(await to(leaver.walletId)).toEqual({ code: FAILED, reason: Reason.WALLET_CLOSED });
  for (const walletId of ["1", "2", "123456789", wallet?.id ?? ""]) expect(await to(walletId)).toEqual(notFound);
  await operator.freezeWallet({ walletId: alice.walletId, reason: "a test" });
  expect(await to(bob.walletId)).toEqual({ code: FAILED, reason: Reason.WALLET_FROZEN });
  expect(await moneyOf(alice)).toEqual([10n, 0n, 10n]);
});

test("T2: the same money is not given twice at once, nor given and sent", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);

  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) =>
      i % 2 ? alice.transfers.sendGift(orderFor(bob, 600n)) : alice.transfers.sendTransfer(orderFor(bob, 600n)),
    ),
  );

  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(1);
  const { wallet } = await alice.wallets.getWallet({});
  expect(wallet?.available).toBe(400n);
});

test("T2: only its two sides see a gift, and each ends it in its own way only", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const [bob, eve] = await openWallets(server, 2);
  if (!bob || !eve) throw new Error("nobody there");
  const { id: transferId } = await give(alice, bob, 3n);
  const { transfer: sent } = await alice.transfers.sendTransfer(orderFor(bob, 1n));
  const none = { code: Code.NotFound, reason: Reason.TRANSFER_NOT_FOUND };

  for (const call of ["getTransfer", "listTransferChanges", "acceptGift", "declineGift", "cancelGift"] as const) {
    expect(await refusalOf(eve.transfers[call]({ transferId }))).toEqual(none);
  }
  for (const call of ["acceptGift", "declineGift"] as const) {
    expect(await refusalOf(alice.transfers[call]({ transferId }))).toEqual(none);
  }
  expect(await refusalOf(bob.transfers.cancelGift({ transferId }))).toEqual(none);
  expect(await refusalOf(alice.transfers.cancelGift({ transferId: sent?.id ?? "" }))).toEqual(none);
  const byOperator = server.client(TransferService, { bearer: server.keys.operator });
  expect((await byOperator.getTransfer({ transferId })).transfer?.state).toBe(Transfer_State.PENDING);
});

test("T2: while the sender is frozen a gift is not accepted, but goes back, and a frozen recipient accepts", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  const gifts = [await give(alice, bob, 1n), await give(alice, bob, 2n), await give(alice, bob, 4n)];
  const [kept, declined, canceled] = gifts.map(({ id: transferId }) => ({ transferId }));
  const back = await give(bob, alice, 8n);
  await operator.freezeWallet({ walletId: alice.walletId, reason: "a test" });

  expect(await refusalOf(bob.transfers.acceptGift(kept ?? {}))).toEqual({ code: FAILED, reason: Reason.WALLET_FROZEN });
  await bob.transfers.declineGift(declined ?? {});
  await alice.transfers.cancelGift(canceled ?? {});
  await alice.transfers.acceptGift({ transferId: back.id });
  expect(await moneyOf(alice)).toEqual([108n, 1n, 107n]);

  await operator.unfreezeWallet({ walletId: alice.walletId, reason: "a test" });
  await bob.transfers.acceptGift(kept ?? {});
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([107n, 93n]);
});

test("T2: 500 gifts of a wallet wait, and no more until one has ended", { timeout: 60_000 }, async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const gifts = await Promise.all(Array.from({ length: 500 }, () => give(alice, bob, 1n)));
  const one = { code: FAILED, reason: Reason.TOO_MANY };

  expect(await refusalOf(alice.transfers.sendGift(orderFor(bob, 1n)))).toEqual(one);
  await bob.transfers.declineGift({ transferId: gifts[0]?.id ?? "" });
  await give(alice, bob, 1n);
  expect(await refusalOf(alice.transfers.sendGift(orderFor(bob, 1n)))).toEqual(one);
});

// When its time is over.

test("T2: when its time is over the job gives a gift back, and both sides are told", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const transferId = await giveBriefly(alice, bob, 300n);
  const kept = await give(alice, bob, 100n);

  await runDue("transfer.expire");

  const { transfer } = await bob.transfers.getTransfer({ transferId });
  expect(transfer).toMatchObject({ state: Transfer_State.EXPIRED, endTime: transfer?.expireTime });
  const row = await server.app.db
    .selectFrom("gift")
    .selectAll()
    .where("id", "=", BigInt(transferId))
    .executeTakeFirst();
  expect(row).toMatchObject({ state: Transfer_State.EXPIRED, endTime: row?.expireTime, remindTime: null });
  expect(await moneyOf(alice)).toEqual([1_000n, 100n, 900n]);
  expect(await kindsOf(bob)).toEqual(["transfer.pending", "transfer.pending", "transfer.expired"]);
  expect((await alice.transfers.getTransfer({ transferId: kept.id })).transfer?.state).toBe(Transfer_State.PENDING);
});

test("T2: a worker reminds of gifts and ends them by itself", { timeout: 60_000 }, async () => {
  const worker = await startServer();
  try {
    const alice = await openWallet(worker, { balance: 10n });
    const bob = await openWallet(worker);
    const reminded = await give(alice, bob, 1n);
    const expired = await giveBriefly(alice, bob, 2n, 200, worker);
    await remindNow(reminded.id, worker);

    await vi.waitFor(
      async () => {
        const events = await eventsOf(worker, bob.accountId);
        const ofGift = (id: string) => events.filter(({ transferId }) => transferId === id).map(({ kind }) => kind);
        expect(ofGift(reminded.id)).toEqual(["transfer.pending", "transfer.reminder"]);
        expect(ofGift(expired)).toEqual(["transfer.pending", "transfer.expired"]);
      },
      { timeout: 30_000, interval: 50 },
    );
    expect(await differencesIn(worker.app.config.databaseUrl)).toEqual([]);
  } finally {
    await worker.stop();
  }
});

test("T2: also when the job is late, nobody ends a gift after its time, and it counts as expired", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const transferId = await giveBriefly(alice, bob, 300n);

  expect(await endedAs(bob.transfers.acceptGift({ transferId }))).toBe("EXPIRED");
  expect(await endedAs(bob.transfers.declineGift({ transferId }))).toBe("EXPIRED");
  expect(await endedAs(alice.transfers.cancelGift({ transferId }))).toBe("EXPIRED");

  const { transfer } = await bob.transfers.getTransfer({ transferId });
  expect(transfer).toMatchObject({ state: Transfer_State.EXPIRED, endTime: transfer?.expireTime });
  const listed = async (state: Transfer_State) =>
    (await alice.transfers.listTransfers({ state })).transfers.map(({ id }) => id);
  expect(await listed(Transfer_State.PENDING)).toEqual([]);
  expect(await listed(Transfer_State.EXPIRED)).toEqual([transferId]);
  await runDue("transfer.expire");
  expect(await listed(Transfer_State.EXPIRED)).toEqual([transferId]);
  expect((await bob.transfers.getTransfer({ transferId })).transfer).toEqual(transfer);
});

test("T2: also when the job is late, the money of a gift is the sender's again after its time", {
  timeout: 60_000,
}, async () => {
  const bob = await openWallet(server);
  const shop = await openPartner(server);
  const debits: Record<string, (alice: Person) => Promise<unknown>> = {
    transfer: (alice) => alice.transfers.sendTransfer(orderFor(bob, 1_000n)),
    batch: async (alice) => {
      const transfers = [orderFor(bob, 700n), orderFor(bob, 300n)];
      const { results } = await alice.transfers.batchSendTransfers({ transfers });
      expect(results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "transfer"]);
    },
    "atomic batch": async (alice) => {
      const transfers = [orderFor(bob, 700n), orderFor(bob, 300n)];
      const { results } = await alice.transfers.batchSendTransfers({ transfers, atomic: true });
      expect(results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "transfer"]);
    },
    gift: (alice) => alice.transfers.sendGift(orderFor(bob, 1_000n)),
    payment: ({ payments }) =>
      payments.approvePayment({ partnerId: shop.partnerId, orderKey: randomUUID(), amount: 1_000n }),
    async savings({ wallets }) {
      const { wallet } = await wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
      await wallets.depositSavings({ idempotencyKey: randomUUID(), savingsWalletId: wallet?.id ?? "", amount: 1_000n });
    },
    async withdrawal(alice) {
      const { bankAccount } = await linkBank(server, alice);
      await alice.banks.withdraw({ idempotencyKey: randomUUID(), bankAccountId: bankAccount.id, amount: 1_000n });
    },
    debit: ({ walletId }) =>
      operator.debitWallet({ idempotencyKey: randomUUID(), walletId, amount: 1_000n, reason: "a test" }),
  };
  for (const [what, debit] of Object.entries(debits)) {
    const alice = await openWallet(server, { balance: 1_000n });
    for (const amount of [500n, 400n]) await giveBriefly(alice, bob, amount);
    expect([what, await moneyOf(alice)]).toEqual([what, [1_000n, 0n, 1_000n]]);
    const { wallets } = await alice.wallets.listWallets({});
    expect(wallets.map(({ available }) => available)).toEqual([1_000n]);

    await debit(alice);

    const { wallet } = await alice.wallets.getWallet({});
    expect([what, wallet?.available]).toEqual([what, 0n]);
  }
});

test("T2: what an expired gift cannot make up for is refused, as are the transfers that it does not reach", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  await giveBriefly(alice, bob, 500n);
  const short = { code: FAILED, reason: Reason.INSUFFICIENT_FUNDS };

  expect(await refusalOf(alice.transfers.sendTransfer(orderFor(bob, 1_001n)))).toEqual(short);
  await giveBriefly(alice, bob, 900n);
  const transfers = [orderFor(bob, 100n), orderFor(bob, 800n), orderFor(bob, 200n)];
  const { results } = await alice.transfers.batchSendTransfers({ transfers });

  expect(results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "transfer", "refusal"]);
  expect(await moneyOf(alice)).toEqual([100n, 0n, 100n]);
});

// Reminders.

test.for([
  ["72 hours", 72 * HOUR_MS, 48 * HOUR_MS],
  ["30 days", 30 * 24 * HOUR_MS, 29 * 24 * HOUR_MS],
  ["48 hours", 48 * HOUR_MS, 24 * HOUR_MS],
  ["an hour", HOUR_MS, HOUR_MS / 2],
  ["a minute", 60_000, 30_000],
] as const)(
  "T2: of a gift for %s people are reminded a day before its end, or when half of it is over",
  async ([, lasting, due]) => {
    const alice = await openWallet(server, { balance: 10n });
    const bob = await openWallet(server);

    const { transfer } = await alice.transfers.sendGift({ ...orderFor(bob, 1n), expireAfter: durationFromMs(lasting) });

    const gift = await server.app.db
      .selectFrom("gift")
      .select(["createTime", "remindTime"])
      .where("id", "=", BigInt(transfer?.id ?? 0))
      .executeTakeFirstOrThrow();
    expect((gift.remindTime?.getTime() ?? 0) - gift.createTime.getTime()).toBe(due);
  },
);

test("T2: both sides are reminded of a gift that waits, once, and of none that has ended", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  const waits = await give(alice, bob, 1n, "dinner");
  const ended = await give(alice, bob, 2n);
  const overdue = await giveBriefly(alice, bob, 4n);
  await bob.transfers.acceptGift({ transferId: ended.id });
  await Promise.all([remindNow(waits.id), remindNow(overdue)]);

  await runDue("transfer.remind");
  await runDue("transfer.remind");

  for (const { accountId } of [alice, bob]) {
    const reminders = (await eventsOf(server, accountId)).filter(({ kind }) => kind === "transfer.reminder");
    expect(reminders).toMatchObject([{ transferId: waits.id, amount: "1", memo: "dinner", transferKind: "gift" }]);
  }
  expect(await moneyOf(bob)).toEqual([2n, 0n, 2n]);
});

// Events and the change log.

test("T2: each step of a gift is told to both sides, with the key of the chat server that acted", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  const [accepted, declined, canceled] = [
    await give(alice, bob, 1n, "a"),
    await give(alice, bob, 2n),
    await give(alice, bob, 3n),
  ];

  await bob.transfers.acceptGift({ transferId: accepted.id });
  await bob.transfers.declineGift({ transferId: declined.id });
  await alice.transfers.cancelGift({ transferId: canceled.id });

  const events = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind.startsWith("transfer."));
  expect(events).toEqual((await eventsOf(server, bob.accountId)).filter(({ kind }) => kind.startsWith("transfer.")));
  expect(events.map(({ kind, transferId }) => [kind, transferId])).toEqual([
    ["transfer.pending", accepted.id],
    ["transfer.pending", declined.id],
    ["transfer.pending", canceled.id],
    ["transfer.completed", accepted.id],
    ["transfer.declined", declined.id],
    ["transfer.canceled", canceled.id],
  ]);
  const { expireTime } = accepted;
  expect(events[3]).toEqual({
    kind: "transfer.completed",
    accounts: [String(alice.accountId), String(bob.accountId)],
    transferId: accepted.id,
    transferKind: "gift",
    senderWalletId: alice.walletId,
    recipientWalletId: bob.walletId,
    amount: "1",
    currency: "KRW",
    memo: "a",
    expireTime: expireTime && timestampDate(expireTime).toISOString(),
    apiKeyId: expect.stringMatching(/^[0-9]+$/),
  });
});

test("T8: the change log of a transfer tells who did what and when", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  const gift = await give(alice, bob, 1n);
  const { transfer: taken } = await bob.transfers.acceptGift({ transferId: gift.id });
  const late = await giveBriefly(alice, bob, 2n);
  const { transfer: sent } = await alice.transfers.sendTransfer(orderFor(bob, 3n));
  const changesOf = async (transferId = "") => (await bob.transfers.listTransferChanges({ transferId })).changes;

  expect(await changesOf(gift.id)).toMatchObject([
    {
      kind: TransferChange_Kind.SENT,
      state: Transfer_State.PENDING,
      walletId: alice.walletId,
      apiKeyId: expect.stringMatching(/^[0-9]+$/),
      createTime: gift.createTime,
    },
    {
      kind: TransferChange_Kind.ACCEPTED,
      state: Transfer_State.COMPLETED,
      walletId: bob.walletId,
      apiKeyId: expect.stringMatching(/^[0-9]+$/),
      createTime: taken?.endTime,
    },
  ]);
  expect(await changesOf(late)).toMatchObject([
    { kind: TransferChange_Kind.SENT, state: Transfer_State.PENDING, walletId: alice.walletId, apiKeyId: "" },
    { kind: TransferChange_Kind.EXPIRED, state: Transfer_State.EXPIRED, walletId: "", apiKeyId: "" },
  ]);
  expect(await changesOf(sent?.id)).toMatchObject([
    { kind: TransferChange_Kind.SENT, state: Transfer_State.COMPLETED, walletId: alice.walletId },
  ]);
});

// History.

/** All pages of a listing, and how long each was. */
async function pagesOf({ transfers }: Person, filter: object, pageSize: number) {
  const pages: string[][] = [];
  for (let pageToken = ""; ; ) {
    const page = await transfers.listTransfers({ ...filter, pageSize, pageToken });
    pages.push(page.transfers.map(({ id }) => id));
    if (page.nextPageToken === "") return pages;
    pageToken = page.nextPageToken;
  }
}

test("T8: gifts and what was sent at once are one history, page by page, by any filter, newest first", {
  timeout: 60_000,
}, async () => {
  const alice = await openWallet(server, { balance: 10_000n });
  const [bob, carol] = await openWallets(server, 2, { balance: 10_000n });
  if (!bob || !carol) throw new Error("nobody there");
  const made: { id: string; from: Person; to: Person; state: Transfer_State; time: number }[] = [];
  const COUNT = 60;
  for (let i = 0; i < COUNT; i += 1) {
    const other = i % 3 === 0 ? carol : bob;
    const [from, to] = i % 2 ? [alice, other] : [other, alice];
    const how = i % 6;
    let transfer: Transfer | undefined;
    if (how < 2) ({ transfer } = await from.transfers.sendTransfer(orderFor(to, 1n)));
    else transfer = await give(from, to, 1n);
    const transferId = transfer?.id ?? "";
    if (how === 3) ({ transfer } = await to.transfers.acceptGift({ transferId }));
    if (how === 4) ({ transfer } = await to.transfers.declineGift({ transferId }));
    if (how === 5) ({ transfer } = await from.transfers.cancelGift({ transferId }));
    const time = transfer?.createTime ? timestampDate(transfer.createTime).getTime() : 0;
    made.unshift({ id: transferId, from, to, state: transfer?.state ?? 0, time });
  }
  const middle = made[COUNT / 2]?.time ?? 0;
  const at = (ms: number) => ({ seconds: BigInt(Math.floor(ms / 1_000)), nanos: (ms % 1_000) * 1_000_000 });

  const directions = [Direction.UNSPECIFIED, Direction.SENT, Direction.RECEIVED];
  const states = [Transfer_State.UNSPECIFIED, 1, 2, 3, 4, 5] as Transfer_State[];
  const spans = [{}, { startTime: at(middle) }, { endTime: at(middle) }];
  for (const direction of directions) {
    for (const state of states) {
      for (const counterparty of [undefined, bob, carol]) {
        for (const span of spans) {
          const filter = {
            direction,
            state,
            ...span,
            ...(counterparty && { counterpartyWalletId: counterparty.walletId }),
          };
          const expected = made
            .filter(
              ({ from }) => direction === Direction.UNSPECIFIED || (from === alice) === (direction === Direction.SENT),
            )
            .filter((one) => state === Transfer_State.UNSPECIFIED || one.state === state)
            .filter(({ from, to }) => !counterparty || from === counterparty || to === counterparty)
            .filter(({ time }) => !("startTime" in span) || time >= middle)
            .filter(({ time }) => !("endTime" in span) || time < middle);
          const all = (await pagesOf(alice, filter, 200)).flat();
          expect([filter, all]).toEqual([filter, expected.map(({ id }) => id)]);
        }
      }
    }
  }
  for (const pageSize of [1, 7, 20]) {
    const pages = await pagesOf(alice, {}, pageSize);
    expect(pages.flat()).toEqual(made.map(({ id }) => id));
    expect(pages.slice(0, -1).every(({ length }) => length === pageSize)).toBe(true);
  }
});

test("T8: a page goes on where the one before ended, whatever has happened since", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const ids: string[] = [];
  for (let i = 0; i < 6; i += 1) {
    const transfer =
      i % 2 ? await give(alice, bob, 1n) : (await alice.transfers.sendTransfer(orderFor(bob, 1n))).transfer;
    ids.unshift(transfer?.id ?? "");
  }
  const first = await alice.transfers.listTransfers({ pageSize: 2 });

  await alice.transfers.sendTransfer(orderFor(bob, 1n));
  await give(alice, bob, 1n);
  await bob.transfers.acceptGift({ transferId: ids[2] ?? "" });
  const second = await alice.transfers.listTransfers({ pageSize: 10, pageToken: first.nextPageToken });

  const seen = [...first.transfers, ...second.transfers].map(({ id }) => id);
  expect(seen).toEqual(ids);
  expect(second.nextPageToken).toBe("");
});

test("T8: a page token that was not made for the listing is refused", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  for (let i = 0; i < 3; i += 1) await give(alice, bob, 1n);
  const { nextPageToken } = await alice.transfers.listTransfers({ pageSize: 1 });
  const mark = Buffer.from(nextPageToken, "base64url").toString().split(".")[1];
  const invalid = { code: Code.InvalidArgument, reason: Reason.PAGE_TOKEN_INVALID };

  for (const text of [`1.${mark}`, `1-2-3.${mark}`, `1-.${mark}`, `-1.${mark}`, "1-1.other"]) {
    const pageToken = Buffer.from(text).toString("base64url");
    expect(await refusalOf(alice.transfers.listTransfers({ pageToken }))).toEqual(invalid);
  }
  const filtered = { direction: Direction.SENT, pageToken: nextPageToken };
  expect(await refusalOf(alice.transfers.listTransfers(filtered))).toEqual(invalid);
});
