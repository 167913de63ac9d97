import { randomBytes } from "node:crypto";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import mysql from "mysql2/promise";
import { afterAll, expect, test } from "vitest";
import { BankAccount_State, BankService, LiveBalance_Status } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { kftcSettings } from "../sandbox/kftc/server.ts";
import { openRevocations } from "../src/bank/revoke.ts";
import { claimTranId, tranIdOf } from "../src/bank/tranid.ts";
import type { BankAccountRow } from "../src/db/schema.ts";
import { addCitizen, type Citizen, consentTo, linkBank, seoulDate } from "./support/banks.ts";
import { startProcess } from "./support/load.ts";
import { eventsOf, openWallet, openWallets, type Person, personAt, signUp } from "./support/people.ts";
import { call, errorOf, everyRpc, outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, redisUrl, sendCredential, startServer } from "./support/server.ts";

// Two servers, as two processes would be, and one centre.

const settings = {
  DATABASE_URL: await makeDatabase(),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
};
const server = await startServer(settings);
const other = await startServer({ ...settings, ...kftcSettings(server.kftc.url) });
const { db } = server.app;
const { kftc } = server;
afterAll(() => Promise.all([server.stop(), other.stop()]));

const STATE_INVALID = { code: Code.InvalidArgument, reason: Reason.BANK_STATE_INVALID };
const CONSENT_REFUSED = { code: Code.FailedPrecondition, reason: Reason.BANK_CONSENT_REFUSED };
const CONSENT_MISSING = { code: Code.FailedPrecondition, reason: Reason.BANK_CONSENT_MISSING };
const MISMATCH = { code: Code.FailedPrecondition, reason: Reason.BANK_PERSON_MISMATCH };
const AWAY = { code: Code.Unavailable, reason: Reason.DEPENDENCY_UNAVAILABLE };
const NOT_FOUND = { code: Code.NotFound, reason: Reason.BANK_ACCOUNT_NOT_FOUND };
const TAKEN = { code: Code.AlreadyExists, reason: Reason.BANK_ACCOUNT_TAKEN };
const INVALID = { code: Code.InvalidArgument, reason: Reason.REQUEST_INVALID };

/** What is done in the background, in time. */
const HEARD = { timeout: 20_000, interval: 50 };

const grantOf = ({ accountId }: Pick<Person, "accountId">) =>
  db.selectFrom("bankGrant").selectAll().where("accountId", "=", accountId).executeTakeFirst();

const rowsOf = ({ accountId }: Pick<Person, "accountId">) =>
  db.selectFrom("bankAccount").selectAll().where("accountId", "=", accountId).orderBy("id").execute();

const linkedOf = async ({ banks }: Pick<Person, "banks">) => (await banks.listBankAccounts({})).bankAccounts;

const kindsOf = async ({ accountId }: Pick<Person, "accountId">) =>
  (await eventsOf(server, accountId)).map(({ kind }) => kind);

/** A citizen with accounts at these banks. */
const citizenAt = (...bankCodes: string[]) =>
  addCitizen(server, { accounts: bankCodes.map((bankCode) => ({ bankCode, balance: "1000" })) });

/** Somebody whose identity is known, as the citizen's or as another one's. */
async function identified({ ci, birthDate }: Pick<Citizen, "birthDate"> & { ci?: string }): Promise<Person> {
  const person = await openWallet(server);
  const date = birthDate.replace(/^(....)(..)(..)$/, "$1-$2-$3");
  await person.accounts.setIdentity({ ci: ci ?? randomBytes(64).toString("base64"), birthDate: date });
  return person;
}

// B1: consents

test("B1: a consent links the accounts that it names, and the first that can be drawn from is primary", async () => {
  const alice = await openWallet(server);
  const citizen = await citizenAt("088", "090");

  const { bankAccounts } = await linkBank(server, alice, { citizen });

  expect(bankAccounts.map(({ bankCode }) => bankCode).toSorted()).toEqual(["088", "090"]);
  for (const one of bankAccounts) {
    const shown = { state: BankAccount_State.LINKED, holderName: citizen.name, topUpUnit: 1n, automaticTopUp: false };
    expect(one).toMatchObject({ ...shown, canInquire: true, canDraw: true });
    expect(one.maskedNumber).toMatch(/^\d+\*\*\*$/);
  }
  expect(bankAccounts.map(({ primary }) => primary)).toEqual([true, false]);
  const id = String(alice.accountId);
  const events = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind === "bank.linked");
  expect(events).toEqual(
    bankAccounts.map((one) => ({
      kind: "bank.linked",
      accounts: [id],
      accountId: id,
      bankAccountId: one.id,
      apiKeyId: expect.stringMatching(/^\d+$/),
    })),
  );
});

