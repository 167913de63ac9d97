import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test, vi } from "vitest";
import { BankTransfer_State } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { linkBank } from "./support/banks.ts";
import { balanceOf, differencesIn, eventsOf, openPartner, openWallet, type Person } from "./support/people.ts";
import { refusalOf } from "./support/rpcs.ts";
import { startServer } from "./support/server.ts";

const TIERS = {
  standard: { sendOnce: 500, sendDay: 1_000, sendStrangersDay: 600, balance: 5_000 },
  plus: { drawDay: 10_000_000 },
};
const server = await startServer({ CHATPAY_TIERS: JSON.stringify(TIERS) });
const operator = server.client(WalletService, { bearer: server.keys.operator });
const failed = (reason: Reason) => ({ code: Code.FailedPrecondition, reason });
const PATIENCE = { timeout: 60_000, interval: 50 };
const LIMITED = failed(Reason.SEND_LIMIT_EXCEEDED);

afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const order = (to: Pick<Person, "walletId">, amount: bigint) => ({
  idempotencyKey: randomUUID(),
  recipientWalletId: to.walletId,
  amount,
});
const send = (from: Person, to: Pick<Person, "walletId">, amount: bigint) =>
  from.transfers.sendTransfer(order(to, amount));

/** What is left of the day to send: to anybody, and to strangers. */
async function leftOf({ wallets }: Person) {
  const { allowance } = await wallets.getAllowance({});
  return [allowance?.sendDay?.left, allowance?.sendStrangersDay?.left];
}

test("W6: a transfer above the limit of one, of strangers or of the day is refused, and counts nothing", async () => {
  const [alice, bob, carol] = [
    await openWallet(server, { balance: 5_000n }),
    await openWallet(server),
    await openWallet(server),
  ];
  expect(await leftOf(alice)).toEqual([1_000n, 600n]);
  expect(await refusalOf(send(alice, bob, 501n))).toEqual(LIMITED);
  await send(alice, bob, 500n);
  expect(await refusalOf(send(alice, carol, 101n))).toEqual(LIMITED);
  expect(await leftOf(alice)).toEqual([500n, 100n]);

  await send(alice, bob, 300n);
  await send(alice, carol, 100n);
  expect(await leftOf(alice)).toEqual([100n, 0n]);
  expect(await refusalOf(send(alice, bob, 101n))).toEqual(LIMITED);
  await send(alice, bob, 100n);

  expect(await leftOf(alice)).toEqual([0n, 0n]);
  expect(await balanceOf(alice)).toBe(4_000n);
});

test("W6: of many transfers at once exactly those happen that the limit has room for, repeats not counted", async () => {
  const alice = await openWallet(server, { balance: 5_000n });
  const bob = await openWallet(server);
  await send(alice, bob, 1n);
  const orders = Array.from({ length: 30 }, () => order(bob, 99n));

  const outcomes = await Promise.allSettled([...orders, ...orders].map((each) => alice.transfers.sendTransfer(each)));

  const ids = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value.transfer?.id] : []));
  // Those that were at the server before the first was committed count it as a stranger's still, and may be fewer.
  expect(new Set(ids).size).toBeLessThanOrEqual(10);
  expect(await balanceOf(bob)).toBe(1n + 99n * BigInt(new Set(ids).size));
  expect(new Set(ids).size).toBe(10);
});

test("W6: a batch is refused from where the limit ends; an atomic one as a whole", async () => {
  const alice = await openWallet(server, { balance: 5_000n });
  const bob = await openWallet(server);
  const orders = () => Array.from({ length: 4 }, () => order(bob, 200n));

  const atomic = await alice.transfers.batchSendTransfers({ transfers: orders(), atomic: true });
  expect(atomic.results.map(({ outcome }) => outcome.case)).toEqual(["refusal", "refusal", "refusal", "refusal"]);
  expect(await leftOf(alice)).toEqual([1_000n, 600n]);
  const each = await alice.transfers.batchSendTransfers({ transfers: orders() });

  expect(each.results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "transfer", "transfer", "refusal"]);
  expect(await leftOf(alice)).toEqual([400n, 0n]);
});

