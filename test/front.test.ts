import { readFileSync } from "node:fs";
import { connect as connectHttp2, constants } from "node:http2";
import { request as httpsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { EchoService } from "../gen/echo/v1/echo_pb.ts";
import { openEcho } from "./support/echo.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const IMPATIENT = { limits: { greetingMs: 150, headersMs: 200, requestMs: 400 } };
const PATIENCE_MS = 2_500;

const post = (body: string, ...headers: string[]) =>
  [
    "POST /echo.v1.EchoService/Say HTTP/1.1",
    "host: localhost",
    "content-type: application/json",
    `content-length: ${body.length}`,
    ...headers,
    "",
    body,
  ].join("\r\n");

const open = ({ connectPort }: { connectPort: number }) => connect(connectPort, "127.0.0.1").on("error", () => {});

/** Everything that the server says until it hangs up, and when it did. */
async function heard(socket: Socket) {
  const startedAt = performance.now();
  const words = await text(socket).catch(() => "");
  return { words, ms: performance.now() - startedAt };
}

test.for([
  ["silence", ""],
  ["half a preface", "PRI * HTTP/2"],
  ["a preface and nothing after it", PREFACE],
  ["a verb and nothing after it", "POST /echo"],
  ["headers without an end", "POST /echo.v1.EchoService/Say HTTP/1.1\r\nhost: localhost\r\n"],
  ["a request without its body", post("").replace("content-length: 0", "content-length: 9")],
  ["garbage", "\x16\x03\x01\x02\x00garbage\r\n\r\n"],
])("%s is hung up on", async ([, bytes = ""]) => {
  await using echo = await openEcho(IMPATIENT);
  const socket = open(echo);
  socket.write(bytes);

  const { words, ms } = await heard(socket);

  expect(ms).toBeLessThan(PATIENCE_MS);
  expect(words.replaceAll("\0", "")).not.toMatch(/200 OK/);
  expect(echo.lines.filter(({ msg }) => msg === "call")).toEqual([]);
});

test("headers that drip in are not waited for", async () => {
  await using echo = await openEcho(IMPATIENT);
  const socket = open(echo);
  const answer = heard(socket);

  for (const byte of post("{}").slice(0, 60)) {
    if (!socket.writable) break;
    socket.write(byte);
    await pause(25);
  }

  expect((await answer).words).toMatch(/^HTTP\/1.1 408 /);
});

test("a request over HTTP/2 whose message does not come is reset", async () => {
  await using echo = await openEcho(IMPATIENT);
  const session = connectHttp2(`http://127.0.0.1:${echo.connectPort}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/echo.v1.EchoService/Say",
    "content-type": "application/grpc",
  });

  await new Promise((resolve) => stream.on("error", resolve).on("close", resolve));

  expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
  session.destroy();
});

test("a connection that was quiet for long ends with its last call", async () => {
  await using echo = await openEcho({ limits: { greetingMs: 50, idleMs: 50 } });
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${echo.connectPort}` }));

  expect(await client.say({ text: "hi", act: "sleep" })).toMatchObject({ text: "hi" });
  expect(await client.say({ text: "again" })).toMatchObject({ text: "again" });
});

test("many who say nothing do not keep others from being served", async () => {
  await using echo = await openEcho(IMPATIENT);
  const silent = Array.from({ length: 200 }, () => open(echo));

  const client = createClient(
    EchoService,
    createConnectTransport({ baseUrl: `http://127.0.0.1:${echo.connectPort}`, httpVersion: "1.1" }),
  );
  expect(await client.say({ text: "hi" })).toMatchObject({ text: "hi" });
  await Promise.all(silent.map(heard));
});

test("bytes that come one at a time make a request as well", async () => {
  await using echo = await openEcho();
  const http1 = open(echo).setNoDelay();
  const http2 = open(echo).setNoDelay();
  const answer = heard(http1);
  const settings = new Promise<Buffer>((resolve) => http2.once("data", resolve));

  for (const byte of post('{"text":"slow"}', "connection: close")) {
    http1.write(byte);
    await pause(1);
  }
  for (const byte of Buffer.concat([Buffer.from(PREFACE), SETTINGS])) {
    http2.write(Buffer.from([byte]));
    await pause(1);
  }

  expect((await answer).words).toContain('{"text":"slow"}');
  // The fourth byte of a frame is its type; the server's first frame is its settings.
  expect((await settings)[3]).toBe(4);
  http2.destroy();
});

test("requests that come together are answered in their order", async () => {
  await using echo = await openEcho();
  const socket = open(echo);
  socket.write(
    post('{"text":"one","act":"sleep"}') + post('{"text":"two"}') + post('{"text":"three"}', "connection: close"),
  );

  const { words } = await heard(socket);

  expect(words.match(/"text":"\w+"/g)).toEqual(['"text":"one"', '"text":"two"', '"text":"three"']);
});

test("what is no call of ours is answered as HTTP says", async () => {
  await using echo = await openEcho();
  const base = `http://127.0.0.1:${echo.connectPort}`;
  const say = `${base}/echo.v1.EchoService/Say`;
  const asked = new URLSearchParams({ connect: "v1", encoding: "json", message: '{"text":"hi"}' });

  const unknown = await fetch(`${base}/wp-login.php`);
  expect(unknown.status).toBe(404);
  expect(await unknown.json()).toEqual({ code: "unimplemented", message: "no such RPC: /wp-login.php" });
  expect((await fetch(`${base}/echo.v1.EchoService/Secret`)).status).toBe(405);
  expect((await fetch(say, { method: "POST", body: "x" })).status).toBe(415);
  const read = await fetch(`${say}?${asked}`);
  expect(await read.json()).toEqual({ text: "hi" });
  expect(read.headers.get("x-content-type-options")).toBe("nosniff");
  expect(read.headers.get("cache-control")).toBe("no-store");
});

test("a host that makes no address ends its request, not the server", async () => {
  await using echo = await openEcho();
  const broken = post('{"text":"hi"}', "connection: close").replace("host: localhost", "host: [");
  const without = post('{"text":"hi"}').replace("HTTP/1.1", "HTTP/1.0").replace("host: localhost\r\n", "");

  for (const request of [broken, without]) {
    const socket = open(echo);
    socket.write(request);
    expect((await heard(socket)).words).toMatch(/^HTTP\/1.1 400 /);
  }
});

test("with a certificate both doors speak TLS, and ALPN chooses the version of HTTP", async () => {
  const pem = readFileSync(join(import.meta.dirname, "support/localhost.pem"));
  await using echo = await openEcho({ tls: { cert: pem, key: pem } });
  const nodeOptions = { ca: pem };
  const connectUrl = `https://127.0.0.1:${echo.connectPort}`;

  const clients = [
    createConnectTransport({ baseUrl: connectUrl, httpVersion: "1.1", nodeOptions }),
    createConnectTransport({ baseUrl: connectUrl, httpVersion: "2", nodeOptions }),
    createGrpcTransport({ baseUrl: connectUrl, nodeOptions }),
    createGrpcTransport({ baseUrl: `https://127.0.0.1:${echo.grpcPort}`, nodeOptions }),
  ].map((transport) => createClient(EchoService, transport));

  for (const client of clients) expect(await client.say({ text: "hi" })).toMatchObject({ text: "hi" });
  const headers = await new Promise((resolve) =>
    httpsRequest(connectUrl, { ca: pem }, (answer) => resolve(answer.resume().headers)).end(),
  );
  expect(headers).toHaveProperty("strict-transport-security");
  const plain = open(echo);
  plain.write(post("{}"));
  expect((await heard(plain)).words).not.toContain("HTTP/1.1 200");
});
