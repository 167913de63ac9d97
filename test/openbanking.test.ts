import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openBanking } from "../src/bank/openbanking/client.ts";
import {
  BankingError,
  type BankingSettings,
  type DepositOrder,
  type OpenBanking,
  type Outcome,
  type WithdrawOrder,
} from "../src/bank/openbanking/contract.ts";
import { isBankRefusal, isRefusal } from "../src/bank/openbanking/codes.ts";
import { chooseSeed } from "./support/load.ts";
import { rawAnswer, startRawHttp } from "./support/rawhttp.ts";

// Against a centre that says anything. What it says when all is well stands in the tests against the sandbox.

let centre: Awaited<ReturnType<typeof startRawHttp>>;
let banking: OpenBanking;

const settingsFor = (baseUrl: string, changed: Partial<BankingSettings> = {}): BankingSettings => ({
  baseUrl,
  clientId: "client",
  clientSecret: "secret",
  institutionCode: "M202600001",
  redirectUrl: "https://chatpay.example/banks",
  accountNumber: "1001234567",
  bankCode: "004",
  accountHolder: "챗페이주식회사",
  passPhrase: "NONE",
  timeoutMs: 5_000,
  ...changed,
});

beforeEach(async () => {
  centre = await startRawHttp();
  banking = openBanking(settingsFor(centre.url));
});

afterEach(async () => {
  await centre.stop();
  await banking.close();
});

const TRAN_ID = "M202600001U000000001";
const FINTECH = "120260000188940000000001";
/** The last second of 2026 in Seoul. */
const TIME = new Date("2026-12-31T14:59:59.900Z");
const BALANCE = { tranId: TRAN_ID, fintechUseNum: FINTECH, time: TIME };

const order: WithdrawOrder = {
  tranId: TRAN_ID,
  fintechUseNum: FINTECH,
  amount: 30_000n,
  time: TIME,
  purpose: "RC",
  memberNumber: "1234567890",
  memberName: "김하나",
  memberFintechUseNum: FINTECH,
  printOurs: "충전",
  printTheirs: "챗페이충전",
};
const payout: DepositOrder = {
  tranId: TRAN_ID,
  amount: 30_000n,
  time: TIME,
  memberNumber: "1234567890",
  printOurs: "출금",
  printTheirs: "챗페이",
  to: { fintechUseNum: FINTECH },
};
const question = { kind: "withdraw", tranId: TRAN_ID, date: "20261231", amount: 30_000n, time: TIME } as const;

const bankSays = (changed: object = {}) => ({
  bank_tran_id: TRAN_ID,
  bank_tran_date: "20261231",
  bank_code_tran: "088",
  bank_rsp_code: "000",
  bank_rsp_message: "",
  tran_amt: "30000",
  ...changed,
});
const headSays = (changed: object = {}) => ({
  api_tran_id: "6f0c2b0e-4a7e-4a55-9d9f-7c1d6f3b2a10",
  api_tran_dtm: "20261231235959900",
  rsp_code: "A0000",
  rsp_message: "",
  ...changed,
});
const withdrawn = (changed: object = {}) => ({ ...headSays(), ...bankSays(), ...changed });
const listed = (head: object = {}, ...items: object[]) => ({
  ...headSays(head),
  res_cnt: String(items.length),
  res_list: items,
});

/** The centre answers every call so. */
const answers = (body: object | string, status?: string, headers?: Record<string, string>) =>
  centre.on(({ socket }) =>
    socket.write(rawAnswer(typeof body === "string" ? body : JSON.stringify(body), status, headers)),
  );

const failureOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => {
      expect(error).toBeInstanceOf(BankingError);
      const { kind, code, bankMessage } = error as BankingError;
      return { kind, code, bankMessage };
    },
  );

const APPROVED = {
  is: "approved",
  tranDate: "20261231",
  apiTranId: "6f0c2b0e-4a7e-4a55-9d9f-7c1d6f3b2a10",
  amount: 30_000n,
};

// What is sent

test("a withdrawal is sent as KFTC wants it, by the clock in Seoul, with no sign that it refuses", async () => {
  answers(withdrawn());

  const printOurs = "ｃｈａｔpay 충전 🎉 김-하_나 그리고 아주 긴 적요입니다";
  await banking.withdraw("token", { ...order, printOurs, printTheirs: "✨" });

  const [call] = centre.calls;
  expect(call?.line).toBe("POST /v2.0/transfer/withdraw/fin_num");
  expect(call?.headers).toMatchObject({
    authorization: "Bearer token",
    "content-type": "application/json; charset=UTF-8",
  });
  expect(JSON.parse(call?.body ?? "")).toEqual({
    bank_tran_id: TRAN_ID,
    cntr_account_type: "N",
    cntr_account_num: "1001234567",
    dps_print_content: "CHATPAY충전김하나그리고아주긴적요",
    fintech_use_num: FINTECH,
    wd_print_content: "챗페이주식회사",
    tran_amt: "30000",
    tran_dtime: "20261231235959",
    req_client_name: "김하나",
    req_client_fintech_use_num: FINTECH,
    req_client_num: "1234567890",
    transfer_purpose: "RC",
  });
});