test("B1: what was not agreed to cannot be done, and an account only to look at is not primary", async () => {
  const alice = await openWallet(server);

  const { bankAccounts } = await linkBank(server, alice, { agree: ["inquiry"] });

  expect(bankAccounts).toMatchObject([{ canInquire: true, canDraw: false, primary: false }]);
});

test("B1: a state works once, for whoever began, and for ten minutes", async () => {
  const alice = await signUp(server);
  const bob = await openWallet(server);
  const citizen = await addCitizen(server);
  const consent = await consentTo(server, alice, { citizen });
  const chatServer = server.client(BankService, { bearer: server.keys.service, accountId: alice.accountId });

  expect(consent.state).toMatch(/^[\w-]{32}$/);
  expect(await refusalOf(bob.banks.finishLink(consent))).toEqual(STATE_INVALID);
  expect(await refusalOf(chatServer.finishLink(consent))).toEqual(STATE_INVALID);
  const unknown = { ...consent, state: randomBytes(24).toString("base64url") };
  expect(await refusalOf(alice.banks.finishLink(unknown))).toEqual(STATE_INVALID);

  // Others have not used it up.
  expect((await personAt(other, alice).banks.finishLink(consent)).bankAccounts).toHaveLength(1);
  expect(await refusalOf(alice.banks.finishLink(consent))).toEqual(STATE_INVALID);

  const late = await consentTo(server, alice, { citizen });
  await db.updateTable("bankConsent").set({ expireTime: new Date() }).where("useTime", "is", null).execute();
  expect(await refusalOf(alice.banks.finishLink(late))).toEqual(STATE_INVALID);
});

test("B1: of twenty who come back with one state at once, one gets in", async () => {
  const alice = await openWallet(server);
  const consent = await consentTo(server, alice, { citizen: await addCitizen(server) });
  const doors = [alice, personAt(other, alice)];

  const outcomes = await Promise.all(
    Array.from({ length: 20 }, (_, i) => outcomeOf((doors[i % 2] as Person).banks.finishLink(consent))),
  );

  expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
  expect(new Set(outcomes)).toEqual(new Set(["OK", "InvalidArgument BANK_STATE_INVALID"]));
  expect(await rowsOf(alice)).toHaveLength(1);
});

test("B1: a state lies in the database as a hash", async () => {
  const alice = await openWallet(server);

  const { state, consentUrl } = await alice.banks.startLink({});

  expect(new URL(consentUrl).searchParams.get("state")).toBe(state);
  const rows = await db.selectFrom("bankConsent").selectAll().where("accountId", "=", alice.accountId).execute();
  expect(rows).toHaveLength(1);
  expect(rows.map(({ stateHash }) => stateHash.includes(state) || stateHash.length)).toEqual([32]);
});

test("B1: a code that KFTC did not give links nothing", async () => {
  const alice = await openWallet(server);
  const { state } = await alice.banks.startLink({});

  expect(await refusalOf(alice.banks.finishLink({ state, code: "made up" }))).toEqual(CONSENT_REFUSED);

  expect(await rowsOf(alice)).toEqual([]);
  expect(await grantOf(alice)).toBeUndefined();
});

test("B1: while KFTC is away nothing is linked, and the person need not begin again", async () => {
  const alice = await openWallet(server);
  const consent = await consentTo(server, alice, { citizen: await addCitizen(server) });
  await kftc.script({ call: "token", kind: "status", status: 503, at: "before" });

  expect(await refusalOf(alice.banks.finishLink(consent))).toEqual(AWAY);

  expect((await alice.banks.finishLink(consent)).bankAccounts).toHaveLength(1);
});

test("B1: a consent is the person's whom the account's identity says, or nothing of it is kept", async () => {
  const citizen = await addCitizen(server);
  const [alice, mallory] = [await identified(citizen), await identified({ birthDate: citizen.birthDate })];

  const consent = await consentTo(server, mallory, { citizen });
  expect(await refusalOf(mallory.banks.finishLink(consent))).toEqual(MISMATCH);
  expect([await rowsOf(mallory), await grantOf(mallory)]).toEqual([[], undefined]);

  expect((await linkBank(server, alice, { citizen })).bankAccounts).toHaveLength(1);
  expect(await grantOf(alice)).toBeDefined();
});

