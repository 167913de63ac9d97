import { randomBytes, randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { BankTransfer_State } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { ErrorInfoSchema, Reason, ReasonSchema } from "../gen/chatpay/error/v1/error_pb.ts";
import {
  type ScheduledTransfer,
  ScheduledTransfer_State as State,
  ScheduledTransfer_StateSchema,
} from "../gen/chatpay/transfer/v1/schedule_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { kftcSettings } from "../sandbox/kftc/server.ts";
import type { App } from "../src/app.ts";
import { openFunding } from "../src/bank/funding.ts";
import type { ScheduledTransferRow } from "../src/db/schema.ts";
import type { Job } from "../src/job/runner.ts";
import { jobs } from "../src/jobs.ts";
import { linkBank } from "./support/banks.ts";
import { startProcess } from "./support/load.ts";
import {
  balanceOf,
  differencesIn,
  eventsOf,
  openWallet,
  openWallets,
  type Person,
  personAt,
  proveAddress,
  signUp,
} from "./support/people.ts";
import { errorOf, outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, redisUrl, startServer, type TestServer } from "./support/server.ts";

// Two servers that make what is due, as two processes would, and one with books of its own whose jobs the tests run.

const databaseUrl = await makeDatabase();
const secrets = {
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
};
const settings = {
  ...secrets,
  CHATPAY_PIN_ABOVE: "50000",
  CHATPAY_TIERS: JSON.stringify({ standard: { sendOnce: 100_000 } }),
  CHATPAY_OPENBANKING_TIMEOUT_MS: "1000",
};
let server: TestServer;
let other: TestServer;
let idle: TestServer;

beforeAll(async () => {
  server = await startServer({ ...settings, DATABASE_URL: databaseUrl });
  // Whichever of the two makes a transfer, it asks the same banks.
  other = await startServer({ ...settings, DATABASE_URL: databaseUrl, ...kftcSettings(server.kftc.url) });
  idle = await startServer({ ...settings, CHATPAY_ROLES: "account,money" });
});

afterAll(async () => {
  for (const { app } of [server, idle]) {
    expect(await miscountedIn(app)).toEqual([]);
    expect(await differencesIn(app.config.databaseUrl)).toEqual([]);
  }
  await Promise.all([server, other, idle].map((one) => one.stop()));
});

/** Wallets of which more or fewer transfers are counted than are scheduled. */
async function miscountedIn({ db }: App) {
  const rows = await db.selectFrom("scheduledTransfer").selectAll().execute();
  const open = rows.filter(({ state }) => state === State.SCHEDULED);
  expect(rows.filter(({ dueTime }) => dueTime === null)).toHaveLength(rows.length - open.length);
  const allowances = await db.selectFrom("allowance").selectAll().execute();
  return allowances.filter(
    ({ id, scheduled }) => open.filter(({ senderWalletId }) => senderWalletId === id).length !== scheduled,
  );
}

const PATIENCE = { timeout: 60_000, interval: 50 };
const LONG = { timeout: 120_000 };

const inSeconds = (seconds: number) => ({ seconds: BigInt(Math.floor(Date.now() / 1_000) + seconds), nanos: 0 });

const orderFor = (to: Pick<Person, "walletId">, amount: bigint, more = {}) => ({
  idempotencyKey: randomUUID() as string,
  recipientWalletId: to.walletId,
  amount,
  transferTime: inSeconds(3_600),
  ...more,
});

type Scheduler = Pick<Person, "schedules">;

const schedule = async ({ schedules }: Scheduler, to: Pick<Person, "walletId">, amount: bigint, more = {}) =>
  (await schedules.scheduleTransfer(orderFor(to, amount, more))).scheduledTransfer as ScheduledTransfer;

const cancel = async ({ schedules }: Scheduler, { id }: ScheduledTransfer) =>
  (await schedules.cancelScheduledTransfer({ scheduledTransferId: id })).scheduledTransfer as ScheduledTransfer;

const look = async ({ schedules }: Scheduler, { id }: ScheduledTransfer) =>
  (await schedules.getScheduledTransfer({ scheduledTransferId: id })).scheduledTransfer as ScheduledTransfer;

const nameOf = ({ state }: ScheduledTransfer) => ScheduledTransfer_StateSchema.value[state]?.localName;

/** Changes them as if time had passed. */
const change = ({ app }: TestServer, scheduled: ScheduledTransfer[], to: Partial<ScheduledTransferRow>) =>
  app.db
    .updateTable("scheduledTransfer")
    .set(to)
    .where(
      "id",
      "in",
      scheduled.map(({ id }) => BigInt(id)),
    )
    .execute();

const ago = (ms: number) => new Date(Date.now() - ms);
const isDue = () => ({ transferTime: ago(1_000), dueTime: ago(1_000) });

/** Has their time come. */
const makeDue = (at: TestServer, ...scheduled: ScheduledTransfer[]) => change(at, scheduled, isDue());

const ended = (person: Scheduler, scheduled: ScheduledTransfer) =>
  vi.waitFor(async () => {
    const now = await look(person, scheduled);
    expect(nameOf(now)).not.toBe("SCHEDULED");
    return now;
  }, PATIENCE);

async function endedAs(answer: Promise<unknown>) {
  const [info] = (await errorOf(answer)).findDetails(ErrorInfoSchema);
  return info?.reason === Reason.SCHEDULED_TRANSFER_ENDED ? info.metadata.state : `refused otherwise: ${info?.reason}`;
}

/** What the log tells an account of what it had scheduled. */
const toldOf = async (at: TestServer, { accountId }: Pick<Person, "accountId">) =>
  (await eventsOf(at, accountId)).filter(({ kind }) => kind.startsWith("transfer.schedule"));

/** Has a job do what is due, by a server of these parts: how each run ended. */
async function runDue(name: string, app: App = idle.app) {
  const job = jobs(app).find((one) => one.name === name) as Job;
  const items = await job.claim({ owner: randomUUID(), limit: 100, leaseMs: 60_000 });
  const outcomes = [];
  for (const item of items) {
    const outcome = await job.run(item, new AbortController().signal);
    if (outcome === "later") await job.putOff(item, ago(0));
    outcomes.push(outcome);
  }
  return outcomes;
}

test("T9: what is scheduled is sent when its time has come, and not before", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 10_000n })) as [Person, Person];

  const first = await schedule(alice, bob, 3_000n, { memo: "rent" });
  const second = await schedule(alice, bob, 2_000n);
  expect(first).toMatchObject({
    senderWalletId: alice.walletId,
    recipientWalletId: bob.walletId,
    amount: 3_000n,
    currency: "KRW",
    memo: "rent",
    state: State.SCHEDULED,
    transferId: "",
  });
  expect(await balanceOf(alice)).toBe(10_000n);
  await makeDue(server, first);

  const made = await ended(alice, first);
  expect(made).toMatchObject({ state: State.COMPLETED, failureReason: Reason.UNSPECIFIED, failureMessage: "" });
  const { transfer } = await bob.transfers.getTransfer({ transferId: made.transferId });
  expect(transfer).toMatchObject({ senderWalletId: alice.walletId, amount: 3_000n, memo: "rent" });
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([7_000n, 13_000n]);
  expect((await look(alice, second)).state).toBe(State.SCHEDULED);

  const told = await toldOf(server, alice);
  expect(told.map(({ kind, scheduledTransferId }) => [kind, scheduledTransferId])).toEqual([
    ["transfer.scheduled", first.id],
    ["transfer.scheduled", second.id],
    ["transfer.schedule_completed", first.id],
  ]);
  expect(told[0]).toMatchObject({ amount: "3000", memo: "rent", apiKeyId: expect.stringMatching(/^[0-9]+$/) });
  expect(told[2]).toMatchObject({ transferId: made.transferId });
  // Who receives hears of the transfer, and of nothing before.
  expect(await toldOf(server, bob)).toEqual([]);
  const completed = (await eventsOf(server, bob.accountId)).find(({ kind }) => kind === "transfer.completed");
  expect(completed).toMatchObject({ transferId: made.transferId, apiKeyId: told[0]?.apiKeyId });
});

