import { createPrivateKey, generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { availableParallelism, constants, getPriority, platform } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { decodeJwt, decodeProtectedHeader, type JWTHeaderParameters, type JWTPayload, SignJWT } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { addressOf } from "../src/account/address.ts";
import { openAttempts } from "../src/account/attempts.ts";
import { createAuthenticate } from "../src/account/authenticate.ts";
import { openCodes } from "../src/account/codes.ts";
import { hashPassword, verifyPassword } from "../src/account/passwords.ts";
import { unpackEvents } from "../src/ledger/queries.ts";
import { openWallet } from "./support/people.ts";
import { type Credential, startServer, type TestServer } from "./support/server.ts";

const PASSWORD = "correct horse battery";
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const tokenSecret = randomBytes(32);

let server: TestServer;
/** Another process of the same deployment. */
let neighbour: TestServer;

beforeAll(async () => {
  const secrets = {
    CHATPAY_TOKEN_SECRET: tokenSecret.toString("hex"),
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  };
  server = await startServer(secrets);
  neighbour = await startServer({ ...secrets, DATABASE_URL: server.app.config.databaseUrl });
});
afterAll(async () => {
  await neighbour?.stop();
  await server?.stop();
});

const accounts = (credential: Credential = {}, at = server) => at.client(AccountService, credential);
const newAddress = () => `${randomUUID()}@example.com`;

const sendCode = (email: string) => accounts().sendCode({ email, purpose: CodePurpose.SIGN_UP, language: "en" });

/** The texts of the mails to the address, newest first. */
async function mailsTo(email: string): Promise<string[]> {
  const answer = await fetch(`http://127.0.0.1:${server.inbox.httpPort}/mail?to=${email}`);
  return ((await answer.json()) as { text: string }[]).map(({ text }) => text);
}

/** What the address was mailed after `sendCode`. */
async function codeMail(email: string): Promise<string> {
  const before = (await mailsTo(email)).length;
  await sendCode(email);
  await expect.poll(() => mailsTo(email), { timeout: 5_000 }).toHaveLength(before + 1);
  return (await mailsTo(email))[0] ?? "";
}

async function proveAddress(email = newAddress()) {
  const code = /\b\d{6}\b/.exec(await codeMail(email))?.[0] ?? "";
  return { email, code, password: PASSWORD, displayName: "Alice" };
}

async function signUp() {
  const proof = await proveAddress();
  const { account, tokens } = await accounts().signUp(proof);
  if (!account || !tokens) throw new Error("no account came back");
  return { ...proof, account, tokens };
}

async function refresh(refreshToken: string) {
  const { tokens } = await accounts().refreshTokens({ refreshToken });
  if (!tokens) throw new Error("no tokens came back");
  return tokens;
}

const getOwn = (bearer: string, at = server) => accounts({ bearer }, at).getAccount({});

/** Everything that a refused call says. */
async function refusalOf(call: Promise<unknown>) {
  const failure = await call.then(
    () => new Error("the call was not refused"),
    (error: unknown) => error,
  );
  const error = ConnectError.from(failure);
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    code: error.code,
    message: error.rawMessage,
    reason: info?.reason,
    metadata: info?.metadata,
    retryAfterS: retry?.retryDelay && Number(retry.retryDelay.seconds),
  };
}

const reasonOf = async (call: Promise<unknown>) => (await refusalOf(call)).reason;

/** Makes a code in Redis older than it is. */
async function ageCodes(byMs: number) {
  const { redis } = server.app;
  for (const key of await redis.keys("chatpay:code:*")) {
    await redis.pexpire(key, Math.max(1, (await redis.pttl(key)) - byMs));
  }
  await sleep(5);
}

/** Makes the refresh tokens of a session older than they are. */
async function ageSession(accessToken: string, byMs: number) {
  const { db } = server.app;
  const sessionId = BigInt(decodeJwt(accessToken).sid as string);
  const older = (time: Date) => new Date(time.getTime() - byMs);
  for (const token of await db.selectFrom("refreshToken").selectAll().where("sessionId", "=", sessionId).execute()) {
    await db
      .updateTable("refreshToken")
      .set({ expireTime: older(token.expireTime), useTime: token.useTime && older(token.useTime) })
      .where("tokenHash", "=", token.tokenHash)
      .execute();
  }
}

