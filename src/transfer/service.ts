import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import { ErrorInfoSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import {
  type BatchSendTransfersResponse_Result,
  BatchSendTransfersResponse_ResultSchema,
  Direction,
  type SendGiftRequest,
  type SendTransferRequest,
  type Transfer,
  type TransferChange,
  TransferChange_Kind,
  TransferChangeSchema,
  Transfer_Kind,
  Transfer_State,
  TransferSchema,
  type TransferService,
} from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { App } from "../app.ts";
import type { GiftRow, TransferRow } from "../db/schema.ts";
import { idempotencyKeyMissing, internal, transferNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import type { Settled } from "../ledger/command.ts";
import { callerOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { plainError } from "../rpc/observe.ts";
import { marksOf, readMergedPage, readSpan, scanSpan } from "../rpc/page.ts";
import { isLate } from "./gift.ts";
import { openGiving } from "./giving.ts";
import { listHistory } from "./history.ts";
import { findGift, findGiftOf, findTransfer, findTransferOf, type Side } from "./queries.ts";
import { type Order, openTransfers } from "./transfer.ts";

export const transferService = (app: App): ServiceImpl<typeof TransferService> => {
  const { db, log } = app;
  const sending = openTransfers(app);
  const giving = openGiving(app);

  /** A transfer, to a party of it or an operator. */
  async function getTransfer(transferId: string, context: HandlerContext): Promise<TransferRow | GiftRow> {
    const id = idOf(transferId);
    const isOperator = callerOf(context).kind === "operator";
    const accountId = isOperator ? undefined : payerOf(context).accountId;
    const found =
      accountId === undefined
        ? ((await findTransfer(db, id)) ?? (await findGift(db, id)))
        : ((await findTransferOf(db, accountId, id)) ?? (await findGiftOf(db, accountId, id)));
    if (!found) throw transferNotFound(transferId);
    return found;
  }

  return {
    async sendTransfer(request, context) {
      const order = orderOf(request, idempotencyKeyOf(request, context));
      const { value, replayed } = await sending.send(payerOf(context), order, request.pin, context);
      tellReplayed(context, replayed);
      return { transfer: toTransfer(value) };
    },

    async batchSendTransfers({ transfers, atomic, pin }, context) {
      const orders = transfers.map((request) => {
        if (request.idempotencyKey === "") throw idempotencyKeyMissing();
        return orderOf(request, request.idempotencyKey);
      });
      const outcomes = await sending.sendAll(payerOf(context), orders, { atomic, pin }, context);
      return { results: outcomes.map((outcome) => toResult(outcome, log)) };
    },

    async sendGift(request, context) {
      const order = { ...orderOf(request, idempotencyKeyOf(request, context)), expireAfterMs: expiryOf(request) };
      const { value, replayed } = await giving.send(payerOf(context), order, request.pin, context);
      tellReplayed(context, replayed);
      return { transfer: toTransfer(value) };
    },

    async acceptGift({ transferId }, context) {
      return { transfer: toTransfer(await giving.accept(payerOf(context), idOf(transferId), context)) };
    },

    async declineGift({ transferId }, context) {
      return { transfer: toTransfer(await giving.decline(payerOf(context), idOf(transferId), context)) };
    },

    async cancelGift({ transferId }, context) {
      return { transfer: toTransfer(await giving.cancel(payerOf(context), idOf(transferId), context)) };
    },

    async getTransfer({ transferId }, context) {
      return { transfer: toTransfer(await getTransfer(transferId, context)) };
    },

    async listTransferChanges({ transferId }, context) {
      const transfer = await getTransfer(transferId, context);
      return { changes: "holdId" in transfer ? changesOf(transfer) : [sentBy(transfer)] };
    },

    async listTransfers(request, context) {
      const { walletId } = payerOf(context);
      const { direction, state, counterpartyWalletId } = request;
      const span = readSpan(request);
      const page = readMergedPage(request, walletId, direction, state, counterpartyWalletId, ...marksOf(span));
      const [sequence, gift] = page.cursors ?? [];
      const counterparty = counterpartyWalletId === "" ? undefined : idOf(counterpartyWalletId);
      const { rows, next } = await listHistory(
        db,
        { walletId, sides: sidesOf(direction), counterparty, state, ...span },
        {
          after: sequence === undefined || gift === undefined ? undefined : { sequence, gift },
          size: page.size,
          spanBefore: scanSpan,
        },
      );
      return {
        transfers: rows.map(toTransfer),
        nextPageToken: next ? page.tokenAfter([next.sequence, next.gift]) : "",
      };
    },
  };
};

const orderOf = (
  { recipientWalletId, amount, memo }: SendTransferRequest | SendGiftRequest,
  idempotencyKey: string,
): Order => ({
  idempotencyKey,
  recipientWalletId: idOf(recipientWalletId),
  amount,
  // JSON lets half a character through, the database does not; a repeat must find what it wrote.
  memo: memo.toWellFormed(),
});

const EXPIRE_AFTER_MS = 72 * 60 * 60_000;

const expiryOf = ({ expireAfter }: SendGiftRequest): number =>
  expireAfter ? Math.floor(durationMs(expireAfter)) : EXPIRE_AFTER_MS;

function sidesOf(direction: Direction): Side[] {
  if (direction === Direction.SENT) return ["sender"];
  if (direction === Direction.RECEIVED) return ["recipient"];
  return ["sender", "recipient"];
}

const toTransfer = (row: TransferRow | GiftRow): Transfer =>
  create(TransferSchema, {
    id: String(row.id),
    senderWalletId: String(row.senderWalletId),
    recipientWalletId: String(row.recipientWalletId),
    amount: row.amount,
    currency: row.currency,
    memo: row.memo,
    createTime: timestampFromDate(row.createTime),
    ...("holdId" in row ? giftFields(row) : { kind: Transfer_Kind.SEND, state: row.state as Transfer_State }),
  });

function giftFields(row: GiftRow) {
  const { state, endTime } = endOf(row);
  return {
    kind: Transfer_Kind.GIFT,
    state,
    expireTime: timestampFromDate(row.expireTime),
    ...(endTime && { endTime: timestampFromDate(endTime) }),
    ...(row.handOverTime && { handOverTime: timestampFromDate(row.handOverTime) }),
  };
}

/** Where a gift stands, whether or not it has been written down that its time is over. */
const endOf = (row: GiftRow): { state: Transfer_State; endTime: Date | null } =>
  isLate(row, new Date())
    ? { state: Transfer_State.EXPIRED, endTime: row.expireTime }
    : { state: row.state as Transfer_State, endTime: row.endTime };

/** What ended a gift, and which side of it did. */
const ENDS: { [state in Transfer_State]?: { kind: TransferChange_Kind; by?: "senderWalletId" | "recipientWalletId" } } =
  {
    [Transfer_State.COMPLETED]: { kind: TransferChange_Kind.ACCEPTED, by: "recipientWalletId" },
    [Transfer_State.DECLINED]: { kind: TransferChange_Kind.DECLINED, by: "recipientWalletId" },
    [Transfer_State.CANCELED]: { kind: TransferChange_Kind.CANCELED, by: "senderWalletId" },
    [Transfer_State.EXPIRED]: { kind: TransferChange_Kind.EXPIRED },
  };

function changesOf(gift: GiftRow): TransferChange[] {
  const { handOverTime } = gift;
  const { state, endTime } = endOf(gift);
  const changes = [sentBy({ ...gift, state: Transfer_State.PENDING }, gift.apiKeyId)];
  if (handOverTime) {
    const kind = TransferChange_Kind.HANDED_OVER;
    changes.push(changeOf({ kind, state: Transfer_State.PENDING, walletId: gift.senderWalletId, time: handOverTime }));
  }
  const end = ENDS[state];
  if (end && endTime) {
    const walletId = end.by && gift[end.by];
    changes.push(changeOf({ kind: end.kind, state, walletId, apiKeyId: gift.endApiKeyId, time: endTime }));
  }
  return changes;
}

const sentBy = (
  { senderWalletId: walletId, state, createTime: time }: Pick<TransferRow, "senderWalletId" | "state" | "createTime">,
  apiKeyId: bigint | null = null,
) => changeOf({ kind: TransferChange_Kind.SENT, state: state as Transfer_State, walletId, apiKeyId, time });

interface Change {
  kind: TransferChange_Kind;
  state: Transfer_State;
  walletId: bigint | undefined;
  apiKeyId?: bigint | null;
  time: Date;
}

const changeOf = ({ kind, state, walletId, apiKeyId, time }: Change): TransferChange =>
  create(TransferChangeSchema, {
    kind,
    state,
    walletId: String(walletId ?? ""),
    apiKeyId: String(apiKeyId ?? ""),
    createTime: timestampFromDate(time),
  });

function toResult({ result, error }: Settled<TransferRow>, log: Logger): BatchSendTransfersResponse_Result {
  if (result) {
    return create(BatchSendTransfersResponse_ResultSchema, {
      outcome: { case: "transfer", value: toTransfer(result.value) },
      replayed: result.replayed,
    });
  }
  const refusal = error instanceof ConnectError ? error : unforeseen(error, log);
  const code = Code[refusal.code].replace(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
  const [info] = refusal.findDetails(ErrorInfoSchema);
  return create(BatchSendTransfersResponse_ResultSchema, {
    outcome: { case: "refusal", value: { code, message: refusal.rawMessage, info } },
  });
}

/** The others of the batch may have happened, so their answers must not be lost with this one. */
function unforeseen(error: unknown, log: Logger): ConnectError {
  const errorId = randomUUID();
  log.error({ errorId, cause: plainError(error) }, "a transfer of a batch failed");
  return internal(errorId);
}
