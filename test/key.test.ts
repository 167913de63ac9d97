import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { clone, create, createFileRegistry, type DescFile, setExtension } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService } from "../gen/chatpay/account/v1/account_pb.ts";
import { AuditService } from "../gen/chatpay/audit/v1/audit_pb.ts";
import { AllowSchema, allow, CallerKind, Scope } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { KeyService } from "../gen/chatpay/key/v1/key_pb.ts";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { EchoService } from "../gen/echo/v1/echo_pb.ts";
import { createKey } from "../src/key/key.ts";
import { isKeyText } from "../src/key/text.ts";
import { route } from "../src/rpc/route.ts";
import { openEcho } from "./support/echo.ts";
import { openPartner, openWallet, signUp } from "./support/people.ts";
import { errorOf, outcomeOf, refusalOf } from "./support/rpcs.ts";
import { type Credential, startServer, type TestServer } from "./support/server.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let server: TestServer;
/** Another process of the same deployment. */
let neighbour: TestServer;

beforeAll(async () => {
  server = await startServer();
  neighbour = await startServer({ DATABASE_URL: server.app.config.databaseUrl });
});
afterAll(async () => {
  await neighbour?.stop();
  await server?.stop();
});

const keysBy = (bearer: string, at = server) => at.client(KeyService, { bearer });
const operator = () => keysBy(server.keys.operator);
const accounts = (credential: Credential, at = server) => at.client(AccountService, credential);

type Order = Parameters<ReturnType<typeof keysBy>["createKey"]>[0];

/** A key that an operator makes; by default an operator's. */
async function makeKey(order: Order = {}, by = operator()) {
  const { key, secret } = await by.createKey({ kind: CallerKind.OPERATOR, name: "desk", ...order });
  if (!key) throw new Error("no key came back");
  return { ...key, secret };
}

/** Whether the key of this text gets somebody in. */
const use = (bearer: string, at = server) => outcomeOf(at.client(WalletService, { bearer }).listWallets({}));
const ENDED = "Unauthenticated CREDENTIAL_INVALID";

const rowOf = (id: string) =>
  server.app.db.selectFrom("apiKey").selectAll().where("id", "=", BigInt(id)).executeTakeFirstOrThrow();

// What a key is

test("A10: a key is shown once and stored as a hash", async () => {
  const { id, secret, ending } = await makeKey({ kind: CallerKind.SERVICE, name: "chat" });

  const row = await rowOf(id);
  expect(row.keyHash).toEqual(hash("sha256", secret, "buffer"));
  expect(ending).toBe(secret.slice(-4));
  const known = [JSON.stringify(row, (_, value: unknown) => String(value)), server.logs.join("\n")];
  const { keys } = await operator().listKeys({});
  expect(keys.find((key) => key.id === id)).toMatchObject({ name: "chat", ending });
  for (const text of [...known, JSON.stringify(keys, (_, value: unknown) => String(value))])
    expect(text).not.toContain(secret.slice("cp_svc_".length, -4));
});

test("A10: a key has a prefix that scanners of secrets find, and a checksum", async () => {
  const { partnerId } = await openPartner(server);
  const made = [
    await makeKey({ kind: CallerKind.SERVICE }),
    await makeKey({ kind: CallerKind.PARTNER, partnerId }),
    await makeKey({ kind: CallerKind.OPERATOR }),
  ];

  expect(made.map(({ secret }) => secret.slice(0, 7))).toEqual(["cp_svc_", "cp_ptn_", "cp_opr_"]);
  for (const { secret } of made) {
    expect(secret).toMatch(/^cp_[a-z]{3}_[0-9A-Za-z]{36}$/);
    expect(isKeyText(secret)).toBe(true);
    for (const at of [7, 20, secret.length - 1]) {
      const mistyped = `${secret.slice(0, at)}${secret[at] === "A" ? "B" : "A"}${secret.slice(at + 1)}`;
      expect([mistyped, isKeyText(mistyped)]).toEqual([mistyped, false]);
    }
  }
});

