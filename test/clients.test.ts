import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { create, type DescMethod, fromBinary, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type Any, AnySchema, anyUnpack, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";
import { type CallOptions, Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import {
  SendTransferRequestSchema,
  type SendTransferResponse,
  TransferService,
} from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { balanceOf, differencesIn, openWallet, type Person } from "./support/people.ts";
import { errorOf, everyRpc, nameOf } from "./support/rpcs.ts";
import { sendCredential, startServer } from "./support/server.ts";

const server = await startServer();
let alice: Person;
let bob: Person;

beforeAll(async () => {
  alice = await openWallet(server, { balance: 1_000_000n });
  bob = await openWallet(server);
});
afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const SEND = `${TransferService.typeName}/SendTransfer`;
const actingFor = (person: Person) => ({
  authorization: `Bearer ${server.keys.service}`,
  "chatpay-account-id": String(person.accountId),
});

/** `buf curl`, away from any schema of ours. */
async function bufCurl(url: string, protocol: string, { headers = {}, data = {}, args = [] as string[] } = {}) {
  const flags = ["--protocol", protocol, "--http2-prior-knowledge", "--data", JSON.stringify(data), ...args];
  const lines = Object.entries(headers).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const child = spawn("buf", ["curl", ...flags, ...lines, url], { cwd: tmpdir(), stdio: ["ignore", "pipe", "pipe"] });
  const [stdout, stderr, [exitCode]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
  return { stdout, stderr, exitCode: exitCode as number | null };
}

const bufDoors = () =>
  [
    [server.baseUrl, "connect"],
    [server.baseUrl, "grpc"],
    [server.baseUrl, "grpcweb"],
    [server.grpcUrl, "grpc"],
  ] as const;

test("buf curl finds every service by reflection, at both doors and in both versions", async () => {
  const services = new Set(everyRpc(server).map(({ parent }) => parent.typeName));

  for (const url of [server.baseUrl, server.grpcUrl]) {
    for (const version of ["grpc-v1", "grpc-v1alpha"]) {
      const args = ["--list-services", "--reflect-protocol", version];
      const { stdout, exitCode } = await bufCurl(url, "grpc", { args });
      expect(exitCode).toBe(0);
      expect(stdout.split("\n")).toEqual(expect.arrayContaining([...services, "grpc.health.v1.Health"]));
    }
  }
});

test("buf curl sends money as the chat server, with no schema, in every protocol", async () => {
  for (const [url, protocol] of bufDoors()) {
    const data = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: "100", memo: "점심 🍜" };

    const { stdout, stderr, exitCode } = await bufCurl(`${url}/${SEND}`, protocol, { headers: actingFor(alice), data });

    expect({ protocol, stderr, exitCode }).toEqual({ protocol, stderr: "", exitCode: 0 });
    expect(JSON.parse(stdout)).toMatchObject({
      transfer: { senderWalletId: alice.walletId, amount: "100", memo: "점심 🍜", state: "STATE_COMPLETED" },
    });
  }
  expect(await balanceOf(bob)).toBe(400n);
});

test("buf curl shows why it was refused", async () => {
  const poor = await openWallet(server);

  for (const [url, protocol] of bufDoors()) {
    const data = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: "100" };
    const { stderr, exitCode } = await bufCurl(`${url}/${SEND}`, protocol, { headers: actingFor(poor), data });

    // Its exit code is the code of the error, eight times.
    expect({ protocol, exitCode }).toEqual({ protocol, exitCode: Code.FailedPrecondition * 8 });
    const { code, details } = JSON.parse(stderr) as { code: string; details: { type: string; value: string }[] };
    expect([code, ...details.map(({ type }) => type)]).toEqual(["failed_precondition", ErrorInfoSchema.typeName]);
    const info = fromBinary(ErrorInfoSchema, Buffer.from(details[0]?.value ?? "", "base64"));
    expect(info).toMatchObject({ reason: Reason.INSUFFICIENT_FUNDS, metadata: { available: "0", amount: "100" } });
  }
});

const postJson = (path: string, headers: Record<string, string>, body: object) =>
  fetch(`${server.baseUrl}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

test("over plain HTTP the key may be a header, and a repeat says that it is one", async () => {
  const order = { recipientWalletId: bob.walletId, amount: 7 };
  const headers = { ...actingFor(alice), "idempotency-key": randomUUID() };
  const before = await balanceOf(bob);

  const answers = [await postJson(SEND, headers, order), await postJson(SEND, headers, order)];
  const otherKey = await postJson(SEND, headers, { ...order, idempotencyKey: randomUUID() });

  const bodies = await Promise.all(answers.map((answer) => answer.json()));
  expect(answers.map(({ status: code }) => code)).toEqual([200, 200]);
  expect(answers.map((answer) => answer.headers.get("idempotency-replayed"))).toEqual([null, "true"]);
  expect(bodies[1]).toEqual(bodies[0]);
  // The field is the closer one.
  expect(otherKey.headers.get("idempotency-replayed")).toBeNull();
  expect(await balanceOf(bob)).toBe(before + 14n);
});

test("a field that does not exist is refused before any money moves", async () => {
  const before = await balanceOf(bob);
  const order = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 7, mmeo: "lunch" };

  const answer = await postJson(SEND, actingFor(alice), order);

  expect(answer.status).toBe(400);
  expect(JSON.stringify(await answer.json())).toContain("mmeo");
  expect(await balanceOf(bob)).toBe(before);
});

test("a key header that is too long, or none, is refused before any money moves", async () => {
  const order = { recipientWalletId: bob.walletId, amount: 7 };
  const before = await balanceOf(bob);

  for (const key of ["", "k".repeat(65)]) {
    const answer = await postJson(SEND, { ...actingFor(alice), "idempotency-key": key }, order);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({
      code: "invalid_argument",
      details: [{ type: "chatpay.error.v1.ErrorInfo", debug: { reason: "REASON_IDEMPOTENCY_KEY_MISSING" } }],
    });
  }
  expect(await balanceOf(bob)).toBe(before);
});

test("what changes nothing can be had with GET, and nothing else can", async () => {
  for (const rpc of everyRpc(server)) {
    const query = new URLSearchParams({ connect: "v1", encoding: "json", message: "{}" });
    const url = `${server.baseUrl}/${rpc.parent.typeName}/${rpc.name}?${query}`;
    const { status: code } = await fetch(url, { headers: actingFor(alice) });
    const reads = rpc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
    expect([nameOf(rpc), code === 405]).toEqual([nameOf(rpc), !reads]);
  }

  const query = new URLSearchParams({ connect: "v1", encoding: "json", message: `{"walletId":"${alice.walletId}"}` });
  const answer = await fetch(`${server.baseUrl}/chatpay.wallet.v1.WalletService/GetWallet?${query}`, {
    headers: actingFor(alice),
  });
  expect(await answer.json()).toMatchObject({ wallet: { id: alice.walletId, kind: "KIND_MAIN" } });
});

test("every RPC that only reads says so in its proto", () => {
  const reads = everyRpc(server).filter(({ name, methodKind }) => /^(Get|List)/.test(name) && methodKind === "unary");

  expect(reads.length).toBeGreaterThan(8);
  for (const rpc of reads) {
    expect([nameOf(rpc), rpc.idempotency]).toEqual([nameOf(rpc), MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS]);
  }
});

test("gRPC-Web sends money over HTTP/1.1 and reads why it was refused", async () => {
  const { credential } = alice;
  const options = { baseUrl: server.baseUrl, httpVersion: "1.1" as const, interceptors: [sendCredential(credential)] };
  const transfers = createClient(TransferService, createGrpcWebTransport(options));
  const order = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 5n };

  const { transfer } = await transfers.sendTransfer(order);
  const error = await errorOf(transfers.sendTransfer({ ...order, amount: 6n }));

  expect(transfer?.amount).toBe(5n);
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe(Reason.IDEMPOTENCY_KEY_REUSED);
});

/** A method as a plain gRPC library calls it: a path, and bytes. */
const grpcMethod = (rpc: DescMethod) => ({
  path: `/${rpc.parent.typeName}/${rpc.name}`,
  serialize: (message: Message) => Buffer.from(toBinary(rpc.input, message)),
  deserialize: (bytes: Buffer) => fromBinary(rpc.output, bytes),
});

/** The details of a `google.rpc.Status`, read as its definition numbers them. */
function detailsOf(error: ServiceError): { code: number; message: string; details: Any[] } {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const reader = new BinaryReader(Buffer.from(bytes ?? ""));
  const found = { code: 0, message: "", details: [] as Any[] };
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) found.code = reader.int32();
    else if (field === 2) found.message = reader.string();
    else if (field === 3) found.details.push(fromBinary(AnySchema, reader.bytes()));
    else reader.skip(wireType);
  }
  return found;
}

test("a plain gRPC client sends money, with a deadline, and reads why it was refused", async () => {
  const client = new Client(server.grpcAddress, credentials.createInsecure());
  const { path, serialize, deserialize } = grpcMethod(TransferService.method.sendTransfer);
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(actingFor(alice))) metadata.set(name, value);
  const send = (order: MessageInitShape<typeof SendTransferRequestSchema>, options: CallOptions) =>
    promisify<SendTransferResponse>((done) =>
      client.makeUnaryRequest(
        path,
        serialize,
        deserialize,
        create(SendTransferRequestSchema, order),
        metadata,
        options,
        (error, answer) => done(error, answer as SendTransferResponse),
      ),
    )();
  const refusalOf = (answer: Promise<unknown>) =>
    answer.then(
      () => Promise.reject(new Error("not refused")),
      (error: ServiceError) => error,
    );
  const order = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 3n };
  const soon = () => ({ deadline: Date.now() + 10_000 });

  const { transfer } = await send(order, soon());
  const again = await send(order, soon());
  const reused = await refusalOf(send({ ...order, amount: 4n }, soon()));
  const late = await refusalOf(send({ ...order, amount: 4n }, { deadline: Date.now() - 1 }));
  client.close();

  expect(again.transfer).toEqual(transfer);
  expect(transfer?.amount).toBe(3n);
  expect(reused.code).toBe(status.INVALID_ARGUMENT);
  const { code, message, details } = detailsOf(reused);
  expect({ code, message }).toEqual({ code: status.INVALID_ARGUMENT, message: reused.details });
  expect(details.map((detail) => anyUnpack(detail, ErrorInfoSchema)?.reason)).toEqual([Reason.IDEMPOTENCY_KEY_REUSED]);
  expect(late.code).toBe(status.DEADLINE_EXCEEDED);
});

test("an account that is named twice is named by nobody", async () => {
  const client = new Client(server.grpcAddress, credentials.createInsecure());
  const { path, serialize, deserialize } = grpcMethod(TransferService.method.sendTransfer);
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${server.keys.service}`);
  for (const { accountId } of [alice, alice]) metadata.add("chatpay-account-id", String(accountId));
  const order = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 3n };

  const error = await new Promise<ServiceError | null>((resolve) =>
    client.makeUnaryRequest(
      path,
      serialize,
      deserialize,
      create(SendTransferRequestSchema, order),
      metadata,
      (failure) => resolve(failure),
    ),
  );
  client.close();

  expect(error?.code).toBe(status.INVALID_ARGUMENT);
  const [detail] = error ? detailsOf(error).details : [];
  expect(detail && anyUnpack(detail, ErrorInfoSchema)?.reason).toBe(Reason.ACTING_ACCOUNT_INVALID);
});