test("a deposit is sent as a list of one, with the name of whom it is for", async () => {
  answers(listed({}, bankSays()));

  await banking.deposit("token", payout);
  const to = { bankCode: "088", accountNumber: "110123456789", holderName: "Kim Hana " };
  await banking.deposit("token", { ...payout, to });

  expect(centre.calls.map(({ line }) => line)).toEqual([
    "POST /v2.0/transfer/deposit/fin_num",
    "POST /v2.0/transfer/deposit/acnt_num",
  ]);
  const [byName, byNumber] = centre.calls.map(({ body }) => JSON.parse(body) as { req_list: object[] });
  expect(byName).toEqual({
    cntr_account_type: "N",
    cntr_account_num: "1001234567",
    wd_pass_phrase: "NONE",
    wd_print_content: "출금",
    name_check_option: "on",
    tran_dtime: "20261231235959",
    req_cnt: "1",
    req_list: [
      {
        tran_no: "1",
        bank_tran_id: TRAN_ID,
        fintech_use_num: FINTECH,
        print_content: "챗페이",
        tran_amt: "30000",
        req_client_name: "챗페이주식회사",
        req_client_bank_code: "004",
        req_client_account_num: "1001234567",
        req_client_num: "1234567890",
        transfer_purpose: "TR",
      },
    ],
  });
  expect(byNumber?.req_list[0]).toMatchObject({
    bank_code_std: "088",
    account_num: "110123456789",
    account_holder_name: "Kim Hana",
  });
  expect(byNumber?.req_list[0]).not.toHaveProperty("fintech_use_num");
});

test("the question what became of a transfer names its id, day and amount", async () => {
  answers(listed({}, bankSays()));

  await banking.getResult("token", { ...question, kind: "deposit" });

  expect(JSON.parse(centre.calls[0]?.body ?? "")).toEqual({
    check_type: "2",
    tran_dtime: "20261231235959",
    req_cnt: "1",
    req_list: [{ tran_no: "1", org_bank_tran_id: TRAN_ID, org_bank_tran_date: "20261231", org_tran_amt: "30000" }],
  });
});

test("the page of the consent names us, what for, and where to come back", () => {
  const state = "s".repeat(32);

  const url = new URL(banking.consentUrl(state));

  expect(url.origin + url.pathname).toBe(`${centre.url}/oauth/2.0/authorize`);
  expect(Object.fromEntries(url.searchParams)).toEqual({
    response_type: "code",
    client_id: "client",
    redirect_uri: "https://chatpay.example/banks",
    scope: "login inquiry transfer",
    state,
    auth_type: "0",
  });
  expect(url.search).not.toContain("+");
  expect(() => banking.consentUrl("short")).toThrow("32");
});

test("a centre behind a path is called there", async () => {
  const behind = openBanking(settingsFor(`${centre.url}/kftc/`));
  answers({ access_token: "t", expires_in: "100" });

  await behind.institutionToken();

  expect(centre.calls[0]?.line).toBe("POST /kftc/oauth/2.0/token");
  expect(behind.consentUrl("s".repeat(32))).toContain(`${centre.url}/kftc/oauth/2.0/authorize?`);
  await behind.close();
});

// What became of money

test("money has moved when the centre, the bank, the id and the amount all say so", async () => {
  answers(withdrawn());
  expect(await banking.withdraw("token", order)).toEqual(APPROVED);

  answers(listed({}, bankSays()));
  expect(await banking.deposit("token", payout)).toEqual(APPROVED);
  expect(await banking.getResult("token", question)).toEqual(APPROVED);
});

test("the day that the centre tells is the one to ask with later", async () => {
  answers(withdrawn({ bank_tran_date: "20190101" }));
  expect(await banking.withdraw("token", order)).toEqual({ ...APPROVED, tranDate: "20190101" });

  answers(listed({}, { bank_rsp_code: "000", tran_amt: "30000" }));
  expect(await banking.getResult("token", question)).toEqual(APPROVED);
});

const NOT_FINAL = {
  centre: ["A0001", "A0003", "A0006", "A0007", "A0008", "A0015", "A0016", "A0017", "A0021", "A0326", "A9999", "O0007"],
  bank: ["400", "803", "804", "819", "822", "421", "999", "", "00", "0000"],
};
const FINAL = {
  centre: ["A0004", "A0005", "A0010", "A0014", "A0020", "A0103", "A0106", "A0111", "A0112", "A0306", "A0312", "A0323"],
  bank: ["412", "417", "425", "428", "452", "453", "454", "455", "456", "461", "468", "477", "490", "499", "556"],
};

