import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, Wallet_Kind } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import type { Debit } from "../bank/funding.ts";
import type { TransferRow } from "../db/schema.ts";
import { sameWallet, walletNotFound } from "../errors.ts";
import type { Books } from "../ledger/books.ts";
import type { Command, Result, Settled } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";
import { checkBalance, countSend, limitsSending, limitsStrangers, type Tiers } from "../wallet/limits.ts";
import { listKnownRecipients, listUsedKeys } from "./queries.ts";

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

/** What the sender asks for besides the orders. */
export interface Sending {
  /** The payment PIN; empty when none was given. */
  pin: string;
  /** All or none. */
  atomic: boolean;
}

/** What limits of sending a command counts against. */
export interface SendLimits {
  tiers: Tiers;
  /** Whom the sender has sent money before. Who is added meanwhile still counts as a stranger. */
  known: ReadonlySet<bigint>;
}

/** Looks up what limits of sending a transfer counts against; nothing where sending is not limited. */
export function openSendLimits({ db, config }: Pick<App, "db" | "config">) {
  const { tiers } = config;
  const isLimited = limitsSending(tiers);
  const isLimitedToStrangers = limitsStrangers(tiers);
  return async (senderWalletId: bigint, recipientWalletIds: bigint[]): Promise<SendLimits | undefined> => {
    if (!isLimited || recipientWalletIds.length === 0) return undefined;
    const known = isLimitedToStrangers
      ? await listKnownRecipients(db, senderWalletId, recipientWalletIds)
      : new Set<bigint>();
    return { tiers, known };
  };
}

/** Sends money of those who may. */
export function openTransfers(app: App) {
  const { db, funding } = app;
  const pins = openPins(app);
  const findLimits = openSendLimits(app);

  /** One PIN is for all the orders together, so that many small ones are not a way around it. */
  const checkPin = (sender: Sender, orders: Order[], pin: string) =>
    pins.check(sender.accountId, pin, {
      amount: sumOf(orders),
      async left() {
        const keys = orders.map((order) => keyOf(sender, order));
        const used = new Set((await listUsedKeys(db, keys)).map(hex));
        return sumOf(orders.filter((order) => !used.has(hex(keyOf(sender, order)))));
      },
    });

  const limitsFor = ({ walletId }: Sender, orders: Order[]) =>
    findLimits(
      walletId,
      orders.map(({ recipientWalletId }) => recipientWalletId),
    );

  return {
    /** Throws PIN_REQUIRED, PIN_WRONG, PIN_LOCKED, what `sendTransfer` refuses, and what drawing the rest does. */
    async send(sender: Sender, order: Order, pin: string, call: Call): Promise<Result<TransferRow>> {
      await checkPin(sender, [order], pin);
      const limits = await limitsFor(sender, [order]);
      return funding.submit(sender, debitOf(sender, order, limits), call);
    },

    /** Many transfers, each on its own, or all or none. Answers each, in order. */
    async sendAll(
      sender: Sender,
      orders: Order[],
      { pin, atomic }: Sending,
      call: Call,
    ): Promise<Settled<TransferRow>[]> {
      await checkPin(sender, orders, pin);
      const limits = await limitsFor(sender, orders);
      const debits = orders.map((order) => debitOf(sender, order, limits));
      return funding.submitAll(sender, debits, { atomic, call });
    },
  };
}

const sumOf = (orders: Order[]) => orders.reduce((sum, { amount }) => sum + amount, 0n);

const hex = (key: Buffer) => key.toString("hex");

const keyOf = (sender: Sender, { idempotencyKey }: Order) => onceKeyOf(scopeOf(sender), idempotencyKey);

const debitOf = (sender: Sender, order: Order, limits: SendLimits | undefined): Debit<TransferRow> => ({
  amount: order.amount,
  key: keyOf(sender, order),
  command: sendTransfer(sender, order, limits),
});

/** Money from one wallet to another, at once or not at all; `limits` where sending is limited. */
export function sendTransfer(sender: Sender, order: Order, limits?: SendLimits): Command<TransferRow> {
  const { recipientWalletId, amount, memo } = order;
  const idempotencyKey = keyOf(sender, order);
  return {
    touches: touchedBySending(sender, recipientWalletId, limits),
    once: {
      by: "transfer",
      key: idempotencyKey,
      isRepeat: (first) =>
        first.senderWalletId === sender.walletId &&
        first.recipientWalletId === recipientWalletId &&
        first.amount === amount &&
        first.memo === memo,
    },
    decide: (books) => moveTransfer(books, sender, { recipientWalletId, amount, memo, idempotencyKey }, limits),
  };
}

/** What a command touches that has `moveTransfer` in it. */
export function touchedBySending({ walletId }: Sender, recipientWalletId: bigint, limits: SendLimits | undefined) {
  const wallet = [walletId, recipientWalletId];
  return { wallet, allowance: limits ? wallet : [] };
}

/** A transfer at once, as it is written; its key makes it happen once. */
export type Sent = Pick<TransferRow, "recipientWalletId" | "amount" | "memo" | "idempotencyKey">;

/** The money moves and the limits count it, as part of a command whose `once` is the transfer's key. */
export function moveTransfer(books: Books, sender: Sender, sent: Sent, limits: SendLimits | undefined): TransferRow {
  const { recipientWalletId, amount, memo, idempotencyKey } = sent;
  if (recipientWalletId === sender.walletId) throw sameWallet(recipientWalletId);
  const recipient = books.wallet(recipientWalletId);
  if (recipient.kind !== Wallet_Kind.MAIN) throw walletNotFound(recipientWalletId);
  if (limits) {
    const toStranger = !limits.known.has(recipientWalletId);
    countSend(books, limits.tiers, { senderWalletId: sender.walletId, amount, toStranger });
    checkBalance(books, limits.tiers, recipientWalletId, amount);
  }
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
}
