import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { startWallet } from "../examples/wallet/server.ts";
import { findBrowser } from "../tools/browser.ts";
import { freePort } from "../tools/system.ts";
import { addCitizen, linkBank } from "./support/banks.ts";
import { balanceOf, differencesIn, openPartner, openWallet, signUp } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";

/** What people do in the browser, on the page of examples/wallet and on those of the sandbox. */

// A browser shares a busy machine with everything else.
const PATIENCE_MS = 60_000;
vi.setConfig({ testTimeout: 4 * PATIENCE_MS });

const PHONE = { width: 390, height: 844 };
const PIN_ABOVE = 300_000;

let server: TestServer;
let wallet: Awaited<ReturnType<typeof startWallet>>;
let shop: Awaited<ReturnType<typeof openPartner>>;
let browser: Browser;

// Where no browser is installed one is fetched.
beforeAll(async () => {
  const port = await freePort();
  server = await startServer({
    CHATPAY_OPENBANKING_REDIRECT_URL: `http://localhost:${port}/linked`,
    CHATPAY_PIN_ABOVE: `${PIN_ABOVE}`,
  });
  shop = await openPartner(server);
  const settings = { mailUrl: `http://127.0.0.1:${server.inbox.httpPort}`, partnerId: shop.partnerId };
  wallet = await startWallet({ port, chatpayUrl: server.baseUrl, settings });
  const { path, env } = await findBrowser();
  browser = await chromium.launch({
    executablePath: path,
    env: { ...process.env, ...env },
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  });
}, 600_000);

afterEach(async () => {
  await server.kftc.clearFaults();
  await server.kftc.clearDowntime();
});

afterAll(async () => {
  await browser.close();
  await wallet.stop();
  await server.stop();
});

/** The page in a browser of its own that has never been here, held like a phone. */
async function visit({ locale = "ko-KR", viewport = PHONE } = {}): Promise<Page> {
  const context = await browser.newContext({ baseURL: wallet.url, locale, viewport });
  onTestFinished(() => context.close());
  context.setDefaultTimeout(PATIENCE_MS);
  return openTab(context);
}

async function openTab(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  await page.goto("/");
  return page;
}

/** Somebody who has an account and signs in with the password. */
async function comeIn(person: { email: string; password: string }, how: Parameters<typeof visit>[0] = {}) {
  const page = await visit(how);
  await page.getByLabel("이메일").fill(person.email);
  await page.getByLabel("비밀번호").fill(person.password);
  await page.getByRole("button", { name: "로그인" }).click();
  await region(page, "쓸 수 있는 돈").waitFor();
  return page;
}

const region = (page: Page, name: string) => page.getByRole("region", { name, exact: true });
const sheet = (page: Page) => page.getByRole("dialog");
const press = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).click();
const submit = (page: Page, name: string) => sheet(page).getByRole("button", { name, exact: true }).click();
/** A sheet closes when what it asks for is done. */
const untilClosed = (page: Page) => sheet(page).waitFor({ state: "detached" });

const expectText = (page: Page, text: string) => page.getByText(text).first().waitFor();
const expectMoney = (page: Page, text: string) =>
  region(page, "쓸 수 있는 돈").getByText(text, { exact: true }).first().waitFor();

/** Looks again until it is so. */
const expectSoon = <T>(read: () => T) => expect.poll(read, { timeout: PATIENCE_MS });

/** The statement as it is read, newest first: what it was, and how much. */
async function statement(page: Page) {
  const lines = await region(page, "거래 내역").locator("li.line").all();
  return Promise.all(
    lines.map(async (line) => [
      await line.locator(".names b").innerText(),
      await line.locator(".amounts b").innerText(),
    ]),
  );
}

/** A code, as the person finds it in the inbox that the page links to. */
async function readCode(page: Page): Promise<string> {
  const opening = page.context().waitForEvent("page");
  await page.getByRole("link", { name: "메일함 열기" }).click();
  const inbox = await opening;
  // The inbox looks for new mail by itself.
  const text = await inbox.locator("article pre").first().innerText();
  await inbox.close();
  return /\b\d{6}\b/.exec(text)?.[0] ?? "";
}

const booked = async (number: string) =>
  (await server.kftc.books()).booked.filter((one) => one.accountNumber === number);

