import { argon2, randomBytes, randomInt, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Code, ConnectError } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { addressOf } from "../src/account/address.ts";
import { type Claim, openCodes } from "../src/account/codes.ts";
import { type Message, write } from "../src/account/messages.ts";
import { unpackEvents } from "../src/ledger/queries.ts";
import { startRelay } from "./support/relay.ts";
import { redisUrl, startServer, type TestServer } from "./support/server.ts";

const PASSWORD = "correct horse battery";
const MINUTE_MS = 60_000;
const { SIGN_UP, SIGN_IN, RESET_PASSWORD, CHANGE_ADDRESS, SET_PIN, CONFIRM } = CodePurpose;
const PURPOSES = [SIGN_UP, SIGN_IN, RESET_PASSWORD, CHANGE_ADDRESS, SET_PIN, CONFIRM];

const secrets = {
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
};

let server: TestServer;
/** Another process of the same deployment, which sends its messages to the same inboxes. */
let neighbour: TestServer;

beforeAll(async () => {
  server = await startServer(secrets);
  neighbour = await startServer(sameDeployment());
});
afterAll(async () => {
  await neighbour?.stop();
  await server?.stop();
});

const sameDeployment = () => ({
  ...secrets,
  DATABASE_URL: server.app.config.databaseUrl,
  CHATPAY_SMTP_URL: server.app.config.smtpUrl,
  CHATPAY_SMS_URL: server.app.config.sms?.baseUrl,
});

const accounts = (bearer?: string, at = server) => at.client(AccountService, { bearer });

type Address = { email: string } | { phone: string };
const newEmail = () => ({ email: `${randomUUID()}@example.com` });
const newPhone = () => ({ phone: `+8210${randomInt(10_000_000, 100_000_000)}` });

/** The texts that came to the address, newest first. */
async function messagesTo(address: Address): Promise<string[]> {
  const url =
    "email" in address
      ? `http://127.0.0.1:${server.inbox.httpPort}/mail?to=${address.email.toLowerCase()}`
      : `${server.smsInbox.url}/sms?to=${address.phone.replace("+82", "0")}`;
  return ((await (await fetch(url)).json()) as { text: string }[]).map(({ text }) => text);
}

/** Asks for a code, and waits for what comes of it. */
async function ask(address: Address, purpose: CodePurpose, language = "") {
  const before = (await messagesTo(address)).length;
  await accounts().sendCode({ ...address, purpose, language });
  await expect.poll(() => messagesTo(address), { timeout: 5_000 }).toHaveLength(before + 1);
  return (await messagesTo(address))[0] ?? "";
}

const codeIn = (text: string) => /\b\d{6}\b/.exec(text)?.[0] ?? "";
const codeFor = async (address: Address, purpose: CodePurpose) => codeIn(await ask(address, purpose));

async function signUp(address: Address = newEmail(), { password = PASSWORD, language = "en" } = {}) {
  const code = await codeFor(address, SIGN_UP);
  const { account, tokens } = await accounts().signUp({ ...address, code, password, displayName: "Alice", language });
  if (!account || !tokens) throw new Error("no account came back");
  return { address, account, bearer: tokens.accessToken, refreshToken: tokens.refreshToken };
}

const getOwn = (bearer: string, at = server) => accounts(bearer, at).getAccount({});
const signIn = (address: Address, password = PASSWORD, at = server) =>
  accounts(undefined, at).signIn({ ...address, password });

/** Everything that a refused call says. */
async function refusalOf(call: Promise<unknown>) {
  const failure = await call.then(
    () => new Error("the call was not refused"),
    (error: unknown) => error,
  );
  const error = ConnectError.from(failure);
  const [info] = error.findDetails(ErrorInfoSchema);
  return { code: error.code, message: error.rawMessage, reason: info?.reason, metadata: info?.metadata };
}
const reasonOf = async (call: Promise<unknown>) => (await refusalOf(call)).reason;

/** Makes the codes of an address older than they are. */
async function ageCodes(address: Address, byMs: number) {
  const { redis, config } = server.app;
  const key = addressOf(config.hashSecret, { email: "", phone: "", ...address }).key.toString("hex");
  const names = await Promise.all(["code", "codes"].map((kind) => redis.keys(`chatpay:${kind}:*:${key}`)));
  for (const name of names.flat()) {
    await redis.pexpire(name, Math.max(1, (await redis.pttl(name)) - byMs));
  }
  await sleep(5);
}

/** The events of this kind that concern the account. */
async function eventsOf(accountId: string, kind: string) {
  const batches = await server.app.db.selectFrom("ledgerBatch").select("events").where("eventCount", ">", 0).execute();
  return batches
    .flatMap(({ events }) => JSON.parse(unpackEvents(events)) as { kind: string; accounts: string[] }[])
    .filter((event) => event.kind === kind && event.accounts.includes(accountId));
}

