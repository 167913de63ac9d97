import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { BankTransfer_Kind, BankTransfer_State } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { ErrorInfoSchema, ReasonSchema } from "../gen/chatpay/error/v1/error_pb.ts";
import type { kftcControl } from "../sandbox/kftc/remote.ts";
import { intendTopUp, intendWithdrawal } from "../src/bank/commands.ts";
import { addCitizen, type LinkedBank, linkBank } from "./support/banks.ts";
import { balanceOf, differencesIn, eventsOf, openPartner, openWallet, type Person } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";

/** Short enough that a bank which does not answer is waited out, and is asked again soon. */
const TIMEOUT_MS = 400;
const SETTINGS = {
  CHATPAY_OPENBANKING_TIMEOUT_MS: String(TIMEOUT_MS),
  CHATPAY_OPENBANKING_ABSENT_MS: "1000",
};
const PATIENCE = { timeout: 30_000, interval: 50 };
const KRW = "KRW";

let server: TestServer;

beforeAll(async () => {
  server = await startServer(SETTINGS);
});

afterAll(async () => {
  try {
    await expectSameBooks(server);
    expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  } finally {
    await server.stop();
  }
});

/** What left the banks is what came into wallets, and nothing is under way. */
async function expectSameBooks({ app, kftc }: TestServer) {
  await vi.waitFor(async () => expect(await openTransfers(app)).toBe(0), PATIENCE);
  const { balance } = await app.db
    .selectFrom("wallet")
    .select("balance")
    .where("id", "=", 1n)
    .executeTakeFirstOrThrow();
  expect(-balance).toBe(await collected(kftc));
}

const openTransfers = async ({ db }: TestServer["app"]) =>
  (await db.selectFrom("bankTransfer").select("id").where("dueTime", "is not", null).execute()).length;

/** What the institution's account has received more than it has paid. */
const collected = async (kftc: Pick<ReturnType<typeof kftcControl>, "books">) =>
  BigInt((await kftc.books()).collectingChange);

const atBank = async ({ where }: LinkedBank) => BigInt((await server.kftc.getAccount(where)).balance);

/** Somebody with a wallet and a bank account. */
async function newcomer(options: Parameters<typeof linkBank>[2] = {}) {
  const person = await openWallet(server);
  return { ...person, bank: await linkBank(server, person, options) };
}

const topUp = (
  { banks }: Pick<Person, "banks">,
  bank: LinkedBank,
  amount: bigint,
  idempotencyKey: string = randomUUID(),
) => banks.topUp({ idempotencyKey, bankAccountId: bank.bankAccount.id, amount });

const withdraw = (
  { banks }: Pick<Person, "banks">,
  bank: LinkedBank,
  amount: bigint,
  idempotencyKey: string = randomUUID(),
) => banks.withdraw({ idempotencyKey, bankAccountId: bank.bankAccount.id, amount });

const send = (from: Pick<Person, "transfers">, to: Person, amount: bigint, idempotencyKey: string = randomUUID()) =>
  from.transfers.sendTransfer({ idempotencyKey, recipientWalletId: to.walletId, amount });

async function refusalOf(
  call: Promise<unknown>,
): Promise<{ code?: Code; reason?: string; metadata: Record<string, string>; text: string }> {
  try {
    await call;
    return { metadata: {}, text: "" };
  } catch (error) {
    const refusal = ConnectError.from(error);
    const [info] = refusal.findDetails(ErrorInfoSchema);
    return {
      code: refusal.code,
      reason: info && ReasonSchema.value[info.reason]?.localName,
      metadata: info?.metadata ?? {},
      text: refusal.rawMessage,
    };
  }
}

const ended = (person: Pick<Person, "banks">, bankTransferId: string) =>
  vi.waitFor(async () => {
    const { bankTransfer } = await person.banks.getBankTransfer({ bankTransferId });
    expect([BankTransfer_State.SUCCEEDED, BankTransfer_State.FAILED]).toContain(bankTransfer?.state);
    return bankTransfer;
  }, PATIENCE);

