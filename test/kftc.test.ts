import { afterAll, beforeAll, expect, test } from "vitest";
import type { ShownAccount, ShownCitizen } from "../sandbox/kftc/control.ts";
import { kftcSettings, startKftc } from "../sandbox/kftc/server.ts";

let kftc: Awaited<ReturnType<typeof startKftc>>;

beforeAll(async () => {
  kftc = await startKftc({ port: 0 });
  await kftc.setClock(AFTERNOON_MS);
});

afterAll(() => kftc.stop());

type Answer = Record<string, string> & { res_list: Record<string, string>[] };

const OURS = kftcSettings("");
const REDIRECT_URL = () => kftcSettings(kftc.url).CHATPAY_OPENBANKING_REDIRECT_URL;
const STATE = "0123456789abcdef0123456789abcdef";
const DAY_MS = 86_400_000;
/** The centre's clock shows two in the afternoon in Seoul at the start, so that no day ends during the tests. */
const AFTERNOON_MS = Date.UTC(2030, 0, 1, 5) - Date.now();
const TODAY = "20300101";

// Consent

test("a person consents on the page, by clicking, and comes back with a code", async () => {
  const citizen = await kftc.addCitizen({ name: "김<b>하나", birthDate: "19920315", accounts: [{ bankCode: "088" }] });

  const people = await (await fetch(consentUrl())).text();
  const link = people
    .match(new RegExp(`href="([^"]*citizen=${citizen.id}(?!\\d)[^"]*)"`))?.[1]
    ?.replaceAll("&#38;", "&");
  const accounts = await (await fetch(`${kftc.url}${link}`)).text();

  expect(people).toContain("김&#60;b&#62;하나");
  expect(people).not.toContain("<b>하나");
  expect(accounts).toContain("신한은행");
  expect(accounts).toContain(`${citizen.accounts[0]?.number.slice(0, -3)}***`);
  const back = await kftc.consent(`${kftc.url}${link}`, { citizen });
  expect(back.href.split("?")[0]).toBe(REDIRECT_URL());
  expect(Object.fromEntries(back.searchParams)).toEqual({
    code: expect.stringMatching(/^\S{20,}$/),
    scope: "inquiry login transfer",
    client_info: "hello",
    state: STATE,
  });
  const page = await (await fetch(back)).text();
  expect(page).toContain(back.searchParams.get("code"));
});

test("somebody who enters a name gets accounts, and goes on as that person", async () => {
  const form = new URLSearchParams({ decision: "enter", name: "정새봄", birth_date: "1995-05-05" });

  const page = await fetch(consentUrl(), { method: "POST", body: form });

  expect(await page.text()).toContain("정새봄님");
  const added = (await kftc.listCitizens()).find(({ name }) => name === "정새봄");
  expect(added).toMatchObject({ birthDate: "19950505", accounts: [{ balance: "1000000" }, {}, {}] });
  expect(added?.ci).toHaveLength(88);
});

test("a refused consent comes back without a code", async () => {
  const back = await kftc.refuse(consentUrl());

  expect(back.searchParams.get("error")).toBe("access_denied");
  expect(back.searchParams.get("state")).toBe(STATE);
  expect(back.searchParams.has("code")).toBe(false);
});

test("a consent page that an institution asks for wrongly says what is wrong, and leads nowhere", async () => {
  const problems: [object, string][] = [
    [{ client_id: "another" }, "3000201"],
    [{ redirect_uri: "https://evil.example/callback" }, "3000114"],
    [{ response_type: "token" }, "3000116"],
    [{ scope: "login oob" }, "3000115"],
    [{ scope: "" }, "3000115"],
    [{ state: STATE.slice(1) }, "3000103"],
    [{ auth_type: "3" }, "3000103"],
  ];
  for (const [changed, code] of problems) {
    const answer = await fetch(consentUrl(changed), { redirect: "manual" });
    expect(answer.status, code).toBe(200);
    expect(await answer.text(), code).toContain(code);
    await expect(kftc.refuse(consentUrl(changed)), code).rejects.toThrow(code);
  }
});

test("without an account or an agreement the page asks again", async () => {
  const citizen = await person();

  await expect(kftc.consent(consentUrl(), { citizen, accounts: [] })).rejects.toThrow("asks again");
  await expect(kftc.consent(consentUrl(), { citizen, agree: [] })).rejects.toThrow("asks again");
});

// Tokens

test("a code is good once, and for ten minutes", async () => {
  const citizen = await person();
  const code = async () => (await kftc.consent(consentUrl(), { citizen })).searchParams.get("code") ?? "";
  const exchange = (one: string, redirect = REDIRECT_URL()) =>
    askToken({ grant_type: "authorization_code", code: one, redirect_uri: redirect });

  const used = await code();
  const grant = await exchange(used);
  const again = await exchange(used);
  const elsewhere = await exchange(await code(), "https://evil.example/");
  const old = await code();
  const late = await later(601_000, () => exchange(old));

  expect(grant).toEqual({
    access_token: expect.any(String),
    refresh_token: expect.any(String),
    token_type: "Bearer",
    expires_in: 7_775_999,
    scope: "inquiry login transfer",
    user_seq_no: expect.stringMatching(/^11\d{8}$/),
  });
  expect(again).toMatchObject({ rsp_code: "O0001", rsp_message: "인증 파라미터 오류([3002110])" });
  expect(elsewhere).toMatchObject({ rsp_code: "O0001", rsp_message: "인증 파라미터 오류([3000114])" });
  expect(late).toMatchObject({ rsp_code: "O0001" });
});

test("refreshing gives a new pair, once", async () => {
  const { grant, citizen } = await linked();
  const refresh = (token: string, scope = "login inquiry transfer") =>
    askToken({ grant_type: "refresh_token", refresh_token: token, scope });

  const fresh = await refresh(grant.refresh_token ?? "");
  const again = await refresh(grant.refresh_token ?? "");
  const more = await refresh(fresh.refresh_token ?? "", "login oob");

  expect(fresh).toMatchObject({ scope: "inquiry login transfer", user_seq_no: grant.user_seq_no });
  expect(await getUser(fresh)).toMatchObject({ rsp_code: "A0000", user_name: citizen.name });
  expect(again.rsp_code).toBe("O0002");
  expect(more.rsp_message).toContain("3000115");
});

