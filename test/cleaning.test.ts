import { randomUUID } from "node:crypto";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService } from "../gen/chatpay/account/v1/account_pb.ts";
import { closeAccount } from "../src/account/closing.ts";
import type { App } from "../src/app.ts";
import { idAround } from "../src/id.ts";
import type { Job } from "../src/job/runner.ts";
import { jobs } from "../src/jobs.ts";
import { NO_GIFTS, signUp } from "./support/people.ts";
import { outcomeOf } from "./support/rpcs.ts";
import { startServer, type TestServer } from "./support/server.ts";

// What the jobs of domains do, one run at a time: the server runs none by itself.

const HOUR_MS = 60 * 60_000;
const DAY_MS = 24 * HOUR_MS;
const AUDIT_DAYS = 30;

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ CHATPAY_ROLES: "account,money", CHATPAY_AUDIT_DAYS: String(AUDIT_DAYS) });
});
afterAll(() => server.stop());

const ago = (ms: number) => new Date(Date.now() - ms);
const accounts = () => server.client(AccountService);

/** Has a job do what is due of it; how many items that was. */
async function runDue(name: string, app: App = server.app): Promise<number> {
  const job = jobs(app).find((one) => one.name === name) as Job;
  const items = await job.claim({ owner: randomUUID(), limit: 100, leaseMs: 60_000 });
  for (const item of items) expect(await job.run(item, new AbortController().signal)).toBe("done");
  return items.length;
}

/** The same for one that is due once in a period, as if its next one had begun. */
async function runPeriodic(name: string) {
  const dueTime = ago(1_000);
  await server.app.db.updateTable("job").set({ dueTime }).where("name", "=", name).execute();
  expect(await runDue(name)).toBe(1);
}

const signIn = async ({ email, password }: { email: string; password: string }, device = "") =>
  (await accounts().signIn({ email, password, device })).tokens;
const sessionOf = (accessToken = "") => BigInt(String(decodeJwt(accessToken).sid));
const sessionsOf = (accountId: bigint) =>
  server.app.db.selectFrom("session").selectAll().where("accountId", "=", accountId).orderBy("id").execute();
const tokensOf = (sessionId: bigint) =>
  server.app.db.selectFrom("refreshToken").selectAll().where("sessionId", "=", sessionId).execute();

test("refresh tokens are deleted a day after they expired, and those that work or may come back are not", async () => {
  const { db } = server.app;
  const alice = await signUp(server);
  const { tokens: next } = await accounts().refreshTokens({ refreshToken: alice.tokens.refreshToken });
  const sessionId = sessionOf(alice.tokens.accessToken);
  const made = (expiredMs: number) => ({
    tokenHash: Buffer.from(randomUUID().replaceAll("-", "").repeat(2), "hex"),
    sessionId,
    createTime: ago(expiredMs + 30 * DAY_MS),
    expireTime: ago(expiredMs),
    useTime: ago(expiredMs),
  });
  await db
    .insertInto("refreshToken")
    .values([...Array.from({ length: 2_500 }, () => made(DAY_MS + 60_000)), made(DAY_MS - 60_000), made(0)])
    .execute();

  await runPeriodic("account.tokens");

  const left = await tokensOf(sessionId);
  expect(left.length).toBe(4);
  expect(left.every(({ expireTime }) => expireTime > ago(DAY_MS))).toBe(true);
  const third = await accounts().refreshTokens({ refreshToken: next?.refreshToken ?? "" });
  expect(third.tokens?.refreshToken).not.toBe("");
  // The first one was used before the last; it is known, so its return ends the session.
  const back = accounts().refreshTokens({ refreshToken: alice.tokens.refreshToken });
  expect(await outcomeOf(back)).toBe("Unauthenticated REFRESH_TOKEN_INVALID");
  expect(await sessionsOf(alice.accountId)).toMatchObject([{ revokeTime: expect.any(Date) }]);
});

test("sessions are deleted ninety days after their last use, however they ended", async () => {
  const { db } = server.app;
  const alice = await signUp(server);
  const others = await Promise.all(Array.from({ length: 4 }, () => signIn(alice)));
  const [old, oldAndSignedOut, younger, signedOut] = others.map((tokens) => sessionOf(tokens?.accessToken)) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  const age = (id: bigint, lastUseTime: Date, revokeTime: Date | null) =>
    db.updateTable("session").set({ lastUseTime, revokeTime }).where("id", "=", id).execute();
  await age(old, ago(90 * DAY_MS + 60_000), null);
  await age(oldAndSignedOut, ago(90 * DAY_MS + 60_000), ago(80 * DAY_MS));
  await age(younger, ago(90 * DAY_MS - 60_000), null);
  await age(signedOut, ago(HOUR_MS), ago(HOUR_MS));

  await runPeriodic("account.sessions");

  const left = (await sessionsOf(alice.accountId)).map(({ id }) => id);
  expect(new Set(left)).toEqual(new Set([sessionOf(alice.tokens.accessToken), younger, signedOut]));
  expect(await outcomeOf(alice.accounts.getAccount({}))).toBe("OK");
});