test("B1: without an identity all consents of an account are one person's still", async () => {
  const alice = await openWallet(server);
  const first = await linkBank(server, alice);
  const grant = await grantOf(alice);

  const consent = await consentTo(server, alice, { citizen: await addCitizen(server, { name: "다른이" }) });
  expect(await refusalOf(alice.banks.finishLink(consent))).toEqual(MISMATCH);
  expect(await grantOf(alice)).toEqual(grant);

  await alice.banks.unlinkBankAccount({ bankAccountId: first.bankAccount.id });
  expect((await linkBank(server, alice)).bankAccounts).toHaveLength(1);
});

test("B1: tokens and numbers lie in the database encrypted", async () => {
  const alice = await openWallet(server);
  const { where } = await linkBank(server, alice);

  const rows = [await grantOf(alice), ...(await rowsOf(alice))].map((row) =>
    Object.values(row ?? {})
      .map((value) => (Buffer.isBuffer(value) ? value.toString("latin1") : String(value)))
      .join("\n"),
  );

  expect(rows).toHaveLength(2);
  for (const row of rows) {
    expect(row).not.toContain(where.number);
    expect(row).not.toContain("eyJ");
  }
});

// B1: by number

const byNumber = ({ banks }: Pick<Person, "banks">, { accounts: [account] }: Citizen, alias = "") =>
  banks.linkByNumber({ bankCode: account?.bankCode ?? "", accountNumber: account?.number ?? "", alias });

const namesake = () => addCitizen(server, { name: "somebody", birthDate: "19851224" });

test("B1: an account is linked by its number when the bank knows the name and the birth date", async () => {
  const citizen = await addCitizen(server, { name: "ＳＯＭＥ body", birthDate: "19851224" });
  const alice = await identified(citizen);

  const { bankAccount } = await byNumber(alice, citizen, "월급");

  const number = citizen.accounts[0]?.number ?? "";
  expect(bankAccount).toMatchObject({
    bankCode: "088",
    bankName: "신한은행",
    maskedNumber: `${number.slice(0, -3)}***`,
    alias: "월급",
    primary: false,
    canInquire: false,
    canDraw: false,
  });
  expect((await byNumber(alice, citizen)).bankAccount).toEqual(bankAccount);
  expect(await kindsOf(alice)).toContain("bank.linked");
});

test("B1: an account of another name or birth date, or none, is not linked by its number", async () => {
  const citizen = await namesake();
  const nobody = await openWallet(server);
  const younger = await identified({ birthDate: "19851225" });
  const renamed = await identified(citizen);
  await renamed.accounts.updateAccount({ displayName: "Somebody Else" });
  const missing = { ...citizen, accounts: citizen.accounts.map((one) => ({ ...one, number: "000000000000" })) };

  expect((await refusalOf(byNumber(nobody, citizen))).reason).toBe(Reason.IDENTITY_REQUIRED);
  expect(await refusalOf(byNumber(younger, citizen))).toEqual(MISMATCH);
  expect(await refusalOf(byNumber(renamed, citizen))).toEqual(MISMATCH);
  expect(await refusalOf(byNumber(renamed, missing))).toEqual({
    code: Code.FailedPrecondition,
    reason: Reason.BANK_REFUSED,
  });
  for (const person of [nobody, younger, renamed]) expect(await rowsOf(person)).toEqual([]);
});

test("B1: whose numbers are is asked ten times a day, and what nobody answered does not count", async () => {
  const citizen = await namesake();
  const guesser = await identified({ birthDate: "19851225" });
  await kftc.script({ call: "real_name", kind: "status", times: 2 });
  for (let i = 0; i < 2; i += 1) expect(await refusalOf(byNumber(guesser, citizen))).toEqual(AWAY);
  const doors = [guesser, personAt(other, guesser)];

  const outcomes = await Promise.all(
    Array.from({ length: 15 }, (_, i) => outcomeOf(byNumber(doors[i % 2] as Person, citizen))),
  );

  expect(outcomes.filter((outcome) => outcome === "FailedPrecondition BANK_PERSON_MISMATCH")).toHaveLength(10);
  expect(outcomes.filter((outcome) => outcome === "ResourceExhausted TOO_MANY_ATTEMPTS")).toHaveLength(5);
});