/** The events of this kind that concern the account. */
async function eventsOf(accountId: string, kind: string) {
  const batches = await server.app.db.selectFrom("ledgerBatch").select("events").where("eventCount", ">", 0).execute();
  return batches
    .flatMap(({ events }) => JSON.parse(unpackEvents(events)) as { kind: string; accounts: string[] }[])
    .filter((event) => event.kind === kind && event.accounts.includes(accountId));
}

/** The same app, with a Redis that is away for good. */
async function withoutRedis<T>(work: (app: TestServer["app"]) => Promise<T>): Promise<T> {
  const redis = new Redis({ port: 1, maxRetriesPerRequest: 0, retryStrategy: null });
  redis.on("error", () => {});
  try {
    return await work({ ...server.app, redis });
  } finally {
    redis.disconnect();
  }
}

// Sign-up

test("a mailed code opens an account with its main wallet, and signs in", async () => {
  const { email, account, tokens } = await signUp();

  const { account: own } = await getOwn(tokens.accessToken);
  expect(own).toEqual(account);
  expect(own).toMatchObject({ email, displayName: "Alice" });
  const wallet = await server.app.db
    .selectFrom("wallet")
    .selectAll()
    .where("id", "=", BigInt(account.mainWalletId))
    .executeTakeFirstOrThrow();
  expect(wallet).toMatchObject({ accountId: BigInt(account.id), kind: 1, state: 1, currency: "KRW", balance: 0n });
  expect(await eventsOf(account.id, "account.opened")).toHaveLength(1);
});

test("a code works once, for its address only", async () => {
  const alice = await proveAddress();
  const bob = await proveAddress();

  expect(await reasonOf(accounts().signUp({ ...bob, code: alice.code }))).toBe(Reason.CODE_INVALID);
  await accounts().signUp(alice);
  expect(await reasonOf(accounts().signUp(alice))).toBe(Reason.CODE_INVALID);
  await accounts().signUp(bob);
});

test("a code works for its purpose only", async () => {
  const codes = openCodes(server.app);
  const address = { key: randomBytes(16) };
  const { code } = await codes.make({ address, purpose: CodePurpose.SIGN_UP });
  const spend = (purpose: CodePurpose) => codes.spend({ address, purpose }, code, () => Promise.resolve("spent"));

  expect(await reasonOf(spend(CodePurpose.SIGN_IN))).toBe(Reason.CODE_INVALID);
  expect(await spend(CodePurpose.SIGN_UP)).toBe("spent");
});

test("a code stands five tries", async () => {
  const [lucky, unlucky] = [await proveAddress(), await proveAddress()];
  const guess = (proof: typeof lucky) =>
    reasonOf(accounts().signUp({ ...proof, code: proof.code === "000000" ? "000001" : "000000" }));

  for (let i = 0; i < 4; i += 1) expect(await guess(lucky)).toBe(Reason.CODE_INVALID);
  await accounts().signUp(lucky);
  for (let i = 0; i < 5; i += 1) expect(await guess(unlucky)).toBe(Reason.CODE_INVALID);
  expect(await reasonOf(accounts().signUp(unlucky))).toBe(Reason.CODE_INVALID);
});

test("a code ends after ten minutes", async () => {
  const proof = await proveAddress();
  const { expireTime } = await sendCode(newAddress());

  await ageCodes(10 * MINUTE_MS);

  expect(Number(expireTime?.seconds) - Date.now() / 1000).toBeCloseTo(600, -1);
  expect(await reasonOf(accounts().signUp(proof))).toBe(Reason.CODE_INVALID);
});