test("audit records are deleted when they are older than configured, and otherwise kept", async () => {
  const { db } = server.app;
  const alice = await signUp(server);
  const made = (time: Date, n: number) => ({
    id: idAround(time, 1) - ((10n * 60_000n) << 22n) + BigInt(n),
    createTime: time,
    rpc: "chatpay.test.v1.TestService/Test",
    code: 0,
    reason: 0,
    caller: 1,
    accountId: alice.accountId,
    partnerId: null,
    keyId: null,
    sessionId: null,
    objectId: null,
    ip: "",
    requestId: "",
  });
  const old = ago(AUDIT_DAYS * DAY_MS + 60_000);
  await db
    .insertInto("auditRecord")
    .values([
      ...Array.from({ length: 1_200 }, (_, n) => made(old, n)),
      made(ago(AUDIT_DAYS * DAY_MS - 60_000), 1),
      made(ago(DAY_MS), 1),
    ])
    .execute();
  const before = await db.selectFrom("auditRecord").selectAll().where("createTime", ">", old).orderBy("id").execute();

  await runPeriodic("audit.records");

  expect(await db.selectFrom("auditRecord").selectAll().orderBy("id").execute()).toEqual(before);
  expect(before.length).toBeGreaterThan(2);
});

test("the audit trail is kept for ever unless it is configured otherwise", () => {
  const { app } = server;
  const namesAt = (auditDays: number) => jobs({ ...app, config: { ...app.config, auditDays } }).map(({ name }) => name);

  expect(namesAt(1)).toContain("audit.records");
  expect(namesAt(0)).not.toContain("audit.records");
});

test("what a process that died did not clean up of a closed account is done by a job, a minute later", async () => {
  const { db, lane } = server.app;
  const [alice, bob] = await Promise.all([signUp(server), signUp(server)]);
  await signIn(alice, "a telephone");
  await signIn(bob, "a telephone");
  const ofBob = await sessionsOf(bob.accountId);
  // All that a closing commits, by a process that died right after.
  await lane.submit(
    closeAccount(alice.accountId, { walletIds: [BigInt(alice.walletId)], bankAccountIds: [], gifts: NO_GIFTS }),
  );

  expect(await runDue("account.closed")).toBe(0);
  expect((await sessionsOf(alice.accountId)).map(({ device, revokeTime }) => [device !== "", revokeTime])).toEqual([
    [true, null],
    [true, null],
  ]);
  const [cleanup] = await db.selectFrom("accountCleanup").selectAll().execute();
  expect(cleanup?.id).toBe(alice.accountId);
  expect(cleanup?.dueTime.getTime()).toBeLessThanOrEqual(Date.now() + 60_000);
  await db
    .updateTable("accountCleanup")
    .set({ dueTime: ago(0) })
    .execute();

  expect(await runDue("account.closed")).toBe(1);

  const erased = { device: "", ip: "", revokeTime: expect.any(Date) };
  expect(await sessionsOf(alice.accountId)).toMatchObject([erased, erased]);
  expect(await sessionsOf(bob.accountId)).toEqual(ofBob);
  expect(await db.selectFrom("accountCleanup").selectAll().execute()).toEqual([]);
});

test("whoever closes an account and lives leaves nothing to clean up", async () => {
  const alice = await signUp(server);

  await alice.accounts.closeAccount({});

  const { db } = server.app;
  expect(await db.selectFrom("accountCleanup").selectAll().where("id", "=", alice.accountId).execute()).toEqual([]);
  expect(await sessionsOf(alice.accountId)).toMatchObject([{ device: "", revokeTime: expect.any(Date) }]);
});

test("every job can be told from the others, and says what is due of it", async () => {
  const all = jobs(server.app);

  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
  for (const job of all) {
    expect(await job.measure(), job.name).toEqual({ count: expect.any(Number), oldestMs: expect.any(Number) });
    expect(job.timeoutMs, job.name).toBeLessThanOrEqual(10 * 60_000);
  }
});
