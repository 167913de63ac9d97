import { Payment_State } from "../../gen/chatpay/payment/v1/payment_pb.ts";
import { Entry_Cause, Wallet_Kind } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import type { PartnerRow, PaymentRow } from "../db/schema.ts";
import { itemsPartlyPriced, itemsSumMismatch } from "../errors.ts";
import type { Command, Result } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { OPERATORS, onceKeyOf } from "../ledger/once.ts";
import { findPaymentByKey } from "./queries.ts";

/** One line of an order, as it is stored: amounts as decimal strings. */
export interface Item {
  name: string;
  quantity: string;
  unitPrice?: string;
}

export interface PaymentOrder {
  orderKey: string;
  items: Item[];
  amount: bigint;
}

/** The account that pays. */
export interface Payer {
  accountId: bigint;
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

/** Takes the payments of those who may pay. */
export function openPayments(app: App) {
  const { db, funding } = app;
  const pins = openPins(app);
  return {
    /** Throws PIN_REQUIRED, PIN_WRONG, PIN_LOCKED, what `approvePayment` refuses, and what drawing the rest does. */
    async approve(
      payer: Payer,
      partner: PartnerRow,
      order: PaymentOrder,
      pin: string,
      call: Call,
    ): Promise<Result<PaymentRow>> {
      const command = approvePayment(payer, partner, order);
      await pins.check(payer.accountId, pin, {
        amount: order.amount,
        left: async () => ((await findPaymentByKey(db, keyOf(partner, order))) ? 0n : order.amount),
      });
      return funding.submit(payer, { amount: order.amount, key: keyOf(partner, order), command }, call);
    },
  };
}

const keyOf = (partner: PartnerRow, { orderKey }: PaymentOrder) => onceKeyOf(`partner:${partner.id}`, orderKey);

/** Money from a person to a partner for an order. The order key makes it happen once. */
export function approvePayment(payer: Payer, partner: PartnerRow, order: PaymentOrder): Command<PaymentRow> {
  const { orderKey, items, amount } = order;
  checkSum(items, amount);
  const idempotencyKey = keyOf(partner, order);
  return {
    touches: { wallet: [payer.walletId, partner.walletId] },
    once: { by: "payment", key: idempotencyKey },
    decide(books) {
      const id = books.newId();
      const because = { cause: Entry_Cause.PAYMENT, id };
      books.move({ from: payer.walletId, to: partner.walletId, amount, because });
      const { currency } = books.wallet(payer.walletId);
      books.tell("payment.captured", [payer.accountId], {
        paymentId: id,
        partnerId: partner.id,
        orderKey,
        payerAccountId: payer.accountId,
        payerWalletId: payer.walletId,
        amount,
        currency,
        ...(payer.keyId !== undefined && { apiKeyId: payer.keyId }),
      });
      return books.insert("payment", {
        id,
        partnerId: partner.id,
        orderKey,
        payerAccountId: payer.accountId,
        payerWalletId: payer.walletId,
        amount,
        currency,
        items: JSON.stringify(items),
        state: Payment_State.CAPTURED,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}

/** Either every item has a price and they add up to the amount, or none has one. */
function checkSum(items: Item[], amount: bigint) {
  const priced = items.filter(({ unitPrice }) => unitPrice !== undefined);
  if (priced.length === 0) return;
  if (priced.length < items.length) throw itemsPartlyPriced();
  const sum = priced.reduce((total, item) => total + BigInt(item.quantity) * BigInt(item.unitPrice ?? 0), 0n);
  if (sum !== amount) throw itemsSumMismatch(sum, amount);
}

/** A partner with its wallet. */
export function createPartner(order: { idempotencyKey: string; name: string }): Command<PartnerRow> {
  const idempotencyKey = onceKeyOf(OPERATORS, order.idempotencyKey);
  return {
    touches: {},
    once: { by: "partner", key: idempotencyKey, isRepeat: (first) => first.name === order.name },
    decide(books) {
      const id = books.newId();
      const walletId = books.newId();
      books.openWallet({ id: walletId, kind: Wallet_Kind.PARTNER, partnerId: id });
      books.tell("partner.created", [], { partnerId: id, walletId, name: order.name });
      return books.insert("partner", {
        id,
        name: order.name,
        walletId,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}
