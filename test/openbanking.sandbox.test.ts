import { afterAll, beforeAll, expect, test } from "vitest";
import { kftcSettings, startKftc } from "../sandbox/kftc/server.ts";
import { openBanking } from "../src/bank/openbanking/client.ts";
import {
  BankingError,
  type ConsentedAccount,
  type OpenBanking,
  type UserGrant,
} from "../src/bank/openbanking/contract.ts";
import { readConfig } from "../src/config.ts";
import { daysAfter, seoulDay } from "../src/seoul.ts";

// Against the centre of the sandbox: that what is sent is understood, and that what it says of money is true.

type Kftc = Awaited<ReturnType<typeof startKftc>>;
let kftc: Kftc;
let banking: OpenBanking;
let own: string;

beforeAll(async () => {
  kftc = await startKftc({ port: 0 });
  const { banking: settings } = readConfig({
    CHATPAY_MODE: "development",
    DATABASE_URL: "mysql://127.0.0.1/none",
    REDIS_URL: "redis://127.0.0.1",
    CHATPAY_SMTP_URL: "smtp://127.0.0.1",
    CHATPAY_OPENBANKING_TIMEOUT_MS: "2000",
    ...kftcSettings(kftc.url),
  });
  if (!settings) throw new Error("open banking is not configured");
  banking = openBanking(settings);
  own = (await banking.institutionToken()).accessToken;
});

afterAll(async () => {
  await banking.close();
  await kftc.stop();
});

const STATE = "0123456789abcdef0123456789ABCDEF";

let tranIds = 0;
const newTranId = () => `M202600001U${String((tranIds += 1)).padStart(9, "0")}`;
const call = () => ({ tranId: newTranId(), time: new Date() });

/** A citizen of their own, who consented to everything with one account. */
async function consented(balance = "1000000") {
  const citizen = await kftc.addCitizen({
    name: "정가온",
    birthDate: "19950704",
    accounts: [{ bankCode: "088", balance, alias: "생활비" }],
  });
  const back = await kftc.consent(banking.consentUrl(STATE), { citizen });
  const grant = await banking.exchangeCode(back.searchParams.get("code") ?? "");
  const [account] = await banking.listAccounts(grant.accessToken, grant.userSeqNo);
  if (!account) throw new Error("no account");
  return { citizen, back, grant, account, token: grant.accessToken };
}

const drawing = ({ account }: { account: ConsentedAccount }, amount = 30_000n) => ({
  ...call(),
  fintechUseNum: account.fintechUseNum,
  amount,
  purpose: "RC" as const,
  memberNumber: "1234567890",
  memberName: "정가온",
  memberFintechUseNum: account.fintechUseNum,
  printOurs: "충전",
  printTheirs: "챗페이충전",
});

const paying = ({ account }: { account: ConsentedAccount }, amount = 10_000n) => ({
  ...call(),
  amount,
  memberNumber: "1234567890",
  printOurs: "출금",
  printTheirs: "챗페이",
  to: { fintechUseNum: account.fintechUseNum },
});

const balanceOf = async ({ token, account }: { token: string; account: ConsentedAccount }) =>
  (await banking.getBalance(token, { ...call(), fintechUseNum: account.fintechUseNum })).balance;

const resultOf = (
  kind: "withdraw" | "deposit",
  { tranId, amount }: { tranId: string; amount: bigint },
  date?: string,
) => banking.getResult(own, { kind, tranId, amount, date: date ?? seoulDay(new Date()), time: new Date() });

const failureOf = (failing: Promise<unknown>) =>
  failing.then(
    () => undefined,
    (error: unknown) => {
      expect(error).toBeInstanceOf(BankingError);
      const { kind, code } = error as BankingError;
      return { kind, code };
    },
  );

/** How often the won of an order moved at the banks. */
const timesBooked = async (tranId: string) =>
  (await kftc.books()).booked.filter(({ bankTranId }) => bankTranId === tranId).length;

