// The chat server sends 100 won from Alice to Bob with a Connect client. Run it beside `npm start`.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { Demo } from "../../tools/demo.ts";

const demo: Demo = JSON.parse(await readFile(".local/data/demo.json", "utf8"));
const {
  CHATPAY_KEY = demo.keys.service,
  CHATPAY_ACCOUNT_ID = demo.alice.accountId,
  CHATPAY_RECIPIENT_WALLET_ID = demo.bob.walletId,
} = process.env;

const transfers = createClient(
  TransferService,
  createConnectTransport({ baseUrl: "http://localhost:8080", httpVersion: "2" }),
);

const { transfer } = await transfers.sendTransfer(
  // A real client stores the key before it sends, so that it can repeat the call after a crash.
  { idempotencyKey: randomUUID(), recipientWalletId: CHATPAY_RECIPIENT_WALLET_ID, amount: 100n, memo: "by Connect" },
  { headers: { authorization: `Bearer ${CHATPAY_KEY}`, "chatpay-account-id": CHATPAY_ACCOUNT_ID } },
);
console.log(`transfer ${transfer?.id}: ${transfer?.amount} ${transfer?.currency}, "${transfer?.memo}"`);