test("T9: of many that are due at once at two servers each is sent once", LONG, async () => {
  const senders = await openWallets(server, 4, { balance: 1_000n });
  const bob = await openWallet(server);
  const made = (
    await Promise.all(senders.map((sender) => Promise.all(Array.from({ length: 50 }, () => schedule(sender, bob, 7n)))))
  ).flat();

  await makeDue(server, ...made);

  await vi.waitFor(async () => expect(await balanceOf(bob)).toBe(1_400n), PATIENCE);
  for (const sender of senders) {
    const { scheduledTransfers } = await sender.schedules.listScheduledTransfers({ pageSize: 200 });
    expect(new Set(scheduledTransfers.map(nameOf))).toEqual(new Set(["COMPLETED"]));
    expect(new Set(scheduledTransfers.map(({ transferId }) => transferId)).size).toBe(50);
    expect(await balanceOf(sender)).toBe(650n);
    expect((await toldOf(server, sender)).filter(({ kind }) => kind === "transfer.schedule_completed")).toHaveLength(
      50,
    );
  }
});

test("T9: what was canceled is not sent, and what was sent is not canceled", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 10_000n })) as [Person, Person];
  const [one, two] = [await schedule(alice, bob, 1_000n), await schedule(alice, bob, 2_000n)];

  const canceled = await cancel(alice, one);
  expect(canceled.state).toBe(State.CANCELED);
  expect(await cancel(alice, one)).toEqual(canceled);
  await change(server, [one], { transferTime: ago(1_000) });
  await makeDue(server, two);
  await ended(alice, two);

  expect(await endedAs(cancel(alice, two))).toBe("COMPLETED");
  expect((await look(alice, one)).state).toBe(State.CANCELED);
  expect(await balanceOf(bob)).toBe(12_000n);
  const told = (await toldOf(server, alice)).filter(({ scheduledTransferId }) => scheduledTransferId === one.id);
  expect(told.map(({ kind }) => kind)).toEqual(["transfer.scheduled", "transfer.schedule_canceled"]);
});