test("B1: only who has proved to be the holder learns that an account is linked to somebody else", async () => {
  const citizen = await namesake();
  await linkBank(server, await openWallet(server), { citizen });

  expect(await refusalOf(byNumber(await identified({ birthDate: "19851225" }), citizen))).toEqual(MISMATCH);
  expect(await refusalOf(byNumber(await identified({ birthDate: citizen.birthDate }), citizen))).toEqual(TAKEN);
});

// B3: one account, one link

test("B3: of fifty people who link one account at once, one has it and the others are told", async () => {
  const citizen = await citizenAt("088", "090");
  const people = await openWallets(server, 50);
  const consents = await Promise.all(people.map((person) => consentTo(server, person, { citizen })));

  const answers = await Promise.all(
    people.map((person, i) =>
      (i % 2 === 0 ? person : personAt(other, person)).banks.finishLink(consents[i] ?? { state: "", code: "" }),
    ),
  );

  const linked = answers.flatMap(({ bankAccounts }) => bankAccounts.map(({ bankCode }) => bankCode));
  expect(linked.toSorted()).toEqual(["088", "090"]);
  expect(answers.every(({ bankAccounts, takenNumbers }) => bankAccounts.length + takenNumbers.length === 2)).toBe(true);
  const owners = people.filter((_, i) => answers[i]?.bankAccounts.length);
  const grants = await Promise.all(people.map(grantOf));
  expect(grants.filter(Boolean)).toHaveLength(owners.length);
  for (const person of people) {
    const account = await db.selectFrom("account").selectAll().where("id", "=", person.accountId).executeTakeFirst();
    expect(account?.bankAccountCount).toBe((await rowsOf(person)).length);
  }
});

test("B3: whoever links an account again has it as it is agreed to now", async () => {
  const citizen = await namesake();
  const alice = await identified(citizen);
  const { bankAccount: before } = await byNumber(alice, citizen, "내 통장");

  const { bankAccounts } = await linkBank(server, alice, { citizen });

  expect(bankAccounts).toMatchObject([
    { id: before?.id, alias: "내 통장", canInquire: true, canDraw: true, primary: true },
  ]);
  await linkBank(server, alice, { citizen, automaticTopUp: true });
  const [{ fintechUseNum } = { fintechUseNum: "" }] = await rowsOf(alice);
  await kftc.changeConsent(fintechUseNum, "end", "transfer");
  const again = await linkBank(server, alice, { citizen, agree: ["inquiry"] });
  expect(again.bankAccounts).toMatchObject([{ id: before?.id, canDraw: false, automaticTopUp: false }]);
  expect((await kindsOf(alice)).filter((kind) => kind === "bank.linked")).toHaveLength(1);
});

test("B3: a person has at most twenty", async () => {
  const alice = await openWallet(server);
  const twenty = await citizenAt(...Array.from({ length: 21 }, () => "088"));
  await linkBank(server, alice, { citizen: twenty, accounts: twenty.accounts.slice(0, 19) });

  const consent = await consentTo(server, alice, { citizen: twenty });
  expect((await refusalOf(alice.banks.finishLink(consent))).reason).toBe(Reason.TOO_MANY);

  expect(await linkedOf(alice)).toHaveLength(19);
});

// B3: the list

test("B3: each bank's balance is its own: one that is slow, away, unwilling or not agreed to spoils no other", {
  timeout: 30_000,
}, async () => {
  const alice = await openWallet(server);
  const citizen = await citizenAt("004", "081", "088", "090", "092");
  const { bankAccounts } = await linkBank(server, alice, { citizen });
  const nameOf = async (bankCode: string) =>
    (await rowsOf(alice)).find((row) => row.bankCode === bankCode)?.fintechUseNum ?? "";
  // Less than a single call may take, and more than all together.
  await kftc.script({ call: "balance", bankCode: "004", kind: "delay", ms: 7_000 });
  await kftc.script({ call: "balance", bankCode: "081", kind: "status", status: 500 });
  await kftc.script({ call: "balance", bankCode: "088", kind: "decline", code: "425" });
  await kftc.changeConsent(await nameOf("090"), "end", "inquiry");

  const answer = await alice.banks.listBankAccounts({ withBalances: true });

  const lives = Object.fromEntries(answer.bankAccounts.map((one) => [one.bankCode, one.liveBalance]));
  expect(answer.bankAccounts.map(({ id }) => id)).toEqual(bankAccounts.map(({ id }) => id));
  expect(lives["004"]).toMatchObject({ status: LiveBalance_Status.UNAVAILABLE, balance: 0n, message: "" });
  expect(lives["081"]).toMatchObject({ status: LiveBalance_Status.UNAVAILABLE });
  expect(lives["088"]).toMatchObject({ status: LiveBalance_Status.REFUSED, message: "법적제한 계좌입니다" });
  expect(lives["090"]).toMatchObject({ status: LiveBalance_Status.CONSENT_MISSING });
  expect(lives["092"]).toMatchObject({ status: LiveBalance_Status.OK, balance: 1_000n, available: 1_000n });
  expect((await linkedOf(alice)).every(({ liveBalance }) => liveBalance === undefined)).toBe(true);
});

