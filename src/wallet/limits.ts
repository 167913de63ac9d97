import type { Limits } from "../config.ts";
import type { AllowanceRow, GiftRow } from "../db/schema.ts";
import { balanceLimitExceeded, drawLimitExceeded, sendLimitExceeded, tooMany } from "../errors.ts";
import type { Books } from "../ledger/books.ts";
import { daysAfter, fromSeoul, seoulDayNumber } from "../seoul.ts";

/**
 * What a main wallet may do, and what it has done of it today, by the calendar of Seoul. `decide` calls these functions,
 * so an amount is counted in the commit that moves it, or not at all. A command that calls them has the wallet's id
 * among the wallets and among the allowances that it touches: the lock of the wallet keeps two commands from making
 * its first row.
 */

/** The limits by their names, as they are configured. The first are everybody's. */
export type Tiers = ReadonlyMap<string, Limits>;

/** Whether sending is limited at all. Where it is not, transfers do not look at allowances. */
export const limitsSending = (tiers: Tiers): boolean =>
  [...tiers.values()].some(({ sendOnce, sendDay, sendStrangersDay, balance }) =>
    [sendOnce, sendDay, sendStrangersDay, balance].some((limit) => limit !== undefined),
  );

/** Whether it matters to whom somebody sends. */
export const limitsStrangers = (tiers: Tiers): boolean =>
  [...tiers.values()].some(({ sendStrangersDay }) => sendStrangersDay !== undefined);

/** The name of the limits that hold for a wallet: its own, or everybody's when those are not configured any more. */
function tierOf(tiers: Tiers, row: Pick<AllowanceRow, "tier"> | undefined): string {
  const [everybodys = ""] = tiers.keys();
  return row && tiers.has(row.tier) ? row.tier : everybodys;
}

/** The limits that hold for a wallet; `row` is its allowance, if it has one. */
function limitsOf(tiers: Tiers, row: Pick<AllowanceRow, "tier"> | undefined): Limits {
  const limits = tiers.get(tierOf(tiers, row));
  if (!limits) throw new Error("no limits are configured");
  return limits;
}

export interface DayLimit {
  limit: bigint;
  /** Of it, today. */
  left: bigint;
}

/** What a wallet may do; a limit that is undefined does not exist. */
export interface Allowed {
  tier: string;
  drawDay: DayLimit;
  sendOnce: bigint | undefined;
  sendDay: DayLimit | undefined;
  sendStrangersDay: DayLimit | undefined;
  balance: bigint | undefined;
  /** When the day ends. */
  renewTime: Date;
}

export function allowedAt(tiers: Tiers, row: AllowanceRow | undefined, now: Date): Allowed {
  const { drawDay, sendOnce, sendDay, sendStrangersDay, balance } = limitsOf(tiers, row);
  const { day, drawn, sent, sentToStrangers } = countsOf(row, now);
  const dayLimit = (limit: bigint, counted: bigint) => ({ limit, left: leftOf(limit, counted) });
  return {
    tier: tierOf(tiers, row),
    drawDay: dayLimit(drawDay, drawn),
    sendOnce,
    sendDay: sendDay === undefined ? undefined : dayLimit(sendDay, sent),
    sendStrangersDay: sendStrangersDay === undefined ? undefined : dayLimit(sendStrangersDay, sentToStrangers),
    balance,
    renewTime: fromSeoul(`${daysAfter(String(day), 1)}000000`) ?? now,
  };
}

type Counts = Pick<AllowanceRow, "day" | "drawn" | "sent" | "sentToStrangers">;

/** What was counted today; yesterday's is over. The day never goes back, or two clocks could count one day twice. */
function countsOf(row: Counts | undefined, now: Date): Counts {
  const today = seoulDayNumber(now);
  if (row && row.day >= today) return row;
  return { day: today, drawn: 0n, sent: 0n, sentToStrangers: 0n };
}

/** What a limit leaves: less than nothing was not allowed when the limit was higher. */
const leftOf = (limit: bigint, counted: bigint): bigint => (counted < limit ? limit - counted : 0n);

/**
 * Counts money that is drawn from a bank, before the bank is asked, and answers with the day that it counts against.
 * Throws DRAW_LIMIT_EXCEEDED when it is more than is left of the day.
 */
export function countDraw(books: Books, tiers: Tiers, walletId: bigint, amount: bigint): number {
  const { row, counts } = openAllowance(books, walletId);
  const { drawDay } = limitsOf(tiers, row);
  const left = leftOf(drawDay, counts.drawn);
  if (amount > left) throw drawLimitExceeded(drawDay, left);
  const drawn = counts.drawn + amount;
  change(books, walletId, { ...counts, drawn, bankTransfers: row.bankTransfers + 1 });
  return counts.day;
}