test("a new user links a bank on the consent page, moves money in every way, and sees it here and at the bank", async () => {
  const bob = await openWallet(server);
  const email = `${randomUUID()}@example.com`;
  const page = await visit();

  // Signs up with a code.
  await press(page, "가입");
  await page.getByLabel("이메일").fill(email);
  await press(page, "인증 코드 받기");
  await expectText(page, `코드를 보냈어요: ${email}`);
  await page.getByLabel("인증 코드 6자리").fill(await readCode(page));
  await page.getByLabel("이름").fill("박하늘");
  await page.getByLabel("비밀번호").fill("a pass phrase");
  await press(page, "가입하기");
  await expectMoney(page, "0원");

  // Goes to the consent page, says who she is, agrees, and comes back signed in.
  await press(page, "계좌 연결");
  await page.getByLabel("이름").fill("박하늘");
  await page.getByLabel("생년월일").fill("1994-05-02");
  await press(page, "확인");
  await page.getByLabel("국민은행").uncheck();
  await page.getByLabel("카카오뱅크").uncheck();
  await press(page, "동의하고 계속");
  await expectText(page, "계좌 1개를 연결했어요");
  await region(page, "연결한 계좌").getByText("1,000,000원").waitFor();
  expect(new URL(page.url()).pathname + new URL(page.url()).search).toBe("/");

  await press(page, "충전");
  await sheet(page).getByRole("button", { name: "+5만" }).click();
  await submit(page, "충전");
  await untilClosed(page);
  await expectMoney(page, "50,000원");

  await region(page, "연결한 계좌")
    .getByRole("button", { name: /신한은행/ })
    .click();
  await sheet(page).getByLabel("별명").fill("월급");
  await sheet(page).getByLabel("자동 충전").check();
  await sheet(page).getByLabel("채우는 단위").selectOption("10000");
  await submit(page, "저장");
  await region(page, "연결한 계좌").getByText("자동 충전").waitFor();

  // 22,500 are missing, so 30,000 are drawn.
  await press(page, "송금");
  await sheet(page).getByLabel("받는 지갑 번호").fill(bob.walletId);
  await sheet(page).getByLabel("금액").fill("72500");
  await sheet(page).getByLabel("메모").fill("점심값");
  await submit(page, "송금");
  await untilClosed(page);
  await expectMoney(page, "7,500원");

  await press(page, "새 저금통");
  await sheet(page).getByLabel("저금통 이름").fill("제주 여행");
  await submit(page, "만들기");
  await region(page, "저금통")
    .getByRole("button", { name: /제주 여행/ })
    .click();
  await sheet(page).getByLabel("금액").fill("5000");
  await submit(page, "넣기");
  await untilClosed(page);
  await region(page, "저금통").getByText("5,000원").waitFor();
  await region(page, "저금통")
    .getByRole("button", { name: /제주 여행/ })
    .click();
  await sheet(page).getByLabel("금액").fill("2000");
  await submit(page, "꺼내기");
  await untilClosed(page);
  await expectMoney(page, "4,500원");

  // A book costs 16,800, so 20,000 are drawn.
  await press(page, "결제");
  await sheet(page).getByText("동네서점 책").click();
  await submit(page, "결제");
  await untilClosed(page);
  await expectMoney(page, "7,700원");

  await press(page, "출금");
  await submit(page, "전액");
  await submit(page, "출금");
  await untilClosed(page);
  await expectMoney(page, "0원");

  await expectSoon(() => statement(page)).toEqual([
    ["출금", "-7,700원"],
    ["결제", "-16,800원"],
    ["자동 충전", "+20,000원"],
    ["저금통에서 꺼냄", "+2,000원"],
    ["저금", "-5,000원"],
    ["보낸 돈", "-72,500원"],
    ["자동 충전", "+30,000원"],
    ["충전", "+50,000원"],
  ]);
  await region(page, "연결한 계좌").getByText("907,700원").waitFor();
  expect(await balanceOf(bob)).toBe(72_500n);
  expect(await balanceOf(shop)).toBe(16_800n);

  // The same on the bank's side.
  await page.goto(server.kftc.url);
  const rows = await page.locator("table").first().locator("tr").allInnerTexts();
  const hers = rows.filter((row) => row.includes("박하늘")).map((row) => row.split("\t").slice(1, 5).join(" "));
  expect(hers).toEqual([
    "paid 신한은행 박하늘 7,700원 000",
    "drawn 신한은행 박하늘 20,000원 000",
    "drawn 신한은행 박하늘 30,000원 000",
    "drawn 신한은행 박하늘 50,000원 000",
  ]);
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
});

test("a reload keeps the session, and signing out ends it", async () => {
  const alice = await signUp(server, { balance: 3_000n });
  const page = await comeIn(alice);

  await page.reload();
  await expectMoney(page, "3,000원");
  await press(page, "로그아웃");
  await page.getByRole("button", { name: "로그인" }).waitFor();
  await page.reload();

  await page.getByRole("button", { name: "로그인" }).waitFor();
  expect(await page.context().cookies()).toEqual([]);
});

