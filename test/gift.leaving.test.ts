import { randomBytes, randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ClosingObstacle_Kind, ClosingObstaclesSchema } from "../gen/chatpay/account/v1/account_pb.ts";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { Transfer_State, TransferChange_Kind } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { HOUSE } from "../src/db/schema.ts";
import { acceptGift, cancelGift, expireGift, HandedOver, sendGift } from "../src/transfer/gift.ts";
import { findGift } from "../src/transfer/queries.ts";
import { linkBank } from "./support/banks.ts";
import { balanceOf, differencesIn, eventsOf, openWallet, openWallets, type Person } from "./support/people.ts";
import { errorOf, refusalOf } from "./support/rpcs.ts";
import { startServer, type TestServer } from "./support/server.ts";

// No server here is a worker, so that whatever ends a gift is what a test does.

let server: TestServer;
let operator: Person["wallets"];

beforeAll(async () => {
  server = await startServer({
    CHATPAY_ROLES: "account,money",
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  });
  operator = server.client(WalletService, { bearer: server.keys.operator });
});
afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const NO_ACCOUNT = { code: Code.NotFound, reason: Reason.ACCOUNT_NOT_FOUND };
const { BALANCE, HOLD, PENDING_TRANSFER } = ClosingObstacle_Kind;

const orderFor = ({ walletId: recipientWalletId }: Pick<Person, "walletId">, amount: bigint) => ({
  idempotencyKey: randomUUID(),
  recipientWalletId,
  amount,
});

async function give(from: Person, to: Pick<Person, "walletId">, amount: bigint): Promise<string> {
  const { transfer } = await from.transfers.sendGift(orderFor(to, amount));
  return transfer?.id ?? "";
}

/** A gift for a millisecond. */
async function giveBriefly(from: Person, to: Person, amount: bigint) {
  const order = { ...orderFor(to, amount), memo: "", recipientWalletId: BigInt(to.walletId), expireAfterMs: 1 };
  const sender = { accountId: from.accountId, walletId: BigInt(from.walletId) };
  await server.app.lane.submit(sendGift(sender, order, { limits: undefined, remindBeforeMs: 0 }));
}

const leave = ({ accounts }: Person) => accounts.closeAccount({ handOverGifts: true });

const houseBalance = async () => (await operator.getWallet({ walletId: String(HOUSE) })).wallet?.balance ?? 0n;

/** What stands in the way, by kind, amount and gift, the least money first. */
async function obstaclesOf(answer: Promise<unknown>) {
  const error = await errorOf(answer);
  expect(await refusalOf(Promise.reject(error))).toEqual({
    code: Code.FailedPrecondition,
    reason: Reason.ACCOUNT_NOT_SETTLED,
  });
  const [detail] = error.findDetails(ClosingObstaclesSchema);
  const obstacles = detail?.obstacles.map(({ kind, amount, transferId }) => [kind, amount, transferId] as const);
  return obstacles?.toSorted(([, a], [, b]) => Number(a - b));
}

/** A gift of somebody who has left since. */
async function handedOver(amount: bigint) {
  const alice = await openWallet(server, { balance: amount });
  const bob = await openWallet(server);
  const transferId = await give(alice, bob, amount);
  await leave(alice);
  return { alice, bob, transferId };
}

test("A7: gifts that wait stand in the way of closing, each by its id, and their money not besides", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  const sent = [await give(alice, bob, 1n), await give(alice, bob, 2n)];
  const received = await give(bob, alice, 4n);

  expect(await obstaclesOf(alice.accounts.closeAccount({}))).toEqual([
    [PENDING_TRANSFER, 1n, sent[0]],
    [PENDING_TRANSFER, 2n, sent[1]],
    [PENDING_TRANSFER, 4n, received],
    [BALANCE, 97n, ""],
  ]);
  expect(await obstaclesOf(alice.accounts.closeAccount({ handOverGifts: true, returnReceipts: true }))).toEqual([
    [PENDING_TRANSFER, 4n, received],
    [BALANCE, 97n, ""],
  ]);
  // Nothing was done to them, since the account did not close.
  for (const transferId of [...sent, received]) {
    const { transfer } = await alice.transfers.getTransfer({ transferId });
    expect(transfer).toMatchObject({ state: Transfer_State.PENDING });
    expect(transfer?.handOverTime).toBeUndefined();
  }
});

