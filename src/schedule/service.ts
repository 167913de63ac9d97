import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Reason } from "../../gen/chatpay/error/v1/error_pb.ts";
import {
  type ScheduledTransfer,
  type ScheduledTransfer_State,
  ScheduledTransferSchema,
  type ScheduleService,
} from "../../gen/chatpay/transfer/v1/schedule_pb.ts";
import type { App } from "../app.ts";
import type { ScheduledTransferRow } from "../db/schema.ts";
import { requestInvalid, scheduledTransferNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { callerOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { readPage, readTime, splitPage } from "../rpc/page.ts";
import { findScheduled, listScheduled } from "./queries.ts";
import { openSchedules } from "./schedule.ts";

export const scheduleService = (app: App): ServiceImpl<typeof ScheduleService> => {
  const { db } = app;
  const schedules = openSchedules(app);

  return {
    async scheduleTransfer(request, context) {
      const transferTime = readTime("transfer_time", request.transferTime);
      if (!transferTime) throw requestInvalid("transfer_time: is required");
      const order = {
        idempotencyKey: idempotencyKeyOf(request, context),
        recipientWalletId: idOf(request.recipientWalletId),
        amount: request.amount,
        // JSON lets half a character through, the database does not; a repeat must find what it wrote.
        memo: request.memo.toWellFormed(),
        transferTime,
      };
      const { value, replayed } = await schedules.schedule(payerOf(context), order, request.pin, context);
      tellReplayed(context, replayed);
      return { scheduledTransfer: toScheduled(value) };
    },

    async cancelScheduledTransfer({ scheduledTransferId }, context) {
      const row = await schedules.cancel(payerOf(context), idOf(scheduledTransferId), context);
      return { scheduledTransfer: toScheduled(row) };
    },

    async getScheduledTransfer({ scheduledTransferId }, context) {
      const viewer = callerOf(context).kind === "operator" ? "all" : payerOf(context).accountId;
      const row = await findScheduled(db, viewer, idOf(scheduledTransferId));
      if (!row) throw scheduledTransferNotFound(scheduledTransferId);
      return { scheduledTransfer: toScheduled(row) };
    },

    async listScheduledTransfers(request, context) {
      const { accountId } = payerOf(context);
      const { state } = request;
      const page = readPage(request, accountId, state);
      const filter = { accountId, state: state || undefined, before: page.cursor, limit: page.size + 1 };
      const { rows, nextPageToken } = splitPage(await listScheduled(db, filter), page, ({ id }) => id);
      return { scheduledTransfers: rows.map(toScheduled), nextPageToken };
    },
  };
};

const toScheduled = (row: ScheduledTransferRow): ScheduledTransfer =>
  create(ScheduledTransferSchema, {
    id: String(row.id),
    senderWalletId: String(row.senderWalletId),
    recipientWalletId: String(row.recipientWalletId),
    amount: row.amount,
    currency: row.currency,
    memo: row.memo,
    state: row.state as ScheduledTransfer_State,
    transferTime: timestampFromDate(row.transferTime),
    transferId: row.transferId === null ? "" : String(row.transferId),
    failureReason: row.failureReason as Reason,
    failureMessage: row.failureMessage,
    createTime: timestampFromDate(row.createTime),
    updateTime: timestampFromDate(row.updateTime),
  });
