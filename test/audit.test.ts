import { createHash, randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test, vi } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { type Record as AuditRecord, AuditService, type ListRecordsRequest } from "../gen/chatpay/audit/v1/audit_pb.ts";
import { CallerKind } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { KeyService } from "../gen/chatpay/key/v1/key_pb.ts";
import { LedgerService } from "../gen/chatpay/ledger/v1/ledger_pb.ts";
import { PaymentService } from "../gen/chatpay/payment/v1/payment_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openTrail } from "../src/audit/audit.ts";
import { insertRecords } from "../src/audit/queries.ts";
import { openDatabase } from "../src/db/database.ts";
import type { AuditRow } from "../src/db/schema.ts";
import { openSession } from "../src/db/session.ts";
import type { AuditEntry } from "../src/rpc/audit.ts";
import {
  balanceOf,
  openPartner,
  openWallet,
  openWallets,
  type Person,
  proveAddress,
  signUp,
} from "./support/people.ts";
import { startProxy } from "./support/proxy.ts";
import { DOORS, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";

const server = await startServer();
afterAll(() => server.stop());

const operator = server.client(AuditService, { bearer: server.keys.operator });

/** A call that can be found again by its request id. */
function traced() {
  const requestId = randomUUID();
  return { requestId, options: { headers: { "x-request-id": requestId } } };
}

const recordsOf = (requestId: string, { db } = server.app): Promise<AuditRow[]> =>
  db.selectFrom("auditRecord").selectAll().where("requestId", "=", requestId).execute();

/** For calls that are answered before their record is there. */
const recordSoon = (requestId: string, app = server.app) =>
  vi.waitFor(
    async () => {
      const [record] = await recordsOf(requestId, app);
      if (!record) throw new Error("no record yet");
      return record;
    },
    { timeout: 5_000, interval: 20 },
  );

async function keyIdOf(key: string) {
  const keyHash = createHash("sha256").update(key).digest();
  const row = await server.app.db.selectFrom("apiKey").select("id").where("keyHash", "=", keyHash).executeTakeFirst();
  return row?.id;
}

const send = (from: Person, to: Person, amount: bigint, options = {}) =>
  from.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: to.walletId, amount }, options);

async function metricOf({ internalUrl }: TestServer, outcome: string) {
  const text = await (await fetch(`${internalUrl}/metrics`)).text();
  return Number(new RegExp(`^chatpay_audit_records_total\\{outcome="${outcome}"\\} (\\d+)`, "m").exec(text)?.[1] ?? 0);
}

test.each(DOORS)("O4: a person's change names account, session, object, address and request (%s)", async (door) => {
  const alice = await signUp(server);
  const { requestId, options } = traced();

  await server.client(AccountService, alice.credential, door).updateAccount({ displayName: "Alice" }, options);

  const [record, ...others] = await recordsOf(requestId);
  expect(others).toEqual([]);
  expect(record).toEqual({
    id: expect.any(BigInt) as bigint,
    createTime: expect.any(Date) as Date,
    rpc: "chatpay.account.v1.AccountService/UpdateAccount",
    code: 0,
    reason: 0,
    caller: CallerKind.PERSON,
    accountId: alice.accountId,
    partnerId: null,
    keyId: null,
    sessionId: expect.any(BigInt) as bigint,
    objectId: alice.accountId,
    ip: "127.0.0.1",
    requestId,
  });
});

test.each(DOORS)("O4, A11: a chat server's change names its key and the account it acts for (%s)", async (door) => {
  const alice = await openWallet(server);
  const { requestId, options } = traced();

  await server.client(AccountService, alice.credential, door).updateAccount({ displayName: "Alice" }, options);

  expect(await recordsOf(requestId)).toMatchObject([
    {
      caller: CallerKind.SERVICE,
      accountId: alice.accountId,
      keyId: await keyIdOf(server.keys.service),
      sessionId: null,
      objectId: alice.accountId,
    },
  ]);
});

