import { Code, ConnectError } from "@connectrpc/connect";
import { Reason, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import {
  ScheduledTransfer_State as State,
  ScheduledTransfer_StateSchema,
} from "../../gen/chatpay/transfer/v1/schedule_pb.ts";
import { Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import type { ScheduledTransferRow, TransferRow } from "../db/schema.ts";
import {
  reasonOf,
  requestInvalid,
  sameWallet,
  scheduledTransferEnded,
  scheduledTransferNotFound,
  walletClosed,
  walletNotFound,
} from "../errors.ts";
import type { Progress } from "../job/runner.ts";
import type { Books, EventFields } from "../ledger/books.ts";
import type { Command, Result } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";
import { moveTransfer, openSendLimits, type SendLimits, touchedBySending } from "../transfer/transfer.ts";
import { countScheduled, endCountedScheduled } from "../wallet/limits.ts";
import { findScheduled, findScheduledByKey } from "./queries.ts";

/** The account whose money is sent. */
export interface Sender {
  accountId: bigint;
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

export interface ScheduleOrder {
  idempotencyKey: string;
  recipientWalletId: bigint;
  amount: bigint;
  memo: string;
  transferTime: Date;
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const AHEAD_MIN_MS = MINUTE_MS;
const AHEAD_MAX_MS = 366 * DAY_MS;
/** What could not be made by then is not made any more: nobody reckons with it. */
const LATE_MAX_MS = DAY_MS;
const MESSAGE_CHARACTERS = 200;

/** Schedules transfers. */
export function openSchedules(app: App) {
  const { db, lane } = app;
  const pins = openPins(app);
  return {
    /** Throws PIN_REQUIRED, PIN_WRONG, PIN_LOCKED, and what `scheduleTransfer` refuses. */
    async schedule(
      sender: Sender,
      order: ScheduleOrder,
      pin: string,
      call: Call,
    ): Promise<Result<ScheduledTransferRow>> {
      await pins.check(sender.accountId, pin, {
        amount: order.amount,
        left: async () => ((await findScheduledByKey(db, keyOf(sender, order))) ? 0n : order.amount),
      });
      return lane.submit(scheduleTransfer(sender, order), call);
    },

    /** Throws SCHEDULED_TRANSFER_NOT_FOUND, SCHEDULED_TRANSFER_ENDED. */
    async cancel(sender: Sender, id: bigint, call: Call): Promise<ScheduledTransferRow> {
      const row = await findScheduled(db, sender.accountId, id);
      if (!row) throw scheduledTransferNotFound(id);
      const { value } = await lane.submit(cancelTransfer(row, sender.keyId), call);
      return value;
    },
  };
}

/** Makes a transfer whose time has come: sends it, or has it fail with what it is refused for. May be repeated. */
export function openDue(app: App) {
  const { lane, funding } = app;
  const findLimits = openSendLimits(app);

  async function send(row: ScheduledTransferRow, signal: AbortSignal) {
    const sender = senderOf(row);
    const limits = await findLimits(sender.walletId, [row.recipientWalletId]);
    const debit = { amount: row.amount, key: transferKeyOf(row), command: startTransfer(row, limits) };
    await funding.submit(sender, debit, { signal });
  }

  return async (row: ScheduledTransferRow, signal: AbortSignal): Promise<Progress> => {
    if (Date.now() - row.transferTime.getTime() > LATE_MAX_MS) {
      await lane.submit(failTransfer(row, TOO_LATE));
      return "done";
    }
    try {
      await send(row, signal);
      return "done";
    } catch (error) {
      if (signal.aborted || !(error instanceof ConnectError)) throw error;
      // The bank has not said yet, the database is away, or the lane is full.
      if (!REFUSALS.has(error.code)) return "later";
      await lane.submit(failTransfer(row, { reason: reasonOf(error) ?? 0, message: error.rawMessage }));
      return "done";
    }
  };
}

/** The codes of what is refused again when it is asked for again. */
const REFUSALS = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.FailedPrecondition,
  Code.OutOfRange,
]);

interface Failure {
  reason: Reason;
  message: string;
}

const TOO_LATE: Failure = {
  reason: Reason.DEADLINE_EXCEEDED,
  message: "it could not be sent within a day of its time, and is not sent any more",
};

const keyOf = (sender: Sender, { idempotencyKey }: Pick<ScheduleOrder, "idempotencyKey">) =>
  onceKeyOf(`schedule:${scopeOf(sender)}`, idempotencyKey);

/** The key of the transfer that is made: whoever is at it again makes no second one. */
const transferKeyOf = ({ id }: Pick<ScheduledTransferRow, "id">) => onceKeyOf("scheduled-transfer", String(id));

const senderOf = ({ accountId, senderWalletId: walletId, apiKeyId }: ScheduledTransferRow): Sender => ({
  accountId,
  walletId,
  ...(apiKeyId !== null && { keyId: apiKeyId }),
});

function scheduleTransfer(sender: Sender, order: ScheduleOrder): Command<ScheduledTransferRow> {
  const { accountId, walletId, keyId = null } = sender;
  const { recipientWalletId, amount, memo, transferTime } = order;
  const idempotencyKey = keyOf(sender, order);
  return {
    touches: { wallet: [walletId, recipientWalletId], allowance: [walletId] },
    once: {
      by: "scheduledTransfer",
      key: idempotencyKey,
      isRepeat: (first) =>
        first.recipientWalletId === recipientWalletId &&
        first.amount === amount &&
        first.memo === memo &&
        first.transferTime.getTime() === transferTime.getTime(),
    },
    decide(books) {
      if (recipientWalletId === walletId) throw sameWallet(walletId);
      const recipient = books.wallet(recipientWalletId);
      if (recipient.kind !== Wallet_Kind.MAIN) throw walletNotFound(recipientWalletId);
      const { currency } = recipient;
      for (const { id, state } of [books.wallet(walletId), recipient]) {
        if (state === Wallet_State.CLOSED) throw walletClosed(id);
      }
      const aheadMs = transferTime.getTime() - books.now.getTime();
      if (aheadMs < AHEAD_MIN_MS || aheadMs > AHEAD_MAX_MS) {
        throw requestInvalid("transfer_time: must be at least a minute from now, and at most a year");
      }
      countScheduled(books, walletId);
      const row = books.insert("scheduledTransfer", {
        id: books.newId(),
        accountId,
        senderWalletId: walletId,
        recipientWalletId,
        amount,
        currency,
        memo,
        state: State.SCHEDULED,
        transferTime,
        transferId: null,
        failureReason: 0,
        failureMessage: "",
        apiKeyId: keyId,
        idempotencyKey,
        createTime: books.now,
        updateTime: books.now,
        dueTime: transferTime,
        tries: 0,
        leaseOwner: "",
        leaseUntil: null,
      });
      tell(books, "transfer.scheduled", row, { transferTime: transferTime.toISOString(), ...actorOf(keyId) });
      return row;
    },
  };
}

/** The transfer at once, in the same commit that completes what was scheduled. */
function startTransfer(row: ScheduledTransferRow, limits: SendLimits | undefined): Command<TransferRow> {
  const { id, recipientWalletId, amount, memo } = row;
  const sender = senderOf(row);
  const sending = touchedBySending(sender, recipientWalletId, limits);
  const idempotencyKey = transferKeyOf(row);
  return {
    touches: {
      wallet: sending.wallet,
      allowance: [row.senderWalletId, ...sending.allowance],
      scheduledTransfer: [id],
    },
    once: { by: "transfer", key: idempotencyKey },
    decide(books) {
      const scheduled = lockedOf(books, row);
      if (scheduled.state !== State.SCHEDULED) throw scheduledTransferEnded(id, stateOf(scheduled));
      const transfer = moveTransfer(books, sender, { recipientWalletId, amount, memo, idempotencyKey }, limits);
      end(books, scheduled, { state: State.COMPLETED, transferId: transfer.id });
      tell(books, "transfer.schedule_completed", scheduled, { transferId: transfer.id });
      return transfer;
    },
  };
}

/** What has ended stays as it is, and nothing is told. */
const failTransfer = (row: ScheduledTransferRow, { reason, message }: Failure): Command<ScheduledTransferRow> => ({
  touches: { allowance: [row.senderWalletId], scheduledTransfer: [row.id] },
  decide(books) {
    const scheduled = lockedOf(books, row);
    if (scheduled.state !== State.SCHEDULED) return scheduled;
    const failureMessage = message.slice(0, MESSAGE_CHARACTERS).toWellFormed();
    end(books, scheduled, { state: State.FAILED, failureReason: reason, failureMessage });
    const name = ReasonSchema.value[reason]?.localName ?? "";
    tell(books, "transfer.schedule_failed", scheduled, { reason: name, message: failureMessage });
    return scheduled;
  },
});

/**
 * One that was canceled already stays as it is, and nothing is told. What a worker has taken has started, as long as it has
 * it. Throws SCHEDULED_TRANSFER_ENDED.
 */
const cancelTransfer = (row: ScheduledTransferRow, keyId?: bigint): Command<ScheduledTransferRow> => ({
  touches: { allowance: [row.senderWalletId], scheduledTransfer: [row.id] },
  decide(books) {
    const scheduled = lockedOf(books, row);
    if (scheduled.state === State.CANCELED) return scheduled;
    if (scheduled.state !== State.SCHEDULED) throw scheduledTransferEnded(row.id, stateOf(scheduled));
    if (scheduled.leaseUntil && scheduled.leaseUntil > books.now) throw scheduledTransferEnded(row.id, "STARTED");
    return cancel(books, scheduled, keyId);
  },
});

/** Its sender has closed their account, so that it cannot be made any more. What has ended stays as it is. */
export const abandonTransfer = (row: ScheduledTransferRow): Command<ScheduledTransferRow> => ({
  touches: { allowance: [row.senderWalletId], scheduledTransfer: [row.id] },
  decide(books) {
    const scheduled = lockedOf(books, row);
    return scheduled.state === State.SCHEDULED ? cancel(books, scheduled, undefined) : scheduled;
  },
});

function cancel(books: Books, scheduled: ScheduledTransferRow, keyId: bigint | undefined): ScheduledTransferRow {
  end(books, scheduled, { state: State.CANCELED });
  tell(books, "transfer.schedule_canceled", scheduled, actorOf(keyId));
  return scheduled;
}

function end(books: Books, { id, senderWalletId }: ScheduledTransferRow, change: Partial<ScheduledTransferRow>) {
  books.update("scheduledTransfer", id, { ...change, dueTime: null, updateTime: books.now });
  endCountedScheduled(books, senderWalletId);
}

function lockedOf(books: Books, { id }: ScheduledTransferRow): ScheduledTransferRow {
  const row = books.find("scheduledTransfer", id);
  if (!row) throw new Error(`scheduled transfer ${id} is not there`);
  return row;
}

const stateOf = ({ state }: ScheduledTransferRow): string =>
  ScheduledTransfer_StateSchema.value[state as State]?.localName ?? "";

/** Only the sender is told: nobody else knows of it before the money has moved. */
const tell = (books: Books, kind: string, row: ScheduledTransferRow, fields: EventFields) =>
  books.tell(kind, [row.accountId], {
    scheduledTransferId: row.id,
    senderWalletId: row.senderWalletId,
    recipientWalletId: row.recipientWalletId,
    amount: row.amount,
    currency: row.currency,
    memo: row.memo,
    ...fields,
  });

const actorOf = (keyId: bigint | null | undefined): EventFields =>
  keyId === undefined || keyId === null ? {} : { apiKeyId: keyId };
