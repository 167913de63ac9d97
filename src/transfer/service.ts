import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import {
  type BatchSendTransfersResponse_Result,
  BatchSendTransfersResponse_ResultSchema,
  Direction,
  type SendTransferRequest,
  type Transfer,
  type Transfer_State,
  TransferSchema,
  type TransferService,
} from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { App } from "../app.ts";
import type { TransferRow } from "../db/schema.ts";
import { idempotencyKeyMissing, transferNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import type { Settled } from "../ledger/lane.ts";
import { callerOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { marksOf, readPage, readSpan } from "../rpc/page.ts";
import { findTransfer, findTransferOf, lastSequence, listTransfers, type Side } from "./queries.ts";
import { type Order, sendTransfer, sendTransfers } from "./transfer.ts";

/** How many postings one page looks through for those that the filter lets pass. */
const SCAN_MAX = 10_000n;

export const transferService = ({ db, lane }: App): ServiceImpl<typeof TransferService> => ({
  async sendTransfer(request, context) {
    const order = orderOf(request, idempotencyKeyOf(request, context));
    const { value, replayed } = await lane.submit(sendTransfer(payerOf(context), order), context);
    tellReplayed(context, replayed);
    return { transfer: toTransfer(value) };
  },

  async batchSendTransfers({ transfers, atomic }, context) {
    const orders = transfers.map((request) => {
      if (request.idempotencyKey === "") throw idempotencyKeyMissing();
      return orderOf(request, request.idempotencyKey);
    });
    const outcomes = await sendTransfers(lane, payerOf(context), orders, atomic, context);
    return { results: outcomes.map(toResult) };
  },

  async getTransfer({ transferId }, context) {
    const caller = callerOf(context);
    const id = idOf(transferId);
    const transfer =
      caller.kind === "operator"
        ? await findTransfer(db, id)
        : await findTransferOf(db, payerOf(context).accountId, id);
    if (!transfer) throw transferNotFound(transferId);
    return { transfer: toTransfer(transfer) };
  },

  async listTransfers(request, context) {
    const { walletId } = payerOf(context);
    const { direction, state, counterpartyWalletId } = request;
    const span = readSpan(request);
    const page = readPage(request, walletId, direction, state, counterpartyWalletId, ...marksOf(span));

    const before = page.cursor ?? (await lastSequence(db, walletId)) + 1n;
    const from = before > SCAN_MAX ? before - SCAN_MAX : 1n;
    const rows = await listTransfers(db, {
      walletId,
      sides: sidesOf(direction),
      from,
      before,
      counterparty: counterpartyWalletId === "" ? undefined : idOf(counterpartyWalletId),
      state: state || undefined,
      ...span,
      limit: page.size,
    });
    // A full page goes on after its last row, another one where the look ended.
    const last = rows.length === page.size ? rows[rows.length - 1] : undefined;
    const next = last?.sequence ?? from;
    return { transfers: rows.map(toTransfer), nextPageToken: next > 1n ? page.tokenAfter(next) : "" };
  },
});

const orderOf = ({ recipientWalletId, amount, memo }: SendTransferRequest, idempotencyKey: string): Order => ({
  idempotencyKey,
  recipientWalletId: idOf(recipientWalletId),
  amount,
  // JSON lets half a character through, the database does not; a repeat must find what it wrote.
  memo: memo.toWellFormed(),
});

function sidesOf(direction: Direction): Side[] {
  if (direction === Direction.SENT) return ["debit"];
  if (direction === Direction.RECEIVED) return ["credit"];
  return ["debit", "credit"];
}

const toTransfer = (row: TransferRow): Transfer =>
  create(TransferSchema, {
    id: String(row.id),
    senderWalletId: String(row.senderWalletId),
    recipientWalletId: String(row.recipientWalletId),
    amount: row.amount,
    currency: row.currency,
    memo: row.memo,
    state: row.state as Transfer_State,
    createTime: timestampFromDate(row.createTime),
  });

function toResult({ result, error }: Settled<TransferRow>): BatchSendTransfersResponse_Result {
  if (result) {
    return create(BatchSendTransfersResponse_ResultSchema, {
      outcome: { case: "transfer", value: toTransfer(result.value) },
      replayed: result.replayed,
    });
  }
  if (!(error instanceof ConnectError)) throw error;
  const code = Code[error.code].replace(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
  const [info] = error.findDetails(ErrorInfoSchema);
  return create(BatchSendTransfersResponse_ResultSchema, {
    outcome: { case: "refusal", value: { code, message: error.rawMessage, info } },
  });
}