test("somebody signs in with a code, and nothing secret stays where scripts can read it", async () => {
  const alice = await signUp(server, { balance: 4_000n });
  const page = await visit();

  await press(page, "인증 코드");
  await page.getByLabel("이메일").fill(alice.email);
  await press(page, "인증 코드 받기");
  await expectText(page, "코드를 보냈어요");
  await page.getByLabel("인증 코드 6자리").fill(await secondCode(alice.email));
  await press(page, "로그인");

  await expectMoney(page, "4,000원");
  const [cookie, ...others] = await page.context().cookies();
  expect(others).toEqual([]);
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/chatpay.account.v1.AccountService/" });
  const kept = await page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)");
  expect(kept).toBe("{}{}");
});

test("a wrong password, a wrong code, a wallet that is not there and too little money are told in plain words", async () => {
  const alice = await signUp(server, { balance: 1_000n });
  const page = await visit();

  await page.getByLabel("이메일").fill(alice.email);
  await page.getByLabel("비밀번호").fill("not the password");
  await press(page, "로그인");
  await expectText(page, "이메일이나 비밀번호가 맞지 않아요. 다시 입력해 주세요.");
  await press(page, "인증 코드");
  await page.getByLabel("이메일").fill(alice.email);
  await press(page, "인증 코드 받기");
  const code = await secondCode(alice.email);
  await page.getByLabel("인증 코드 6자리").fill(code === "123456" ? "654321" : "123456");
  await press(page, "로그인");
  await expectText(page, "코드가 맞지 않거나 시간이 지났어요. 코드를 다시 받아 주세요.");
  await press(page, "비밀번호");
  await page.getByLabel("이메일").fill(alice.email);
  await page.getByLabel("비밀번호").fill(alice.password);
  await press(page, "로그인");
  await expectMoney(page, "1,000원");

  await press(page, "송금");
  await sheet(page).getByLabel("받는 지갑 번호").fill("999999999999999999");
  await sheet(page).getByLabel("금액").fill("500");
  await submit(page, "송금");
  await sheet(page).getByText("그런 지갑이 없어요. 지갑 번호를 확인해 주세요.").waitFor();
  await sheet(page).getByLabel("금액").fill("1500");
  await sheet(page)
    .getByLabel("받는 지갑 번호")
    .fill((await openWallet(server)).walletId);
  await submit(page, "송금");

  await sheet(page).getByText("쓸 수 있는 돈이 1,000원이라 모자라요. 충전하거나 자동 충전을 켜 주세요.").waitFor();
});

test("what the bank declines is told in its words; the next try is another one", async () => {
  const alice = await signUp(server);
  const { where } = await linkBank(server, alice);
  const page = await comeIn(alice);
  await server.kftc.script({ call: "withdraw", accountNumber: where.number, kind: "decline", code: "413" });

  await press(page, "충전");
  await sheet(page).getByLabel("금액").fill("20000");
  await submit(page, "충전");
  await sheet(page).getByText("은행이 거절했어요: 거래가 제한된 계좌입니다").waitFor();
  await expectMoney(page, "0원");
  await submit(page, "충전");

  await untilClosed(page);
  await expectMoney(page, "20,000원");
  expect(await booked(where.number)).toHaveLength(1);
});

test("a bank that does not say yet holds a withdrawal, until it declines", async () => {
  const alice = await signUp(server, { balance: 30_000n });
  const { where } = await linkBank(server, alice);
  const page = await comeIn(alice);
  const which = { call: "deposit", accountNumber: where.number } as const;
  await server.kftc.script({ ...which, kind: "processing", code: "416", inquiries: 3 });

  await press(page, "출금");
  await sheet(page).getByLabel("금액").fill("12000");
  await submit(page, "출금");
  await expectText(page, "은행에서 처리하고 있어요");
  await expectMoney(page, "18,000원");
  await expectMoney(page, "12,000원");

  await expectText(page, "은행이 거절해서 옮겨지지 않았어요. 해지된 계좌입니다");
  await expectMoney(page, "30,000원");
  expect(await booked(where.number)).toEqual([]);
});

