import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { BankTransfer_State, LiveBalance_Status } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { kftcControl } from "../sandbox/kftc/remote.ts";
import { kftcSettings, startKftc } from "../sandbox/kftc/server.ts";
import { linkBank } from "./support/banks.ts";
import { balanceOf, openWallet } from "./support/people.ts";
import { startServer } from "./support/server.ts";

// What the sandbox's banks know is there again when they have stopped, or were killed.

const PATIENCE = { timeout: 120_000, interval: 50 };
/** Programs are started, which takes its time where many are. */
const TEST_MS = 300_000;
const OURS = kftcSettings("");
const REDIRECT_URL = "https://chat.example/back";
/** The centre's clock shows two in the afternoon in Seoul, so that no day ends during a test. */
const AFTERNOON_MS = Date.UTC(2030, 0, 1, 5) - Date.now();

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "chatpay-kftc-"));
});
afterEach(() => rm(dir, { recursive: true }));

test(
  "a linked account works on when the banks were killed, and what became of a transfer is found out",
  async () => {
    const file = join(dir, "kftc.db");
    const banks = await spawnSandbox({ SANDBOX_KFTC_FILE: file });
    const server = await startServer(kftcSettings(banks.url));
    const kftc = kftcControl(banks.url);
    onTestFinished(() => server.stop());
    const alice = await openWallet(server);
    const { bankAccount, where } = await linkBank({ kftc }, alice, { balance: 100_000n });
    const topUp = (amount: bigint) =>
      alice.banks.topUp({ idempotencyKey: randomUUID(), bankAccountId: bankAccount.id, amount });
    await topUp(10_000n);
    await kftc.script({ kind: "drop", call: "withdraw", at: "after" });
    await kftc.script({ kind: "status", call: "result", probability: 1 });
    const { bankTransfer: unknown } = await topUp(20_000n);

    await banks.kill();
    await spawnSandbox({ SANDBOX_KFTC_FILE: file, SANDBOX_KFTC_PORT: new URL(banks.url).port });

    expect(unknown?.state).toBe(BankTransfer_State.UNKNOWN);
    await vi.waitFor(async () => {
      const { bankTransfer } = await alice.banks.getBankTransfer({ bankTransferId: unknown?.id ?? "" });
      expect(bankTransfer?.state).toBe(BankTransfer_State.SUCCEEDED);
    }, PATIENCE);
    await vi.waitFor(async () => {
      const [linked] = (await alice.banks.listBankAccounts({ withBalances: true })).bankAccounts;
      expect(linked?.liveBalance).toMatchObject({ status: LiveBalance_Status.OK, balance: 70_000n });
    }, PATIENCE);
    expect((await topUp(5_000n)).bankTransfer?.state).toBe(BankTransfer_State.SUCCEEDED);
    expect(await balanceOf(alice)).toBe(35_000n);
    expect((await kftc.getAccount(where)).balance).toBe("65000");
  },
  TEST_MS,
);

test(
  "people, accounts, books, the clock, tokens, codes and used ids are the same after a restart",
  async () => {
    const file = join(dir, "kftc.db");
    const first = await startKftc({ port: 0, redirectUrl: REDIRECT_URL, file });
    const { url } = first;
    await first.setClock(AFTERNOON_MS);
    const citizen = await first.addCitizen({
      name: "정가온",
      birthDate: "19950704",
      accounts: [{ bankCode: "088", balance: "100000" }, { bankCode: "004" }],
    });
    await first.setLimits(citizen.id, { dayLimit: "50000" });
    const [one, other] = citizen.accounts;
    if (!one || !other) throw new Error("the accounts are missing");
    await first.changeAccount(one, { held: "500" });
    const codeOf = async () => (await first.consent(consentUrl(url), { citizen })).searchParams.get("code") ?? "";
    const [code, unused] = [await codeOf(), await codeOf()];
    const { access_token: token = "", refresh_token: used = "" } = await exchange(url, code);
    const { refresh_token: newest = "" } = await renew(url, used);
    const { fintechUseNum } = await first.getAccount(one);
    await first.changeConsent((await first.getAccount(other)).fintechUseNum, "end", "transfer");
    const settled = withdrawal(fintechUseNum, "1");
    expect(await post(url, "/v2.0/transfer/withdraw/fin_num", settled, token)).toMatchObject({ rsp_code: "A0000" });
    await first.script({ kind: "processing", call: "withdraw", inquiries: 1 });
    const waiting = withdrawal(fintechUseNum, "2");
    expect(await post(url, "/v2.0/transfer/withdraw/fin_num", waiting, token)).toMatchObject({ rsp_code: "A0001" });
    const seenIn = async (kftc: typeof first) => [
      await kftc.listCitizens(),
      await kftc.books(),
      await (await fetch(`${kftc.url}/sandbox/accounts/088/${one.number}/movements`)).json(),
    ];
    const before = await seenIn(first);

    await first.stop();
    const second = await startKftc({ port: 0, redirectUrl: REDIRECT_URL, file });

    expect(await seenIn(second)).toEqual(before);
    expect((await second.books()).processing).toHaveLength(1);
    const draw = (tail: string, amount?: string) =>
      post(second.url, "/v2.0/transfer/withdraw/fin_num", withdrawal(fintechUseNum, tail, amount), token);
    expect(await draw("1")).toMatchObject({
      rsp_code: "A0326",
      api_tran_dtm: expect.stringMatching(/^2030/) as string,
    });
    expect(await draw("3", "30001")).toMatchObject({ rsp_code: "A0112" });
    expect(await exchange(second.url, code)).toMatchObject({ rsp_code: "O0001" });
    expect(await exchange(second.url, unused)).toHaveProperty("access_token");
    expect(await renew(second.url, used)).toMatchObject({ rsp_code: "O0002" });
    expect(await renew(second.url, newest)).toHaveProperty("access_token");
    await second.stop();
  },
  TEST_MS,
);

