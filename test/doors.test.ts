import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { Client, credentials, Metadata, type ServiceError, type StatusObject } from "@grpc/grpc-js";
import { expect, test, vi } from "vitest";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { EchoService, SayRequestSchema, type SayResponse, SayResponseSchema } from "../gen/echo/v1/echo_pb.ts";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../gen/health/v1/health_pb.ts";
import { route } from "../src/rpc/route.ts";
import { INSIDES, openEcho, SLEEP_MS } from "./support/echo.ts";

type Ports = { connectPort: number; grpcPort: number };

const WAYS: Record<string, (ports: Ports) => Transport> = {
  "Connect binary over HTTP/1.1": ({ connectPort }) =>
    createConnectTransport({ baseUrl: url(connectPort), httpVersion: "1.1" }),
  "Connect JSON over HTTP/2": ({ connectPort }) =>
    createConnectTransport({ baseUrl: url(connectPort), httpVersion: "2", useBinaryFormat: false }),
  "gRPC-Web over HTTP/1.1": ({ connectPort }) =>
    createGrpcWebTransport({ baseUrl: url(connectPort), httpVersion: "1.1" }),
  "gRPC at the Connect door": ({ connectPort }) => createGrpcTransport({ baseUrl: url(connectPort) }),
  "gRPC at the grpc-js door": ({ grpcPort }) => createGrpcTransport({ baseUrl: url(grpcPort) }),
  "compressed gRPC at the grpc-js door": ({ grpcPort }) =>
    createGrpcTransport({ baseUrl: url(grpcPort), sendCompression: compressionGzip, compressMinBytes: 0 }),
};
const ways = Object.entries(WAYS);
const twoWays = ways.filter(([name]) => !name.includes("HTTP/1.1"));
const doors = ways.filter(([name]) => name.startsWith("gRPC at"));
const url = (port: number) => `http://127.0.0.1:${port}`;

async function* texts(...all: string[]) {
  for (const text of all) yield { text };
}

const failureOf = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("the call succeeded"),
    (error: unknown) => ConnectError.from(error),
  );

async function drained<T>(messages: AsyncIterable<T>) {
  const all: T[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

const reasonsOf = (error: ConnectError) => error.findDetails(ErrorInfoSchema).map(({ reason }) => reason);

test.for(ways)("%s: a call carries its message, headers and trailers both ways", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));
  let header = new Headers();
  let trailer = new Headers();

  const answer = await client.say(
    { text: "안녕 👋" },
    {
      headers: { "x-echo": "yes", "x-echo-bin": "AAECAw", "x-request-id": "order-42" },
      onHeader: (got) => (header = got),
      onTrailer: (got) => (trailer = got),
    },
  );

  expect(answer.text).toBe("안녕 👋");
  expect(header.get("x-echo")).toBe("yes");
  expect(header.get("x-echo-bin")?.replaceAll("=", "")).toBe("AAECAw");
  expect(header.get("x-request-id")).toBe("order-42");
  expect(trailer.get("x-trailer")).toBe("yes");
  expect(trailer.get("x-trailer-bin")?.replaceAll("=", "")).toBe("AAECAw");
});

test.for(ways)("%s: streams carry all their messages", async ([name, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));
  let header = new Headers();
  let trailer = new Headers();

  const counted = await drained(
    client.count(
      { to: 500n },
      {
        headers: { "x-echo": "yes" },
        onHeader: (got) => (header = got),
        onTrailer: (got) => (trailer = got),
      },
    ),
  );
  const gathered = await client.gather(texts("a", "b", "c"));

  expect(counted.map(({ number }) => Number(number))).toEqual(Array.from({ length: 500 }, (_, i) => i + 1));
  expect([header.get("x-echo"), trailer.get("x-trailer")]).toEqual(["yes", "yes"]);
  expect(header.get("x-request-id")).toMatch(/^[\w-]{36}$/);
  expect(gathered.texts).toEqual(["a", "b", "c"]);
  expect(await drained(client.count({ to: 0n }))).toEqual([]);
  if (name.includes("HTTP/1.1")) return;
  expect((await drained(client.chat(texts("a", "b", "c")))).map(({ text }) => text)).toEqual(["a", "b", "c"]);
});

