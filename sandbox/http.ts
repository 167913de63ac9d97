import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface Call {
  method: string;
  url: URL;
  headers: Headers;
  body: string;
}

/** What a sandbox server answers: JSON, or a page for people. */
export type Reply = { json: object; status?: number } | { page: string };

/** Undefined is 404. */
export type Handler = (call: Call) => Reply | undefined;

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
  const found = url && handler({ method: request.method ?? "", url, headers, body });
  const reply: Reply = found ?? { json: { error: "nothing here" }, status: 404 };
  response.writeHead("page" in reply ? 200 : (reply.status ?? 200), {
    "content-type": "page" in reply ? "text/html; charset=utf-8" : "application/json",
    "content-security-policy": POLICY,
    "cache-control": "no-store",
  });
  response.end("page" in reply ? reply.page : JSON.stringify(reply.json, null, 2));
}

const listening = (server: Server, port: number) =>
  new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