test("T9: of canceling and starting at once exactly one wins", LONG, async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 10_000n })) as [Person, Person];
  let sent = 0n;
  for (let round = 0; round < 15; round += 1) {
    const scheduled = await schedule(alice, bob, 100n);
    await makeDue(server, scheduled);
    for (const { app } of [server, other]) app.runner.nudge("schedule.run");

    const canceling = await outcomeOf(cancel(round % 2 ? alice : personAt(other, alice), scheduled));

    const { state } = await ended(alice, scheduled);
    expect(["OK", "FailedPrecondition SCHEDULED_TRANSFER_ENDED"]).toContain(canceling);
    expect(state).toBe(canceling === "OK" ? State.CANCELED : State.COMPLETED);
    if (state === State.COMPLETED) sent += 100n;
  }
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([10_000n - sent, 10_000n + sent]);
});

test("T9: what a worker has taken has started, until it gives it back", async () => {
  const [alice, bob] = (await openWallets(idle, 2, { balance: 10_000n })) as [Person, Person];
  const scheduled = await schedule(alice, bob, 100n);

  await change(idle, [scheduled], { ...isDue(), leaseOwner: "a worker", leaseUntil: new Date(Date.now() + 60_000) });
  expect(await endedAs(cancel(alice, scheduled))).toBe("STARTED");
  await change(idle, [scheduled], { leaseOwner: "", leaseUntil: null });

  expect((await cancel(alice, scheduled)).state).toBe(State.CANCELED);
  expect(await runDue("schedule.run")).toEqual([]);
});

