import { BankAccount_State, BankTransfer_Kind, BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { Entry_Cause, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { BANK_CLEARING, type BankAccountRow, type BankTransferRow } from "../db/schema.ts";
import { bankAccountNotFound, bankConsentMissing, walletClosed, walletFrozen } from "../errors.ts";
import type { Books } from "../ledger/books.ts";
import type { Command } from "../ledger/command.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";
import { seoulDay, seoulDayNumber } from "../seoul.ts";
import {
  checkBalance,
  countDraw,
  countWithdrawal,
  drawLeft,
  endBankTransfer,
  endIncoming,
  expectIncoming,
  giveBackDraw,
  type Tiers,
} from "../wallet/limits.ts";
import type { Approved, Declined } from "./openbanking/contract.ts";
import { tranIdOf } from "./tranid.ts";

/**
 * What the ledger does for money between wallets and banks. Each movement is an attempt: first it is intended and
 * committed, with all that is decided beforehand; then the bank is asked; then it is settled, once.
 */

/** The account whose money moves. */
export interface Owner {
  accountId: bigint;
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

export interface BankOrder {
  idempotencyKey: string;
  bankAccountId: bigint;
  amount: bigint;
}

/** What the commands need to know of the configuration. */
export interface Rules {
  tiers: Tiers;
  /** What every bank_tran_id begins with. */
  institutionCode: string;
  /** After so long, an attempt of which nothing was heard is asked about. */
  silenceMs: number;
}

/** Nothing ends it but the bank's word. */
const NEVER = new Date("9999-12-31T00:00:00.000Z");

export const keyOf = (owner: Owner, { idempotencyKey }: Pick<BankOrder, "idempotencyKey">) =>
  onceKeyOf(`bank:${scopeOf(owner)}`, idempotencyKey);

/** Money that its owner wants from a bank. Repeats are told by the key. */
export const intendTopUp = (rules: Rules, owner: Owner, order: BankOrder): Command<BankTransferRow> => ({
  touches: { wallet: [owner.walletId], allowance: [owner.walletId], bankAccount: [order.bankAccountId] },
  once: onceFor(owner, order, BankTransfer_Kind.TOP_UP),
  decide(books) {
    mayReceive(books, owner);
    drawable(books, owner, order.bankAccountId);
    checkBalance(books, rules.tiers, owner.walletId, order.amount);
    const day = countDraw(books, rules.tiers, owner.walletId, order.amount);
    expectIncoming(books, owner.walletId, order.amount);
    const { amount, bankAccountId } = order;
    const idempotencyKey = keyOf(owner, order);
    return begin(books, rules, owner, { kind: BankTransfer_Kind.TOP_UP, amount, bankAccountId, day, idempotencyKey });
  },
});

/** Money that its owner wants at a bank. It is set aside until the bank has said whether it took it. */
export const intendWithdrawal = (rules: Rules, owner: Owner, order: BankOrder): Command<BankTransferRow> => ({
  touches: { wallet: [owner.walletId], allowance: [owner.walletId], bankAccount: [order.bankAccountId] },
  once: onceFor(owner, order, BankTransfer_Kind.WITHDRAWAL),
  decide(books) {
    linked(books, owner, order.bankAccountId);
    countWithdrawal(books, owner.walletId);
    const { amount, bankAccountId } = order;
    const kind = BankTransfer_Kind.WITHDRAWAL;
    return begin(books, rules, owner, {
      kind,
      amount,
      held: amount,
      bankAccountId,
      idempotencyKey: keyOf(owner, order),
    });
  },
});

/** A debit that found too little. */
export interface Short {
  amount: bigint;
  /** The debit's own key. */
  key: Buffer;
  /** The primary account, from which the rest is drawn. */
  bankAccountId: bigint;
}

/**
 * What a debit finds missing, from the primary bank account. What the wallet has is set aside meanwhile, so that no other
 * debit takes it and everyone draws what they need. A debit has one draw under way: whoever repeats it meets that one.
 * Nothing is begun when the wallet has enough by now.
 */
export const intendDraw = (rules: Rules, owner: Owner, short: Short): Command<BankTransferRow | undefined> => ({
  touches: { wallet: [owner.walletId], allowance: [owner.walletId], bankAccount: [short.bankAccountId] },
  once: { by: "bankDraw", key: short.key },
  decide(books) {
    const wallet = mayReceive(books, owner);
    if (wallet.state === Wallet_State.FROZEN) throw walletFrozen(wallet.id);
    const bankAccount = drawable(books, owner, short.bankAccountId);
    if (bankAccount.primaryOf !== owner.accountId || bankAccount.automaticTopUp === 0) {
      throw bankConsentMissing(bankAccount.id);
    }
    const available = wallet.balance - wallet.held;
    const missing = short.amount - available;
    if (missing <= 0n) return undefined;
    const rounded = roundUp(missing, bankAccount.topUpUnit);
    // What is left of the day is for what is needed, not for round numbers.
    const amount = rounded <= drawLeft(books, rules.tiers, wallet.id) ? rounded : missing;
    const day = countDraw(books, rules.tiers, wallet.id, amount);
    return begin(books, rules, owner, {
      kind: BankTransfer_Kind.AUTOMATIC_TOP_UP,
      amount,
      held: available,
      bankAccountId: bankAccount.id,
      day,
      drawKey: short.key,
    });
  },
});

const roundUp = (amount: bigint, unit: bigint) => ((amount + unit - 1n) / unit) * unit;

/**
 * What the bank has said becomes so here: the money moves, or what was set aside and counted is given back. Whoever
 * comes second finds it done, whatever they have heard.
 */
export const settle = (transfer: BankTransferRow, outcome: Approved | Declined): Command<BankTransferRow> => ({
  touches: {
    wallet: [transfer.walletId, BANK_CLEARING],
    hold: transfer.holdId === null ? [] : [transfer.holdId],
    allowance: [transfer.walletId],
    bankTransfer: [transfer.id],
  },
  decide(books) {
    const row = books.find("bankTransfer", transfer.id);
    if (!row) throw new Error(`bank transfer ${transfer.id} is not there`);
    if (isEnded(row)) return row;

    endBankTransfer(books, row.walletId);
    if (row.kind === BankTransfer_Kind.TOP_UP) endIncoming(books, row.walletId, row.amount);
    const isOut = row.kind === BankTransfer_Kind.WITHDRAWAL;
    const because = { cause: Entry_Cause.BANK_TRANSFER, id: row.id };
    if (outcome.is === "approved" && isOut) {
      // The money has left the bank, whatever became of the wallet since.
      if (row.holdId === null) throw new Error(`withdrawal ${row.id} holds nothing`);
      books.capture({ hold: row.holdId, to: BANK_CLEARING, because, byOperator: true });
    } else {
      if (row.holdId !== null) books.release({ hold: row.holdId });
      if (outcome.is === "approved") books.move({ from: BANK_CLEARING, to: row.walletId, amount: row.amount, because });
      else if (!isOut) giveBackDraw(books, row.walletId, row.day, row.amount);
    }
    const ended =
      outcome.is === "approved"
        ? { state: BankTransfer_State.SUCCEEDED, bankRef: outcome.apiTranId }
        : {
            state: BankTransfer_State.FAILED,
            failureBank: outcome.bankCode,
            failureCode: outcome.code,
            failureMessage: outcome.message,
          };
    tell(books, row, outcome);
    return books.update("bankTransfer", row.id, {
      ...ended,
      drawKey: null,
      dueTime: null,
      updateTime: books.now,
    });
  },
});

/** The words of events and metrics for what a transfer is, by its BankTransfer_Kind. */
export const MOVEMENTS: Record<number, string> = {
  [BankTransfer_Kind.TOP_UP]: "top_up",
  [BankTransfer_Kind.AUTOMATIC_TOP_UP]: "automatic_top_up",
  [BankTransfer_Kind.WITHDRAWAL]: "withdrawal",
};

/** Whether the bank has said what became of it. */
export const isEnded = ({ state }: BankTransferRow) =>
  state === BankTransfer_State.SUCCEEDED || state === BankTransfer_State.FAILED;

function tell(books: Books, row: BankTransferRow, outcome: Approved | Declined) {
  const { id: bankTransferId, accountId, walletId, bankAccountId, kind, amount, currency, apiKeyId } = row;
  const name = outcome.is === "approved" ? "bank_transfer.succeeded" : "bank_transfer.failed";
  books.tell(name, [accountId], {
    bankTransferId,
    movement: MOVEMENTS[kind] ?? "",
    walletId,
    bankAccountId,
    amount,
    currency,
    ...(outcome.is === "declined" && { code: outcome.code }),
    ...(apiKeyId !== null && { apiKeyId }),
  });
}

const onceFor = (owner: Owner, order: BankOrder, kind: BankTransfer_Kind) => ({
  by: "bankTransfer" as const,
  key: keyOf(owner, order),
  isRepeat: (first: BankTransferRow) =>
    first.kind === kind && first.bankAccountId === order.bankAccountId && first.amount === order.amount,
});

function mayReceive(books: Books, { walletId }: Owner) {
  const wallet = books.wallet(walletId);
  if (wallet.state === Wallet_State.CLOSED) throw walletClosed(walletId);
  return wallet;
}

function linked(books: Books, owner: Owner, bankAccountId: bigint): BankAccountRow {
  const row = books.find("bankAccount", bankAccountId);
  if (!row || row.accountId !== owner.accountId || row.state !== BankAccount_State.LINKED) {
    throw bankAccountNotFound(bankAccountId);
  }
  return row;
}

function drawable(books: Books, owner: Owner, bankAccountId: bigint): BankAccountRow {
  const row = linked(books, owner, bankAccountId);
  if (row.canDraw === 0) throw bankConsentMissing(bankAccountId);
  return row;
}

/** What an attempt is about; of a withdrawal all is held, of a draw what the wallet has of the debit. */
interface Attempt extends Pick<BankTransferRow, "kind" | "amount" | "bankAccountId"> {
  held?: bigint;
  day?: number;
  idempotencyKey?: Buffer;
  drawKey?: Buffer;
}

/** The attempt as it is before the bank is asked. Its id makes the id by which the bank will know it, for ever. */
function begin(books: Books, { institutionCode, silenceMs }: Rules, owner: Owner, attempt: Attempt): BankTransferRow {
  const { kind, amount, bankAccountId, held = 0n, day = 0, drawKey = null } = attempt;
  const { accountId, walletId, keyId = null } = owner;
  const id = books.newId();
  const because = { cause: Entry_Cause.BANK_TRANSFER, id };
  const hold = held > 0n ? books.hold({ wallet: walletId, amount: held, because, expireTime: NEVER }) : undefined;
  const tranId = tranIdOf(institutionCode, id);
  // If another call of the day had the same one, this would not be committed, and would run again with another id.
  books.insert("bankTranClaim", { day: seoulDayNumber(books.now), tranId, createTime: books.now });
  return books.insert("bankTransfer", {
    id,
    kind,
    accountId,
    walletId,
    bankAccountId,
    amount,
    currency: books.wallet(walletId).currency,
    state: BankTransfer_State.PENDING,
    holdId: hold?.id ?? null,
    day,
    tranId,
    tranDate: seoulDay(books.now),
    bankRef: "",
    failureBank: "",
    failureCode: "",
    failureMessage: "",
    apiKeyId: keyId,
    idempotencyKey: attempt.idempotencyKey ?? onceKeyOf("bank:draw", String(id)),
    drawKey,
    createTime: books.now,
    updateTime: books.now,
    // If this process dies, another one asks what became of it.
    dueTime: new Date(books.now.getTime() + silenceMs),
    inquiries: 0,
    leaseOwner: "",
    leaseUntil: null,
  });
}