test("a code that does not say for certain leaves open what became of the money", async () => {
  for (const code of NOT_FINAL.centre) {
    answers(withdrawn({ rsp_code: code }));
    expect(await banking.withdraw("token", order), code).toEqual({ is: "unknown", why: `code ${code}` });
    answers(listed({ rsp_code: code }));
    expect(await banking.deposit("token", payout), code).toEqual({ is: "unknown", why: `code ${code}` });
    expect(await banking.getResult("token", question), code).toEqual({ is: "unknown", why: `code ${code}` });
  }
  for (const code of NOT_FINAL.bank) {
    for (const head of ["A0000", "A0002", "A0009"]) {
      answers(withdrawn({ rsp_code: head, bank_rsp_code: code }));
      expect(await banking.withdraw("token", order), code).toMatchObject({ is: "unknown" });
      answers(listed({ rsp_code: head }, bankSays({ bank_rsp_code: code })));
      expect(await banking.deposit("token", payout), code).toMatchObject({ is: "unknown" });
      expect(await banking.getResult("token", question), code).toMatchObject({ is: "unknown" });
    }
  }
});

test("the centre refuses, in words that tell a person something", async () => {
  for (const code of FINAL.centre) {
    answers(withdrawn({ rsp_code: code, bank_rsp_code: "", tran_amt: "" }));
    expect(await banking.withdraw("token", order), code).toMatchObject({ is: "declined", code, bankCode: "" });
    answers(headSays({ rsp_code: code }));
    expect(await banking.deposit("token", payout), code).toMatchObject({ is: "declined", code, bankCode: "" });
    answers(listed({ rsp_code: code }));
    expect(await banking.getResult("token", question), code).toMatchObject({ is: "unknown" });
  }

  const messageOf = async (code: string, said: string) => {
    answers(headSays({ rsp_code: code, rsp_message: said }));
    return ((await banking.withdraw("token", order)) as { message: string }).message;
  };
  expect(await messageOf("A0112", " 1일\n출금한도\u0000 초과 ")).toBe("1일 출금한도 초과");
  expect(await messageOf("A0112", "")).toBe("하루에 출금할 수 있는 한도를 넘었습니다.");
  expect(await messageOf("A0004", "tran_dtime 형식 오류")).toBe(
    "지금은 은행 거래를 할 수 없습니다. 잠시 후 다시 시도해 주세요.",
  );
  expect(await messageOf("A0111", "한".repeat(500))).toHaveLength(200);
});

test("a bank refuses, in its own words, whatever the centre calls it", async () => {
  for (const code of FINAL.bank) {
    const said = { bank_rsp_code: code, bank_rsp_message: "안 됩니다", tran_amt: "0" };
    const declined = { is: "declined", code, message: "안 됩니다", bankCode: "088" };
    for (const head of ["A0000", "A0002", "A0009"]) {
      answers(withdrawn({ rsp_code: head, ...said }));
      expect(await banking.withdraw("token", order), code).toEqual(declined);
      answers(listed({ rsp_code: head }, bankSays(said)));
      expect(await banking.deposit("token", payout), code).toEqual(declined);
    }
    answers(listed({}, bankSays(said)));
    expect(await banking.getResult("token", question), code).toEqual(declined);
  }
});

test("what contradicts itself, or is about something else, decides nothing", async () => {
  const why = async (call: (token: string) => Promise<Outcome | { is: "absent" }>, body: object | string) => {
    answers(body);
    const outcome = await call("token");
    return outcome.is === "unknown" ? outcome.why : outcome.is;
  };
  const withdraw = (token: string) => banking.withdraw(token, order);
  const deposit = (token: string) => banking.deposit(token, payout);
  const result = (token: string) => banking.getResult(token, question);
  const other = { bank_tran_id: "M202600001U000000002" };

  for (const amount of ["30001", "3000", "", "0", "30000.0", "-30000", "3e4", "thirty", "0x7530", " 30000"]) {
    expect(await why(withdraw, withdrawn({ tran_amt: amount })), amount).toBe("amount");
    expect(await why(deposit, listed({}, bankSays({ tran_amt: amount }))), amount).toBe("amount");
    expect(await why(result, listed({}, bankSays({ tran_amt: amount }))), amount).toBe("amount");
  }
  expect(await why(withdraw, withdrawn({ tran_amt: 30_000 }))).toBe("malformed");
  expect(await why(withdraw, withdrawn({ rsp_code: "A0112" }))).toBe("code A0112 and bank code 000");
  expect(await why(withdraw, withdrawn({ rsp_code: "A0002" }))).toBe("code A0002 and bank code 000");
  expect(await why(withdraw, withdrawn({ bank_rsp_code: "<b>" }))).toBe("code A0000 and a bank code unread");
  expect(await why(withdraw, withdrawn(other))).toBe("another transfer");
  expect(await why(withdraw, withdrawn({ ...other, rsp_code: "A0112", bank_rsp_code: "" }))).toBe("another transfer");
  expect(await why(withdraw, withdrawn({ bank_tran_id: "" }))).toBe("malformed");
  expect(await why(withdraw, withdrawn({ bank_tran_date: "2026-12-31" }))).toBe("malformed");
  expect(await why(deposit, listed({}, bankSays(other)))).toBe("another transfer");
  expect(await why(deposit, listed({}, bankSays(), bankSays()))).toBe("malformed");
  expect(await why(deposit, listed())).toBe("code A0000 without a transfer");
  expect(await why(deposit, withdrawn())).toBe("code A0000 without a transfer");
  expect(await why(result, listed())).toBe("code A0000 without a transfer");
  expect(await why(result, listed({}, bankSays(other)))).toBe("another transfer");
  for (const body of [
    "",
    "null",
    "[]",
    "{}",
    '"A0000"',
    "0",
    '{"rsp_code":"A0000"',
    "<html>",
    "\u0000",
    "[".repeat(9_999),
  ])
    for (const call of [withdraw, deposit, result]) expect(await why(call, body), body).toBe("malformed");
});

