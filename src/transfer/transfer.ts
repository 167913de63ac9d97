import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, Wallet_Kind } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { TransferRow } from "../db/schema.ts";
import { sameWallet, walletNotFound } from "../errors.ts";
import type { Command, Settled } from "../ledger/command.ts";
import type { Call, Lane } from "../ledger/lane.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";

/** The account whose money moves. */
export interface Sender {
  accountId: bigint;
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

export interface Order {
  idempotencyKey: string;
  recipientWalletId: bigint;
  amount: bigint;
  memo: string;
}

/** Money from one wallet to another, at once or not at all. */
export function sendTransfer(sender: Sender, order: Order): Command<TransferRow> {
  const { recipientWalletId, amount, memo } = order;
  const idempotencyKey = onceKeyOf(scopeOf(sender), order.idempotencyKey);
  return {
    touches: { wallet: [sender.walletId, recipientWalletId] },
    once: {
      by: "transfer",
      key: idempotencyKey,
      isRepeat: (first) =>
        first.senderWalletId === sender.walletId &&
        first.recipientWalletId === recipientWalletId &&
        first.amount === amount &&
        first.memo === memo,
    },
    decide(books) {
      if (recipientWalletId === sender.walletId) throw sameWallet(recipientWalletId);
      const recipient = books.wallet(recipientWalletId);
      if (recipient.kind !== Wallet_Kind.MAIN) throw walletNotFound(recipientWalletId);
      const id = books.newId();
      books.move({
        from: sender.walletId,
        to: recipientWalletId,
        amount,
        because: { cause: Entry_Cause.TRANSFER, id },
      });
      const { currency } = recipient;
      books.tell("transfer.completed", [sender.accountId, recipient.accountId], {
        transferId: id,
        senderWalletId: sender.walletId,
        recipientWalletId,
        amount,
        currency,
        memo,
        ...(sender.keyId !== undefined && { apiKeyId: sender.keyId }),
      });
      return books.insert("transfer", {
        id,
        senderWalletId: sender.walletId,
        recipientWalletId,
        amount,
        currency,
        memo,
        state: Transfer_State.COMPLETED,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}

/** Many transfers, each on its own, or all or none. Answers each, in order. */
export function sendTransfers(
  lane: Lane,
  sender: Sender,
  orders: Order[],
  atomic: boolean,
  call: Call,
): Promise<Settled<TransferRow>[]> {
  const commands = orders.map((order) => sendTransfer(sender, order));
  return atomic ? lane.submitTogether(commands, call) : lane.submitEach(commands, call);
}
