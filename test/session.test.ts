import { createPrivateKey, randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  type JWTHeaderParameters,
  jwtVerify,
  SignJWT,
} from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService } from "../gen/chatpay/account/v1/account_pb.ts";
import { KeyService } from "../gen/chatpay/key/v1/key_pb.ts";
import { createAuthenticate } from "../src/account/authenticate.ts";
import { findAccount } from "../src/account/queries.ts";
import { openSessions } from "../src/account/sessions.ts";
import { publicKeySet } from "../src/account/tokens.ts";
import { readConfig } from "../src/config.ts";
import { tellRevoked } from "../src/revocations.ts";
import { eventsOf, openWallet, personAt, signUp } from "./support/people.ts";
import { startRelay } from "./support/relay.ts";
import { outcomeOf } from "./support/rpcs.ts";
import { type Credential, startServer, type TestServer, testEnvironment } from "./support/server.ts";

const DAY_MS = 24 * 60 * 60_000;
/** How soon another process hears of a revocation; far below the time in which it would ask again. */
const AT_ONCE = { timeout: 2_000, interval: 10 };
/** How long it may believe what has ended while Redis is away, and what a busy machine adds. */
const IN_TIME = { timeout: 10_000 + 3_000, interval: 50 };

const SIGNED_OUT = "Unauthenticated CREDENTIAL_INVALID";
const REFUSED = "Unauthenticated REFRESH_TOKEN_INVALID";
const CLOSED = "NotFound ACCOUNT_NOT_FOUND";

const APP = "https://app.example.com";
const tokenSecret = randomBytes(32);
const secrets = {
  CHATPAY_TOKEN_SECRET: tokenSecret.toString("hex"),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
};

let server: TestServer;
/** Another process of the same deployment; pages of any origin may call it. */
let neighbour: TestServer;

beforeAll(async () => {
  server = await startServer({
    ...secrets,
    CHATPAY_MODE: "production",
    CHATPAY_CORS_ORIGINS: APP,
    CHATPAY_LANE_QUEUE_MAX: "1000",
  });
  neighbour = await startServer({ ...beside(server), CHATPAY_CORS_ORIGINS: `*, ${APP}` });
});
afterAll(async () => {
  await neighbour?.stop();
  await server?.stop();
});

const beside = ({ app }: TestServer) => ({ ...secrets, DATABASE_URL: app.config.databaseUrl });
const accounts = (credential: Credential = {}, at = server) => at.client(AccountService, credential);
const tokensOf = <T>({ tokens }: { tokens?: T }): T => {
  if (!tokens) throw new Error("no tokens came back");
  return tokens;
};

const refresh = async (refreshToken: string, at = server) =>
  tokensOf(await accounts({}, at).refreshTokens({ refreshToken }));

/** Signs the same person in once more. */
const signIn = async ({ email, password }: { email: string; password: string }, device = "") =>
  tokensOf(await accounts().signIn({ email, password, device }));

/** How a call with this access token ends. */
const use = (bearer: string, at = server) => outcomeOf(accounts({ bearer }, at).getAccount({}));
const actFor = (accountId: bigint, at = server) =>
  outcomeOf(accounts({ bearer: server.keys.service, accountId }, at).getAccount({}));

const sessionIdOf = (accessToken: string) => String(decodeJwt(accessToken).sid);

/** Makes a session and its refresh tokens older than they are. */
async function ageSession(accessToken: string, byMs: number) {
  const { db } = server.app;
  const id = BigInt(sessionIdOf(accessToken));
  const older = (time: Date) => new Date(time.getTime() - byMs);
  for (const { tokenHash, expireTime, useTime } of await familyOf(accessToken)) {
    await db
      .updateTable("refreshToken")
      .set({ expireTime: older(expireTime), useTime: useTime && older(useTime) })
      .where("tokenHash", "=", tokenHash)
      .execute();
  }
  const { lastUseTime } = await db.selectFrom("session").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  await db
    .updateTable("session")
    .set({ lastUseTime: older(lastUseTime) })
    .where("id", "=", id)
    .execute();
}