test("the institution's own token has one scope and cannot be refreshed", async () => {
  const own = await askToken({ grant_type: "client_credentials", scope: "oob" });

  expect(own).toEqual({
    access_token: expect.any(String),
    token_type: "Bearer",
    expires_in: "7775999",
    scope: "oob",
    client_use_code: OURS.CHATPAY_OPENBANKING_INSTITUTION,
  });
  const refusals: [Record<string, string>, string, string][] = [
    [{ grant_type: "client_credentials", scope: "inquiry" }, "O0001", "3000103"],
    [{ grant_type: "client_credentials", scope: "sa" }, "O0011", "Scope"],
    [{ grant_type: "password" }, "O0001", "3000103"],
    [{ grant_type: "client_credentials", scope: "oob", client_secret: "wrong" }, "O0001", "3000201"],
    [{ grant_type: "client_credentials", scope: "oob", client_id: "wrong" }, "O0001", "3000201"],
  ];
  for (const [fields, code, words] of refusals) {
    expect(await askToken(fields)).toEqual({ rsp_code: code, rsp_message: expect.stringContaining(words) });
  }
  const seen = await fetch(`${kftc.url}/oauth/2.0/token`);
  expect([seen.status, await seen.json()]).toMatchObject([200, { rsp_code: "O0010" }]);
});

test("a token is refused when it is missing, made up, revoked, too old, or for something else", async () => {
  const { grant, own } = await linked();
  const me = (authorization: string) =>
    get("/v2.0/user/me", { user_seq_no: grant.user_seq_no ?? "" }, { authorization });

  expect(await me("")).toMatchObject({ rsp_code: "O0001", rsp_message: "인증 파라미터 오류([992])" });
  expect(await me("Basic abc")).toMatchObject({ rsp_code: "O0001" });
  expect(await me("Bearer made-up")).toMatchObject({ rsp_code: "O0002" });
  expect(await me(`Bearer ${grant.refresh_token}`)).toMatchObject({ rsp_code: "O0002" });
  expect(await me(`Bearer ${own.access_token}`)).toMatchObject({ rsp_code: "O0011" });

  expect(await kftc.changeTokens("expire", grant.user_seq_no)).toEqual({ changed: 1 });
  expect(await getUser(grant)).toMatchObject({ rsp_code: "O0003" });
  await kftc.changeTokens("revoke", grant.user_seq_no);
  expect(await getUser(grant)).toMatchObject({ rsp_code: "O0002" });
});

test("a token lives as long as it says", async () => {
  const { grant } = await linked();

  const late = await later(7_775_999_000, () => getUser(grant));

  expect(late.rsp_code).toBe("O0003");
  expect((await getUser(grant)).rsp_code).toBe("A0000");
});

// People and accounts

test("a user and their accounts are told, numbers in full only in the list", async () => {
  const { grant, citizen, account } = await linked();

  const me = await getUser(grant);
  const list = await getAccounts(grant);

  expect(me).toMatchObject({
    user_ci: citizen.ci,
    user_name: citizen.name,
    user_info: citizen.birthDate,
    res_cnt: "2",
  });
  expect(me.res_list[0]).not.toHaveProperty("account_num");
  expect(list.res_list[0]).toMatchObject({
    fintech_use_num: account.fintech,
    bank_code_std: "088",
    bank_name: "신한은행",
    account_num: account.number,
    account_num_masked: `${account.number.slice(0, -3)}***`,
    account_holder_name: citizen.name,
    inquiry_agree_yn: "Y",
    transfer_agree_yn: "Y",
    account_state: "01",
  });
  expect(list.res_list.map(({ bank_code_std }) => bank_code_std)).toEqual(["088", "004"]);
  const newestFirst = await getAccounts(grant, { sort_order: "D" });
  expect(newestFirst.res_list.map(({ bank_code_std }) => bank_code_std)).toEqual(["004", "088"]);
});

test("every value is a string, and every clock is of 24 hours in Seoul", async () => {
  const { grant, account, withdraw } = await linked();
  const answers = [await getUser(grant), await getAccounts(grant), await getBalance(grant, account.fintech)];

  for (const answer of [...answers, await withdraw()]) {
    for (const value of Object.values(answer).flatMap((one) =>
      Array.isArray(one) ? one.flatMap(Object.values) : one,
    )) {
      expect(typeof value).toBe("string");
    }
    expect(answer.api_tran_dtm).toMatch(/^2030010114\d{7}$/);
  }
});

test("a person's token is for that person and their accounts alone", async () => {
  const alice = await linked();
  const bob = await linked();

  const user = await get("/v2.0/user/me", { user_seq_no: bob.grant.user_seq_no ?? "" }, bearer(alice.grant));

  expect(user.rsp_code).toBe("A0313");
  expect((await getBalance(alice.grant, bob.account.fintech)).rsp_code).toBe("A0304");
  expect((await alice.withdraw({ fintech_use_num: bob.account.fintech })).rsp_code).toBe("A0304");
});

test("only what was agreed to is allowed, while it lasts", async () => {
  const citizen = await person();
  const inquiry = await grantOf(citizen, ["inquiry"]);
  const { fintech_use_num: fintech = "" } = (await getAccounts(inquiry)).res_list[0] ?? {};
  const order = (grant: Answer) => post("/v2.0/transfer/withdraw/fin_num", withdrawal(fintech), grant);

  expect((await order(inquiry)).rsp_code).toBe("O0011");
  // The newer token may, but this account was never agreed to.
  const all = await grantOf(citizen, ["inquiry", "transfer"], citizen.accounts.slice(1));
  expect((await order(all)).rsp_code).toBe("A0306");
  const both = await grantOf(citizen, ["inquiry", "transfer"]);
  expect((await order(both)).rsp_code).toBe("A0000");

  await kftc.changeConsent(fintech, "expire", "transfer");
  await kftc.changeConsent(fintech, "expire", "inquiry");
  expect((await order(both)).rsp_code).toBe("A0319");
  expect((await getBalance(both, fintech)).rsp_code).toBe("A0316");
  await kftc.changeConsent(fintech, "end", "inquiry");
  expect((await getBalance(both, fintech)).rsp_code).toBe("A0305");
});

test("a balance is what is there, and what may be drawn of it", async () => {
  const { grant, account } = await linked();
  await kftc.changeAccount(account, { balance: "50000", held: "20000" });

  const balance = await getBalance(grant, account.fintech);

  expect(balance).toMatchObject({
    rsp_code: "A0000",
    bank_code_tran: "088",
    bank_rsp_code: "000",
    balance_amt: "50000",
    available_amt: "30000",
  });
});