test("W3: a top-up takes money from the bank and puts it into the wallet, and a withdrawal takes it back", async () => {
  const alice = await newcomer({ balance: 50_000n });

  const { bankTransfer } = await topUp(alice, alice.bank, 30_000n);
  expect(bankTransfer).toMatchObject({
    kind: BankTransfer_Kind.TOP_UP,
    state: BankTransfer_State.SUCCEEDED,
    amount: 30_000n,
    currency: KRW,
  });
  expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([30_000n, 20_000n]);

  const back = await withdraw(alice, alice.bank, 12_345n);
  expect(back.bankTransfer).toMatchObject({ kind: BankTransfer_Kind.WITHDRAWAL, state: BankTransfer_State.SUCCEEDED });
  expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([17_655n, 32_345n]);

  const kinds = (await eventsOf(server, alice.accountId)).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === "bank_transfer.succeeded")).toHaveLength(2);
});

test("W3: twenty top-ups, and twenty withdrawals, with one key move the money once", async () => {
  const alice = await newcomer({ balance: 100_000n });
  const [key, other] = [randomUUID(), randomUUID()];

  const ups = await Promise.all(Array.from({ length: 20 }, () => topUp(alice, alice.bank, 10_000n, key)));
  const downs = await Promise.all(Array.from({ length: 20 }, () => withdraw(alice, alice.bank, 4_000n, other)));

  expect(new Set(ups.map(({ bankTransfer }) => bankTransfer?.id)).size).toBe(1);
  expect(new Set(downs.map(({ bankTransfer }) => bankTransfer?.id)).size).toBe(1);
  expect([...ups, ...downs].every(({ bankTransfer }) => bankTransfer?.state === BankTransfer_State.SUCCEEDED)).toBe(
    true,
  );
  expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([6_000n, 94_000n]);
  expect(await refusalOf(topUp(alice, alice.bank, 10_001n, key))).toMatchObject({ reason: "IDEMPOTENCY_KEY_REUSED" });
  expect(await refusalOf(withdraw(alice, alice.bank, 10_000n, key))).toMatchObject({
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
});

test("W3: what the bank declines is told in its words, and nothing is left set aside", async () => {
  const alice = await newcomer({ balance: 5_000n });
  const key = randomUUID();

  const declined = await refusalOf(topUp(alice, alice.bank, 6_000n, key));
  expect(declined).toMatchObject({ code: Code.FailedPrecondition, reason: "BANK_DECLINED" });
  expect(declined.metadata).toMatchObject({ bank_code: "088", code: "453" });
  expect(declined.text).toMatch(/잔액/);
  // The key is used: whoever wants another try makes another one.
  expect(await refusalOf(topUp(alice, alice.bank, 6_000n, key))).toMatchObject({ reason: "BANK_DECLINED" });

  await topUp(alice, alice.bank, 5_000n);
  await server.kftc.script({ call: "deposit", accountNumber: alice.bank.where.number, kind: "decline", code: "416" });
  expect(await refusalOf(withdraw(alice, alice.bank, 5_000n))).toMatchObject({ reason: "BANK_DECLINED" });
  const { wallet } = await alice.wallets.getWallet({});
  expect(wallet).toMatchObject({ balance: 5_000n, held: 0n });
});

test("W3: nobody draws from, or pays to, what is not theirs or not linked any more", async () => {
  const alice = await newcomer();
  const bob = await newcomer();

  for (const call of [topUp, withdraw]) {
    expect(await refusalOf(call(bob, alice.bank, 1_000n))).toMatchObject({ reason: "BANK_ACCOUNT_NOT_FOUND" });
  }
  const { bankTransfer } = await topUp(alice, alice.bank, 1_000n);
  const named = { bankTransferId: bankTransfer?.id ?? "" };
  expect(await refusalOf(bob.banks.getBankTransfer(named))).toMatchObject({ reason: "BANK_TRANSFER_NOT_FOUND" });

  await alice.banks.unlinkBankAccount({ bankAccountId: alice.bank.bankAccount.id });
  for (const call of [topUp, withdraw]) {
    expect(await refusalOf(call(alice, alice.bank, 1_000n))).toMatchObject({ reason: "BANK_ACCOUNT_NOT_FOUND" });
  }
});

/** All that can go wrong with one call, and whether the money moves in the end. */
const FAULTS: [name: string, moves: boolean, fault: Omit<Parameters<TestServer["kftc"]["script"]>[0], "call">][] = [
  ["answers too late", true, { kind: "delay", at: "after", ms: 2 * TIMEOUT_MS } as never],
  ["carries it out too late", true, { kind: "delay", at: "before", ms: 2 * TIMEOUT_MS } as never],
  ["hangs up before it does anything", false, { kind: "drop", at: "before" } as never],
  ["charges and hangs up", true, { kind: "drop", at: "after" } as never],
  ["breaks off in its answer", true, { kind: "cut" } as never],
  ["answers garbage and has done nothing", false, { kind: "garbage", at: "before" } as never],
  ["answers garbage and has done it", true, { kind: "garbage", at: "after" } as never],
  ["fails with 500 and has done nothing", false, { kind: "status", at: "before", status: 500 } as never],
  ["fails with 503 and has done it", true, { kind: "status", at: "after", status: 503 } as never],
  ["says time-out and has done nothing", false, { kind: "answer", at: "before", code: "A0007" } as never],
  ["says time-out and has done it", true, { kind: "answer", at: "after", code: "A0007" } as never],
  ["says something nobody knows", true, { kind: "answer", at: "after", code: "A9999" } as never],
  ["tells another amount", true, { kind: "amount" } as never],
  ["carries it out twice", true, { kind: "twice" } as never],
  ["takes its time and succeeds", true, { kind: "processing", inquiries: 2 } as never],
  ["takes its time and declines", false, { kind: "processing", code: "453", inquiries: 2 } as never],
  ["declines", false, { kind: "decline", code: "453" } as never],
];

test.concurrent.each(FAULTS)(
  "B5: a bank that %s ends in the same books on both sides",
  { timeout: 60_000 },
  async (_name, moves, fault) => {
    const alice = await newcomer({ balance: 100_000n });
    await topUp(alice, alice.bank, 20_000n);
    const { number: accountNumber } = alice.bank.where;
    // A bank that declines at once says so in the answer; all others are found out by asking again.
    const idOf = (call: Promise<{ bankTransfer?: { id: string } }>) =>
      call.then(
        ({ bankTransfer }) => bankTransfer?.id ?? "",
        async (error: unknown) =>
          ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.metadata.bank_transfer_id ?? "",
      );

    await server.kftc.script({ ...fault, call: "withdraw", accountNumber } as never);
    const up = await ended(alice, await idOf(topUp(alice, alice.bank, 10_000n)));
    expect(up?.state).toBe(moves ? BankTransfer_State.SUCCEEDED : BankTransfer_State.FAILED);
    const had = moves ? 30_000n : 20_000n;
    expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([had, 100_000n - had]);

    await server.kftc.script({ ...fault, call: "deposit", accountNumber } as never);
    const down = await ended(alice, await idOf(withdraw(alice, alice.bank, 5_000n)));
    expect(down?.state).toBe(moves ? BankTransfer_State.SUCCEEDED : BankTransfer_State.FAILED);
    const has = moves ? had - 5_000n : had;
    expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([has, 100_000n - has]);
    expect((await alice.wallets.getWallet({})).wallet?.held).toBe(0n);
  },
);

test("B5: how many transfers no bank has decided is told to Prometheus", { timeout: 60_000 }, async () => {
  const alice = await newcomer({ balance: 100_000n });
  const { number: accountNumber } = alice.bank.where;
  const metrics = () => server.app.metrics.registry.metrics();
  await server.kftc.script({ kind: "processing", inquiries: 2, call: "withdraw", accountNumber });

  const { bankTransfer } = await topUp(alice, alice.bank, 10_000n);
  expect(await metrics()).toMatch(/^chatpay_bank_transfers_open [1-9]/m);
  expect(await metrics()).toMatch(/^chatpay_bank_transfers_open_oldest_seconds \d/m);

  await ended(alice, bankTransfer?.id ?? "");
  await vi.waitFor(async () => expect(await metrics()).toMatch(/^chatpay_bank_transfers_open 0$/m), PATIENCE);
});

test("B5: what was intended by a process that died is asked about, and ends", { timeout: 30_000 }, async () => {
  const alice = await newcomer({ balance: 100_000n });
  await topUp(alice, alice.bank, 10_000n);
  const owner = { accountId: alice.accountId, walletId: BigInt(alice.walletId) };
  const rules = {
    tiers: server.app.config.tiers,
    institutionCode: server.app.config.banking?.institutionCode ?? "",
    silenceMs: 100,
  };
  const order = () => ({
    idempotencyKey: randomUUID(),
    bankAccountId: BigInt(alice.bank.bankAccount.id),
    amount: 4_000n,
  });

  const { value: up } = await server.app.lane.submit(intendTopUp(rules, owner, order()));
  const { value: down } = await server.app.lane.submit(intendWithdrawal(rules, owner, order()));
  expect((await alice.wallets.getWallet({})).wallet?.held).toBe(4_000n);

  expect((await ended(alice, String(up.id)))?.state).toBe(BankTransfer_State.FAILED);
  expect((await ended(alice, String(down.id)))?.state).toBe(BankTransfer_State.FAILED);
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 10_000n, held: 0n });
});