test("A10: keys that nobody has are refused", async () => {
  const wrongChecksum = `${server.keys.operator.slice(0, -1)}!`;
  const unknown = "cp_opr_000000000000000000000000000000000000";

  for (const bearer of [wrongChecksum, unknown, "cp_", "cp_svc_", `${server.keys.operator} `.repeat(2).trim()])
    expect([bearer, await use(bearer)]).toEqual([bearer, ENDED]);
});

test("A10: the last use of a key is noted, if it got somebody in, once a minute", async () => {
  const { id, secret } = await makeKey({ scopes: [Scope.WALLETS_READ] });
  const lastUse = async () => (await rowOf(id)).lastUseTime;
  const transfers = server.client(TransferService, { bearer: secret });

  expect(await outcomeOf(transfers.listTransfers({}))).toBe("PermissionDenied CALLER_NOT_ALLOWED");
  expect(await outcomeOf(keysBy(secret).listKeys({}))).toBe("PermissionDenied SCOPE_MISSING");
  await sleep(100);
  expect(await lastUse()).toBeNull();

  await use(secret);
  await expect.poll(lastUse).toBeInstanceOf(Date);
  const noted = await lastUse();
  await use(secret);
  await use(secret, neighbour);
  await sleep(100);
  expect(await lastUse()).toEqual(noted);
  expect((await operator().listKeys({})).keys.find((key) => key.id === id)?.lastUseTime).toEqual(
    timestampFromDate(noted as Date),
  );
});

// How it ends

test("A10: a revoked key stops at once, in every process, and stays as it is", async () => {
  const { id, secret } = await makeKey();
  expect([await use(secret), await use(secret, neighbour)]).toEqual(["OK", "OK"]);

  const { key } = await operator().revokeKey({ keyId: id });

  expect(await use(secret)).toBe(ENDED);
  await expect.poll(() => use(secret, neighbour), { timeout: 1_000 }).toBe(ENDED);
  expect(key?.revokeTime).toBeDefined();
  expect((await operator().revokeKey({ keyId: id })).key).toEqual(key);
});

test("A10: a key may revoke itself", async () => {
  const { id, secret } = await makeKey({ scopes: [Scope.KEYS_WRITE] });

  await keysBy(secret).revokeKey({ keyId: id });

  expect(await outcomeOf(keysBy(secret).revokeKey({ keyId: id }))).toBe(ENDED);
});

test("A10: a key ends at its time, known or not", async () => {
  const expireTime = new Date(Date.now() + 1_000);
  const { secret } = await makeKey({ expireTime: timestampFromDate(expireTime) });

  expect(await use(secret)).toBe("OK");
  await sleep(expireTime.getTime() - Date.now() + 5);

  expect([await use(secret), await use(secret, neighbour)]).toEqual([ENDED, ENDED]);
});

test("A10: a key ends in the future", async () => {
  for (const seconds of [0n, BigInt(Math.floor(Date.now() / 1_000) - 1), 253_402_300_800n, 2n ** 62n, -1n])
    expect([seconds, await outcomeOf(makeKey({ expireTime: { seconds } }))]).toEqual([
      seconds,
      "InvalidArgument REQUEST_INVALID",
    ]);
});

// Rotation

test("A10: a rotated key works beside the new one for the overlap, in every process, and no longer", async () => {
  const old = await makeKey({ kind: CallerKind.OPERATOR, name: "desk 7", scopes: [Scope.WALLETS_READ] });
  expect([await use(old.secret), await use(old.secret, neighbour)]).toEqual(["OK", "OK"]);

  const { key, secret } = await operator().rotateKey({ keyId: old.id, overlapSeconds: 1 });

  expect(key).toMatchObject({ kind: old.kind, name: old.name, scopes: old.scopes });
  expect(key?.expireTime).toBeUndefined();
  expect(key?.id).not.toBe(old.id);
  for (const at of [server, neighbour])
    expect([await use(old.secret, at), await use(secret, at)]).toEqual(["OK", "OK"]);
  await sleep(1_010);
  for (const at of [server, neighbour])
    expect([await use(old.secret, at), await use(secret, at)]).toEqual([ENDED, "OK"]);
});

