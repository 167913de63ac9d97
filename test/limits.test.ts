import { randomBytes, randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { openTokens } from "../src/account/tokens.ts";
import { openPoints } from "../src/rpc/points.ts";
import { openPartner, openWallet, signUp } from "./support/people.ts";
import { startRelay } from "./support/relay.ts";
import { DOORS, errorOf, outcomeOf } from "./support/rpcs.ts";
import { type Credential, type Door, makeDatabase, redisUrl, startServer, type TestServer } from "./support/server.ts";

const LIMITED = "ResourceExhausted RATE_LIMITED";
const INVALID = "Unauthenticated CREDENTIAL_INVALID";
const WINDOW_S = 10;

/** Two processes over one database and one Redis, and one of them without limits, where people sign up. */
let servers: [TestServer, TestServer];
let open: TestServer;

beforeAll(async () => {
  const shared = {
    DATABASE_URL: await makeDatabase(),
    CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  };
  const limited = {
    ...shared,
    CHATPAY_TRUSTED_PROXIES: "127.0.0.1",
    CHATPAY_LIMIT_READ: "6",
    CHATPAY_LIMIT_WRITE: "4",
    CHATPAY_LIMIT_ENTER: "10",
    CHATPAY_LIMIT_SERVICE: "20",
    CHATPAY_LIMIT_PARTNER: "5",
    CHATPAY_LIMIT_FAILED_CREDENTIALS: "5",
  };
  open = await startServer(shared);
  servers = [await startServer(limited), await startServer(limited)];
});
afterAll(async () => {
  await Promise.all([open, ...servers].map((server) => server.stop()));
});

/** Nobody else's address: Redis counts for all tests of the run. */
const randomIp = () => `2001:db8:${randomBytes(2).toString("hex")}:${randomBytes(2).toString("hex")}::1`;

const getAccount = (server: TestServer, credential: Credential, door?: Door, headers = {}) =>
  outcomeOf(server.client(AccountService, credential, door).getAccount({}, { headers }));

const sendCode = (server: TestServer, ip: string, door?: Door) =>
  outcomeOf(
    server
      .client(AccountService, {}, door)
      .sendCode(
        { email: `${randomUUID()}@example.com`, purpose: CodePurpose.SIGN_UP },
        { headers: { "x-forwarded-for": ip } },
      ),
  );

/** How many calls ended in each way. */
function tally(outcomes: string[]) {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** Calls at once, by turns at both doors of both processes. */
const spread = (count: number, callAt: (server: TestServer, door: Door) => Promise<string>) =>
  Promise.all(
    Array.from({ length: count }, (_, i) => callAt(servers[i % 2] as TestServer, DOORS[(i >> 1) % 2] as Door)),
  );

test("limits: a small limit is exact over both doors of two processes", async () => {
  const { accountId } = await openWallet(servers[0]);
  const bearer = await servers[0].makeKey("service");

  const outcomes = await spread(60, (server, door) => getAccount(server, { bearer, accountId }, door));

  expect(tally(outcomes)).toEqual({ OK: 20, [LIMITED]: 40 });
});

test("limits: a refusal says when to come back, at both doors", async () => {
  const { accountId } = await openWallet(servers[0]);
  const bearer = await servers[0].makeKey("service");
  await spread(20, (server, door) => getAccount(server, { bearer, accountId }, door));

  for (const door of DOORS) {
    const error = await errorOf(servers[0].client(AccountService, { bearer, accountId }, door).getAccount({}));
    const [retry] = error.findDetails(RetryInfoSchema);

    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: Reason.RATE_LIMITED }]);
    const seconds = Number(retry?.retryDelay?.seconds) + (retry?.retryDelay?.nanos ?? 0) / 1e9;
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(WINDOW_S);
  }
});

test("limits: one caller's limit leaves others alone", async () => {
  const { accountId } = await openWallet(servers[0]);
  const [loud, quiet] = [await servers[0].makeKey("service"), await servers[0].makeKey("service")];
  await spread(30, (server, door) => getAccount(server, { bearer: loud, accountId }, door));

  expect(await getAccount(servers[0], { bearer: loud, accountId })).toBe(LIMITED);
  expect(await getAccount(servers[0], { bearer: quiet, accountId })).toBe("OK");
});

test("limits: a person's reads and writes are counted apart, and by account", async () => {
  const [alice, bob] = [(await signUp(open)).credential, (await signUp(open)).credential];
  const write = (credential: Credential) => (server: TestServer, door: Door) =>
    outcomeOf(server.client(AccountService, credential, door).updateAccount({ displayName: "Alice" }));

  const writes = await spread(8, write(alice));
  const reads = await spread(10, (server, door) => getAccount(server, alice, door));

  expect(tally(writes)).toEqual({ OK: 4, [LIMITED]: 4 });
  expect(tally(reads)).toEqual({ OK: 6, [LIMITED]: 4 });
  expect(tally(await spread(4, write(bob)))).toEqual({ OK: 4 });
});