test("B3: what was linked by its number, or taken back at KFTC, has no balance to show", async () => {
  const citizen = await namesake();
  const alice = await identified(citizen);
  await byNumber(alice, citizen);
  const bob = await openWallet(server);
  await linkBank(server, bob);
  await kftc.changeTokens("revoke", (await grantOf(bob))?.userSeqNo);

  for (const person of [alice, bob]) {
    const { bankAccounts } = await person.banks.listBankAccounts({ withBalances: true });
    expect(bankAccounts).toMatchObject([{ liveBalance: { status: LiveBalance_Status.CONSENT_MISSING } }]);
  }
});

// B3: changes

test("B3: an account is called, is primary and tops up as its owner says", async () => {
  const alice = await openWallet(server);
  const citizen = await citizenAt("088", "090");
  const { bankAccounts } = await linkBank(server, alice, { citizen });
  const [first, second] = bankAccounts.map(({ id }) => id) as [string, string];
  const { banks } = alice;

  const change = { alias: "비상금", primary: true, automaticTopUp: true, topUpUnit: 10_000n };
  const { bankAccount } = await banks.updateBankAccount({ bankAccountId: second, ...change });

  expect(bankAccount).toMatchObject({ id: second, ...change });
  expect((await linkedOf(alice)).map(({ primary }) => primary)).toEqual([false, true]);
  await banks.updateBankAccount({ bankAccountId: second, alias: "" });
  expect((await linkedOf(alice))[1]).toMatchObject({ ...change, alias: "" });
  await banks.updateBankAccount({ bankAccountId: second, primary: false });
  expect((await linkedOf(alice)).map(({ primary }) => primary)).toEqual([false, false]);
  expect((await refusalOf(banks.updateBankAccount({ bankAccountId: first, topUpUnit: 10_001n }))).reason).toBe(
    Reason.REQUEST_INVALID,
  );
});

test("B3: nothing is drawn by itself from an account whose owner did not agree to that", async () => {
  const alice = await openWallet(server);
  const { bankAccount } = await linkBank(server, alice, { agree: ["inquiry"] });

  const change = { bankAccountId: bankAccount.id, alias: "새 이름", automaticTopUp: true };
  expect(await refusalOf(alice.banks.updateBankAccount(change))).toEqual(CONSENT_MISSING);

  expect(await linkedOf(alice)).toMatchObject([{ alias: bankAccount.alias, automaticTopUp: false }]);
});

test("B3: of several that are made primary at once one is", async () => {
  const alice = await openWallet(server);
  const citizen = await citizenAt(...Array.from({ length: 6 }, () => "088"));
  const { bankAccounts } = await linkBank(server, alice, { citizen });
  const doors = [alice, personAt(other, alice)];

  const outcomes = await Promise.all(
    [...bankAccounts, ...bankAccounts].map(({ id }, i) =>
      outcomeOf((doors[i % 2] as Person).banks.updateBankAccount({ bankAccountId: id, primary: true })),
    ),
  );

  expect(new Set(outcomes)).toEqual(new Set(["OK"]));
  expect((await linkedOf(alice)).filter(({ primary }) => primary)).toHaveLength(1);
});