test("A7: what is set aside for something else still stands in the way as that", async () => {
  const alice = await openWallet(server, { balance: 7n });
  const bob = await openWallet(server);
  const gift = await give(alice, bob, 2n);
  const wallet = BigInt(alice.walletId);
  const held = await server.app.lane.submit({
    touches: { wallet: [wallet] },
    decide: (books) =>
      books.hold({
        wallet,
        amount: 5n,
        because: { cause: Entry_Cause.TRANSFER, id: books.newId() },
        expireTime: books.now,
      }),
  });

  expect(await obstaclesOf(alice.accounts.closeAccount({}))).toEqual([
    [PENDING_TRANSFER, 2n, gift],
    [BALANCE, 5n, ""],
    [HOLD, 5n, ""],
  ]);
  await server.app.lane.submit({
    touches: { wallet: [wallet], hold: [held.value.id] },
    decide: (books) => books.release({ hold: held.value.id }),
  });
});

test("T3: who leaves hands gifts over to the house, and the recipient still accepts", async () => {
  const alice = await openWallet(server, { balance: 30n });
  const bob = await openWallet(server);
  const ids = [await give(alice, bob, 10n), await give(alice, bob, 20n)];
  const before = await houseBalance();

  await leave(alice);

  expect((await houseBalance()) - before).toBe(30n);
  expect(await balanceOf({ ...alice, wallets: operator })).toBe(0n);
  expect(await refusalOf(alice.transfers.cancelGift({ transferId: ids[0] ?? "" }))).toEqual(NO_ACCOUNT);
  const { transfer } = await bob.transfers.getTransfer({ transferId: ids[0] ?? "" });
  expect(transfer).toMatchObject({ state: Transfer_State.PENDING, handOverTime: expect.anything() });
  expect((await bob.transfers.listTransfers({ state: Transfer_State.PENDING })).transfers.length).toBe(2);

  for (const transferId of ids) await bob.transfers.acceptGift({ transferId });

  expect([await balanceOf(bob), (await houseBalance()) - before]).toEqual([30n, 0n]);
  const { entries } = await bob.wallets.listEntries({});
  expect(entries.map(({ cause, counterpartyWalletId }) => [cause, counterpartyWalletId])).toEqual([
    [Entry_Cause.GIFT, String(HOUSE)],
    [Entry_Cause.GIFT, String(HOUSE)],
  ]);
  const { changes } = await bob.transfers.listTransferChanges({ transferId: ids[0] ?? "" });
  expect(changes.map(({ kind, walletId }) => [kind, walletId])).toEqual([
    [TransferChange_Kind.SENT, alice.walletId],
    [TransferChange_Kind.HANDED_OVER, alice.walletId],
    [TransferChange_Kind.ACCEPTED, bob.walletId],
  ]);
  const told = (await eventsOf(server, bob.accountId)).filter(({ transferId }) => transferId === ids[0]);
  expect(told.map(({ kind }) => kind)).toEqual(["transfer.pending", "transfer.handed_over", "transfer.completed"]);
});

test("T3: what was on its way when a gift was handed over finds it so: nobody cancels it, and it is accepted", async () => {
  const { app } = server;
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server);
  const id = BigInt(await give(alice, bob, 10n));
  const before = await findGift(app.db, id);
  if (!before) throw new Error("no gift");

  await leave(alice);

  const notFound = { code: Code.NotFound, reason: Reason.TRANSFER_NOT_FOUND };
  expect(await refusalOf(app.lane.submit(cancelGift(before, {})))).toEqual(notFound);
  await expect(app.lane.submit(acceptGift(before, {}))).rejects.toBeInstanceOf(HandedOver);
  await bob.transfers.acceptGift({ transferId: String(id) });
  expect(await balanceOf(bob)).toBe(10n);
});