test("a reload in the middle sends the same order again, and the money moves once", async () => {
  const alice = await signUp(server);
  const { where } = await linkBank(server, alice);
  const page = await comeIn(alice);
  const orders: (string | undefined)[] = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/TopUp")) orders.push(request.headers()["idempotency-key"]);
  });
  await server.kftc.script({ call: "withdraw", accountNumber: where.number, kind: "delay", at: "after", ms: 4_000 });

  await press(page, "충전");
  await sheet(page).getByLabel("금액").fill("15000");
  await submit(page, "충전");
  await expectSoon(() => booked(where.number)).toHaveLength(1);
  await page.reload();

  await expectMoney(page, "15,000원");
  await expectSoon(() => page.evaluate("localStorage.getItem('chatpay.outbox')")).toBe("[]");
  expect(orders.length).toBeGreaterThan(1);
  expect(new Set(orders).size).toBe(1);
  expect(await booked(where.number)).toHaveLength(1);
});

test("an answer that is lost leaves the order waiting, and it is sent again until it is known", async () => {
  const alice = await signUp(server, { balance: 9_000n });
  const bob = await openWallet(server);
  const page = await comeIn(alice);
  let losses = 3;
  await page.route("**/SendTransfer", async (route) => {
    await route.fetch();
    if (losses === 0) return route.continue();
    losses -= 1;
    return route.abort();
  });

  await press(page, "송금");
  await sheet(page).getByLabel("받는 지갑 번호").fill(bob.walletId);
  await sheet(page).getByLabel("금액").fill("4000");
  await submit(page, "송금");
  await expectText(page, "결과를 확인하고 있어요");

  await expectText(page, "4,000원을 보냈어요.");
  await page.getByText("결과를 확인하고 있어요").waitFor({ state: "detached" });
  await expectMoney(page, "5,000원");
  expect(await balanceOf(bob)).toBe(4_000n);
});

test("two tabs share the session and see what moves in each other", async () => {
  const alice = await signUp(server, { balance: 8_000n });
  const first = await comeIn(alice);
  const second = await openTab(first.context());
  await expectMoney(second, "8,000원");

  await press(first, "새 저금통");
  await sheet(first).getByLabel("저금통 이름").fill("비상금");
  await submit(first, "만들기");
  await region(second, "저금통")
    .getByRole("button", { name: /비상금/ })
    .click();
  await sheet(second).getByLabel("금액").fill("6000");
  await submit(second, "넣기");
  await untilClosed(second);

  await expectMoney(first, "2,000원");
  // Their cookies are of one family: neither tab has used up what the other needs.
  await Promise.all([first.reload(), second.reload()]);
  await Promise.all([expectMoney(first, "2,000원"), expectMoney(second, "2,000원")]);
  await press(first, "로그아웃");
  await second.getByRole("button", { name: "로그인" }).waitFor();
});

test("what needs the PIN asks for it: it is set with a code, and a wrong one is refused", async () => {
  const alice = await signUp(server, { balance: 1_000_000n });
  const { where } = await linkBank(server, alice);
  const page = await comeIn(alice);

  await press(page, "출금");
  await sheet(page).getByLabel("금액").fill("400000");
  await submit(page, "출금");
  await submit(page, "인증 코드 받기");
  await sheet(page).getByText(`코드를 보냈어요: ${alice.email}`).waitFor();
  await sheet(page)
    .getByLabel("인증 코드 6자리")
    .fill(await secondCode(alice.email));
  await sheet(page).getByLabel("새 결제 PIN 6자리").fill("482913");
  await submit(page, "출금");
  await untilClosed(page);
  await expectMoney(page, "600,000원");

  await press(page, "출금");
  await sheet(page).getByLabel("금액").fill("500000");
  await submit(page, "출금");
  await sheet(page).getByLabel("결제 PIN 6자리").fill("111112");
  await submit(page, "출금");
  await sheet(page).getByText("PIN이 맞지 않아요. 4번 더 입력할 수 있어요.").waitFor();
  await sheet(page).getByLabel("결제 PIN 6자리").fill("482913");
  await submit(page, "출금");

  await untilClosed(page);
  await expectMoney(page, "100,000원");
  expect((await booked(where.number)).map(({ amount }) => amount)).toEqual(["400000", "500000"]);
});

test("each bank account has its balance or says why not, and one that is unlinked is gone", async () => {
  const alice = await signUp(server);
  const accounts = [
    { bankCode: "088", balance: "70000" },
    { bankCode: "011", balance: "80000" },
  ];
  await linkBank(server, alice, { citizen: await addCitizen(server, { accounts }) });
  await server.kftc.setDown("011");
  const page = await comeIn(alice);
  const banks = region(page, "연결한 계좌");

  await banks.getByRole("button", { name: /신한은행.*70,000원/ }).waitFor();
  await banks.getByRole("button", { name: /농협은행.*(이용시간이 아닙니다|답하지 않아요)/ }).waitFor();
  await banks.getByRole("button", { name: /농협은행/ }).click();
  await sheet(page).getByText("연결 끊기").click();
  await submit(page, "정말 끊을까요?");
  await untilClosed(page);

  await banks.getByRole("button", { name: /농협은행/ }).waitFor({ state: "detached" });
  expect(await banks.getByRole("listitem").count()).toBe(1);
});

