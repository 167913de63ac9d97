import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Request } from "./messages.ts";

export interface Reply {
  httpStatus: number;
  body: string;
}

export type Call = (request: Request<string>) => Promise<Reply>;

const PATH = "/chatpay.transfer.v1.TransferService/SendTransfer";

/** Calls over HTTP/1.1 connections that are kept, one call at a time on each. */
export function openJson(port: number, key: string, sockets: number): Call {
  const free = Array.from({ length: sockets }, () => openLine(port));
  const head =
    `POST ${PATH} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-type: application/json\r\n` +
    `connect-protocol-version: 1\r\nauthorization: Bearer ${key}\r\n`;
  return async ({ accountId, body }) => {
    const line = free.pop();
    if (!line) throw new Error("more calls than connections");
    const length = Buffer.byteLength(body);
    const reply = await line(`${head}chatpay-account-id: ${accountId}\r\ncontent-length: ${length}\r\n\r\n${body}`);
    free.push(line);
    return reply;
  };
}

type Line = (request: string) => Promise<Reply>;

function openLine(port: number): Line {
  let socket: Socket | undefined;
  return async (request) => {
    // The server closes a connection that was idle for some seconds.
    if (!socket?.writable) socket = await dial(port);
    return exchange(socket, request);
  };
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true }).setEncoding("latin1");
  await once(socket, "connect");
  return socket;
}

const exchange = (socket: Socket, request: string) =>
  new Promise<Reply>((resolve, reject) => {
    let received = "";
    const listen = (chunk: string) => {
      received += chunk;
      const reply = readReply(received);
      if (!reply) return;
      socket.off("data", listen).off("close", fail);
      resolve(reply);
    };
    const fail = () => reject(new Error("the server closed the connection"));
    socket.on("data", listen).on("close", fail);
    socket.write(request);
  });

/** The reply, when all of it is there. */
function readReply(received: string): Reply | undefined {
  const bodyAt = received.indexOf("\r\n\r\n") + 4;
  if (bodyAt < 4) return undefined;
  const [, length] = /^content-length: (\d+)/im.exec(received.slice(0, bodyAt)) ?? [];
  if (length === undefined) throw new Error("a reply without content-length");
  if (received.length < bodyAt + Number(length)) return undefined;
  return { httpStatus: Number(received.slice(9, 12)), body: received.slice(bodyAt) };
}