test("a reset forgets what was kept too", async () => {
  const file = join(dir, "kftc.db");
  const first = await startKftc({ port: 0, file });
  await first.addCitizen({ name: "가나다", birthDate: "19920315" });
  const townOf = async (kftc: typeof first) => (await kftc.listCitizens()).map(({ name }) => name);

  await first.reset();
  await first.stop();
  const second = await startKftc({ port: 0, file });

  expect(await townOf(second)).toEqual(["김하나", "이도윤", "박서연", "최민준"]);
  await second.stop();
});

test("one file is of one sandbox at a time", async () => {
  const file = join(dir, "kftc.db");
  const first = await startKftc({ port: 0, file });

  await expect(startKftc({ port: 0, file })).rejects.toThrow("locked");

  await first.stop();
});

/** The sandbox as a program of its own, which is killed at the end of the test if not before. */
async function spawnSandbox(env: NodeJS.ProcessEnv) {
  const ports = { SANDBOX_SMTP_PORT: "0", SANDBOX_MAIL_PORT: "0", SANDBOX_SMS_PORT: "0", SANDBOX_KFTC_PORT: "0" };
  const child: ChildProcess = spawn(process.execPath, ["sandbox/main.ts"], {
    env: { ...process.env, ...ports, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exit = once(child, "exit");
  async function kill() {
    child.kill("SIGKILL");
    await exit;
  }
  onTestFinished(kill);
  if (!child.stdout) throw new Error("the sandbox says nothing");
  for await (const line of createInterface(child.stdout)) {
    const [, url] = /^banks: (http:\S+),/.exec(line) ?? [];
    if (url) return { url, kill };
  }
  throw new Error("the sandbox did not start");
}

type Answer = Partial<Record<string, string>>;

const post = async (url: string, path: string, body: object, token: string): Promise<Answer> =>
  (
    await fetch(`${url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    })
  ).json() as Promise<Answer>;

const askToken = async (url: string, fields: Record<string, string>): Promise<Answer> =>
  (
    await fetch(`${url}/oauth/2.0/token`, {
      method: "POST",
      body: new URLSearchParams({
        client_id: OURS.CHATPAY_OPENBANKING_CLIENT_ID,
        client_secret: OURS.CHATPAY_OPENBANKING_CLIENT_SECRET,
        scope: "login inquiry transfer",
        ...fields,
      }),
    })
  ).json() as Promise<Answer>;

const exchange = (url: string, code: string) =>
  askToken(url, { grant_type: "authorization_code", code, redirect_uri: REDIRECT_URL });

const renew = (url: string, token: string) => askToken(url, { grant_type: "refresh_token", refresh_token: token });

const consentUrl = (url: string) =>
  `${url}/oauth/2.0/authorize?${new URLSearchParams({
    response_type: "code",
    client_id: OURS.CHATPAY_OPENBANKING_CLIENT_ID,
    redirect_uri: REDIRECT_URL,
    scope: "login inquiry transfer",
    state: "0123456789abcdef0123456789abcdef",
    auth_type: "0",
  })}`;

const withdrawal = (fintechUseNum: string, tail: string, amount = "10000") => ({
  bank_tran_id: `M202600001U${tail.padStart(9, "0")}`,
  cntr_account_type: "N",
  cntr_account_num: OURS.CHATPAY_OPENBANKING_ACCOUNT,
  dps_print_content: "충전",
  fintech_use_num: fintechUseNum,
  tran_amt: amount,
  tran_dtime: "20300101140000",
  req_client_name: "정가온",
  req_client_fintech_use_num: fintechUseNum,
  req_client_num: "1234567890",
  transfer_purpose: "RC",
});