test("W6: a wallet is sent no more than it may hold; savings, payments and operators are not limited", async () => {
  const alice = await openWallet(server, { balance: 9_000n });
  const bob = await openWallet(server, { balance: 4_900n });
  const shop = await openPartner(server);
  expect(await refusalOf(send(alice, bob, 101n))).toEqual(failed(Reason.BALANCE_LIMIT_EXCEEDED));
  expect(await leftOf(alice)).toEqual([1_000n, 600n]);
  await send(alice, bob, 100n);

  await alice.payments.approvePayment({ partnerId: shop.partnerId, orderKey: randomUUID(), amount: 2_000n });
  const { wallet } = await bob.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  const moved = { savingsWalletId: wallet?.id ?? "", amount: 5_000n };
  await bob.wallets.depositSavings({ idempotencyKey: randomUUID(), ...moved });
  await operator.creditWallet({ idempotencyKey: randomUUID(), walletId: bob.walletId, amount: 4_000n, reason: "x" });
  await bob.wallets.withdrawSavings({ idempotencyKey: randomUUID(), ...moved });

  expect(await balanceOf(bob)).toBe(9_000n);
});

const give = async (from: Person, to: Pick<Person, "walletId">, amount: bigint) =>
  (await from.transfers.sendGift(order(to, amount))).transfer?.id ?? "";

test("W6: a gift counts when it is sent, and no more when it comes back on the same day", async () => {
  const [alice, bob] = [await openWallet(server, { balance: 5_000n }), await openWallet(server)];
  expect(await refusalOf(give(alice, bob, 501n))).toEqual(LIMITED);
  const [declined, canceled, kept] = [
    await give(alice, bob, 200n),
    await give(alice, bob, 100n),
    await give(alice, bob, 300n),
  ];
  expect(await leftOf(alice)).toEqual([400n, 0n]);
  expect(await refusalOf(give(alice, bob, 1n))).toEqual(LIMITED);

  await bob.transfers.declineGift({ transferId: declined });
  await alice.transfers.cancelGift({ transferId: canceled });
  expect(await leftOf(alice)).toEqual([700n, 300n]);
  await bob.transfers.acceptGift({ transferId: kept });
  await give(alice, bob, 400n);

  // Whoever accepted a gift is no stranger.
  expect(await leftOf(alice)).toEqual([300n, 300n]);
});

test("W6: a gift of another day gives nothing back of this one", async () => {
  const [alice, bob] = [await openWallet(server, { balance: 5_000n }), await openWallet(server)];
  const transferId = await give(alice, bob, 300n);
  const yesterday = { day: 20200101 };
  await server.app.db.updateTable("gift").set(yesterday).where("id", "=", BigInt(transferId)).execute();

  await bob.transfers.declineGift({ transferId });

  expect(await leftOf(alice)).toEqual([700n, 300n]);
  expect(await balanceOf(alice)).toBe(5_000n);
});

test("W6: nobody accepts more than they may hold, and the gift waits until they can", async () => {
  const alice = await openWallet(server, { balance: 5_000n });
  const [bob, carol] = [await openWallet(server, { balance: 4_900n }), await openWallet(server)];
  const transferId = await give(alice, bob, 101n);

  expect(await refusalOf(bob.transfers.acceptGift({ transferId }))).toEqual(failed(Reason.BALANCE_LIMIT_EXCEEDED));
  await send(bob, carol, 1n);
  await bob.transfers.acceptGift({ transferId });

  expect(await balanceOf(bob)).toBe(5_000n);
});