const storedHash = async (accountId: string) => {
  const { passwordHash } = await server.app.db
    .selectFrom("account")
    .select("passwordHash")
    .where("id", "=", BigInt(accountId))
    .executeTakeFirstOrThrow();
  return passwordHash;
};

const setStored = (accountId: string, change: { passwordHash: string }) =>
  server.app.db.updateTable("account").set(change).where("id", "=", BigInt(accountId)).execute();

const median = (times: number[]) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] as number;

/** How long each call takes, in the middle of many that take turns. */
async function compareTimes(rounds: number, calls: (() => Promise<unknown>)[]): Promise<number[]> {
  const times: number[][] = calls.map(() => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [i, call] of calls.entries()) {
      const start = performance.now();
      await call();
      times[i]?.push(performance.now() - start);
    }
  }
  return times.map(median);
}

// A1: codes

test("A1: a texted code opens an account that has a phone number only, and no password", async () => {
  const phone = newPhone();

  const { account, bearer } = await signUp(phone, { password: "", language: "" });

  expect(account).toMatchObject({ ...phone, email: "", language: "ko", identified: false, hasPin: false });
  expect((await getOwn(bearer)).account).toEqual(account);
  expect(await reasonOf(signIn(phone))).toBe(Reason.SIGN_IN_FAILED);
  expect(await reasonOf(signIn(phone, " "))).toBe(Reason.SIGN_IN_FAILED);
  const code = await codeFor(phone, SIGN_IN);
  const answer = await accounts().signInWithCode({ ...phone, code });
  expect(answer.account).toEqual(account);
  expect((await getOwn(answer.tokens?.accessToken ?? "")).account).toEqual(account);
});

test("A1: a number is the same with the 0 that is dialled at home", async () => {
  const { phone } = newPhone();
  await signUp({ phone });

  expect((await signIn({ phone: phone.replace("+82", "+820") })).account?.phone).toBe(phone);
});

test("A1: a code signs in once, and for nothing else", async () => {
  const { address } = await signUp();
  const code = await codeFor(address, SIGN_IN);

  expect(await reasonOf(accounts().resetPassword({ ...address, code, newPassword: "another word" }))).toBe(
    Reason.CODE_INVALID,
  );
  await accounts().signInWithCode({ ...address, code });
  expect(await reasonOf(accounts().signInWithCode({ ...address, code }))).toBe(Reason.CODE_INVALID);
});

test("A1: every purpose has a code of its own, which proves no other", async () => {
  const codes = openCodes(server.app);
  const address = { key: randomBytes(16) };
  const nothing = () => Promise.resolve();

  for (const purpose of PURPOSES) {
    const { code } = await codes.make({ address, purpose });
    for (const other of PURPOSES.filter((one) => one !== purpose)) {
      expect(await reasonOf(codes.spend({ address, purpose: other }, code, nothing))).toBe(Reason.CODE_INVALID);
    }
    await codes.spend({ address, purpose }, code, nothing);
  }
});

test("A1: an answer of Redis that is lost costs neither the code, nor a try, nor the wait for another", async () => {
  const relay = await startRelay(redisUrl());
  // As the server's, but for the time that it waits for an answer: here the machine may take longer.
  const redis = new Redis(relay.url, { maxRetriesPerRequest: 1 });
  const codes = openCodes({ ...server.app, redis });
  const work = () => Promise.resolve("done");
  const [alice, bob] = [0, 0].map(() => ({ address: { key: randomBytes(16) }, purpose: SIGN_UP })) as [Claim, Claim];

  // Of the script that makes a code, of the one that uses it up, and of the one that counts a try.
  relay.loseAnswerTo("'pexpire'");
  const { code } = await codes.make(alice);
  expect(relay.hasCaught()).toBe(true);
  expect(await reasonOf(codes.make(alice))).toBe(Reason.TOO_MANY_ATTEMPTS);
  relay.loseAnswerTo("'hdel'");
  expect(await codes.spend(alice, code, work)).toBe("done");
  expect(relay.hasCaught()).toBe(true);
  expect(await reasonOf(codes.spend(alice, code, work))).toBe(Reason.CODE_INVALID);

  const { code: right } = await codes.make(bob);
  const wrong = right === "000000" ? "000001" : "000000";
  for (let tries = 1; tries <= 4; tries += 1) {
    relay.loseAnswerTo("'hincrby'");
    expect(await reasonOf(codes.spend(bob, wrong, work))).toBe(Reason.CODE_INVALID);
    expect(relay.hasCaught()).toBe(true);
  }
  expect(await codes.spend(bob, right, work)).toBe("done");

  // One that comes too late leaves open whether the code was used.
  const hasty = redis.duplicate({ commandTimeout: 300 });
  const { spend } = openCodes({ ...server.app, redis: hasty });
  const carol: Claim = { address: { key: randomBytes(16) }, purpose: SIGN_UP };
  const { code: last } = await codes.make(carol);
  const late = Promise.withResolvers<void>();
  relay.holdAnswerTo("'hdel'", late.promise);
  expect(await reasonOf(spend(carol, last, work))).toBe(Reason.DEPENDENCY_UNAVAILABLE);
  late.resolve();
  expect(await codes.spend(carol, last, work)).toBe("done");

  for (const one of [redis, hasty]) one.disconnect();
  await relay.close();
});

