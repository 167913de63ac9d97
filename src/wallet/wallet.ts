import { Entry_Cause } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { type AdjustmentRow, BANK_CLEARING } from "../db/schema.ts";
import type { Command } from "../ledger/command.ts";
import { OPERATORS, onceKeyOf } from "../ledger/once.ts";

export interface AdjustmentOrder {
  idempotencyKey: string;
  walletId: bigint;
  /** Positive to credit, negative to debit. */
  amount: bigint;
  reason: string;
  /** The operator's API key. */
  apiKeyId: bigint;
}

/** Money that came from, or went to, a bank outside of ChatPay, as an operator says. */
export function adjustWallet({
  walletId,
  amount,
  reason,
  apiKeyId,
  ...order
}: AdjustmentOrder): Command<AdjustmentRow> {
  const idempotencyKey = onceKeyOf(OPERATORS, order.idempotencyKey);
  const [from, to] = amount > 0n ? [BANK_CLEARING, walletId] : [walletId, BANK_CLEARING];
  return {
    touches: { wallet: [walletId, BANK_CLEARING] },
    once: {
      by: "adjustment",
      key: idempotencyKey,
      isRepeat: (first) => first.walletId === walletId && first.amount === amount && first.reason === reason,
    },
    decide(books) {
      const { accountId, currency } = books.wallet(walletId);
      const id = books.newId();
      const because = { cause: Entry_Cause.ADJUSTMENT, id };
      books.move({ from, to, amount: amount > 0n ? amount : -amount, because, byOperator: true });
      books.tell("wallet.adjusted", [accountId], { adjustmentId: id, walletId, amount, currency, reason });
      return books.insert("adjustment", {
        id,
        walletId,
        amount,
        currency,
        reason,
        apiKeyId,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}