test("B3: an unlinked account is gone at once, with its number and names, and may be linked by somebody else", async () => {
  const [alice, bob] = (await openWallets(server, 2)) as [Person, Person];
  const { citizen, bankAccount } = await linkBank(server, alice, { automaticTopUp: true });
  const bankAccountId = bankAccount.id;

  const outcomes = await Promise.all(
    [alice, personAt(other, alice), alice].map(({ banks }) => outcomeOf(banks.unlinkBankAccount({ bankAccountId }))),
  );

  expect(outcomes.toSorted()).toEqual(["NotFound BANK_ACCOUNT_NOT_FOUND", "NotFound BANK_ACCOUNT_NOT_FOUND", "OK"]);
  expect(await linkedOf(alice)).toEqual([]);
  expect(await rowsOf(alice)).toMatchObject([
    {
      state: BankAccount_State.UNLINKED,
      numberSealed: null,
      linkKey: null,
      primaryOf: null,
      automaticTopUp: 0,
      holderName: "",
      alias: "",
      maskedNumber: bankAccount.maskedNumber,
      unlinkTime: expect.any(Date),
    },
  ]);
  expect(await refusalOf(alice.banks.updateBankAccount({ bankAccountId, alias: "mine" }))).toEqual(NOT_FOUND);
  expect((await kindsOf(alice)).filter((kind) => kind === "bank.unlinked")).toHaveLength(1);
  expect((await linkBank(server, bob, { citizen })).bankAccounts).toHaveLength(1);
});

// B3: the bank's statement

const DAYS = { startDate: seoulDate(-1), endDate: seoulDate(1) };

test("B3: the bank's statement comes in pages, the newest first", async () => {
  const alice = await openWallet(server);
  const { bankAccount, where } = await linkBank(server, alice, { balance: 100_000n });
  for (let i = 1; i <= 59; i += 1) {
    await kftc.addMovement(where, { amount: i % 2 === 0 ? `${i}` : `-${i}`, content: `줄 ${i}` });
  }
  const request = { bankAccountId: bankAccount.id, ...DAYS };

  const pages = [];
  for (let pageToken = ""; pages.length === 0 || pageToken !== ""; ) {
    const page = await alice.banks.listBankEntries({ ...request, pageToken });
    pages.push(page);
    pageToken = page.nextPageToken;
  }

  expect(pages.map(({ entries }) => entries.length)).toEqual([25, 25, 10]);
  const entries = pages.flatMap((page) => page.entries);
  expect(entries[0]).toMatchObject({ amount: -59n, content: "줄 59" });
  expect(entries.at(-1)).toMatchObject({ amount: 100_000n, balanceAfter: 100_000n });
  const balance = entries.reduce((sum, { amount }) => sum + amount, 0n);
  expect(entries[0]?.balanceAfter).toBe(balance);
  const long = { ...request, startDate: "2020-01-01", endDate: "2020-12-31" };
  expect(await alice.banks.listBankEntries(long)).toMatchObject({ entries: [], nextPageToken: "" });

  const pageToken = pages[0]?.nextPageToken ?? "";
  for (const wrong of [
    { ...request, endDate: seoulDate(0), pageToken },
    { ...request, pageToken: "garbage" },
  ]) {
    expect((await refusalOf(alice.banks.listBankEntries(wrong))).reason).toBe(Reason.PAGE_TOKEN_INVALID);
  }
});

test.each([
  ["2026-02-30", "2026-03-01"],
  ["2026-01-01", "2026-13-01"],
  ["2026-03-01", "2026-02-28"],
  ["2025-01-01", "2026-01-02"],
])("B3: from %s to %s there is no statement", async (startDate, endDate) => {
  const alice = await openWallet(server);
  const { bankAccount } = await linkBank(server, alice);

  const answer = alice.banks.listBankEntries({ bankAccountId: bankAccount.id, startDate, endDate });

  expect(await refusalOf(answer)).toEqual(INVALID);
});

test("B3: a bank that does not show its statement says why", async () => {
  const alice = await openWallet(server);
  const { bankAccount } = await linkBank(server, alice);
  const list = () => alice.banks.listBankEntries({ bankAccountId: bankAccount.id, ...DAYS });

  await kftc.script({ call: "history", kind: "decline", code: "425" });
  const refused = await errorOf(list());
  expect(refused.rawMessage).toBe("법적제한 계좌입니다");
  expect((await refusalOf(Promise.reject(refused))).reason).toBe(Reason.BANK_REFUSED);
  await kftc.script({ call: "history", kind: "garbage" });
  expect(await refusalOf(list())).toEqual(AWAY);
  await kftc.changeConsent((await rowsOf(alice))[0]?.fintechUseNum ?? "", "expire", "inquiry");
  expect(await refusalOf(list())).toEqual(CONSENT_MISSING);
});

// What the log is told

