import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, expect, test, vi } from "vitest";
import {
  Account_State,
  AccountService,
  ClosingObstacle_KindSchema,
  ClosingObstaclesSchema,
  CodePurpose,
} from "../gen/chatpay/account/v1/account_pb.ts";
import { BankAccount_State, BankService, BankTransfer_State } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { kftcSettings } from "../sandbox/kftc/server.ts";
import { type LinkedBank, linkBank } from "./support/banks.ts";
import { differencesIn, eventsOf, openWallet, type Person, personAt, proveAddress, signUp } from "./support/people.ts";
import { errorOf, outcomeOf } from "./support/rpcs.ts";
import { makeDatabase, startServer } from "./support/server.ts";

// Closing with `withdraw_rest`, at two servers, as two processes would be, that ask for the PIN above 1,000 won.

const settings = {
  DATABASE_URL: await makeDatabase(),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_OPENBANKING_TIMEOUT_MS: "1000",
  CHATPAY_PIN_ABOVE: "1000",
};
const server = await startServer(settings);
const { kftc } = server;
const { db } = server.app;
const other = await startServer({ ...settings, ...kftcSettings(kftc.url) });
const operator = { bearer: server.keys.operator };

afterAll(async () => {
  try {
    await vi.waitFor(async () => expect(await underWay()).toEqual([]), PATIENCE);
    expect(await differencesIn(settings.DATABASE_URL)).toEqual([]);
  } finally {
    await Promise.all([server.stop(), other.stop()]);
  }
});

const PATIENCE = { timeout: 30_000, interval: 50 };
const underWay = () => db.selectFrom("bankTransfer").select("id").where("dueTime", "is not", null).execute();

const leave = ({ accounts }: Pick<Person, "accounts">, pin = "") => accounts.closeAccount({ withdrawRest: true, pin });

/** Puts money into savings of their own. */
async function save({ wallets }: Person, amount: bigint) {
  const { wallet } = await wallets.createSavings({ idempotencyKey: randomUUID(), name: "여행" });
  const savingsWalletId = wallet?.id ?? "";
  await wallets.depositSavings({ idempotencyKey: randomUUID(), savingsWalletId, amount });
  return savingsWalletId;
}

/** Somebody with 1,000 won, 300 of them in savings, and nothing at the bank. */
async function newcomer(options: Parameters<typeof linkBank>[2] = {}) {
  const person = await openWallet(server, { balance: 1_000n });
  const savings = [await save(person, 200n), await save(person, 100n)];
  return { ...person, savings, bank: await linkBank(server, person, { balance: 0n, ...options }) };
}

const atBank = async ({ where }: LinkedBank) => BigInt((await kftc.getAccount(where)).balance);
const balancesOf = async ({ wallets }: Person) =>
  (await wallets.listWallets({})).wallets.map(({ balance, held }) => [balance, held]);

const accountOf = ({ accountId }: Person) =>
  db.selectFrom("account").selectAll().where("id", "=", accountId).executeTakeFirstOrThrow();
const linksOf = ({ accountId }: Person) =>
  db.selectFrom("bankAccount").selectAll().where("accountId", "=", accountId).execute();
const grantOf = ({ accountId }: Person) =>
  db.selectFrom("bankGrant").selectAll().where("accountId", "=", accountId).executeTakeFirst();
const transfersOf = ({ accountId }: Person) =>
  db.selectFrom("bankTransfer").selectAll().where("accountId", "=", accountId).orderBy("id").execute();

/** All that stands in the way of closing, by kind and amount. */
async function obstaclesOf(closing: Promise<unknown>) {
  const error = await errorOf(closing);
  expect(await outcomeOf(Promise.reject(error))).toBe("FailedPrecondition ACCOUNT_NOT_SETTLED");
  const [detail] = error.findDetails(ClosingObstaclesSchema);
  return detail?.obstacles
    .map(({ kind, amount }) => `${ClosingObstacle_KindSchema.value[kind]?.localName} ${amount}`)
    .toSorted();
}

const bankWithdraws = (
  person: { bank: LinkedBank },
  fault: { kind: "decline"; code: string } | { kind: "processing"; inquiries: number; code?: string },
) => kftc.script({ ...fault, call: "deposit", accountNumber: person.bank.where.number });

