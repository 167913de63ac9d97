import { createSecretKey, randomBytes, randomUUID } from "node:crypto";
import { decodeJwt, type JWTPayload, SignJWT } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService } from "../gen/chatpay/account/v1/account_pb.ts";
import { Scope } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { LedgerService } from "../gen/chatpay/ledger/v1/ledger_pb.ts";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { Health } from "../gen/health/v1/health_pb.ts";
import { readConfig } from "../src/config.ts";
import { createKey, revokeKey } from "../src/key/key.ts";
import { balanceOf, openPartner, openWallet, type Person, signUp } from "./support/people.ts";
import { DOORS, errorOf, everyRpc, outcomeOf } from "./support/rpcs.ts";
import { type Door, makeDatabase, startServer, type TestServer, testEnvironment } from "./support/server.ts";
import { callOverHttp1, callOverHttp2, type Lines } from "./support/wire.ts";

const GATEWAY_SECRET = randomBytes(32).toString("hex");
const LIST_WALLETS = "chatpay.wallet.v1.WalletService/ListWallets";
const INVALID = "Unauthenticated CREDENTIAL_INVALID";

let account: TestServer;
let money: TestServer;
/** Everything in one, and no gateway in front. */
let whole: TestServer;
let alice: Awaited<ReturnType<typeof signUp>>;
let bob: Person;

beforeAll(async () => {
  const common = {
    DATABASE_URL: await makeDatabase(),
    CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  };
  const apart = { ...common, CHATPAY_GATEWAY_SECRET: GATEWAY_SECRET };
  whole = await startServer(common);
  account = await startServer({ ...apart, CHATPAY_ROLES: "account" });
  money = await startServer({ ...apart, CHATPAY_ROLES: "money" });
  alice = await signUp(account, { balance: 1_000n });
  bob = await openWallet(money, { balance: 500n });
});

afterAll(() => Promise.all([whole, account, money].map((server) => server.stop())));

/** Asks the account server who calls with these headers, as a gateway does. */
async function resolve(headers: Record<string, string>, path = "/resolve", method = "GET") {
  const answer = await fetch(`${account.internalUrl}${path}`, { method, headers });
  return { status: answer.status, token: answer.headers.get("chatpay-caller") ?? "", body: await answer.text() };
}

const personal = () => ({ authorization: `Bearer ${alice.tokens.accessToken}` });
const acting = (id = bob.accountId) => ({
  authorization: `Bearer ${money.keys.service}`,
  "chatpay-account-id": String(id),
});

/** The wallets of whoever the headers say, as the money server lists them. */
async function wallets(
  headers: Record<string, string>,
  { server = money, door }: { server?: TestServer; door?: Door } = {},
) {
  const { wallets: found } = await server.client(WalletService, {}, door).listWallets({}, { headers });
  return found.map(({ id }) => id);
}

const refused = (headers: Record<string, string>, server = money, door: Door = "grpc") =>
  outcomeOf(wallets(headers, { server, door }));

test("O7: a server serves the services of its roles, and all of them if none is named", async () => {
  const servicesOf = (server: TestServer) => [...new Set(everyRpc(server).map(({ parent }) => parent.name))].toSorted();
  const [accountServices, moneyServices] = [servicesOf(account), servicesOf(money)];

  expect(accountServices).toContain("AccountService");
  expect(moneyServices).toEqual([
    "BankService",
    "LedgerService",
    "PaymentService",
    "RequestService",
    "ScheduleService",
    "TransferService",
    "WalletService",
  ]);
  expect([...accountServices, ...moneyServices].toSorted()).toEqual(servicesOf(whole));
  for (const door of DOORS) {
    const strange = await outcomeOf(
      money.client(AccountService, {}, door).signIn({ email: "a@example.com", password: "x" }),
    );
    expect(strange).toMatch(/^Unimplemented /);
    expect(await outcomeOf(account.client(WalletService, {}, door).listWallets({}))).toMatch(/^Unimplemented /);
    const known = await account.client(Health, {}, door).list({});
    expect(Object.keys(known.statuses)).not.toContain(LedgerService.typeName);
  }
});