test("a word that is missing, or is no text, is nobody's word", async () => {
  const needed = ["rsp_code", "bank_rsp_code", "bank_tran_id", "bank_tran_date", "tran_amt"];
  for (const name of needed) {
    for (const value of [undefined, null, 0, 30_000, true, ["000"], { value: "000" }]) {
      const wrong = { [name]: value };
      const label = JSON.stringify({ name, value });
      answers(withdrawn(wrong));
      expect(await banking.withdraw("token", order), label).toMatchObject({ is: "unknown" });
      answers(name === "rsp_code" ? listed(wrong, bankSays()) : listed({}, bankSays(wrong)));
      expect(await banking.deposit("token", payout), label).toMatchObject({ is: "unknown" });
      // Who asks names the transfer and its day, so the answer need not.
      const isNamed = name.startsWith("bank_tran") && (value === undefined || value === null);
      expect(await banking.getResult("token", question), label).toMatchObject({ is: isNamed ? "approved" : "unknown" });
    }
  }
});

test("an answer that says something twice says nothing", async () => {
  const twice = (body: object, name: string, first: string) =>
    JSON.stringify(body).replace(`"${name}":`, `"${name}":"${first}","${name}" :`);

  for (const [name, first] of [
    ["rsp_code", "A0112"],
    ["rsp_code", "A0000"],
    ["bank_rsp_code", "453"],
    ["tran_amt", "1"],
    ["bank_tran_id", "M202600001U000000002"],
  ] as const) {
    answers(twice(withdrawn(), name, first));
    expect(await banking.withdraw("token", order), name).toEqual({ is: "unknown", why: "malformed" });
    answers(twice(listed({}, bankSays()), name, first));
    expect(await banking.deposit("token", payout), name).toEqual({ is: "unknown", why: "malformed" });
    expect(await banking.getResult("token", question), name).toEqual({ is: "unknown", why: "malformed" });
  }
  // What only looks like a name is none.
  answers(withdrawn({ bank_rsp_message: '"tran_amt":"1", \\"tran_amt\\":', account_alias: "\\", print_content: '":' }));
  expect(await banking.withdraw("token", order)).toEqual(APPROVED);
});

test("an answer is what it holds, whatever it is called", async () => {
  for (const type of ["text/html; charset=EUC-KR", "application/octet-stream", ""]) {
    answers(withdrawn(), "200 OK", { "content-type": type });
    expect(await banking.withdraw("token", order), type).toEqual(APPROVED);
    answers(listed({}, bankSays({ bank_rsp_code: "453" })), "200 OK", { "content-type": type });
    expect(await banking.deposit("token", payout), type).toMatchObject({ is: "declined", code: "453" });
  }
  answers("<html>A0000</html>");
  expect(await banking.withdraw("token", order)).toEqual({ is: "unknown", why: "malformed" });
});

test("the centre may know of no such transfer", async () => {
  answers(headSays({ rsp_code: "A0310" }));

  expect(await banking.getResult("token", question)).toEqual({ is: "absent" });
  expect(await banking.withdraw("token", order)).toEqual({ is: "unknown", why: "code A0310" });
});

test("an answer that is not 200 decides nothing, whatever it says", async () => {
  for (const status of ["201 Created", "204 No Content", "302 Found", "400 Bad Request", "500 Oops", "503 Away"]) {
    for (const said of [withdrawn(), listed({}, bankSays()), headSays({ rsp_code: "A0112" }), "", "<html>"]) {
      answers(said, status, { location: `${centre.url}/elsewhere` });
      expect(await banking.withdraw("token", order), status).toMatchObject({ is: "unknown" });
      expect(await banking.deposit("token", payout), status).toMatchObject({ is: "unknown" });
      expect(await banking.getResult("token", question), status).toMatchObject({ is: "unknown" });
      expect(await failureOf(banking.getBalance("token", BALANCE))).toMatchObject({ kind: "unavailable" });
    }
  }
  expect(centre.calls.filter(({ line }) => line.includes("elsewhere"))).toEqual([]);
});