/** What may still be drawn from banks today. */
export function drawLeft(books: Books, tiers: Tiers, walletId: bigint): bigint {
  const row = books.find("allowance", walletId);
  return leftOf(limitsOf(tiers, row).drawDay, countsOf(row, books.now).drawn);
}

/** Gives a draw back that the bank declined, if its day is not over. */
export function giveBackDraw(books: Books, walletId: bigint, day: number, amount: bigint) {
  const row = allowanceOf(books, walletId);
  if (row.day !== day) return;
  if (row.drawn < amount) throw new Error(`wallet ${walletId} has drawn less than ${amount}`);
  change(books, walletId, { drawn: row.drawn - amount });
}

/** Keeps room for money that was asked of a bank. */
export function expectIncoming(books: Books, walletId: bigint, amount: bigint) {
  const { row } = openAllowance(books, walletId);
  change(books, walletId, { incoming: row.incoming + amount });
}

/** The money has come, or will not. */
export function endIncoming(books: Books, walletId: bigint, amount: bigint) {
  const { incoming } = allowanceOf(books, walletId);
  if (incoming < amount) throw new Error(`wallet ${walletId} expects less than ${amount}`);
  change(books, walletId, { incoming: incoming - amount });
}

/** Counts a transfer to a bank as under way. */
export function countWithdrawal(books: Books, walletId: bigint) {
  const { row } = openAllowance(books, walletId);
  change(books, walletId, { bankTransfers: row.bankTransfers + 1 });
}

/** A transfer from or to a bank has ended, however it did. */
export function endBankTransfer(books: Books, walletId: bigint) {
  const { bankTransfers } = allowanceOf(books, walletId);
  if (bankTransfers === 0) throw new Error(`wallet ${walletId} has no bank transfer under way`);
  change(books, walletId, { bankTransfers: bankTransfers - 1 });
}

/** Requests for money of a person that are open at a time. */
const REQUESTS_MAX = 100;

/** Counts a request for money as open. Throws TOO_MANY. */
export function countRequest(books: Books, walletId: bigint) {
  const { row } = openAllowance(books, walletId);
  if (row.requests >= REQUESTS_MAX) throw tooMany("open requests for money", REQUESTS_MAX);
  change(books, walletId, { requests: row.requests + 1 });
}

/** A request for money is not open any more, however it ended. */
export function endCountedRequest(books: Books, walletId: bigint) {
  const { requests } = allowanceOf(books, walletId);
  if (requests === 0) throw new Error(`wallet ${walletId} has no open request for money`);
  change(books, walletId, { requests: requests - 1 });
}

/** Transfers of a person that are scheduled at a time. */
const SCHEDULED_MAX = 100;

/** Counts a transfer as scheduled. Throws TOO_MANY. */
export function countScheduled(books: Books, walletId: bigint) {
  const { row } = openAllowance(books, walletId);
  if (row.scheduled >= SCHEDULED_MAX) throw tooMany("scheduled transfers", SCHEDULED_MAX);
  change(books, walletId, { scheduled: row.scheduled + 1 });
}

/** A transfer is not scheduled any more, however it ended. */
export function endCountedScheduled(books: Books, walletId: bigint) {
  const { scheduled } = allowanceOf(books, walletId);
  if (scheduled === 0) throw new Error(`wallet ${walletId} has no scheduled transfer`);
  change(books, walletId, { scheduled: scheduled - 1 });
}

export interface Sent {
  senderWalletId: bigint;
  amount: bigint;
  /** The sender never sent anything to this wallet. */
  toStranger: boolean;
}

/**
 * Counts money that is sent, and answers with the day that it counts against. Throws SEND_LIMIT_EXCEEDED when it is more
 * than may be at once, or than is left of the day.
 */
export function countSend(books: Books, tiers: Tiers, { senderWalletId, amount, toStranger }: Sent): number {
  const { row, counts } = openAllowance(books, senderWalletId);
  const { sendOnce, sendDay, sendStrangersDay } = limitsOf(tiers, row);
  if (sendOnce !== undefined && amount > sendOnce) throw sendLimitExceeded("transfer", sendOnce, sendOnce);
  const { sent, sentToStrangers } = counts;
  if (sendDay !== undefined && amount > leftOf(sendDay, sent)) {
    throw sendLimitExceeded("day", sendDay, leftOf(sendDay, sent));
  }
  if (toStranger && sendStrangersDay !== undefined && amount > leftOf(sendStrangersDay, sentToStrangers)) {
    throw sendLimitExceeded("strangers", sendStrangersDay, leftOf(sendStrangersDay, sentToStrangers));
  }
  change(books, senderWalletId, {
    ...counts,
    sent: sent + amount,
    sentToStrangers: toStranger ? sentToStrangers + amount : sentToStrangers,
  });
  return counts.day;
}