test("O7: a worker runs the jobs and answers nobody but us, and others run none", async () => {
  const databaseUrl = await makeDatabase();
  const idle = await startServer({ DATABASE_URL: databaseUrl, CHATPAY_ROLES: "account,money" });
  const known = () => idle.app.db.selectFrom("job").select(["name", "runs"]).execute();
  expect(await known()).toEqual([]);
  const metricsAt = async (server: TestServer) => (await fetch(`${server.internalUrl}/metrics`)).text();

  const worker = await startServer({ DATABASE_URL: databaseUrl, CHATPAY_ROLES: "worker" });

  await expect.poll(known).toContainEqual({ name: "account.sessions", runs: 1n });
  expect((await fetch(`${worker.internalUrl}/healthz`)).status).toBe(200);
  expect(await metricsAt(worker)).toContain('chatpay_job_due{job="account.closed"} 0');
  expect(await metricsAt(worker)).toContain('chatpay_job_runs_total{job="account.sessions",outcome="done"} 1');
  expect(await metricsAt(idle)).not.toContain("{job=");
  expect([worker.baseUrl, worker.grpcUrl]).toEqual(["http://127.0.0.1:0", "http://127.0.0.1:0"]);
  await worker.stop();
  await idle.stop();
});

test("O7: a role that does not exist is named", () => {
  const env = testEnvironment("mysql://root@127.0.0.1/x", 1);

  expect(readConfig({ ...env, CHATPAY_ROLES: " money , account,money" }).roles).toEqual(["account", "money"]);
  expect(() => readConfig({ ...env, CHATPAY_ROLES: "money,bank" })).toThrow(/^CHATPAY_ROLES: .*account, money, worker/);
  expect(() => readConfig({ ...env, CHATPAY_GATEWAY_SECRET: "short" })).toThrow(/^CHATPAY_GATEWAY_SECRET: /);
});

test("O7: the gateway asks once, and the money server knows the caller, of whichever kind", async () => {
  const shop = await openPartner(money);
  const callers: [headers: Record<string, string>, walletId: string][] = [
    [personal(), alice.walletId],
    [acting(), bob.walletId],
    [{ authorization: `Bearer ${shop.bearer}` }, shop.walletId],
  ];

  for (const [headers, walletId] of callers) {
    const { status, token } = await resolve(headers);
    expect(status).toBe(200);
    for (const door of DOORS) expect(await wallets({ "chatpay-caller": token }, { door })).toEqual([walletId]);
  }
  const { token } = await resolve({ authorization: `Bearer ${money.keys.operator}` });
  const operator = money
    .client(WalletService)
    .getWallet({ walletId: bob.walletId }, { headers: { "chatpay-caller": token } });
  expect((await operator).wallet?.balance).toBe(500n);
});

test("O7: whoever moves money through the gateway moves their own", async () => {
  const { token } = await resolve(acting());
  const order = { idempotencyKey: randomUUID(), recipientWalletId: alice.walletId, amount: 100n };

  for (const door of DOORS) {
    const through = money
      .client(TransferService, {}, door)
      .sendTransfer(order, { headers: { "chatpay-caller": token } });
    expect((await through).transfer).toMatchObject({ senderWalletId: bob.walletId, amount: 100n });
  }
  expect(await balanceOf(bob)).toBe(400n);
});

test("O7: a key may do behind the gateway what its scopes say, until it is revoked", async () => {
  const scopes = [Scope.WALLETS_READ];
  const { key, row } = await createKey(money.app, { kind: "service", name: "reads", scopes });
  const headers = { authorization: `Bearer ${key}`, "chatpay-account-id": String(bob.accountId) };
  const told = { headers: { "chatpay-caller": (await resolve(headers)).token } };
  const order = { idempotencyKey: randomUUID(), recipientWalletId: alice.walletId, amount: 100n };

  expect(await wallets(told.headers)).toEqual([bob.walletId]);
  const sent = money.client(TransferService).sendTransfer(order, told);
  expect(await outcomeOf(sent)).toBe("PermissionDenied SCOPE_MISSING");

  await revokeKey(account.app, row.id);
  await expect.poll(() => refused(told.headers)).toBe(INVALID);
});

test("O7: a caller token says ids and scopes, and lives thirty seconds at most", async () => {
  const { token } = await resolve(acting());
  const { iat = 0, exp = 0, ...claims } = decodeJwt(token);

  expect(exp - iat).toBe(30);
  expect(exp - Date.now() / 1000).toBeLessThanOrEqual(30);
  expect(claims).toMatchObject({ iss: "chatpay/gateway", aud: "chatpay/servers" });
  expect(claims.caller).toEqual({
    kind: "service",
    keyId: expect.stringMatching(/^\d+$/),
    accountId: String(bob.accountId),
    walletId: bob.walletId,
  });
  expect((await resolve(acting())).token.length).toBe(token.length);
});