test("a person consents, is known, and their accounts are seen", async () => {
  const { citizen, back, grant, account } = await consented();

  expect(back.searchParams.get("state")).toBe(STATE);
  expect(grant.scope.toSorted()).toEqual(["inquiry", "login", "transfer"]);
  expect(grant.expireTime.getTime()).toBeGreaterThan(Date.now() + 80 * 86_400_000);
  const user = await banking.getUser(grant.accessToken, grant.userSeqNo);
  expect(user).toMatchObject({ name: "정가온", ci: citizen.ci, birthDate: "1995-07-04" });
  expect(user.accounts).toMatchObject([{ fintechUseNum: account.fintechUseNum, isOpen: true }]);
  expect(account).toEqual({
    fintechUseNum: expect.stringMatching(/^\d{24}$/) as string,
    bankCode: "088",
    bankName: "신한은행",
    maskedNumber: expect.stringMatching(/\*\*\*$/) as string,
    number: citizen.accounts[0]?.number,
    holderName: "정가온",
    alias: "생활비",
    inquiryAgreed: true,
    transferAgreed: true,
    isOpen: true,
  });
});

test("a code is taken once, and a pair of tokens is followed by the next", async () => {
  const { back, grant } = await consented();

  expect(await failureOf(banking.exchangeCode(back.searchParams.get("code") ?? ""))).toMatchObject({ kind: "refused" });
  const next = await banking.refreshGrant(grant.refreshToken, grant.scope);
  expect(next.userSeqNo).toBe(grant.userSeqNo);
  expect(await banking.listAccounts(next.accessToken, grant.userSeqNo)).toHaveLength(1);
  expect(await failureOf(banking.refreshGrant(grant.refreshToken, grant.scope))).toMatchObject({ kind: "refused" });
});

test("a consent to look but not to draw is refreshed as it is", async () => {
  const citizen = await kftc.addCitizen({ name: "한별", birthDate: "19950704", accounts: [{ bankCode: "004" }] });
  const back = await kftc.consent(banking.consentUrl(STATE), { citizen, agree: ["inquiry"] });
  const grant = await banking.exchangeCode(back.searchParams.get("code") ?? "");

  const next: UserGrant = await banking.refreshGrant(grant.refreshToken, grant.scope);

  expect(next.scope.toSorted()).toEqual(["inquiry", "login"]);
  const [account] = await banking.listAccounts(next.accessToken, next.userSeqNo);
  expect(account).toMatchObject({ inquiryAgreed: true, transferAgreed: false });
});

test("a balance and what can be drawn of it are told", async () => {
  const person = await consented("500000");
  await kftc.changeAccount({ bankCode: "088", number: person.account.number ?? "" }, { held: "200000" });

  const balance = await banking.getBalance(person.token, { ...call(), fintechUseNum: person.account.fintechUseNum });

  expect(balance).toMatchObject({ balance: 500_000n, available: 300_000n });
});

test("a statement is read page by page, each line once, the newest first", async () => {
  const person = await consented("1000000");
  const where = { bankCode: "088", number: person.account.number ?? "" };
  for (let line = 1; line <= 60; line += 1)
    await kftc.addMovement(where, { amount: `-${line}`, content: `커피${line}` });
  const today = seoulDay(new Date());
  const query = {
    fintechUseNum: person.account.fintechUseNum,
    fromDate: daysAfter(today, -1),
    toDate: today,
    direction: "out" as const,
  };

  const pages = [];
  let trace: string | undefined = "";
  while (trace !== undefined) {
    const page = await banking.listTransactions(person.token, { ...call(), ...query, trace });
    pages.push(page.entries);
    trace = page.nextTrace;
  }

  expect(pages.map(({ length }) => length)).toEqual([25, 25, 10]);
  expect(pages.flat().map(({ content }) => content)).toEqual(Array.from({ length: 60 }, (_, at) => `커피${60 - at}`));
  expect(pages[0]?.[0]).toMatchObject({ direction: "out", amount: 60n, balanceAfter: 998_170n });
  const nothing = { ...call(), ...query, fromDate: "20200101", toDate: "20200102", trace: "" };
  expect((await banking.listTransactions(person.token, nothing)).entries).toEqual([]);
});

test("the bank tells whose account it is, to those who know the birth date", async () => {
  const { citizen } = await consented();
  const { bankCode = "", number: accountNumber = "" } = citizen.accounts[0] ?? {};
  const ask = (birthDate: string, number = accountNumber) =>
    banking.getRealName(own, { ...call(), bankCode, accountNumber: number, birthDate });

  expect(await ask("950704")).toEqual({ holderName: "정가온", bankName: "신한은행" });
  expect(await failureOf(ask("950705"))).toEqual({ kind: "refused", code: "463" });
  expect(await failureOf(ask("950704", "1"))).toEqual({ kind: "refused", code: "412" });
  expect(await failureOf(ask("950732", "x"))).toMatchObject({ kind: "refused", code: "A0004" });
});

