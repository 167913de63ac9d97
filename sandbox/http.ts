import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** What a sandbox server answers: an object as JSON, a string as a page, undefined as 404. */
export type Handler = (method: string, url: URL) => object | string | undefined;

/** Serves `handler` on this machine only; port 0 takes any. */
export async function listen(port: number, handler: Handler): Promise<{ port: number; stop(): Promise<void> }> {
  const server = createServer((request, response) => {
    const url = URL.parse(request.url ?? "", "http://sandbox");
    const answer = url ? handler(request.method ?? "", url) : undefined;
    const isPage = typeof answer === "string";
    response.writeHead(answer === undefined ? 404 : 200, {
      "content-type": isPage ? "text/html; charset=utf-8" : "application/json",
      "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
      "cache-control": "no-store",
    });
    response.end(isPage ? answer : JSON.stringify(answer ?? { error: "nothing here" }, null, 2));
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

const listening = (server: Server, port: number) =>
  new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
