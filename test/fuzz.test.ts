import { randomUUID } from "node:crypto";
import { Agent, request as httpRequestTo, type IncomingHttpHeaders } from "node:http";
import { buffer } from "node:stream/consumers";
import { type DescMethod, fromBinary, fromJsonString, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { type Arbitrary, assert as assertProperty, asyncProperty, constantFrom } from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { findAccount } from "../src/account/queries.ts";
import { openSessions } from "../src/account/sessions.ts";
import { createKey } from "../src/key/key.ts";
import {
  type GrpcRequest,
  grpcRequest,
  type HeaderLine,
  type HttpRequest,
  httpRequest,
  type World,
} from "./support/fuzz.ts";
import { chooseSeed } from "./support/load.ts";
import { differencesIn, openPartner, openWallet, type Person, signUp } from "./support/people.ts";
import { DOORS, everyRpc, nameOf, outcomeOf } from "./support/rpcs.ts";
import { type Credential, type Door, startServer } from "./support/server.ts";

const RUNS = Number(process.env.CHATPAY_TEST_RUNS ?? 60);
const HANG_MS = 15_000;

const server = await startServer();
const rpcs = everyRpc(server);
const seed = chooseSeed("fuzz");
const agent = new Agent({ keepAlive: true });
const grpc = new Client(server.grpcAddress, credentials.createInsecure());

type Who = "nobody" | "person" | "service" | "partner" | "operator";

const world: World = { ids: [], emails: ["victim@example.com"], pageTokens: [] };
const credentialOf: Record<Who, Credential> = {
  nobody: {},
  person: {},
  service: {},
  partner: {},
  operator: { bearer: server.keys.operator },
};
/** The wallets that each may take money from. An operator may from all. */
const pockets: Record<Who, bigint | "all" | undefined> = {
  nobody: undefined,
  person: undefined,
  service: undefined,
  partner: undefined,
  operator: "all",
};
/** Those with money more often. */
const CALLERS: Who[] = ["nobody", "person", "person", "service", "service", "partner", "operator", "operator"];

let person: Person;
let service: Person;
/** The last posting before anybody called. */
let lastPosting = 0n;

beforeAll(async () => {
  // So much that no account can be emptied, and then closed.
  const balance = 1_000_000_000n;
  person = await openWallet(server, { balance });
  const bait = await signUp(server);
  service = await openWallet(server, { balance });
  const victim = await openWallet(server, { balance });
  const shop = await openPartner(server);
  Object.assign(credentialOf, { service: service.credential, partner: { bearer: shop.bearer } });
  Object.assign(pockets, { person: BigInt(person.walletId), service: BigInt(service.walletId) });

  const sent = { idempotencyKey: randomUUID(), recipientWalletId: person.walletId, amount: 10n };
  const { transfer } = await victim.transfers.sendTransfer(sent);
  const order = { partnerId: shop.partnerId, orderKey: "the same", amount: 10n };
  const { payment } = await victim.payments.approvePayment(order);
  const { nextPageToken } = await victim.wallets.listEntries({ pageSize: 1 });
  world.ids.push("1", person.walletId, service.walletId, victim.walletId, String(victim.accountId), shop.partnerId);
  const spare = await createKey(server.app, { kind: "operator", name: "to be revoked" });
  world.ids.push(transfer?.id ?? "", payment?.id ?? "", String(spare.row.id));
  for (const one of [person, service]) {
    const parts = [{ payerWalletId: one.walletId, amount: 5n }];
    const { request } = await victim.requests.createRequest({ idempotencyKey: randomUUID(), parts });
    world.ids.push(request?.id ?? "");
    const transferTime = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 3_600) };
    const later = { idempotencyKey: randomUUID(), recipientWalletId: victim.walletId, amount: 5n, transferTime };
    const { scheduledTransfer } = await one.schedules.scheduleTransfer(later);
    world.ids.push(scheduledTransfer?.id ?? "");
  }
  for (const [from, to, who] of [
    [person, service, "person"],
    [service, person, "service"],
  ] as const) {
    const { transfer: gift } = await from.transfers.sendGift({ ...sent, recipientWalletId: to.walletId });
    told.set(gift?.id ?? "", who);
    world.ids.push(gift?.id ?? "");
  }
  world.emails.push(bait.email, "no address", "a@b");
  world.pageTokens.push(nextPageToken);
  const newest = await server.app.db.selectFrom("posting").select("id").orderBy("id", "desc").executeTakeFirst();
  lastPosting = newest?.id ?? 0n;
});

afterAll(async () => {
  agent.destroy();
  grpc.close();
  await server.stop();
});