test("T9: what a transfer at once is refused for is told when the time has come, with its reason", LONG, async () => {
  const operator = server.client(WalletService, { bearer: server.keys.operator });
  const [poor, frozen, rich] = (await openWallets(server, 3, { balance: 50n })) as [Person, Person, Person];
  await operator.creditWallet({ idempotencyKey: randomUUID(), walletId: rich.walletId, amount: 200_000n, reason: "x" });
  const [bob, leaver] = (await openWallets(server, 2)) as [Person, Person];
  const ofSigned = await signUp(server, { balance: 200_000n });
  const code = await proveAddress(server, ofSigned.email, CodePurpose.SET_PIN);
  await ofSigned.accounts.setPin({ email: ofSigned.email, code, pin: "135790" });
  const plans: [person: Person, scheduled: ScheduledTransfer, reason: Reason][] = [
    [poor, await schedule(poor, bob, 51n), Reason.INSUFFICIENT_FUNDS],
    [frozen, await schedule(frozen, bob, 1n), Reason.WALLET_FROZEN],
    [rich, await schedule(rich, leaver, 1n), Reason.WALLET_CLOSED],
    [ofSigned, await schedule(ofSigned, bob, 100_001n, { pin: "135790" }), Reason.SEND_LIMIT_EXCEEDED],
  ];
  await operator.freezeWallet({ walletId: frozen.walletId, reason: "a report" });
  await leaver.accounts.closeAccount({});

  await makeDue(server, ...plans.map(([, scheduled]) => scheduled));

  for (const [person, scheduled, reason] of plans) {
    const failed = await ended(person, scheduled);
    expect(failed).toMatchObject({ state: State.FAILED, failureReason: reason, transferId: "" });
    expect(failed.failureMessage).not.toBe("");
    const told = (await toldOf(server, person)).filter(({ kind }) => kind === "transfer.schedule_failed");
    expect(told).toMatchObject([
      {
        scheduledTransferId: scheduled.id,
        reason: ReasonSchema.value[reason]?.localName,
        message: failed.failureMessage,
      },
    ]);
    expect(await endedAs(cancel(person, scheduled))).toBe("FAILED");
  }
  expect(await balanceOf(bob)).toBe(0n);
});

test("T9: what the wallet misses is drawn from the bank when the time has come", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const { where } = await linkBank(server, alice, { balance: 20_000n, automaticTopUp: true });
  const scheduled = await schedule(alice, bob, 9_000n);

  await makeDue(server, scheduled);

  expect((await ended(alice, scheduled)).state).toBe(State.COMPLETED);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([0n, 9_000n]);
  expect((await server.kftc.getAccount(where)).balance).toBe("12000");
});

test(
  "T9: while the bank has not said whether it pays, it waits; then it is sent, and drawn for, once",
  LONG,
  async () => {
    const alice = await openWallet(idle);
    const bob = await openWallet(idle);
    const { where } = await linkBank(idle, alice, { balance: 20_000n, automaticTopUp: true });
    const scheduled = await schedule(alice, bob, 9_000n);
    await idle.kftc.script({ call: "withdraw", accountNumber: where.number, kind: "processing", inquiries: 1 });
    await makeDue(idle, scheduled);
    // A server that waits for banks less than half a second.
    const { db, lane, bankTransfers } = idle.app;
    const config = { ...idle.app.config, maxTimeoutMs: 400 };
    const hasty = { ...idle.app, config, funding: openFunding({ config, db, lane }, bankTransfers) };

    expect(await runDue("schedule.run", hasty)).toEqual(["later"]);
    expect((await look(alice, scheduled)).state).toBe(State.SCHEDULED);
    await vi.waitFor(async () => {
      await runDue("bank.inquire");
      const { bankTransfers: drawn } = await alice.banks.listBankTransfers({});
      expect(drawn.map(({ state }) => state)).toEqual([BankTransfer_State.SUCCEEDED]);
    }, PATIENCE);

    expect(await runDue("schedule.run", hasty)).toEqual(["done"]);
    expect((await look(alice, scheduled)).state).toBe(State.COMPLETED);
    expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([0n, 9_000n]);
    expect((await idle.kftc.getAccount(where)).balance).toBe("11000");
  },
);