test("O4: an operator's change names the key, and as its object what it made", async () => {
  const payments = server.client(PaymentService, { bearer: server.keys.operator });
  const { requestId, options } = traced();

  const { partner } = await payments.createPartner({ idempotencyKey: randomUUID(), name: "Demo Shop" }, options);

  expect(await recordsOf(requestId)).toMatchObject([
    {
      rpc: "chatpay.payment.v1.PaymentService/CreatePartner",
      caller: CallerKind.OPERATOR,
      accountId: null,
      keyId: await keyIdOf(server.keys.operator),
      objectId: BigInt(partner?.id ?? 0),
    },
  ]);
});

test.each(DOORS)("O4: a partner's change names partner and key, and as its object what it made (%s)", async (door) => {
  const shop = await openPartner(server);
  const { requestId, options } = traced();

  const keys = server.client(KeyService, { bearer: shop.bearer }, door);
  const { key } = await keys.createKey({ kind: CallerKind.PARTNER, name: "till" }, options);

  expect(await recordsOf(requestId)).toMatchObject([
    {
      rpc: "chatpay.key.v1.KeyService/CreateKey",
      code: 0,
      caller: CallerKind.PARTNER,
      partnerId: BigInt(shop.partnerId),
      keyId: await keyIdOf(shop.bearer),
      objectId: BigInt(key?.id ?? 0),
    },
  ]);
});

test("O4: a key that was rotated is found with who ended it", async () => {
  const shop = await openPartner(server);
  const keys = server.client(KeyService, { bearer: shop.bearer });
  const { key } = await keys.createKey({ kind: CallerKind.PARTNER, name: "till" });
  const { requestId, options } = traced();

  const rotated = await keys.rotateKey({ keyId: key?.id ?? "", overlapSeconds: 0 }, options);

  expect(rotated.key?.id).not.toBe(key?.id);
  const { records } = await operator.listRecords({ objectId: key?.id ?? "" });
  expect(records.map(({ rpc }) => rpc.split("/")[1])).toEqual(["RotateKey", "CreateKey"]);
  expect(records[0]).toMatchObject({ requestId, keyId: String(await keyIdOf(shop.bearer)) });
});

test.each(DOORS)("O4: a stream leaves its record when it ends (%s)", async (door) => {
  const ledger = server.client(LedgerService, { bearer: server.keys.operator }, door);
  const { requestId, options } = traced();

  for await (const { event } of ledger.verifyBooks({}, options)) expect(event.case).toBeDefined();

  expect(await recordSoon(requestId)).toMatchObject({
    rpc: "chatpay.ledger.v1.LedgerService/VerifyBooks",
    code: 0,
    keyId: await keyIdOf(server.keys.operator),
  });
});

test.each(DOORS)("O4: a partner who is refused is named with its key (%s)", async (door) => {
  const shop = await openPartner(server);
  const { requestId, options } = traced();

  const payments = server.client(PaymentService, { bearer: shop.bearer }, door);
  const refusal = await refusalOf(payments.createPartner({ idempotencyKey: randomUUID(), name: "Another" }, options));

  expect(refusal.code).toBe(Code.PermissionDenied);
  expect(await recordsOf(requestId)).toMatchObject([
    {
      code: Code.PermissionDenied,
      reason: Reason.CALLER_NOT_ALLOWED,
      caller: CallerKind.PARTNER,
      partnerId: BigInt(shop.partnerId),
      keyId: await keyIdOf(shop.bearer),
    },
  ]);
});

test("O4: signing up and signing in name the account that was opened, a wrong password names none", async () => {
  const alice = await signUp(server);
  const accounts = server.client(AccountService);
  const [right, wrong] = [traced(), traced()];

  await accounts.signIn({ email: alice.email, password: alice.password }, right.options);
  await refusalOf(accounts.signIn({ email: alice.email, password: "not the password" }, wrong.options));

  const signedUp = { rpc: "chatpay.account.v1.AccountService/SignUp", accountId: alice.accountId, code: 0 };
  const { records } = await operator.listRecords({ accountId: String(alice.accountId), rpc: signedUp.rpc });
  expect(records).toMatchObject([{ caller: CallerKind.ANYONE, objectId: String(alice.accountId), code: "ok" }]);
  expect(await recordsOf(right.requestId)).toMatchObject([
    { caller: CallerKind.ANYONE, accountId: alice.accountId, code: 0 },
  ]);
  expect(await recordsOf(wrong.requestId)).toMatchObject([
    { caller: CallerKind.ANYONE, accountId: null, code: Code.Unauthenticated, reason: Reason.SIGN_IN_FAILED },
  ]);
});