test.for(ways)("%s: a refusal tells why", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));

  const error = await failureOf(client.say({ act: "refuse" }, { headers: { "x-request-id": "order-42" } }));

  expect(error.code).toBe(Code.NotFound);
  expect(error.rawMessage).toBe("no such wallet");
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
    { reason: Reason.WALLET_NOT_FOUND, metadata: { wallet_id: "5" } },
  ]);
  expect(error.metadata.get("x-request-id")).toBe("order-42");
});

test.for(ways)("%s: a failure tells nothing but where to look", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));

  const garbled = await failureOf(client.say({ act: "garble" }));
  const errors = [
    await failureOf(client.say({ act: "crash" })),
    await failureOf(drained(client.count({ to: 3n, act: "crash" }))),
  ];

  expect(garbled.code).toBe(Code.Internal);
  expect(garbled.message).not.toMatch(/안녕|illegal|ByteString/);
  for (const error of errors) {
    const [info] = error.findDetails(ErrorInfoSchema);
    expect(error.code).toBe(Code.Internal);
    expect(info?.reason).toBe(Reason.INTERNAL);
    expect(JSON.stringify([error.message, error.details, [...error.metadata]])).not.toContain(INSIDES);
    expect(echo.lines).toContainEqual(
      expect.objectContaining({
        level: 50,
        errorId: info?.metadata.error_id,
        cause: expect.objectContaining({ message: INSIDES }),
      }),
    );
  }
});

test.for(ways)("%s: a request that breaks its rules names the fields", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));

  const error = await failureOf(client.say({ act: "NO!" }));
  const ofStream = await failureOf(client.gather(texts("short", "much too long")));

  expect(error.code).toBe(Code.InvalidArgument);
  expect(reasonsOf(error)).toEqual([Reason.REQUEST_INVALID]);
  expect(error.findDetails(ViolationsSchema)[0]?.violations).toMatchObject([
    { ruleId: "string.pattern", field: { elements: [{ fieldName: "act" }] } },
  ]);
  expect(reasonsOf(ofStream)).toEqual([Reason.REQUEST_INVALID]);
});

test.for(ways)("%s: an RPC lets in whom its proto names", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));
  const as = (credential: string) => client.secret({}, { headers: { authorization: credential } });

  expect(await as("Bearer alice")).toMatchObject({ caller: "person" });
  expect(reasonsOf(await failureOf(client.secret({})))).toEqual([Reason.CREDENTIAL_MISSING]);
  expect(reasonsOf(await failureOf(as("Bearer nobody")))).toEqual([Reason.CREDENTIAL_INVALID]);
  expect(reasonsOf(await failureOf(as("Bearer shop")))).toEqual([Reason.CALLER_NOT_ALLOWED]);
  expect(await client.say({ text: "hi" }, { headers: { authorization: "Bearer nobody" } })).toMatchObject({
    text: "hi",
  });
});

test.for(ways)("%s: a deadline ends the call and its handler", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));

  const late = await Promise.all([
    failureOf(client.say({ act: "wait" }, { timeoutMs: 100 })),
    failureOf(client.say({ act: "hang" }, { timeoutMs: 100 })),
    failureOf(drained(client.count({ to: 1n, act: "wait" }, { timeoutMs: 100 }))),
  ]);

  expect(late.map(({ code }) => code)).toEqual([Code.DeadlineExceeded, Code.DeadlineExceeded, Code.DeadlineExceeded]);
  await vi.waitFor(() => expect(echo.seen.aborted).toHaveLength(3));
});

test.for(ways)("%s: a client that goes away ends the handler", async ([, transport]) => {
  await using echo = await openEcho();
  const client = createClient(EchoService, transport(echo));
  const cancel = new AbortController();

  const cancelled = failureOf(client.say({ act: "wait" }, { signal: cancel.signal }));
  const counting = client.count({ to: 2n, act: "wait" }, { signal: cancel.signal })[Symbol.asyncIterator]();
  await counting.next();
  await vi.waitFor(() => expect(echo.seen.running).toBe(2));
  cancel.abort();

  expect((await cancelled).code).toBe(Code.Canceled);
  await vi.waitFor(() => expect(echo.seen.running).toBe(0));
});