test("the next code can be sent after a minute, and takes the place of the one before", async () => {
  const first = await proveAddress();

  const tooSoon = await refusalOf(sendCode(first.email));
  expect(tooSoon).toMatchObject({ code: Code.ResourceExhausted, reason: Reason.TOO_MANY_ATTEMPTS });
  expect(tooSoon.retryAfterS).toBeGreaterThan(50);
  expect(tooSoon.retryAfterS).toBeLessThanOrEqual(60);

  await ageCodes(MINUTE_MS);
  const second = await proveAddress(first.email);
  expect(await reasonOf(accounts().signUp(first))).toBe(Reason.CODE_INVALID);
  await accounts().signUp(second);
});

test("a used or worn-out code lets nobody send the next before its minute", async () => {
  const used = await signUp();
  const worn = await proveAddress();
  for (let i = 0; i < 6; i += 1) await reasonOf(accounts().signUp({ ...worn, code: "000000" }));

  expect(await reasonOf(sendCode(used.email))).toBe(Reason.TOO_MANY_ATTEMPTS);
  expect(await reasonOf(sendCode(worn.email))).toBe(Reason.TOO_MANY_ATTEMPTS);
});

test("twenty sign-ups with one code open one account", async () => {
  const proof = await proveAddress();

  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => accounts().signUp(proof)));

  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  const rows = await server.app.db.selectFrom("account").select("id").where("email", "=", proof.email).execute();
  expect(rows).toHaveLength(1);
});

test("an address has one account, which only the right code tells", async () => {
  const { account, ...person } = await signUp();
  const address = addressOf(server.app.config.hashSecret, { email: person.email, phone: "" });
  await ageCodes(MINUTE_MS);
  const { code } = await openCodes(server.app).make({ address, purpose: CodePurpose.SIGN_UP });

  const wrongCode = code === "000000" ? "000001" : "000000";
  expect(await reasonOf(accounts().signUp({ ...person, code: wrongCode }))).toBe(Reason.CODE_INVALID);
  expect(await refusalOf(accounts().signUp({ ...person, code }))).toMatchObject({
    code: Code.AlreadyExists,
    reason: Reason.ADDRESS_TAKEN,
  });
  expect(await eventsOf(account.id, "account.opened")).toHaveLength(1);
});

test("a password that is the address is refused, and costs no code", async () => {
  const proof = await proveAddress();
  const localPart = proof.email.slice(0, proof.email.indexOf("@"));

  for (const password of [proof.email, proof.email.toUpperCase(), localPart, localPart.toUpperCase()]) {
    expect(await reasonOf(accounts().signUp({ ...proof, password }))).toBe(Reason.PASSWORD_TOO_SIMPLE);
  }
  await accounts().signUp(proof);
});

test("without Redis no code is sent or proved, and passwords still work", async () => {
  await withoutRedis(async (app) => {
    const address = { key: randomBytes(16) };
    const claim = { address, purpose: CodePurpose.SIGN_UP };
    expect(await reasonOf(openCodes(app).make(claim))).toBe(Reason.DEPENDENCY_UNAVAILABLE);
    const spend = openCodes(app).spend(claim, "123456", () => Promise.resolve());
    expect(await reasonOf(spend)).toBe(Reason.DEPENDENCY_UNAVAILABLE);

    const attempts = openAttempts(app);
    const guess = (isRight: boolean) => attempts.guard({ address: address.key }, async () => isRight || undefined);
    for (let i = 0; i < 10; i += 1) expect(await reasonOf(guess(false))).toBe(Reason.SIGN_IN_FAILED);
    expect(await reasonOf(guess(true))).toBe(Reason.TOO_MANY_ATTEMPTS);
    await attempts.forget({ address: address.key });
    expect(await guess(true)).toBe(true);
  });
});

// What an answer tells of an address

test("asking for a code answers the same for an address with an account, whose owner is told by mail", async () => {
  const { email } = await signUp();
  await ageCodes(MINUTE_MS);

  const forKnown = await sendCode(email.toUpperCase());
  const forUnknown = await sendCode(newAddress());

  const [sinceKnown, sinceUnknown] = [forKnown, forUnknown].map(({ expireTime, resendTime }) =>
    Number((expireTime?.seconds ?? 0n) - (resendTime?.seconds ?? 0n)),
  );
  expect(sinceKnown).toBe(sinceUnknown);
  await ageCodes(MINUTE_MS);
  const told = await codeMail(email);
  expect(told).toContain("already has an account");
  expect(told).not.toMatch(/\d{6}/);
});

