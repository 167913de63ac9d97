import { once } from "node:events";
import { createServer, type Socket } from "node:net";

/** A request as it came, and the connection to answer on. */
export interface RawCall {
  /** As "POST /v2.0/transfer/withdraw/fin_num". */
  line: string;
  headers: Record<string, string>;
  body: string;
  socket: Socket;
}

/** A server that answers in any way, also in none that HTTP allows. */
export async function startRawHttp() {
  const calls: RawCall[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  let behave: (call: RawCall) => void = () => {};
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    let read: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      read = Buffer.concat([read, chunk]);
      for (let call = takeCall(read); call; call = takeCall(read)) {
        read = read.subarray(call.length);
        calls.push({ ...call.said, socket });
        behave({ ...call.said, socket });
      }
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    calls,
    connections: () => connections,
    /** What becomes of the calls that follow. */
    on(next: (call: RawCall) => void) {
      behave = next;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** The first request of what was read, when all of it is there. */
function takeCall(read: Buffer) {
  const end = read.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const [first = "", ...rest] = read.subarray(0, end).toString("latin1").split("\r\n");
  const headers = Object.fromEntries(
    rest.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  );
  const length = end + 4 + Number(headers["content-length"] ?? 0);
  if (read.length < length) return undefined;
  const said = {
    line: first.replace(/ HTTP\/1\.1$/, ""),
    headers,
    body: read.subarray(end + 4, length).toString(),
  };
  return { length, said };
}

/** A whole answer as it goes over the wire. */
export function rawAnswer(body: string | Buffer, status = "200 OK", headers: Record<string, string> = {}): Buffer {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const all = { "content-type": "application/json; charset=UTF-8", "content-length": bytes.length, ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status}\r\n${lines.join("")}\r\n`), bytes]);
}
