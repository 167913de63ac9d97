import { hash } from "node:crypto";
import {
  MoneyRequest_Part_State,
  MoneyRequest_Part_StateSchema,
  MoneyRequest_State,
  MoneyRequest_StateSchema,
} from "../../gen/chatpay/transfer/v1/request_pb.ts";
import { Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import type { MoneyRequestPartRow, MoneyRequestRow, TransferRow } from "../db/schema.ts";
import {
  moneyRequestEnded,
  moneyRequestNotFound,
  requestInvalid,
  sameWallet,
  tooManyAttempts,
  walletClosed,
  walletNotFound,
} from "../errors.ts";
import type { Books, EventFields } from "../ledger/books.ts";
import type { Command, Result } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";
import { moveTransfer, openSendLimits, type SendLimits, touchedBySending } from "../transfer/transfer.ts";
import { countRequest, endCountedRequest } from "../wallet/limits.ts";
import { findPart, findRequest, findSeen, listParts, listWallets, type Seen } from "./queries.ts";

/** The account that asks, or pays. */
export interface Party {
  accountId: bigint;
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

/** What one person is asked for. */
export interface Share {
  payerWalletId: bigint;
  amount: bigint;
}

export interface RequestOrder {
  idempotencyKey: string;
  shares: Share[];
  /** Of a bill, what the requester takes; 0 for nothing. */
  ownAmount: bigint;
  memo: string;
  expireTime: Date | undefined;
}

/** A bill that is split among people. */
export interface Bill extends Omit<RequestOrder, "shares" | "ownAmount"> {
  total: bigint;
  payerWalletIds: bigint[];
  /** Whether the requester takes a part. */
  takePart: boolean;
}

/** Whom a part is for, and what there is of it. */
interface AskedShare extends Share {
  payerAccountId: bigint;
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const EXPIRE_MIN_MS = MINUTE_MS;
const EXPIRE_MAX_MS = 366 * DAY_MS;
const EXPIRE_STANDARD_MS = 30 * DAY_MS;
const REMIND_MS = 60 * MINUTE_MS;
const CONTENT_BYTES = 16;

/** Asks people for money, and has them pay. */
export function openRequests(app: App) {
  const { db, lane, funding } = app;
  const pins = openPins(app);
  const findLimits = openSendLimits(app);

  /** Whose the wallets are. Throws WALLET_NOT_FOUND, WALLET_CLOSED. */
  async function findPayers(shares: Share[]): Promise<AskedShare[]> {
    const wallets = await listWallets(
      db,
      shares.map(({ payerWalletId }) => payerWalletId),
    );
    const byId = new Map(wallets.map((wallet) => [wallet.id, wallet]));
    return shares.map((share) => {
      const wallet = byId.get(share.payerWalletId);
      if (wallet?.kind !== Wallet_Kind.MAIN || wallet.accountId === null) throw walletNotFound(share.payerWalletId);
      if (wallet.state === Wallet_State.CLOSED) throw walletClosed(wallet.id);
      return { ...share, payerAccountId: wallet.accountId };
    });
  }

  /** What the account sees of the request. Throws MONEY_REQUEST_NOT_FOUND. */
  async function getSeen(accountId: bigint, requestId: bigint): Promise<Seen> {
    const seen = await findSeen(db, accountId, requestId);
    if (!seen) throw moneyRequestNotFound(requestId);
    return seen;
  }

  /** The payer's part, and the request. Throws MONEY_REQUEST_NOT_FOUND. */
  async function getPart(payer: Party, requestId: bigint): Promise<Asked> {
    const [request, part] = await Promise.all([findRequest(db, requestId), findPart(db, requestId, payer.accountId)]);
    if (!request || !part) throw moneyRequestNotFound(requestId);
    return { request, part };
  }

  /** All of the requester's own. Throws MONEY_REQUEST_NOT_FOUND. */
  async function getOwn(requester: Party, requestId: bigint): Promise<Seen> {
    const request = await findRequest(db, requestId);
    if (request?.requesterAccountId !== requester.accountId) throw moneyRequestNotFound(requestId);
    return { request, parts: await listParts(db, requestId) };
  }

  /** Throws REQUEST_INVALID, SAME_WALLET, WALLET_NOT_FOUND, WALLET_CLOSED, TOO_MANY, IDEMPOTENCY_KEY_REUSED. */
  async function ask(requester: Party, order: RequestOrder, call: Call): Promise<Result<Seen>> {
    const ids = order.shares.map(({ payerWalletId }) => payerWalletId);
    if (new Set(ids).size < ids.length) throw requestInvalid("somebody is asked twice");
    if (ids.includes(requester.walletId)) throw sameWallet(requester.walletId);
    const { value, replayed } = await lane.submit(
      createRequest(requester, order, await findPayers(order.shares)),
      call,
    );
    return { value: await getSeen(requester.accountId, value.id), replayed };
  }

  return {
    ask,

    /** Asks for equal parts. Throws what `ask` does, and REQUEST_INVALID when there is not a part for everybody. */
    split(requester: Party, bill: Bill, call: Call): Promise<Result<Seen>> {
      const { total, payerWalletIds, takePart, ...order } = bill;
      const count = payerWalletIds.length + Number(takePart);
      if (total < BigInt(count)) throw requestInvalid(`total: must be at least ${count}, so that everybody has a part`);
      const amounts = equalParts(total, count);
      const ownAmount = takePart ? (amounts.shift() ?? 0n) : 0n;
      const shares = payerWalletIds.map((payerWalletId, i) => ({ payerWalletId, amount: amounts[i] ?? 0n }));
      return ask(requester, { ...order, shares, ownAmount }, call);
    },

    /**
     * Throws MONEY_REQUEST_NOT_FOUND, MONEY_REQUEST_ENDED, PIN_REQUIRED, PIN_WRONG, PIN_LOCKED, what a transfer at once
     * refuses, and what drawing the rest does.
     */
    async pay(payer: Party, requestId: bigint, pin: string, call: Call): Promise<Result<Seen>> {
      const asked = await getPart(payer, requestId);
      const { amount, state } = asked.part;
      const { requesterWalletId } = asked.request;
      await pins.check(payer.accountId, pin, {
        amount,
        left: async () => (state === MoneyRequest_Part_State.OPEN ? amount : 0n),
      });
      const limits = await findLimits(payer.walletId, [requesterWalletId]);
      const command = payPart(payer, asked, limits);
      const { replayed } = await funding.submit(payer, { amount, key: keyOfPart(asked.part), command }, call);
      return { value: await getSeen(payer.accountId, requestId), replayed };
    },

    /** Throws MONEY_REQUEST_NOT_FOUND, MONEY_REQUEST_ENDED. */
    async decline(payer: Party, requestId: bigint, call: Call): Promise<Seen> {
      const { value } = await lane.submit(declinePart(await getPart(payer, requestId), payer.keyId), call);
      if (value.state !== MoneyRequest_Part_State.DECLINED) throw moneyRequestEnded(requestId, partStateOf(value));
      return getSeen(payer.accountId, requestId);
    },

    /** Throws MONEY_REQUEST_NOT_FOUND, MONEY_REQUEST_ENDED. */
    async cancel(requester: Party, requestId: bigint, call: Call): Promise<Seen> {
      const { request, parts } = await getOwn(requester, requestId);
      const { value } = await lane.submit(endRequest(request, parts, "canceled", requester.keyId), call);
      if (value.state !== MoneyRequest_State.CANCELED) throw moneyRequestEnded(requestId, stateOf(value));
      return getOwn(requester, requestId);
    },

    /** Throws MONEY_REQUEST_NOT_FOUND, MONEY_REQUEST_ENDED, TOO_MANY_ATTEMPTS. */
    async remind(requester: Party, requestId: bigint, call: Call): Promise<Seen> {
      const { request, parts } = await getOwn(requester, requestId);
      await lane.submit(remindPayers(request, parts, requester.keyId), call);
      return getOwn(requester, requestId);
    },
  };
}

/**
 * Equal whole parts of a total. Of equal parts all remainders are the same, so that of the largest is the first: what is
 * left after dividing goes, one each, to the first of them.
 */
export function equalParts(total: bigint, count: number): bigint[] {
  const each = total / BigInt(count);
  const left = Number(total % BigInt(count));
  return Array.from({ length: count }, (_, i) => (i < left ? each + 1n : each));
}

/** A part, and the request that it is of. */
interface Asked {
  request: MoneyRequestRow;
  part: MoneyRequestPartRow;
}

/** A part is paid once, so it needs no key of the caller's. */
const keyOfPart = ({ id }: Pick<MoneyRequestPartRow, "id">) => onceKeyOf("request-part", String(id));

/** Of all that makes a request, so that a repeat is told from another one. */
const contentHashOf = ({ shares, ownAmount, memo, expireTime }: RequestOrder): Buffer => {
  const lines = shares.map(({ payerWalletId, amount }) => `${payerWalletId} ${amount}`);
  const content = [ownAmount, expireTime?.getTime() ?? "", ...lines, memo].join("\n");
  return hash("sha256", content, "buffer").subarray(0, CONTENT_BYTES);
};

function createRequest(requester: Party, order: RequestOrder, shares: AskedShare[]): Command<MoneyRequestRow> {
  const { accountId, walletId, keyId = null } = requester;
  const { memo, ownAmount, expireTime } = order;
  const idempotencyKey = onceKeyOf(`request:${scopeOf(requester)}`, order.idempotencyKey);
  const contentHash = contentHashOf(order);
  const amount = shares.reduce((sum, share) => sum + share.amount, 0n);
  return {
    touches: { wallet: [walletId], allowance: [walletId] },
    once: { by: "moneyRequest", key: idempotencyKey, isRepeat: (first) => first.contentHash.equals(contentHash) },
    decide(books) {
      const { state, currency } = books.wallet(walletId);
      if (state === Wallet_State.CLOSED) throw walletClosed(walletId);
      const expires = expiryOf(expireTime, books.now);
      countRequest(books, walletId);
      const requestId = books.newId();
      const parts = shares.map(({ payerAccountId, payerWalletId, amount: asked }) =>
        books.insert("moneyRequestPart", {
          id: books.newId(),
          requestId,
          payerAccountId,
          payerWalletId,
          amount: asked,
          state: MoneyRequest_Part_State.OPEN,
          transferId: null,
          remindTime: null,
          updateTime: books.now,
        }),
      );
      books.tell("request.created", [accountId, ...parts.map(({ payerAccountId }) => payerAccountId)], {
        requestId,
        requesterWalletId: walletId,
        payerWalletIds: parts.map(({ payerWalletId }) => payerWalletId),
        amounts: parts.map(({ amount: asked }) => asked),
        amount,
        ownAmount,
        currency,
        memo,
        expireTime: expires.toISOString(),
        ...actorOf(keyId),
      });
      return books.insert("moneyRequest", {
        id: requestId,
        requesterAccountId: accountId,
        requesterWalletId: walletId,
        amount,
        ownAmount,
        currency,
        memo,
        state: MoneyRequest_State.OPEN,
        parts: parts.length,
        openParts: parts.length,
        paidParts: 0,
        paidAmount: 0n,
        contentHash,
        apiKeyId: keyId,
        idempotencyKey,
        createTime: books.now,
        updateTime: books.now,
        expireTime: expires,
        dueTime: expires,
        tries: 0,
        leaseOwner: "",
        leaseUntil: null,
      });
    },
  };
}

/** Throws REQUEST_INVALID. */
function expiryOf(wanted: Date | undefined, now: Date): Date {
  if (!wanted) return new Date(now.getTime() + EXPIRE_STANDARD_MS);
  const afterMs = wanted.getTime() - now.getTime();
  if (afterMs < EXPIRE_MIN_MS || afterMs > EXPIRE_MAX_MS) {
    throw requestInvalid("expire_time: must be at least a minute from now, and at most a year");
  }
  return wanted;
}

const touchedParts = (request: MoneyRequestRow, parts: MoneyRequestPartRow[]) => ({
  allowance: [request.requesterWalletId],
  moneyRequest: [request.id],
  moneyRequestPart: parts.map(({ id }) => id),
});

/** A transfer at once that pays the part, in the same commit. */
function payPart(payer: Party, { request, part }: Asked, limits: SendLimits | undefined): Command<TransferRow> {
  const { requesterWalletId, memo } = request;
  const sending = touchedBySending(payer, requesterWalletId, limits);
  const touched = touchedParts(request, [part]);
  const idempotencyKey = keyOfPart(part);
  return {
    touches: { ...touched, wallet: sending.wallet, allowance: [...touched.allowance, ...sending.allowance] },
    once: { by: "transfer", key: idempotencyKey },
    decide(books) {
      const open = lockedOf(books, { request, part });
      if (open.part.state !== MoneyRequest_Part_State.OPEN) throw moneyRequestEnded(request.id, partStateOf(open.part));
      if (!isOpen(open.request, books.now)) throw moneyRequestEnded(request.id, stateOf(open.request));
      const sent = { recipientWalletId: requesterWalletId, amount: part.amount, memo, idempotencyKey };
      const transfer = moveTransfer(books, payer, sent, limits);
      endPart(books, open, { state: MoneyRequest_Part_State.PAID, transferId: transfer.id }, payer.keyId);
      return transfer;
    },
  };
}

/** The payer does not pay. A part that has ended stays as it is, and nothing is told. */
export const declinePart = ({ request, part }: Asked, keyId?: bigint): Command<MoneyRequestPartRow> => ({
  touches: touchedParts(request, [part]),
  decide(books) {
    const open = lockedOf(books, { request, part });
    if (open.part.state !== MoneyRequest_Part_State.OPEN) return open.part;
    return endPart(books, open, { state: MoneyRequest_Part_State.DECLINED }, keyId);
  },
});

/** How a request ends that was not paid. */
type End = "canceled" | "expired";
const ENDS = {
  canceled: [MoneyRequest_State.CANCELED, MoneyRequest_Part_State.CANCELED],
  expired: [MoneyRequest_State.EXPIRED, MoneyRequest_Part_State.EXPIRED],
} as const;

/** What is open of a request ends. One that has ended stays as it is, and nothing is told. */
export const endRequest = (
  row: MoneyRequestRow,
  parts: MoneyRequestPartRow[],
  end: End,
  keyId?: bigint,
): Command<MoneyRequestRow> => ({
  touches: touchedParts(row, parts),
  decide(books) {
    const request = lockedRequest(books, row.id);
    if (request.state !== MoneyRequest_State.OPEN) return request;
    const [state, partState] = ENDS[end];
    const open = parts
      .map(({ id }) => lockedPart(books, id))
      .filter((part) => part.state === MoneyRequest_Part_State.OPEN);
    for (const { id } of open) books.update("moneyRequestPart", id, { state: partState, updateTime: books.now });
    books.update("moneyRequest", row.id, { state, openParts: 0, dueTime: null, updateTime: books.now });
    endCountedRequest(books, request.requesterWalletId);
    books.tell(`request.${end}`, [request.requesterAccountId, ...open.map(({ payerAccountId }) => payerAccountId)], {
      ...toldOf(request),
      payerWalletIds: open.map(({ payerWalletId }) => payerWalletId),
      ...actorOf(keyId),
    });
    return request;
  },
});

const remindPayers = (
  row: MoneyRequestRow,
  parts: MoneyRequestPartRow[],
  keyId: bigint | undefined,
): Command<MoneyRequestRow> => ({
  touches: touchedParts(row, parts),
  decide(books) {
    const request = lockedRequest(books, row.id);
    if (!isOpen(request, books.now)) throw moneyRequestEnded(request.id, stateOf(request));
    const open = parts
      .map(({ id }) => lockedPart(books, id))
      .filter((part) => part.state === MoneyRequest_Part_State.OPEN);
    const waits = open.map(({ remindTime }) =>
      remindTime ? remindTime.getTime() + REMIND_MS - books.now.getTime() : 0,
    );
    const reminded = open.filter((_, i) => (waits[i] ?? 0) <= 0);
    if (reminded.length === 0) throw tooManyAttempts(Math.min(...waits));
    for (const { id } of reminded) books.update("moneyRequestPart", id, { remindTime: books.now });
    books.tell("request.reminded", [request.requesterAccountId, ...reminded.map((part) => part.payerAccountId)], {
      ...toldOf(request),
      payerWalletIds: reminded.map(({ payerWalletId }) => payerWalletId),
      ...actorOf(keyId),
    });
    return request;
  },
});

function lockedRequest(books: Books, id: bigint): MoneyRequestRow {
  const row = books.find("moneyRequest", id);
  if (!row) throw new Error(`money request ${id} is not there`);
  return row;
}

function lockedPart(books: Books, id: bigint): MoneyRequestPartRow {
  const row = books.find("moneyRequestPart", id);
  if (!row) throw new Error(`part ${id} of a money request is not there`);
  return row;
}

const lockedOf = (books: Books, { request, part }: Asked): Asked => ({
  request: lockedRequest(books, request.id),
  part: lockedPart(books, part.id),
});

const isOpen = ({ state, expireTime }: MoneyRequestRow, now: Date) =>
  state === MoneyRequest_State.OPEN && expireTime > now;

/** How it ended. What is open still, and whose time is over, has only not been ended yet. */
function stateOf({ state }: MoneyRequestRow): string {
  const ended = state === MoneyRequest_State.OPEN ? MoneyRequest_State.EXPIRED : (state as MoneyRequest_State);
  return MoneyRequest_StateSchema.value[ended]?.localName ?? "";
}

const partStateOf = ({ state }: MoneyRequestPartRow): string =>
  MoneyRequest_Part_StateSchema.value[state as MoneyRequest_Part_State]?.localName ?? "";

/** An open part is paid or declined; with the last one the request ends. */
function endPart(
  books: Books,
  { request, part }: Asked,
  end: Pick<MoneyRequestPartRow, "state"> & Partial<Pick<MoneyRequestPartRow, "transferId">>,
  keyId: bigint | undefined,
): MoneyRequestPartRow {
  const isPaid = end.state === MoneyRequest_Part_State.PAID;
  const openParts = request.openParts - 1;
  const paidParts = request.paidParts + Number(isPaid);
  const isCompleted = paidParts === request.parts;
  const state = isCompleted ? MoneyRequest_State.COMPLETED : MoneyRequest_State.DECLINED;
  const ended = books.update("moneyRequestPart", part.id, { ...end, updateTime: books.now });
  books.update("moneyRequest", request.id, {
    openParts,
    paidParts,
    paidAmount: request.paidAmount + (isPaid ? part.amount : 0n),
    updateTime: books.now,
    ...(openParts === 0 && { state, dueTime: null }),
  });
  if (openParts === 0) endCountedRequest(books, request.requesterWalletId);

  books.tell(isPaid ? "request.part_paid" : "request.declined", [request.requesterAccountId, part.payerAccountId], {
    ...toldOf(request),
    payerWalletId: part.payerWalletId,
    partAmount: part.amount,
    ...(ended.transferId !== null && { transferId: ended.transferId }),
    ...actorOf(keyId),
  });
  if (isCompleted) books.tell("request.completed", [request.requesterAccountId], toldOf(request));
  return ended;
}

const toldOf = ({ id, requesterWalletId, amount, paidAmount, openParts, currency, memo }: MoneyRequestRow) => ({
  requestId: id,
  requesterWalletId,
  amount,
  paidAmount,
  openParts,
  currency,
  memo,
});

const actorOf = (keyId: bigint | null | undefined): EventFields =>
  keyId === undefined || keyId === null ? {} : { apiKeyId: keyId };
