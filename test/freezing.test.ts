import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { Entry_Cause, Wallet_State, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { BANK_CLEARING } from "../src/db/schema.ts";
import { transferRow } from "./support/load.ts";
import {
  balanceOf,
  differencesIn,
  eventsOf,
  openPartner,
  openWallet,
  openWallets,
  type Person,
} from "./support/people.ts";
import { outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";

const databaseUrl = await makeDatabase();
let server: TestServer;
let other: TestServer;
let operator: Person["wallets"];

beforeAll(async () => {
  server = await startServer({ DATABASE_URL: databaseUrl });
  other = await startServer({ DATABASE_URL: databaseUrl });
  operator = server.client(WalletService, { bearer: server.keys.operator });
});

afterAll(async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
  await Promise.all([server.stop(), other.stop()]);
});

const FROZEN = { code: Code.FailedPrecondition, reason: Reason.WALLET_FROZEN };
const CLOSED = { code: Code.FailedPrecondition, reason: Reason.WALLET_CLOSED };

const freeze = ({ walletId }: { walletId: string }) => operator.freezeWallet({ walletId, reason: "a report" });
const unfreeze = ({ walletId }: { walletId: string }) => operator.unfreezeWallet({ walletId, reason: "cleared up" });

const send = (from: Person, to: Person, amount: bigint) =>
  from.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: to.walletId, amount });

const adjustment = (walletId: string, amount: bigint) => ({
  idempotencyKey: randomUUID(),
  walletId,
  amount,
  reason: "for a test",
});

test("A12: a frozen wallet receives and does not pay, but an operator may debit it", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 100n })) as [Person, Person];
  const shop = await openPartner(server);
  const order = { partnerId: shop.partnerId, orderKey: randomUUID(), amount: 1n };

  const { wallet } = await freeze(alice);

  expect(wallet).toMatchObject({ id: alice.walletId, state: Wallet_State.FROZEN, balance: 100n });
  expect(await refusalOf(send(alice, bob, 1n))).toEqual(FROZEN);
  expect(await refusalOf(alice.payments.approvePayment(order))).toEqual(FROZEN);
  await send(bob, alice, 10n);
  await operator.creditWallet(adjustment(alice.walletId, 5n));
  await operator.debitWallet(adjustment(alice.walletId, 60n));
  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ state: Wallet_State.FROZEN, balance: 55n });
});

test("A12: an unfrozen wallet pays again", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 100n })) as [Person, Person];
  await freeze(alice);

  const { wallet } = await unfreeze(alice);
  await send(alice, bob, 100n);

  expect(wallet?.state).toBe(Wallet_State.OPEN);
  expect(await Promise.all([alice, bob].map(balanceOf))).toEqual([0n, 200n]);
});

test("A12: a partner's wallet can be frozen as well, and is still paid", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const shop = await openPartner(server);

  await freeze(shop);
  await alice.payments.approvePayment({ partnerId: shop.partnerId, orderKey: randomUUID(), amount: 10n });

  expect((await shop.wallets.getWallet({})).wallet).toMatchObject({ state: Wallet_State.FROZEN, balance: 10n });
});

test("A12: money that was set aside in a frozen wallet can be released, not captured", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 100n })) as [Person, Person];
  const [walletId, bobsWalletId] = [BigInt(alice.walletId), BigInt(bob.walletId)];
  const { lane } = server.app;
  const { value: hold } = await lane.submit({
    touches: { wallet: [walletId] },
    decide: (books) =>
      books.hold({
        wallet: walletId,
        amount: 40n,
        because: { cause: Entry_Cause.TRANSFER, id: books.newId() },
        expireTime: books.now,
      }),
  });
  const touches = { wallet: [walletId, bobsWalletId], hold: [hold.id] };
  const capture = () =>
    lane.submit({
      touches,
      decide(books) {
        const order = { from: walletId, to: bobsWalletId, amount: 40n };
        const transfer = books.insert("transfer", transferRow(books.newId(), order, books.now));
        const because = { cause: Entry_Cause.TRANSFER, id: transfer.id };
        return books.capture({ hold: hold.id, to: bobsWalletId, because });
      },
    });
  await freeze(alice);

  expect(await refusalOf(capture())).toEqual(FROZEN);
  await lane.submit({ touches, decide: (books) => books.release({ hold: hold.id }) });

  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ balance: 100n, held: 0n });
});