test("the lines of an account come 25 at a time, each once", async () => {
  const { grant, account } = await linked();
  for (let number = 1; number <= 60; number += 1) {
    const amount = number % 3 === 0 ? "-100" : "200";
    const time = new Date(Date.UTC(2026, 0, 1, 0, number)).toISOString();
    await kftc.addMovement(account, { amount, content: `줄 ${number}`, time });
  }
  const page = (trace: string, changed = {}) => getHistory(grant, account.fintech, { trace, ...changed });

  const first = await page("");
  const second = await page(first.befor_inquiry_trace_info ?? "");
  const third = await page(second.befor_inquiry_trace_info ?? "");

  expect([first, second, third].map(({ page_record_cnt }) => page_record_cnt)).toEqual(["25", "25", "10"]);
  expect([first, second, third].map(({ next_page_yn }) => next_page_yn)).toEqual(["Y", "Y", "N"]);
  expect([first, second, third].flatMap(({ res_list }) => res_list.map((line) => line.printed_content))).toEqual(
    Array.from({ length: 60 }, (_, index) => `줄 ${60 - index}`),
  );
  expect(first.res_list[0]).toMatchObject({
    tran_date: "20260101",
    tran_time: "100000",
    inout_type: "출금",
    tran_amt: "100",
    after_balance_amt: "106000",
  });
  expect((await page("", { inquiry_type: "O", sort_order: "A" })).res_list.map((line) => line.printed_content)).toEqual(
    Array.from({ length: 20 }, (_, index) => `줄 ${index * 3 + 3}`),
  );
  const minutes = { inquiry_base: "T", from_time: "090100", to_time: "090300", to_date: "20260101" };
  expect((await page("", minutes)).page_record_cnt).toBe("3");
  expect((await page("", { from_date: "20250101", to_date: "20250102" })).rsp_code).toBe("A0018");
  expect((await page("99999999")).rsp_code).toBe("A0004");
});

test("a bank tells whose account it is to those who know the birth date", async () => {
  const { own, account, citizen } = await linked();
  const ask = (changed: object) => post("/v2.0/inquiry/real_name", realName(account, changed), own);

  const found = await ask({});

  expect(found).toMatchObject({ rsp_code: "A0000", bank_name: "신한은행", account_holder_name: citizen.name });
  expect(await ask({ account_holder_info: "000101" })).toMatchObject({ rsp_code: "A0002", bank_rsp_code: "463" });
  expect(await ask({ account_num: "1" })).toMatchObject({ rsp_code: "A0002", bank_rsp_code: "412" });
  expect(await ask({ account_holder_info: "1992" })).toMatchObject({ rsp_code: "A0321" });
  expect(await ask({ account_holder_info_type: "1" })).toMatchObject({ rsp_code: "A0004" });
});

test("a receiver is told before anything is sent", async () => {
  const { own, account, citizen } = await linked();
  const { wd_print_content, req_list, ...head } = deposit({ bank_code_std: "088", account_num: account.number });
  const ask = (changed: object) => post("/v2.0/inquiry/receive", { ...head, ...req_list[0], ...changed }, own);

  expect(await ask({})).toMatchObject({ rsp_code: "A0000", account_holder_name: citizen.name, tran_amt: "1000" });
  expect(wd_print_content).toBe("출금");
  expect(await ask({ bank_tran_id: tranId(), account_num: "1" })).toMatchObject({ bank_rsp_code: "412" });
  expect(await ask({ bank_tran_id: tranId(), bank_code_std: undefined })).toMatchObject({ rsp_code: "A0004" });
});

test("a cancelled account is out of reach, and cancelling again is told", async () => {
  const { grant, own, account, withdraw } = await linked();
  const cancel = (scope: string) =>
    post("/v2.0/account/cancel", { bank_tran_id: tranId(), scope, fintech_use_num: account.fintech }, grant);

  expect((await cancel("transfer")).rsp_code).toBe("A0000");
  expect((await withdraw()).rsp_code).toBe("A0306");
  expect((await getBalance(grant, account.fintech)).rsp_code).toBe("A0000");
  expect((await cancel("inquiry")).rsp_code).toBe("A0000");
  expect((await cancel("inquiry")).rsp_code).toBe("A0305");
  expect((await cancel("transfer")).rsp_code).toBe("A0306");
  expect((await getAccounts(grant)).res_cnt).toBe("1");
  expect((await getAccounts(grant, { include_cancel_yn: "Y" })).res_cnt).toBe("2");
  expect(
    (await post("/v2.0/transfer/deposit/fin_num", deposit({ fintech_use_num: account.fintech }), own)).rsp_code,
  ).toBe("A0323");
});

test("a closed user is gone, with tokens and agreements, and comes back as another", async () => {
  const { grant, own, citizen } = await linked();
  const close = (token: Answer) =>
    post(
      "/v2.0/user/close",
      { client_use_code: OURS.CHATPAY_OPENBANKING_INSTITUTION, user_seq_no: grant.user_seq_no },
      token,
    );

  expect((await close(grant)).rsp_code).toBe("A0000");
  expect((await getUser(grant)).rsp_code).toBe("O0002");
  expect((await close(own)).rsp_code).toBe("A0014");
  const refreshed = await askToken({
    grant_type: "refresh_token",
    refresh_token: grant.refresh_token ?? "",
    scope: "login",
  });
  expect(refreshed.rsp_code).toBe("O0002");
  const again = await grantOf(citizen);
  expect(again.user_seq_no).not.toBe(grant.user_seq_no);
});

// Transfers

test("a withdrawal moves the money from their account to ours", async () => {
  const { account, own, withdraw } = await linked();
  const before = await kftc.books();

  const answer = await withdraw({ tran_amt: "30000" });

  expect(answer).toMatchObject({
    rsp_code: "A0000",
    bank_rsp_code: "000",
    bank_code_tran: "088",
    tran_amt: "30000",
    wd_limit_remain_amt: "9970000",
    dps_account_num_masked: `${OURS.CHATPAY_OPENBANKING_ACCOUNT.slice(0, -3)}***`,
    account_num_masked: `${account.number.slice(0, -3)}***`,
  });
  expect((await kftc.getAccount(account)).balance).toBe("70000");
  const after = await kftc.books();
  expect(gained(before, after)).toBe(30_000n);
  expect(after.booked.at(-1)).toMatchObject({ kind: "withdraw", bankTranId: answer.bank_tran_id, amount: "30000" });
  expect(await resultOf(own, "1", answer, "30000")).toMatchObject({ bank_rsp_code: "000", tran_amt: "30000" });
});