test("a token that is refused is told apart, since nothing was done", async () => {
  for (const code of ["O0002", "O0003"]) {
    answers(headSays({ rsp_code: code, rsp_message: "Access Token 거부" }));
    const calls = [
      banking.withdraw("token", order),
      banking.deposit("token", payout),
      banking.getResult("token", question),
      banking.getBalance("token", BALANCE),
      banking.listAccounts("token", "1100000001"),
    ];
    for (const call of calls) expect(await failureOf(call)).toMatchObject({ kind: "token", code });
  }
  answers("", "401 Unauthorized");
  expect(await failureOf(banking.withdraw("token", order))).toMatchObject({ kind: "token", code: "HTTP_401" });
  expect(await failureOf(banking.getBalance("token", BALANCE))).toMatchObject({ kind: "token", code: "HTTP_401" });
});

// The network

test("an order that nobody can have heard of is declined", async () => {
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const { port } = closed.address() as { port: number };
  closed.close();
  await once(closed, "close");
  const nowhere = [`http://127.0.0.1:${port}`, "http://bank.invalid"];

  for (const url of nowhere) {
    const away = openBanking(settingsFor(url));
    const declined = { is: "declined", code: "NOT_SENT", bankCode: "" };
    expect(await away.withdraw("token", order)).toMatchObject(declined);
    expect(await away.deposit("token", payout)).toMatchObject(declined);
    expect(await away.getResult("token", question)).toMatchObject({ is: "unknown" });
    expect(await failureOf(away.getBalance("token", BALANCE))).toMatchObject({ kind: "unavailable" });
    expect(await failureOf(away.institutionToken())).toMatchObject({ kind: "unavailable" });
    await away.close();
  }
});

test("an amount that the centre cannot read is not sent", async () => {
  for (const amount of [0n, -1n, 1_000_000_000_000n])
    expect(await banking.withdraw("token", { ...order, amount })).toMatchObject({ code: "NOT_SENT" });

  expect(centre.calls).toEqual([]);
});

test("silence is given up, and leaves open what became of the money", async () => {
  const hasty = openBanking(settingsFor(centre.url, { timeoutMs: 300 }));

  expect(await hasty.withdraw("token", order)).toEqual({ is: "unknown", why: "timeout" });
  expect(await hasty.getResult("token", question)).toEqual({ is: "unknown", why: "timeout" });
  expect(await failureOf(hasty.getBalance("token", BALANCE))).toMatchObject({ kind: "unavailable", code: "TIMEOUT" });
  centre.on(({ socket }) => {
    const answer = rawAnswer(JSON.stringify(withdrawn()));
    let at = 0;
    const timer = setInterval(() => socket.write(answer.subarray(at, (at += 1))), 50);
    socket.on("close", () => clearInterval(timer));
  });
  expect(await hasty.withdraw("token", order)).toEqual({ is: "unknown", why: "timeout" });

  expect(centre.calls).toHaveLength(4);
  await hasty.close();
});

test("while all connections are busy, only what was never sent is declined, and reads take none from money", async () => {
  const hasty = openBanking(settingsFor(centre.url, { timeoutMs: 1_000 }));
  const tranIds = Array.from({ length: 50 }, (_, at) => `M202600001U${String(at).padStart(9, "0")}`);

  const outcomes = await Promise.all(tranIds.map((tranId) => hasty.withdraw("token", { ...order, tranId })));

  const heard = new Set(centre.calls.map(({ body }) => (JSON.parse(body) as { bank_tran_id: string }).bank_tran_id));
  const declined = tranIds.filter((_, at) => outcomes[at]?.is === "declined");
  expect(outcomes.filter(({ is }) => is === "approved")).toEqual([]);
  expect(heard.size).toBeGreaterThan(0);
  expect(declined.filter((tranId) => heard.has(tranId))).toEqual([]);

  const reads = Array.from({ length: 50 }, () => failureOf(hasty.getBalance("token", BALANCE)));
  centre.on(({ line, socket }) => {
    if (line.includes("withdraw")) socket.write(rawAnswer(JSON.stringify(withdrawn())));
  });
  expect(await hasty.withdraw("token", order)).toEqual(APPROVED);
  await Promise.all(reads);
  await hasty.close();
});