test("B1: a link whose process died before it told of it is told of, once, and before it ends", {
  timeout: 60_000,
}, async () => {
  const [alice, bob] = (await openWallets(server, 2)) as [Person, Person];
  const consents = await Promise.all(
    [alice, bob].map(async (person) => consentTo(server, person, { citizen: await addCitizen(server) })),
  );
  const dying = await startProcess(settings.DATABASE_URL, redisUrl(), 0, { ...settings, ...kftcSettings(kftc.url) });
  const baseUrl = `http://127.0.0.1:${dying.grpcPort}`;
  // While somebody else has the end of the log, the lane goes no further.
  const admin = await mysql.createConnection(settings.DATABASE_URL);
  await admin.query("start transaction");
  await admin.query("select * from ledger_head for update");

  const calls = [alice, bob].map(({ credential }, i) => {
    const transport = createGrpcTransport({ baseUrl, interceptors: [sendCredential(credential)] });
    return outcomeOf(createClient(BankService, transport).finishLink(consents[i] ?? {}));
  });
  for (const person of [alice, bob]) await expect.poll(() => rowsOf(person), HEARD).toHaveLength(1);
  await dying.kill();
  await admin.end();

  expect(await Promise.all(calls)).not.toContain("OK");
  for (const person of [alice, bob]) expect(await kindsOf(person)).not.toContain("bank.linked");
  const [linked] = await linkedOf(bob);
  await bob.banks.unlinkBankAccount({ bankAccountId: linked?.id });
  // As if the ten seconds that a process has for it were over.
  await db.updateTable("bankAccount").set({ tellDueTime: new Date() }).where("tellDueTime", "is not", null).execute();
  await expect.poll(() => kindsOf(alice), HEARD).toContain("bank.linked");
  const told = async ({ accountId }: Person) =>
    (await eventsOf(server, accountId)).filter(({ kind }) => kind.startsWith("bank."));
  expect(await told(alice)).toMatchObject([{ kind: "bank.linked", apiKeyId: expect.stringMatching(/^\d+$/) }]);
  expect(await told(bob)).toMatchObject([{ kind: "bank.linked" }, { kind: "bank.unlinked" }]);
  await expect.poll(async () => (await rowsOf(alice))[0], HEARD).toMatchObject({ tellDueTime: null, leaseOwner: "" });
});

// What KFTC is told

test("B3: KFTC is told of an unlinked account, again until it has heard; the grant goes with the last", {
  timeout: 60_000,
}, async () => {
  const alice = await openWallet(server);
  const citizen = await citizenAt("088", "090");
  const { bankAccounts } = await linkBank(server, alice, { citizen });
  const [first, second] = bankAccounts.map(({ id }) => id) as [string, string];
  const { accessToken = Buffer.alloc(0), userSeqNo = "" } = (await grantOf(alice)) ?? {};
  const token = server.app.bank?.vault.open(accessToken, `bank_grant:${alice.accountId}`) ?? "";
  const agreed = async () =>
    (await server.app.bank?.banking.listAccounts(token, userSeqNo))?.filter(
      ({ inquiryAgreed, transferAgreed }) => inquiryAgreed || transferAgreed,
    );
  const rowOf = async (id: string) => (await rowsOf(alice)).find((row) => row.id === BigInt(id));
  const { fintechUseNum = "" } = (await rowOf(first)) ?? {};
  await kftc.script({ call: "cancel", fintechUseNum, kind: "drop", at: "before" });
  await kftc.script({ call: "cancel", fintechUseNum, kind: "drop", at: "after" });

  await alice.banks.unlinkBankAccount({ bankAccountId: first });

  await expect.poll(async () => (await rowOf(first))?.revokeDueTime, HEARD).toBeNull();
  expect((await rowOf(first))?.revokeTries).toBeGreaterThan(2);
  expect(await agreed()).toHaveLength(1);
  expect(await grantOf(alice)).toBeDefined();
  await alice.banks.unlinkBankAccount({ bankAccountId: second });
  await expect.poll(() => grantOf(alice), HEARD).toBeUndefined();
  expect(await agreed()).toEqual([]);
});

