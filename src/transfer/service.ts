import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
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
import { idempotencyKeyMissing, internal, transferNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import type { Settled } from "../ledger/command.ts";
import { callerOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { plainError } from "../rpc/observe.ts";
import { marksOf, readPage, readSpan, scanWindow } from "../rpc/page.ts";
import { findTransfer, findTransferOf, lastSequence, listTransfers, type Side } from "./queries.ts";
import { type Order, openTransfers } from "./transfer.ts";

export const transferService = (app: App): ServiceImpl<typeof TransferService> => {
  const { db, log } = app;
  const sending = openTransfers(app);

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

      const window = scanWindow(page, await lastSequence(db, walletId));
      const rows = await listTransfers(db, {
        walletId,
        sides: sidesOf(direction),
        ...window,
        counterparty: counterpartyWalletId === "" ? undefined : idOf(counterpartyWalletId),
        state: state || undefined,
        ...span,
        limit: page.size,
      });
      return { transfers: rows.map(toTransfer), nextPageToken: window.tokenAfter(rows) };
    },
  };
};

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