test("A10: a rotation without overlap ends the key at once, in every process", async () => {
  const old = await makeKey();
  expect(await use(old.secret, neighbour)).toBe("OK");

  const { secret } = await operator().rotateKey({ keyId: old.id });

  expect([await use(old.secret), await use(secret)]).toEqual([ENDED, "OK"]);
  await expect.poll(() => use(old.secret, neighbour), { timeout: 1_000 }).toBe(ENDED);
});

test("A10: a rotation ends no key later than it would, and the new one lives as long", async () => {
  const old = await makeKey({ expireTime: timestampFromDate(new Date(Date.now() + HOUR_MS)) });

  const { key } = await operator().rotateKey({ keyId: old.id, overlapSeconds: 7_200 });

  const lifeOf = ({ createTime, expireTime }: NonNullable<typeof key>) =>
    createTime && expireTime && timestampDate(expireTime).getTime() - timestampDate(createTime).getTime();
  const { keys } = await operator().listKeys({});
  expect(keys.find(({ id }) => id === old.id)?.expireTime).toEqual(old.expireTime);
  expect(key && lifeOf(key)).toBe(lifeOf(old));
});

test("A10: a key that ended is not rotated, and one that many rotate at once ends once", async () => {
  const revoked = await makeKey();
  await operator().revokeKey({ keyId: revoked.id });
  expect(await outcomeOf(operator().rotateKey({ keyId: revoked.id }))).toBe("FailedPrecondition KEY_ENDED");
  expect(await outcomeOf(operator().rotateKey({ keyId: "4242" }))).toBe("NotFound KEY_NOT_FOUND");

  const { id } = await makeKey();
  const rotations = Array.from({ length: 10 }, (_, i) =>
    outcomeOf(keysBy(server.keys.operator, i % 2 ? server : neighbour).rotateKey({ keyId: id })),
  );
  const outcomes = await Promise.all(rotations);

  expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
  expect(new Set(outcomes)).toEqual(new Set(["OK", "FailedPrecondition KEY_ENDED"]));
});

// Whose keys

test("A10: an operator has all keys, by page, and those of a partner", async () => {
  const { partnerId } = await openPartner(server);
  const made = [await makeKey(), await makeKey({ kind: CallerKind.PARTNER, partnerId }), await makeKey()];

  const first = await operator().listKeys({ pageSize: 2 });
  const second = await operator().listKeys({ pageSize: 2, pageToken: first.nextPageToken });
  const ids = [...first.keys, ...second.keys].map(({ id }) => id);
  expect(ids.slice(0, 3)).toEqual(made.map(({ id }) => id).toReversed());

  const { keys } = await operator().listKeys({ partnerId });
  expect(keys.map((key) => [key.kind, key.partnerId])).toEqual([
    [CallerKind.PARTNER, partnerId],
    [CallerKind.PARTNER, partnerId],
  ]);
  expect((await operator().listKeys({ partnerId: "4242" })).keys).toEqual([]);
});

test("A10: a partner makes, sees and ends its own keys, and no others", async () => {
  const [shop, other] = [await openPartner(server), await openPartner(server)];
  const keys = keysBy(shop.bearer);
  const [theirs] = (await keysBy(other.bearer).listKeys({})).keys;
  const make = (order: Order) => outcomeOf(keys.createKey({ kind: CallerKind.PARTNER, name: "till", ...order }));

  expect(await make({ kind: CallerKind.OPERATOR })).toBe("InvalidArgument REQUEST_INVALID");
  expect(await make({ kind: CallerKind.SERVICE })).toBe("InvalidArgument REQUEST_INVALID");
  expect(await make({ partnerId: other.partnerId })).toBe("NotFound PARTNER_NOT_FOUND");
  expect(await make({ partnerId: "4242" })).toBe("NotFound PARTNER_NOT_FOUND");
  for (const keyId of [theirs?.id ?? "", (await makeKey()).id, "4242"]) {
    expect(await outcomeOf(keys.rotateKey({ keyId }))).toBe("NotFound KEY_NOT_FOUND");
    expect(await outcomeOf(keys.revokeKey({ keyId }))).toBe("NotFound KEY_NOT_FOUND");
  }
  expect((await keys.listKeys({ partnerId: other.partnerId })).keys).toEqual([]);
  expect(await use(other.bearer)).toBe("OK");

  expect(await make({ partnerId: shop.partnerId })).toBe("OK");
  const [till] = (await keys.listKeys({})).keys;
  expect(till).toMatchObject({ name: "till", partnerId: shop.partnerId, kind: CallerKind.PARTNER });
  const { secret } = await keys.rotateKey({ keyId: till?.id ?? "" });
  expect(await use(secret)).toBe("OK");
  expect((await keys.listKeys({})).keys).toHaveLength(3);
});

