import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type MoneyRequest,
  type MoneyRequest_Part_State,
  type MoneyRequest_State,
  MoneyRequestSchema,
  type RequestService,
} from "../../gen/chatpay/transfer/v1/request_pb.ts";
import type { App } from "../app.ts";
import type { MoneyRequestPartRow, MoneyRequestRow } from "../db/schema.ts";
import { moneyRequestNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { callerOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { readPage, readTime, splitPage } from "../rpc/page.ts";
import { findSeen, listReceived, listSent, type Seen } from "./queries.ts";
import { openRequests } from "./request.ts";

export const requestService = (app: App): ServiceImpl<typeof RequestService> => {
  const { db } = app;
  const requests = openRequests(app);

  return {
    async createRequest(request, context) {
      const shares = request.parts.map(({ payerWalletId, amount }) => ({ payerWalletId: idOf(payerWalletId), amount }));
      const order = { ...orderOf(request, context), shares, ownAmount: 0n };
      const { value, replayed } = await requests.ask(payerOf(context), order, context);
      tellReplayed(context, replayed);
      return { request: toRequest(value) };
    },

    async splitBill(request, context) {
      const { total, takePart } = request;
      const bill = { ...orderOf(request, context), total, takePart, payerWalletIds: request.payerWalletIds.map(idOf) };
      const { value, replayed } = await requests.split(payerOf(context), bill, context);
      tellReplayed(context, replayed);
      return { request: toRequest(value) };
    },

    async payRequest({ requestId, pin }, context) {
      const { value, replayed } = await requests.pay(payerOf(context), idOf(requestId), pin, context);
      tellReplayed(context, replayed);
      return { request: toRequest(value) };
    },

    async declineRequest({ requestId }, context) {
      return { request: toRequest(await requests.decline(payerOf(context), idOf(requestId), context)) };
    },

    async cancelRequest({ requestId }, context) {
      return { request: toRequest(await requests.cancel(payerOf(context), idOf(requestId), context)) };
    },

    async remindRequest({ requestId }, context) {
      return { request: toRequest(await requests.remind(payerOf(context), idOf(requestId), context)) };
    },

    async getRequest({ requestId }, context) {
      const viewer = callerOf(context).kind === "operator" ? "all" : payerOf(context).accountId;
      const seen = await findSeen(db, viewer, idOf(requestId));
      if (!seen) throw moneyRequestNotFound(requestId);
      return { request: toRequest(seen) };
    },

    async listSentRequests(request, context) {
      const { accountId } = payerOf(context);
      const { state } = request;
      const page = readPage(request, accountId, "sent", state);
      const filter = { accountId, state: state || undefined, before: page.cursor, limit: page.size + 1 };
      const { rows, nextPageToken } = splitPage(await listSent(db, filter), page, ({ id }) => id);
      return { requests: rows.map((row) => toRequest({ request: row, parts: [] })), nextPageToken };
    },

    async listReceivedRequests(request, context) {
      const { accountId } = payerOf(context);
      const { partState } = request;
      const page = readPage(request, accountId, "received", partState);
      const filter = { accountId, state: partState || undefined, before: page.cursor, limit: page.size + 1 };
      const { rows, nextPageToken } = splitPage(await listReceived(db, filter), page, (seen) => seen.request.id);
      return { requests: rows.map(toRequest), nextPageToken };
    },
  };
};

/** What asking and splitting have in common. */
const orderOf = (
  request: { idempotencyKey: string; memo: string; expireTime?: Parameters<typeof readTime>[1] },
  context: HandlerContext,
) => ({
  idempotencyKey: idempotencyKeyOf(request, context),
  // JSON lets half a character through, the database does not; a repeat must find what it wrote.
  memo: request.memo.toWellFormed(),
  expireTime: readTime("expire_time", request.expireTime),
});

const toRequest = ({ request, parts }: Seen): MoneyRequest => create(MoneyRequestSchema, messageOf(request, parts));

const messageOf = (row: MoneyRequestRow, parts: MoneyRequestPartRow[]) => ({
  id: String(row.id),
  requesterWalletId: String(row.requesterWalletId),
  amount: row.amount,
  paidAmount: row.paidAmount,
  ownAmount: row.ownAmount,
  currency: row.currency,
  memo: row.memo,
  state: row.state as MoneyRequest_State,
  partCount: row.parts,
  openPartCount: row.openParts,
  paidPartCount: row.paidParts,
  parts: parts.map(partOf),
  createTime: timestampFromDate(row.createTime),
  updateTime: timestampFromDate(row.updateTime),
  expireTime: timestampFromDate(row.expireTime),
});

const partOf = (row: MoneyRequestPartRow) => ({
  id: String(row.id),
  payerWalletId: String(row.payerWalletId),
  amount: row.amount,
  state: row.state as MoneyRequest_Part_State,
  transferId: row.transferId === null ? "" : String(row.transferId),
  ...(row.remindTime && { remindTime: timestampFromDate(row.remindTime) }),
  updateTime: timestampFromDate(row.updateTime),
});