test("an answer that breaks off or is no HTTP leaves open what became of the money", async () => {
  const whole = rawAnswer(JSON.stringify(withdrawn()));
  const sayings = [
    Buffer.alloc(0),
    whole.subarray(0, 9),
    whole.subarray(0, 60),
    whole.subarray(0, whole.length - 1),
    Buffer.from("220 mail.example ESMTP\r\n"),
    Buffer.from("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
    Buffer.from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    rawAnswer("", "200 OK", { "x-huge": "x".repeat(100_000) }),
  ];

  for (const saying of sayings) {
    centre.on(({ socket }) => socket.end(saying));
    expect(await banking.withdraw("token", order), String(saying.subarray(0, 80))).toMatchObject({ is: "unknown" });
    expect(await failureOf(banking.getBalance("token", BALANCE))).toMatchObject({ kind: "unavailable" });
  }
  centre.on(({ socket }) => socket.resetAndDestroy());
  expect(await banking.withdraw("token", order)).toMatchObject({ is: "unknown" });
});

test("a connection that ends before anything was read moves nothing, and what may have been read is unknown", async () => {
  let heard = 0;
  const rude = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => (heard += 1));
    socket.destroy();
  }).listen(0, "127.0.0.1");
  await once(rude, "listening");
  const { port } = rude.address() as { port: number };
  const hasty = openBanking(settingsFor(`http://127.0.0.1:${port}`, { timeoutMs: 500 }));

  for (let count = 0; count < 20; count += 1) {
    for (const outcome of [await hasty.withdraw("token", order), await hasty.deposit("token", payout)]) {
      expect(outcome.is === "declined" ? outcome.code : outcome.is).toMatch(/^(NOT_SENT|unknown)$/);
    }
  }
  expect(heard).toBe(0);
  await hasty.close();
  rude.close();
});

test("an answer without an end is cut off", async () => {
  let written = 0;
  centre.on(({ socket }) => {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    const more = () => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536, " "))) written += 65_536;
    };
    socket.on("drain", more);
    more();
  });

  expect(await banking.withdraw("token", order)).toEqual({ is: "unknown", why: "UND_ERR_RES_EXCEEDED_MAX_SIZE" });
  expect(await failureOf(banking.listAccounts("token", "1"))).toMatchObject({ kind: "unavailable" });
  expect(written).toBeLessThan(64 * 1024 * 1024);
});

test("connections serve one call after the other", async () => {
  answers(withdrawn());

  for (let count = 0; count < 20; count += 1) await banking.withdraw("token", order);

  expect(centre.calls).toHaveLength(20);
  expect(centre.connections()).toBeLessThan(5);
});

test("an answer that nobody asked for is not taken for that to the next call", async () => {
  const stray = rawAnswer(JSON.stringify(headSays({ rsp_code: "A0112" })));
  const good = rawAnswer(JSON.stringify(withdrawn()));

  const twice: Socket[] = [];
  centre.on(({ socket }) => {
    twice.push(socket);
    socket.write(Buffer.concat([good, stray]));
  });
  for (let count = 0; count < 3; count += 1)
    expect(await banking.withdraw("token", order)).not.toMatchObject({ is: "declined" });
  expect(new Set(twice).size).toBe(3);

  centre.on(({ socket }) => socket.write(good));
  expect(await banking.withdraw("token", order)).toEqual(APPROVED);
  const idle = centre.calls.at(-1)?.socket;
  idle?.write(stray);
  if (idle && !idle.closed) await once(idle, "close");
  expect(await banking.withdraw("token", order)).toEqual(APPROVED);
});

/** The three calls about money, a right answer to each, and where in it the transfer is. */
const CALLS: {
  make: () => Promise<Outcome | { is: "absent" }>;
  body: (head: Words, part: Words) => Words;
  partOf: (body: Words) => unknown;
  isInquiry?: boolean;
}[] = [
  {
    make: () => banking.withdraw("token", order),
    body: (head, part) => withdrawn({ ...part, ...head }),
    partOf: (body) => body,
  },
  {
    make: () => banking.deposit("token", payout),
    body: (head, part) => ({ ...listed({}, bankSays(part)), ...head }),
    partOf: ({ res_list: list }) => Array.isArray(list) && list[0],
  },
  {
    make: () => banking.getResult("token", question),
    body: (head, part) => ({ ...listed({}, bankSays(part)), ...head }),
    partOf: ({ res_list: list }) => Array.isArray(list) && list[0],
    isInquiry: true,
  },
];

interface Words {
  [name: string]: unknown;
}

/** What an answer may be taken for, besides unknown: all that its words say, read as plainly as it can be done. */
function allSaidBy({ partOf, isInquiry = false }: (typeof CALLS)[number], text: string): string[] {
  const body = (text.startsWith("{") ? JSON.parse(text) : {}) as Words;
  const part = (partOf(body) || {}) as Words;
  const { rsp_code: code } = body;
  const { bank_rsp_code: bankCode, tran_amt: amount, bank_tran_id: tranId } = part;
  const isNamed = tranId === TRAN_ID || (isInquiry && (tranId ?? "") === "");
  const isByBank = ["A0000", "A0002", "A0009"].includes(String(code)) && isBankRefusal(String(bankCode));
  const isByCentre = !isInquiry && isRefusal(String(code)) && bankCode !== "000" && bankCode !== "400";
  const isApproved = code === "A0000" && bankCode === "000" && amount === "30000" && isNamed;
  return [
    ...(code === "O0002" ? ["token"] : []),
    ...(code === "A0310" && isInquiry ? ["absent"] : []),
    ...(isApproved ? ["approved"] : []),
    ...(isByBank || isByCentre ? ["declined"] : []),
  ];
}

