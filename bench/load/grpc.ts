import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import type { Request } from "./messages.ts";

export interface Reply {
  /** The code of gRPC by its number; "0" is OK. */
  status: string;
  body: Buffer;
}

export type Call = (request: Request<Buffer>) => Promise<Reply>;

const SERVICE = "/chatpay.transfer.v1.TransferService";

/** Calls of one method over HTTP/2 sessions that take turns. */
export async function openGrpc(port: number, key: string, method: string, sessions: number): Promise<Call> {
  const open = await Promise.all(Array.from({ length: sessions }, () => openSession(port)));
  const headers = {
    ":method": "POST",
    ":path": `${SERVICE}/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${key}`,
  };
  let turn = 0;
  return ({ accountId, body }) => {
    turn = (turn + 1) % sessions;
    const session = open[turn] as ClientHttp2Session;
    return new Promise((resolve, reject) => {
      const stream = session.request({ ...headers, "chatpay-account-id": accountId });
      const chunks: Buffer[] = [];
      // Whoever answers with headers alone says the status in them.
      let status: unknown;
      stream.on("response", (head) => (status = head["grpc-status"]));
      stream.on("trailers", (trailers) => (status = trailers["grpc-status"]));
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("close", () => resolve({ status: String(status), body: Buffer.concat(chunks) }));
      stream.end(body);
    });
  };
}

async function openSession(port: number): Promise<ClientHttp2Session> {
  const session = connect(`http://127.0.0.1:${port}`);
  await once(session, "connect");
  return session;
}