test("T9: a run that is repeated, by whomever, sends nothing more", async () => {
  const [alice, bob] = (await openWallets(idle, 2, { balance: 10_000n })) as [Person, Person];
  const scheduled = await schedule(alice, bob, 100n);
  await makeDue(idle, scheduled);
  const job = jobs(idle.app).find(({ name }) => name === "schedule.run") as Job;
  const items = await job.claim({ owner: "a worker", limit: 10, leaseMs: 60_000 });
  const runs = Array.from({ length: 5 }, () => items.map((item) => job.run(item, new AbortController().signal))).flat();

  expect(new Set(await Promise.all(runs))).toEqual(new Set(["done"]));
  // As if it had died before anybody knew.
  for (const item of items) expect(await job.run(item, new AbortController().signal)).toBe("done");

  expect((await look(alice, scheduled)).state).toBe(State.COMPLETED);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([9_900n, 10_100n]);
  expect(await toldOf(idle, alice)).toHaveLength(2);
});

test("T9: what is canceled when its worker has lost it is not sent by that worker", async () => {
  const [alice, bob] = (await openWallets(idle, 2, { balance: 10_000n })) as [Person, Person];
  const scheduled = await schedule(alice, bob, 100n);
  await makeDue(idle, scheduled);
  const job = jobs(idle.app).find(({ name }) => name === "schedule.run") as Job;
  const [item] = await job.claim({ owner: "a worker", limit: 1, leaseMs: 60_000 });
  await change(idle, [scheduled], { leaseUntil: ago(1_000) });

  expect((await cancel(alice, scheduled)).state).toBe(State.CANCELED);
  expect(item && (await job.run(item, new AbortController().signal))).toBe("done");

  expect((await look(alice, scheduled)).state).toBe(State.CANCELED);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([10_000n, 10_000n]);
});

test("T9: what could not be sent within a day is not sent any more", async () => {
  const [alice, bob] = (await openWallets(idle, 2, { balance: 10_000n })) as [Person, Person];
  const [late, later] = [await schedule(alice, bob, 100n), await schedule(alice, bob, 200n)];
  const DAY_MS = 24 * 3_600_000;
  await change(idle, [late], { transferTime: ago(DAY_MS - 60_000), dueTime: ago(1_000) });
  await change(idle, [later], { transferTime: ago(DAY_MS + 60_000), dueTime: ago(1_000) });

  expect(await runDue("schedule.run")).toEqual(["done", "done"]);

  expect((await look(alice, late)).state).toBe(State.COMPLETED);
  expect(await look(alice, later)).toMatchObject({ state: State.FAILED, failureReason: Reason.DEADLINE_EXCEEDED });
  expect(await balanceOf(bob)).toBe(10_100n);
});