test("B5: what waited so long for a token that it was taken for lost is not sent to the bank any more", {
  timeout: 30_000,
}, async () => {
  const alice = await newcomer({ balance: 100_000n });
  await topUp(alice, alice.bank, 10_000n);
  // Whoever renewed the token died while they were at it.
  const turn = `chatpay:bank:grant:${alice.accountId}`;
  await server.kftc.changeTokens("expire");
  await server.app.redis.set(turn, "a process that died", "PX", 60_000);

  const key = randomUUID();
  const waiting = topUp(alice, alice.bank, 4_000n, key).catch(() => {});
  const lost = await vi.waitFor(async () => {
    const [last] = (await alice.banks.listBankTransfers({})).bankTransfers;
    expect(last).toMatchObject({ amount: 4_000n, state: BankTransfer_State.FAILED });
    return last;
  }, PATIENCE);
  await server.app.redis.del(turn);
  await waiting;

  expect(await ended(alice, lost?.id ?? "")).toMatchObject({ state: BankTransfer_State.FAILED });
  expect(await refusalOf(topUp(alice, alice.bank, 4_000n, key))).toMatchObject({ reason: "BANK_DECLINED" });
  expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([10_000n, 90_000n]);
});

test("B5: an answer that was long on its way says what was so when it was asked for", async () => {
  const alice = await newcomer({ balance: 100_000n });
  const owner = { accountId: alice.accountId, walletId: BigInt(alice.walletId) };
  const { lane, bankTransfers, config } = server.app;
  const rules = {
    tiers: config.tiers,
    institutionCode: config.banking?.institutionCode ?? "",
    silenceMs: 60_000,
  };
  const order = { idempotencyKey: randomUUID(), bankAccountId: BigInt(alice.bank.bankAccount.id), amount: 4_000n };
  const { value: intended } = await lane.submit(intendTopUp(rules, owner, order));
  await server.kftc.script({ call: "result", kind: "delay", at: "after", ms: TIMEOUT_MS / 2 });

  const inquired = bankTransfers?.inquire(intended);
  const now = Date.now.bind(Date);
  const clock = vi.spyOn(Date, "now").mockImplementation(() => now() + 5_000);
  const { state } = (await inquired) ?? {};
  clock.mockRestore();

  expect(state).toBe(BankTransfer_State.UNKNOWN);
  expect(await ended(alice, String(intended.id))).toMatchObject({ state: BankTransfer_State.FAILED });
});

