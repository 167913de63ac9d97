import { randomBytes, randomUUID } from "node:crypto";
import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Wallet_Kind, Wallet_State } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openTokens } from "../src/account/tokens.ts";
import { createKey, revokeKey } from "../src/key/key.ts";
import { balanceOf, openPartner, openWallet, type Person } from "./support/people.ts";
import { call, DOORS, everyRpc, nameOf, outcomeOf } from "./support/rpcs.ts";
import { type Credential, type Door, startServer } from "./support/server.ts";

type Kind = "person" | "service" | "partner" | "operator";

const INVALID = "InvalidArgument REQUEST_INVALID";

/** Who may call what, and what an empty request of theirs is answered. All others are refused. */
const RPCS: Record<string, { [kind in Kind | "anyone"]?: string }> = {
  "AccountService/SendCode": { anyone: INVALID },
  "AccountService/SignUp": { anyone: INVALID },
  "AccountService/SignIn": { anyone: INVALID },
  "AccountService/RefreshTokens": { anyone: INVALID },
  "AccountService/SignOut": { person: "OK" },
  "AccountService/GetAccount": { person: "OK", service: "OK", operator: "NotFound ACCOUNT_NOT_FOUND" },
  "AccountService/UpdateAccount": { person: "OK", service: "OK" },
  "WalletService/GetWallet": { person: "OK", service: "OK", partner: "OK", operator: "NotFound WALLET_NOT_FOUND" },
  "WalletService/ListWallets": { person: "OK", service: "OK", partner: "OK", operator: "OK" },
  "WalletService/ListEntries": { person: "OK", service: "OK", partner: "OK", operator: "NotFound WALLET_NOT_FOUND" },
  "WalletService/CreditWallet": { operator: INVALID },
  "WalletService/DebitWallet": { operator: INVALID },
  "TransferService/SendTransfer": { person: INVALID, service: INVALID },
  "TransferService/BatchSendTransfers": { person: INVALID, service: INVALID },
  "TransferService/GetTransfer": { person: INVALID, service: INVALID, operator: INVALID },
  "TransferService/ListTransfers": { person: "OK", service: "OK" },
  "PaymentService/ApprovePayment": { person: INVALID, service: INVALID },
  "PaymentService/GetPayment": { person: INVALID, service: INVALID, partner: INVALID, operator: INVALID },
  "PaymentService/ListPayments": { person: "OK", service: "OK", partner: "OK" },
  "PaymentService/CreatePartner": { operator: INVALID },
  "PaymentService/GetPartner": { partner: "OK", operator: "NotFound PARTNER_NOT_FOUND" },
  "PaymentService/ListPartners": { operator: "OK" },
  "LedgerService/VerifyBooks": { operator: "OK" },
};