test("signing in fails the same, and as slowly, with a wrong password and an unknown address", async () => {
  const { email } = await signUp();
  const fail = (address: string) => accounts().signIn({ email: address, password: "not the password" });
  const times: Record<string, number[]> = { known: [], unknown: [] };

  for (let i = 0; i < 5; i += 1) {
    for (const [name, address] of [
      ["known", email],
      ["unknown", newAddress()],
    ] as const) {
      const start = performance.now();
      const refusal = await refusalOf(fail(address));
      times[name]?.push(performance.now() - start);
      expect(refusal).toEqual(await refusalOf(fail(newAddress())));
      expect(refusal).toMatchObject({ code: Code.Unauthenticated, reason: Reason.SIGN_IN_FAILED, metadata: {} });
    }
  }

  const [known, unknown] = [times.known, times.unknown].map((all = []) => Math.min(...all)) as [number, number];
  expect(unknown / known).toBeGreaterThan(0.2);
  expect(unknown / known).toBeLessThan(5);
});

// Sign-in

test("a password signs in, in whatever letters the address is written", async () => {
  const { email, account } = await signUp();

  const answer = await accounts().signIn({ email: email.toUpperCase(), password: PASSWORD });

  expect(answer.account).toEqual(account);
  expect((await getOwn(answer.tokens?.accessToken ?? "")).account).toEqual(account);
});

test("ten wrong passwords close an address for a while, known or not", async () => {
  const { email } = await signUp();
  for (const address of [email, newAddress()]) {
    const guesses = Array.from({ length: 12 }, () => accounts().signIn({ email: address, password: "not it" }));
    const reasons = await Promise.all(guesses.map(reasonOf));
    expect(reasons.filter((reason) => reason === Reason.SIGN_IN_FAILED)).toHaveLength(10);

    const refusal = await refusalOf(accounts().signIn({ email: address, password: PASSWORD }));
    expect(refusal).toMatchObject({ code: Code.ResourceExhausted, reason: Reason.TOO_MANY_ATTEMPTS });
    expect(refusal.retryAfterS).toBeGreaterThan(14 * 60);
  }
});

test("the right password clears the wrong ones before it", async () => {
  const { email } = await signUp();

  for (let round = 0; round < 2; round += 1) {
    for (let i = 0; i < 9; i += 1) await reasonOf(accounts().signIn({ email, password: "not it" }));
    const { account } = await accounts().signIn({ email, password: PASSWORD });
    expect(account?.email).toBe(email);
  }
});

test("a password is the same in composed and decomposed letters", async () => {
  const stored = await hashPassword("비밀번호입니다".normalize("NFC"));

  expect(stored).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  expect(await verifyPassword("비밀번호입니다".normalize("NFD"), stored)).toBe(true);
  expect(await verifyPassword("비밀번호입니까", stored)).toBe(false);
});

const HASHED_AT_ONCE = Math.max(1, Math.floor(availableParallelism() / 2));

test.runIf(platform() === "linux")("A2: passwords are hashed by processes that yield to all others", async () => {
  await Promise.all(Array.from({ length: 2 * HASHED_AT_ONCE }, () => hashPassword(PASSWORD)));

  const priorities = (await childrenOf(process.pid)).map((pid) => getPriority(pid));
  expect(priorities.filter((priority) => priority === constants.priority.PRIORITY_LOW)).toHaveLength(HASHED_AT_ONCE);
  expect(getPriority()).toBe(constants.priority.PRIORITY_NORMAL);
});

test.runIf(platform() === "linux")(
  "A2: a process that hashes may die, and the next password starts another",
  async () => {
    await hashPassword(PASSWORD);
    for (const pid of await childrenOf(process.pid)) {
      if (getPriority(pid) === constants.priority.PRIORITY_LOW) process.kill(pid, "SIGKILL");
    }

    await vi.waitFor(async () => expect(await verifyPassword(PASSWORD, await hashPassword(PASSWORD))).toBe(true));
  },
);