test.for(doors)("%s: no call takes longer than the server allows", async ([, transport]) => {
  await using echo = await openEcho({ maxTimeoutMs: 100 });
  const client = createClient(EchoService, transport(echo));

  const error = await failureOf(client.say({ act: "hang" }));

  expect(error.code).toBe(Code.DeadlineExceeded);
  expect(reasonsOf(error)).toEqual([Reason.DEADLINE_EXCEEDED]);
  expect(echo.seen.aborted).toHaveLength(1);
});

test.for(ways)("%s: a message above the limit is refused", async ([, transport]) => {
  await using echo = await openEcho({ limits: { readMaxBytes: 10_000 } });
  const client = createClient(EchoService, transport(echo));

  const error = await failureOf(client.say({ text: "x".repeat(20_000) }));

  expect(error.code).toBe(Code.ResourceExhausted);
  expect(await client.say({ text: "x".repeat(9_000) })).toMatchObject({ text: "x".repeat(9_000) });
});

test("bytes that are no message are refused at both doors", async () => {
  await using echo = await openEcho();
  const cutShort = Buffer.from([0x0a, 0x50, 0x41]);
  const post = (type: string) =>
    fetch(`${url(echo.connectPort)}/echo.v1.EchoService/Say`, {
      method: "POST",
      headers: { "content-type": type },
      body: cutShort,
    });

  const results = await Promise.all([sayBytes(echo.connectPort, cutShort), sayBytes(echo.grpcPort, cutShort)]);
  const answers = await Promise.all([post("application/proto"), post("application/json")]);

  expect(results.map(({ code }) => code)).toEqual([Code.InvalidArgument, Code.InvalidArgument]);
  // The grpc-js client does not decode every character that the Connect door may encode.
  expect(decodeURIComponent(results[0]?.details ?? "")).toBe(results[1]?.details);
  expect(results[0]?.metadata.get("grpc-status-details-bin")).toEqual(
    results[1]?.metadata.get("grpc-status-details-bin"),
  );
  for (const answer of answers) {
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({
      code: "invalid_argument",
      details: [{ debug: { reason: "REASON_REQUEST_INVALID" } }],
    });
  }
});

/** Says something through grpc-js, as bytes that need not be a request. */
async function sayBytes(port: number, bytes: Buffer, metadata = new Metadata()) {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const { promise, resolve } = Promise.withResolvers<{ error: ServiceError | null; answer?: SayResponse }>();
  const call = client.makeUnaryRequest(
    "/echo.v1.EchoService/Say",
    (request: Buffer) => request,
    (answer: Buffer) => fromBinary(SayResponseSchema, answer),
    bytes,
    metadata,
    (error, answer) => resolve({ error, answer }),
  );
  const [header, status] = await Promise.all([
    Promise.race([once(call, "metadata").then(([got]) => got as Metadata), once(call, "status").then(() => undefined)]),
    once(call, "status").then(([got]) => got as StatusObject),
  ]);
  const result = await promise;
  client.close();
  return { ...result, header, ...status };
}

test("a grpc-js client reads the same from both doors", async () => {
  await using echo = await openEcho();
  const metadata = new Metadata();
  metadata.set("x-echo", "yes");
  metadata.set("x-echo-bin", Buffer.from([0, 1, 2, 255]));
  metadata.set("x-request-id", "order-42");
  const say = (port: number, act: string) =>
    sayBytes(port, Buffer.from(toBinary(SayRequestSchema, create(SayRequestSchema, { text: "hi", act }))), metadata);

  for (const act of ["", "refuse"]) {
    const [one, other] = await Promise.all([say(echo.connectPort, act), say(echo.grpcPort, act)]);
    expect(one.code).toBe(act === "" ? 0 : 5);
    expect(one.answer).toEqual(other.answer);
    expect([one.code, one.error?.details]).toEqual([other.code, other.error?.details]);
    for (const name of ["x-echo", "x-echo-bin"]) expect(one.header?.get(name)).toEqual(other.header?.get(name));
    for (const name of ["x-trailer", "x-trailer-bin", "grpc-status-details-bin"]) {
      expect(one.metadata.get(name)).toEqual(other.metadata.get(name));
    }
  }
});

test("both doors take compressed requests", async () => {
  await using echo = await openEcho();
  const text = "again and ".repeat(1_000);
  const json = JSON.stringify({ text });

  const answer = await fetch(`${url(echo.connectPort)}/echo.v1.EchoService/Say`, {
    method: "POST",
    headers: { "content-type": "application/json", "content-encoding": "gzip", "accept-encoding": "gzip" },
    body: gzipSync(json),
  });

  expect(answer.headers.get("content-encoding")).toBe("gzip");
  expect(await answer.json()).toEqual({ text });
});

