import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test } from "vitest";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import {
  type Entry,
  Entry_Cause,
  type ListEntriesRequestSchema,
  Wallet_Kind,
  Wallet_State,
  WalletService,
} from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { BANK_CLEARING } from "../src/db/schema.ts";
import { readPage } from "../src/rpc/page.ts";
import { balanceOf, differencesIn, openPartner, openWallet, openWallets, type Person } from "./support/people.ts";
import { DOORS, refusalOf } from "./support/rpcs.ts";
import { startServer } from "./support/server.ts";

const server = await startServer();
const operator = server.client(WalletService, { bearer: server.keys.operator });
const INT64_MAX = 2n ** 63n - 1n;
const bankClearing = String(BANK_CLEARING);

afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const send = (from: Person, to: Person, amount: bigint, memo = "") =>
  from.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: to.walletId, amount, memo });

const adjustment = (walletId: string, amount: bigint, reason = "for a test") => ({
  idempotencyKey: randomUUID(),
  walletId,
  amount,
  reason,
});

/** As closing an account leaves it. */
const setState = (walletId: string, state: Wallet_State) =>
  server.app.db.updateTable("wallet").set({ state }).where("id", "=", BigInt(walletId)).execute();

async function statementOf(
  { wallets, walletId }: Pick<Person, "wallets" | "walletId">,
  request: MessageInitShape<typeof ListEntriesRequestSchema> = {},
): Promise<Entry[]> {
  const entries: Entry[] = [];
  let pageToken = "";
  do {
    const page = await wallets.listEntries({ walletId, ...request, pageToken });
    entries.push(...page.entries);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return entries;
}

test("a statement pages through all that was received and paid, with memo and balance after", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server, { balance: 1_000n });
  const shop = await openPartner(server);
  await send(alice, bob, 100n, "lunch");
  await send(bob, alice, 30n, "change");
  await alice.payments.approvePayment({ partnerId: shop.partnerId, orderKey: "order 1", amount: 200n });
  await operator.debitWallet(adjustment(alice.walletId, 50n, "a fee"));

  const entries = await statementOf(alice, { pageSize: 2 });

  expect(entries.map(({ sequence, amount, balanceAfter, memo }) => [sequence, amount, balanceAfter, memo])).toEqual([
    [5n, -50n, 680n, "a fee"],
    [4n, -200n, 730n, "order 1"],
    [3n, 30n, 930n, "change"],
    [2n, -100n, 900n, "lunch"],
    [1n, 1_000n, 1_000n, "for a test"],
  ]);
  const { ADJUSTMENT, PAYMENT, TRANSFER } = Entry_Cause;
  expect(entries.map(({ cause }) => cause)).toEqual([ADJUSTMENT, PAYMENT, TRANSFER, TRANSFER, ADJUSTMENT]);
  expect(entries.map(({ counterpartyWalletId }) => counterpartyWalletId)).toEqual([
    bankClearing,
    shop.walletId,
    bob.walletId,
    bob.walletId,
    bankClearing,
  ]);
});

test("pages of every size show each entry once, also while money comes in", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  for (let i = 0; i < 6; i += 1) await (i % 2 === 0 ? send(alice, bob, 1n) : send(bob, alice, 1n));

  for (const pageSize of [1, 3, 7, 200]) {
    const first = await alice.wallets.listEntries({ walletId: alice.walletId, pageSize });
    await send(bob, alice, 1n);
    const sequences = first.entries.map(({ sequence }) => sequence);
    for (let pageToken = first.nextPageToken; pageToken !== ""; ) {
      const page = await alice.wallets.listEntries({ walletId: alice.walletId, pageSize, pageToken });
      sequences.push(...page.entries.map(({ sequence }) => sequence));
      pageToken = page.nextPageToken;
    }
    expect(sequences).toEqual(Array.from(sequences, (_, i) => BigInt(sequences.length - i)));
  }
});

test("a statement between two times has what happened at the first, and not at the second", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  for (const memo of ["one", "two", "three"]) {
    await send(alice, bob, 1n, memo);
    // Entries of the same millisecond cannot be told apart.
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  const times = (await statementOf(alice)).map(({ createTime }) => createTime).reverse();

  const memosOf = async (request: MessageInitShape<typeof ListEntriesRequestSchema>) =>
    (await statementOf(alice, { pageSize: 1, ...request })).map(({ memo }) => memo);

  expect(await memosOf({ startTime: times[1], endTime: times[3] })).toEqual(["two", "one"]);
  expect(await memosOf({ startTime: times[2] })).toEqual(["three", "two"]);
  expect(await memosOf({ endTime: times[1] })).toEqual(["for a test"]);
  expect(await memosOf({ startTime: timestampFromMs(Date.now() + 60_000) })).toEqual([]);
});

