import { Transfer_State, Transfer_StateSchema } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { type GiftRow, HOUSE, type WalletRow } from "../db/schema.ts";
import {
  currencyMismatch,
  sameWallet,
  transferEnded,
  transferNotFound,
  walletClosed,
  walletNotFound,
} from "../errors.ts";
import type { Books } from "../ledger/books.ts";
import type { Command } from "../ledger/command.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";
import {
  checkBalance,
  checkGifts,
  countGift,
  countSend,
  endGiftReceived,
  endGiftSent,
  giveBackSend,
  type Tiers,
} from "../wallet/limits.ts";
import type { Order, Sender, SendLimits } from "./transfer.ts";

/**
 * What the ledger does for gifts. Whoever ends a gift first wins: each end looks at its locked row. Its money is held in
 * the sender's wallet while it waits, so that it is the sender's again without anybody moving it.
 */

export interface GiftOrder extends Order {
  /** For how long it may be accepted. */
  expireAfterMs: number;
}

export interface GiftRules {
  /** None where sending is not limited. */
  limits: SendLimits | undefined;
  /** People are reminded so long before its time is over. */
  remindBeforeMs: number;
}

export const giftKeyOf = (sender: Sender, { idempotencyKey }: Pick<Order, "idempotencyKey">) =>
  onceKeyOf(`gift:${scopeOf(sender)}`, idempotencyKey);

/** Money that waits for its recipient. */
export function sendGift(sender: Sender, order: GiftOrder, { limits, remindBeforeMs }: GiftRules): Command<GiftRow> {
  const { recipientWalletId, amount, memo, expireAfterMs } = order;
  const wallets = [sender.walletId, recipientWalletId];
  return {
    touches: { wallet: wallets, allowance: wallets },
    once: {
      by: "gift",
      key: giftKeyOf(sender, order),
      isRepeat: (first) =>
        first.senderWalletId === sender.walletId &&
        first.recipientWalletId === recipientWalletId &&
        first.amount === amount &&
        first.memo === memo &&
        first.expireTime.getTime() - first.createTime.getTime() === expireAfterMs,
    },
    decide(books) {
      const { accountId: recipientAccountId, currency } = recipientOf(books, sender, recipientWalletId);
      const toStranger = limits !== undefined && !limits.known.has(recipientWalletId);
      const ends = { senderWalletId: sender.walletId, recipientWalletId };
      checkGifts(books, sender.walletId);
      const day = limits ? countSend(books, limits.tiers, { ...ends, amount, toStranger }) : 0;

      const id = books.newId();
      const expireTime = after(books.now, expireAfterMs);
      const because = { cause: Entry_Cause.GIFT, id };
      const hold = books.hold({ wallet: sender.walletId, amount, because, expireTime });
      countGift(books, ends);
      const gift = books.insert("gift", {
        id,
        senderAccountId: sender.accountId,
        senderWalletId: sender.walletId,
        recipientAccountId,
        recipientWalletId,
        amount,
        currency,
        memo,
        state: Transfer_State.PENDING,
        holdId: hold.id,
        day,
        toStranger: toStranger ? 1 : 0,
        apiKeyId: sender.keyId ?? null,
        idempotencyKey: giftKeyOf(sender, order),
        createTime: books.now,
        expireTime,
        remindTime: after(books.now, Math.max(expireAfterMs - remindBeforeMs, Math.floor(expireAfterMs / 2))),
        handOverTime: null,
        endTime: null,
        endApiKeyId: null,
      });
      tell(books, "transfer.pending", gift, sender.keyId);
      return gift;
    },
  };
}

const after = (time: Date, ms: number) => new Date(time.getTime() + ms);

/** A main wallet that may be given something. */
function recipientOf(books: Books, sender: Sender, walletId: bigint): WalletRow & { accountId: bigint } {
  if (walletId === sender.walletId) throw sameWallet(walletId);
  const recipient = books.wallet(walletId);
  const { kind, accountId, state, currency } = recipient;
  if (kind !== Wallet_Kind.MAIN || accountId === null) throw walletNotFound(walletId);
  if (state === Wallet_State.CLOSED) throw walletClosed(walletId);
  const from = books.wallet(sender.walletId).currency;
  if (currency !== from) throw currencyMismatch(from, currency);
  return { ...recipient, accountId };
}

/** Who ends a gift; nobody where its time is over. */
export interface Actor {
  /** The API key of the chat server that acts for them, if one does. */
  keyId?: bigint;
}

/** The recipient takes the gift, as it was read; `tiers` where wallets are limited. */
export const acceptGift = (gift: GiftRow, { keyId }: Actor, tiers?: Tiers): Command<GiftRow> => ({
  touches: {
    ...touchedBy(gift),
    wallet: [gift.handOverTime ? HOUSE : gift.senderWalletId, gift.recipientWalletId],
  },
  decide(books) {
    const row = findRow(books, gift);
    if (row.handOverTime && !gift.handOverTime) throw new HandedOver();
    if (row.state === Transfer_State.COMPLETED) return row;
    mustWait(books, row);
    const { id, amount, recipientWalletId: to } = row;
    if (tiers) checkBalance(books, tiers, to, amount);
    const because = { cause: Entry_Cause.GIFT, id };
    if (row.handOverTime) books.move({ from: HOUSE, to, amount, because });
    else books.capture({ hold: row.holdId, to, because });
    const ended = end(books, row, { state: Transfer_State.COMPLETED, endTime: books.now, keyId });
    tell(books, "transfer.completed", ended, keyId);
    return ended;
  },
});