test("A7: who leaves with the rest has it at the bank, and the bank account is linked no more, here and at KFTC", async () => {
  const alice = await newcomer();
  const { accessToken = Buffer.alloc(0), userSeqNo = "" } = (await grantOf(alice)) ?? {};
  const token = server.app.bank?.vault.open(accessToken, `bank_grant:${alice.accountId}`) ?? "";
  const agreed = async () =>
    (await server.app.bank?.banking.listAccounts(token, userSeqNo))?.filter(
      ({ inquiryAgreed, transferAgreed }) => inquiryAgreed || transferAgreed,
    );
  expect(await agreed()).toHaveLength(1);

  const { account } = await leave(alice);

  expect(account?.state).toBe(Account_State.CLOSED);
  expect(await atBank(alice.bank)).toBe(1_000n);
  const [transfer] = await transfersOf(alice);
  expect(transfer).toMatchObject({ amount: 1_000n, state: BankTransfer_State.SUCCEEDED });
  expect(await linksOf(alice)).toMatchObject([
    { state: BankAccount_State.UNLINKED, numberSealed: null, linkKey: null, primaryOf: null, holderName: "" },
  ]);
  const kinds = (await eventsOf(server, alice.accountId)).map(({ kind }) => kind);
  expect(kinds.slice(-3)).toEqual(["bank_transfer.succeeded", "bank.unlinked", "account.closed"]);
  await expect.poll(() => grantOf(alice), PATIENCE).toBeUndefined();
  expect(await agreed()).toEqual([]);
  // What was paid out is there for the books.
  const { bankTransfer } = await server
    .client(BankService, operator)
    .getBankTransfer({ bankTransferId: `${transfer?.id}` });
  expect(bankTransfer?.state).toBe(BankTransfer_State.SUCCEEDED);
});

test("A7: who has nothing leaves without asking the bank", async () => {
  const alice = await openWallet(server);
  await linkBank(server, alice);

  expect((await leave(alice)).account?.state).toBe(Account_State.CLOSED);

  expect(await transfersOf(alice)).toEqual([]);
});

test("A7: what the bank declines stays, in its words, and so does the account", async () => {
  const alice = await newcomer();
  await bankWithdraws(alice, { kind: "decline", code: "416" });

  const declined = await errorOf(leave(alice));

  expect(await outcomeOf(Promise.reject(declined))).toBe("FailedPrecondition BANK_DECLINED");
  expect(await accountOf(alice)).toMatchObject({ state: Account_State.OPEN, bankAccountCount: 1 });
  expect(await balancesOf(alice)).toEqual([
    [1_000n, 0n],
    [0n, 0n],
    [0n, 0n],
  ]);
  expect(await linksOf(alice)).toMatchObject([{ state: BankAccount_State.LINKED }]);

  expect((await leave(alice)).account?.state).toBe(Account_State.CLOSED);
  expect(await atBank(alice.bank)).toBe(1_000n);
});

test("A7: what the bank has not told stands in the way until it has, and is not sent again", async () => {
  for (const [code, arrives] of [
    ["000", 1_000n],
    ["453", 0n],
  ] as const) {
    const alice = await newcomer();
    await bankWithdraws(alice, { kind: "processing", inquiries: 2, code });

    const waiting = ["BALANCE 1000", "BANK_TRANSFER 0", "HOLD 1000"];
    expect(await obstaclesOf(leave(alice))).toEqual(waiting);
    const [transfer] = await transfersOf(alice);
    await vi.waitFor(async () => expect((await transfersOf(alice))[0]?.dueTime).toBeNull(), PATIENCE);
    expect(await transfersOf(alice)).toMatchObject([{ id: transfer?.id }]);
    expect(await atBank(alice.bank)).toBe(arrives);

    expect((await leave(alice)).account?.state).toBe(Account_State.CLOSED);
    expect(await atBank(alice.bank)).toBe(1_000n);
  }
});

test("A7: without a primary account all stays where it is, and stands in the way", async () => {
  const withNone = await openWallet(server, { balance: 1_000n });
  await save(withNone, 300n);
  const onlyToLookAt = await newcomer({ agree: ["inquiry"] });

  expect(await obstaclesOf(leave(withNone))).toEqual(["BALANCE 300", "BALANCE 700"]);
  expect(await obstaclesOf(leave(onlyToLookAt))).toEqual(["BALANCE 100", "BALANCE 200", "BALANCE 700"]);

  expect(await transfersOf(onlyToLookAt)).toEqual([]);
});

test("A7: without `withdraw_rest` nothing leaves", async () => {
  const alice = await newcomer();

  expect(await obstaclesOf(alice.accounts.closeAccount({}))).toEqual(["BALANCE 100", "BALANCE 200", "BALANCE 700"]);

  expect(await transfersOf(alice)).toEqual([]);
});