test("a deposit moves the money from our account to theirs, by fintech number or account", async () => {
  const { account, own, citizen } = await linked();
  const before = await kftc.books();

  const byFintech = await post("/v2.0/transfer/deposit/fin_num", deposit({ fintech_use_num: account.fintech }), own);
  const target = { bank_code_std: "088", account_num: account.number, account_holder_name: citizen.name };
  const byNumber = await post("/v2.0/transfer/deposit/acnt_num", deposit(target), own);

  for (const answer of [byFintech, byNumber]) {
    expect(answer).toMatchObject({ rsp_code: "A0000", res_cnt: "1" });
    expect(answer.res_list[0]).toMatchObject({
      bank_rsp_code: "000",
      tran_amt: "1000",
      account_holder_name: citizen.name,
    });
    expect(await resultOf(own, "2", answer.res_list[0] ?? {}, "1000")).toMatchObject({ bank_rsp_code: "000" });
  }
  expect((await kftc.getAccount(account)).balance).toBe("102000");
  expect(gained(before, await kftc.books())).toBe(-2_000n);
});

test("a deposit is refused for another name, unless nobody looks at it", async () => {
  const { account, own } = await linked();
  const target = { bank_code_std: "088", account_num: account.number, account_holder_name: "다른사람" };
  const send = (changed: object) => post("/v2.0/transfer/deposit/acnt_num", { ...deposit(target), ...changed }, own);

  expect((await send({})).rsp_code).toBe("A0312");
  expect((await send({ name_check_option: "off" })).rsp_code).toBe("A0000");
  expect((await send({ wd_pass_phrase: "wrong" })).rsp_code).toBe("A0307");
  expect((await send({ cntr_account_num: "1" })).rsp_code).toBe("A0322");
  const nobody = await post("/v2.0/transfer/deposit/acnt_num", deposit({ ...target, account_num: "1" }), own);
  expect(nobody).toMatchObject({ rsp_code: "A0000", res_list: [{ bank_rsp_code: "412" }] });
  expect((await kftc.getAccount(account)).balance).toBe("101000");
});

test("an id is good once a day in Seoul, whatever became of it", async () => {
  const { grant, account, withdraw } = await linked();
  const bank_tran_id = tranId();

  expect((await withdraw({ bank_tran_id })).rsp_code).toBe("A0000");
  expect((await withdraw({ bank_tran_id })).rsp_code).toBe("A0326");
  expect((await getBalance(grant, account.fintech, { bank_tran_id })).rsp_code).toBe("A0326");
  const refused = tranId();
  expect((await withdraw({ bank_tran_id: refused, cntr_account_num: "1" })).rsp_code).toBe("A0322");
  expect((await withdraw({ bank_tran_id: refused })).rsp_code).toBe("A0326");

  const tomorrow = await later(DAY_MS, () => withdraw({ bank_tran_id }));
  expect(tomorrow.rsp_code).toBe("A0000");
  expect((await kftc.getAccount(account)).balance).toBe("98000");
});

test("many calls with one id at the same time move the money once", async () => {
  const { account, withdraw } = await linked();
  const bank_tran_id = tranId();

  const answers = await Promise.all(Array.from({ length: 10 }, () => withdraw({ bank_tran_id })));

  expect(answers.filter(({ rsp_code }) => rsp_code === "A0000")).toHaveLength(1);
  expect(answers.filter(({ rsp_code }) => rsp_code === "A0326")).toHaveLength(9);
  expect((await kftc.getAccount(account)).balance).toBe("99000");
});

test("what is wrong first is said first", async () => {
  const { grant, own, account } = await linked();
  await kftc.changeAccount(account, { balance: "0" });
  const nobody: Answer = Object.assign({}, own, { access_token: "" });
  const all = { ...withdrawal("1".repeat(24)), bank_tran_id: "X202600001U000000001", tran_amt: "10000001" };
  const ask = (fields: object, token: Answer) => post("/v2.0/transfer/withdraw/fin_num", fields, token);

  expect((await ask({ ...all, tran_dtime: "" }, nobody)).rsp_code).toBe("O0001");
  expect((await ask({ ...all, tran_dtime: "" }, own)).rsp_code).toBe("O0011");
  expect(await ask({ ...all, tran_dtime: "" }, grant)).toMatchObject({
    rsp_code: "A0004",
    rsp_message: "요청전문 포맷 에러(tran_dtime)",
  });
  expect((await ask(all, grant)).rsp_message).toContain("이용기관코드");
  const bank_tran_id = tranId();
  const wrongAccount = { ...all, bank_tran_id, cntr_account_num: "1" };
  expect((await ask(wrongAccount, grant)).rsp_code).toBe("A0322");
  expect((await ask(wrongAccount, grant)).rsp_code).toBe("A0326");
  expect((await ask({ ...all, bank_tran_id: tranId() }, grant)).rsp_code).toBe("A0323");
  const known = { ...all, fintech_use_num: account.fintech };
  expect((await ask({ ...known, bank_tran_id: tranId() }, grant)).rsp_code).toBe("A0111");
  expect(await ask({ ...known, bank_tran_id: tranId(), tran_amt: "1" }, grant)).toMatchObject({
    rsp_code: "A0002",
    bank_code_tran: "088",
    bank_rsp_code: "453",
    bank_rsp_message: "잔액부족",
  });
});

test("a field that is malformed is refused by its name", async () => {
  const { withdraw, own, account } = await linked();
  const wrong: [string, unknown][] = [
    ["bank_tran_id", ""],
    ["bank_tran_id", "M202600001O000000001"],
    ["bank_tran_id", "M202600001Uabcdefghi"],
    ["tran_amt", 1000],
    ["tran_amt", "0"],
    ["tran_amt", "-5"],
    ["tran_amt", "1.5"],
    ["tran_dtime", "20260230120000"],
    ["tran_dtime", "20260228240000"],
    ["fintech_use_num", undefined],
    ["dps_print_content", "가".repeat(21)],
    ["dps_print_content", "🎉"],
    ["req_client_num", "lower"],
    ["transfer_purpose", "XX"],
    ["req_client_name", ""],
  ];
  for (const [name, value] of wrong) {
    expect(await withdraw({ [name]: value }), `${name} ${value}`).toMatchObject({
      rsp_code: "A0004",
      rsp_message: `요청전문 포맷 에러(${name})`,
    });
  }
  const twoClients = { req_client_bank_code: "088", req_client_account_num: "1" };
  expect((await withdraw(twoClients)).rsp_code).toBe("A0004");
  expect((await withdraw({ req_client_fintech_use_num: undefined })).rsp_code).toBe("A0004");
  const order = deposit({ fintech_use_num: account.fintech });
  const two = { ...order, req_cnt: "2", req_list: [order.req_list[0], order.req_list[0]] };
  expect((await post("/v2.0/transfer/deposit/fin_num", two, own)).rsp_code).toBe("A0004");
  for (const body of ["", "null", "[]", "{", '"x"']) {
    const init = { method: "POST", body, headers: { ...bearer(own), "content-type": "application/json" } };
    const answer = await fetch(`${kftc.url}/v2.0/transfer/result`, init);
    expect([answer.status, await answer.json()], body).toMatchObject([200, { rsp_code: "A0004" }]);
  }
});