test("O4: what needs no credential names whom it was about", async () => {
  const alice = await signUp(server);
  const accounts = server.client(AccountService);
  const [refreshed, reset] = [traced(), traced()];

  await accounts.refreshTokens({ refreshToken: alice.tokens.refreshToken }, refreshed.options);
  const code = await proveAddress(server, alice.email, CodePurpose.RESET_PASSWORD);
  await accounts.resetPassword({ email: alice.email, code, newPassword: `pw-${code}-new` }, reset.options);

  expect(await recordsOf(refreshed.requestId)).toMatchObject([
    { accountId: alice.accountId, sessionId: expect.any(BigInt), code: 0 },
  ]);
  expect(await recordsOf(reset.requestId)).toMatchObject([{ accountId: alice.accountId, code: 0 }]);
});

test.each(DOORS)(
  "O4: a change that is refused is recorded with its reason and what it was about (%s)",
  async (door) => {
    const alice = await openWallet(server, { door });
    const bob = await openWallet(server);
    const [poor, malformed] = [traced(), traced()];

    await refusalOf(send(alice, bob, 1n, poor.options));
    await refusalOf(send(alice, bob, -1n, malformed.options));

    expect(await recordSoon(poor.requestId)).toMatchObject({
      code: Code.FailedPrecondition,
      reason: Reason.INSUFFICIENT_FUNDS,
      accountId: alice.accountId,
      objectId: BigInt(bob.walletId),
    });
    expect(await recordSoon(malformed.requestId)).toMatchObject({
      code: Code.InvalidArgument,
      reason: Reason.REQUEST_INVALID,
      accountId: alice.accountId,
      objectId: BigInt(bob.walletId),
    });
  },
);

test.each(DOORS)(
  "O4: a credential that opens nothing is recorded, also where nothing would change (%s)",
  async (door) => {
    const bad = server.client(WalletService, { bearer: "cp_opr_000000000000000000000000000000000000" }, door);
    const none = server.client(WalletService, {}, door);
    const [invalid, missing] = [traced(), traced()];

    await refusalOf(bad.getWallet({ walletId: "17" }, invalid.options));
    await refusalOf(none.listWallets({}, missing.options));

    const stranger = { caller: CallerKind.ANYONE, accountId: null, keyId: null, code: Code.Unauthenticated };
    expect(await recordsOf(invalid.requestId)).toMatchObject([
      { ...stranger, reason: Reason.CREDENTIAL_INVALID, objectId: 17n, ip: "127.0.0.1" },
    ]);
    expect(await recordsOf(missing.requestId)).toMatchObject([
      { ...stranger, reason: Reason.CREDENTIAL_MISSING, objectId: null },
    ]);
  },
);

test.each(DOORS)("O4: reading leaves no record, and neither does what is over a limit (%s)", async (door) => {
  const alice = await openWallet(server, { door });
  const accounts = server.client(AccountService, {}, door);
  const [found, lost, sent, limited] = [traced(), traced(), traced(), traced()];
  const request = { email: `${randomUUID()}@example.com`, purpose: CodePurpose.SIGN_UP };

  await alice.wallets.getWallet({}, found.options);
  await refusalOf(alice.wallets.getWallet({ walletId: "17" }, lost.options));
  await accounts.sendCode(request, sent.options);
  const refusal = await refusalOf(accounts.sendCode(request, limited.options));

  expect(refusal.code).toBe(Code.ResourceExhausted);
  expect(await recordsOf(sent.requestId)).toHaveLength(1);
  for (const { requestId } of [found, lost, limited]) expect(await recordsOf(requestId)).toEqual([]);
});

test("O4: what is no id is not taken for one", async () => {
  const alice = await openWallet(server);
  const { requestId, options } = traced();

  const request = { idempotencyKey: randomUUID(), recipientWalletId: "my secret", amount: 1n };
  await refusalOf(alice.transfers.sendTransfer(request, options));

  expect(await recordSoon(requestId)).toMatchObject({ reason: Reason.REQUEST_INVALID, objectId: null });
});