test("A1: a code is stored as a hash, under the hash of its address", async () => {
  const address = newEmail();
  const code = await codeFor(address, SIGN_UP);
  const { redis } = server.app;

  const stored = await Promise.all(
    (await redis.keys("chatpay:code:*")).map(async (key) => JSON.stringify([key, await redis.hgetall(key)])),
  );

  expect(stored.length).toBeGreaterThan(0);
  for (const text of stored) {
    expect(text).not.toContain(address.email);
    expect(text).not.toMatch(new RegExp(`\\b${code}\\b`));
  }
});

test("A1: asking for a code answers the same for all addresses and purposes; only the owner learns more", async () => {
  for (const newAddress of [newEmail, newPhone]) {
    const { address: known } = await signUp(newAddress());
    await ageCodes(known, MINUTE_MS);

    for (const purpose of PURPOSES) {
      const unknown = newAddress();
      const answers = await Promise.all([known, unknown].map((one) => accounts().sendCode({ ...one, purpose })));
      const spans = answers.map(({ expireTime, resendTime }) => [
        Number((expireTime?.seconds ?? 0n) - (resendTime?.seconds ?? 0n)),
        Math.round(Number(expireTime?.seconds) - Date.now() / 1000) > 590,
      ]);
      expect(spans).toEqual([
        [540, true],
        [540, true],
      ]);
      for (const one of [known, unknown]) {
        expect(await reasonOf(accounts().sendCode({ ...one, purpose }))).toBe(Reason.TOO_MANY_ATTEMPTS);
      }

      const isForNew = purpose === SIGN_UP || purpose === CHANGE_ADDRESS;
      const expected = isForNew ? ["of the account", "a code"] : ["a code", "nothing"];
      await expect.poll(() => Promise.all([known, unknown].map(learnt)), { timeout: 5_000 }).toEqual(expected);
      // Nothing may still become something.
      await sleep(50);
      expect(await learnt(unknown)).toBe(expected[1]);
      await emptyInboxes();
    }
  }

  /** What the owner of the address learns from the last message. */
  async function learnt(address: Address) {
    const [text] = await messagesTo(address);
    if (text === undefined) return "nothing";
    if (codeIn(text) !== "") return "a code";
    return text.includes("has an account") ? "of the account" : text;
  }
  async function emptyInboxes() {
    await fetch(`http://127.0.0.1:${server.inbox.httpPort}/mail`, { method: "DELETE" });
    await fetch(`${server.smsInbox.url}/sms`, { method: "DELETE" });
  }
});

test("A1: asking for a code takes as long for an unknown address", async () => {
  const { address: known } = await signUp();
  const fresh = async (address: Address) => {
    await ageCodes(address, 10 * MINUTE_MS);
    await server.app.redis.del(...(await server.app.redis.keys("chatpay:codes:*")), "none");
  };
  const unknown = newEmail();
  const send = (address: Address) => () => accounts().sendCode({ ...address, purpose: RESET_PASSWORD });

  const times: number[][] = [[], []];
  for (let round = 0; round < 15; round += 1) {
    for (const [i, address] of [known, unknown].entries()) {
      await fresh(address);
      times[i]?.push(...(await compareTimes(1, [send(address)])));
    }
  }

  const [ofKnown, ofUnknown] = times.map(median) as [number, number];
  expect(ofUnknown / ofKnown).toBeGreaterThan(0.4);
  expect(ofUnknown / ofKnown).toBeLessThan(2.5);
});

test("A1: a proved address without an account is refused as a wrong code is", async () => {
  const unknown = newPhone();
  const address = addressOf(server.app.config.hashSecret, { email: "", ...unknown });
  const { code } = await openCodes(server.app).make({ address, purpose: SIGN_IN });
  await openCodes(server.app).make({ address, purpose: RESET_PASSWORD });
  const { address: known } = await signUp();

  const wrong = await refusalOf(accounts().signInWithCode({ ...known, code: "000000" }));

  expect(wrong).toMatchObject({ code: Code.InvalidArgument, reason: Reason.CODE_INVALID });
  expect(await refusalOf(accounts().signInWithCode({ ...unknown, code }))).toEqual(wrong);
  const reset = { ...unknown, code, newPassword: "another word" };
  expect(await refusalOf(accounts().resetPassword(reset))).toEqual(wrong);
});