test("money is drawn and paid, and the banks have the same in their books", async () => {
  const person = await consented("100000");
  const draw = drawing(person);
  const pay = paying(person);

  const drawn = await banking.withdraw(person.token, draw);
  const paid = await banking.deposit(own, pay);

  expect(drawn).toMatchObject({ is: "approved", amount: 30_000n, tranDate: seoulDay(new Date()) });
  expect(paid).toMatchObject({ is: "approved", amount: 10_000n });
  expect(await balanceOf(person)).toBe(80_000n);
  expect(await resultOf("withdraw", draw)).toMatchObject({ is: "approved", amount: 30_000n });
  expect(await resultOf("deposit", pay)).toMatchObject({ is: "approved", amount: 10_000n });
  expect(await resultOf("withdraw", { ...draw, tranId: newTranId() })).toEqual({ is: "absent" });
  const { booked } = await kftc.books();
  expect(booked.filter(({ bankTranId }) => [draw.tranId, pay.tranId].includes(bankTranId))).toMatchObject([
    { kind: "withdraw", amount: "30000" },
    { kind: "deposit", amount: "10000" },
  ]);
});

test("money is paid to an account by its number, if the name is its holder's", async () => {
  const { accounts } = await kftc.addCitizen({
    name: "Kim 하나",
    birthDate: "19850505",
    accounts: [{ bankCode: "092" }],
  });
  const to = { bankCode: "092", accountNumber: accounts[0]?.number ?? "", holderName: "Kim 하나" };
  const order = { ...call(), amount: 5_000n, memberNumber: "1", printOurs: "이체", printTheirs: "정가온" };

  expect(await banking.deposit(own, { ...order, to })).toMatchObject({ is: "approved" });
  const wrong = { ...order, tranId: newTranId(), to: { ...to, holderName: "김둘" } };
  expect(await banking.deposit(own, wrong)).toMatchObject({ is: "declined", code: "A0312" });
  const nobody = { ...order, tranId: newTranId(), to: { ...to, accountNumber: "1" } };
  expect(await banking.deposit(own, nobody)).toMatchObject({ is: "declined", code: "412", bankCode: "092" });

  expect(await timesBooked(wrong.tranId)).toBe(0);
  expect((await kftc.getAccount({ bankCode: "092", number: to.accountNumber })).balance).toBe("5000");
});

test("banks and the centre refuse in their own words, and nothing moves", async () => {
  const person = await consented("10000");
  await kftc.setLimits(person.citizen.id, { dayLimit: "20000", transferLimit: "15000" });
  const where = { bankCode: "088", number: person.account.number ?? "" };
  const refusalOf = async (amount: bigint) => {
    const order = drawing(person, amount);
    const outcome = await banking.withdraw(person.token, order);
    expect(await timesBooked(order.tranId)).toBe(0);
    return outcome;
  };

  expect(await refusalOf(10_001n)).toEqual({ is: "declined", code: "453", message: "잔액부족", bankCode: "088" });
  expect(await refusalOf(15_001n)).toMatchObject({ is: "declined", code: "A0111", bankCode: "" });
  await kftc.changeAccount(where, { block: "425" });
  expect(await refusalOf(1n)).toMatchObject({ is: "declined", code: "425", message: "법적제한 계좌입니다" });
  await kftc.changeAccount(where, { block: "" });
  await kftc.script({ kind: "decline", fintechUseNum: person.account.fintechUseNum, code: "A0020" });
  expect(await refusalOf(1n)).toMatchObject({ is: "declined", code: "A0020" });
  await kftc.changeConsent(person.account.fintechUseNum, "end", "transfer");
  expect(await refusalOf(1n)).toMatchObject({ is: "declined", code: "A0306" });
  expect(await balanceOf(person)).toBe(10_000n);
});

test("an id that was used says nothing of the first order, and the result tells", async () => {
  const person = await consented();
  const order = drawing(person);

  expect(await banking.withdraw(person.token, order)).toMatchObject({ is: "approved" });
  expect(await banking.withdraw(person.token, order)).toEqual({ is: "unknown", why: "code A0326" });

  expect(await resultOf("withdraw", order)).toMatchObject({ is: "approved" });
  expect(await timesBooked(order.tranId)).toBe(1);
});