test("A10: the key of a partner names a partner that there is, and no other key names one", async () => {
  const { partnerId } = await openPartner(server);

  expect(await outcomeOf(makeKey({ kind: CallerKind.PARTNER, partnerId: "4242" }))).toBe("NotFound PARTNER_NOT_FOUND");
  for (const order of [{ kind: CallerKind.PARTNER }, { kind: CallerKind.SERVICE, partnerId }])
    expect(await outcomeOf(makeKey(order))).toBe("InvalidArgument REQUEST_INVALID");
});

test("A10: a partner has a hundred keys that work at most, however many are made at once", async () => {
  const { partnerId, bearer } = await openPartner(server);
  const order = { kind: CallerKind.PARTNER, name: "till" };
  const row = { kind: "partner", name: "till", partnerId: BigInt(partnerId) } as const;
  const { secret } = await makeKey({ ...order, partnerId });
  await Promise.all(Array.from({ length: 93 }, () => createKey(server.app, row)));

  const [mine, theirs] = [keysBy(bearer), keysBy(secret, neighbour)];
  const made = await Promise.all(
    Array.from({ length: 20 }, (_, i) => outcomeOf((i % 2 ? mine : theirs).createKey(order))),
  );

  const TOO_MANY = "FailedPrecondition TOO_MANY_KEYS";
  expect(made.toSorted()).toEqual([
    ...Array.from({ length: 15 }, () => TOO_MANY),
    ...Array.from({ length: 5 }, () => "OK"),
  ]);

  const [newest] = (await keysBy(bearer).listKeys({ pageSize: 1 })).keys;
  const keyId = newest?.id ?? "";
  expect(await outcomeOf(keysBy(bearer).rotateKey({ keyId, overlapSeconds: 60 }))).toBe(TOO_MANY);
  expect((await rowOf(keyId)).expireTime).toBeNull();
  expect(await outcomeOf(keysBy(bearer).rotateKey({ keyId }))).toBe("OK");
  expect(await outcomeOf(keysBy(bearer).createKey(order))).toBe(TOO_MANY);
  const [newer] = (await keysBy(bearer).listKeys({ pageSize: 1 })).keys;
  await keysBy(bearer).revokeKey({ keyId: newer?.id ?? "" });
  expect(await outcomeOf(keysBy(bearer).createKey(order))).toBe("OK");
});

// What it may do

test("A10: a key with scopes calls what they open, and one without whatever its kind may", async () => {
  const { accountId, walletId } = await openWallet(server);
  const { secret, scopes } = await makeKey({ kind: CallerKind.SERVICE, scopes: [Scope.WALLETS_READ] });
  const credential = { bearer: secret, accountId };
  const sent = { idempotencyKey: "a", recipientWalletId: walletId, amount: 1n };

  expect(scopes).toEqual([Scope.WALLETS_READ]);
  for (const at of [server, neighbour]) {
    expect(await outcomeOf(at.client(WalletService, credential).getWallet({}))).toBe("OK");
    const refused = await errorOf(at.client(TransferService, credential).sendTransfer(sent));
    expect(refused.code).toBe(Code.PermissionDenied);
    expect(refused.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: Reason.SCOPE_MISSING, metadata: { scope: "TRANSFERS_WRITE" } },
    ]);
  }
  const whole = { bearer: server.keys.service, accountId };
  expect(await outcomeOf(server.client(TransferService, whole).sendTransfer(sent))).toBe("InvalidArgument SAME_WALLET");
});