test("T9: a process that is killed while the bank pays is followed by another, which sends once", LONG, async () => {
  const alice = await openWallet(idle);
  const bob = await openWallet(idle);
  const { where } = await linkBank(idle, alice, { balance: 20_000n, automaticTopUp: true });
  const scheduled = await schedule(alice, bob, 9_000n);
  await idle.kftc.script({ call: "withdraw", accountNumber: where.number, kind: "delay", at: "after", ms: 5_000 });
  const environment = { ...settings, ...kftcSettings(idle.kftc.url), CHATPAY_OPENBANKING_TIMEOUT_MS: "20000" };
  const start = () => startProcess(idle.app.config.databaseUrl, redisUrl(), 0, environment);
  const processes = [await start()];
  const atBank = async () => (await idle.kftc.getAccount(where)).balance;

  try {
    await makeDue(idle, scheduled);
    await vi.waitFor(async () => expect(await atBank()).toBe("11000"), PATIENCE);
    await processes[0]?.kill();
    expect((await look(alice, scheduled)).state).toBe(State.SCHEDULED);
    processes.push(await start());
    // As if minutes had passed, after which nobody waits for the one that died.
    await change(idle, [scheduled], { leaseUntil: ago(1_000) });
    await idle.app.db
      .updateTable("bankTransfer")
      .set({ dueTime: ago(1_000) })
      .where("dueTime", "is not", null)
      .execute();

    expect((await ended(alice, scheduled)).state).toBe(State.COMPLETED);
    expect([await balanceOf(alice), await balanceOf(bob), await atBank()]).toEqual([0n, 9_000n, "11000"]);
  } finally {
    await Promise.all(processes.map((one) => one.kill()));
  }
});

test("T9: the PIN is asked for when it is scheduled, and not for a repeat", LONG, async () => {
  const alice = await signUp(server, { balance: 100_000n });
  const code = await proveAddress(server, alice.email, CodePurpose.SET_PIN);
  await alice.accounts.setPin({ email: alice.email, code, pin: "135790" });
  const bob = await openWallet(server);
  const order = orderFor(bob, 60_000n);

  expect((await refusalOf(alice.schedules.scheduleTransfer(order))).reason).toBe(Reason.PIN_REQUIRED);
  const { scheduledTransfer } = await alice.schedules.scheduleTransfer({ ...order, pin: "135790" });
  expect((await alice.schedules.scheduleTransfer(order)).scheduledTransfer).toEqual(scheduledTransfer);
  await makeDue(server, scheduledTransfer as ScheduledTransfer);

  expect((await ended(alice, scheduledTransfer as ScheduledTransfer)).state).toBe(State.COMPLETED);
});

test("T9: a repeat schedules nothing more, and its key is good for no other", async () => {
  const [alice, bob, carol] = (await openWallets(server, 3)) as [Person, Person, Person];
  const order = orderFor(bob, 1_000n);

  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, i) => personAt(i % 2 ? server : other, alice).schedules.scheduleTransfer(order)),
  );

  expect(new Set(answers.map(({ scheduledTransfer }) => scheduledTransfer?.id)).size).toBe(1);
  const others = [
    { amount: 1_001n },
    { memo: "x" },
    { recipientWalletId: carol.walletId },
    { transferTime: inSeconds(7_200) },
  ];
  const refusals = await Promise.all(
    others.map((one) => refusalOf(alice.schedules.scheduleTransfer({ ...order, ...one }))),
  );
  expect(refusals.map(({ reason }) => reason)).toEqual(others.map(() => Reason.IDEMPOTENCY_KEY_REUSED));
  // A transfer at once has keys of its own.
  const { transferTime: _, ...atOnce } = order;
  expect((await refusalOf(alice.transfers.sendTransfer(atOnce))).reason).toBe(Reason.INSUFFICIENT_FUNDS);
});