test("B3: KFTC is not told to end the consent of an account that was linked again meanwhile", async () => {
  const alice = await openWallet(server);
  const { citizen, bankAccount } = await linkBank(server, alice);
  const [{ fintechUseNum } = { fintechUseNum: "" }] = await rowsOf(alice);
  await kftc.script({ call: "cancel", fintechUseNum, kind: "drop", at: "before" });
  await alice.banks.unlinkBankAccount({ bankAccountId: bankAccount.id });
  await expect.poll(async () => (await kftc.listFaults()).length, HEARD).toBe(0);
  const [unlinked] = await rowsOf(alice);
  await linkBank(server, alice, { citizen });

  // As if it had been under way since before.
  if (!server.app.bank) throw new Error("there is no bank");
  await openRevocations(server.app, server.app.bank).tell(unlinked as BankAccountRow);

  expect((await rowsOf(alice)).map(({ revokeDueTime }) => revokeDueTime)).toEqual([null, null]);
  const { bankAccounts } = await alice.banks.listBankAccounts({ withBalances: true });
  expect(bankAccounts).toMatchObject([{ liveBalance: { status: LiveBalance_Status.OK } }]);
});

test("B3: a consent that was taken back at KFTC needs no telling, also of a closed account", async () => {
  const alice = await openWallet(server);
  await linkBank(server, alice);
  await kftc.changeTokens("revoke", (await grantOf(alice))?.userSeqNo);

  await alice.accounts.closeAccount({});

  await expect.poll(() => grantOf(alice), HEARD).toBeUndefined();
  expect((await rowsOf(alice))[0]?.revokeDueTime).toBeNull();
});

// Closing

test("A7: an account that closes has no bank accounts any more, of whatever was linked while it closed", async () => {
  const people = await openWallets(server, 12);
  const citizens = await Promise.all(people.map(() => citizenAt("088", "090")));
  const consents = await Promise.all(
    people.map((person, i) => consentTo(server, person, { citizen: citizens[i] as Citizen })),
  );
  await Promise.all(people.slice(0, 6).map((person) => linkBank(server, person)));

  const outcomes = await Promise.all(
    people.flatMap((person, i) => [
      outcomeOf(person.accounts.closeAccount({})),
      outcomeOf(personAt(other, person).banks.finishLink(consents[i] ?? { state: "", code: "" })),
    ]),
  );

  expect(outcomes.filter((_, i) => i % 2 === 0)).toEqual(people.map(() => "OK"));
  for (const person of people) {
    const rows = await rowsOf(person);
    for (const row of rows) {
      expect(row).toMatchObject({ state: BankAccount_State.UNLINKED, linkKey: null, holderName: "", alias: "" });
    }
    const account = await db.selectFrom("account").selectAll().where("id", "=", person.accountId).executeTakeFirst();
    expect(account?.bankAccountCount).toBe(0);
    const kinds = await kindsOf(person);
    expect(kinds.filter((kind) => kind === "bank.unlinked")).toHaveLength(rows.length);
  }
});

// Where there is no open banking

test("B1: where open banking is not configured every call says so", async () => {
  const none = Object.fromEntries(Object.keys(kftcSettings("")).map((name) => [name, ""]));
  const without = await startServer(none);
  const alice = await openWallet(without);
  const requests: Record<string, object> = {
    FinishLink: { state: "a".repeat(32), code: "code" },
    LinkByNumber: { bankCode: "088", accountNumber: "110432198765" },
    ListBankEntries: { bankAccountId: "1", ...DAYS },
    TopUp: { idempotencyKey: "k", bankAccountId: "1", amount: 1n },
    Withdraw: { idempotencyKey: "k", bankAccountId: "1", amount: 1n },
    GetBankTransfer: { bankTransferId: "1" },
  };

  for (const rpc of everyRpc(without).filter(({ parent }) => parent.name === "BankService")) {
    const request = requests[rpc.name] ?? { bankAccountId: "1" };
    const answer = await refusalOf(call(without, rpc, request, alice.credential, "grpc"));
    expect([rpc.name, answer]).toEqual([rpc.name, AWAY]);
  }
  await without.stop();
});

// B4: ids of calls

test("B4: an id of a call is our code, a U, and nine letters or digits that nobody else has on that day", async () => {
  const time = new Date();
  const code = server.app.config.banking?.institutionCode ?? "";

  const ids = await Promise.all(Array.from({ length: 200 }, () => claimTranId(db, code, time)));

  for (const id of ids) expect(id).toMatch(/^M202600001U[0-9A-Z]{9}$/);
  expect(new Set(ids).size).toBe(200);
  const claims = db.selectFrom("bankTranClaim").selectAll().where("tranId", "in", ids);
  expect(await claims.execute()).toHaveLength(200);
  expect(tranIdOf(code, 42n)).toBe(tranIdOf(code, 42n));
  expect(tranIdOf(code, 42n)).not.toBe(tranIdOf(code, 43n));
});