test("W6: what a bank was asked for has its room in the wallet, until it has come or is known not to come", {
  timeout: 120_000,
}, async () => {
  const alice = await openWallet(server);
  const bob = await openWallet(server, { balance: 1_000n });
  const { bankAccount, where } = await linkBank(server, alice);
  const topUp = (amount: bigint) =>
    alice.banks.topUp({ idempotencyKey: randomUUID(), bankAccountId: bankAccount.id, amount });
  const HOUR_MS = 3_600_000;
  const bankTakesItsTime = (code: string) =>
    server.kftc.script({ call: "withdraw", accountNumber: where.number, kind: "processing", code, ms: HOUR_MS });
  const ended = async (id = "") => {
    await server.kftc.setClock(HOUR_MS);
    await vi.waitFor(async () => {
      const { bankTransfer } = await alice.banks.getBankTransfer({ bankTransferId: id });
      expect(bankTransfer?.state).not.toBe(BankTransfer_State.UNKNOWN);
    }, PATIENCE);
    await server.kftc.setClock(0);
  };
  const FULL = failed(Reason.BALANCE_LIMIT_EXCEEDED);

  await bankTakesItsTime("000");
  const { bankTransfer: taken } = await topUp(4_000n);
  expect(await refusalOf(topUp(1_001n))).toEqual(FULL);
  await send(bob, alice, 500n);
  expect(await refusalOf(topUp(501n))).toEqual(FULL);
  await ended(taken?.id);
  expect(await balanceOf(alice)).toBe(4_500n);

  await bankTakesItsTime("453");
  const { bankTransfer: declined } = await topUp(500n);
  expect(await refusalOf(send(bob, alice, 1n))).toEqual(FULL);
  await ended(declined?.id);
  await topUp(500n);
  expect(await balanceOf(alice)).toBe(5_000n);
});

test("W6: an operator gives a wallet another tier, which holds at once and keeps what was counted", async () => {
  const alice = await openWallet(server, { balance: 5_000n });
  const bob = await openWallet(server);
  await send(alice, bob, 500n);
  const { walletId } = alice;
  const reason = "a good customer";

  const { allowance } = await operator.setTier({ walletId, tier: "plus", reason });
  await operator.setTier({ walletId, tier: "plus", reason });

  expect(allowance).toMatchObject({ walletId, tier: "plus", drawDay: { limit: 10_000_000n, left: 10_000_000n } });
  expect([allowance?.sendOnce, allowance?.sendDay, allowance?.balance]).toEqual([undefined, undefined, undefined]);
  await send(alice, bob, 2_000n);
  const back = await operator.setTier({ walletId, tier: "", reason });
  expect(back.allowance).toMatchObject({
    tier: "standard",
    sendOnce: 500n,
    sendDay: { limit: 1_000n, left: 0n },
    balance: 5_000n,
  });
  expect(await refusalOf(send(alice, bob, 1n))).toEqual(LIMITED);
  const told = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind === "wallet.tier_changed");
  expect(told.map(({ tier, reason: why }) => [tier, why])).toEqual([
    ["plus", reason],
    ["", reason],
  ]);
});

test("W6: only a main wallet has a tier, and only one that is configured", async () => {
  const alice = await openWallet(server);
  const shop = await openPartner(server);
  const { wallet } = await alice.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  const notFound = { code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND };

  for (const walletId of [wallet?.id ?? "", shop.walletId, "1"]) {
    expect(await refusalOf(operator.setTier({ walletId, tier: "plus", reason: "x" }))).toEqual(notFound);
    expect(await refusalOf(operator.getAllowance({ walletId }))).toEqual(notFound);
  }
  expect(await refusalOf(operator.setTier({ walletId: alice.walletId, tier: "gold", reason: "x" }))).toEqual({
    code: Code.InvalidArgument,
    reason: Reason.TIER_UNKNOWN,
  });
});

test("W6: the day that is counted ends at the next midnight of Seoul", async () => {
  const alice = await openWallet(server);

  const { allowance } = await alice.wallets.getAllowance({});

  const renew = Number(allowance?.renewTime?.seconds) * 1_000;
  expect(new Date(renew).toISOString()).toMatch(/T15:00:00\.000Z$/);
  expect(renew - Date.now()).toBeGreaterThan(-60_000);
  expect(renew - Date.now()).toBeLessThanOrEqual(24 * 60 * 60_000);
});

test("W6: where no tier limits sending, transfers write no allowances", async () => {
  const unlimited = await startServer();
  const alice = await openWallet(unlimited, { balance: 100n });
  const bob = await openWallet(unlimited);

  await send(alice, bob, 100n);

  const rows = await unlimited.app.db.selectFrom("allowance").select("id").execute();
  await unlimited.stop();
  expect(rows).toEqual([]);
});
