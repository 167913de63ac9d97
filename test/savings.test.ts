import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test } from "vitest";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { balanceOf, differencesIn, eventsOf, openPartner, openWallet, type Person } from "./support/people.ts";
import { DOORS, refusalOf } from "./support/rpcs.ts";
import { startServer } from "./support/server.ts";

const server = await startServer();
const operator = server.client(WalletService, { bearer: server.keys.operator });
const NOT_FOUND = { code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND };

afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const failed = (reason: Reason) => ({ code: Code.FailedPrecondition, reason });
const named = (name: string) => ({ idempotencyKey: randomUUID(), name });

async function openSavings(owner: Person, name = "A trip"): Promise<string> {
  const { wallet } = await owner.wallets.createSavings(named(name));
  return wallet?.id ?? "";
}

const moving = (savingsWalletId: string, amount: bigint) => ({
  idempotencyKey: randomUUID(),
  savingsWalletId,
  amount,
});

const savedOf = (owner: Person, walletId: string) => balanceOf({ wallets: owner.wallets, walletId });

test("W1: savings have a name, take money from the main wallet and give it back", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const trip = await openSavings(alice, "여행 ✈️");
  const bicycle = await openSavings(alice, "A bicycle");

  const { move } = await alice.wallets.depositSavings(moving(trip, 600n));
  const back = await alice.wallets.withdrawSavings(moving(trip, 250n));

  expect(move).toMatchObject({
    savingsWalletId: trip,
    mainWalletId: alice.walletId,
    amount: 600n,
    currency: "KRW",
  });
  expect(back.move?.amount).toBe(-250n);
  expect([await balanceOf(alice), await savedOf(alice, trip), await savedOf(alice, bicycle)]).toEqual([650n, 350n, 0n]);
  const { wallets } = await alice.wallets.listWallets({});
  expect(wallets.map(({ id, kind, name }) => [id, kind, name])).toEqual([
    [alice.walletId, Wallet_Kind.MAIN, ""],
    [trip, Wallet_Kind.SAVINGS, "여행 ✈️"],
    [bicycle, Wallet_Kind.SAVINGS, "A bicycle"],
  ]);
  const { entries } = await alice.wallets.listEntries({ pageSize: 2 });
  expect(
    entries.map(({ amount, cause, memo, counterpartyWalletId }) => [amount, cause, memo, counterpartyWalletId]),
  ).toEqual([
    [250n, Entry_Cause.SAVINGS, "여행 ✈️", trip],
    [-600n, Entry_Cause.SAVINGS, "여행 ✈️", trip],
  ]);
  const kinds = (await eventsOf(server, alice.accountId)).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind.startsWith("savings."))).toEqual([
    "savings.opened",
    "savings.opened",
    "savings.deposited",
    "savings.withdrawn",
  ]);
});

test.each(DOORS)("W1: a move that is repeated happens once and says so: %s", async (door) => {
  const alice = await openWallet(server, { balance: 1_000n, door });
  const trip = await openSavings(alice);
  const order = moving(trip, 100n);
  const replayed: (string | null)[] = [];
  const onHeader = (header: Headers) => void replayed.push(header.get("idempotency-replayed"));

  const moves = await Promise.all(Array.from({ length: 20 }, () => alice.wallets.depositSavings(order, { onHeader })));

  expect(new Set(moves.map(({ move }) => move?.id)).size).toBe(1);
  expect(replayed.filter((value) => value === "true").length).toBe(19);
  expect([await balanceOf(alice), await savedOf(alice, trip)]).toEqual([900n, 100n]);
  const reused = { code: Code.InvalidArgument, reason: Reason.IDEMPOTENCY_KEY_REUSED };
  expect(await refusalOf(alice.wallets.depositSavings({ ...order, amount: 101n }))).toEqual(reused);
  expect(await refusalOf(alice.wallets.withdrawSavings(order))).toEqual(reused);
  const other = await openSavings(alice);
  expect(await refusalOf(alice.wallets.depositSavings({ ...order, savingsWalletId: other }))).toEqual(reused);
});

test("W1: savings that are opened again under their key are the same, whatever they are called by now", async () => {
  const alice = await openWallet(server);
  const order = named("A trip");
  const opened = await Promise.all(Array.from({ length: 10 }, () => alice.wallets.createSavings(order)));
  const [id = ""] = new Set(opened.map(({ wallet }) => wallet?.id));
  const { wallet: renamed } = await alice.wallets.renameSavings({ walletId: id, name: "A house" });

  const again = await alice.wallets.createSavings(order);

  expect(new Set(opened.map(({ wallet }) => wallet?.id))).toEqual(new Set([id]));
  expect(renamed?.name).toBe("A house");
  expect(again.wallet).toMatchObject({ id, name: "A house" });
  expect((await alice.wallets.listWallets({})).wallets.length).toBe(2);
});

test("W1: neither wallet pays more than it has", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const trip = await openSavings(alice);

  expect(await refusalOf(alice.wallets.depositSavings(moving(trip, 101n)))).toEqual(failed(Reason.INSUFFICIENT_FUNDS));
  await alice.wallets.depositSavings(moving(trip, 100n));
  expect(await refusalOf(alice.wallets.withdrawSavings(moving(trip, 101n)))).toEqual(failed(Reason.INSUFFICIENT_FUNDS));
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, () => alice.wallets.withdrawSavings(moving(trip, 30n))),
  );

  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(3);
  expect([await balanceOf(alice), await savedOf(alice, trip)]).toEqual([90n, 10n]);
});

