import { createConnection, createServer, type Socket } from "node:net";

/** A server's address through a network that can go away. */
export async function startRelay(url: string) {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((client) => {
    if (isCut) {
      client.destroy();
      return;
    }
    const upstream = createConnection(Number(target.port), target.hostname);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const relayed = new URL(url);
  relayed.hostname = "127.0.0.1";
  relayed.port = String((server.address() as { port: number }).port);

  const cutAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: relayed.href,
    cut() {
      isCut = true;
      cutAll();
    },
    /** Nothing arrives any more, and nobody notices. */
    hush() {
      for (const socket of sockets) socket.unpipe().pause();
    },
    mend() {
      isCut = false;
      cutAll();
    },
    async close() {
      isCut = true;
      cutAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