test("a day's limit counts all banks, and is given back by the next day and by a refusal", async () => {
  const { citizen, withdraw, account, second } = await linked();
  await kftc.setLimits(citizen.id, { dayLimit: "10000", transferLimit: "8000" });

  expect((await withdraw({ tran_amt: "8001" })).rsp_code).toBe("A0111");
  await kftc.script({ call: "withdraw", fintechUseNum: account.fintech, kind: "decline", code: "413" });
  expect((await withdraw({ tran_amt: "8000" })).bank_rsp_code).toBe("413");
  expect(await withdraw({ tran_amt: "8000" })).toMatchObject({ rsp_code: "A0000", wd_limit_remain_amt: "2000" });
  expect((await withdraw({ tran_amt: "2001", fintech_use_num: second.fintech })).rsp_code).toBe("A0112");
  expect(await withdraw({ tran_amt: "2000", fintech_use_num: second.fintech })).toMatchObject({
    wd_limit_remain_amt: "0",
  });
  expect((await withdraw({ tran_amt: "1" })).rsp_code).toBe("A0112");

  const tomorrow = await later(DAY_MS, () => withdraw({ tran_amt: "8000" }));
  expect(tomorrow.rsp_code).toBe("A0000");
});

test("a bank refuses what the account does not allow", async () => {
  const { account, own, withdraw, grant } = await linked();
  await kftc.changeAccount(account, { held: "99500" });
  expect((await withdraw()).bank_rsp_code).toBe("454");

  await kftc.changeAccount(account, { held: "0", block: "416" });
  const refused = await withdraw();
  expect(refused).toMatchObject({ rsp_code: "A0002", bank_rsp_code: "416", bank_rsp_message: "해지된 계좌입니다" });
  expect(await resultOf(own, "1", refused, "1000")).toMatchObject({ bank_rsp_code: "416" });
  const paid = await post("/v2.0/transfer/deposit/fin_num", deposit({ fintech_use_num: account.fintech }), own);
  expect(paid).toMatchObject({ rsp_code: "A0000", res_list: [{ bank_rsp_code: "416" }] });
  expect((await getAccounts(grant)).res_list[0]?.account_state).toBe("09");
  expect((await kftc.getAccount(account)).balance).toBe("100000");
});

test("a result is found by kind, id, day and amount together", async () => {
  const { own, withdraw } = await linked();
  const answer = await withdraw();
  const refused = await withdraw({ cntr_account_num: "1", bank_tran_id: "M202600001UZZZZZZZZZ" });
  const ask = (kind: string, changed: object, amount = "1000") =>
    post("/v2.0/transfer/result", inquiry(kind, { ...answer, ...changed }, amount), own);

  expect((await ask("1", {})).rsp_code).toBe("A0000");
  expect((await ask("2", {})).rsp_code).toBe("A0310");
  expect((await ask("1", { bank_tran_id: tranId() })).rsp_code).toBe("A0310");
  expect((await ask("1", { bank_tran_date: "20250101" })).rsp_code).toBe("A0310");
  expect((await ask("1", {}, "1001")).rsp_code).toBe("A0310");
  // What the centre refused never became a transfer.
  expect(refused.rsp_code).toBe("A0322");
  expect((await ask("1", { bank_tran_id: "M202600001UZZZZZZZZZ" })).rsp_code).toBe("A0310");
});

test("an address or a method that is none is told so", async () => {
  const { own } = await linked();

  expect((await post("/v2.0/transfer/nothing", {}, own)).rsp_code).toBe("A0012");
  expect((await get("/v2.0/transfer/result", {}, bearer(own))).rsp_code).toBe("O0010");
  expect((await fetch(`${kftc.url}/nothing`)).status).toBe(404);
});

// Faults

const answers: [string, object, { isBooked: boolean; shows: unknown }][] = [
  ["late, after it was booked", { kind: "delay", ms: 30 }, { isBooked: true, shows: { rsp_code: "A0000" } }],
  [
    "late, before it was booked",
    { kind: "delay", at: "before", ms: 30 },
    { isBooked: true, shows: { rsp_code: "A0000" } },
  ],
  ["never, after it was booked", { kind: "drop" }, { isBooked: true, shows: "no answer" }],
  ["never, and nothing was booked", { kind: "drop", at: "before" }, { isBooked: false, shows: "no answer" }],
  ["half way", { kind: "cut" }, { isBooked: true, shows: "no answer" }],
  ["as garbage", { kind: "garbage" }, { isBooked: true, shows: "garbage" }],
  ["as garbage, and nothing was booked", { kind: "garbage", at: "before" }, { isBooked: false, shows: "garbage" }],
  ["with 500", { kind: "status" }, { isBooked: true, shows: 500 }],
  ["with 503, and nothing was booked", { kind: "status", at: "before", status: 503 }, { isBooked: false, shows: 503 }],
  ["with a time-out", { kind: "answer", code: "A0007" }, { isBooked: true, shows: { rsp_code: "A0007" } }],
  [
    "with a time-out, and nothing was booked",
    { kind: "answer", code: "A0007", at: "before" },
    { isBooked: false, shows: { rsp_code: "A0007" } },
  ],
  [
    "with a bank's time-out",
    { kind: "answer", code: "804" },
    { isBooked: true, shows: { rsp_code: "A0002", bank_rsp_code: "804", bank_code_tran: "088" } },
  ],
  [
    "with another amount",
    { kind: "amount", amount: "7" },
    { isBooked: true, shows: { rsp_code: "A0000", tran_amt: "7" } },
  ],
  ["twice", { kind: "twice" }, { isBooked: true, shows: { rsp_code: "A0326" } }],
  ["with a refused token", { kind: "token" }, { isBooked: false, shows: { rsp_code: "O0002" } }],
  ["with the bank's refusal", { kind: "decline", code: "453" }, { isBooked: false, shows: { bank_rsp_code: "453" } }],
  ["with the centre's refusal", { kind: "decline", code: "A0112" }, { isBooked: false, shows: { rsp_code: "A0112" } }],
];