test("above the limit calls of both doors are refused at once", async () => {
  await using echo = await openEcho({ maxInFlight: 50 });
  const clients = doors.map(([, transport]) => createClient(EchoService, transport(echo)));

  const calls = Array.from({ length: 250 }, () => clients.map((client) => client.say({ act: "sleep" })));
  const results = await Promise.allSettled(calls.flat());
  const refused = results.flatMap((result) => (result.status === "rejected" ? ConnectError.from(result.reason) : []));

  expect(refused.length).toBeGreaterThanOrEqual(400);
  expect(refused.length).toBeLessThanOrEqual(450);
  for (const error of refused) expect(error.code).toBe(Code.ResourceExhausted);
  expect(reasonsOf(refused[0] ?? new ConnectError(""))).toEqual([Reason.OVERLOADED]);
  expect(refused[0]?.findDetails(RetryInfoSchema)[0]?.retryDelay?.nanos).toBeGreaterThan(0);
  expect(echo.lines.filter(({ msg }) => msg === "overloaded").length).toBeLessThan(5);
  expect(await clients[0]?.say({ text: "after" })).toMatchObject({ text: "after" });
  expect(await echo.metrics.registry.metrics()).toContain('chatpay_calls_in_flight{kind="calls"} 0');
});

test("a service with an RPC that does not say who may call it does not start", async () => {
  const undeclared = [route(Health, { check: () => ({}), list: () => ({}), async *watch() {} })];

  await expect(openEcho({}, { routes: undeclared })).rejects.toThrow(
    "grpc.health.v1.Health/Check, grpc.health.v1.Health/Watch, grpc.health.v1.Health/List",
  );
});

test("a stop finishes what was accepted, ends streams, and takes nothing new", async () => {
  const echo = await openEcho();
  const clients = twoWays.map(([, transport]) => createClient(EchoService, transport(echo)));
  const calls = clients.map((client) => client.say({ text: "kept", act: "sleep" }));
  const health = createClient(Health, createGrpcTransport({ baseUrl: url(echo.grpcPort) }));
  const seen: Status[] = [];
  const watch = async () => {
    for await (const { status } of health.watch({ service: "" })) seen.push(status);
  };
  const watched = failureOf(watch());
  const streams = clients.map((client) => failureOf(drained(client.count({ to: 1n, act: "hang" }))));
  await vi.waitFor(() => expect(echo.seen.running).toBe(2 * clients.length));
  await vi.waitFor(() => expect(seen).toEqual([Status.SERVING]));

  const stopped = echo.stop();

  expect((await Promise.all(calls)).map(({ text }) => text)).toEqual(clients.map(() => "kept"));
  for (const error of await Promise.all(streams)) {
    expect(error.code).toBe(Code.Unavailable);
    expect(reasonsOf(error)).toEqual([Reason.SHUTTING_DOWN]);
  }
  expect((await watched).code).toBe(Code.Unavailable);
  expect(seen).toEqual([Status.SERVING, Status.NOT_SERVING]);
  await stopped;
  const [late] = clients.map((client) => failureOf(client.say({ text: "late" }, { timeoutMs: 1_000 })));
  expect((await late)?.code).toBe(Code.Unavailable);
});

test.for(ways)("%s: a stop cuts what takes longer than the grace, and force cuts at once", async ([, transport]) => {
  for (const how of ["stop", "force"] as const) {
    const echo = await openEcho({ shutdownGraceMs: 100 });
    const client = createClient(EchoService, transport(echo));
    const cut = failureOf(client.say({ act: "hang" }));
    await vi.waitFor(() => expect(echo.seen.running).toBe(1));

    await echo[how]();

    expect(await cut).toBeInstanceOf(ConnectError);
  }
});

