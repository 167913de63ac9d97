import { randomBytes, randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  Account_State,
  AccountService,
  ClosingObstacle_Kind,
  ClosingObstaclesSchema,
  CodePurpose,
} from "../gen/chatpay/account/v1/account_pb.ts";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { addressOf } from "../src/account/address.ts";
import { closeAccount } from "../src/account/closing.ts";
import type { HoldRow } from "../src/db/schema.ts";
import type { Command } from "../src/ledger/command.ts";
import {
  balanceOf,
  differencesIn,
  eventsOf,
  NO_GIFTS,
  openPartner,
  openWallet,
  openWallets,
  type Person,
  personAt,
  proveAddress,
  signUp,
} from "./support/people.ts";
import { errorOf, outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";

// Two servers, as two processes would be.

const databaseUrl = await makeDatabase();
const settings = {
  DATABASE_URL: databaseUrl,
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
};
let server: TestServer;
let other: TestServer;
let operator: Person["wallets"];

beforeAll(async () => {
  server = await startServer(settings);
  other = await startServer(settings);
  operator = server.client(WalletService, { bearer: server.keys.operator });
});

afterAll(async () => {
  const { db } = server.app;
  const escaped = db
    .selectFrom("account")
    .innerJoin("wallet", "wallet.accountId", "account.id")
    .select("wallet.id")
    .where("account.state", "=", Account_State.CLOSED)
    .where("wallet.state", "!=", Wallet_State.CLOSED);
  expect(await escaped.execute()).toEqual([]);
  expect(await differencesIn(databaseUrl)).toEqual([]);
  await Promise.all([server.stop(), other.stop()]);
});

const CLOSED = { code: Code.FailedPrecondition, reason: Reason.WALLET_CLOSED };
const NO_SESSION = { code: Code.Unauthenticated, reason: Reason.CREDENTIAL_INVALID };
const NO_ACCOUNT = { code: Code.NotFound, reason: Reason.ACCOUNT_NOT_FOUND };

const close = ({ accounts }: Pick<Person, "accounts">) => accounts.closeAccount({});

const send = (from: Person, to: { walletId: string }, amount: bigint) =>
  from.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: to.walletId, amount });

const accountRow = ({ accountId }: Pick<Person, "accountId">) =>
  server.app.db.selectFrom("account").selectAll().where("id", "=", accountId).executeTakeFirstOrThrow();

/** Another wallet of the account, as savings will be. */
const openAnother = (at: TestServer, { accountId }: Pick<Person, "accountId">) =>
  at.app.lane.submit({
    touches: { account: [accountId] },
    decide: (books) => books.openWallet({ id: books.newId(), kind: Wallet_Kind.MAIN, accountId }),
  });

const holdMoney = (walletId: bigint, amount: bigint): Command<HoldRow> => ({
  touches: { wallet: [walletId] },
  decide(books) {
    const because = { cause: Entry_Cause.TRANSFER, id: books.newId() };
    return books.hold({ wallet: walletId, amount, because, expireTime: books.now });
  },
});

const credit = (walletId: string, amount: bigint) =>
  operator.creditWallet({ idempotencyKey: randomUUID(), walletId, amount, reason: "for a test" });

const KINDS: Record<number, string> = {
  [ClosingObstacle_Kind.UNSPECIFIED]: "NONE",
  [ClosingObstacle_Kind.BALANCE]: "BALANCE",
  [ClosingObstacle_Kind.HOLD]: "HOLD",
  [ClosingObstacle_Kind.FROZEN]: "FROZEN",
};

/** All that stands in the way of closing, by kind, wallet and amount. */
async function obstaclesOf(person: Pick<Person, "accounts">) {
  const error = await errorOf(close(person));
  expect(await refusalOf(Promise.reject(error))).toEqual({
    code: Code.FailedPrecondition,
    reason: Reason.ACCOUNT_NOT_SETTLED,
  });
  const [detail] = error.findDetails(ClosingObstaclesSchema);
  return detail?.obstacles.map(({ kind, walletId, amount }) => `${KINDS[kind]} ${walletId} ${amount}`).sort();
}

