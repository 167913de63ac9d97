import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import type { Request } from "./messages.ts";

export interface Reply {
  /** The code of gRPC by its number; "0" is OK. */
  status: string;
  body: Buffer;
}

export type BatchCall = (request: Request<Buffer>) => Promise<Reply>;

/** Large calls over Node's own HTTP/2: what it costs is shared by a thousand transfers. */
export async function openBatchCalls(port: number, key: string): Promise<BatchCall> {
  const headers = {
    ":method": "POST",
    ":path": "/chatpay.transfer.v1.TransferService/BatchSendTransfers",
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${key}`,
  };
  let session = await openSession(port);
  return async ({ accountId, body }) => {
    // The server sends older connections away, and answers what is open on them.
    if (session.closed) session = await openSession(port);
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