async function childrenOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(threads.map((id) => readFile(`/proc/${pid}/task/${id}/children`, "utf8")));
  return lists.flatMap((list) => list.split(" ").filter(Boolean).map(Number));
}

test("more passwords than can wait are refused at once", async () => {
  const outcomes = await Promise.all(
    Array.from({ length: 108 + HASHED_AT_ONCE }, () =>
      hashPassword(PASSWORD).then(
        () => "hashed",
        (error: unknown) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason,
      ),
    ),
  );

  // One that was hashed before may still have its turn, for the rest that follows.
  const hashed = outcomes.filter((outcome) => outcome === "hashed").length;
  expect(hashed).toBeGreaterThanOrEqual(100);
  expect(hashed).toBeLessThanOrEqual(100 + HASHED_AT_ONCE);
  expect(outcomes.filter((outcome) => outcome === Reason.OVERLOADED)).toHaveLength(outcomes.length - hashed);
});

// Sessions

test("a refresh gives a new pair of the same session, without an access token", async () => {
  const { account, tokens } = await signUp();

  const second = await refresh(tokens.refreshToken);
  const third = await refresh(second.refreshToken);

  expect(new Set([tokens, second, third].map(({ refreshToken }) => refreshToken)).size).toBe(3);
  expect(decodeJwt(third.accessToken).sid).toBe(decodeJwt(tokens.accessToken).sid);
  expect((await getOwn(third.accessToken)).account).toEqual(account);
});

test("an access token that ended does not keep its holder from refreshing", async () => {
  const { account, tokens } = await signUp();

  const answer = await accounts({ bearer: "ended" }).refreshTokens({ refreshToken: tokens.refreshToken });

  expect((await getOwn(answer.tokens?.accessToken ?? "")).account).toEqual(account);
});

test("a refresh that is repeated within ten seconds gets the very same pair", async () => {
  const { tokens } = await signUp();

  const first = await refresh(tokens.refreshToken);
  await sleep(1_100);
  const again = await accounts({}, neighbour).refreshTokens({ refreshToken: tokens.refreshToken });

  expect(again.tokens).toEqual(first);
});

test("twenty refreshes of one token at once get the same pair", async () => {
  const { tokens } = await signUp();

  const all = await Promise.all(Array.from({ length: 20 }, () => refresh(tokens.refreshToken)));

  expect(new Set(all.map(({ refreshToken }) => refreshToken)).size).toBe(1);
  expect(new Set(all.map(({ accessToken }) => accessToken)).size).toBe(1);
  const sessionId = BigInt(decodeJwt(tokens.accessToken).sid as string);
  const family = server.app.db.selectFrom("refreshToken").selectAll().where("sessionId", "=", sessionId);
  expect(await family.execute()).toHaveLength(2);
});

test("a used refresh token that comes back ends the session, once its next was used", async () => {
  const { account, tokens } = await signUp();
  const next = await refresh(tokens.refreshToken);
  const last = await refresh(next.refreshToken);
  await getOwn(last.accessToken);

  const thefts = Array.from({ length: 5 }, () => reasonOf(refresh(tokens.refreshToken)));
  expect(new Set(await Promise.all(thefts))).toEqual(new Set([Reason.REFRESH_TOKEN_INVALID]));

  expect(await reasonOf(refresh(last.refreshToken))).toBe(Reason.REFRESH_TOKEN_INVALID);
  expect(await reasonOf(getOwn(last.accessToken))).toBe(Reason.CREDENTIAL_INVALID);
  expect(await eventsOf(account.id, "session.reuse_detected")).toMatchObject([
    { sessionId: decodeJwt(tokens.accessToken).sid },
  ]);
});