test("W1: savings are moved by their owner alone, and only what are savings", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const trip = await openSavings(alice);
  await alice.wallets.depositSavings(moving(trip, 50n));

  for (const walletId of [trip, bob.walletId, alice.walletId, shop.walletId, "1", "4242"]) {
    expect(await refusalOf(bob.wallets.depositSavings(moving(walletId, 1n)))).toEqual(NOT_FOUND);
    expect(await refusalOf(bob.wallets.withdrawSavings(moving(walletId, 1n)))).toEqual(NOT_FOUND);
    expect(await refusalOf(bob.wallets.renameSavings({ walletId, name: "mine" }))).toEqual(NOT_FOUND);
    expect(await refusalOf(bob.wallets.closeSavings({ walletId }))).toEqual(NOT_FOUND);
  }
  expect(await savedOf(alice, trip)).toBe(50n);
});

test("W1: a savings wallet is sent nothing and pays nobody", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const trip = await openSavings(alice);
  await alice.wallets.depositSavings(moving(trip, 100n));
  const sent = { idempotencyKey: randomUUID(), recipientWalletId: trip, amount: 1n };

  expect(await refusalOf(bob.transfers.sendTransfer(sent))).toEqual(NOT_FOUND);
  expect(await refusalOf(alice.transfers.sendTransfer(sent))).toEqual(NOT_FOUND);
  const order = { partnerId: shop.partnerId, orderKey: randomUUID(), amount: 1n };
  expect(await refusalOf(alice.payments.approvePayment(order))).toEqual(failed(Reason.INSUFFICIENT_FUNDS));
  expect(await savedOf(alice, trip)).toBe(100n);
});

test("W1: a frozen main wallet saves nothing, frozen savings give nothing, and both receive", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const trip = await openSavings(alice);
  await alice.wallets.depositSavings(moving(trip, 50n));
  const freeze = (walletId: string) => operator.freezeWallet({ walletId, reason: "a test" });
  const frozen = failed(Reason.WALLET_FROZEN);

  await freeze(alice.walletId);
  expect(await refusalOf(alice.wallets.depositSavings(moving(trip, 1n)))).toEqual(frozen);
  await alice.wallets.withdrawSavings(moving(trip, 10n));
  await operator.unfreezeWallet({ walletId: alice.walletId, reason: "a test" });

  const { wallet } = await freeze(trip);
  expect(wallet).toMatchObject({ state: Wallet_State.FROZEN, name: "A trip" });
  expect(await refusalOf(alice.wallets.withdrawSavings(moving(trip, 1n)))).toEqual(frozen);
  await alice.wallets.depositSavings(moving(trip, 5n));
  expect(await refusalOf(alice.wallets.closeSavings({ walletId: trip }))).toEqual(frozen);
  expect([await balanceOf(alice), await savedOf(alice, trip)]).toEqual([55n, 45n]);
});

test("W1: savings close when they are empty, once, and take no money after that", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const trip = await openSavings(alice);
  await alice.wallets.depositSavings(moving(trip, 1n));
  expect(await refusalOf(alice.wallets.closeSavings({ walletId: trip }))).toEqual(failed(Reason.WALLET_NOT_EMPTY));
  await alice.wallets.withdrawSavings(moving(trip, 1n));

  const closed = await alice.wallets.closeSavings({ walletId: trip });
  const again = await alice.wallets.closeSavings({ walletId: trip });

  expect(closed.wallet?.state).toBe(Wallet_State.CLOSED);
  expect(again.wallet).toEqual(closed.wallet);
  const refused = failed(Reason.WALLET_CLOSED);
  expect(await refusalOf(alice.wallets.depositSavings(moving(trip, 1n)))).toEqual(refused);
  expect(await refusalOf(alice.wallets.renameSavings({ walletId: trip, name: "x" }))).toEqual(refused);
  const events = await eventsOf(server, alice.accountId);
  expect(events.filter(({ kind }) => kind === "savings.closed").length).toBe(1);
});

test("W1: there are 20 open savings wallets at most, however many are opened at once", async () => {
  const alice = await openWallet(server);

  const outcomes = await Promise.allSettled(
    Array.from({ length: 30 }, (_, i) => alice.wallets.createSavings(named(`No. ${i}`))),
  );
  const { wallets } = await alice.wallets.listWallets({});
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(20);
  expect(wallets.length).toBe(21);
  expect(await refusalOf(alice.wallets.createSavings(named("one more")))).toEqual(failed(Reason.TOO_MANY));

  await alice.wallets.closeSavings({ walletId: wallets[1]?.id ?? "" });
  await alice.wallets.createSavings(named("instead"));
  expect(await refusalOf(alice.wallets.createSavings(named("one more")))).toEqual(failed(Reason.TOO_MANY));
});

test("W1: savings with money stand in the way of closing the account, which closes empty ones", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const trip = await openSavings(alice);
  await openSavings(alice, "empty");
  await alice.wallets.depositSavings(moving(trip, 100n));
  const refused = failed(Reason.ACCOUNT_NOT_SETTLED);
  expect(await refusalOf(alice.accounts.closeAccount({}))).toEqual(refused);
  await alice.wallets.withdrawSavings(moving(trip, 100n));
  expect(await refusalOf(alice.accounts.closeAccount({}))).toEqual(refused);
  await operator.debitWallet({ idempotencyKey: randomUUID(), walletId: alice.walletId, amount: 100n, reason: "out" });

  const opening = alice.wallets.createSavings(named("too late")).catch(() => undefined);
  await Promise.all([alice.accounts.closeAccount({}), opening]);

  const { wallet } = await operator.getWallet({ walletId: trip });
  expect(wallet?.state).toBe(Wallet_State.CLOSED);
  const states = await server.app.db
    .selectFrom("wallet")
    .select("state")
    .where("accountId", "=", alice.accountId)
    .execute();
  expect(states.filter(({ state }) => state !== Wallet_State.CLOSED)).toEqual([]);
});