test("limits: a partner has one limit for all its keys", async () => {
  const partner = await openPartner(servers[0]);
  const bearers = [partner.bearer, await servers[0].makeKey("partner", BigInt(partner.partnerId))];

  const outcomes = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      outcomeOf(servers[0].client(WalletService, { bearer: bearers[i % 2] }).listWallets({})),
    ),
  );

  expect(tally(outcomes)).toEqual({ OK: 5, [LIMITED]: 7 });
});

test("limits: who has no credential is counted by address, however many addresses codes are asked for", async () => {
  const [loud, quiet] = [randomIp(), randomIp()];

  const outcomes = await spread(25, (server, door) => sendCode(server, loud, door));

  expect(tally(outcomes)).toEqual({ OK: 10, [LIMITED]: 15 });
  // Whoever has one address of an IPv6 network has them all.
  expect(await sendCode(servers[0], loud.replace("::1", "::2:3"))).toBe(LIMITED);
  expect(await sendCode(servers[0], quiet)).toBe("OK");
});

test("limits: many wrong credentials from an address are refused unread, and lock no good one out", async () => {
  const ip = randomIp();
  const [server] = servers;
  const headers = { "x-forwarded-for": ip };
  const { accountId } = await openWallet(server);
  const [known, unknown] = [await server.makeKey("service"), await server.makeKey("service")];
  const { tokens } = await signUp(open);
  expect(await getAccount(server, { bearer: known, accountId }, "grpc", headers)).toBe("OK");

  const wrong = [];
  for (let i = 0; i < 8; i += 1) {
    wrong.push(await getAccount(server, { bearer: `not.a.token${i}`, accountId }, DOORS[i % 2], headers));
  }

  expect(wrong).toEqual([...Array.from({ length: 5 }, () => INVALID), LIMITED, LIMITED, LIMITED]);
  // A key that nobody knows yet would have to be looked up.
  expect(await getAccount(server, { bearer: unknown, accountId }, "grpc", headers)).toBe(LIMITED);
  expect(await getAccount(server, { bearer: known, accountId }, "grpc", headers)).toBe("OK");
  expect(await getAccount(server, { bearer: tokens.accessToken }, "grpc", headers)).toBe("OK");
  expect(await getAccount(server, { bearer: unknown, accountId }, "grpc", { "x-forwarded-for": randomIp() })).toBe(
    "OK",
  );
});

test("limits: a wrong credential that comes again and again counts once", async () => {
  const [server] = servers;
  const headers = { "x-forwarded-for": randomIp() };
  const { accountId } = await openWallet(server);
  const bearer = await server.makeKey("service");

  for (let i = 0; i < 20; i += 1) {
    expect(await getAccount(server, { bearer: "not.a.token", accountId }, "grpc", headers)).toBe(INVALID);
  }

  expect(await getAccount(server, { bearer, accountId }, "grpc", headers)).toBe("OK");
});

test("limits: tokens that have expired are no guesses", async () => {
  const [server] = servers;
  const headers = { "x-forwarded-for": randomIp() };
  const { accountId } = await openWallet(server);
  const bearer = await server.makeKey("service");
  const { tokens } = await signUp(open);
  const { sub = "", wid, sid } = decodeJwt<{ wid: string; sid: string }>(tokens.accessToken);
  const person = { accountId: BigInt(sub), walletId: BigInt(wid), sessionId: BigInt(sid) };

  for (let minutes = 16; minutes < 26; minutes += 1) {
    const { token } = await openTokens(server.app.config).sign(person, new Date(Date.now() - minutes * 60_000));
    expect(await getAccount(server, { bearer: token }, DOORS[minutes % 2], headers)).toBe(INVALID);
  }

  expect(await getAccount(server, { bearer, accountId }, "grpc", headers)).toBe("OK");
});

test("limits: wrong passwords, codes and credentials are counted apart", async () => {
  const headers = { "x-forwarded-for": randomIp() };
  const { email, password, credential } = await signUp(open);
  const accounts = open.client(AccountService);
  for (let i = 0; i < 10; i += 1) await outcomeOf(accounts.signIn({ email, password: "wrong-pass" }, { headers }));
  for (let i = 0; i < 10; i += 1) await getAccount(servers[0], { bearer: `not.a.token${i}` }, "grpc", headers);

  expect(await outcomeOf(accounts.signIn({ email, password }, { headers }))).toBe(
    "ResourceExhausted TOO_MANY_ATTEMPTS",
  );
  expect(await outcomeOf(accounts.sendCode({ email, purpose: CodePurpose.SIGN_IN }, { headers }))).toBe("OK");
  expect(await outcomeOf(accounts.signInWithCode({ email, code: "000000" }, { headers }))).toBe(
    "InvalidArgument CODE_INVALID",
  );
  expect(await getAccount(servers[0], credential, "grpc", headers)).toBe("OK");
});