test.each(answers)("a withdrawal is answered %s, as scripted, and the next one as always", async (_, fault, then) => {
  const { account, own, withdraw } = await linked();
  const bank_tran_id = tranId();
  await kftc.script({ ...fault, call: "transfer", fintechUseNum: account.fintech } as never);

  const shown = await withdraw({ bank_tran_id }).catch((error: unknown) => (error as { shows: unknown }).shows);

  expect({ shown }).toMatchObject({ shown: then.shows });
  expect((await kftc.getAccount(account)).balance).toBe(then.isBooked ? "99000" : "100000");
  const found = (await kftc.books()).booked.filter((transfer) => transfer.bankTranId === bank_tran_id);
  expect(found).toHaveLength(then.isBooked ? 1 : 0);
  const asked = { bank_tran_id, bank_tran_date: TODAY };
  const result = await post("/v2.0/transfer/result", inquiry("1", asked, "1000"), own);
  expect(result.rsp_code === "A0000" && result.res_list[0]?.bank_rsp_code === "000").toBe(then.isBooked);
  expect((await withdraw()).rsp_code).toBe("A0000");
});

test("a deposit says its refusal and its time-out in its item", async () => {
  const { account, own } = await linked();
  const send = async (fault: object) => {
    await kftc.script({ ...fault, call: "deposit", fintechUseNum: account.fintech } as never);
    return post("/v2.0/transfer/deposit/fin_num", deposit({ fintech_use_num: account.fintech }), own);
  };

  const declined = await send({ kind: "decline", code: "425", head: "A0009" });
  const late = await send({ kind: "answer", code: "804" });

  expect(declined).toMatchObject({ rsp_code: "A0009", res_list: [{ bank_rsp_code: "425" }] });
  expect(late).toMatchObject({ rsp_code: "A0002", res_list: [{ bank_rsp_code: "804" }] });
  expect((await kftc.getAccount(account)).balance).toBe("101000");
});

test("what is in process ends after so many inquiries, and the money moves then", async () => {
  const { account, own, withdraw } = await linked();
  await kftc.script({ kind: "processing", inquiries: 2, fintechUseNum: account.fintech });

  const answer = await withdraw();

  expect(answer).toMatchObject({ rsp_code: "A0001", bank_rsp_code: "400" });
  expect((await kftc.books()).processing).toContainEqual(expect.objectContaining({ bankTranId: answer.bank_tran_id }));
  const seen: string[] = [];
  for (let time = 1; time <= 4; time += 1) {
    const { bank_rsp_code = "" } = await resultOf(own, "1", answer, "1000");
    seen.push(`${bank_rsp_code} ${(await kftc.getAccount(account)).balance}`);
  }
  expect(seen).toEqual(["400 100000", "400 100000", "000 99000", "000 99000"]);
});

test("what is in process may fail in the end, for what the bank says or for what is left by then", async () => {
  const { account, own, withdraw } = await linked();
  await kftc.script({ kind: "processing", code: "413", fintechUseNum: account.fintech });
  await kftc.script({ kind: "processing", head: "A0002", fintechUseNum: account.fintech });

  const refused = await withdraw();
  const tooLate = await withdraw();
  await kftc.changeAccount(account, { balance: "10" });

  expect(tooLate).toMatchObject({ rsp_code: "A0002", bank_rsp_code: "400" });
  expect((await resultOf(own, "1", refused, "1000")).bank_rsp_code).toBe("413");
  expect((await resultOf(own, "1", tooLate, "1000")).bank_rsp_code).toBe("453");
  expect((await kftc.getAccount(account)).balance).toBe("10");
});

test("what is in process may end by time, be booked at once, or never end", async () => {
  const { account, own, withdraw } = await linked();
  for (const how of [{ ms: 60_000 }, { isBookedAtOnce: true, inquiries: 1 }, { isNever: true }]) {
    await kftc.script({ kind: "processing", ...how, fintechUseNum: account.fintech });
  }
  const byTime = await withdraw();
  const booked = await withdraw();
  const never = await withdraw();
  const results = async () =>
    Promise.all([byTime, booked, never].map(async (one) => (await resultOf(own, "1", one, "1000")).bank_rsp_code));

  expect((await kftc.getAccount(account)).balance).toBe("99000");
  expect(await results()).toEqual(["400", "400", "400"]);
  const minuteLater = await later(60_000, results);

  expect(minuteLater).toEqual(["000", "000", "400"]);
  expect((await kftc.getAccount(account)).balance).toBe("98000");
});

test("calls that only read go wrong as scripted as well, and results too", async () => {
  const { grant, account, own, withdraw } = await linked();
  const order = await withdraw();
  const balance = () =>
    getBalance(grant, account.fintech).catch((error: unknown) => (error as { shows: unknown }).shows);
  const faults = ["garbage", "drop", "cut", "status", "token"] as const;
  for (const kind of faults) await kftc.script({ kind, call: "balance", fintechUseNum: account.fintech });
  await kftc.script({ kind: "decline", code: "804", call: "balance", fintechUseNum: account.fintech });

  const shown = [];
  for (let time = 0; time <= faults.length + 1; time += 1) shown.push(await balance());
  await kftc.script({ kind: "amount", amount: "5", call: "result", fintechUseNum: account.fintech });
  await kftc.script({ kind: "amount", amount: "5", call: "result", accountNumber: account.number });
  const result = await resultOf(own, "1", order, "1000");

  expect(shown).toMatchObject([
    "garbage",
    "no answer",
    "no answer",
    500,
    { rsp_code: "O0002" },
    { rsp_code: "A0002", bank_rsp_code: "804" },
    { rsp_code: "A0000" },
  ]);
  expect(result.tran_amt).toBe("5");
  await kftc.clearFaults();
});

test("the token call goes wrong as scripted", async () => {
  await kftc.script({ kind: "status", call: "token", status: 502 });
  const ask = () => askToken({ grant_type: "client_credentials", scope: "oob" });

  await expect(ask()).rejects.toMatchObject({ shows: 502 });
  expect(await ask()).toMatchObject({ scope: "oob" });
});