test("T9: only to open main wallets of others, and for a time between a minute and a year from now", async () => {
  const [alice, bob, leaver] = (await openWallets(server, 3)) as [Person, Person, Person];
  await leaver.accounts.closeAccount({});
  const { wallet: savings } = await bob.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  const reasonOf = async (to: Pick<Person, "walletId">, more = {}) =>
    (await refusalOf(schedule(alice, to, 1n, more))).reason;

  expect(await reasonOf(alice)).toBe(Reason.SAME_WALLET);
  expect(await reasonOf({ walletId: "4242" })).toBe(Reason.WALLET_NOT_FOUND);
  expect(await reasonOf({ walletId: savings?.id ?? "" })).toBe(Reason.WALLET_NOT_FOUND);
  expect(await reasonOf(leaver)).toBe(Reason.WALLET_CLOSED);
  for (const seconds of [-60, 0, 30, 367 * 24 * 3_600]) {
    expect(await reasonOf(bob, { transferTime: inSeconds(seconds) })).toBe(Reason.REQUEST_INVALID);
  }
  expect(await reasonOf(bob, { transferTime: undefined })).toBe(Reason.REQUEST_INVALID);
  await schedule(alice, bob, 1n, { transferTime: inSeconds(75) });
  await schedule(alice, bob, 1n, { transferTime: inSeconds(364 * 24 * 3_600) });
});

test("T9: what is somebody else's does not exist, and one's own is listed by page and state", async () => {
  const [alice, bob] = (await openWallets(server, 2)) as [Person, Person];
  const made: string[] = [];
  for (let i = 0; i < 5; i += 1) made.unshift((await schedule(alice, bob, 1n)).id);
  await cancel(alice, { id: made[2] } as ScheduledTransfer);

  const nothing = { code: Code.NotFound, reason: Reason.SCHEDULED_TRANSFER_NOT_FOUND };
  for (const call of [look, cancel]) {
    expect(await refusalOf(call(bob, { id: made[0] } as ScheduledTransfer))).toEqual(nothing);
  }
  const page = await alice.schedules.listScheduledTransfers({ pageSize: 3 });
  const rest = await alice.schedules.listScheduledTransfers({ pageSize: 3, pageToken: page.nextPageToken });
  const idsOf = ({ scheduledTransfers }: typeof page) => scheduledTransfers.map(({ id }) => id);
  expect([idsOf(page), idsOf(rest), rest.nextPageToken]).toEqual([made.slice(0, 3), made.slice(3), ""]);
  const left = await alice.schedules.listScheduledTransfers({ state: State.SCHEDULED });
  expect(idsOf(left)).toEqual(made.filter((id) => id !== made[2]));
  expect(idsOf(await bob.schedules.listScheduledTransfers({}))).toEqual([]);
});

test("T9: a person has 100 transfers scheduled at a time, and one that ends makes room", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 1_000n })) as [Person, Person];

  const outcomes = await Promise.allSettled(
    Array.from({ length: 110 }, (_, i) => schedule(i % 2 ? alice : personAt(other, alice), bob, 1n)),
  );
  const made = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  const [first, second] = made as [ScheduledTransfer, ScheduledTransfer];

  expect(made).toHaveLength(100);
  expect((await refusalOf(schedule(alice, bob, 1n))).reason).toBe(Reason.TOO_MANY);
  await cancel(alice, first);
  await makeDue(server, second);
  await ended(alice, second);
  await Promise.all([schedule(alice, bob, 1n), schedule(alice, bob, 1n)]);
  expect((await refusalOf(schedule(alice, bob, 1n))).reason).toBe(Reason.TOO_MANY);
});

test("A7: what an account had scheduled is canceled with it", async () => {
  const operator = server.client(WalletService, { bearer: server.keys.operator });
  const [alice, bob] = (await openWallets(server, 2)) as [Person, Person];
  const scheduled = await schedule(alice, bob, 1n);
  const { id } = scheduled;

  await alice.accounts.closeAccount({});

  const row = await server.app.db
    .selectFrom("scheduledTransfer")
    .selectAll()
    .where("id", "=", BigInt(id))
    .executeTakeFirstOrThrow();
  expect(row).toMatchObject({ state: State.CANCELED, dueTime: null });
  expect((await toldOf(server, alice)).map(({ kind }) => kind)).toEqual([
    "transfer.scheduled",
    "transfer.schedule_canceled",
  ]);
  expect((await operator.getWallet({ walletId: alice.walletId })).wallet?.balance).toBe(0n);
});