/** Where a request names something by its id, and a thing of that kind that is not the caller's. */
const IDS: Record<string, { field: string; request(id: string): object; foreign: keyof Foreign; listing?: true }> = {
  "AccountService/GetAccount": { field: "account_id", request: (accountId) => ({ accountId }), foreign: "account" },
  "WalletService/GetWallet": { field: "wallet_id", request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/ListEntries": { field: "wallet_id", request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/CreditWallet": {
    field: "wallet_id",
    request: (walletId) => ({ idempotencyKey: randomUUID(), walletId, amount: 1n, reason: "mine now" }),
    foreign: "wallet",
  },
  "WalletService/DebitWallet": {
    field: "wallet_id",
    request: (walletId) => ({ idempotencyKey: randomUUID(), walletId, amount: 1n, reason: "mine now" }),
    foreign: "wallet",
  },
  // People's wallets are there to be paid; the house's are not.
  "TransferService/SendTransfer": {
    field: "recipient_wallet_id",
    request: (recipientWalletId) => ({ idempotencyKey: randomUUID(), recipientWalletId, amount: 1n }),
    foreign: "systemWallet",
  },
  "TransferService/BatchSendTransfers": {
    field: "transfers.recipient_wallet_id",
    request: (recipientWalletId) => ({
      transfers: [{ idempotencyKey: randomUUID(), recipientWalletId, amount: 1n }],
    }),
    foreign: "systemWallet",
    listing: true,
  },
  "TransferService/GetTransfer": {
    field: "transfer_id",
    request: (transferId) => ({ transferId }),
    foreign: "transfer",
  },
  "TransferService/ListTransfers": {
    field: "counterparty_wallet_id",
    request: (counterpartyWalletId) => ({ counterpartyWalletId }),
    foreign: "wallet",
    listing: true,
  },
  // Partners are there to be paid; an account is none.
  "PaymentService/ApprovePayment": {
    field: "partner_id",
    request: (partnerId) => ({ partnerId, orderKey: randomUUID(), amount: 1n }),
    foreign: "account",
  },
  "PaymentService/GetPayment": { field: "payment_id", request: (paymentId) => ({ paymentId }), foreign: "payment" },
  "PaymentService/GetPartner": { field: "partner_id", request: (partnerId) => ({ partnerId }), foreign: "partner" },
};

const server = await startServer();
const rpcs = everyRpc(server);
afterAll(() => server.stop());

interface Foreign {
  account: string;
  wallet: string;
  systemWallet: string;
  transfer: string;
  payment: string;
  partner: string;
}

let alice: Person;
let shop: Awaited<ReturnType<typeof openPartner>>;
let stranger: Person;
let foreign: Foreign;

beforeAll(async () => {
  alice = await openWallet(server, { balance: 1_000n });
  shop = await openPartner(server);
  stranger = await openWallet(server, { balance: 1_000n });
  const friend = await openWallet(server);
  const theirShop = await openPartner(server);
  const sent = { idempotencyKey: randomUUID(), recipientWalletId: friend.walletId, amount: 10n };
  const { transfer } = await stranger.transfers.sendTransfer(sent);
  const order = { partnerId: theirShop.partnerId, orderKey: randomUUID(), amount: 10n };
  const { payment } = await stranger.payments.approvePayment(order);
  foreign = {
    account: String(stranger.accountId),
    wallet: stranger.walletId,
    systemWallet: await openSystemWallet(),
    transfer: transfer?.id ?? "",
    payment: payment?.id ?? "",
    partner: theirShop.partnerId,
  };
});

/** One more, because the small ids of those that are there meet other digits of an answer. */
async function openSystemWallet(): Promise<string> {
  const { db, newId } = server.app;
  const id = newId();
  const none = { accountId: null, partnerId: null, balance: 0n, held: 0n, version: 0n, sequence: 0n };
  const times = { createTime: new Date(), updateTime: new Date() };
  await db
    .insertInto("wallet")
    .values({ id, kind: Wallet_Kind.BANK_CLEARING, state: Wallet_State.OPEN, currency: "KRW", ...none, ...times })
    .execute();
  return String(id);
}

const MINUTE_MS = 60_000;

/** A person's access token in a session of its own, given out that long ago. */
async function accessToken({ ageMs = 0, ended = false, tokenSecret = server.app.config.tokenSecret } = {}) {
  const { db, newId, config } = server.app;
  const { accountId, walletId } = alice;
  const time = new Date(Date.now() - ageMs);
  const sessionId = newId();
  await db
    .insertInto("session")
    .values({
      id: sessionId,
      accountId,
      createTime: time,
      revokeTime: ended ? time : null,
      device: "",
      ip: "",
      lastUseTime: time,
    })
    .execute();
  const tokens = openTokens({ ...config, tokenSecret });
  return (await tokens.sign({ accountId, walletId: BigInt(walletId), sessionId }, time)).token;
}

async function endedKey(kind: "service" | "operator", how: "expired" | "revoked") {
  const expireTime = how === "expired" ? new Date(Date.now() - MINUTE_MS) : undefined;
  const { key, row } = await createKey(server.app, { kind, name: how, expireTime });
  if (how === "revoked") await revokeKey(server.app, row.id);
  return key;
}

const credentialOf: Record<Kind, () => Promise<Credential>> = {
  person: async () => ({ bearer: await accessToken() }),
  service: async () => ({ bearer: server.keys.service, accountId: alice.accountId }),
  partner: async () => ({ bearer: shop.bearer }),
  operator: async () => ({ bearer: server.keys.operator }),
};

const KINDS = Object.keys(credentialOf) as Kind[];
const NOT_VALID = "Unauthenticated CREDENTIAL_INVALID";
const ACTING_INVALID = "InvalidArgument ACTING_ACCOUNT_INVALID";

/** Callers who are nobody in particular, and how each call that is not for anyone ends for them. */
const NOBODIES: Record<string, [refusal: string, credential: () => Credential | Promise<Credential>]> = {
  "no credential": ["Unauthenticated CREDENTIAL_MISSING", () => ({})],
  "an empty credential": [NOT_VALID, () => ({ bearer: "" })],
  "two words": [NOT_VALID, () => ({ bearer: "let me" })],
  "no known form": [NOT_VALID, () => ({ bearer: "letmein" })],
  "a key with a wrong letter": [NOT_VALID, () => ({ bearer: `${server.keys.operator.slice(0, -1)}_` })],
  "a key of another kind": [NOT_VALID, () => ({ bearer: server.keys.service.replace("svc", "opr") })],
  "an expired key": [NOT_VALID, async () => ({ bearer: await endedKey("operator", "expired") })],
  "a revoked key": [NOT_VALID, async () => ({ bearer: await endedKey("operator", "revoked") })],
  "a revoked key and an account": [
    NOT_VALID,
    async () => ({ bearer: await endedKey("service", "revoked"), accountId: alice.accountId }),
  ],
  "a token cut short": [NOT_VALID, async () => ({ bearer: (await accessToken()).slice(0, -3) })],
  "a token of another deployment": [
    NOT_VALID,
    async () => ({ bearer: await accessToken({ tokenSecret: randomBytes(32) }) }),
  ],
  "an expired token": [NOT_VALID, async () => ({ bearer: await accessToken({ ageMs: 16 * MINUTE_MS }) })],
  "a token of an ended session": [NOT_VALID, async () => ({ bearer: await accessToken({ ended: true }) })],
  "a service for nobody": [ACTING_INVALID, () => ({ bearer: server.keys.service })],
  "a service for no account": [
    "NotFound ACCOUNT_NOT_FOUND",
    () => ({ bearer: server.keys.service, accountId: "4242" }),
  ],
  "a service for account 0": [ACTING_INVALID, () => ({ bearer: server.keys.service, accountId: "0" })],
  "a service for a name": [ACTING_INVALID, () => ({ bearer: server.keys.service, accountId: "alice" })],
  "a service for one account twice": [
    ACTING_INVALID,
    () => ({ bearer: server.keys.service, accountId: `${alice.accountId}, ${alice.accountId}` }),
  ],
  "a service for two accounts": [
    ACTING_INVALID,
    () => ({ bearer: server.keys.service, accountId: `${alice.accountId}, ${stranger.accountId}` }),
  ],
  "a person for an account": [
    ACTING_INVALID,
    async () => ({ bearer: await accessToken(), accountId: stranger.accountId }),
  ],
  "a partner for an account": [ACTING_INVALID, () => ({ bearer: shop.bearer, accountId: stranger.accountId })],
  "an operator for an account": [
    ACTING_INVALID,
    () => ({ bearer: server.keys.operator, accountId: stranger.accountId }),
  ],
};

test("the table names every RPC, and no other", () => {
  expect(Object.keys(RPCS).toSorted()).toEqual(rpcs.map(nameOf).toSorted());
});

test.each(DOORS)("each RPC lets in the callers of the table, and nobody else: %s", async (door) => {
  for (const rpc of rpcs) {
    const may = RPCS[nameOf(rpc)] ?? {};
    for (const kind of KINDS) {
      const outcome = await outcomeOf(call(server, rpc, {}, await credentialOf[kind](), door));
      const expected = may.anyone ?? may[kind] ?? "PermissionDenied CALLER_NOT_ALLOWED";
      expect([nameOf(rpc), kind, outcome]).toEqual([nameOf(rpc), kind, expected]);
    }
  }
});

test.each(DOORS)("a credential that is missing, wrong or over opens nothing: %s", async (door) => {
  for (const [who, [refusal, credential]] of Object.entries(NOBODIES)) {
    const made = await credential();
    for (const rpc of rpcs) {
      const outcome = await outcomeOf(call(server, rpc, {}, made, door));
      const expected = RPCS[nameOf(rpc)]?.anyone ?? refusal;
      expect([nameOf(rpc), who, outcome]).toEqual([nameOf(rpc), who, expected]);
    }
  }
});

/** The fields of a request, at any depth, that are ids by their name. */
function idFieldsOf(message: DescMessage, above = ""): string[] {
  return message.fields.flatMap((field) => {
    const path = `${above}${field.name}`;
    if (field.message) return idFieldsOf(field.message, `${path}.`);
    return field.name.endsWith("_id") ? [path] : [];
  });
}

test("the table of ids names every id that a request takes", () => {
  const taken = Object.fromEntries(
    rpcs.flatMap((rpc) => {
      const fields = idFieldsOf(rpc.input);
      return fields.length > 0 ? [[nameOf(rpc), fields]] : [];
    }),
  );

  expect(Object.fromEntries(Object.entries(IDS).map(([name, { field }]) => [name, [field]]))).toEqual(taken);
});

const PER_CALL = new Set(["date", "x-request-id"]);

/** All that a caller is told, but for the id that they sent. */
async function answerTo(rpc: DescMethod, id: string, credential: Credential, door: Door): Promise<string> {
  const request = IDS[nameOf(rpc)]?.request(id) ?? {};
  const answer = await call(server, rpc, request, credential, door).catch((failure: unknown) => {
    const { code, rawMessage, details, metadata } = ConnectError.from(failure);
    const texts = details.map((detail) =>
      "desc" in detail ? detail : [detail.type, Buffer.from(detail.value).toString("latin1")],
    );
    // The Connect and gRPC clients keep the details in a header too, where they are hard to read.
    const header = [...metadata].filter(([name]) => !PER_CALL.has(name) && !name.endsWith("-bin"));
    return { refused: code, rawMessage, texts, header };
  });
  return JSON.stringify(answer, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)).replaceAll(
    id,
    "<id>",
  );
}