const familyOf = (accessToken: string) =>
  server.app.db
    .selectFrom("refreshToken")
    .selectAll()
    .where("sessionId", "=", BigInt(sessionIdOf(accessToken)))
    .execute();

const reusesOf = async (accountId: bigint) =>
  (await eventsOf(server, accountId)).filter(({ kind }) => kind === "session.reuse_detected");

async function mailsTo(email: string): Promise<string[]> {
  const answer = await fetch(`http://127.0.0.1:${server.inbox.httpPort}/mail?to=${encodeURIComponent(email)}`);
  return ((await answer.json()) as { subject: string }[]).map(({ subject }) => subject);
}

// Tokens

test("A3: a refresh gives a new pair of the same session, without an access token", async () => {
  const { tokens } = await signUp(server);

  const second = await refresh(tokens.refreshToken);
  const third = await refresh(second.refreshToken);

  expect(new Set([tokens, second, third].map(({ refreshToken }) => refreshToken)).size).toBe(3);
  expect(sessionIdOf(third.accessToken)).toBe(sessionIdOf(tokens.accessToken));
  expect(await use(third.accessToken)).toBe("OK");
});

test("A3: a refresh works after the access token has ended, and beside it", async () => {
  const { tokens } = await signUp(server);
  const key = createPrivateKey({
    key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), tokenSecret]),
    format: "der",
    type: "pkcs8",
  });
  const sign = (exp: number) =>
    new SignJWT({ ...decodeJwt(tokens.accessToken), exp })
      .setProtectedHeader(decodeProtectedHeader(tokens.accessToken) as JWTHeaderParameters)
      .sign(key);
  const now = Math.floor(Date.now() / 1000);
  const bearer = await sign(now - 1);
  expect([await use(await sign(now + 60)), await use(bearer)]).toEqual(["OK", SIGNED_OUT]);

  const next = tokensOf(await accounts({ bearer }).refreshTokens({ refreshToken: tokens.refreshToken }));

  expect(await use(next.accessToken)).toBe("OK");
});

test("A3: a refresh that is repeated within ten seconds gets the very same pair, at any process", async () => {
  const { tokens } = await signUp(server);

  const first = await refresh(tokens.refreshToken);
  await sleep(1_100);

  expect(await refresh(tokens.refreshToken, neighbour)).toEqual(first);
});

test("A3: twenty clients that refresh with one token at once get one pair", async () => {
  const { tokens } = await signUp(server);

  const pairs = await Promise.all(
    Array.from({ length: 20 }, (_, i) => refresh(tokens.refreshToken, i % 2 === 0 ? server : neighbour)),
  );

  expect(new Set(pairs.map((pair) => `${pair.accessToken} ${pair.refreshToken}`)).size).toBe(1);
  expect(await familyOf(tokens.accessToken)).toHaveLength(2);
  expect(await use(pairs[0]?.accessToken ?? "")).toBe("OK");
});

test("A3: a used refresh token that comes back ends its session, and is told in the log and by mail", async () => {
  const { accountId, email, tokens } = await signUp(server);
  const next = await refresh(tokens.refreshToken);
  const last = await refresh(next.refreshToken);
  expect(await use(last.accessToken, neighbour)).toBe("OK");

  const thefts = Array.from({ length: 5 }, () => outcomeOf(refresh(tokens.refreshToken)));
  expect(new Set(await Promise.all(thefts))).toEqual(new Set([REFUSED]));

  expect(await outcomeOf(refresh(last.refreshToken))).toBe(REFUSED);
  expect(await use(last.accessToken)).toBe(SIGNED_OUT);
  await expect.poll(() => use(last.accessToken, neighbour), AT_ONCE).toBe(SIGNED_OUT);
  expect(await reusesOf(accountId)).toMatchObject([{ sessionId: sessionIdOf(tokens.accessToken) }]);
  await expect.poll(() => mailsTo(email), { timeout: 5_000 }).toHaveLength(2);
  expect((await mailsTo(email))[0]).toContain("로그아웃");
});