test("O4: each transfer, and each batch of them, leaves one record within moments", async () => {
  const [alice, bob] = (await openWallets(server, 2, { balance: 100n })) as [Person, Person];
  const [single, batch] = [traced(), traced()];

  const { transfer } = await send(alice, bob, 10n, single.options);
  const transfers = [1n, 2n, 3n].map((amount) => ({
    idempotencyKey: randomUUID(),
    recipientWalletId: bob.walletId,
    amount,
  }));
  await alice.transfers.batchSendTransfers({ transfers }, batch.options);

  expect(await recordSoon(single.requestId)).toMatchObject({
    code: 0,
    caller: CallerKind.SERVICE,
    accountId: alice.accountId,
    objectId: BigInt(transfer?.id ?? 0),
  });
  await recordSoon(batch.requestId);
  expect(await recordsOf(batch.requestId)).toMatchObject([{ code: 0, accountId: alice.accountId, objectId: null }]);
});

test("O4: a change is answered when its record is there, a transfer does not wait for it", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server);
  const [change, transfer] = [traced(), traced()];
  const session = await openSession(server.app.config.databaseUrl);
  await session.run(["lock tables audit_record read"]);

  let isAnswered = false;
  const updated = alice.accounts.updateAccount({ displayName: "Alice" }, change.options).then(() => {
    isAnswered = true;
  });
  await send(alice, bob, 10n, transfer.options);
  await pause(200);
  expect(isAnswered).toBe(false);
  await session.run(["unlock tables"]);
  await updated;

  expect(await recordsOf(change.requestId)).toHaveLength(1);
  await recordSoon(transfer.requestId);
  session.destroy();
});

test("O4: a change is answered although the database keeps its record waiting, which then still comes", async () => {
  const alice = await openWallet(server);
  const { requestId, options } = traced();
  const session = await openSession(server.app.config.databaseUrl);
  await session.run(["lock tables audit_record read"]);

  const { account } = await alice.accounts.updateAccount({ displayName: "Alice" }, options);
  expect(account?.displayName).toBe("Alice");
  await session.run(["unlock tables"]);

  await recordSoon(requestId);
  session.destroy();
});

test("O4: a database that takes no record undoes no change; the loss is in the log, without what was written", async () => {
  const own = await startServer();
  const alice = await openWallet(own, { balance: 10n });
  const bob = await openWallet(own);
  const session = await openSession(own.app.config.databaseUrl);
  const [change, transfer] = [traced(), traced()];

  await session.run(["rename table audit_record to audit_gone"]);
  await alice.accounts.updateAccount({ displayName: "Alice" }, change.options);
  await send(alice, bob, 10n, transfer.options);
  await vi.waitFor(async () => expect(await metricOf(own, "lost")).toBe(2), { timeout: 5_000, interval: 20 });
  await session.run(["rename table audit_gone to audit_record"]);
  const after = traced();
  await alice.accounts.updateAccount({ displayName: "Alicia" }, after.options);

  expect(await balanceOf(bob)).toBe(10n);
  const lines = own.logs.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines.filter(({ msg }) => msg === "the record of a change is lost")).toMatchObject([
    {
      rpc: "chatpay.account.v1.AccountService/UpdateAccount",
      accountId: String(alice.accountId),
      requestId: change.requestId,
    },
  ]);
  expect(own.logs.join("")).not.toMatch(/insert into/i);
  expect(await recordsOf(after.requestId, own.app)).toHaveLength(1);
  session.destroy();
  await own.stop();
});

test.each(["before", "unanswered"] as const)(
  "O4: a lost connection costs no record and doubles none (%s)",
  async (cut) => {
    const proxy = await startProxy(await makeDatabase());
    const own = await startServer({ DATABASE_URL: proxy.url });
    const alice = await openWallet(own);
    const { requestId, options } = traced();
    let cuts = 0;
    proxy.script = (sql) => {
      if (!sql.startsWith("insert into audit_record") || cuts > 0) return undefined;
      cuts += 1;
      return { cut };
    };

    await alice.accounts.updateAccount({ displayName: "Alice" }, options);

    expect(cuts).toBe(1);
    expect(await recordsOf(requestId, own.app)).toHaveLength(1);
    expect(await metricOf(own, "lost")).toBe(0);
    await own.stop();
    await proxy.close();
  },
);

