import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient, type ServiceImpl } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { EchoService, SayRequestSchema, SayResponseSchema } from "../gen/echo/v1/echo_pb.ts";
import { ConfigError, readConfig } from "../src/config.ts";
import { networkOf, type Origin, originOf } from "../src/rpc/origin.ts";
import { route } from "../src/rpc/route.ts";
import { openEcho } from "./support/echo.ts";
import { testEnvironment } from "./support/server.ts";

const WAYS = ["Connect over HTTP/1.1", "Connect over HTTP/2", "gRPC at the grpc-js door"] as const;

const trustedIn = (CHATPAY_TRUSTED_PROXIES: string) =>
  readConfig({ ...testEnvironment("mysql://localhost/any", 25), CHATPAY_TRUSTED_PROXIES }).trustedProxies;

interface Options {
  proxies: string;
  host: string;
  tls: { cert: Buffer; key: Buffer };
}

/** A server that says where a call seems to come from, on 127.0.0.1 or another address. */
async function openMirror({ proxies = "", host = "127.0.0.1", tls }: Partial<Options> = {}) {
  const implementation: Partial<ServiceImpl<typeof EchoService>> = {
    say: (_, context) => ({ text: JSON.stringify(originOf(context)) }),
  };
  const echo = await openEcho(
    { trustedProxies: trustedIn(proxies), host, ...(tls && { tls }) },
    { routes: [route(EchoService, implementation as ServiceImpl<typeof EchoService>)] },
  );

  async function seenBy(way: (typeof WAYS)[number], forwarded?: string, at = host): Promise<Origin> {
    const url = (port: number) => `${tls ? "https" : "http"}://${at.includes(":") ? `[${at}]` : at}:${port}`;
    const nodeOptions = { ca: tls?.cert };
    const httpVersion = way === "Connect over HTTP/1.1" ? "1.1" : "2";
    const transport =
      way === "gRPC at the grpc-js door"
        ? createGrpcTransport({ baseUrl: url(echo.grpcPort), nodeOptions })
        : createConnectTransport({ baseUrl: url(echo.connectPort), httpVersion, nodeOptions });
    const headers = forwarded === undefined ? {} : { "x-forwarded-for": forwarded };
    const { text } = await createClient(EchoService, transport).say({}, { headers });
    return JSON.parse(text) as Origin;
  }
  return { ...echo, seenBy };
}

test.for(WAYS)("%s: the other end of the connection is where a call comes from", async (way) => {
  await using mirror = await openMirror();

  expect(await mirror.seenBy(way)).toEqual({ ip: "127.0.0.1", isProxied: false });
});

test.for(WAYS)("%s: so it is with TLS", async (way) => {
  const pem = readFileSync(join(import.meta.dirname, "support/localhost.pem"));
  await using mirror = await openMirror({ tls: { cert: pem, key: pem } });

  expect(await mirror.seenBy(way, undefined, "localhost")).toEqual({ ip: "127.0.0.1", isProxied: false });
});

test.for(WAYS)("%s: a client of a server that listens to both kinds of addresses has one", async (way) => {
  await using mirror = await openMirror({ host: "::" });

  expect(await mirror.seenBy(way, undefined, "127.0.0.1")).toEqual({ ip: "127.0.0.1", isProxied: false });
  // Node's HTTP/2 client names such a server without brackets, which makes no URL.
  if (way === "Connect over HTTP/2") return;
  expect(await mirror.seenBy(way, undefined, "::1")).toEqual({ ip: "::1", isProxied: false });
});

test.for(WAYS)("A8: %s: a forged X-Forwarded-For changes nothing without a trusted proxy", async (way) => {
  await using mirror = await openMirror({ proxies: "10.0.0.0/8, 127.0.0.2" });

  expect(await mirror.seenBy(way, "203.0.113.7")).toEqual({ ip: "127.0.0.1", isProxied: false });
});

test.for(WAYS)(
  "A8: %s: X-Forwarded-For is read from the right for as long as those who wrote are trusted",
  async (way) => {
    await using mirror = await openMirror({ proxies: "127.0.0.1, 10.0.0.0/8, fd00::/8" });
    const clients = async (...lists: string[]) => {
      const seen = [];
      for (const list of lists) seen.push((await mirror.seenBy(way, list)).ip);
      return seen;
    };

    expect(await clients("203.0.113.7", "198.51.100.1, 203.0.113.7", "8.8.8.8,203.0.113.7 , 10.1.2.3,fd00::5")).toEqual(
      Array.from({ length: 3 }, () => "203.0.113.7"),
    );
    expect(await clients("2001:DB8:0::7", "[2001:db8::7]:443", "::ffff:203.0.113.7", "203.0.113.7:5678")).toEqual([
      "2001:db8::7",
      "2001:db8::7",
      "203.0.113.7",
      "203.0.113.7",
    ]);
    // Somebody else's name for a client is none; the last who is known is where the call comes from.
    expect(
      await clients("unknown", "", "203.0.113.7, unknown, 10.1.2.3", "203.0.113.7,", "0x7f.1", "10.1.2.3"),
    ).toEqual(["127.0.0.1", "127.0.0.1", "10.1.2.3", "127.0.0.1", "127.0.0.1", "10.1.2.3"]);
  },
);

test("A8: headers of the name that come twice are one list, in their order", async () => {
  await using mirror = await openMirror({ proxies: "127.0.0.1" });
  const metadata = new Metadata();
  metadata.add("x-forwarded-for", "198.51.100.1");
  metadata.add("x-forwarded-for", "203.0.113.7");

  const overGrpc = await new Promise<string>((resolve, reject) => {
    const client = new Client(`127.0.0.1:${mirror.grpcPort}`, credentials.createInsecure());
    client.makeUnaryRequest(
      "/echo.v1.EchoService/Say",
      () => Buffer.from(toBinary(SayRequestSchema, create(SayRequestSchema))),
      (bytes) => fromBinary(SayResponseSchema, bytes).text,
      {},
      metadata,
      (error, text = "") => {
        client.close();
        if (error) reject(error);
        else resolve(text);
      },
    );
  });
  const overConnect = await fetch(`http://127.0.0.1:${mirror.connectPort}/echo.v1.EchoService/Say`, {
    method: "POST",
    headers: [
      ["content-type", "application/json"],
      ["x-forwarded-for", "198.51.100.1"],
      ["x-forwarded-for", "203.0.113.7"],
    ],
    body: "{}",
  });

  expect(JSON.parse(overGrpc)).toMatchObject({ ip: "203.0.113.7" });
  expect(JSON.parse(((await overConnect.json()) as { text: string }).text)).toMatchObject({ ip: "203.0.113.7" });
});

test("whom to trust is said with addresses and networks, and is never everybody", () => {
  expect(trustedIn(" 10.0.0.1 ,fd00::/8, 192.168.0.0/16").map(([, bits]) => bits)).toEqual([32, 8, 16]);
  for (const wrong of ["10.0.0.0/33", "0.0.0.0/0", "::/0", "10.1", "proxy.example", "10.0.0.0/8/8", "10.0.0.0/"]) {
    expect(() => trustedIn(`127.0.0.1, ${wrong}`), wrong).toThrow(ConfigError);
  }
});

test("addresses of one IPv6 network count as one client", () => {
  expect(networkOf("203.0.113.7")).toBe("203.0.113.7");
  expect(networkOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::");
  expect(networkOf("")).toBe("");
});