test("a page token is good for its own listing only", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  await send(alice, bob, 1n);
  const { nextPageToken: pageToken } = await alice.wallets.listEntries({ walletId: alice.walletId, pageSize: 1 });
  expect(pageToken).not.toBe("");
  const refused = { code: Code.InvalidArgument, reason: Reason.PAGE_TOKEN_INVALID };

  expect(await refusalOf(bob.wallets.listEntries({ pageToken }))).toEqual(refused);
  expect(await refusalOf(alice.wallets.listWallets({ pageToken }))).toEqual(refused);
  expect(await refusalOf(alice.wallets.listEntries({ pageToken, endTime: timestampFromDate(new Date()) }))).toEqual(
    refused,
  );
  expect(await refusalOf(alice.wallets.listEntries({ pageToken: pageToken.slice(0, -2) }))).toEqual(refused);
});

test("a page token carries the latest of all ids", () => {
  const pageToken = readPage({ pageSize: 1, pageToken: "" }).tokenAfter(INT64_MAX);

  expect(readPage({ pageSize: 1, pageToken }).cursor).toBe(INT64_MAX);
});

test("an empty id is the caller's own wallet, for people and partners", async () => {
  const alice = await openWallet(server, { balance: 5n });
  const shop = await openPartner(server);

  expect((await alice.wallets.getWallet({})).wallet).toMatchObject({ id: alice.walletId, available: 5n });
  expect((await shop.wallets.getWallet({})).wallet).toMatchObject({ id: shop.walletId, kind: Wallet_Kind.PARTNER });
  expect((await alice.wallets.listEntries({})).entries.length).toBe(1);
  expect(await refusalOf(operator.getWallet({}))).toEqual({ code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND });
});

test("people and partners list their own wallets, an operator all of them", async () => {
  const [alice, bob] = await openWallets(server, 2);
  const shop = await openPartner(server);

  const own = await alice?.wallets.listWallets({});
  const shops = await shop.wallets.listWallets({});
  const all: string[] = [];
  let pageToken = "";
  do {
    const page = await operator.listWallets({ pageSize: 3, pageToken });
    all.push(...page.wallets.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");

  expect(own?.wallets.map(({ id }) => id)).toEqual([alice?.walletId]);
  expect(shops.wallets.map(({ id, partnerId }) => [id, partnerId])).toEqual([[shop.walletId, shop.partnerId]]);
  expect(all).toEqual([...new Set(all)].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)));
  expect(all).toEqual(expect.arrayContaining([bankClearing, alice?.walletId, bob?.walletId, shop.walletId]));
});

test("a system wallet is there for operators only", async () => {
  const alice = await openWallet(server, { balance: 7n });
  const shop = await openPartner(server);
  const refused = { code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND };

  for (const wallets of [alice.wallets, shop.wallets]) {
    expect(await refusalOf(wallets.getWallet({ walletId: bankClearing }))).toEqual(refused);
    expect(await refusalOf(wallets.listEntries({ walletId: bankClearing }))).toEqual(refused);
  }
  const { wallet } = await operator.getWallet({ walletId: bankClearing });
  const { entries } = await operator.listEntries({ walletId: bankClearing, pageSize: 1 });

  expect(wallet?.kind).toBe(Wallet_Kind.BANK_CLEARING);
  expect(entries[0]).toMatchObject({
    amount: -7n,
    balanceAfter: wallet?.balance,
    counterpartyWalletId: alice.walletId,
  });
});

test("a repeated credit or debit moves the money once and says so, through both doors", async () => {
  for (const door of DOORS) {
    const alice = await openWallet(server);
    const wallets = server.client(WalletService, { bearer: server.keys.operator }, door);
    const replayed: (string | null)[] = [];
    const onHeader = (header: Headers) => void replayed.push(header.get("idempotency-replayed"));
    const credited = adjustment(alice.walletId, 100n, "arrived at the bank");
    const debited = adjustment(alice.walletId, 30n, "paid back");

    const credits = [
      await wallets.creditWallet(credited, { onHeader }),
      await wallets.creditWallet(credited, { onHeader }),
    ];
    const debits = [await wallets.debitWallet(debited, { onHeader }), await wallets.debitWallet(debited, { onHeader })];

    expect(credits[0]?.adjustment).toMatchObject({ amount: 100n, reason: "arrived at the bank", currency: "KRW" });
    expect(debits[0]?.adjustment).toMatchObject({ amount: -30n, reason: "paid back" });
    expect(credits[1]).toEqual(credits[0]);
    expect(debits[1]).toEqual(debits[0]);
    expect(replayed).toEqual([null, "true", null, "true"]);
    expect(await balanceOf(alice)).toBe(70n);
  }
});