test("a script is for the calls that it names, as often as it says", async () => {
  const { grant, account, second, withdraw } = await linked();
  const fault = { kind: "answer", code: "A0007", fintechUseNum: account.fintech, times: 2 } as const;
  const { id } = await kftc.script({ ...fault, call: "withdraw" });

  const codes = [
    await getBalance(grant, account.fintech),
    await withdraw({ fintech_use_num: second.fintech }),
    await withdraw(),
  ].map(({ rsp_code }) => rsp_code);

  expect(codes).toEqual(["A0000", "A0000", "A0007"]);
  expect((await kftc.listFaults()).find((one) => one.id === id)).toMatchObject({ used: 1, left: 1 });
  expect([(await withdraw()).rsp_code, (await withdraw()).rsp_code]).toEqual(["A0007", "A0000"]);
  expect((await kftc.listFaults()).find((one) => one.id === id)).toBeUndefined();
});

test("a script with a probability has the same sequence for the same seed", async () => {
  const { account, withdraw } = await linked();
  const run = async (seed: number) => {
    await kftc.script({ kind: "answer", code: "A0007", probability: 0.5, seed, fintechUseNum: account.fintech });
    const codes: (string | undefined)[] = [];
    for (let time = 0; time < 24; time += 1) codes.push((await withdraw()).rsp_code);
    await kftc.clearFaults();
    return codes.join();
  };

  const first = await run(7);

  expect(first).toContain("A0000");
  expect(first).toContain("A0007");
  expect(await run(7)).toBe(first);
  expect(await run(8)).not.toBe(first);
});

test("a bank that is away is away for everything, and the others are not", async () => {
  const { grant, account, second, withdraw, own } = await linked();
  await kftc.setDown("088");

  const away = [await withdraw(), await getBalance(grant, account.fintech)];
  const paid = await post("/v2.0/transfer/deposit/fin_num", deposit({ fintech_use_num: account.fintech }), own);
  const other = await withdraw({ fintech_use_num: second.fintech });
  await kftc.setDown("088", "803");
  const word = await withdraw();
  await kftc.clearDowntime();

  expect([...away, paid].map(({ rsp_code }) => rsp_code)).toEqual(["A0020", "A0020", "A0020"]);
  expect(other.rsp_code).toBe("A0000");
  expect(word).toMatchObject({ rsp_code: "A0002", bank_rsp_code: "803" });
  expect((await withdraw()).rsp_code).toBe("A0000");
});

// Behind the scenes

test("both sides of every transfer add up", async () => {
  const { account, second, own, withdraw } = await linked();
  const before = await kftc.books();
  for (const tran_amt of ["700", "80", "9"]) await withdraw({ tran_amt });
  await withdraw({ tran_amt: "1000", fintech_use_num: second.fintech });
  await post("/v2.0/transfer/deposit/fin_num", deposit({ fintech_use_num: account.fintech }), own);

  const after = await kftc.books();

  const booked = after.booked.slice(before.booked.length);
  const sum = booked.reduce((total, { kind, amount }) => total + BigInt(amount) * (kind === "withdraw" ? 1n : -1n), 0n);
  const left = BigInt((await kftc.getAccount(account)).balance) + BigInt((await kftc.getAccount(second)).balance);
  expect(sum).toBe(789n);
  expect(gained(before, after)).toBe(sum);
  expect(left).toBe(200_000n - sum);
});

test("what cannot be prepared is refused with a reason", async () => {
  await expect(kftc.addCitizen({ name: "", birthDate: "19920315" })).rejects.toThrow("name");
  await expect(kftc.addCitizen({ name: "가", birthDate: "x" })).rejects.toThrow("birthDate");
  await expect(kftc.script({ kind: "nothing" } as never)).rejects.toThrow("kind");
  await expect(kftc.setDown("999")).rejects.toThrow("no bank has this code");
  await expect(kftc.getAccount({ bankCode: "004", number: "1" })).rejects.toThrow("nothing here");
  const { accounts } = await person();
  const taken = { name: "가", birthDate: "19920315", accounts: [{ bankCode: "088", number: accounts[0]?.number }] };
  await expect(kftc.addCitizen(taken)).rejects.toThrow("already");
});

test("the page for people shows accounts, scripts and movements, and runs none of it", async () => {
  const { account, withdraw } = await linked();
  await kftc.addMovement(account, { amount: "5", content: "<script>alert(1)" });
  await kftc.script({ kind: "drop", call: "close" });
  const { bank_tran_id = "" } = await withdraw();

  const answer = await fetch(kftc.url);

  const page = await answer.text();
  expect(page).toContain(account.number);
  expect(page).toContain(bank_tran_id);
  expect(page).toContain("drop of close");
  expect(page).toContain("&#60;script&#62;alert(1)");
  expect(page).not.toContain("<script");
  expect(answer.headers.get("content-security-policy")).toMatch(/^default-src 'none'/);
  await kftc.clearFaults();
});

test("a reset forgets everybody but those who were there from the start", async () => {
  const other = await startKftc({ port: 0, redirectUrl: "https://chat.example/back" });
  const { id } = await other.addCitizen({ name: "가나다", birthDate: "19920315" });

  await other.reset();

  const citizens = await other.listCitizens();
  expect(citizens.map((one) => one.id)).not.toContain(id);
  expect(citizens.map(({ name }) => name)).toContain("김하나");
  expect(citizens.every(({ ci }) => ci.length === 88)).toBe(true);
  await other.stop();
});

// What the tests are made of

let people = 0;

/** Somebody with an account at two banks, with 100,000 won each. */
async function person(): Promise<ShownCitizen> {
  people += 1;
  const accounts = ["088", "004"].map((bankCode) => ({ bankCode, balance: "100000" }));
  return kftc.addCitizen({ name: `손님${people}`, birthDate: "19920315", accounts });
}

/** A person who has consented to everything, and the institution with its own token. */
async function linked() {
  const citizen = await person();
  const grant = await grantOf(citizen);
  const own = await askToken({ grant_type: "client_credentials", scope: "oob" });
  const [account, second] = (await getAccounts(grant)).res_list.map((one) => ({
    bankCode: one.bank_code_std ?? "",
    number: one.account_num ?? "",
    fintech: one.fintech_use_num ?? "",
  }));
  if (!account || !second) throw new Error("the accounts are missing");
  const withdraw = (changed = {}) =>
    post("/v2.0/transfer/withdraw/fin_num", { ...withdrawal(account.fintech), ...changed }, grant);
  return { citizen, grant, own, account, second, withdraw };
}