test("a consent that is refused links nothing, and the person is back and signed in", async () => {
  const alice = await signUp(server, { balance: 2_000n });
  await addCitizen(server, { name: "최거절" });
  const page = await comeIn(alice);

  await press(page, "계좌 연결");
  await page.getByRole("link", { name: /최거절/ }).click();
  await press(page, "거절");

  await expectText(page, "계좌 연결을 취소했어요.");
  await expectMoney(page, "2,000원");
  await expectText(page, "은행 계좌를 연결하면 충전하고 출금할 수 있어요.");
});

test("the statement goes on page by page, and is a file as a whole", async () => {
  const alice = await signUp(server, { balance: 100_000n });
  const bob = await openWallet(server);
  for (let n = 1n; n <= 12n; n += 1n) {
    const request = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: n, memo: `=${n}` };
    await alice.transfers.sendTransfer(request);
  }
  const page = await comeIn(alice, { viewport: { width: 1280, height: 900 } });

  await expectSoon(async () => (await statement(page)).length).toBe(10);
  await press(page, "더 보기");
  await expectSoon(() => statement(page)).toHaveLength(13);
  await page.getByRole("button", { name: "더 보기" }).waitFor({ state: "detached" });
  const downloading = page.waitForEvent("download");
  await press(page, "CSV 받기");
  const download = await downloading;

  expect(download.suggestedFilename()).toMatch(/^chatpay-\d{4}-\d\d-\d\d\.csv$/);
  const [head, ...lines] = (await readFile(await download.path(), "utf8")).trimEnd().split("\r\n");
  expect(head).toBe("\uFEFFtime,sequence,amount,balance_after,cause,cause_id,counterparty_wallet_id,memo");
  expect(lines).toHaveLength(13);
  expect(lines.at(-1)).toMatch(/,13,-12,99922,TRANSFER,\d+,\d+,'=12$/);
});

test("people who read no Korean have it in English", async () => {
  const alice = await signUp(server, { balance: 1_234_000n });
  const page = await visit({ locale: "en-GB", viewport: { width: 1280, height: 900 } });

  await page.getByLabel("E-mail").fill(alice.email);
  await page.getByLabel("Password").fill(alice.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await region(page, "Available").getByText("₩1,234,000").first().waitFor();
  await page.getByRole("button", { name: "한국어" }).click();
  await page.reload();

  await expectMoney(page, "1,234,000원");
});

test("the page's server passes calls on, with the host and who called, and says so when nobody answers", async () => {
  const heard: IncomingHttpHeaders[] = [];
  const other = createServer(({ headers }, response) => {
    heard.push(headers);
    response.end("{}");
  }).listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as AddressInfo;
  const page = await startWallet({ port: 0, chatpayUrl: `http://127.0.0.1:${port}` });
  onTestFinished(() => page.stop());
  const call = () => fetch(`${page.url}/chatpay.some.v1.Rpc/Do`, { headers: { "x-forwarded-for": "203.0.113.7" } });

  expect(await (await call()).text()).toBe("{}");
  other.close();
  other.closeAllConnections();
  const unanswered = await call();

  expect(heard).toMatchObject([{ host: new URL(page.url).host, "x-forwarded-for": "203.0.113.7, 127.0.0.1" }]);
  expect(unanswered.status).toBe(503);
  expect(await unanswered.json()).toMatchObject({ code: "unavailable" });
});

test("the page's server gives out the files of the page, and no others", async () => {
  const get = async (path: string) => (await fetch(`${wallet.url}${path}`)).status;

  for (const path of ["/", "/page/main.ts", "/lit-html/lit-html.js"]) expect(await get(path), path).toBe(200);
  for (const path of ["/server.ts", "/page/..%2fserver.ts", "/page/tsconfig.json", "/package.json"])
    expect(await get(path), path).toBe(404);
});

/** The code in the second mail, whenever it arrives; the first was that of the sign-up. */
async function secondCode(email: string): Promise<string> {
  const mails = async () => {
    const response = await fetch(`http://127.0.0.1:${server.inbox.httpPort}/mail?to=${email}`);
    return (await response.json()) as { text: string }[];
  };
  await expectSoon(async () => (await mails()).length).toBe(2);
  return /\b\d{6}\b/.exec((await mails())[0]?.text ?? "")?.[0] ?? "";
}