test("a key belongs to one adjustment, whichever operator sends it", async () => {
  const alice = await openWallet(server);
  const request = adjustment(alice.walletId, 100n);
  await operator.creditWallet(request);
  const successor = server.client(WalletService, { bearer: await server.makeKey("operator") });
  const refused = { code: Code.InvalidArgument, reason: Reason.IDEMPOTENCY_KEY_REUSED };

  const again = await successor.creditWallet(request);

  expect(again.adjustment?.walletId).toBe(alice.walletId);
  expect(await refusalOf(successor.creditWallet({ ...request, amount: 101n }))).toEqual(refused);
  expect(await refusalOf(successor.creditWallet({ ...request, reason: "another" }))).toEqual(refused);
  expect(await refusalOf(successor.debitWallet(request))).toEqual(refused);
  expect(await balanceOf(alice)).toBe(100n);
});

test("a credit without key, to nobody or to the clearing wallet itself is refused", async () => {
  const alice = await openWallet(server);
  const credit = (change: object) => refusalOf(operator.creditWallet({ ...adjustment(alice.walletId, 1n), ...change }));
  const { InvalidArgument, NotFound } = Code;

  expect(await credit({ idempotencyKey: "" })).toEqual({
    code: InvalidArgument,
    reason: Reason.IDEMPOTENCY_KEY_MISSING,
  });
  expect(await credit({ walletId: "4242" })).toEqual({ code: NotFound, reason: Reason.WALLET_NOT_FOUND });
  expect(await credit({ walletId: bankClearing })).toEqual({ code: InvalidArgument, reason: Reason.SAME_WALLET });
  expect(await credit({ reason: "" })).toEqual({ code: InvalidArgument, reason: Reason.REQUEST_INVALID });
  expect(await credit({ amount: 0n })).toEqual({ code: InvalidArgument, reason: Reason.REQUEST_INVALID });
  expect(await balanceOf(alice)).toBe(0n);
});

test("a key counts its characters, however many units each takes", async () => {
  const alice = await openWallet(server);

  const { adjustment: made } = await operator.creditWallet({
    ...adjustment(alice.walletId, 1n),
    idempotencyKey: "🔑".repeat(64),
  });

  expect(made?.amount).toBe(1n);
});

test("a closed wallet neither pays nor receives, not even from an operator", async () => {
  const alice = await openWallet(server);
  const bob = await openWallet(server, { balance: 100n });
  await setState(alice.walletId, Wallet_State.CLOSED);
  const refused = { code: Code.FailedPrecondition, reason: Reason.WALLET_CLOSED };

  expect(await refusalOf(send(alice, bob, 1n))).toEqual(refused);
  expect(await refusalOf(send(bob, alice, 1n))).toEqual(refused);
  expect(await refusalOf(operator.creditWallet(adjustment(alice.walletId, 1n)))).toEqual(refused);
  expect(await refusalOf(operator.debitWallet(adjustment(alice.walletId, 1n)))).toEqual(refused);
  expect(await balanceOf(alice)).toBe(0n);
});

test("no wallet holds more than an int64, and no debit goes below zero", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server, { balance: 10n });
  const overflow = { code: Code.OutOfRange, reason: Reason.BALANCE_OVERFLOW };
  const clearing = (await operator.getWallet({ walletId: bankClearing })).wallet?.balance ?? 0n;

  expect(await refusalOf(operator.creditWallet(adjustment(alice.walletId, INT64_MAX)))).toEqual(overflow);
  // All that BANK_CLEARING can still give.
  await operator.creditWallet(adjustment(alice.walletId, INT64_MAX + clearing));
  expect(await refusalOf(operator.creditWallet(adjustment(bob.walletId, 1n)))).toEqual(overflow);
  const all = await balanceOf(alice);
  expect(await refusalOf(operator.debitWallet(adjustment(alice.walletId, INT64_MAX)))).toEqual({
    code: Code.FailedPrecondition,
    reason: Reason.INSUFFICIENT_FUNDS,
  });
  await operator.debitWallet(adjustment(alice.walletId, all));

  expect(await balanceOf(alice)).toBe(0n);
  expect((await operator.getWallet({ walletId: bankClearing })).wallet?.balance).toBe(clearing + 10n);
});

test("versions, sequences and times of a wallet only grow", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const [before] = (await alice.wallets.listWallets({})).wallets;
  await operator.debitWallet(adjustment(alice.walletId, 1n));
  await Promise.all(Array.from({ length: 20 }, () => operator.creditWallet(adjustment(alice.walletId, 1n))));

  const entries = (await statementOf(alice)).reverse();
  const { wallet: after } = await alice.wallets.getWallet({});

  expect(after?.version).toBe((before?.version ?? 0n) + 21n);
  expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, i) => BigInt(i + 1)));
  const times = entries.map(({ createTime }) => (createTime ? timestampDate(createTime).getTime() : Number.NaN));
  expect(times).toEqual([...times].sort((a, b) => a - b));
  let balance = 0n;
  for (const { amount, balanceAfter } of entries) expect(balanceAfter).toBe((balance += amount));
});