/** An operator may see whatever there is. */
const { operator: _, ...credentialOfOthers } = credentialOf;

test.each(DOORS)("what is somebody else's is refused as what does not exist: %s", async (door) => {
  for (const rpc of rpcs.filter((one) => nameOf(one) in IDS)) {
    const row = IDS[nameOf(rpc)];
    const theirs = foreign[row?.foreign ?? "account"];
    // As long, and of a time to come.
    const unknown = String(BigInt(theirs) + 2n ** 45n);
    for (const [kind, credential] of Object.entries({ nobody: async () => ({}), ...credentialOfOthers })) {
      const made = await credential();
      const answer = await answerTo(rpc, theirs, made, door);
      const about = `${nameOf(rpc)} by ${kind}`;

      expect([about, answer]).toEqual([about, await answerTo(rpc, unknown, made, door)]);
      expect([about, row?.listing ?? answer.includes('"refused"')]).toEqual([about, true]);
    }
  }
  expect(await balanceOf(stranger)).toBe(980n);
});

test.each(DOORS)("an operator is told what does not exist: %s", async (door) => {
  for (const rpc of rpcs.filter((one) => nameOf(one) in IDS && RPCS[nameOf(one)]?.operator)) {
    const answer = call(server, rpc, IDS[nameOf(rpc)]?.request("4242") ?? {}, await credentialOf.operator(), door);
    expect([nameOf(rpc), await outcomeOf(answer)]).toEqual([nameOf(rpc), expect.stringMatching(/^NotFound /)]);
  }
});