async function grantOf(citizen: ShownCitizen, agree?: ("inquiry" | "transfer")[], accounts?: ShownAccount[]) {
  const back = await kftc.consent(consentUrl(), { citizen, agree, accounts });
  const code = back.searchParams.get("code") ?? "";
  return askToken({ grant_type: "authorization_code", code, redirect_uri: REDIRECT_URL() });
}

function consentUrl(changed: object = {}) {
  const fields = {
    response_type: "code",
    client_id: OURS.CHATPAY_OPENBANKING_CLIENT_ID,
    redirect_uri: REDIRECT_URL(),
    scope: "login inquiry transfer",
    state: STATE,
    auth_type: "0",
    client_info: "hello",
    ...changed,
  };
  return `${kftc.url}/oauth/2.0/authorize?${new URLSearchParams(fields)}`;
}

function askToken(fields: Record<string, string>): Promise<Answer> {
  const body = new URLSearchParams({
    client_id: OURS.CHATPAY_OPENBANKING_CLIENT_ID,
    client_secret: OURS.CHATPAY_OPENBANKING_CLIENT_SECRET,
    ...fields,
  });
  return read(fetch(`${kftc.url}/oauth/2.0/token`, { method: "POST", body }));
}

/** With the centre's clock ahead. */
async function later<T>(ms: number, run: () => Promise<T>): Promise<T> {
  await kftc.setClock(AFTERNOON_MS + ms);
  try {
    return await run();
  } finally {
    await kftc.setClock(AFTERNOON_MS);
  }
}

/** The answer, or an error with what was seen instead. */
async function read(calling: Promise<Response>): Promise<Answer> {
  const seen = (shows: unknown) => Object.assign(new Error(`${shows}`), { shows });
  const response = await calling.catch(() => undefined);
  const body = await response?.text().catch(() => undefined);
  if (response === undefined || body === undefined) throw seen("no answer");
  if (response.status !== 200) throw seen(response.status);
  if (!body.startsWith("{")) throw seen("garbage");
  return JSON.parse(body) as Answer;
}

const bearer = ({ access_token }: Answer) => ({ authorization: access_token ? `Bearer ${access_token}` : "" });

const get = (path: string, fields: Record<string, string>, headers: Record<string, string>) =>
  read(fetch(`${kftc.url}${path}?${new URLSearchParams(fields)}`, { headers }));

const post = (path: string, fields: object, token: Answer) =>
  read(
    fetch(`${kftc.url}${path}`, {
      method: "POST",
      body: JSON.stringify(fields),
      headers: { ...bearer(token), "content-type": "application/json; charset=UTF-8" },
    }),
  );

const getUser = (grant: Answer) => get("/v2.0/user/me", { user_seq_no: grant.user_seq_no ?? "" }, bearer(grant));

const getAccounts = (grant: Answer, changed = {}) => {
  const fields = { user_seq_no: grant.user_seq_no ?? "", include_cancel_yn: "N", sort_order: "A", ...changed };
  return get("/v2.0/account/list", fields, bearer(grant));
};

const getBalance = (grant: Answer, fintech: string, changed = {}) => {
  const fields = { bank_tran_id: tranId(), fintech_use_num: fintech, tran_dtime: "20260228235959", ...changed };
  return get("/v2.0/account/balance/fin_num", fields, bearer(grant));
};

const getHistory = (
  grant: Answer,
  fintech: string,
  { trace, ...changed }: { trace: string } & Record<string, string>,
) =>
  get(
    "/v2.0/account/transaction_list/fin_num",
    {
      bank_tran_id: tranId(),
      fintech_use_num: fintech,
      inquiry_type: "A",
      inquiry_base: "D",
      from_date: "20260101",
      to_date: "20260102",
      sort_order: "D",
      tran_dtime: "20260228235959",
      befor_inquiry_trace_info: trace,
      ...changed,
    },
    bearer(grant),
  );

const realName = ({ bankCode, number }: { bankCode: string; number: string }, changed: object) => ({
  bank_tran_id: tranId(),
  bank_code_std: bankCode,
  account_num: number,
  account_holder_info_type: " ",
  account_holder_info: "920315",
  tran_dtime: "20260228235959",
  ...changed,
});

let ids = 0;
const tranId = () => {
  ids += 1;
  return `${OURS.CHATPAY_OPENBANKING_INSTITUTION}U${`${ids}`.padStart(9, "0")}`;
};

const withdrawal = (fintech: string) => ({
  bank_tran_id: tranId(),
  cntr_account_type: "N",
  cntr_account_num: OURS.CHATPAY_OPENBANKING_ACCOUNT,
  dps_print_content: "충전",
  wd_print_content: "챗페이충전",
  fintech_use_num: fintech,
  tran_amt: "1000",
  tran_dtime: "20260228235959",
  req_client_name: "손님",
  req_client_fintech_use_num: fintech,
  req_client_num: "MEMBER1",
  transfer_purpose: "RC",
});

const deposit = (to: object) => ({
  cntr_account_type: "N",
  cntr_account_num: OURS.CHATPAY_OPENBANKING_ACCOUNT,
  wd_pass_phrase: OURS.CHATPAY_OPENBANKING_PASS_PHRASE,
  wd_print_content: "출금",
  tran_dtime: "20260228235959",
  req_cnt: "1",
  req_list: [
    {
      tran_no: "1",
      bank_tran_id: tranId(),
      print_content: "챗페이",
      tran_amt: "1000",
      req_client_name: "손님",
      req_client_bank_code: "088",
      req_client_account_num: "1",
      req_client_num: "MEMBER1",
      transfer_purpose: "TR",
      ...to,
    },
  ],
});

const inquiry = (kind: string, order: Record<string, unknown>, amount: string) => ({
  check_type: kind,
  tran_dtime: "20260228235959",
  req_cnt: "1",
  req_list: [
    {
      tran_no: "1",
      org_bank_tran_id: order.bank_tran_id,
      org_bank_tran_date: order.bank_tran_date,
      org_tran_amt: amount,
    },
  ],
});

/** What the bank says of an order by now. */
async function resultOf(own: Answer, kind: string, order: Record<string, unknown>, amount: string) {
  const { res_list } = await post("/v2.0/transfer/result", inquiry(kind, order, amount), own);
  return res_list[0] ?? {};
}

const gained = (before: { collectingChange: string }, after: { collectingChange: string }) =>
  BigInt(after.collectingChange) - BigInt(before.collectingChange);