test("O4: a trail that closes writes what waits, in as many statements as it takes", async () => {
  const { app } = server;
  const db = openDatabase(app.config.databaseUrl);
  const trail = openTrail({ db, newId: app.newId, log: app.log, observe: () => {} });
  const session = await openSession(app.config.databaseUrl);
  const requestId = randomUUID();
  await session.run(["lock tables audit_record read"]);

  for (let i = 0; i < 1_200; i += 1) trail.writeLater(entryOf({ requestId }));
  const closed = trail.close().then(() => db.destroy());
  await pause(100);
  await session.run(["unlock tables"]);
  await closed;

  expect(await recordsOf(requestId)).toHaveLength(1_200);
  session.destroy();
});

test("O4: when too many wait, records of transfers are dropped and counted, and no change waits behind them", async () => {
  const { app } = server;
  const outcomes = { written: 0, lost: 0, dropped: 0 };
  const observe = (outcome: keyof typeof outcomes, count: number) => {
    outcomes[outcome] += count;
  };
  const trail = openTrail({ db: app.db, newId: app.newId, log: app.log, observe });
  const session = await openSession(app.config.databaseUrl);
  const [transfers, change] = [randomUUID(), randomUUID()];
  await session.run(["lock tables audit_record read"]);

  for (let i = 0; i < 10_100; i += 1) trail.writeLater(entryOf({ requestId: transfers }));
  const written = trail.write(entryOf({ requestId: change }));
  await session.run(["unlock tables"]);
  await written;

  expect(await recordsOf(change)).toHaveLength(1);
  expect((await recordsOf(transfers)).length).toBeLessThan(10_000);
  await trail.close();
  expect(await recordsOf(transfers)).toHaveLength(10_000);
  expect(outcomes).toEqual({ written: 10_001, lost: 0, dropped: 100 });
  session.destroy();
});

test("O4: a flood of bad credentials leaves few rows, and hides no change", async () => {
  const own = await startServer();
  const alice = await openWallet(own);
  const CALLS = 400;
  const change = traced();
  const startedAt = Date.now();

  const flood = DOORS.flatMap((door) => {
    const wallets = own.client(WalletService, { bearer: "nothing" }, door);
    return Array.from({ length: CALLS / DOORS.length }, () => refusalOf(wallets.getWallet({})));
  });
  const codes = (await Promise.all(flood)).map(({ code }) => code);
  await alice.accounts.updateAccount({ displayName: "Alice" }, change.options);

  const { db } = own.app;
  const rows = await db.selectFrom("auditRecord").select("id").where("code", "=", Code.Unauthenticated).execute();
  // A limit on calls may have stopped the others.
  const refused = codes.filter((code) => code === Code.Unauthenticated).length;
  const seconds = Math.floor((Date.now() - startedAt) / 1_000) + 1;
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.length).toBeLessThanOrEqual(20 * seconds);
  expect(await metricOf(own, "dropped")).toBe(refused - rows.length);
  expect(own.logs.join("")).toContain("too many credentials are refused to record");
  expect(await recordsOf(change.requestId, own.app)).toHaveLength(1);
  await own.stop();
});

// The search, over rows of its own

const RPC = "chatpay.account.v1.AccountService/UpdateAccount";

const entryOf = (change: Partial<AuditEntry>): AuditEntry => ({
  rpc: RPC,
  code: 0,
  reason: 0,
  caller: CallerKind.SERVICE,
  accountId: null,
  partnerId: null,
  keyId: null,
  sessionId: null,
  objectId: null,
  ip: "192.0.2.1",
  requestId: "a-search",
  ...change,
});

const rowOf = ({ createTime = new Date(), ...change }: Partial<AuditRow>): AuditRow => ({
  id: server.app.newId(),
  createTime,
  ...entryOf(change),
});

type Search = Partial<Omit<ListRecordsRequest, "$typeName" | "$unknown">>;