test("limits: refusals are in the metrics, by class", async () => {
  const ip = randomIp();
  for (let i = 0; i < 12; i += 1) await sendCode(servers[0], ip);

  const metrics = await (await fetch(`${servers[0].internalUrl}/metrics`)).text();

  expect(metrics).toMatch(/^chatpay_rate_limited_total\{class="enter"\} [1-9]/m);
  expect(metrics).toMatch(/^chatpay_rate_fallback_total \d/m);
});

test("limits: 0 is no limit", async () => {
  const server = await startServer({ CHATPAY_LIMIT_SERVICE: "0" });
  const { accountId } = await openWallet(server);
  const calls = Array.from({ length: 200 }, () => getAccount(server, { bearer: server.keys.service, accountId }));

  expect(tally(await Promise.all(calls))).toEqual({ OK: 200 });
  await server.stop();
});

// Points, of two processes that share a Redis

function openProcess(max: number, { windowS = 60, url = redisUrl() } = {}) {
  const redis = new Redis(url, { maxRetriesPerRequest: 1, commandTimeout: 1_000, retryStrategy: () => 20 });
  redis.on("error", () => {});
  const seen = { fallbacks: 0 };
  const points = openPoints({ redis, name: "test", max, windowS, onFallback: () => (seen.fallbacks += 1) });
  /** How many of so many calls there were points for. */
  async function granted(key: string, calls: number) {
    const waits = await Promise.all(Array.from({ length: calls }, async () => points.spend(key)));
    return waits.filter((waitMs) => waitMs === 0).length;
  }
  return { redis, seen, points, granted, [Symbol.dispose]: () => redis.disconnect() };
}

test("limits: what processes have taken for themselves is never more than there is, and little of it is lost", async () => {
  const max = 10_037;
  using one = openProcess(max);
  using other = openProcess(max);
  await Promise.all([one.redis.ping(), other.redis.ping()]);
  const key = randomUUID();

  let granted = 0;
  for (let i = 0; i < 40; i += 1) {
    granted += await one.granted(key, 300);
    granted += await other.granted(key, 7);
  }

  expect(granted).toBeLessThanOrEqual(max);
  // Each process may have a chunk of a hundredth in its hands, and another one under way.
  expect(granted).toBeGreaterThanOrEqual(9_600);
  expect(one.seen.fallbacks + other.seen.fallbacks).toBe(0);
});

test("limits: most calls of a busy caller ask nobody", async () => {
  using process = openProcess(10_000);
  await process.redis.ping();
  const key = randomUUID();

  let waited = 0;
  for (let i = 0; i < 5_000; i += 1) {
    const wait = process.points.spend(key);
    if (typeof wait !== "number") {
      waited += 1;
      await wait;
    }
  }

  expect(waited).toBeLessThanOrEqual(60);
});

test("limits: when a window is over there are points again", async () => {
  using process = openProcess(3, { windowS: 1 });
  await process.redis.ping();
  const key = randomUUID();
  expect(await process.granted(key, 5)).toBe(3);
  const waitMs = await process.points.spend(key);
  expect(waitMs).toBeGreaterThan(0);

  await new Promise((resolve) => setTimeout(resolve, waitMs));

  await vi.waitFor(async () => expect(await process.granted(key, 1)).toBe(1));
});

test.for(["cut", "hush"] as const)(
  "limits: without Redis (%s) each process counts for itself, and together again with it",
  async (loss) => {
    const relay = await startRelay(redisUrl());
    using far = openProcess(5, { url: relay.url });
    using near = openProcess(5);
    await Promise.all([far.redis.ping(), near.redis.ping()]);

    relay[loss]();
    const key = randomUUID();
    const apart = [await far.granted(key, 20), await near.granted(key, 20)];

    expect(apart).toEqual([5, 5]);
    expect(far.seen.fallbacks).toBeGreaterThan(0);

    relay.mend();
    await vi.waitFor(
      async () => {
        const fresh = randomUUID();
        const together = await Promise.all([far.granted(fresh, 20), near.granted(fresh, 20)]);
        expect(together[0] + together[1]).toBe(5);
      },
      { timeout: 10_000, interval: 100 },
    );
    await relay.close();
  },
);
