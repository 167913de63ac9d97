import { createConnection, createServer, type Socket } from "node:net";

/**
 * A stand-in for a bad network between a client and MySQL: a TCP proxy that knows where a command of the
 * client and a packet of an answer ends, and does there what a script says.
 */

/** What happens to one command of the client. */
export type Fault =
  /** The connection ends before the server hears of it. */
  | { cut: "before" }
  /** The connection ends when the server has half of it. */
  | { cut: "halfway" }
  /** The client loses the connection; the server does not notice, runs the command, and answers nobody. */
  | { cut: "unanswered"; rewrite?: (sql: string) => string }
  /** The client loses the connection; the server gets the command only when `until` resolves. */
  | { cut: "delayed"; until: Promise<unknown> }
  /** The server gets the command; nothing of its answer ever arrives, and nobody notices. */
  | { cut: "silent" }
  /** The client loses the connection after so many packets of the answer. */
  | { cut: "answering"; packets: number };

export interface Proxy {
  /** The address of the database through the proxy. */
  url: string;
  /** Asked for each command, in order of arrival; undefined lets it pass, a text takes its place. */
  script: (sql: string) => Fault | string | undefined;
  /** While set, nobody gets a connection. */
  refusing: boolean;
  /** How many packets answered each command that passed, in order. */
  answers: { sql: string; packets: number }[];
  /** Resolves when the server has ended each connection of a client that was cut off. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const HEADER_BYTES = 4;
/** A query of the client, with no attributes; then comes its text. */
const QUERY = Buffer.from([3, 0, 1]);
const TEXT_START = HEADER_BYTES + QUERY.length;

export async function startProxy(databaseUrl: string): Promise<Proxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const detached = new Set<Promise<unknown>>();

  const server = createServer((client) => {
    if (proxy.refusing) {
      client.destroy();
      return;
    }
    const upstream = createConnection(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => {});
    }
    const relay = relayBetween(client, upstream, proxy);
    client.on("data", relay.fromClient);
    upstream.on("data", relay.fromServer);
    upstream.on("close", () => client.destroy());
    client.on("close", () => {
      if (relay.keepsServer()) detached.add(new Promise((resolve) => upstream.on("close", resolve)));
      else upstream.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String(port);

  const proxy: Proxy = {
    url: url.href,
    script: () => undefined,
    refusing: false,
    answers: [],
    async settled() {
      await Promise.all(detached);
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

function relayBetween(client: Socket, upstream: Socket, proxy: Proxy) {
  let keeps = false;
  let isCut = false;
  let left: number | undefined;
  let current: Proxy["answers"][number] | undefined;

  const drop = () => {
    isCut = true;
    client.destroy();
    upstream.destroy();
  };

  /** Runs the command behind the client's back, then says goodbye in its name. */
  async function finishAlone(packet: Buffer, until?: Promise<unknown>) {
    keeps = true;
    isCut = true;
    client.destroy();
    await until;
    upstream.write(packet);
    // The server reads the end of the stream only after it has run what came before.
    upstream.end();
  }

  const onCommand = (sent: Buffer) => {
    const isQuery = sent[3] === 0 && sent.subarray(HEADER_BYTES, TEXT_START).equals(QUERY);
    const sql = isQuery ? sent.subarray(TEXT_START).toString() : "";
    const planned = isQuery ? proxy.script(sql) : undefined;
    if (isQuery) proxy.answers.push((current = { sql, packets: 0 }));
    const [fault, packet] = typeof planned === "string" ? [undefined, queryPacket(planned)] : [planned, sent];
    switch (fault?.cut) {
      case undefined:
        upstream.write(packet);
        break;
      case "before":
        drop();
        break;
      case "halfway":
        upstream.write(packet.subarray(0, packet.length >> 1), drop);
        break;
      case "unanswered":
        void finishAlone(fault.rewrite ? queryPacket(fault.rewrite(sql)) : packet);
        break;
      case "delayed":
        void finishAlone(packet, fault.until);
        break;
      case "silent":
        isCut = true;
        upstream.write(packet);
        break;
      case "answering":
        left = fault.packets;
        upstream.write(packet);
        break;
    }
  };

  const onAnswer = (packet: Buffer) => {
    if (isCut) return;
    if (current) current.packets += 1;
    client.write(packet);
    if (left === undefined) return;
    left -= 1;
    if (left > 0) return;
    isCut = true;
    // What was passed on arrives; nothing after it does.
    client.destroySoon();
  };

  return {
    fromClient: packets(onCommand),
    fromServer: packets(onAnswer),
    keepsServer: () => keeps,
  };
}

/** Cuts a stream of bytes into the packets of MySQL's protocol: three bytes of length, one of sequence. */
function packets(onPacket: (packet: Buffer) => void) {
  let waiting = Buffer.alloc(0);
  return (chunk: Buffer) => {
    waiting = Buffer.concat([waiting, chunk]);
    while (waiting.length >= HEADER_BYTES && waiting.length >= HEADER_BYTES + waiting.readUIntLE(0, 3)) {
      const end = HEADER_BYTES + waiting.readUIntLE(0, 3);
      onPacket(waiting.subarray(0, end));
      waiting = waiting.subarray(end);
    }
  };
}

function queryPacket(sql: string): Buffer {
  const body = Buffer.concat([QUERY, Buffer.from(sql)]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUIntLE(body.length, 0, 3);
  return Buffer.concat([header, body]);
}
