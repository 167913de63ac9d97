import { randomBytes, randomInt, randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { type DescMessage, type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { beforeAll, expect, test, vi } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { CallerKind, Scope } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { BankService } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { KeyService } from "../gen/chatpay/key/v1/key_pb.ts";
import { LedgerService } from "../gen/chatpay/ledger/v1/ledger_pb.ts";
import { PaymentService } from "../gen/chatpay/payment/v1/payment_pb.ts";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openDatabase } from "../src/db/database.ts";
import { openSession } from "../src/db/session.ts";
import { unpackEvents } from "../src/ledger/queries.ts";
import { openPartner, openWallet, type Person, signUp } from "./support/people.ts";
import { call, DOORS, everyRpc, nameOf } from "./support/rpcs.ts";
import { type Credential, type Door, startServer } from "./support/server.ts";

/**
 * Goes through everything that takes or gives a secret, at both doors, with success and with every refusal, and looks for
 * the secrets wherever they must not be.
 */

/** What each secret is, by its text. */
const secrets = new Map<string, string>();

function plant(what: string, text: string | undefined): string {
  if (text === undefined || text === "") throw new Error(`no ${what} to plant`);
  secrets.set(text, what);
  return text;
}

const digits = (count: number) => Array.from({ length: count }, () => randomInt(10)).join("");

/** Six digits, neither all the same nor in a row. */
const newDigits = (what: string) => plant(what, `1${digits(4)}9`);

/** Base64 of the text wherever in a longer one it begins: the characters that are made of nothing else. */
const base64Of = (text: string) =>
  [0, 1, 2].map((offset) => {
    const padded = Buffer.concat([Buffer.alloc(offset), Buffer.from(text)]);
    return padded.toString("base64").slice(Math.ceil((offset * 8) / 6), Math.floor((padded.length * 8) / 6));
  });

const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&");

/** The text as it is and as it may be written; digits only where no others stand beside them. */
function patternOf(text: string): RegExp {
  const base64 = base64Of(text);
  const hex = Buffer.from(text).toString("hex");
  const forms = [
    text,
    encodeURIComponent(text),
    JSON.stringify(text).slice(1, -1),
    ...base64,
    ...base64.map((form) => form.replaceAll("+", "-").replaceAll("/", "_")),
    hex,
    hex.toUpperCase(),
  ];
  const whole = /^\d+$/.test(text) ? (form: string) => `(?<!\\d)${form}(?!\\d)` : (form: string) => form;
  return new RegExp([...new Set(forms)].map(escaped).map(whole).join("|"));
}

/** Which of the secrets a text has. */
function leaksIn(haystack: string, allowed: string[] = []): string[] {
  const found = [...secrets].flatMap(([text, what]) => {
    const match = allowed.includes(what) ? null : patternOf(text).exec(haystack);
    return match ? [`${what} in …${haystack.slice(Math.max(0, match.index - 60), match.index + 60)}…`] : [];
  });
  return found.slice(0, 20);
}

const server = await startServer({ CHATPAY_LOG_LEVEL: "trace", CHATPAY_PIN_ABOVE: "1000" });
const operator: Credential = { bearer: plant("API key", server.keys.operator) };
plant("API key", server.keys.service);
/** What clients were told when they were refused: message, details and headers. */
const answers: string[] = [];
let logs = "";
let records = "";
let events = "";

/** Keeps what the call is refused with, if it is. */
const settled = (answer: Promise<unknown>): Promise<"done" | "refused"> =>
  answer.then(
    () => "done",
    (failure: unknown) => {
      const error = ConnectError.from(failure);
      const details = error.details.map((detail) =>
        "type" in detail ? `${detail.type} ${Buffer.from(detail.value).toString()}` : JSON.stringify(detail.value),
      );
      answers.push([error.message, ...details, ...[...error.metadata].map((header) => header.join(": "))].join("\n"));
      return "refused";
    },
  );

async function refused(answer: Promise<unknown>) {
  if ((await settled(answer)) === "done") throw new Error("nothing was refused");
}

/** The newest code that came to an address. */
const newestCode = (inbox: string, to: string, but: string | undefined) =>
  vi.waitFor(
    async () => {
      const answer = await fetch(`${inbox}/latest?to=${encodeURIComponent(to)}`);
      const { text = "" } = answer.ok ? ((await answer.json()) as { text?: string }) : {};
      const code = /(?<!\d)\d{6}(?!\d)/.exec(text)?.[0];
      if (!code || code === but) throw new Error(`no code came for ${to}`);
      return plant("code", code);
    },
    { timeout: 10_000, interval: 20 },
  );

/** Somebody with both kinds of addresses and everything that proves a person, at one door. */
async function live(door: Door) {
  const accounts = server.client(AccountService, {}, door);
  const email = plant("e-mail address", `planted.${randomUUID()}@secret.example`);
  const phone = plant("phone number", `+8210${digits(8)}`);
  const dialled = plant("phone number", phone.replace("+82", "0"));
  const newEmail = plant("e-mail address", `moved.${randomUUID()}@secret.example`);
  const [localPart] = email.split("@");
  const password = plant("password", `planted pässword ${randomUUID()}`);
  const newPassword = plant("password", `newer password ${randomUUID()}`);
  const displayName = plant("name", `김${randomUUID()}`);
  const device = plant("device", `phone of ${randomUUID()}`);
  const wrongCode = newDigits("code");
  const codes = new Map<string, string>();

  async function prove(address: { email: string } | { phone: string }, purpose: CodePurpose) {
    await accounts.sendCode({ ...address, purpose, language: "en" });
    const isMail = "email" in address;
    const inbox = isMail ? `http://127.0.0.1:${server.inbox.httpPort}/mail` : `${server.smsInbox.url}/sms`;
    const to = isMail ? address.email : dialled;
    const code = await newestCode(inbox, to, codes.get(to));
    codes.set(to, code);
    return code;
  }

  const keep = (tokens: { accessToken: string; refreshToken: string } | undefined) => ({
    bearer: plant("access token", tokens?.accessToken),
    refreshToken: plant("refresh token", tokens?.refreshToken),
  });

  // Signing up, and in, and again
  const signUpCode = await prove({ email }, CodePurpose.SIGN_UP);
  await refused(accounts.sendCode({ email, purpose: CodePurpose.SIGN_UP }));
  const newcomer = { email, code: signUpCode, password, displayName, device };
  await refused(accounts.signUp({ ...newcomer, code: wrongCode }));
  await refused(accounts.signUp({ ...newcomer, password: localPart }));
  await refused(accounts.signUp({ ...newcomer, phone }));
  const { account, tokens } = await accounts.signUp(newcomer);
  const first = keep(tokens);
  const accountId = account?.id ?? "";
  const walletId = account?.mainWalletId ?? "";
  await refused(accounts.signUp(newcomer));
  await refused(accounts.signIn({ email, password: plant("password", `wrong password ${randomUUID()}`) }));
  await refused(accounts.signIn({ phone, password }));
  const second = keep((await accounts.signIn({ email, password, device })).tokens);
  await refused(accounts.signInWithCode({ email, code: wrongCode }));
  const signInCode = await prove({ email }, CodePurpose.SIGN_IN);
  const third = keep((await accounts.signInWithCode({ email, code: signInCode, device })).tokens);
  await refused(accounts.signInWithCode({ email, code: signInCode }));

  // What proves the person
  const mine = server.client(AccountService, first, door);
  await mine.updateAccount({ displayName: plant("name", `이${randomUUID()}`) });
  await mine.listSessions({});
  await refused(mine.changePassword({ password, newPassword: localPart }));
  await mine.changePassword({ password, newPassword });
  const movingCode = await prove({ email: newEmail }, CodePurpose.CHANGE_ADDRESS);
  await refused(mine.changeAddress({ email: newEmail, code: movingCode, password }));
  await refused(mine.changeAddress({ email: newEmail, code: wrongCode, password: newPassword }));
  await mine.changeAddress({ email: newEmail, code: movingCode, password: newPassword });
  const phoneCode = await prove({ phone }, CodePurpose.CHANGE_ADDRESS);
  await mine.changeAddress({ phone, code: phoneCode, password: newPassword });
  const pin = newDigits("PIN");
  const pinCode = await prove({ phone }, CodePurpose.SET_PIN);
  await refused(mine.setPin({ phone, code: wrongCode, pin }));
  await refused(mine.setPin({ phone, code: pinCode, pin: "111111" }));
  await mine.setPin({ phone, code: pinCode, pin });

  // Identity, as the chat server tells it
  const ci = plant("CI", randomBytes(64).toString("base64"));
  const birthDate = plant("birth date", `19${randomInt(60, 99)}-0${randomInt(1, 10)}-${randomInt(10, 29)}`);
  const acting = { bearer: server.keys.service, accountId };
  const chat = server.client(AccountService, acting, door);
  await chat.setIdentity({ ci, birthDate });
  await refused(chat.setIdentity({ ci, birthDate: plant("birth date", "1959-12-31") }));
  await refused(chat.setIdentity({ ci: plant("CI", randomBytes(64).toString("base64")), birthDate }));
  await refused(chat.setIdentity({ ci: ci.slice(1), birthDate }));

  // Banks
  const citizen = await server.kftc.addCitizen({
    name: plant("name of a holder", `한${randomUUID().slice(0, 12)}`),
    birthDate: birthDate.replaceAll("-", ""),
    ci,
    accounts: ["088", "090"].map((bankCode) => ({
      bankCode,
      number: plant("account number", `1${digits(12)}9`),
      alias: plant("alias", `통장 ${randomUUID()}`),
    })),
  });
  const banks = server.client(BankService, acting, door);
  async function consent() {
    const { consentUrl, state } = await banks.startLink({});
    const back = await server.kftc.consent(consentUrl, { citizen });
    return { state: plant("state", state), code: plant("code of a consent", back.searchParams.get("code") ?? "") };
  }
  await refused(banks.finishLink({ ...(await consent()), code: plant("code of a consent", `no-${randomUUID()}`) }));
  const consented = await consent();
  const { bankAccounts } = await banks.finishLink(consented);
  await refused(banks.finishLink(consented));
  const byNumber = { bankCode: "088", accountNumber: plant("account number", `2${digits(11)}8`) };
  await refused(banks.linkByNumber(byNumber));
  const bankAccountId = bankAccounts[0]?.id ?? "";
  await banks.updateBankAccount({ bankAccountId, alias: plant("alias", `내 통장 ${randomUUID()}`) });
  await banks.listBankAccounts({ withBalances: true });
  await server.kftc.script({ call: "history", kind: "garbage", body: plant("garbage", `planted ${randomUUID()}`) });
  await refused(banks.listBankEntries({ bankAccountId, startDate: "2026-01-01", endDate: "2026-12-31" }));
  await banks.unlinkBankAccount({ bankAccountId });

  // Money
  const memo = plant("memo", `for the planted ${randomUUID()}`);
  const shop = await openPartner(server);
  plant("API key", shop.bearer);
  const house = server.client(WalletService, operator, door);
  await house.creditWallet({ idempotencyKey: randomUUID(), walletId, amount: 10_000n, reason: "a gift" });
  const transfers = server.client(TransferService, first, door);
  const order = () => ({ idempotencyKey: randomUUID(), recipientWalletId: shop.walletId, amount: 2_000n, memo });
  const other = { ...order(), recipientWalletId: peer.walletId };
  const wrongPin = newDigits("PIN");
  await refused(transfers.sendTransfer(order()));
  await refused(transfers.sendTransfer({ ...other, idempotencyKey: randomUUID() }));
  await refused(transfers.sendTransfer({ ...other, pin: wrongPin }));
  await refused(transfers.sendTransfer({ ...other, pin: wrongPin.slice(1) }));
  await transfers.sendTransfer({ ...other, pin });
  await refused(transfers.sendTransfer({ ...other, pin, amount: 1n }));
  const batch = [
    { ...other, idempotencyKey: randomUUID() },
    { ...order(), amount: 1n },
  ];
  await refused(transfers.batchSendTransfers({ transfers: batch, pin: wrongPin }));
  await transfers.batchSendTransfers({ transfers: batch, pin });
  const payments = server.client(PaymentService, first, door);
  const purchase = { partnerId: shop.partnerId, orderKey: randomUUID(), amount: 3_000n };
  await refused(payments.approvePayment({ ...purchase, pin: wrongPin }));
  await payments.approvePayment({ ...purchase, pin });
  await refused(payments.approvePayment({ ...purchase, pin }));

  // Refreshing, losing and resetting
  const { refreshToken } = keep((await accounts.signIn({ email: newEmail, password: newPassword })).tokens);
  const refreshed = keep((await accounts.refreshTokens({ refreshToken })).tokens);
  keep((await accounts.refreshTokens({ refreshToken: refreshed.refreshToken })).tokens);
  await refused(accounts.refreshTokens({ refreshToken }));
  await refused(accounts.refreshTokens({ refreshToken: plant("refresh token", `planted-${randomUUID()}`) }));
  await refused(server.client(AccountService, refreshed, door).getAccount({}));
  const broken = { bearer: plant("access token", `${first.bearer.slice(0, -4)}AAAA`) };
  await refused(server.client(AccountService, broken, door).getAccount({}));
  await refused(
    server.client(AccountService, { bearer: plant("access token", `planted-${randomUUID()}`) }).getAccount({}),
  );
  const resetCode = await prove({ phone }, CodePurpose.RESET_PASSWORD);
  await refused(accounts.resetPassword({ phone, code: wrongCode, newPassword: password }));
  await accounts.resetPassword({ phone, code: resetCode, newPassword: plant("password", `newest ${randomUUID()}`) });
  for (const ended of [second, third]) {
    await refused(server.client(AccountService, ended, door).getAccount({}));
    await refused(accounts.refreshTokens({ refreshToken: ended.refreshToken }));
  }

  // Leaving
  await refused(chat.closeAccount({}));
  const { wallet } = await house.getWallet({ walletId });
  await house.debitWallet({ idempotencyKey: randomUUID(), walletId, amount: wallet?.balance ?? 0n, reason: "a fee" });
  await chat.closeAccount({});
  await refused(chat.getAccount({}));
}

/** API keys: made, used, copied and ended. */
async function keepKeys(door: Door) {
  const keys = server.client(KeyService, operator, door);
  const { key, secret } = await keys.createKey({
    kind: CallerKind.OPERATOR,
    name: "planted",
    scopes: [Scope.WALLETS_READ, Scope.KEYS_WRITE],
  });
  const made: Credential = { bearer: plant("API key", secret) };
  const narrow = server.client(KeyService, made, door);
  await refused(narrow.listKeys({}));
  await refused(narrow.createKey({ kind: CallerKind.OPERATOR, name: "wider" }));
  await server.client(WalletService, made, door).listWallets({});
  const rotated = await keys.rotateKey({ keyId: key?.id ?? "", overlapSeconds: 60 });
  plant("API key", rotated.secret);
  await keys.revokeKey({ keyId: key?.id ?? "" });
  await refused(narrow.listKeys({}));
  const mistyped = plant("API key", `${rotated.secret.slice(0, -1)}${rotated.secret.endsWith("A") ? "B" : "A"}`);
  await refused(server.client(KeyService, { bearer: mistyped }, door).listKeys({}));
  await refused(server.client(AccountService, { bearer: server.keys.service }, door).getAccount({}));
}

/** A browser, which keeps its refresh token in a cookie. */
async function browse() {
  const email = plant("e-mail address", `browser.${randomUUID()}@secret.example`);
  const password = plant("password", `browser password ${randomUUID()}`);
  const accounts = server.client(AccountService, {}, "connect");
  await accounts.sendCode({ email, purpose: CodePurpose.SIGN_UP });
  const code = await newestCode(`http://127.0.0.1:${server.inbox.httpPort}/mail`, email, undefined);
  await accounts.signUp({ email, code, password, displayName: plant("name", `박${randomUUID()}`) });

  const signedIn = await post("SignIn", { email, password, refreshCookie: true });
  const [, token] = /=([^;]+);/.exec(signedIn.headers.get("set-cookie") ?? "") ?? [];
  const cookie = `chatpay_refresh=${plant("refresh token", token)}`;
  expect((await post("RefreshTokens", {}, { cookie })).status).toBe(200);
  const bad: Record<string, string>[] = [{ cookie: `${cookie}x` }, { cookie, origin: "https://evil.example" }];
  for (const headers of bad) {
    const answer = await post("RefreshTokens", {}, headers);
    expect(answer.status).toBe(401);
    answers.push(`${await answer.text()}\n${[...answer.headers].map((header) => header.join(": ")).join("\n")}`);
  }
}

const pathOf = (rpc: string) => `${server.baseUrl}/${AccountService.typeName}/${rpc}`;

const post = (rpc: string, body: object, headers: Record<string, string> = {}) =>
  fetch(pathOf(rpc), {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

/** A request with something planted in each text, where most of it is not wanted. */
function stuffed(message: DescMessage, secret: string, depth = 2): Record<string, unknown> {
  const fields = message.fields.flatMap((field) => {
    if (field.fieldKind === "scalar" && field.scalar === ScalarType.STRING) return [[field.localName, secret]];
    if (field.fieldKind === "list" && field.listKind === "message" && depth > 0) {
      return [[field.localName, [stuffed(field.message, secret, depth - 1)]]];
    }
    return [];
  });
  return Object.fromEntries(fields) as Record<string, unknown>;
}

async function stuffEverything(method: DescMethod, door: Door) {
  const callers: Credential[] = [{}, operator, { bearer: server.keys.service, accountId: peer.accountId }];
  for (const credential of callers) {
    const secret = plant(`text for ${nameOf(method)}`, `planted-${randomUUID()}`);
    await settled(call(server, method, stuffed(method.input, secret), credential, door));
  }
}

/** As a message of a stream. */
function enveloped(text: string) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

/** What is no call at all: nothing of it belongs into the log. */
async function babble() {
  const secret = plant("babble", `babble-${randomUUID()}`);
  const json = { "content-type": "application/json" };
  const attempts: [string, RequestInit][] = [
    [pathOf("SignIn"), { method: "POST", headers: { "content-type": "text/plain" }, body: secret }],
    [pathOf("SignIn"), { method: "POST", headers: { "content-type": secret }, body: "{}" }],
    [pathOf("SignIn"), { method: "POST", headers: json, body: `{"password":${secret}}` }],
    [pathOf("SignIn"), { method: "POST", headers: json, body: `{"password":["${secret}"],"${secret}":1}` }],
    [pathOf("SignIn"), { method: "POST", headers: { "content-type": "application/proto" }, body: secret }],
    [pathOf("SignIn"), { method: "POST", headers: { "content-type": "application/grpc-web+proto" }, body: secret }],
    [pathOf("SignIn"), { method: "POST", headers: { ...json, "content-encoding": secret }, body: "{}" }],
    [pathOf("SignIn"), { method: "POST", headers: { ...json, "connect-timeout-ms": secret }, body: "{}" }],
    [pathOf("SignIn"), { method: "POST", headers: { ...json, "x-request-id": `${secret} too` }, body: "{}" }],
    [`${pathOf("SignIn")}?password=${secret}`, { method: "POST", headers: json, body: "{}" }],
    [`${pathOf(secret)}?password=${secret}`, { method: "POST", headers: json, body: "{}" }],
    [`${pathOf("GetAccount")}?connect=v1&encoding=json&message=${secret}`, {}],
    [`${pathOf("GetAccount")}?connect=${secret}&encoding=json&message=%7B%7D`, {}],
    [`${server.internalUrl}/metrics?${secret}`, {}],
    ...[`{"${secret}":1}`, `"${secret}"`, `{"a":${secret}}`, secret].map((text): [string, RequestInit] => [
      `${server.baseUrl}/${LedgerService.typeName}/VerifyBooks`,
      {
        method: "POST",
        headers: { authorization: `Bearer ${operator.bearer}`, "content-type": "application/connect+json" },
        body: enveloped(text),
      },
    ]),
  ];
  for (const [url, request] of attempts) await fetch(url, request).then((answer) => answer.text());

  const path = new URL(pathOf("SignIn")).pathname;
  for (const text of [
    `POST ${path}?${secret} HTTP/1.1\r\nhost: ${secret}:x:y\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    `${secret} ${path} HTTP/1.1\r\n\r\n`,
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${secret}`,
  ]) {
    for (const url of [server.baseUrl, server.grpcUrl]) {
      const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.end(text));
      socket.on("error", () => {}).resume();
      await once(socket, "close");
    }
  }
}

/** What a write that fails repeats in its error, in each of these tables. */
const REPEATED = { account: "display_name", session: "device", transfer: "memo", audit_record: "rpc" };

/** The statements that fail carry all that was to be written, and so may the errors of the database. */
async function breakDown(door: Door) {
  const session = await openSession(server.app.config.databaseUrl);
  const { accountId, email, password } = peer;
  const acting = { bearer: server.keys.service, accountId };
  for (const [table, column] of Object.entries(REPEATED)) {
    for (const change of ["insert", "update"]) {
      await session.run([
        `create trigger broken_${change} before ${change} on ${table} for each row
         begin
           declare said varchar(120) default new.${column};
           signal sqlstate '45000' set message_text = said;
         end`,
      ]);
    }
    const device = plant("device", `phone of ${randomUUID()}`);
    const memo = plant("memo", `broken ${randomUUID()}`);
    const displayName = plant("name", `broken ${randomUUID()}`);
    const order = { idempotencyKey: randomUUID(), recipientWalletId: friend.walletId, amount: 1n, memo };
    await settled(server.client(AccountService, {}, door).signIn({ email, password, device }));
    await settled(server.client(TransferService, acting, door).sendTransfer(order));
    await settled(server.client(AccountService, acting, door).updateAccount({ displayName }));
    await session.run(["drop trigger broken_insert", "drop trigger broken_update"]);
  }
  session.destroy();
}

/** Two whom everybody may send money to; the first is also signed in. */
let peer: Awaited<ReturnType<typeof signUp>>;
let friend: Person;

beforeAll(async () => {
  peer = await signUp(server, {
    email: plant("e-mail address", `peer.${randomUUID()}@secret.example`),
    balance: 1_000n,
  });
  plant("password", peer.password);
  friend = await openWallet(server);

  await Promise.all(DOORS.map(live));
  await browse();
  for (const door of DOORS) {
    await keepKeys(door);
    for (const method of everyRpc(server)) await stuffEverything(method, door);
    await breakDown(door);
  }
  await babble();
  await server.stop();

  logs = server.logs.join("");
  const db = openDatabase(server.app.config.databaseUrl);
  const texts = (row: object) => Object.values(row).map(String).join(" ");
  records = (await db.selectFrom("auditRecord").selectAll().execute()).map(texts).join("\n");
  const batches = await db.selectFrom("ledgerBatch").select("events").where("number", "is not", null).execute();
  events = batches.map((batch) => unpackEvents(batch.events)).join("\n");
  await db.destroy();
}, 120_000);

test("O4: a planted secret is found in whatever form it is written", () => {
  const ci = [...secrets].find(([, what]) => what === "CI")?.[0] ?? "";
  const pin = [...secrets].find(([, what]) => what === "PIN")?.[0] ?? "";

  for (const secret of [ci, pin]) {
    const bytes = Buffer.from(secret);
    const inside = [0, 1, 2].map((offset) => Buffer.from(`${"x".repeat(offset)}${secret}yy`).toString("base64"));
    for (const form of [secret, encodeURIComponent(secret), bytes.toString("hex"), ...inside]) {
      expect(leaksIn(`before ${form} after`), form).toHaveLength(1);
    }
  }
  expect(leaksIn(`a longer number: 9${pin}9`)).toEqual([]);
});

test("O4: no secret is in the log, even where it says the most", () => {
  expect(logs).toContain('"level":20');
  expect(logs).toContain("ER_SIGNAL_EXCEPTION");
  expect(leaksIn(logs)).toEqual([]);
});

test("O4: no secret is in the audit trail", () => {
  for (const rpc of [
    "SignUp",
    "SetPin",
    "SetIdentity",
    "FinishLink",
    "ChangeAddress",
    "CreateKey",
    "SendTransfer",
    "CloseAccount",
  ]) {
    expect(records).toContain(`/${rpc} 0 0 `);
  }
  expect(leaksIn(records)).toEqual([]);
});

test("O4: no secret is in the events, but for what a chat shows: memos, and what shops are called", () => {
  expect(leaksIn(events).join("\n")).toContain("memo in ");
  expect(leaksIn(events, ["memo", "text for PaymentService/CreatePartner"])).toEqual([]);
});

test("O4: no refusal repeats a secret", () => {
  expect(answers.length).toBeGreaterThan(200);
  expect(leaksIn(answers.join("\n"))).toEqual([]);
});

test("O4: an answer to malformed JSON repeats no value of it", async () => {
  const again = await startServer();
  const texts = await Promise.all(
    ['{"password":987654321}', '{"password":["987654321"]}', '{"password":987654321', '{"password":987654321}}'].map(
      (body) =>
        fetch(`${again.baseUrl}/chatpay.account.v1.AccountService/SignIn`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body,
        }).then((answer) => answer.text()),
    ),
  );
  await again.stop();

  for (const answer of texts) {
    expect(JSON.parse(answer)).toMatchObject({ code: "invalid_argument" });
    expect(answer).not.toContain("87654");
  }
});