test("A7: closing erases what says who it was, closes the wallet and keeps the identity", async () => {
  const alice = await signUp(server);
  const acting = server.client(AccountService, { bearer: server.keys.service, accountId: alice.accountId });
  await acting.setIdentity({ ci: randomBytes(64).toString("base64"), birthDate: "1990-12-31" });
  const code = await proveAddress(server, alice.email, CodePurpose.SET_PIN);
  await alice.accounts.setPin({ email: alice.email, code, pin: "135790" });
  const { identityId } = await accountRow(alice);

  const { account } = await close(alice);

  const nothing = { email: "", phone: "", displayName: "", hasPin: false };
  expect(account).toMatchObject({ id: String(alice.accountId), state: Account_State.CLOSED, ...nothing });
  expect(await accountRow(alice)).toMatchObject({
    email: "",
    emailKey: null,
    phone: "",
    phoneKey: null,
    passwordHash: "",
    displayName: "",
    pinHash: "",
    pinTries: 0,
    identityKey: null,
    identityId,
    state: Account_State.CLOSED,
  });
  expect(identityId).not.toBeNull();
  const { wallet } = await operator.getWallet({ walletId: alice.walletId });
  expect(wallet).toMatchObject({ state: Wallet_State.CLOSED, balance: 0n, accountId: String(alice.accountId) });
  const sessions = server.app.db.selectFrom("session").selectAll().where("accountId", "=", alice.accountId);
  expect(await sessions.execute()).toMatchObject([{ device: "", ip: "", revokeTime: expect.any(Date) }]);
});

test("A7: whoever closed their account is out at once, in every process, and may sign up again", async () => {
  const alice = await signUp(server);
  const { email, password } = alice;
  const { refreshToken } = alice.tokens;
  const elsewhere = personAt(other, alice);
  await elsewhere.wallets.getWallet({});

  await close(alice);

  const atOther = other.client(AccountService);
  await expect.poll(() => outcomeOf(elsewhere.wallets.getWallet({}))).toBe("Unauthenticated CREDENTIAL_INVALID");
  expect(await refusalOf(alice.wallets.getWallet({}))).toEqual(NO_SESSION);
  expect(await refusalOf(close(alice))).toEqual(NO_SESSION);
  expect((await refusalOf(atOther.refreshTokens({ refreshToken }))).reason).toBe(Reason.REFRESH_TOKEN_INVALID);
  expect((await refusalOf(atOther.signIn({ email, password }))).reason).toBe(Reason.SIGN_IN_FAILED);

  // As if a minute had passed, after which the next code may be sent.
  const { key } = addressOf(server.app.config.hashSecret, { email, phone: "" });
  await server.app.redis.del(`chatpay:code:${CodePurpose.SIGN_UP}:${key.toString("hex")}`);
  const again = await signUp(server, { email });
  expect(again.accountId).not.toBe(alice.accountId);
  expect((await again.accounts.getAccount({})).account?.email).toBe(email);
});

test("A7: the address that was there is told", async () => {
  const alice = await signUp(server);

  await close(alice);

  const inbox = `http://127.0.0.1:${server.inbox.httpPort}/mail/latest?to=${alice.email}`;
  const subject = async () => ((await (await fetch(inbox)).json()) as { subject: string }).subject;
  await expect.poll(subject, { timeout: 5_000 }).toBe("ChatPay 계정이 해지되었습니다");
});

test("A7: all that stands in the way is in one answer, and nothing has changed", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const [second, empty] = (await Promise.all([openAnother(server, alice), openAnother(server, alice)])).map(
    ({ value }) => value.id,
  ) as [bigint, bigint];
  await credit(String(second), 50n);
  await server.app.lane.submit(holdMoney(second, 20n));
  await operator.freezeWallet({ walletId: alice.walletId, reason: "a report" });
  await operator.freezeWallet({ walletId: String(empty), reason: "a report" });
  const before = await accountRow(alice);

  const obstacles = await obstaclesOf(alice);

  expect(obstacles).toEqual([
    `BALANCE ${alice.walletId} 100`,
    `BALANCE ${second} 50`,
    `FROZEN ${alice.walletId} 0`,
    `FROZEN ${empty} 0`,
    `HOLD ${second} 20`,
  ]);
  expect(await accountRow(alice)).toEqual(before);
  expect((await eventsOf(server, alice.accountId)).map(({ kind }) => kind)).not.toContain("account.closed");
  expect(await balanceOf(alice)).toBe(100n);
});