test("a used refresh token that comes back after ten seconds ends the session", async () => {
  const { account, tokens } = await signUp();
  const next = await refresh(tokens.refreshToken);
  await ageSession(tokens.accessToken, 10_001);

  expect(await reasonOf(refresh(tokens.refreshToken))).toBe(Reason.REFRESH_TOKEN_INVALID);

  expect(await reasonOf(refresh(next.refreshToken))).toBe(Reason.REFRESH_TOKEN_INVALID);
  expect(await eventsOf(account.id, "session.reuse_detected")).toHaveLength(1);
});

test("a refresh token ends after thirty days, and nobody can make one up", async () => {
  const { account, tokens } = await signUp();
  await ageSession(tokens.accessToken, 30 * DAY_MS);

  expect(await reasonOf(refresh(tokens.refreshToken))).toBe(Reason.REFRESH_TOKEN_INVALID);
  expect(await reasonOf(refresh(randomBytes(32).toString("base64url")))).toBe(Reason.REFRESH_TOKEN_INVALID);
  expect(await eventsOf(account.id, "session.reuse_detected")).toEqual([]);
});

test("signing out stops both tokens at once, in every process, and no other session", async () => {
  const { email, tokens } = await signUp();
  const { tokens: other } = await accounts().signIn({ email, password: PASSWORD });
  await Promise.all([getOwn(tokens.accessToken), getOwn(tokens.accessToken, neighbour)]);

  await accounts({ bearer: tokens.accessToken }).signOut({});

  expect(await reasonOf(getOwn(tokens.accessToken))).toBe(Reason.CREDENTIAL_INVALID);
  await expect
    .poll(() => reasonOf(getOwn(tokens.accessToken, neighbour)), { timeout: 1_000 })
    .toBe(Reason.CREDENTIAL_INVALID);
  expect(await reasonOf(refresh(tokens.refreshToken))).toBe(Reason.REFRESH_TOKEN_INVALID);
  await getOwn(other?.accessToken ?? "");
});

test("signing out holds against calls that are being authenticated meanwhile", async () => {
  for (let round = 0; round < 5; round += 1) {
    const { tokens } = await signUp();
    const use = () => getOwn(tokens.accessToken);
    const during = Promise.all(
      Array.from({ length: 10 }, () =>
        use().then(
          () => "served",
          () => reasonOf(use()),
        ),
      ),
    );
    await accounts({ bearer: tokens.accessToken }).signOut({});

    const after = Array.from({ length: 10 }, () => reasonOf(use()));
    expect(new Set(await Promise.all(after))).toEqual(new Set([Reason.CREDENTIAL_INVALID]));
    expect(["served", Reason.CREDENTIAL_INVALID]).toEqual(expect.arrayContaining(await during));
  }
});

// Forged access tokens

test("an access token lasts a quarter of an hour at most", async () => {
  const { tokens } = await signUp();
  const { iat = 0, exp = 0 } = decodeJwt(tokens.accessToken);

  expect(exp - iat).toBe(15 * 60);
  expect(Number(tokens.accessExpireTime?.seconds)).toBe(exp);
});