/** The recipient does not want the gift, as it was read. */
export const declineGift = (gift: GiftRow, actor: Actor): Command<GiftRow> =>
  giveBack(gift, actor, Transfer_State.DECLINED, "transfer.declined");

/** The sender takes the gift back, as it was read; once it was handed over, it is theirs no more. */
export const cancelGift = (gift: GiftRow, actor: Actor): Command<GiftRow> => {
  const { touches, decide } = giveBack(gift, actor, Transfer_State.CANCELED, "transfer.canceled");
  return {
    touches,
    decide(books) {
      if (findRow(books, gift).handOverTime) throw transferNotFound(gift.id);
      return decide(books);
    },
  };
};

const giveBack = (gift: GiftRow, { keyId }: Actor, state: Transfer_State, event: string): Command<GiftRow> => ({
  touches: touchedBy(gift),
  decide(books) {
    const row = findRow(books, gift);
    if (row.state === state) return row;
    mustWait(books, row);
    release(books, row);
    const ended = end(books, row, { state, endTime: books.now, keyId });
    tell(books, event, ended, keyId);
    return ended;
  },
});

/** Writes down that the time of the gift, as it was read, is over. Before that, and when it has ended, it stays as it is. */
export const expireGift = (gift: GiftRow): Command<GiftRow> => ({
  touches: touchedBy(gift),
  decide(books) {
    const row = findRow(books, gift);
    if (row.state !== Transfer_State.PENDING || row.expireTime > books.now) return row;
    release(books, row);
    const ended = end(books, row, { state: Transfer_State.EXPIRED, endTime: row.expireTime });
    tell(books, "transfer.expired", ended);
    return ended;
  },
});

/** Reminds those whom the gift concerns, once. */
export const remindOf = (gift: Pick<GiftRow, "id">): Command<GiftRow> => ({
  touches: { gift: [gift.id] },
  decide(books) {
    const row = findRow(books, gift);
    if (row.remindTime === null || row.remindTime > books.now) return row;
    if (row.expireTime > books.now) tell(books, "transfer.reminder", row);
    return books.update("gift", row.id, { remindTime: null });
  },
});

/**
 * The sender of a locked gift closes their account: the house has the money from now on, and the recipient can still
 * accept it. The sender's wallet, the hold and HOUSE are locked too.
 */
export function handOver(books: Books, gift: GiftRow, { keyId }: Actor) {
  const { id, holdId: hold } = gift;
  books.capture({ hold, to: HOUSE, because: { cause: Entry_Cause.GIFT_HAND_OVER, id } });
  endGiftSent(books, gift);
  tell(books, "transfer.handed_over", books.update("gift", id, { handOverTime: books.now }), keyId);
}

/** Whether the time of a gift is over that has not ended otherwise, whoever has written that down. */
export const isLate = ({ state, expireTime }: Pick<GiftRow, "state" | "expireTime">, now: Date): boolean =>
  state === Transfer_State.PENDING && expireTime <= now;

/** The gift was handed over to the house since it was read: the house pays, whose wallet is to be locked. */
export class HandedOver extends Error {}

/** What ending a gift touches; once the house has it, there is no hold, and the sender has no part in it. */
const touchedBy = ({ id, handOverTime, senderWalletId, recipientWalletId, holdId }: GiftRow) => ({
  wallet: handOverTime ? [] : [senderWalletId],
  hold: handOverTime ? [] : [holdId],
  allowance: [senderWalletId, recipientWalletId],
  gift: [id],
});

function findRow(books: Books, { id }: Pick<GiftRow, "id">): GiftRow {
  const row = books.find("gift", id);
  if (!row) throw new Error(`gift ${id} is not there`);
  return row;
}

/** Throws TRANSFER_ENDED when it has, or when its time is over. */
function mustWait({ now }: Books, row: GiftRow) {
  const state = isLate(row, now) ? Transfer_State.EXPIRED : (row.state as Transfer_State);
  if (state !== Transfer_State.PENDING) throw transferEnded(row.id, Transfer_StateSchema.value[state]?.localName ?? "");
}

/** The money is the sender's again, and what it counted of the day; what the house has, it keeps. */
function release(books: Books, row: GiftRow) {
  if (row.handOverTime) return;
  books.release({ hold: row.holdId });
  if (row.day !== 0) giveBackSend(books, { ...row, toStranger: row.toStranger === 1 }, row.day);
}

function end(
  books: Books,
  row: GiftRow,
  ending: Pick<GiftRow, "state"> & { endTime: Date; keyId?: bigint | undefined },
) {
  if (!row.handOverTime) endGiftSent(books, row);
  endGiftReceived(books, row);
  const { state, endTime, keyId = null } = ending;
  return books.update("gift", row.id, { state, endTime, endApiKeyId: keyId, remindTime: null });
}

function tell(books: Books, event: string, gift: GiftRow, keyId?: bigint) {
  const { id: transferId, senderWalletId, recipientWalletId, amount, currency, memo } = gift;
  books.tell(event, [gift.senderAccountId, gift.recipientAccountId], {
    transferId,
    transferKind: "gift",
    senderWalletId,
    recipientWalletId,
    amount,
    currency,
    memo,
    expireTime: gift.expireTime.toISOString(),
    ...(keyId !== undefined && { apiKeyId: keyId }),
  });
}