test("A7: an account closes when what stood in the way is settled", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server);
  const { value: hold } = await server.app.lane.submit(holdMoney(BigInt(alice.walletId), 30n));

  expect(await obstaclesOf(alice)).toEqual([`BALANCE ${alice.walletId} 100`, `HOLD ${alice.walletId} 30`]);
  await send(alice, bob, 70n);
  expect(await obstaclesOf(alice)).toEqual([`BALANCE ${alice.walletId} 30`, `HOLD ${alice.walletId} 30`]);
  await server.app.lane.submit({
    touches: { wallet: [hold.walletId], hold: [hold.id] },
    decide: (books) => books.release({ hold: hold.id }),
  });
  expect(await obstaclesOf(alice)).toEqual([`BALANCE ${alice.walletId} 30`]);
  await send(alice, bob, 30n);
  await operator.freezeWallet({ walletId: alice.walletId, reason: "a report" });
  expect(await obstaclesOf(alice)).toEqual([`FROZEN ${alice.walletId} 0`]);
  await operator.unfreezeWallet({ walletId: alice.walletId, reason: "cleared up" });

  expect((await close(alice)).account?.state).toBe(Account_State.CLOSED);
});

test("A7: a closed wallet neither pays nor is paid, and history stays for those on the other side", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 100n })) as [Person, Person];
  const shop = await openPartner(server);
  const { transfer } = await send(alice, bob, 60n);
  const { payment } = await alice.payments.approvePayment({
    partnerId: shop.partnerId,
    orderKey: randomUUID(),
    amount: 40n,
  });
  await close(alice);

  expect(await refusalOf(send(bob, alice, 1n))).toEqual(CLOSED);
  expect(await refusalOf(credit(alice.walletId, 1n))).toEqual(CLOSED);
  expect((await bob.transfers.getTransfer({ transferId: transfer?.id })).transfer).toEqual(transfer);
  expect((await bob.transfers.listTransfers({})).transfers).toEqual([transfer]);
  expect((await shop.payments.getPayment({ paymentId: payment?.id })).payment).toEqual(payment);
  const { entries } = await operator.listEntries({ walletId: alice.walletId });
  expect(entries.map(({ amount }) => amount)).toEqual([-40n, -60n, 100n]);
  expect(await balanceOf(bob)).toBe(160n);
});

test("A7: a chat server closes for a person, and finds no account from then on, at any server", async () => {
  const alice = await openWallet(server);
  const bob = await openWallet(server, { balance: 10n });
  const elsewhere = personAt(other, alice);
  await elsewhere.wallets.getWallet({});

  await close(alice);

  expect(await refusalOf(close(alice))).toEqual(NO_ACCOUNT);
  expect(await refusalOf(alice.wallets.getWallet({}))).toEqual(NO_ACCOUNT);
  await expect.poll(() => outcomeOf(elsewhere.wallets.getWallet({}))).toBe("NotFound ACCOUNT_NOT_FOUND");
  expect(await refusalOf(send(bob, alice, 1n))).toEqual(CLOSED);
});

test("A7: closing is told once, with ids and nothing else", async () => {
  const alice = await openWallet(server);

  const outcomes = await Promise.all(
    Array.from({ length: 10 }, (_, i) => outcomeOf(close(personAt(i % 2 === 0 ? server : other, alice)))),
  );

  expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === "NotFound ACCOUNT_NOT_FOUND")).toHaveLength(9);
  const id = String(alice.accountId);
  const told = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind === "account.closed");
  expect(told).toEqual([
    {
      kind: "account.closed",
      accounts: [id],
      accountId: id,
      mainWalletId: alice.walletId,
      apiKeyId: expect.stringMatching(/^[0-9]+$/),
    },
  ]);
});

test("A7: a crash right after the account was closed leaves nobody in", async () => {
  const alice = await signUp(server);
  const mainWalletId = BigInt(alice.walletId);
  const { refreshToken } = alice.tokens;

  // All that the lane does, and nothing of what comes after it.
  await server.app.lane.submit(
    closeAccount(alice.accountId, { walletIds: [mainWalletId], bankAccountIds: [], gifts: NO_GIFTS }),
  );

  const elsewhere = personAt(other, alice);
  const acting = { ...alice, credential: { bearer: server.keys.service, accountId: alice.accountId } };
  expect(await refusalOf(elsewhere.wallets.getWallet({}))).toEqual(NO_SESSION);
  expect((await refusalOf(elsewhere.accounts.refreshTokens({ refreshToken }))).reason).toBe(
    Reason.REFRESH_TOKEN_INVALID,
  );
  expect(await refusalOf(personAt(other, acting).wallets.getWallet({}))).toEqual(NO_ACCOUNT);
  const { email, password } = alice;
  expect((await refusalOf(elsewhere.accounts.signIn({ email, password }))).reason).toBe(Reason.SIGN_IN_FAILED);
});