test("an access token that was not made as ours are is refused", async () => {
  const { tokens } = await signUp();
  const honest = tokens.accessToken;
  const header = decodeProtectedHeader(honest) as JWTHeaderParameters;
  const payload = decodeJwt(honest);
  const ours = createPrivateKey({
    key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), tokenSecret]),
    format: "der",
    type: "pkcs8",
  });
  const foreign = generateKeyPairSync("ed25519").privateKey;
  const sign = (claims: JWTPayload, key = ours, head = header) =>
    new SignJWT(claims).setProtectedHeader(head).sign(key);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const [head, body, signature] = honest.split(".") as [string, string, string];

  // The same way of signing makes a token that is accepted, so each of the others fails for its own reason.
  await getOwn(await sign(payload));

  const forged = {
    "alg none": `${part({ ...header, alg: "none" })}.${body}.`,
    "alg none with a signature": `${part({ ...header, alg: "none" })}.${body}.${signature}`,
    "HMAC with the public key": await new SignJWT(payload)
      .setProtectedHeader({ ...header, alg: "HS256" })
      .sign(Buffer.from(header.kid ?? "")),
    "another key": await sign(payload, foreign),
    "another key with its own id": await sign(payload, foreign, { ...header, kid: "theirs" }),
    "no key id": await sign(payload, ours, { alg: header.alg, typ: header.typ }),
    "another type": await sign(payload, ours, { ...header, typ: "JWT" }),
    "another audience": await sign({ ...payload, aud: "elsewhere" }),
    "another issuer": await sign({ ...payload, iss: "elsewhere" }),
    "no audience": await sign({ ...payload, aud: undefined }),
    "an ended one": await sign({ ...payload, exp: Math.floor(Date.now() / 1000) - 1 }),
    "one without an end": await sign({ ...payload, exp: undefined }),
    "one without a session": await sign({ ...payload, sid: undefined }),
    "another person's id": `${head}.${part({ ...payload, sub: "1" })}.${signature}`,
    "a session that is none": await sign({ ...payload, sid: "1" }),
    "one cut short": honest.slice(0, -8),
    "one without a signature": `${head}.${body}.`,
    "two parts": `${head}.${body}`,
    nothing: "",
    text: "not-a-token",
  };
  for (const [name, token] of Object.entries(forged)) {
    expect([name, await reasonOf(getOwn(token))]).toEqual([name, Reason.CREDENTIAL_INVALID]);
  }
});

test("a known credential is recognised without waiting", async () => {
  const { accountId } = await openWallet(server);
  const { account, tokens } = await signUp();
  const authenticate = createAuthenticate({ ...server.app });
  const asChat = new Headers({
    authorization: `Bearer ${server.keys.service}`,
    "chatpay-account-id": String(accountId),
  });
  const asPerson = new Headers({ authorization: `bearer ${tokens.accessToken}` });
  await Promise.all([authenticate(asChat), authenticate(asPerson)]);

  expect(authenticate(asChat)).toMatchObject({ kind: "service", accountId });
  expect(authenticate(asPerson)).toMatchObject({ kind: "person", accountId: BigInt(account.id) });
  expect(authenticate(new Headers())).toEqual({ kind: "anyone" });
});

// Profiles

test("people see and change their own profile, and nothing tells whether another's exists", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const asAlice = accounts({ bearer: alice.tokens.accessToken });

  const { account } = await asAlice.updateAccount({ displayName: "앨리스 🐇" });
  expect(account).toMatchObject({ id: alice.account.id, displayName: "앨리스 🐇" });
  expect((await asAlice.updateAccount({})).account).toEqual(account);
  expect((await asAlice.getAccount({ accountId: alice.account.id })).account).toEqual(account);

  const others = await refusalOf(asAlice.getAccount({ accountId: bob.account.id }));
  const nobodys = await refusalOf(asAlice.getAccount({ accountId: "4611686018427387904" }));
  expect(others).toMatchObject({ code: Code.NotFound, metadata: { account_id: bob.account.id } });
  expect({ ...others, metadata: {} }).toEqual({ ...nobodys, metadata: {} });
});

test("an operator sees any account by its id", async () => {
  const { account } = await signUp();
  const operator = accounts({ bearer: server.keys.operator });

  expect((await operator.getAccount({ accountId: account.id })).account).toEqual(account);
  expect(await reasonOf(operator.getAccount({}))).toBe(Reason.ACCOUNT_NOT_FOUND);
  expect(await reasonOf(operator.getAccount({ accountId: "9999999999999999999" }))).toBe(Reason.ACCOUNT_NOT_FOUND);
});

// After all that

test("no log line holds an address, a code, a password, a token or a key", async () => {
  const { email, code, tokens } = await signUp();
  await refresh(tokens.refreshToken);
  await reasonOf(accounts().signIn({ email, password: "planted-secret" }));

  const logs = server.logs.join("\n");

  const secrets = [email, `"${code}"`, PASSWORD, "planted-secret", tokens.refreshToken, server.keys.service];
  for (const secret of [...secrets, tokens.accessToken.split(".")[2] ?? "", "@example.com"]) {
    expect(logs).not.toContain(secret);
  }
});
