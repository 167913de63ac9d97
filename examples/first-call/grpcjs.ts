// The chat server sends 100 won from Alice to Bob with a grpc-js client. Run it beside `npm start`.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  type SendTransferRequest,
  SendTransferRequestSchema,
  SendTransferResponseSchema,
} from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { Demo } from "../../tools/demo.ts";

const demo: Demo = JSON.parse(await readFile(".local/data/demo.json", "utf8"));
const {
  CHATPAY_KEY = demo.keys.service,
  CHATPAY_ACCOUNT_ID = demo.alice.accountId,
  CHATPAY_RECIPIENT_WALLET_ID = demo.bob.walletId,
} = process.env;

const client = new Client("localhost:50051", credentials.createInsecure());
const metadata = new Metadata();
metadata.set("authorization", `Bearer ${CHATPAY_KEY}`);
metadata.set("chatpay-account-id", CHATPAY_ACCOUNT_ID);

client.makeUnaryRequest(
  "/chatpay.transfer.v1.TransferService/SendTransfer",
  (request: SendTransferRequest) => Buffer.from(toBinary(SendTransferRequestSchema, request)),
  (bytes) => fromBinary(SendTransferResponseSchema, bytes),
  create(SendTransferRequestSchema, {
    // A real client stores the key before it sends, so that it can repeat the call after a crash.
    idempotencyKey: randomUUID(),
    recipientWalletId: CHATPAY_RECIPIENT_WALLET_ID,
    amount: 100n,
    memo: "by grpc-js",
  }),
  metadata,
  (error, response) => {
    client.close();
    if (error) throw error;
    const transfer = response?.transfer;
    console.log(`transfer ${transfer?.id}: ${transfer?.amount} ${transfer?.currency}, "${transfer?.memo}"`);
  },
);