test("A7: money that is sent while an account closes arrives before, or not at all", async () => {
  const sender = await openWallet(server, { balance: 100_000n });
  const elsewhere = personAt(other, sender);
  const leaving = await openWallets(server, 200);
  const outcomes: Record<string, number> = {};

  await Promise.all(
    leaving.map(async (person, i) => {
      const [sent, closed] = await Promise.all([
        outcomeOf(send(i % 2 === 0 ? sender : elsewhere, person, 7n)),
        outcomeOf(close(i % 3 === 0 ? person : personAt(other, person))),
      ]);
      const both = `${sent}, ${closed}`;
      outcomes[both] = (outcomes[both] ?? 0) + 1;
      const { wallet } = await operator.getWallet({ walletId: person.walletId });
      const isClosed = wallet?.state === Wallet_State.CLOSED;
      expect(isClosed).toBe(closed === "OK");
      expect(wallet?.balance).toBe(sent === "OK" ? 7n : 0n);
      expect(isClosed && wallet.balance > 0n).toBe(false);
    }),
  );

  const stayed = outcomes["OK, FailedPrecondition ACCOUNT_NOT_SETTLED"] ?? 0;
  const left = outcomes["FailedPrecondition WALLET_CLOSED, OK"] ?? 0;
  expect({ outcomes, all: stayed + left }).toEqual({ outcomes, all: 200 });
  expect(await balanceOf(sender)).toBe(100_000n - 7n * BigInt(stayed));
});

test("A7: two who send to each other and both close lose nothing", async () => {
  for (let round = 0; round < 10; round += 1) {
    const [alice, bob] = (await openWallets(server, 2, { balance: 10n })) as [Person, Person];

    await Promise.all([
      outcomeOf(send(alice, bob, 10n)).then(() => outcomeOf(close(alice))),
      outcomeOf(send(personAt(other, bob), alice, 10n)).then(() => outcomeOf(close(bob))),
    ]);

    const balances = await Promise.all(
      [alice, bob].map(async ({ walletId }) => (await operator.getWallet({ walletId })).wallet?.balance ?? 0n),
    );
    expect(balances[0] as bigint).toBeGreaterThanOrEqual(0n);
    expect((balances[0] as bigint) + (balances[1] as bigint)).toBe(20n);
  }
});

test("A7: a wallet that is opened while the account closes closes with it, or is not opened", async () => {
  const outcomes: string[] = [];
  for (let round = 0; round < 30; round += 1) {
    const alice = await openWallet(server);

    const [opened, closed] = await Promise.all([outcomeOf(openAnother(other, alice)), outcomeOf(close(alice))]);

    outcomes.push(`${opened}, ${closed}`);
    const { db } = server.app;
    const wallets = await db.selectFrom("wallet").select("state").where("accountId", "=", alice.accountId).execute();
    expect(wallets).toHaveLength(opened === "OK" ? 2 : 1);
    expect(wallets.every(({ state }) => state === Wallet_State.CLOSED)).toBe(true);
  }
  expect(new Set(outcomes)).toEqual(
    new Set(outcomes.filter((both) => ["OK, OK", "NotFound ACCOUNT_NOT_FOUND, OK"].includes(both))),
  );
});

test("A7: a command that knows of fewer wallets than there are closes nothing", async () => {
  const alice = await openWallet(server);
  await openAnother(server, alice);

  const answer = server.app.lane.submit(
    closeAccount(alice.accountId, { walletIds: [BigInt(alice.walletId)], bankAccountIds: [], gifts: NO_GIFTS }),
  );

  await expect(answer).rejects.not.toHaveProperty("code");
  expect((await accountRow(alice)).state).toBe(Account_State.OPEN);
  await close(alice);
});

test("A7: nothing that is changed while an account closes is left on it", { timeout: 60_000 }, async () => {
  for (let round = 0; round < 5; round += 1) {
    const alice = await signUp(server);
    const { email } = alice;
    const code = await proveAddress(server, email, CodePurpose.SET_PIN);
    const newPassword = `pw-${randomUUID()}`;
    const elsewhere = personAt(other, alice);

    await Promise.all([
      outcomeOf(elsewhere.accounts.updateAccount({ displayName: "Somebody Else" })),
      outcomeOf(elsewhere.accounts.setPin({ email, code, pin: "135790" })),
      outcomeOf(elsewhere.accounts.changePassword({ password: alice.password, newPassword })),
      outcomeOf(elsewhere.accounts.signIn({ email, password: alice.password })),
      close(alice),
    ]);

    expect(await accountRow(alice)).toMatchObject({ displayName: "", pinHash: "", passwordHash: "", emailKey: null });
    const sessions = server.app.db.selectFrom("session").selectAll().where("accountId", "=", alice.accountId);
    for (const session of await sessions.execute()) expect(session).toMatchObject({ device: "", ip: "" });
  }
});
