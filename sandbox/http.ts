import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface Call {
  method: string;
  url: URL;
  headers: Headers;
  body: string;
}

/** What a sandbox server answers: JSON, a page for people, another address, other bytes, or a connection that breaks. */
export type Reply =
  | { json: object; status?: number }
  | { page: string; status?: number }
  | { redirect: string }
  | { raw: string; status?: number; type?: string }
  | { drop: "at once" }
  | { drop: "half way"; of: Reply };

/** Undefined is 404. A promise is an answer that takes its time. */
export type Handler = (call: Call) => Reply | undefined | Promise<Reply | undefined>;

/** What a page may do, and a mail that somebody else wrote: show itself. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

/** Serves `handler` on this machine only; port 0 takes any. */
export async function listen(port: number, handler: Handler): Promise<{ port: number; stop(): Promise<void> }> {
  const server = createServer((request, response) => {
    // Whoever hangs up hears nothing.
    answer(request, response, handler).catch(() => response.destroy());
  });
  await listening(server, port);
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(request: IncomingMessage, response: ServerResponse, handler: Handler) {
  const url = URL.parse(request.url ?? "", "http://sandbox");
  const headers = new Headers(request.headers as Record<string, string>);
  const body = await text(request);
  const found = url && (await handler({ method: request.method ?? "", url, headers, body }));
  send(response, found ?? { json: { error: "nothing here" }, status: 404 });
}

function send(response: ServerResponse, reply: Reply) {
  if ("drop" in reply && reply.drop === "at once") return response.destroy();
  const { status, head, body } = written("drop" in reply ? reply.of : reply);
  const bytes = Buffer.from(body);
  response.writeHead(status, {
    ...head,
    "content-length": bytes.length,
    "content-security-policy": POLICY,
    "cache-control": "no-store",
  });
  if (!("drop" in reply)) return response.end(bytes);
  return response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
}

function written(reply: Reply): { status: number; head: Record<string, string>; body: string } {
  if ("redirect" in reply) return { status: 302, head: { location: reply.redirect }, body: "" };
  const status = "status" in reply ? (reply.status ?? 200) : 200;
  if ("page" in reply) return { status, head: { "content-type": "text/html; charset=utf-8" }, body: reply.page };
  if ("raw" in reply) return { status, head: { "content-type": reply.type ?? "text/plain" }, body: reply.raw };
  const json = "json" in reply ? reply.json : {};
  return { status, head: { "content-type": "application/json" }, body: JSON.stringify(json, null, 2) };
}

const listening = (server: Server, port: number) =>
  new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