test("A12: freezing is told once, with the reason and the key that did it, and so is unfreezing", async () => {
  const alice = await openWallet(server);

  for (let i = 0; i < 3; i += 1) await freeze(alice);
  const { wallet: frozen } = await freeze(alice);
  for (let i = 0; i < 3; i += 1) await unfreeze(alice);

  const { walletId, accountId } = alice;
  const events = (await eventsOf(server, accountId)).filter(({ kind }) => kind.startsWith("wallet."));
  const apiKeyId = expect.stringMatching(/^[1-9][0-9]+$/);
  expect(events).toEqual([
    { kind: "wallet.frozen", accounts: [String(accountId)], walletId, reason: "a report", apiKeyId },
    { kind: "wallet.unfrozen", accounts: [String(accountId)], walletId, reason: "cleared up", apiKeyId },
  ]);
  expect((await alice.wallets.getWallet({})).wallet?.version).toBe((frozen?.version ?? 0n) + 1n);
});

test("A12: the house's wallets, closed ones and those that are not there are not frozen", async () => {
  const alice = await openWallet(server);
  await alice.accounts.closeAccount({});

  for (const turn of [freeze, unfreeze]) {
    expect(await refusalOf(turn({ walletId: String(BANK_CLEARING) }))).toEqual({
      code: Code.InvalidArgument,
      reason: Reason.SYSTEM_WALLET,
    });
    expect(await refusalOf(turn(alice))).toEqual(CLOSED);
    expect(await refusalOf(turn({ walletId: "4242" }))).toEqual({
      code: Code.NotFound,
      reason: Reason.WALLET_NOT_FOUND,
    });
  }
});

test("A12: only an operator freezes", async () => {
  const alice = await openWallet(server);
  const bob = await openWallet(server);
  const refused = { code: Code.PermissionDenied, reason: Reason.CALLER_NOT_ALLOWED };

  expect(await refusalOf(alice.wallets.freezeWallet({ walletId: bob.walletId, reason: "spite" }))).toEqual(refused);
  expect(await refusalOf(alice.wallets.unfreezeWallet({ walletId: alice.walletId, reason: "need" }))).toEqual(refused);
});

test("A12: once a freeze is answered nothing leaves, whatever was on its way at either server", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);
  const elsewhere = other.client(WalletService, { bearer: server.keys.operator });
  let frozenAt: bigint | undefined;
  const outcomes = { sent: 0, refused: 0, sentAfterTheAnswer: 0 };

  async function sendTenTimes() {
    for (let i = 0; i < 10; i += 1) {
      const wasFrozen = frozenAt !== undefined;
      const outcome = await outcomeOf(send(alice, bob, 3n));
      if (outcome === "OK") outcomes.sent += 1;
      if (outcome === "OK" && wasFrozen) outcomes.sentAfterTheAnswer += 1;
      if (outcome === "FailedPrecondition WALLET_FROZEN") outcomes.refused += 1;
      if (outcomes.sent === 40 && outcome === "OK") {
        const { wallet } = await elsewhere.freezeWallet({ walletId: alice.walletId, reason: "a report" });
        frozenAt = wallet?.balance;
      }
    }
  }
  await Promise.all(Array.from({ length: 10 }, sendTenTimes));

  const sent = BigInt(outcomes.sent) * 3n;
  expect(outcomes).toEqual({ sent: expect.any(Number), refused: 100 - outcomes.sent, sentAfterTheAnswer: 0 });
  expect(outcomes.refused).toBeGreaterThan(0);
  expect(frozenAt).toBe(1_000n - sent);
  expect(await Promise.all([alice, bob].map(balanceOf))).toEqual([1_000n - sent, sent]);
});

test("A12: two operators who freeze and unfreeze at once leave a wallet that is one or the other", async () => {
  const alice = await openWallet(server, { balance: 10n });

  await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? freeze(alice) : unfreeze(alice))));
  const events = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind.endsWith("frozen"));
  const { wallet } = await operator.getWallet({ walletId: alice.walletId });

  // Each event is a change, so they take turns and the last one is how it stands.
  expect(events.map(({ kind }) => kind)).toEqual(
    events.map((_, i) => (i % 2 === 0 ? "wallet.frozen" : "wallet.unfrozen")),
  );
  expect(wallet?.state).toBe(events.length % 2 === 0 ? Wallet_State.OPEN : Wallet_State.FROZEN);
});