test("whatever comes back is unknown, but for what all of its words say", { timeout: 60_000 }, async () => {
  const codes = fc.constantFrom("A0000", "A0001", "A0002", "A0009", "A0112", "A0310", "O0002", "000", "453", "400", "");
  const values = fc.oneof(codes, fc.constantFrom("30000", "30001", TRAN_ID, "20261231", null), fc.jsonValue());
  const name = fc.constantFrom("rsp_code", "bank_rsp_code", "bank_tran_id", "bank_tran_date", "tran_amt", "res_list");
  const changes = fc.oneof(
    fc.dictionary(name, values, { maxKeys: 2 }),
    fc.dictionary(fc.constantFrom("rsp_code", "bank_rsp_code"), codes, { maxKeys: 2 }),
  );
  const call = fc.constantFrom(...CALLS);
  const changed = fc.record({ call, head: changes, part: changes }).map(({ head, part, ...all }) => {
    return { ...all, text: JSON.stringify(all.call.body(head, part)), isTwice: false };
  });
  const twice = fc.record({ call, name, value: values }).map(({ name: first, value, ...all }) => {
    const body = all.call.body({}, {});
    const text = `{${JSON.stringify(first)}:${JSON.stringify(value)},${JSON.stringify(body).slice(1)}`;
    return { ...all, text, isTwice: Object.hasOwn(body, first) };
  });
  const other = fc.record({ call, text: fc.json(), isTwice: fc.constant(false) });
  const garbage = fc.record({ call, bytes: fc.uint8Array({ maxLength: 300 }) });
  const answer = fc.oneof(
    { weight: 6, arbitrary: changed },
    { weight: 2, arbitrary: twice },
    { weight: 1, arbitrary: other },
    { weight: 1, arbitrary: garbage },
  );
  const seen: Record<string, number> = {};

  await fc.assert(
    fc.asyncProperty(answer, async (said) => {
      centre.on(({ socket }) => socket.end("bytes" in said ? said.bytes : rawAnswer(said.text)));
      const outcome = await said.call.make().catch((error: unknown) => error as BankingError);
      const is = outcome instanceof BankingError ? outcome.kind : outcome.is;
      seen[is] = (seen[is] ?? 0) + 1;
      expect(["unknown", ...("bytes" in said || said.isTwice ? [] : allSaidBy(said.call, said.text))]).toContain(is);
    }),
    { numRuns: Number(process.env.CHATPAY_TEST_RUNS ?? 1_000), seed: chooseSeed("openbanking") },
  );
  console.log(`openbanking: ${JSON.stringify(seen)}`);
  expect(Object.keys(seen)).toEqual(expect.arrayContaining(["approved", "declined", "unknown"]));
});

// What moves no money

test("a read that is refused says why, and one that failed can be tried again", async () => {
  const refused = async (body: object) => {
    answers(body);
    return failureOf(banking.getBalance("token", BALANCE));
  };

  expect(await refused(headSays({ rsp_code: "A0306", rsp_message: "동의 없음" }))).toEqual({
    kind: "refused",
    code: "A0306",
    bankMessage: "동의 없음",
  });
  expect(await refused(withdrawn({ rsp_code: "A0002", bank_rsp_code: "412" }))).toEqual({
    kind: "refused",
    code: "412",
    bankMessage: "거래할 수 없는 계좌입니다.",
  });
  for (const code of ["A0001", "A0003", "A0007", "A0020", "A0326", "O0009", "A9999"])
    expect(await refused(headSays({ rsp_code: code })), code).toMatchObject({ kind: "unavailable", code });
  expect(await refused(withdrawn({ rsp_code: "A0002", bank_rsp_code: "400" }))).toMatchObject({ kind: "unavailable" });
  expect(await refused(headSays())).toMatchObject({ kind: "unavailable", code: "MALFORMED" });
  expect(await refused(headSays({ balance_amt: "1.5", available_amt: "1" }))).toMatchObject({ code: "MALFORMED" });
  expect(await refused(headSays({ balance_amt: 15, available_amt: "1" }))).toMatchObject({ code: "MALFORMED" });
  expect(await refused(headSays({ balance_amt: "-1000000", available_amt: "0" }))).toBeUndefined();
});

test("the desk for tokens refuses for good, and its own token is none of ours", async () => {
  for (const code of ["O0001", "O0002", "O0011"]) {
    answers({ rsp_code: code, rsp_message: "인증 파라미터 오류([3000201])" });
    expect(await failureOf(banking.exchangeCode("code"))).toMatchObject({ kind: "refused", code });
    expect(await failureOf(banking.refreshGrant("old", ["login"]))).toMatchObject({ kind: "refused", code });
  }
  answers({ rsp_code: "O0008", rsp_message: "" });
  expect(await failureOf(banking.institutionToken())).toMatchObject({ kind: "unavailable", code: "O0008" });
  const good = { access_token: "a", refresh_token: "r", user_seq_no: "1100000001", scope: "login", expires_in: 9 };
  for (const wrong of [{ access_token: "a b" }, { access_token: "" }, { expires_in: "-1" }, { user_seq_no: "x" }]) {
    answers({ ...good, ...wrong });
    expect(await failureOf(banking.exchangeCode("code"))).toMatchObject({ kind: "unavailable", code: "MALFORMED" });
  }
});