/** Whatever was called before, SignOut and FreezeWallet too. */
async function startAgain() {
  const account = await findAccount(server.app.db, person.accountId);
  if (!account) throw new Error("the account is gone");
  const { accessToken } = await openSessions(server.app).start(account, { device: "", ip: "" });
  credentialOf.person = { bearer: accessToken };
  const operator = server.client(WalletService, credentialOf.operator);
  for (const { walletId } of [person, service]) await operator.unfreezeWallet({ walletId, reason: "on with it" });
}

/** How a call ended: its code, 0 when it succeeded, and its message. */
interface Answer {
  code: number;
  message?: Message;
}

const ok = (message?: Message): Answer => ({ code: 0, message });

/** What no request brings about: the server failed, or took too long. */
const FAULTS: number[] = [Code.Unknown, Code.Internal, Code.DataLoss, Code.Unavailable, Code.DeadlineExceeded];

function headersOf({ bearer, accountId }: Credential, lines: HeaderLine[]): HeaderLine[] {
  const own: HeaderLine[] = [];
  if (bearer !== undefined) own.push(["authorization", `Bearer ${bearer}`]);
  if (accountId !== undefined) own.push(["chatpay-account-id", String(accountId)]);
  return [...own, ...lines];
}

async function overHttp(rpc: DescMethod, who: Who, { method, query, contentType, lines, body }: HttpRequest) {
  const all = headersOf(credentialOf[who], lines);
  if (contentType !== "") all.push(["content-type", contentType]);
  const path = `/${rpc.parent.typeName}/${rpc.name}${query}`;
  const outgoing = httpRequestTo(`${server.baseUrl}${path}`, {
    method,
    agent,
    headers: ["host", "chatpay", ...all.flat(), "content-length", String(body.length)],
    signal: AbortSignal.timeout(HANG_MS),
  });
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  outgoing.on("error", reject);
  outgoing.on("response", (response) => {
    const { statusCode: status = 0, headers } = response;
    const read = async () => {
      const bytes = await buffer(response);
      return answerFrom(rpc, status, headers, response.trailers, bytes);
    };
    read().then(resolve, reject);
  });
  outgoing.end(body);
  return promise;
}

/** The answer in any of the protocols that the door speaks. */
function answerFrom(
  rpc: DescMethod,
  status: number,
  headers: IncomingHttpHeaders,
  trailers: NodeJS.Dict<string>,
  body: Buffer,
): Answer {
  const [type = ""] = (headers["content-type"] ?? "").split(";");
  if (type === "application/json" && status !== 200) return { code: codeFrom(JSON.parse(String(body))) };
  if (type === "application/json") return ok(fromJsonString(rpc.output, String(body)));
  if (type === "application/proto") return ok(fromBinary(rpc.output, body));
  // Refused before any protocol was agreed on.
  if (!/^application\/(grpc|connect)/.test(type)) return { code: status < 500 ? Code.InvalidArgument : Code.Internal };

  const frames = framesOf(body);
  const end = frames.find(({ flags }) => (flags & 0b1000_0010) !== 0)?.data.toString() ?? "";
  if (type.startsWith("application/connect"))
    return end.includes('"error"') ? { code: codeFrom(JSON.parse(end).error) } : ok();
  const grpcStatus = headers["grpc-status"] ?? trailers["grpc-status"] ?? /grpc-status: *(\d+)/.exec(end)?.[1];
  if (grpcStatus !== "0") return { code: Number(grpcStatus) };
  const [first] = frames;
  if (!first || rpc.methodKind !== "unary") return ok();
  return ok(
    type.endsWith("json") ? fromJsonString(rpc.output, String(first.data)) : fromBinary(rpc.output, first.data),
  );
}

const codeFrom = (error: JsonValue): Code => codeFromString(String((error as { code?: string }).code)) ?? Code.Unknown;

function framesOf(body: Buffer) {
  const frames: { flags: number; data: Buffer }[] = [];
  for (let at = 0; at + 5 <= body.length; ) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    frames.push({ flags: body[at] ?? 0, data: body.subarray(at + 5, end) });
    at = end;
  }
  return frames;
}

async function overGrpc(rpc: DescMethod, who: Who, { lines, body }: GrpcRequest): Promise<Answer> {
  const metadata = new Metadata();
  for (const [name, value] of headersOf(credentialOf[who], lines)) {
    // The client's own, and what it would not send.
    if (/^(grpc-|content-|te$|accept-encoding$)/.test(name) || !/^[ -~]+$/.test(value)) continue;
    // HTTP/2 has no second one of it.
    if (name === "authorization") metadata.set(name, value);
    else metadata.add(name, value);
  }
  const path = `/${rpc.parent.typeName}/${rpc.name}`;
  const options = { deadline: Date.now() + HANG_MS };
  const same = (bytes: Buffer) => bytes;
  const { promise, resolve } = Promise.withResolvers<Answer>();
  if (rpc.methodKind === "unary") {
    grpc.makeUnaryRequest(path, same, same, body, metadata, options, (error: ServiceError | null, bytes?: Buffer) =>
      resolve(error ? { code: error.code } : ok(fromBinary(rpc.output, bytes ?? Buffer.alloc(0)))),
    );
  } else {
    const stream = grpc.makeServerStreamRequest(path, same, same, body, metadata, options);
    stream.on("error", () => {}).on("data", () => {});
    stream.on("status", ({ code }) => resolve({ code }));
  }
  return promise;
}