test("W3: while a withdrawal is not known to have ended its money is set aside, also when the wallet is frozen", async () => {
  const alice = await newcomer({ balance: 100_000n });
  await topUp(alice, alice.bank, 10_000n);
  await server.kftc.script({
    call: "deposit",
    accountNumber: alice.bank.where.number,
    kind: "processing",
    inquiries: 1,
  });

  const { bankTransfer } = await withdraw(alice, alice.bank, 10_000n);
  expect(bankTransfer?.state).toBe(BankTransfer_State.UNKNOWN);
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 10_000n, held: 10_000n, available: 0n });
  await freeze(alice);

  expect((await ended(alice, bankTransfer?.id ?? ""))?.state).toBe(BankTransfer_State.SUCCEEDED);
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 0n, held: 0n });
});

async function freeze({ walletId }: Person) {
  const { WalletService } = await import("../gen/chatpay/wallet/v1/wallet_pb.ts");
  await server.client(WalletService, { bearer: server.keys.operator }).freezeWallet({ walletId, reason: "a test" });
}

test("W4: a transfer that finds too little draws the shortfall from the primary account, and goes on", async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  await topUp(alice, alice.bank, 3_000n);

  const { transfer } = await send(alice, bob, 10_000n);

  expect(transfer?.amount).toBe(10_000n);
  expect([await balanceOf(alice), await balanceOf(bob), await atBank(alice.bank)]).toEqual([0n, 10_000n, 90_000n]);
  const { bankTransfers } = await alice.banks.listBankTransfers({});
  expect(bankTransfers[0]).toMatchObject({ kind: BankTransfer_Kind.AUTOMATIC_TOP_UP, amount: 7_000n });
});