test("what has ended already can be ended", async () => {
  const cancel = () => banking.cancelAccount("token", { tranId: TRAN_ID, fintechUseNum: FINTECH, scope: "transfer" });

  for (const code of ["A0000", "A0306", "A0323", "A0316"]) {
    answers(headSays({ rsp_code: code }));
    expect(await failureOf(cancel()), code).toBeUndefined();
  }
  answers(headSays({ rsp_code: "A0004" }));
  expect(await failureOf(cancel())).toMatchObject({ kind: "refused", code: "A0004" });
  answers(headSays({ rsp_code: "A0007" }));
  expect(await failureOf(cancel())).toMatchObject({ kind: "unavailable" });
});

const listing = { ...BALANCE, fromDate: "20261201", toDate: "20261231", direction: "all", trace: "" } as const;

test("an account in which nothing happened has no transactions", async () => {
  answers(headSays({ rsp_code: "A0018" }));

  expect(await banking.listTransactions("token", listing)).toEqual({
    balance: undefined,
    entries: [],
    nextTrace: undefined,
  });
});

test("a listing that leads back to where it was is broken off, and a page is one call, whatever it says of the next", async () => {
  const page = { balance_amt: "1", next_page_yn: "Y", res_list: [] };

  for (const trace of ["", "T1"]) {
    answers(headSays({ ...page, befor_inquiry_trace_info: trace }));
    const call = banking.listTransactions("token", { ...listing, trace });
    expect(await failureOf(call)).toMatchObject({ kind: "unavailable", code: "MALFORMED" });
  }
  for (const [trace, next] of [
    ["T1", "T2"],
    ["T2", "T1"],
  ] as const) {
    answers(headSays({ ...page, befor_inquiry_trace_info: next }));
    expect((await banking.listTransactions("token", { ...listing, trace })).nextTrace).toBe(next);
  }
  expect(centre.calls).toHaveLength(4);
});

test("a line of a statement that is not understood is not guessed", async () => {
  const line = {
    tran_date: "20261231",
    tran_time: "235959",
    inout_type: "출금",
    tran_type: "이체",
    printed_content: "점심",
    tran_amt: "9000",
    after_balance_amt: "-1000",
    branch_name: "강남",
  };
  const page = (changed: object) => headSays({ balance_amt: "-1000", res_list: [{ ...line, ...changed }] });

  answers(page({}));
  const { entries } = await banking.listTransactions("token", listing);
  expect(entries).toEqual([
    {
      time: new Date("2026-12-31T14:59:59Z"),
      direction: "out",
      amount: 9_000n,
      balanceAfter: -1_000n,
      content: "점심",
      kind: "이체",
      branch: "강남",
    },
  ]);
  for (const wrong of [
    { inout_type: "?" },
    { tran_date: "20260230" },
    { tran_amt: "-9000" },
    { tran_time: "250000" },
  ]) {
    answers(page(wrong));
    expect(await failureOf(banking.listTransactions("token", listing))).toMatchObject({ code: "MALFORMED" });
  }
});

test("errors and outcomes repeat nothing of people, and no token", async () => {
  const secrets = ["s3cr3t-token", "110123456789", "김하나", "901231"];
  const said: unknown[] = [];
  const note = (call: Promise<unknown>) =>
    call.then(
      (outcome) => said.push(outcome),
      (error: unknown) => said.push(error),
    );
  const echo = JSON.stringify(secrets.join(" "));
  const behaviours = [rawAnswer(`{"rsp_code":"A0007","rsp_message":${echo}}`), rawAnswer(echo), Buffer.from(echo)];

  for (const bytes of behaviours) {
    centre.on(({ socket }) => socket.end(bytes));
    await note(banking.withdraw("s3cr3t-token", { ...order, memberName: "김하나" }));
    const query = { tranId: TRAN_ID, bankCode: "088", accountNumber: "110123456789", birthDate: "901231", time: TIME };
    await note(banking.getRealName("s3cr3t-token", query));
    await note(banking.getRealName("s3cr3t-token\n", query));
    await note(banking.refreshGrant("s3cr3t-token", ["login"]));
  }

  const text = said
    .map((one) => (one instanceof Error ? `${one.message} ${one.stack} ${JSON.stringify(one)}` : JSON.stringify(one)))
    .join();
  expect(said).toHaveLength(12);
  for (const secret of secrets) expect(text).not.toContain(secret);
});