test("O7: the gateway is told why a credential opens nothing", async () => {
  const { token } = await resolve(personal());
  const cases: [headers: Record<string, string>, status: number, reason: string][] = [
    [{}, 401, "REASON_CREDENTIAL_MISSING"],
    [{ authorization: "Bearer nobody" }, 401, "REASON_CREDENTIAL_INVALID"],
    [{ ...personal(), "chatpay-account-id": "5" }, 400, "REASON_ACTING_ACCOUNT_INVALID"],
    [{ authorization: acting().authorization }, 400, "REASON_ACTING_ACCOUNT_INVALID"],
    [acting(4242n), 404, "REASON_ACCOUNT_NOT_FOUND"],
    // A token is no credential here: it could be renewed for ever.
    [{ "chatpay-caller": token }, 401, "REASON_CREDENTIAL_INVALID"],
    [{ ...personal(), "chatpay-caller": token }, 401, "REASON_CREDENTIAL_INVALID"],
  ];

  for (const [headers, status, reason] of cases) {
    const answer = await resolve(headers);
    expect([answer.status, answer.token, answer.body]).toEqual([status, "", expect.stringContaining(reason)]);
  }
});

test("O7: a gateway may ask with the path and the method of the call, and only where it is meant to", async () => {
  const asked = await resolve(personal(), `/resolve/${LIST_WALLETS}`, "POST");

  expect(await wallets({ "chatpay-caller": asked.token })).toEqual([alice.walletId]);
  expect((await resolve(personal(), "/resolved")).status).toBe(404);
  for (const server of [money, whole]) {
    expect((await fetch(`${server.internalUrl}/resolve`, { headers: personal() })).status).toBe(404);
  }
  expect((await fetch(`${account.baseUrl}/resolve`, { headers: personal() })).status).toBe(404);
});

test("O7: a forged caller token is refused, and never passed over for a credential that is good", async () => {
  const honest = (await resolve(personal())).token;
  const secret = createSecretKey(Buffer.from(GATEWAY_SECRET, "hex"));
  const claims = decodeJwt(honest);
  const head = { alg: "HS256", typ: "chatpay-caller+jwt" };
  const sign = (payload: JWTPayload, { key = secret, header = head } = {}) =>
    new SignJWT(payload).setProtectedHeader(header).sign(key);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const [, body, signature] = honest.split(".") as [string, string, string];
  const now = Math.floor(Date.now() / 1000);
  const victim = { kind: "person", accountId: String(bob.accountId), walletId: bob.walletId, sessionId: "1" };

  // The same way of signing makes a token that is accepted, so each of the others fails for its own reason.
  expect(await wallets({ "chatpay-caller": await sign(claims) })).toEqual([alice.walletId]);

  const forged: Record<string, string> = {
    "plain words": "person 1",
    JSON: JSON.stringify(victim),
    "alg none": `${part({ ...head, alg: "none" })}.${body}.`,
    "alg none with a signature": `${part({ ...head, alg: "none" })}.${body}.${signature}`,
    "somebody else's claims": `${part(head)}.${part({ ...claims, caller: victim })}.${signature}`,
    "another secret": await sign(claims, { key: createSecretKey(randomBytes(32)) }),
    "the secret as text": await sign(claims, { key: createSecretKey(Buffer.from(GATEWAY_SECRET)) }),
    "another HMAC": await sign(claims, {
      header: { ...head, alg: "HS512" },
      key: createSecretKey(Buffer.concat([secret.export(), secret.export()])),
    }),
    "another type": await sign(claims, { header: { ...head, typ: "at+jwt" } }),
    "another issuer": await sign({ ...claims, iss: "chatpay" }),
    "another audience": await sign({ ...claims, aud: "chatpay" }),
    "an ended one": await sign({ ...claims, exp: now - 1 }),
    "one without an end": await sign({ ...claims, exp: undefined }),
    "one without a caller": await sign({ ...claims, caller: undefined }),
    "a caller of no kind": await sign({ ...claims, caller: { ...victim, kind: "anyone" } }),
    "an id that is none": await sign({ ...claims, caller: { ...victim, accountId: "1 or 1" } }),
    "a session that is none": await sign({ ...claims, caller: victim }),
    "a token cut short": honest.slice(0, -4),
    "an access token": alice.tokens.accessToken,
    "an API key": money.keys.operator,
    "two tokens": `${honest}, ${honest}`,
    nothing: "",
  };
  for (const [name, token] of Object.entries(forged)) {
    for (const headers of [{ "chatpay-caller": token }, { ...personal(), "chatpay-caller": token }]) {
      expect([name, await refused(headers)]).toEqual([name, INVALID]);
      expect([name, await refused(headers, money, "connect")]).toEqual([name, INVALID]);
    }
  }
  const good = await refused({ authorization: `Bearer ${honest}` });
  expect(good).toBe(INVALID);
});