test("health follows the database", async () => {
  let well = true;
  await using echo = await openEcho({}, { healthy: async () => well });
  const probe = () => fetch(`${url(echo.internalPort)}/healthz`).then(({ status }) => status);
  const clients = doors.map(([, transport]) => createClient(Health, transport(echo)));
  const check = () => Promise.all(clients.map((client) => client.check({ service: "echo.v1.EchoService" })));

  expect(await check()).toMatchObject([{ status: Status.SERVING }, { status: Status.SERVING }]);
  expect(await probe()).toBe(200);
  expect((await failureOf(clients[0]?.check({ service: "nobody" }) ?? Promise.resolve())).code).toBe(Code.NotFound);
  expect(Object.keys((await clients[1]?.list({}))?.statuses ?? {})).toEqual(["", "echo.v1.EchoService"]);

  well = false;
  await vi.waitFor(async () => expect(await probe()).toBe(503), 3_000);
  expect(await check()).toMatchObject([{ status: Status.NOT_SERVING }, { status: Status.NOT_SERVING }]);
});

/** What buf curl prints, without any schema of its own. */
async function bufCurl(...args: string[]) {
  const child = spawn("buf", ["curl", "--http2-prior-knowledge", ...args], { cwd: "/" });
  const output: Buffer[] = [];
  child.stdout.on("data", (bytes: Buffer) => output.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => output.push(bytes));
  await once(child, "close");
  return Buffer.concat(output).toString();
}

test("buf curl finds its way by reflection at both doors", async () => {
  await using echo = await openEcho();
  const at = (port: number, ...args: string[]) =>
    bufCurl("--protocol", "grpc", ...args.slice(0, -1), `${url(port)}${args.at(-1)}`);

  const answers = [echo.connectPort, echo.grpcPort].flatMap((port) => [
    at(port, "--list-services", ""),
    at(port, "--reflect-protocol", "grpc-v1alpha", "--list-methods", ""),
    at(port, "--data", '{"text":"hi"}', "/echo.v1.EchoService/Say"),
    at(port, "/grpc.health.v1.Health/Check"),
  ]);

  const [services, methods, said, health, ...others] = await Promise.all(answers);
  expect(services?.trim().split("\n")).toEqual([
    "echo.v1.EchoService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
  ]);
  expect(methods).toContain("echo.v1.EchoService/Gather");
  expect(JSON.parse(said ?? "")).toEqual({ text: "hi" });
  expect(JSON.parse(health ?? "")).toEqual({ status: "SERVING" });
  expect(others).toEqual([services, methods, said, health]);
});

test("calls are counted, and logged without what they carry", async () => {
  await using echo = await openEcho();
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: url(echo.grpcPort) }));
  await client.secret({}, { headers: { authorization: "Bearer alice", "x-request-id": "good id?" } });
  await failureOf(client.say({ text: "private words", act: "refuse" }));
  await pause(SLEEP_MS);

  const metrics = await fetch(`${url(echo.internalPort)}/metrics`).then((answer) => answer.text());

  const labels = 'door="grpc",grpc_type="unary",grpc_service="echo.v1.EchoService",grpc_method="Say"';
  expect(metrics).toContain(`grpc_server_started_total{${labels}} 1`);
  expect(metrics).toContain(`grpc_server_handled_total{${labels},grpc_code="NotFound"} 1`);
  expect(metrics).toMatch(/grpc_server_handling_seconds_bucket{.*grpc_method="Say",le="\+Inf"} 1/);
  const log = JSON.stringify(echo.lines);
  expect(echo.lines).toContainEqual(
    expect.objectContaining({ rpc: "echo.v1.EchoService/Secret", code: "OK", caller: "person", accountId: "7" }),
  );
  expect(echo.lines).toContainEqual(expect.objectContaining({ code: "NotFound", reason: "REASON_WALLET_NOT_FOUND" }));
  expect(log).not.toMatch(/private words|Bearer|alice|good id/);
});

test("a page of an allowed origin may call, another may not", async () => {
  await using echo = await openEcho();
  const preflight = (origin: string) =>
    fetch(`${url(echo.connectPort)}/echo.v1.EchoService/Say`, {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "idempotency-key" },
    });

  const [allowed, denied] = await Promise.all([preflight("https://shop.example"), preflight("https://evil.example")]);

  expect(allowed.status).toBe(204);
  expect(allowed.headers.get("access-control-allow-origin")).toBe("https://shop.example");
  expect(allowed.headers.get("access-control-allow-headers")).toContain("idempotency-key");
  expect(allowed.headers.get("access-control-expose-headers")).toContain("idempotency-replayed");
  expect(denied.headers.get("access-control-allow-origin")).toBeNull();
});