async function searchAll(search: Search): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  let pageToken = "";
  do {
    const page = await operator.listRecords({ pageSize: 2, ...search, pageToken });
    records.push(...page.records);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return records;
}

test("O4: records are found by account, object, key, call, refusal and time, page by page, newest first", async () => {
  const [account, object, key] = [server.app.newId(), server.app.newId(), server.app.newId()];
  const other = { accountId: server.app.newId(), objectId: server.app.newId(), keyId: server.app.newId() };
  const ours = { accountId: account, objectId: object, keyId: key };
  const refused = { code: Code.FailedPrecondition, reason: Reason.WALLET_FROZEN };
  const old = new Date(Date.now() - 60_000);
  const rows = [
    rowOf({ ...ours, createTime: old }),
    rowOf({ ...other, accountId: account }),
    rowOf({ ...other, objectId: object, ...refused }),
    rowOf({ ...other, keyId: key }),
    rowOf({ ...ours, ...refused, rpc: "chatpay.wallet.v1.WalletService/FreezeWallet" }),
  ];
  await insertRecords(server.app.db, rows);
  const found = async (search: Search) => {
    const ids = (await searchAll(search)).map(({ id }) => BigInt(id));
    return ids.map((id) => rows.findIndex((row) => row.id === id));
  };

  expect(await found({ accountId: String(account) })).toEqual([4, 1, 0]);
  expect(await found({ objectId: String(object) })).toEqual([4, 2, 0]);
  expect(await found({ keyId: String(key) })).toEqual([4, 3, 0]);
  expect(await found({ accountId: String(account), objectId: String(object), keyId: String(key) })).toEqual([4, 0]);
  expect(await found({ accountId: String(account), rpc: RPC })).toEqual([1, 0]);
  expect(await found({ objectId: String(object), refused: true })).toEqual([4, 2]);
  const moment = timestampFromDate(new Date(old.getTime() + 1));
  expect(await found({ keyId: String(key), startTime: moment })).toEqual([4, 3]);
  expect(await found({ keyId: String(key), endTime: moment })).toEqual([0]);
  expect(await operator.listRecords({ accountId: String(account), refused: true })).toMatchObject({
    records: [
      {
        id: String(rows[4]?.id),
        rpc: "chatpay.wallet.v1.WalletService/FreezeWallet",
        code: "failed_precondition",
        reason: "REASON_WALLET_FROZEN",
        caller: CallerKind.SERVICE,
        accountId: String(account),
        partnerId: "",
        keyId: String(key),
        sessionId: "",
        objectId: String(object),
        ip: "192.0.2.1",
        requestId: "a-search",
      },
    ],
    nextPageToken: "",
  });
});

test("O4: a page looks through ten thousand records, and goes on where it stopped", async () => {
  const target = rowOf({ rpc: "chatpay.ledger.v1.LedgerService/Rare", accountId: server.app.newId() });
  const noise = Array.from({ length: 10_000 }, () => rowOf({}));
  await insertRecords(server.app.db, [target]);
  for (let i = 0; i < noise.length; i += 2_000) await insertRecords(server.app.db, noise.slice(i, i + 2_000));

  const first = await operator.listRecords({ rpc: target.rpc });
  const second = await operator.listRecords({ rpc: target.rpc, pageToken: first.nextPageToken });
  const byIndex = await operator.listRecords({ rpc: target.rpc, accountId: String(target.accountId) });

  expect(first.records).toEqual([]);
  expect(second.records.map(({ id }) => id)).toEqual([String(target.id)]);
  expect(byIndex.records.map(({ id }) => id)).toEqual([String(target.id)]);
});

test("O4: a page token is good only for the search that made it", async () => {
  const accountId = server.app.newId();
  await insertRecords(server.app.db, [rowOf({ accountId }), rowOf({ accountId })]);
  const { nextPageToken } = await operator.listRecords({ accountId: String(accountId), pageSize: 1 });

  expect(nextPageToken).not.toBe("");
  const refusal = await refusalOf(operator.listRecords({ pageSize: 1, pageToken: nextPageToken }));
  expect(refusal.reason).toBe(Reason.PAGE_TOKEN_INVALID);
});