/** Who was told first of each transfer, payment and adjustment that it is done. */
const told = new Map<string, Who>();
/** Those of them that moved money: a gift does when it is accepted. */
const moved = new Set<string>();
const UNMOVED = new Set(["STATE_PENDING", "STATE_DECLINED", "STATE_CANCELED", "STATE_EXPIRED"]);

function note(rpc: DescMethod, who: Who, message: Message | undefined) {
  if (!message || rpc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) return;
  const look = (value: JsonValue, name: string) => {
    if (value === null || typeof value !== "object") return;
    const isOne = "id" in value && /^(transfer|payment|adjustment)$/.test(name);
    const id = isOne ? value.id : "transferId" in value ? value.transferId : undefined;
    if (typeof id === "string" && id !== "" && !told.has(id)) told.set(id, who);
    const state = "state" in value && typeof value.state === "string" ? value.state : "";
    if (typeof id === "string" && id !== "" && !UNMOVED.has(state)) moved.add(id);
    for (const [key, inner] of Object.entries(value)) look(inner, key);
  };
  look(toJson(rpc.output, message), "");
}

/** Every posting since the start was answered to somebody, and took money that was theirs. */
async function expectNothingElseMoved() {
  const postings = await server.app.db.selectFrom("posting").selectAll().where("id", ">", lastPosting).execute();
  const unasked = postings.filter(({ causeId, debitWalletId }) => {
    const pocket = pockets[told.get(String(causeId)) ?? "nobody"];
    return pocket !== "all" && pocket !== debitWalletId;
  });
  expect(unasked).toEqual([]);
  expect(new Set(postings.map(({ causeId }) => String(causeId)))).toEqual(moved);
}

async function expectGoodCall(door: Door) {
  const transfers = server.client(TransferService, service.credential, door);
  const sent = { idempotencyKey: randomUUID(), recipientWalletId: person.walletId, amount: 1n };
  const { transfer } = await transfers.sendTransfer(sent);
  expect(transfer?.senderWalletId).toBe(service.walletId);
  told.set(transfer?.id ?? "", "service");
  moved.add(transfer?.id ?? "");
}

/** What the server itself calls a fault. */
const faultsLogged = () => server.logs.filter((line) => (JSON.parse(line) as { level: number }).level >= 50);

const doorsOfRpcs = DOORS.flatMap((door) => rpcs.map((rpc) => [nameOf(rpc), door, rpc] as const));

test.each(doorsOfRpcs)("%s takes anything: %s", { timeout: 120_000 }, async (_name, door, rpc) => {
  const takesAnything = <R>(requests: Arbitrary<R>, send: (rpc: DescMethod, who: Who, request: R) => Promise<Answer>) =>
    asyncProperty(constantFrom(...CALLERS), requests, async (who, request) => {
      const { code, message } = await send(rpc, who, request);
      note(rpc, who, message);
      expect(FAULTS).not.toContain(code);
    });
  const property =
    door === "connect"
      ? takesAnything(httpRequest(rpc, world), overHttp)
      : takesAnything(grpcRequest(rpc, world), overGrpc);

  await startAgain();
  server.logs.length = 0;
  await assertProperty(property, { seed, numRuns: RUNS });
  await startAgain();

  await expectGoodCall(door);
  await expectNothingElseMoved();
  expect(faultsLogged()).toEqual([]);
});

test.each(DOORS)("a time beyond all calendars is no time: %s", async (door) => {
  const wallets = server.client(WalletService, service.credential, door);
  const endless = [2n ** 63n - 1n, -(2n ** 63n), 253_402_300_800n, -1n];

  for (const seconds of endless) {
    for (const span of [{ startTime: { seconds } }, { endTime: { seconds } }]) {
      expect(await outcomeOf(wallets.listEntries(span))).toBe("InvalidArgument REQUEST_INVALID");
    }
  }
  for (const nanos of [-1, 2 ** 31 - 1, -(2 ** 31)]) {
    expect(await outcomeOf(wallets.listEntries({ endTime: { seconds: 0n, nanos } }))).not.toMatch(
      /^(Internal|Unknown)/,
    );
  }
});

test("after all of it the books are right", async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
});