test("what a bank says of an automatic top-up is counted as that of any other transfer", async () => {
  const alice = await newcomer({ automaticTopUp: true });
  const bob = await openWallet(server);
  const counted = async () => {
    const line = /^chatpay_bank_answers_total{kind="automatic_top_up",outcome="approved"} (\d+)$/m;
    return Number(line.exec(await server.app.metrics.registry.metrics())?.[1] ?? 0);
  };
  const before = await counted();

  await send(alice, bob, 1_000n);

  expect(await counted()).toBe(before + 1);
});

test("W4: a payment draws too, rounded up to the unit that its owner wants", async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true, topUpUnit: 10_000n });
  const partner = await openPartner(server);
  const payment = { partnerId: partner.partnerId, orderKey: randomUUID(), amount: 12_345n };

  await alice.payments.approvePayment(payment);

  expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([7_655n, 80_000n]);
  expect(await refusalOf(alice.payments.approvePayment(payment))).toMatchObject({ reason: "PAYMENT_EXISTS" });
  expect(await atBank(alice.bank)).toBe(80_000n);
});

test("W4: a gift that finds too little draws the shortfall, which waits with it", async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  await topUp(alice, alice.bank, 1_000n);
  const order = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 3_000n };

  const gifts = await Promise.all(Array.from({ length: 5 }, () => alice.transfers.sendGift(order)));
  expect(new Set(gifts.map(({ transfer }) => transfer?.id)).size).toBe(1);
  expect(await atBank(alice.bank)).toBe(97_000n);
  const { wallet } = await alice.wallets.getWallet({});
  expect([wallet?.balance, wallet?.held]).toEqual([3_000n, 3_000n]);

  await bob.transfers.declineGift({ transferId: gifts[0]?.transfer?.id ?? "" });
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([3_000n, 0n]);
});

test("W4: without consent, or without a primary account, nothing is drawn", async () => {
  const [alice, bob] = [await newcomer(), await openWallet(server)];

  expect(await refusalOf(send(alice, bob, 1_000n))).toMatchObject({ reason: "INSUFFICIENT_FUNDS" });
  expect(await refusalOf(send(bob, alice, 1_000n))).toMatchObject({ reason: "INSUFFICIENT_FUNDS" });

  expect(await atBank(alice.bank)).toBe(1_000_000n);
});