test("A1: five tries and sixty seconds hold across processes", async () => {
  const { address } = await signUp();
  const code = await codeFor(address, SIGN_IN);
  const guess = (at: TestServer, digits: string) =>
    reasonOf(accounts(undefined, at).signInWithCode({ ...address, code: digits }));
  const wrong = code === "000000" ? "000001" : "000000";

  for (const at of [server, neighbour, server, neighbour, server])
    expect(await guess(at, wrong)).toBe(Reason.CODE_INVALID);

  expect(await guess(neighbour, code)).toBe(Reason.CODE_INVALID);
  const again = accounts(undefined, neighbour).sendCode({ ...address, purpose: SIGN_IN });
  expect(await reasonOf(again)).toBe(Reason.TOO_MANY_ATTEMPTS);
  await ageCodes(address, MINUTE_MS);
  await accounts().signInWithCode({ ...address, code: await codeFor(address, SIGN_IN) });
});

test("A1: one of many who prove a code at once, in two processes, succeeds", async () => {
  const { address } = await signUp();
  const code = await codeFor(address, SIGN_IN);

  const outcomes = await Promise.allSettled(
    Array.from({ length: 4 }, (_, i) =>
      accounts(undefined, i % 2 ? server : neighbour).signInWithCode({ ...address, code }),
    ),
  );

  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test("A1: after twenty codes of which none is proved an address gets one an hour, for that purpose only", async () => {
  const codes = openCodes(server.app);
  const { email } = newEmail();
  const address = addressOf(server.app.config.hashSecret, { email, phone: "" });
  const make = async (purpose: CodePurpose) => {
    await ageCodes({ email }, MINUTE_MS);
    return codes.make({ address, purpose });
  };

  for (let i = 0; i < 20; i += 1) await make(SIGN_UP);
  expect(await reasonOf(make(SIGN_UP))).toBe(Reason.TOO_MANY_ATTEMPTS);
  for (const purpose of PURPOSES.filter((one) => one !== SIGN_UP)) await make(purpose);

  await ageCodes({ email }, 60 * MINUTE_MS);
  const { code } = await make(SIGN_UP);
  expect(await reasonOf(make(SIGN_UP))).toBe(Reason.TOO_MANY_ATTEMPTS);

  await codes.spend({ address, purpose: SIGN_UP }, code, () => Promise.resolve());
  await make(SIGN_UP);
});

test("A1: a code is as good as before when what it was for failed", async () => {
  const phone = newPhone();
  const { bearer } = await signUp(phone);
  const email = newEmail();
  await accounts(bearer).changeAddress({
    ...email,
    code: await codeFor(email, CHANGE_ADDRESS),
    password: PASSWORD,
  });
  const code = await codeFor(email, RESET_PASSWORD);
  const reset = (newPassword: string) => accounts().resetPassword({ ...email, code, newPassword });

  // Which numbers belong to the address is told only to whoever has the code.
  expect(await reasonOf(reset(phone.phone.replace("+82", "0")))).toBe(Reason.PASSWORD_TOO_SIMPLE);

  await reset("another word");
  await signIn(phone, "another word");
});

test("A1: a code is as good as before when the session did not start", async () => {
  const { address, account } = await signUp();
  const code = await codeFor(address, SIGN_IN);
  const { db, redis, config } = server.app;
  const { key } = addressOf(config.hashSecret, { email: "", phone: "", ...address });
  const isUsed = async () => !(await redis.hexists(`chatpay:code:${SIGN_IN}:${key.toString("hex")}`, "code"));

  // Somebody sets another password while a session starts.
  const passwordHash = await storedHash(account.id);
  const refused = await db.transaction().execute(async (trx) => {
    await trx.updateTable("account").set({ passwordHash: "" }).where("id", "=", BigInt(account.id)).execute();
    const call = reasonOf(accounts().signInWithCode({ ...address, code }));
    await expect.poll(isUsed).toBe(true);
    await expect.poll(() => isWaitedFor(account.id), { timeout: 5_000 }).toBe(true);
    return { call };
  });
  expect(await refused.call).toBe(Reason.SIGN_IN_FAILED);
  await setStored(account.id, { passwordHash });

  await accounts().signInWithCode({ ...address, code });

  /** Whether somebody waits for the row of the account. */
  async function isWaitedFor(accountId: string) {
    const waiting = sql`select 1 from information_schema.innodb_trx
      where trx_state = 'LOCK WAIT' and trx_query like ${`%\`account\`%${accountId}%`}`;
    return (await waiting.execute(db)).rows.length > 0;
  }
});

test("A1: without a text message service a number gets no code, and an address does", async () => {
  const names = ["URL", "SERVICE_ID", "ACCESS_KEY", "SECRET_KEY", "FROM"].map((name) => `CHATPAY_SMS_${name}`);
  const without = await startServer({
    ...sameDeployment(),
    ...Object.fromEntries(names.map((name) => [name, ""])),
  });

  const refusal = await refusalOf(accounts(undefined, without).sendCode({ ...newPhone(), purpose: SIGN_UP }));
  await accounts(undefined, without).sendCode({ ...newEmail(), purpose: SIGN_UP });

  expect(refusal).toMatchObject({ reason: Reason.DEPENDENCY_UNAVAILABLE, metadata: { dependency: "sms" } });
  await without.stop();
});

test("A1: what could not be sent is counted, and logged without the address", async () => {
  const broken = await startServer({ ...sameDeployment(), CHATPAY_SMS_SECRET_KEY: "wrong" });
  const phone = newPhone();

  await accounts(undefined, broken).sendCode({ ...phone, purpose: SIGN_UP });

  await expect.poll(() => broken.logs.join("")).toContain("a message was not sent");
  const metrics = await (await fetch(`${broken.internalUrl}/metrics`)).text();
  expect(metrics).toMatch(/chatpay_messages_total{channel="phone",outcome="failed"} 1/);
  expect(broken.logs.join("")).not.toContain(phone.phone.slice(3));
  await broken.stop();
});

test("A1: a server that stops sends first what it promised", async () => {
  const leaving = await startServer(sameDeployment());
  const address = newEmail();

  await accounts(undefined, leaving).sendCode({ ...address, purpose: SIGN_UP });
  await leaving.stop();

  expect(await messagesTo(address)).toHaveLength(1);
});

// A2: passwords

test("A2: an unknown address answers the same, after the same time", async () => {
  const { address: known } = await signUp();
  const { address: withoutPassword } = await signUp(newPhone(), { password: "" });
  const fail = (address: Address) => () => refusalOf(signIn(address, "not the password"));
  const refusals = await Promise.all([known, newEmail(), newPhone(), withoutPassword].map((one) => fail(one)()));
  expect(refusals[0]).toMatchObject({ code: Code.Unauthenticated, reason: Reason.SIGN_IN_FAILED, metadata: {} });
  for (const refusal of refusals) expect(refusal).toEqual(refusals[0]);

  const [ofKnown, ...others] = (await compareTimes(9, [
    fail(known),
    () => fail(newEmail())(),
    fail(withoutPassword),
  ])) as [number, number, number];

  for (const other of others) {
    expect(other / ofKnown).toBeGreaterThan(0.5);
    expect(other / ofKnown).toBeLessThan(2);
  }
});

test("A2: attempts on a password are counted across processes, and survive a restart", async () => {
  const { address } = await signUp();
  const guess = (at: TestServer) => reasonOf(signIn(address, "not it", at));

  for (let i = 0; i < 5; i += 1) {
    expect([await guess(server), await guess(neighbour)]).toEqual([Reason.SIGN_IN_FAILED, Reason.SIGN_IN_FAILED]);
  }
  const restarted = await startServer(sameDeployment());

  expect(await reasonOf(signIn(address, PASSWORD, restarted))).toBe(Reason.TOO_MANY_ATTEMPTS);
  await restarted.stop();
});

test("A2: a password whose hash has other parameters is hashed again when it signs in", async () => {
  const { address, account } = await signUp();
  const nonce = randomBytes(16);
  const cheap = { message: PASSWORD, nonce, memory: 8_192, passes: 1, parallelism: 1, tagLength: 32 };
  const hash = await promisify(argon2)("argon2id", cheap);
  const [salt, tag] = [nonce, hash].map((bytes) => bytes.toString("base64").replaceAll("=", ""));
  await setStored(account.id, { passwordHash: `$argon2id$v=19$m=8192,t=1,p=1$${salt}$${tag}` });

  expect(await reasonOf(signIn(address, "not it"))).toBe(Reason.SIGN_IN_FAILED);
  expect(await storedHash(account.id)).toMatch(/m=8192,t=1,p=1/);
  await Promise.all(Array.from({ length: 4 }, () => signIn(address)));

  const renewed = await storedHash(account.id);
  expect(renewed).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  await signIn(address);
  expect(await storedHash(account.id)).toBe(renewed);
});

test("A2: a password is no address of the person, however it is written", async () => {
  const { phone } = newPhone();
  const national = phone.replace("+82", "0");
  const dashed = `${national.slice(0, 3)}-${national.slice(3, 7)}-${national.slice(7)}`;
  const code = await codeFor({ phone }, SIGN_UP);
  const trySignUp = (password: string) => accounts().signUp({ phone, code, password, displayName: "Alice" });

  for (const password of [phone, phone.slice(1), national, dashed, national.slice(1)]) {
    expect([password, await reasonOf(trySignUp(password))]).toEqual([password, Reason.PASSWORD_TOO_SIMPLE]);
  }
  const { tokens } = await trySignUp(PASSWORD);
  const change = accounts(tokens?.accessToken).changePassword({ password: PASSWORD, newPassword: dashed });
  expect(await reasonOf(change)).toBe(Reason.PASSWORD_TOO_SIMPLE);
});

test("A2: a code resets the password, ends all sessions everywhere, and opens an address that guesses had closed", async () => {
  const { address, bearer, refreshToken } = await signUp();
  await getOwn(bearer, neighbour);
  await Promise.all(Array.from({ length: 10 }, () => reasonOf(signIn(address, "not it"))));
  expect(await reasonOf(signIn(address))).toBe(Reason.TOO_MANY_ATTEMPTS);

  const code = await codeFor(address, RESET_PASSWORD);
  await accounts().resetPassword({ ...address, code, newPassword: "another word" });

  expect(await reasonOf(getOwn(bearer))).toBe(Reason.CREDENTIAL_INVALID);
  await expect.poll(() => reasonOf(getOwn(bearer, neighbour)), { timeout: 1_000 }).toBe(Reason.CREDENTIAL_INVALID);
  expect(await reasonOf(accounts().refreshTokens({ refreshToken }))).toBe(Reason.REFRESH_TOKEN_INVALID);
  expect(await reasonOf(signIn(address))).toBe(Reason.SIGN_IN_FAILED);
  await signIn(address, "another word");
  await expect
    .poll(async () => (await messagesTo(address))[0])
    .toContain("password of your ChatPay account was changed");
});

test("A2: changing the password needs the old one, and ends the other sessions", async () => {
  const { address, bearer } = await signUp();
  const { tokens: other } = await signIn(address);
  const change = (password: string) => accounts(bearer).changePassword({ password, newPassword: "another word" });

  expect(await refusalOf(change("not it"))).toMatchObject({
    code: Code.Unauthenticated,
    reason: Reason.SIGN_IN_FAILED,
  });
  expect(await reasonOf(change(""))).toBe(Reason.SIGN_IN_FAILED);
  await change(PASSWORD);

  await getOwn(bearer);
  expect(await reasonOf(getOwn(other?.accessToken ?? ""))).toBe(Reason.CREDENTIAL_INVALID);
  expect(await reasonOf(signIn(address))).toBe(Reason.SIGN_IN_FAILED);
  await signIn(address, "another word");
  await expect
    .poll(async () => (await messagesTo(address))[0])
    .toContain("password of your ChatPay account was changed");
});

test("A2: whoever is signed in guesses the password ten times, and closes the address to nobody", async () => {
  const { address, bearer } = await signUp();
  const change = (password: string) => accounts(bearer).changePassword({ password, newPassword: "another word" });

  for (let i = 0; i < 10; i += 1) expect(await reasonOf(change("not it"))).toBe(Reason.SIGN_IN_FAILED);

  expect(await reasonOf(change(PASSWORD))).toBe(Reason.TOO_MANY_ATTEMPTS);
  await signIn(address);
});

test("A2: an account without a password sets its first with a code to an address that it has", async () => {
  const phone = newPhone();
  const { bearer } = await signUp(phone, { password: "" });
  const { address: stranger } = await signUp();
  const set = (proofCode: string, newPassword = PASSWORD) =>
    reasonOf(accounts(bearer).changePassword({ newPassword, proofCode }));
  const foreign = [await codeFor(stranger, CONFIRM), await codeFor(phone, SIGN_IN)];
  const proofCode = await codeFor(phone, CONFIRM);

  for (const code of ["", ...foreign]) expect(await set(code)).toBe(Reason.CODE_INVALID);
  expect(await reasonOf(signIn(phone))).toBe(Reason.SIGN_IN_FAILED);
  // A refused password costs no code.
  expect(await set(proofCode, phone.phone)).toBe(Reason.PASSWORD_TOO_SIMPLE);
  expect(await set(proofCode)).toBeUndefined();

  await signIn(phone);
  expect(await set(proofCode, "another word")).toBe(Reason.SIGN_IN_FAILED);
});

test("A2: a new password and the end of the sessions are one commit", async () => {
  const { address, account, bearer } = await signUp();
  const code = await codeFor(address, RESET_PASSWORD);
  const ways = [
    () => accounts(bearer).changePassword({ password: PASSWORD, newPassword: "another word" }),
    () => accounts().resetPassword({ ...address, code, newPassword: "the third word" }),
  ];

  for (const setPassword of ways) {
    await signIn(address, setPassword === ways[0] ? PASSWORD : "another word");
    const before = await storedHash(account.id);
    const changed = await whileSessionsAreHeld(account.id, async () => {
      const call = setPassword();
      // The password is set, and waits for the sessions to end.
      await expect.poll(() => isHeld(account.id), { timeout: 5_000 }).toBe(true);
      expect(await storedHash(account.id)).toBe(before);
      return { call };
    });
    await changed.call;
    expect(await storedHash(account.id)).not.toBe(before);
  }

  function whileSessionsAreHeld<T>(accountId: string, work: () => Promise<T>): Promise<T> {
    return server.app.db.transaction().execute(async (trx) => {
      const sessions = trx.selectFrom("session").select("id").where("accountId", "=", BigInt(accountId));
      await sessions.forUpdate().execute();
      return work();
    });
  }
  async function isHeld(accountId: string) {
    const free = server.app.db.selectFrom("account").select("id").where("id", "=", BigInt(accountId));
    return (await free.forUpdate().skipLocked().execute()).length === 0;
  }
});

test("A2: of two who change the password at once, one does", async () => {
  const { address, bearer } = await signUp();
  const words = ["first new word", "second new word"];

  const outcomes = await Promise.allSettled(
    words.map((newPassword) => accounts(bearer).changePassword({ password: PASSWORD, newPassword })),
  );

  const winners = words.filter((_, i) => outcomes[i]?.status === "fulfilled");
  expect(winners).toHaveLength(1);
  await signIn(address, winners[0]);
});

// A2: addresses

test("A2: a new address takes the place of the old one, which is told", async () => {
  const { address: old, account, bearer } = await signUp();
  const next = newEmail();
  const code = await codeFor(next, CHANGE_ADDRESS);

  const changed = await accounts(bearer).changeAddress({ ...next, code, password: PASSWORD });

  expect(changed.account).toMatchObject({ id: account.id, ...next });
  expect((await getOwn(bearer)).account).toEqual(changed.account);
  expect((await signIn(next)).account).toEqual(changed.account);
  expect(await reasonOf(signIn(old))).toBe(Reason.SIGN_IN_FAILED);
  await expect.poll(async () => (await messagesTo(old))[0]).toContain("was changed just now");
  const events = await eventsOf(account.id, "account.address_changed");
  expect(events).toEqual([
    { kind: "account.address_changed", accounts: [account.id], accountId: account.id, address: "email" },
  ]);
  await ageCodes(old, MINUTE_MS);
  await signUp(old);
});

test("A2: a number beside the address signs in as well, and both are told of a change", async () => {
  const { address: email, account, bearer } = await signUp();
  const [first, second] = [newPhone(), newPhone()];
  for (const phone of [first, second]) {
    const code = await codeFor(phone, CHANGE_ADDRESS);
    await accounts(bearer).changeAddress({ ...phone, code, password: PASSWORD });
  }

  expect((await signIn(second)).account).toMatchObject({ id: account.id, ...email, ...second });
  expect((await signIn(email)).account).toMatchObject({ id: account.id });
  expect(await reasonOf(signIn(first))).toBe(Reason.SIGN_IN_FAILED);
  await expect.poll(async () => (await messagesTo(first))[0]).toContain("has a new phone number");
  await expect.poll(async () => (await messagesTo(email)).filter((text) => text.includes("just now"))).toHaveLength(2);
});

test("A2: changing the address needs the password, if there is one, and a refused one costs no code", async () => {
  const { bearer } = await signUp();
  const first = newEmail();
  const code = await codeFor(first, CHANGE_ADDRESS);
  const change = (password: string) => accounts(bearer).changeAddress({ ...first, code, password });

  expect(await reasonOf(change(""))).toBe(Reason.SIGN_IN_FAILED);
  expect(await reasonOf(change("not it"))).toBe(Reason.SIGN_IN_FAILED);
  expect((await change(PASSWORD)).account).toMatchObject(first);
});

test("A2: without a password, changing the address needs a code to one that the account has already", async () => {
  const phone = newPhone();
  const { bearer, account } = await signUp(phone, { password: "" });
  const wanted = newEmail();
  const code = await codeFor(wanted, CHANGE_ADDRESS);
  const change = (proofCode: string, to: Address = wanted, by = code) =>
    accounts(bearer).changeAddress({ ...to, code: by, proofCode });
  const proofCode = await codeFor(phone, CONFIRM);

  for (const wrong of ["", code]) expect(await reasonOf(change(wrong))).toBe(Reason.CODE_INVALID);
  expect((await getOwn(bearer)).account).toEqual(account);
  // The wrong one of two codes costs not the other.
  expect(await reasonOf(change(proofCode, wanted, code === "000000" ? "000001" : "000000"))).toBe(Reason.CODE_INVALID);
  expect((await change(proofCode)).account).toMatchObject({ ...phone, ...wanted });

  // Now each of the two will do.
  const next = newPhone();
  const toNext = await codeFor(next, CHANGE_ADDRESS);
  expect(await reasonOf(change(proofCode, next, toNext))).toBe(Reason.CODE_INVALID);
  expect((await change(await codeFor(wanted, CONFIRM), next, toNext)).account).toMatchObject({ ...wanted, ...next });
});

test("A2: an address of another account is refused to whoever proved it, also when both come at once", async () => {
  for (const newAddress of [newEmail, newPhone]) {
    const { bearer, account } = await signUp();
    const wanted = newAddress();
    const [forChange, forSignUp] = [await codeFor(wanted, CHANGE_ADDRESS), await codeFor(wanted, SIGN_UP)];

    const outcomes = await Promise.all([
      reasonOf(accounts(bearer).changeAddress({ ...wanted, code: forChange, password: PASSWORD })),
      reasonOf(
        accounts(undefined, neighbour).signUp({ ...wanted, code: forSignUp, password: PASSWORD, displayName: "Bob" }),
      ),
    ]);

    expect(new Set(outcomes)).toEqual(new Set([Reason.ADDRESS_TAKEN, undefined]));
    const { account: owner } = await signIn(wanted);
    expect(owner?.id === account.id).toBe(outcomes[0] === undefined);
  }
});

test("A2: the address that the account has already stays, and nobody is told", async () => {
  const { address, account, bearer } = await signUp();
  const claim = { address: addressOf(server.app.config.hashSecret, { phone: "", email: "", ...address }) };
  const { code } = await openCodes(server.app).make({ ...claim, purpose: CHANGE_ADDRESS });

  const answer = await accounts(bearer).changeAddress({ ...address, code, password: PASSWORD });

  expect(answer.account).toEqual(account);
  expect(await eventsOf(account.id, "account.address_changed")).toEqual([]);
});

// Profiles and languages

test("a changed profile is told to the log by ids alone", async () => {
  const { account, bearer } = await signUp();

  const answer = await accounts(bearer).updateAccount({ displayName: "Alicia", language: "ko" });
  await accounts(bearer).updateAccount({});

  expect(answer.account).toMatchObject({ displayName: "Alicia", language: "ko" });
  expect(await eventsOf(account.id, "account.updated")).toEqual([
    { kind: "account.updated", accounts: [account.id], accountId: account.id },
  ]);
});

test("O11: messages come in the language that was asked for, or else in that of the account, or in Korean", async () => {
  const { address, bearer } = await signUp();

  expect(await ask(address, SIGN_IN)).toContain("your code to sign in");
  await ageCodes(address, MINUTE_MS);
  expect(await ask(address, SIGN_IN, "ko")).toContain("로그인 코드");
  await accounts(bearer).updateAccount({ language: "ko" });
  expect(await ask(address, RESET_PASSWORD)).toContain("비밀번호 재설정 코드");
  expect(await ask(newPhone(), SIGN_UP)).toContain("가입 코드");
  expect(await ask(newPhone(), SIGN_UP, "en")).toContain("your code to sign up");
});

const everyMessage: Message[] = [
  ...PURPOSES.map((purpose) => ({ is: "code" as const, purpose, code: "123456" })),
  { is: "known_address" },
  { is: "password_changed" },
  { is: "address_changed", kind: "email" },
  { is: "address_changed", kind: "phone" },
  { is: "session_reused" },
  { is: "country_refused", purpose: SIGN_IN, country: "GB" },
  { is: "country_refused", purpose: SIGN_UP, country: "unknown" },
  { is: "country_refused", purpose: SIGN_UP, country: `"><img src=x>` },
  { is: "account_closed" },
];

test("O11: every message has a subject, text, well-formed HTML that loads nothing, and a short text message", () => {
  for (const message of everyMessage) {
    for (const language of ["ko", "en"] as const) {
      const { subject, text, html, sms } = write(message, language);

      expect(subject.length).toBeGreaterThan(5);
      expect(/[가-힣]/.test(subject + text + sms)).toBe(language === "ko");
      expect(unbalanced(html)).toEqual([]);
      expect(html).not.toMatch(/https?:|url\(|src=|<img|<link|<script/);
      expect([sms, bytesInEucKr(sms)]).toEqual([sms, expect.toSatisfy((bytes: number) => bytes <= 90)]);
      if (message.is !== "code") continue;
      for (const body of [text, html, sms]) expect(body.match(/\b\d{6}\b/g)).toContain("123456");
      expect(subject).not.toContain("123456");
    }
  }
});

/** The tags that are not closed, or closed without having been opened. */
function unbalanced(html: string): string[] {
  const open: string[] = [];
  const wrong: string[] = [];
  for (const [, closing, name = "", selfClosing] of html.matchAll(
    /<(\/?)([a-z0-9]+)(?:\s[a-z-]+="[^"<>]*")*\s*(\/?)>/g,
  )) {
    if (closing && open.pop() !== name) wrong.push(name);
    if (!closing && !selfClosing) open.push(name);
  }
  const rest = html.replaceAll(/<!doctype html>|<(\/?)([a-z0-9]+)(?:\s[a-z-]+="[^"<>]*")*\s*(\/?)>/g, "");
  return [...wrong, ...open, ...(rest.match(/[<>]/g) ?? [])];
}

/** The bytes of a text as SENS sends it; without end, if it cannot. */
function bytesInEucKr(text: string): number {
  return Array.from(text).reduce((sum, character) => sum + (eucKr.get(character) ?? Number.POSITIVE_INFINITY), 0);
}

const eucKr = new Map<string, number>(
  Array.from({ length: 0x7f }, (_, byte) => [String.fromCharCode(byte), 1] as [string, number]),
);
const decoder = new TextDecoder("euc-kr");
for (let lead = 0xa1; lead <= 0xfe; lead += 1) {
  for (let trail = 0xa1; trail <= 0xfe; trail += 1) eucKr.set(decoder.decode(new Uint8Array([lead, trail])), 2);
}
