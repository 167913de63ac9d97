import { Writable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { pino } from "pino";
import { Registry } from "prom-client";
import { EchoService } from "../../gen/echo/v1/echo_pb.ts";
import { credentialInvalid, walletNotFound } from "../../src/errors.ts";
import { type Authenticate, callerOf } from "../../src/rpc/caller.ts";
import { type DoorsConfig, type DoorsOptions, openDoors } from "../../src/rpc/doors.ts";
import { route } from "../../src/rpc/route.ts";

type Line = Record<string, unknown>;

/** What the handler throws when it is told to crash. No client may ever read it. */
export const INSIDES = "the insides of the server";
export const SLEEP_MS = 150;

const CONFIG: DoorsConfig = {
  host: "127.0.0.1",
  connectPort: 0,
  grpcPort: 0,
  internalHost: "127.0.0.1",
  internalPort: 0,
  corsOrigins: ["https://shop.example"],
  maxInFlight: 1_000,
  maxTimeoutMs: 5_000,
  lameDuckMs: 0,
  shutdownGraceMs: 2_000,
};

/** Both doors of a server that echoes. `with` replaces a part. */
export async function openEcho(
  config: Partial<DoorsConfig> = {},
  parts: Partial<Pick<DoorsOptions, "healthy" | "routes" | "log">> = {},
) {
  const lines: Line[] = [];
  const destination = new Writable({
    write(line: Buffer, _, done) {
      lines.push(JSON.parse(String(line)) as Line);
      done();
    },
  });
  const seen = { aborted: [] as unknown[], running: 0 };
  const metrics = { registry: new Registry() };
  const doors = await openDoors({
    config: { ...CONFIG, ...config },
    log: pino({ level: "debug" }, destination),
    metrics,
    trail: { write: async () => {}, writeLater() {} },
    routes: [route(EchoService, echoService(seen))],
    authenticate,
    noteKeyUse() {},
    healthy: async () => true,
    ...parts,
  });
  return { ...doors, lines, seen, metrics, [Symbol.asyncDispose]: doors.stop };
}

const authenticate: Authenticate = (header) => {
  const credential = header.get("authorization");
  if (credential === null) return { kind: "anyone" };
  if (credential === "Bearer alice") return { kind: "person", accountId: 7n, walletId: 8n, sessionId: 9n };
  if (credential === "Bearer shop") return { kind: "partner", keyId: 1n, partnerId: 2n, walletId: 3n };
  throw credentialInvalid();
};

function echoService(seen: { aborted: unknown[]; running: number }): ServiceImpl<typeof EchoService> {
  function echoHeaders({ requestHeader, responseHeader, responseTrailer }: HandlerContext) {
    for (const name of ["x-echo", "x-echo-bin"]) {
      const value = requestHeader.get(name);
      if (value === null) continue;
      responseHeader.set(name, value);
      responseTrailer.set(name.replace("echo", "trailer"), value);
    }
  }

  async function act(what: string, { signal, responseHeader }: HandlerContext) {
    seen.running += 1;
    signal.addEventListener("abort", () => seen.aborted.push(signal.reason));
    try {
      if (what === "refuse") throw walletNotFound(5n);
      if (what === "crash") throw new Error(INSIDES);
      if (what === "garble") responseHeader.set("x-echo", "안녕");
      if (what === "sleep") await pause(SLEEP_MS);
      if (what === "wait") await pause(60_000, undefined, { signal });
      if (what === "hang") await pause(60_000, undefined, { ref: false });
    } finally {
      seen.running -= 1;
    }
  }

  return {
    async say(request, context) {
      echoHeaders(context);
      await act(request.act, context);
      return { text: request.text };
    },
    async *count(request, context) {
      echoHeaders(context);
      for (let number = 1n; number <= request.to; number += 1n) yield { number };
      await act(request.act, context);
    },
    async gather(requests, context) {
      echoHeaders(context);
      const texts = [];
      for await (const { text } of requests) texts.push(text);
      return { texts };
    },
    async *chat(requests, context) {
      echoHeaders(context);
      for await (const { text } of requests) {
        await act(text, context);
        yield { text };
      }
    },
    secret: (_, context) => ({ caller: callerOf(context).kind }),
  };
}