test("O7: on the wire too, a caller token comes once, alone, in plain letters", async () => {
  const { token } = await resolve(personal());
  const other = (await resolve(acting())).token;
  const cases: [name: string, lines: Lines, outcome: string][] = [
    ["once", [["chatpay-caller", token]], "OK"],
    [
      "doubled",
      [
        ["chatpay-caller", token],
        ["chatpay-caller", token],
      ],
      INVALID,
    ],
    [
      "two of them",
      [
        ["chatpay-caller", token],
        ["chatpay-caller", other],
      ],
      INVALID,
    ],
    [
      "beside a credential",
      [
        ["authorization", personal().authorization],
        ["chatpay-caller", token],
      ],
      INVALID,
    ],
    [
      "in other letters, beside a credential",
      [
        ["authorization", personal().authorization],
        ["chatpay-caller", "caf\u00e9"],
      ],
      INVALID,
    ],
    ["as bytes", [["chatpay-caller-bin", Buffer.from(token).toString("base64")]], "Unauthenticated CREDENTIAL_MISSING"],
    [
      "with an account it does not name",
      [
        ["chatpay-caller", other],
        ["chatpay-account-id", String(alice.accountId)],
      ],
      "InvalidArgument ACTING_ACCOUNT_INVALID",
    ],
    [
      "with the account it names",
      [
        ["chatpay-caller", other],
        ["chatpay-account-id", String(bob.accountId)],
      ],
      "OK",
    ],
    [
      "of a person, with an account",
      [
        ["chatpay-caller", token],
        ["chatpay-account-id", String(alice.accountId)],
      ],
      "InvalidArgument ACTING_ACCOUNT_INVALID",
    ],
  ];

  for (const [name, lines, outcome] of cases) {
    expect([name, await callOverHttp2(money.grpcUrl, LIST_WALLETS, lines)]).toEqual([name, outcome]);
    expect([name, await callOverHttp2(money.baseUrl, LIST_WALLETS, lines)]).toEqual([name, outcome]);
    expect([name, await callOverHttp1(money.baseUrl, LIST_WALLETS, lines)]).toEqual([name, outcome]);
  }
  const capitals: Lines = [
    ["CHATPAY-CALLER", token],
    ["Chatpay-Caller", token],
  ];
  expect(await callOverHttp1(money.baseUrl, LIST_WALLETS, capitals.slice(1))).toBe("OK");
  expect(await callOverHttp1(money.baseUrl, LIST_WALLETS, capitals)).toBe(INVALID);
});

test("O7: a server without the secret believes no caller token", async () => {
  const { token } = await resolve(personal());

  for (const door of DOORS) {
    expect(await refused({ "chatpay-caller": token }, whole, door)).toBe(INVALID);
    expect(await refused({ ...personal(), "chatpay-caller": token }, whole, door)).toBe(INVALID);
    expect(await wallets(personal(), { server: whole, door })).toEqual([alice.walletId]);
  }
});

test("O7: a call that is for anyone is refused with a forged caller token too", async () => {
  const signIn = { email: alice.email, password: alice.password };

  for (const door of DOORS) {
    const forged = account.client(AccountService, {}, door).signIn(signIn, { headers: { "chatpay-caller": "x" } });
    expect(await outcomeOf(forged)).toBe(INVALID);
  }
});

test("O7: who signs out is out at once, in spite of a caller token that still lives", async () => {
  const person = await signUp(account);
  const { token } = await resolve({ authorization: `Bearer ${person.tokens.accessToken}` });
  expect(await wallets({ "chatpay-caller": token })).toEqual([person.walletId]);

  await person.accounts.signOut({});

  await expect.poll(() => refused({ "chatpay-caller": token })).toBe(INVALID);
  expect((await resolve({ authorization: `Bearer ${person.tokens.accessToken}` })).status).toBe(401);
});

test("O7: the servers need no gateway: each finds out by itself", async () => {
  expect(await wallets(personal())).toEqual([alice.walletId]);
  expect(await wallets(acting())).toEqual([bob.walletId]);
  expect((await errorOf(wallets({}))).message).toContain("authorization");
});