test("A3: ten seconds after its use a refresh token is no retry any more", async () => {
  const { accountId, tokens } = await signUp(server);
  const next = await refresh(tokens.refreshToken);
  await ageSession(tokens.accessToken, 10_001);

  expect(await outcomeOf(refresh(tokens.refreshToken))).toBe(REFUSED);

  expect(await outcomeOf(refresh(next.refreshToken))).toBe(REFUSED);
  expect(await reusesOf(accountId)).toHaveLength(1);
});

test("A3: a token reuse is told in the log although the lane was full", async () => {
  const { db, lane } = server.app;
  const { accountId, tokens } = await signUp(server);
  await refresh((await refresh(tokens.refreshToken)).refreshToken);
  const [locked, freed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const lock = db.transaction().execute(async (trx) => {
    await trx.selectFrom("ledgerHead").selectAll().forUpdate().execute();
    locked.resolve();
    await freed.promise;
  });
  await locked.promise;
  const noise = {
    touches: {},
    decide: (books: { tell(kind: string, of: bigint[], fields: object): void }) => books.tell("noise", [], {}),
  };
  const waiting: Promise<unknown>[] = [];
  const fill = () => {
    for (let i = 0; i < 200; i += 1) waiting.push(outcomeOf(lane.submit(noise)));
    return Promise.race([waiting.at(-1), sleep(20, "waits")]);
  };
  await expect.poll(fill, { timeout: 5_000, interval: 1 }).toBe("ResourceExhausted OVERLOADED");

  expect(await outcomeOf(refresh(tokens.refreshToken))).toBe(REFUSED);
  expect(await use(tokens.accessToken)).toBe(SIGNED_OUT);
  expect(await reusesOf(accountId)).toEqual([]);
  freed.resolve();
  await Promise.all([lock, ...waiting]);

  await expect.poll(() => reusesOf(accountId), { timeout: 10_000 }).toHaveLength(1);
});

test("A3: a refresh token ends after thirty days, and nobody can make one up", async () => {
  const { accountId, tokens } = await signUp(server);
  await ageSession(tokens.accessToken, 30 * DAY_MS);

  expect(await outcomeOf(refresh(tokens.refreshToken))).toBe(REFUSED);
  expect(await outcomeOf(refresh(randomBytes(32).toString("base64url")))).toBe(REFUSED);
  expect(await outcomeOf(refresh(""))).toBe(REFUSED);
  expect(await reusesOf(accountId)).toEqual([]);
});

test("A3: an access token lasts a quarter of an hour at most", async () => {
  const { tokens } = await signUp(server);
  const { iat = 0, exp = 0 } = decodeJwt(tokens.accessToken);

  expect(exp - iat).toBe(15 * 60);
  expect(Number(tokens.accessExpireTime?.seconds)).toBe(exp);
});

test("A3: nobody signs in with what was taken from them meanwhile", async () => {
  const { app } = server;
  const place = { device: "", ip: "" };
  const person = await signUp(server);
  const proved = await findAccount(app.db, person.accountId);
  if (!proved) throw new Error("no account was found");

  await person.accounts.changePassword({ password: person.password, newPassword: "another password" });
  expect(await outcomeOf(openSessions(app).start(proved, place))).toBe("Unauthenticated SIGN_IN_FAILED");

  await person.accounts.closeAccount({});
  const withoutPassword = { ...proved, passwordHash: "" };
  expect(await outcomeOf(openSessions(app).start(withoutPassword, place))).toBe("Unauthenticated SIGN_IN_FAILED");
});

// The keys that sign

/** A process of this deployment with these signing keys. */
function withSecrets(secret: typeof tokenSecret, ...accepted: (typeof tokenSecret)[]) {
  const app = { ...server.app, config: { ...server.app.config, tokenSecret: secret, acceptedTokenSecrets: accepted } };
  const authenticate = createAuthenticate(app);
  const keys = createLocalJWKSet(publicKeySet(app.config));
  return {
    sessions: openSessions(app),
    accepts: (token: string) =>
      outcomeOf((async () => authenticate(new Headers({ authorization: `Bearer ${token}` })))()),
    /** Whether somebody who has fetched the public keys there takes the token. */
    isVerified: (token: string) =>
      jwtVerify(token, keys).then(
        () => true,
        () => false,
      ),
  };
}

test("A3: a new signing key signs nobody out, at no step of its way in", async () => {
  const { tokens } = await signUp(server);
  const next = randomBytes(32);
  const steps = [
    withSecrets(tokenSecret),
    withSecrets(tokenSecret, next),
    withSecrets(next, tokenSecret),
    withSecrets(next),
  ] as const;
  let { refreshToken } = tokens;
  let signed = [tokens.accessToken];

  // While processes are restarted one by one, those of one step run beside those of the next.
  for (let step = 1; step < steps.length; step += 1) {
    const [before, after] = [steps[step - 1], steps[step]] as [(typeof steps)[number], (typeof steps)[number]];
    // Before the last step all tokens of the first key have ended.
    if (step === 3) signed = signed.slice(-1);
    for (const { sessions } of [before, after]) {
      const pair = await sessions.refresh(refreshToken, { ip: "" });
      refreshToken = pair.refreshToken;
      signed.push(pair.accessToken);
    }
    for (const token of signed) {
      expect([step, await before.accepts(token), await after.accepts(token)]).toEqual([step, "OK", "OK"]);
      expect([step, await before.isVerified(token), await after.isVerified(token)]).toEqual([step, true, true]);
    }
  }
  expect(await steps[3].accepts(tokens.accessToken)).toBe(SIGNED_OUT);
});

test("A3: the signing keys that are accepted come from the environment", () => {
  const read = (accepted: string) =>
    readConfig({ ...testEnvironment("mysql://localhost/x", 25), CHATPAY_TOKEN_SECRETS_ACCEPTED: accepted })
      .acceptedTokenSecrets;

  expect(read("")).toEqual([]);
  expect(read(`${"ab".repeat(32)}, ${"cd".repeat(32)}`)).toEqual([Buffer.alloc(32, 0xab), Buffer.alloc(32, 0xcd)]);
  expect(() => read("ab".repeat(31))).toThrow("CHATPAY_TOKEN_SECRETS_ACCEPTED: must be 64 hexadecimal digits");
});

const KEYS = "/.well-known/jwks.json";

test("A3: others verify an access token with the public keys that the server shows", async () => {
  const { accountId, tokens } = await signUp(server);
  const keys = createRemoteJWKSet(new URL(KEYS, server.baseUrl));
  const { issuer } = server.app.config;

  const { payload, protectedHeader } = await jwtVerify(tokens.accessToken, keys, {
    issuer,
    audience: issuer,
    algorithms: ["EdDSA"],
    typ: "at+jwt",
  });

  expect(payload.sub).toBe(String(accountId));
  const { keys: shown } = (await (await fetch(`${server.baseUrl}${KEYS}`)).json()) as { keys: object[] };
  expect(shown).toEqual([
    { kty: "OKP", crv: "Ed25519", x: expect.any(String), kid: protectedHeader.kid, alg: "EdDSA", use: "sig" },
  ]);
});

test("A3: the public keys are a page that may be kept, for GET and HEAD", async () => {
  const ask = (method: string, origin = APP) => fetch(`${server.baseUrl}${KEYS}?v=1`, { method, headers: { origin } });

  const [got, head, posted, foreign] = await Promise.all([
    ask("GET"),
    ask("HEAD"),
    ask("POST"),
    ask("GET", "https://elsewhere.example.com"),
  ]);

  expect([got.status, head.status, posted.status]).toEqual([200, 200, 405]);
  expect(got.headers.get("content-type")).toBe("application/jwk-set+json");
  expect(got.headers.get("cache-control")).toBe("public, max-age=300");
  expect(await head.text()).toBe("");
  expect(head.headers.get("content-length")).toBe(String((await got.text()).length));
  expect(posted.headers.get("allow")).toBe("GET, HEAD");
  expect(got.headers.get("access-control-allow-origin")).toBe(APP);
  expect(foreign.headers.get("access-control-allow-origin")).toBeNull();
});

// Sessions

test("A4: a person sees their open sessions, newest first, with device, address and last use", async () => {
  const person = await signUp(server);
  const phone = await signIn(person, "my phone");
  const list = async () => (await person.accounts.listSessions({})).sessions;

  const [second, first, ...others] = await list();
  expect(others).toEqual([]);
  expect(first).toMatchObject({ id: sessionIdOf(person.tokens.accessToken), current: true, ip: "127.0.0.1" });
  expect(first?.device).toMatch(/grpc-node|connect-es/);
  expect(second).toMatchObject({ id: sessionIdOf(phone.accessToken), current: false, device: "my phone" });
  expect(second?.lastUseTime).toEqual(second?.createTime);

  await sleep(5);
  await refresh(phone.refreshToken);
  const [used] = await list();
  expect(used?.createTime).toEqual(second?.createTime);
  expect(used?.lastUseTime).not.toEqual(second?.lastUseTime);
});

test("A4: a session that ended, or was not used for thirty days, is in no list", async () => {
  const person = await signUp(server);
  const [ended, forgotten] = [await signIn(person), await signIn(person)];
  await accounts({ bearer: ended.accessToken }).signOut({});
  await ageSession(forgotten.accessToken, 30 * DAY_MS);

  const { sessions } = await person.accounts.listSessions({});

  expect(sessions.map(({ id }) => id)).toEqual([sessionIdOf(person.tokens.accessToken)]);
  const again = { sessionId: sessionIdOf(forgotten.accessToken) };
  expect(await outcomeOf(person.accounts.endSession(again))).toBe("NotFound SESSION_NOT_FOUND");
});

test("A4: signing out stops both tokens at once in every process, and no other session", async () => {
  const person = await signUp(server);
  const { accessToken, refreshToken } = await signIn(person);
  expect(await use(accessToken, neighbour)).toBe("OK");

  await accounts({ bearer: accessToken }).signOut({});

  expect(await use(accessToken)).toBe(SIGNED_OUT);
  await expect.poll(() => use(accessToken, neighbour), AT_ONCE).toBe(SIGNED_OUT);
  expect(await outcomeOf(refresh(refreshToken))).toBe(REFUSED);
  expect(await use(person.tokens.accessToken)).toBe("OK");
});

test("A4: a person ends one of their sessions, and nobody else's", async () => {
  const [alice, bob] = [await signUp(server), await signUp(server)];
  const lost = await signIn(alice);
  expect(await use(lost.accessToken, neighbour)).toBe("OK");
  const end = (accessToken: string) => outcomeOf(alice.accounts.endSession({ sessionId: sessionIdOf(accessToken) }));

  expect(await end(lost.accessToken)).toBe("OK");

  expect(await use(lost.accessToken)).toBe(SIGNED_OUT);
  await expect.poll(() => use(lost.accessToken, neighbour), AT_ONCE).toBe(SIGNED_OUT);
  expect(await outcomeOf(refresh(lost.refreshToken))).toBe(REFUSED);
  expect(await end(lost.accessToken)).toBe("NotFound SESSION_NOT_FOUND");
  expect(await end(bob.tokens.accessToken)).toBe("NotFound SESSION_NOT_FOUND");
  expect(await outcomeOf(alice.accounts.endSession({ sessionId: "9999999999999999999" }))).toBe(
    "NotFound SESSION_NOT_FOUND",
  );
  expect([await use(alice.tokens.accessToken), await use(bob.tokens.accessToken)]).toEqual(["OK", "OK"]);
});

test("A4: a person ends all sessions but the one that asks", async () => {
  const person = await signUp(server);
  const others = [await signIn(person), await signIn(person), await signIn(person)];
  for (const { accessToken } of others) expect(await use(accessToken, neighbour)).toBe("OK");

  expect((await person.accounts.endOtherSessions({})).ended).toBe(3);

  for (const { accessToken, refreshToken } of others) {
    expect(await use(accessToken)).toBe(SIGNED_OUT);
    await expect.poll(() => use(accessToken, neighbour), AT_ONCE).toBe(SIGNED_OUT);
    expect(await outcomeOf(refresh(refreshToken))).toBe(REFUSED);
  }
  expect(await use(person.tokens.accessToken)).toBe("OK");
  expect((await person.accounts.endOtherSessions({})).ended).toBe(0);
});

// What processes remember

test("A5: a key that is revoked stops working at once in every process", async () => {
  const bearer = await server.makeKey("operator");
  const operator = server.client(KeyService, { bearer: server.keys.operator });
  const look = (at: TestServer) => outcomeOf(at.client(KeyService, { bearer }).listKeys({}));
  expect([await look(server), await look(neighbour)]).toEqual(["OK", "OK"]);
  const [newest] = (await operator.listKeys({})).keys;

  await operator.revokeKey({ keyId: newest?.id ?? "" });

  expect(await look(server)).toBe(SIGNED_OUT);
  await expect.poll(() => look(neighbour), AT_ONCE).toBe(SIGNED_OUT);
});

test("A5: an account that is closed is at once nobody's in every process", async () => {
  const person = await signUp(server);
  const { accountId, tokens } = person;
  const other = await signIn(person);
  for (const at of [server, neighbour]) {
    expect([await actFor(accountId, at), await use(other.accessToken, at)]).toEqual(["OK", "OK"]);
  }

  await person.accounts.closeAccount({});

  for (const at of [server, neighbour]) {
    await expect.poll(() => actFor(accountId, at), AT_ONCE).toBe(CLOSED);
    for (const { accessToken } of [tokens, other]) {
      await expect.poll(() => use(accessToken, at), AT_ONCE).toBe(SIGNED_OUT);
    }
  }
  expect(await actFor(accountId)).toBe(CLOSED);
  expect(await outcomeOf(refresh(other.refreshToken))).toBe(REFUSED);
});

test("A5: a session of a closed account is not open, although nobody ended it", async () => {
  const { accountId, tokens } = await signUp(server);
  await server.app.db.updateTable("account").set({ state: 2 }).where("id", "=", accountId).execute();

  expect(await use(tokens.accessToken, neighbour)).toBe(SIGNED_OUT);
  expect(await outcomeOf(refresh(tokens.refreshToken))).toBe(REFUSED);
  expect(await actFor(accountId, neighbour)).toBe(CLOSED);
});

test("A5: signing out holds against calls that are being authenticated meanwhile", async () => {
  const person = await signUp(server);
  for (let round = 0; round < 5; round += 1) {
    const { accessToken } = await signIn(person);
    const during = Promise.all(Array.from({ length: 10 }, () => use(accessToken)));
    await accounts({ bearer: accessToken }).signOut({});

    const after = await Promise.all(Array.from({ length: 10 }, () => use(accessToken)));
    expect(new Set(after)).toEqual(new Set([SIGNED_OUT]));
    expect(["OK", SIGNED_OUT]).toEqual(expect.arrayContaining(await during));
  }
});

/** Whether a revocation in one process reaches the other just now. */
async function hearsOf({ app }: TestServer, other: TestServer): Promise<boolean> {
  const heard = once(other.app.revocations, "revoked", { signal: AbortSignal.timeout(100) });
  await tellRevoked(app, 1n);
  return heard.then(
    () => true,
    () => false,
  );
}

test.for(["is gone", "is silent"])(
  "A5: while Redis %s, another process believes what has ended for ten seconds at most, and then hears again",
  { timeout: 40_000 },
  async (how) => {
    const relay = await startRelay(server.app.config.redisUrl);
    const distant = await startServer({ ...beside(server), REDIS_URL: relay.url });
    try {
      const [alice, bob, carol, dave, erin] = await Promise.all(Array.from({ length: 5 }, () => signUp(server)));
      if (!alice || !bob || !carol || !dave || !erin) throw new Error("not all have signed up");
      expect(await use(alice.tokens.accessToken, distant)).toBe("OK");
      expect(await use(erin.tokens.accessToken)).toBe("OK");
      expect(await actFor(bob.accountId, distant)).toBe("OK");

      if (how === "is gone") relay.cut();
      else relay.hush();
      expect(await actFor(carol.accountId, distant)).toBe("OK");
      // Whoever revokes may be the one that Redis is away from.
      await personAt(distant, erin).accounts.signOut({});
      await alice.accounts.signOut({});
      for (const person of [bob, carol]) await person.accounts.closeAccount({});
      const end = Date.now() + IN_TIME.timeout;
      const leftMs = () => ({ timeout: end - Date.now(), interval: IN_TIME.interval });
      await expect.poll(() => use(alice.tokens.accessToken, distant), leftMs()).toBe(SIGNED_OUT);
      await expect.poll(() => use(erin.tokens.accessToken), leftMs()).toBe(SIGNED_OUT);
      for (const { accountId } of [bob, carol])
        await expect.poll(() => actFor(accountId, distant), leftMs()).toBe(CLOSED);

      // Who was met with silence makes a new connection.
      if (how === "is gone") relay.mend();
      await expect.poll(() => hearsOf(server, distant), { timeout: 10_000 }).toBe(true);
      expect(await actFor(dave.accountId, distant)).toBe("OK");
      await dave.accounts.closeAccount({});
      await expect.poll(() => actFor(dave.accountId, distant), AT_ONCE).toBe(CLOSED);
    } finally {
      await distant.stop();
      await relay.close();
    }
  },
);

test("A5: who is known is recognised without waiting", async () => {
  const { accountId } = await openWallet(server);
  const person = await signUp(server);
  const authenticate = createAuthenticate(server.app);
  const asChat = new Headers({
    authorization: `Bearer ${server.keys.service}`,
    "chatpay-account-id": String(accountId),
  });
  const asPerson = new Headers({ authorization: `bearer ${person.tokens.accessToken}` });
  await Promise.all([authenticate(asChat), authenticate(asPerson)]);

  expect(authenticate(asChat)).toMatchObject({ kind: "service", accountId });
  expect(authenticate(asPerson)).toMatchObject({ kind: "person", accountId: person.accountId });
  expect(authenticate(new Headers())).toEqual({ kind: "anyone" });
});

// Cookies

const PATH = "/chatpay.account.v1.AccountService/";

/** A browser: it keeps the cookies of the server, and no script sees them. */
function openBrowser(at: TestServer, origin?: string) {
  let jar = "";
  const call = async (rpc: string, request: object, more: Record<string, string> = {}) => {
    const response = await fetch(`${at.baseUrl}${PATH}${rpc}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(origin && { origin }),
        ...(jar && { cookie: `theme=dark; ${jar}` }),
        ...more,
      },
      body: JSON.stringify(request),
    });
    const [set] = response.headers.getSetCookie();
    if (set !== undefined) jar = set.includes("Max-Age=0") ? "" : (set.split(";", 1)[0] ?? "");
    const body = (await response.json()) as { tokens?: Record<string, string>; code?: string; details?: unknown[] };
    return { status: response.status, set, headers: response.headers, body };
  };
  return { call, jar: () => jar };
}

test("A13: a browser signs in, refreshes and signs out with a cookie that no script reads", async () => {
  const { email, password } = await signUp(server);
  const browser = openBrowser(server, APP);

  const entered = await browser.call("SignIn", { email, password, refreshCookie: true });
  expect(entered.status).toBe(200);
  expect(entered.set).toMatch(
    /^chatpay_refresh=[\w-]{43}; Max-Age=\d+; Path=\/chatpay\.account\.v1\.AccountService\/; HttpOnly; SameSite=Strict; Secure$/,
  );
  expect(Number(/Max-Age=(\d+)/.exec(entered.set ?? "")?.[1])).toBeCloseTo((30 * DAY_MS) / 1000, -2);
  expect(entered.headers.get("access-control-allow-credentials")).toBe("true");
  expect(entered.body.tokens?.refreshToken).toBeUndefined();
  const first = browser.jar();

  const refreshed = await browser.call("RefreshTokens", {});
  expect(refreshed.status).toBe(200);
  expect(refreshed.body.tokens?.refreshToken).toBeUndefined();
  expect(browser.jar()).toMatch(/^chatpay_refresh=/);
  expect(browser.jar()).not.toBe(first);
  const bearer = refreshed.body.tokens?.accessToken ?? "";
  expect(await use(bearer)).toBe("OK");
  expect((await browser.call("RefreshTokens", {})).status).toBe(200);

  const left = await browser.call("SignOut", {}, { authorization: `Bearer ${bearer}` });
  expect(left.set).toMatch(/^chatpay_refresh=; Max-Age=0; Path=\/chatpay\.account\.v1\.AccountService\/;/);
  expect(browser.jar()).toBe("");
  expect(await use(bearer)).toBe(SIGNED_OUT);
  expect((await browser.call("RefreshTokens", {})).status).toBe(401);
});

test("A13: without TLS, a cookie in development mode is not for secure connections only", async () => {
  const { email, password } = await signUp(server);

  const { set } = await openBrowser(neighbour).call("SignIn", { email, password, refreshCookie: true });

  expect(set).toMatch(/; HttpOnly; SameSite=Strict$/);
});

test("A13: who asks for no cookie gets none, and a token in the request counts before a cookie", async () => {
  const person = await signUp(server);
  const browser = openBrowser(server);
  const plain = await browser.call("SignIn", { email: person.email, password: person.password });
  expect([plain.set, plain.body.tokens?.refreshToken]).toEqual([undefined, expect.any(String)]);
  await browser.call("SignIn", { email: person.email, password: person.password, refreshCookie: true });
  const cookie = browser.jar();

  const { body, set } = await browser.call("RefreshTokens", { refreshToken: person.tokens.refreshToken });

  expect(set).toBeUndefined();
  expect(sessionIdOf(body.tokens?.accessToken ?? "")).toBe(sessionIdOf(person.tokens.accessToken));
  expect(browser.jar()).toBe(cookie);
  expect((await browser.call("RefreshTokens", {})).status).toBe(200);
});

test("A13: the cookie is of no use to pages that are neither listed by name nor of the host", async () => {
  const { email, password } = await signUp(server);
  const own = openBrowser(neighbour, neighbour.baseUrl);
  expect((await own.call("SignIn", { email, password, refreshCookie: true })).status).toBe(200);
  const cookie = own.jar();
  const refreshFrom = (origin: string) => openBrowser(neighbour, origin).call("RefreshTokens", {}, { cookie });

  for (const origin of ["https://elsewhere.example.com", "http://127.0.0.1:1", "null", "app.example.com"]) {
    const refused = await refreshFrom(origin);
    expect([origin, refused.status, refused.set]).toEqual([origin, 401, undefined]);
    expect(refused.headers.get("access-control-allow-credentials")).toBeNull();
    const entered = await openBrowser(neighbour, origin).call("SignIn", { email, password, refreshCookie: true });
    expect([origin, entered.status, entered.set]).toEqual([origin, 400, undefined]);
  }

  const listed = await refreshFrom(APP);
  expect([listed.status, listed.headers.get("access-control-allow-credentials")]).toEqual([200, "true"]);
  expect((await own.call("RefreshTokens", {})).status).toBe(200);
});

test("A13: two cookies of the name count as none, since another host may have put one there", async () => {
  const { email, password } = await signUp(server);
  const browser = openBrowser(server);
  await browser.call("SignIn", { email, password, refreshCookie: true });

  const twice = { cookie: `${browser.jar()}; chatpay_refresh=${"x".repeat(43)}` };

  expect((await browser.call("RefreshTokens", {}, twice)).status).toBe(401);
  expect((await browser.call("RefreshTokens", {})).status).toBe(200);
});

test("A13: gRPC has no cookies", async () => {
  const { email, password } = await signUp(server);
  const browser = openBrowser(server);
  await browser.call("SignIn", { email, password, refreshCookie: true });

  expect(await outcomeOf(accounts().signIn({ email, password, refreshCookie: true }))).toBe(
    "InvalidArgument REQUEST_INVALID",
  );
  expect(await outcomeOf(accounts().refreshTokens({}, { headers: { cookie: browser.jar() } }))).toBe(REFUSED);
  expect((await browser.call("RefreshTokens", {})).status).toBe(200);
});