test("W4: a bank that declines, or cannot be reached, refuses the debit in words, and the wallet is as it was", async () => {
  const alice = await newcomer({ balance: 5_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  await topUp(alice, alice.bank, 1_000n);
  const key = randomUUID();

  const declined = await refusalOf(send(alice, bob, 10_000n, key));
  expect(declined).toMatchObject({ code: Code.FailedPrecondition, reason: "BANK_DECLINED" });
  expect(declined.text).toMatch(/잔액/);
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 1_000n, held: 0n });

  // The same key may try again, once there is money.
  await server.kftc.changeAccount(alice.bank.where, { balance: "50000" });
  await send(alice, bob, 10_000n, key);
  expect(await balanceOf(bob)).toBe(10_000n);
});

test("W4: twenty repeats of one debit draw once", async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  const key = randomUUID();

  const sent = await Promise.all(Array.from({ length: 20 }, () => send(alice, bob, 9_000n, key)));

  expect(new Set(sent.map(({ transfer }) => transfer?.id)).size).toBe(1);
  expect([await balanceOf(alice), await balanceOf(bob), await atBank(alice.bank)]).toEqual([0n, 9_000n, 91_000n]);
});

test.for([9_000n, 3_000_000n])(
  "W4: whoever repeats a debit of %d won just when it is done does not draw once more, and is not refused",
  { timeout: 60_000 },
  async (amount) => {
    const alice = await newcomer({ balance: 10_000_000n, automaticTopUp: true });
    const bob = await openWallet(server);
    const key = randomUUID();
    const repeats: Promise<unknown>[] = [];
    let isDone = false;

    const first = send(alice, bob, amount, key).finally(() => (isDone = true));
    while (!isDone) {
      repeats.push(send(alice, bob, amount, key));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all([first, ...repeats]);

    expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([0n, amount]);
    expect(await atBank(alice.bank)).toBe(10_000_000n - amount);
  },
);

test("W4: when the caller's time is over before the bank has said, the key finds the outcome", {
  timeout: 30_000,
}, async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  await server.kftc.script({
    call: "withdraw",
    accountNumber: alice.bank.where.number,
    kind: "processing",
    inquiries: 1,
  });
  const request = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 9_000n };

  const late = refusalOf(alice.transfers.sendTransfer(request, { timeoutMs: 300 }));
  expect(await late).toMatchObject({ code: Code.DeadlineExceeded });

  const { transfer } = await alice.transfers.sendTransfer(request, { timeoutMs: 20_000 });
  expect(transfer?.amount).toBe(9_000n);
  expect([await balanceOf(alice), await balanceOf(bob), await atBank(alice.bank)]).toEqual([0n, 9_000n, 91_000n]);
});

test("W4: a debit that is refused for another reason leaves what was drawn in the wallet", async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  await server.kftc.script({
    call: "withdraw",
    accountNumber: alice.bank.where.number,
    kind: "delay",
    at: "after",
    ms: 200,
  });

  const sending = refusalOf(send(alice, bob, 9_000n));
  await vi.waitFor(
    async () => expect((await alice.banks.listBankTransfers({})).bankTransfers).toHaveLength(1),
    PATIENCE,
  );
  await bob.accounts.closeAccount({});

  expect(await sending).toMatchObject({ reason: "WALLET_CLOSED" });
  expect([await balanceOf(alice), await atBank(alice.bank)]).toEqual([9_000n, 91_000n]);
});

test("W4: a batch draws once for all that it misses; an atomic one too", async () => {
  const alice = await newcomer({ balance: 100_000n, automaticTopUp: true });
  const bob = await openWallet(server);
  await topUp(alice, alice.bank, 5_000n);
  const batch = (amounts: bigint[]) =>
    amounts.map((amount) => ({ idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount }));

  const each = await alice.transfers.batchSendTransfers({ transfers: batch([4_000n, 4_000n, 4_000n]) });
  expect(each.results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "transfer", "transfer"]);
  const all = await alice.transfers.batchSendTransfers({ transfers: batch([6_000n, 6_000n]), atomic: true });
  expect(all.results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "transfer"]);

  expect([await balanceOf(alice), await balanceOf(bob), await atBank(alice.bank)]).toEqual([0n, 24_000n, 76_000n]);
  expect((await alice.banks.listBankTransfers({})).bankTransfers).toHaveLength(3);
});