test("A7: the rest needs the PIN for all of it, and with a wrong one nothing moves", async () => {
  const alice = await signUp(server, { balance: 1_500n });
  await save(alice, 700n);
  const bank = await linkBank(server, alice, { balance: 0n });
  const before = await balancesOf(alice);
  expect(await outcomeOf(leave(alice))).toBe("FailedPrecondition PIN_REQUIRED");
  const code = await proveAddress(server, alice.email, CodePurpose.SET_PIN);
  await alice.accounts.setPin({ email: alice.email, code, pin: "135790" });

  expect(await outcomeOf(leave(alice))).toBe("FailedPrecondition PIN_REQUIRED");
  expect(await outcomeOf(leave(alice, "246801"))).toBe("PermissionDenied PIN_WRONG");
  expect(await balancesOf(alice)).toEqual(before);
  expect((await linksOf(alice)).length).toBe(1);

  expect((await leave(alice, "135790")).account?.state).toBe(Account_State.CLOSED);
  expect(await atBank(bank)).toBe(1_500n);
});

test("A7: a frozen wallet is listed with all else that stands in the way, and pays nothing out itself", async () => {
  const alice = await newcomer();
  const wallets = server.client(WalletService, operator);
  await wallets.freezeWallet({ walletId: alice.walletId, reason: "a report" });

  expect(await obstaclesOf(leave(alice))).toEqual(["BALANCE 1000", "FROZEN 0"]);
  await wallets.unfreezeWallet({ walletId: alice.walletId, reason: "cleared up" });
  await wallets.freezeWallet({ walletId: alice.savings[0] ?? "", reason: "a report" });
  expect(await obstaclesOf(leave(alice))).toEqual(["FROZEN 0"]);
  expect(await atBank(alice.bank)).toBe(1_000n);
  await wallets.unfreezeWallet({ walletId: alice.savings[0] ?? "", reason: "cleared up" });
  expect((await leave(alice)).account?.state).toBe(Account_State.CLOSED);
});

test("A7: of many who close one account at once one does, and the money leaves once", async () => {
  for (let round = 0; round < 5; round += 1) {
    const alice = await newcomer();
    const doors = [alice, personAt(other, alice)];

    const outcomes = await Promise.all(Array.from({ length: 10 }, (_, i) => outcomeOf(leave(doors[i % 2] as Person))));

    // Whoever came while the money was on its way is told so, and tries again.
    const closed = outcomes.includes("OK") ? outcomes : [...outcomes, await outcomeOf(leave(alice))];
    expect(closed.filter((outcome) => outcome === "OK")).toHaveLength(1);
    expect(["OK", "NotFound ACCOUNT_NOT_FOUND", "FailedPrecondition ACCOUNT_NOT_SETTLED"]).toEqual(
      expect.arrayContaining([...new Set(closed)]),
    );
    expect(await atBank(alice.bank)).toBe(1_000n);
    expect(await transfersOf(alice)).toHaveLength(1);
    expect(await outcomeOf(leave(alice))).toBe("NotFound ACCOUNT_NOT_FOUND");
  }
});

test("A7: while a debit draws from the bank the account stays, and the debit goes on", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  const bank = await linkBank(server, alice, { balance: 10_000n, automaticTopUp: true });
  await kftc.script({ call: "withdraw", accountNumber: bank.where.number, kind: "processing", inquiries: 2 });

  const sending = alice.transfers.sendTransfer(
    { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 900n },
    { timeoutMs: 30_000 },
  );
  await vi.waitFor(async () => expect(await transfersOf(alice)).toHaveLength(1), PATIENCE);

  expect(await obstaclesOf(leave(alice))).toEqual(["BALANCE 100", "BANK_TRANSFER 0", "HOLD 100"]);
  expect((await sending).transfer?.amount).toBe(900n);
  expect(await atBank(bank)).toBe(9_200n);
  expect((await leave(alice)).account?.state).toBe(Account_State.CLOSED);
});

test("A7: a chat server pays out for the person it acts for", async () => {
  const alice = await newcomer();
  const acting = server.client(AccountService, { bearer: server.keys.service, accountId: alice.accountId });

  await acting.closeAccount({ withdrawRest: true });

  const events = await eventsOf(server, alice.accountId);
  expect(events.at(-1)).toMatchObject({ kind: "account.closed", apiKeyId: expect.stringMatching(/^\d+$/) });
  expect(await atBank(alice.bank)).toBe(1_000n);
});