test("after every fault it is unknown what became of money, until the result tells the truth", async () => {
  const faults = [
    { kind: "delay", at: "after", ms: 3_000 },
    { kind: "drop", at: "before" },
    { kind: "drop", at: "after" },
    { kind: "cut" },
    { kind: "garbage", at: "before" },
    { kind: "garbage", at: "after" },
    { kind: "status", at: "before" },
    { kind: "status", at: "after", status: 503 },
    { kind: "answer", at: "before", code: "A0007" },
    { kind: "answer", at: "after", code: "A0007" },
    { kind: "answer", at: "after", code: "804" },
    { kind: "amount" },
    { kind: "twice" },
  ] as const;
  const person = await consented();
  const { fintechUseNum } = person.account;

  for (const fault of faults) {
    for (const kind of ["withdraw", "deposit"] as const) {
      await kftc.script({ ...fault, call: kind, fintechUseNum });
      const order = kind === "withdraw" ? drawing(person, 100n) : paying(person, 100n);
      const outcome =
        kind === "withdraw"
          ? await banking.withdraw(person.token, order as ReturnType<typeof drawing>)
          : await banking.deposit(own, order as ReturnType<typeof paying>);
      const name = `${kind} ${JSON.stringify(fault)}`;
      expect(outcome, name).toMatchObject({ is: "unknown" });
      const result = await resultOf(kind, order);
      const isBooked = (await timesBooked(order.tranId)) === 1;
      expect(result, name).toMatchObject({ is: isBooked ? "approved" : "absent" });
    }
  }
  expect(await kftc.listFaults()).toEqual([]);
});

test("an order in process stays unknown until the bank has decided", async () => {
  const person = await consented();
  const { fintechUseNum } = person.account;

  for (const head of ["A0001", "A0000", "A0002"] as const) {
    for (const [code, is] of [
      ["000", "approved"],
      ["453", "declined"],
    ] as const) {
      await kftc.script({ kind: "processing", call: "withdraw", fintechUseNum, head, code, inquiries: 1 });
      const order = drawing(person, 100n);
      expect(await banking.withdraw(person.token, order)).toMatchObject({ is: "unknown" });
      expect(await resultOf("withdraw", order)).toMatchObject({ is: "unknown" });
      expect(await resultOf("withdraw", order)).toMatchObject({ is });
      expect(await timesBooked(order.tranId)).toBe(is === "approved" ? 1 : 0);
    }
  }
});

test("a token that has expired or was revoked, and one of another scope, are told apart", async () => {
  const person = await consented();

  const ownToken = await banking.withdraw(own, drawing(person));
  expect(ownToken).toMatchObject({ is: "declined", code: "O0011" });
  await kftc.changeTokens("expire", person.grant.userSeqNo);
  expect(await failureOf(banking.withdraw(person.token, drawing(person)))).toEqual({ kind: "token", code: "O0003" });
  expect(await failureOf(balanceOf(person))).toEqual({ kind: "token", code: "O0003" });
  const { accessToken: token } = await banking.refreshGrant(person.grant.refreshToken, person.grant.scope);
  expect(await balanceOf({ ...person, token })).toBe(1_000_000n);
  await kftc.changeTokens("revoke", person.grant.userSeqNo);
  expect(await failureOf(balanceOf({ ...person, token }))).toEqual({ kind: "token", code: "O0002" });
});

test("while a bank is away its accounts are not seen, and come back", async () => {
  const person = await consented();
  await kftc.script({ kind: "status", call: "balance", fintechUseNum: person.account.fintechUseNum, status: 502 });
  await kftc.script({ kind: "garbage", call: "balance", fintechUseNum: person.account.fintechUseNum });
  await kftc.script({ kind: "decline", call: "balance", fintechUseNum: person.account.fintechUseNum, code: "A0020" });

  expect(await failureOf(balanceOf(person))).toEqual({ kind: "unavailable", code: "HTTP_502" });
  expect(await failureOf(balanceOf(person))).toEqual({ kind: "unavailable", code: "MALFORMED" });
  expect(await failureOf(balanceOf(person))).toEqual({ kind: "unavailable", code: "A0020" });
  expect(await balanceOf(person)).toBe(1_000_000n);
});

test("a consent is ended, and can be ended again", async () => {
  const person = await consented();
  const { fintechUseNum } = person.account;

  for (let time = 1; time <= 2; time += 1)
    for (const scope of ["transfer", "inquiry"] as const)
      await banking.cancelAccount(person.token, { tranId: newTranId(), fintechUseNum, scope });

  expect(await failureOf(balanceOf(person))).toMatchObject({ kind: "refused", code: "A0305" });
  expect(await banking.withdraw(person.token, drawing(person))).toMatchObject({ is: "declined", code: "A0306" });
});