test("W5: of 50 debits at once that need a draw, exactly as many succeed as the limit of the day allows", {
  timeout: 60_000,
}, async () => {
  // Here the bank has its time: what is given up before it is sent draws nothing.
  const patient = await startServer();
  const [alice, bob] = [await openWallet(patient), await openWallet(patient)];
  const { where } = await linkBank(patient, alice, { balance: 10_000_000n, automaticTopUp: true });

  const outcomes = await Promise.all(Array.from({ length: 50 }, () => refusalOf(send(alice, bob, 100_000n))));

  const reasons = outcomes.map(({ reason }) => reason);
  expect(reasons.filter((reason) => reason === undefined)).toHaveLength(30);
  expect(reasons.filter((reason) => reason === "DRAW_LIMIT_EXCEEDED")).toHaveLength(20);
  expect([await balanceOf(alice), await balanceOf(bob)]).toEqual([0n, 3_000_000n]);
  expect((await patient.kftc.getAccount(where)).balance).toBe("7000000");
  expect(await differencesIn(patient.app.config.databaseUrl)).toEqual([]);
  await patient.stop();
});

test("W5: the draw that would pass the limit of the day is refused, and what a bank declines is given back", async () => {
  const alice = await newcomer({ balance: 3_000_000n });

  await topUp(alice, alice.bank, 2_999_999n);
  const refused = await refusalOf(topUp(alice, alice.bank, 2n));
  expect(refused).toMatchObject({ code: Code.FailedPrecondition, reason: "DRAW_LIMIT_EXCEEDED" });
  expect(refused.metadata).toEqual({ limit: "3000000", left: "1" });

  await server.kftc.script({ call: "withdraw", accountNumber: alice.bank.where.number, kind: "decline", code: "453" });
  expect(await refusalOf(topUp(alice, alice.bank, 1n))).toMatchObject({ reason: "BANK_DECLINED" });
  await topUp(alice, alice.bank, 1n);
  expect(await refusalOf(topUp(alice, alice.bank, 1n))).toMatchObject({ reason: "DRAW_LIMIT_EXCEEDED" });
  expect(await balanceOf(alice)).toBe(3_000_000n);
});

test("B4: each call has an id of its own, of the institution, U, and nine letters or digits", async () => {
  const alice = await newcomer();

  for (let i = 0; i < 3; i += 1) await topUp(alice, alice.bank, 1_000n);

  const { bankTransfers } = await alice.banks.listBankTransfers({});
  const ids = bankTransfers.map(({ bankTranId }) => bankTranId);
  expect(new Set(ids).size).toBe(3);
  for (const id of ids) expect(id).toMatch(new RegExp(`^${server.app.config.banking?.institutionCode}U[0-9A-Z]{9}$`));
});

test("an operator lists what is not known to have ended, and a person only their own", async () => {
  const alice = await newcomer();
  await server.kftc.script({
    call: "withdraw",
    accountNumber: alice.bank.where.number,
    kind: "processing",
    inquiries: 1,
  });
  const { bankTransfer } = await topUp(alice, alice.bank, 1_000n);
  const { BankService } = await import("../gen/chatpay/bank/v1/bank_pb.ts");
  const operator = server.client(BankService, { bearer: server.keys.operator });
  const state = BankTransfer_State.UNKNOWN;

  const ids = (await operator.listBankTransfers({ state })).bankTransfers.map(({ id }) => id);
  expect(ids).toContain(bankTransfer?.id);
  const stranger = await openWallet(server);
  expect((await stranger.banks.listBankTransfers({})).bankTransfers).toEqual([]);
  await ended(alice, bankTransfer?.id ?? "");
});

test("a person whom the banks do not know is not linked", async () => {
  await addCitizen(server);
  const alice = await openWallet(server);
  expect((await alice.banks.listBankAccounts({})).bankAccounts).toEqual([]);
});