test("A10: a key with scopes makes no key that may do more than itself", async () => {
  const { partnerId } = await openPartner(server);
  const { secret } = await makeKey({ scopes: [Scope.KEYS_WRITE, Scope.WALLETS_READ] });
  const make = (kind: CallerKind, scopes: Scope[], more = {}) => makeKey({ kind, scopes, ...more }, keysBy(secret));
  const tooMuch = { code: Code.PermissionDenied, reason: Reason.SCOPE_MISSING };

  for (const scopes of [[Scope.WALLETS_READ], [Scope.KEYS_WRITE, Scope.WALLETS_READ]])
    expect(await make(CallerKind.OPERATOR, scopes)).toMatchObject({ scopes: scopes.toSorted((a, b) => a - b) });
  for (const attempt of [
    make(CallerKind.OPERATOR, []),
    make(CallerKind.OPERATOR, [Scope.WALLETS_WRITE]),
    make(CallerKind.OPERATOR, [Scope.WALLETS_READ, Scope.TRANSFERS_WRITE]),
    make(CallerKind.SERVICE, [Scope.WALLETS_READ]),
    make(CallerKind.SERVICE, []),
    make(CallerKind.PARTNER, [Scope.WALLETS_READ], { partnerId }),
  ])
    expect(await refusalOf(attempt)).toEqual(tooMuch);
});

test("A10: a key with scopes replaces no key that may do more than itself", async () => {
  const scopes = [Scope.KEYS_WRITE, Scope.WALLETS_READ];
  const [mine, child] = [await makeKey({ scopes }), await makeKey({ scopes: [Scope.WALLETS_READ] })];
  const others = [
    await makeKey(),
    await makeKey({ scopes: [...scopes, Scope.WALLETS_WRITE] }),
    await makeKey({ kind: CallerKind.SERVICE, scopes: [Scope.WALLETS_READ] }),
  ];

  for (const { id } of others) {
    const attempt = keysBy(mine.secret).rotateKey({ keyId: id });
    expect(await refusalOf(attempt)).toEqual({ code: Code.PermissionDenied, reason: Reason.SCOPE_MISSING });
    expect((await rowOf(id)).expireTime).toBeNull();
  }
  for (const { id } of [child, mine]) {
    const { key } = await keysBy(mine.secret).rotateKey({ keyId: id, overlapSeconds: 60 });
    expect(key?.scopes).toEqual((id === child.id ? child : mine).scopes);
  }
});

test("A10: a partner's key with scopes makes none without", async () => {
  const { partnerId } = await openPartner(server);
  const { secret } = await makeKey({
    kind: CallerKind.PARTNER,
    partnerId,
    scopes: [Scope.KEYS_WRITE, Scope.KEYS_READ],
  });
  const make = (scopes: Scope[]) => outcomeOf(makeKey({ kind: CallerKind.PARTNER, scopes }, keysBy(secret)));

  expect(await make([])).toBe("PermissionDenied SCOPE_MISSING");
  expect(await make([Scope.PAYMENTS_READ])).toBe("PermissionDenied SCOPE_MISSING");
  expect(await make([Scope.KEYS_READ])).toBe("OK");
});

test("A10: a key that ended since its call was let in leaves no other behind", async () => {
  const { id } = await makeKey();
  await operator().revokeKey({ keyId: id });

  const attempt = createKey(server.app, { kind: "operator", name: "heir" }, { kind: "operator", keyId: BigInt(id) });

  expect(await outcomeOf(attempt)).toBe(ENDED);
});

test("A10: a server with an RPC that keys may call without a scope refuses to start", async () => {
  const withRule = (rule: { callers: CallerKind[]; scope?: Scope }) => {
    const file = clone(FileDescriptorProtoSchema, EchoService.file.proto);
    const secret = file.service[0]?.method.find(({ name }) => name === "Secret");
    if (!secret?.options) throw new Error("the echo service has no RPC of that name");
    setExtension(secret.options, allow, create(AllowSchema, rule));
    const others = new Map<string, DescFile>(EchoService.file.dependencies.map((one) => [one.proto.name, one]));
    const planted = createFileRegistry(file, (name) => others.get(name)).getService(EchoService.typeName);
    if (!planted) throw new Error("no service was planted");
    return { routes: [route(planted, {})] };
  };

  for (const kind of [CallerKind.SERVICE, CallerKind.PARTNER, CallerKind.OPERATOR])
    await expect(openEcho({}, withRule({ callers: [CallerKind.PERSON, kind] }))).rejects.toThrow(
      "no scope says which API keys may call: echo.v1.EchoService/Secret",
    );
  for (const rule of [{ callers: [CallerKind.PERSON] }, { callers: [CallerKind.SERVICE], scope: Scope.WALLETS_READ }]) {
    await using echo = await openEcho({}, withRule(rule));
    expect(echo.connectPort).toBeGreaterThan(0);
  }
});