test("T3: what the recipient does not accept stays with the house", async () => {
  const before = await houseBalance();
  const declined = await handedOver(5n);
  const expired = await handedOver(6n);

  await declined.bob.transfers.declineGift({ transferId: declined.transferId });
  await server.app.db
    .updateTable("gift")
    .set({ expireTime: new Date(Date.now() - 1_000), createTime: new Date(Date.now() - 2_000) })
    .where("id", "=", BigInt(expired.transferId))
    .execute();
  const row = await findGift(server.app.db, BigInt(expired.transferId));
  if (row) await server.app.lane.submit(expireGift(row));

  expect((await houseBalance()) - before).toBe(11n);
  expect([await balanceOf(declined.bob), await balanceOf(expired.bob)]).toEqual([0n, 0n]);
  const stateOf = async ({ bob, transferId }: typeof declined) =>
    (await bob.transfers.getTransfer({ transferId })).transfer?.state;
  expect(await stateOf(declined)).toBe(Transfer_State.DECLINED);
  expect(await stateOf(expired)).toBe(Transfer_State.EXPIRED);
  // Nothing waits for them any more.
  await declined.bob.accounts.closeAccount({});
  await expired.bob.accounts.closeAccount({});
});

test("T3: as many gifts as may wait are handed over with one closing", { timeout: 60_000 }, async () => {
  const alice = await openWallet(server, { balance: 500n });
  const bob = await openWallet(server);
  const before = await houseBalance();
  await Promise.all(Array.from({ length: 500 }, () => give(alice, bob, 1n)));

  await leave(alice);

  expect((await houseBalance()) - before).toBe(500n);
  const waiting = await bob.transfers.listTransfers({ state: Transfer_State.PENDING, pageSize: 200 });
  expect(waiting.transfers.length).toBe(200);
});

test("A7: the rest goes to the bank, gifts to the house, and receipts back, in one call", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const [bob, carol] = await openWallets(server, 2, { balance: 50n });
  if (!bob || !carol) throw new Error("nobody there");
  const { where } = await linkBank(server, alice, { balance: 0n });
  const gift = await give(alice, bob, 40n);
  const receipts = [await give(bob, alice, 1n), await give(carol, alice, 2n)];

  await alice.accounts.closeAccount({ withdrawRest: true, handOverGifts: true, returnReceipts: true });

  expect((await server.kftc.getAccount(where)).balance).toBe("60");
  await bob.transfers.acceptGift({ transferId: gift });
  expect([await balanceOf(bob), await balanceOf(carol)]).toEqual([90n, 50n]);
  const { wallet } = await carol.wallets.getWallet({});
  expect(wallet?.available).toBe(50n);
  const states = await Promise.all(
    receipts.map(
      async (transferId, i) => (await [bob, carol][i]?.transfers.getTransfer({ transferId }))?.transfer?.state,
    ),
  );
  expect(states).toEqual([Transfer_State.DECLINED, Transfer_State.DECLINED]);
});

test("A7: more receipts than are listed are returned too", { timeout: 60_000 }, async () => {
  const alice = await openWallet(server);
  const givers = await openWallets(server, 3, { balance: 400n });
  await Promise.all(givers.flatMap((giver) => Array.from({ length: 400 }, () => give(giver, alice, 1n))));

  expect((await obstaclesOf(alice.accounts.closeAccount({})))?.length).toBe(1_000);
  await alice.accounts.closeAccount({ returnReceipts: true });

  for (const { wallets } of givers) {
    const { wallet } = await wallets.getWallet({});
    expect([wallet?.balance, wallet?.held]).toEqual([400n, 0n]);
  }
});

test("A7: a gift whose time is over stands in nobody's way, also when the job is late", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server);
  await giveBriefly(alice, bob, 10n);
  await expect.poll(async () => (await alice.wallets.getWallet({})).wallet?.held).toBe(0n);

  await bob.accounts.closeAccount({});

  expect(await obstaclesOf(leave(alice))).toEqual([[BALANCE, 10n, ""]]);
});

test("A7: who gives to somebody that closes at the same time either stands in the way or is refused", {
  timeout: 60_000,
}, async () => {
  for (let round = 0; round < 10; round += 1) {
    const alice = await openWallet(server, { balance: 10n });
    const bob = await openWallet(server);

    const [given, closed] = await Promise.allSettled([
      alice.transfers.sendGift(orderFor(bob, 10n)),
      bob.accounts.closeAccount({}),
    ]);

    expect([given.status, closed.status].toSorted()).toEqual(["fulfilled", "rejected"]);
    const { wallet } = await alice.wallets.getWallet({});
    expect(wallet?.available).toBe(given.status === "fulfilled" ? 0n : 10n);
  }
});