/** Gives a day back what was sent and did not arrive, if it is not over. */
export function giveBackSend(books: Books, { senderWalletId, amount, toStranger }: Sent, day: number) {
  const row = allowanceOf(books, senderWalletId);
  if (row.day !== day) return;
  if (row.sent < amount || (toStranger && row.sentToStrangers < amount)) {
    throw new Error(`wallet ${senderWalletId} has sent less than ${amount}`);
  }
  change(books, senderWalletId, {
    sent: row.sent - amount,
    sentToStrangers: toStranger ? row.sentToStrangers - amount : row.sentToStrangers,
  });
}

/** Of one wallet at a time: closing its account locks all of them. */
const GIFTS_WAITING_MAX = 500;

/** Whose gift it is, and for whom. */
type Ends = Pick<GiftRow, "senderWalletId" | "recipientWalletId">;

/** Throws TOO_MANY when as many gifts of the wallet wait as may. */
export function checkGifts(books: Books, walletId: bigint) {
  const { giftsSent = 0 } = books.find("allowance", walletId) ?? {};
  if (giftsSent >= GIFTS_WAITING_MAX) throw tooMany("gifts that wait", GIFTS_WAITING_MAX);
}

/** Counts a gift as waiting. */
export function countGift(books: Books, { senderWalletId, recipientWalletId }: Ends) {
  const { giftsSent } = openAllowance(books, senderWalletId).row;
  change(books, senderWalletId, { giftsSent: giftsSent + 1 });
  const { giftsReceived } = openAllowance(books, recipientWalletId).row;
  change(books, recipientWalletId, { giftsReceived: giftsReceived + 1 });
}

/** The gift waits for its recipient no more. */
export function endGiftReceived(books: Books, { recipientWalletId }: Ends) {
  const { giftsReceived } = allowanceOf(books, recipientWalletId);
  if (giftsReceived === 0) throw new Error(`no gift waits for wallet ${recipientWalletId}`);
  change(books, recipientWalletId, { giftsReceived: giftsReceived - 1 });
}

/** The gift is its sender's no more, because it has ended or because the house has taken it over. */
export function endGiftSent(books: Books, { senderWalletId }: Ends) {
  const { giftsSent } = allowanceOf(books, senderWalletId);
  if (giftsSent === 0) throw new Error(`no gift of wallet ${senderWalletId} waits`);
  change(books, senderWalletId, { giftsSent: giftsSent - 1 });
}

/**
 * Throws BALANCE_LIMIT_EXCEEDED when the main wallet would hold more than it may with what comes and all that it was
 * topped up with and has not arrived yet: a bank is asked only for money that there is room for.
 */
export function checkBalance(books: Books, tiers: Tiers, walletId: bigint, coming = 0n) {
  const row = books.find("allowance", walletId);
  const { balance: limit } = limitsOf(tiers, row);
  const holds = books.wallet(walletId).balance + (row?.incoming ?? 0n) + coming;
  if (limit !== undefined && holds > limit) throw balanceLimitExceeded(walletId);
}

/** The wallet's row, made when there is none, and what of it counts today. */
export function openAllowance(books: Books, walletId: bigint): { row: AllowanceRow; counts: Counts } {
  const row =
    books.find("allowance", walletId) ??
    books.insert("allowance", {
      id: walletId,
      tier: "",
      ...countsOf(undefined, books.now),
      bankTransfers: 0,
      updateTime: books.now,
      requests: 0,
      scheduled: 0,
      giftsSent: 0,
      giftsReceived: 0,
      incoming: 0n,
    });
  const { day, drawn, sent, sentToStrangers } = countsOf(row, books.now);
  return { row, counts: { day, drawn, sent, sentToStrangers } };
}

/** The row of a wallet that has done something. */
function allowanceOf(books: Books, walletId: bigint): AllowanceRow {
  const row = books.find("allowance", walletId);
  if (!row) throw new Error(`wallet ${walletId} has no allowance`);
  return row;
}

const change = (books: Books, walletId: bigint, changed: Partial<AllowanceRow>) =>
  books.update("allowance", walletId, { ...changed, updateTime: books.now });