// Acting for an account

test("A11: a chat server acts for the account that it names", async () => {
  const { accountId } = await openWallet(server);

  const { account } = await accounts({ bearer: server.keys.service, accountId }).getAccount({});

  expect(account?.id).toBe(String(accountId));
});

test("A11: a chat server names exactly one account that there is", async () => {
  const { accountId } = await openWallet(server);
  const actAs = (named?: string) =>
    outcomeOf(accounts({ bearer: server.keys.service, accountId: named }).getAccount({}));

  const invalid = [undefined, "", "0", "-1", "1.0", "0x10", "me", `${accountId}, ${accountId}`, "1".repeat(20)];
  for (const named of invalid)
    expect([named, await actAs(named)]).toEqual([named, "InvalidArgument ACTING_ACCOUNT_INVALID"]);
  for (const named of ["1", "9223372036854775807", "9999999999999999999"])
    expect([named, await actAs(named)]).toEqual([named, "NotFound ACCOUNT_NOT_FOUND"]);
});

test("A11: nobody but a chat server names an account to act for", async () => {
  const { accountId } = await openWallet(server);
  const { tokens } = await signUp(server);
  const { bearer: partner, wallets } = await openPartner(server);
  await wallets.listWallets({});

  for (const bearer of [tokens.accessToken, server.keys.operator, partner]) {
    for (let i = 0; i < 2; i += 1)
      expect(await outcomeOf(server.client(WalletService, { bearer, accountId }).listWallets({}))).toBe(
        "InvalidArgument ACTING_ACCOUNT_INVALID",
      );
  }
});

test("A11: the audit trail shows the key and the account that it acts for", async () => {
  const { accountId } = await openWallet(server);
  const { id, secret } = await makeKey({ kind: CallerKind.SERVICE, scopes: [Scope.ACCOUNTS_WRITE] });

  await accounts({ bearer: secret, accountId }).updateAccount({ displayName: "Alice" });
  const sent = { idempotencyKey: "a", recipientWalletId: "4242", amount: 1n };
  await outcomeOf(server.client(TransferService, { bearer: secret, accountId }).sendTransfer(sent));

  const audit = server.client(AuditService, { bearer: server.keys.operator });
  const recorded = async () =>
    (await audit.listRecords({ keyId: id })).records.map(({ rpc, code, keyId, accountId: account }) => ({
      rpc: rpc.split("/")[1],
      code,
      keyId,
      account,
    }));
  const both = { keyId: id, account: String(accountId) };
  await expect.poll(recorded, { timeout: 2_000 }).toEqual([
    { rpc: "SendTransfer", code: "permission_denied", ...both },
    { rpc: "UpdateAccount", code: "ok", ...both },
  ]);
});

test("A11: nobody acts for an account that was closed, in any process", async () => {
  const { accountId } = await openWallet(server);
  const act = (at: TestServer) => outcomeOf(accounts({ bearer: server.keys.service, accountId }, at).getAccount({}));
  expect([await act(server), await act(neighbour)]).toEqual(["OK", "OK"]);

  await accounts({ bearer: server.keys.service, accountId }).closeAccount({});

  expect(await act(server)).toBe("NotFound ACCOUNT_NOT_FOUND");
  await expect.poll(() => act(neighbour), { timeout: 1_000 }).toBe("NotFound ACCOUNT_NOT_FOUND");
});

test("A10: no log line holds a key", async () => {
  const { id, secret } = await makeKey();
  await use(secret);
  const rotated = await operator().rotateKey({ keyId: id });

  const logs = server.logs.join("\n");

  expect(logs).toContain("RotateKey");
  for (const text of [secret, rotated.secret, server.keys.operator]) expect(logs).not.toContain(text.slice(7, -4));
});
