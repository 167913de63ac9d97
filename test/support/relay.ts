import { createConnection, createServer, type Socket } from "node:net";

/** A server's address through a network that can go away. */
export async function startRelay(url: string) {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let isCut = false;
  let caught: { text: string; until?: Promise<unknown> } | undefined;
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
    client.on("data", (chunk: Buffer) => {
      if (caught === undefined || !chunk.includes(caught.text)) return;
      const { until } = caught;
      caught = undefined;
      upstream.unpipe(client);
      if (until) void until.then(() => upstream.pipe(client));
      else upstream.once("data", () => client.destroy()).resume();
    });
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
    /** The next request with this text arrives; its answer does not, and the connection ends. */
    loseAnswerTo(text: string) {
      caught = { text };
    },
    /** The next request with this text arrives; its answer waits. */
    holdAnswerTo(text: string, until: Promise<unknown>) {
      caught = { text, until };
    },
    /** Whether what was to be caught has come. */
    hasCaught: () => caught === undefined,
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
