import { randomUUID } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  BatchSendTransfersRequestSchema,
  SendTransferRequestSchema,
} from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { People } from "../arena.ts";
import { MEMO } from "../contestant.ts";
import type { Workload } from "../workloads.ts";

/**
 * Requests made ahead, one per recipient, of which a call changes only the key: the load generator shares
 * the machine with what it measures, so it must be cheap.
 */

export interface Request<Body> {
  accountId: string;
  body: Body;
}

const NO_KEY = "00000000-0000-0000-0000-000000000000";
/** A message of gRPC begins with a flag and its length; the key is the first field, behind its tag and its length. */
const PREFIX = 5;
const KEY_AT = PREFIX + 2;

const amountOf = (recipient: number) => BigInt(1 + (recipient % 1_000));

/** SendTransfer as a gRPC message. */
export function grpcRequests({ accountIds, walletIds }: People) {
  const senders = accountIds.map(String);
  const templates = walletIds.map((id, i) =>
    framed(
      toBinary(
        SendTransferRequestSchema,
        create(SendTransferRequestSchema, {
          idempotencyKey: NO_KEY,
          recipientWalletId: String(id),
          amount: amountOf(i),
          memo: MEMO,
        }),
      ),
    ),
  );
  return (workload: Workload): Request<Buffer> => {
    const from = workload.sender();
    const body = Buffer.from(templates[workload.recipient(from)] as Buffer);
    body.write(randomUUID(), KEY_AT, "latin1");
    return { accountId: senders[from] as string, body };
  };
}

/** BatchSendTransfers as a gRPC message; all transfers of a call have one sender. */
export function batchRequests({ accountIds, walletIds }: People, size: number) {
  const senders = accountIds.map(String);
  const recipients = walletIds.map(String);
  return (workload: Workload): Request<Buffer> => {
    const from = workload.sender();
    const transfers = Array.from({ length: size }, () => {
      const to = workload.recipient(from);
      const recipientWalletId = recipients[to] as string;
      return { idempotencyKey: randomUUID(), recipientWalletId, amount: amountOf(to), memo: MEMO };
    });
    const message = create(BatchSendTransfersRequestSchema, { transfers });
    return { accountId: senders[from] as string, body: framed(toBinary(BatchSendTransfersRequestSchema, message)) };
  };
}

/** SendTransfer as Connect JSON. */
export function jsonRequests({ accountIds, walletIds }: People) {
  const senders = accountIds.map(String);
  const rests = walletIds.map((id, i) =>
    JSON.stringify({ recipientWalletId: String(id), amount: String(amountOf(i)), memo: MEMO }).replace("{", ","),
  );
  return (workload: Workload): Request<string> => {
    const from = workload.sender();
    const rest = rests[workload.recipient(from)] as string;
    return { accountId: senders[from] as string, body: `{"idempotencyKey":"${randomUUID()}"${rest}` };
  };
}

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(PREFIX + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX);
  return frame;
}

/** How many transfers a BatchSendTransfersResponse says to have happened: it is read no further than that. */
export function countMade(answer: Buffer): number {
  let made = 0;
  let at = PREFIX;
  while (at < answer.length) {
    if (answer[at] !== RESULT) throw new Error("this is no BatchSendTransfersResponse");
    const [length, start] = readLength(answer, at + 1);
    if (answer[start] === TRANSFER) made += 1;
    at = start + length;
  }
  return made;
}

/** The tags of field 1 of the response, and of field 1 of a result, both messages. */
const RESULT = 0x0a;
const TRANSFER = 0x0a;

function readLength(bytes: Buffer, at: number): [length: number, start: number] {
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at] as number;
    length |= (byte & 0x7f) << shift;
    at += 1;
    if (byte < 0x80) return [length, at];
  }
}
