import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type BankAccount,
  type BankAccount_State,
  BankAccountSchema,
  type BankEntry,
  BankEntrySchema,
  BankService,
  type BankTransfer,
  type BankTransfer_Kind,
  type BankTransfer_State,
  BankTransferSchema,
  type TopUpRequest,
  type WithdrawRequest,
} from "../../gen/chatpay/bank/v1/bank_pb.ts";
import type { App } from "../app.ts";
import type { BankAccountRow, BankTransferRow } from "../db/schema.ts";
import { bankTransferNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { callerOf, type Payer, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { readForeignPage, readPage, splitPage } from "../rpc/page.ts";
import type { BankOrder } from "./commands.ts";
import { type Owner, openLinks } from "./links.ts";
import { type Live, openLive } from "./live.ts";
import type { BankEntry as Entry } from "./openbanking/contract.ts";
import { findBankTransfer, findBankTransferOf, listBankTransfers, listLinked } from "./queries.ts";
import { unavailable } from "./refusals.ts";

export const bankService = (app: App): ServiceImpl<typeof BankService> => {
  const { db, bank, bankTransfers: transfers } = app;
  if (!bank || !transfers) return withoutBanks;
  const links = openLinks(app, bank);
  const live = openLive(app, bank);

  return {
    async startLink(_request, context) {
      const { consentUrl, state, expireTime } = await links.start(ownerOf(payerOf(context)));
      return { consentUrl, state, expireTime: timestampFromDate(expireTime) };
    },

    async finishLink(request, context) {
      const { linked, taken } = await links.finish(ownerOf(payerOf(context)), request);
      return {
        bankAccounts: linked.map((row) => toBankAccount(row)),
        takenNumbers: taken.map(({ shown }) => shown.maskedNumber),
      };
    },

    async linkByNumber(request, context) {
      return { bankAccount: toBankAccount(await links.linkByNumber(ownerOf(payerOf(context)), request)) };
    },

    async listBankAccounts({ withBalances }, context) {
      const rows = await listLinked(db, payerOf(context).accountId);
      const balances = withBalances ? await live.balancesOf(rows) : [];
      return { bankAccounts: rows.map((row, i) => toBankAccount(row, balances[i])) };
    },

    async updateBankAccount({ bankAccountId, ...change }, context) {
      const { accountId } = payerOf(context);
      return { bankAccount: toBankAccount(await links.update(accountId, idOf(bankAccountId), change)) };
    },

    async unlinkBankAccount({ bankAccountId }, context) {
      const row = await links.unlink(ownerOf(payerOf(context)), idOf(bankAccountId), context);
      return { bankAccount: toBankAccount(row) };
    },

    async listBankEntries(request, context) {
      const { bankAccountId, startDate, endDate } = request;
      const { accountId } = payerOf(context);
      const page = readForeignPage(request, accountId, bankAccountId, startDate, endDate);
      const span = { startDate, endDate, trace: page.trace };
      const { entries, nextTrace } = await live.listEntries(accountId, idOf(bankAccountId), span);
      return { entries: entries.map(toEntry), nextPageToken: page.tokenFor(nextTrace) };
    },

    async topUp(request, context) {
      const { value, replayed } = await transfers.topUp(payerOf(context), orderOf(request, context), context);
      tellReplayed(context, replayed);
      return { bankTransfer: toBankTransfer(value) };
    },

    async withdraw(request, context) {
      const order = orderOf(request, context);
      const { value, replayed } = await transfers.withdraw(payerOf(context), order, request.pin, context);
      tellReplayed(context, replayed);
      return { bankTransfer: toBankTransfer(value) };
    },

    async getBankTransfer({ bankTransferId }, context) {
      const caller = callerOf(context);
      const id = idOf(bankTransferId);
      const row =
        caller.kind === "operator"
          ? await findBankTransfer(db, id)
          : await findBankTransferOf(db, payerOf(context).accountId, id);
      if (!row) throw bankTransferNotFound(bankTransferId);
      return { bankTransfer: toBankTransfer(row) };
    },

    async listBankTransfers(request, context) {
      const accountId = callerOf(context).kind === "operator" ? undefined : payerOf(context).accountId;
      const state = request.state || undefined;
      const page = readPage(request, accountId ?? "all", request.state);
      const found = await listBankTransfers(db, { accountId, state, before: page.cursor, limit: page.size + 1 });
      const { rows, nextPageToken } = splitPage(found, page, ({ id }) => id);
      return { bankTransfers: rows.map(toBankTransfer), nextPageToken };
    },
  };
};

/** What answers where no open banking is configured. */
const withoutBanks = Object.fromEntries(
  BankService.methods.map(({ localName }) => [
    localName,
    () => {
      throw unavailable();
    },
  ]),
) as unknown as ServiceImpl<typeof BankService>;

const ownerOf = (caller: Payer): Owner => ({
  accountId: caller.accountId,
  ...(caller.kind === "person" ? { holderId: caller.sessionId } : { holderId: caller.keyId, keyId: caller.keyId }),
});

const orderOf = (request: TopUpRequest | WithdrawRequest, context: HandlerContext): BankOrder => ({
  idempotencyKey: idempotencyKeyOf(request, context),
  bankAccountId: idOf(request.bankAccountId),
  amount: request.amount,
});

const toBankTransfer = (row: BankTransferRow): BankTransfer =>
  create(BankTransferSchema, {
    id: String(row.id),
    kind: row.kind as BankTransfer_Kind,
    state: row.state as BankTransfer_State,
    walletId: String(row.walletId),
    bankAccountId: String(row.bankAccountId),
    amount: row.amount,
    currency: row.currency,
    bankTranId: row.tranId,
    bankTranDate: row.tranDate,
    failureCode: row.failureCode,
    failureMessage: row.failureMessage,
    inquiries: row.inquiries,
    createTime: timestampFromDate(row.createTime),
    updateTime: timestampFromDate(row.updateTime),
  });

const toBankAccount = (row: BankAccountRow, liveBalance?: Live): BankAccount =>
  create(BankAccountSchema, {
    id: String(row.id),
    state: row.state as BankAccount_State,
    bankCode: row.bankCode,
    bankName: row.bankName,
    maskedNumber: row.maskedNumber,
    holderName: row.holderName,
    alias: row.alias,
    primary: row.primaryOf !== null,
    canInquire: row.canInquire === 1,
    canDraw: row.canDraw === 1,
    automaticTopUp: row.automaticTopUp === 1,
    topUpUnit: row.topUpUnit,
    createTime: timestampFromDate(row.createTime),
    liveBalance,
  });

const toEntry = ({ time, direction, amount, ...entry }: Entry): BankEntry =>
  create(BankEntrySchema, {
    ...entry,
    time: timestampFromDate(time),
    amount: direction === "in" ? amount : -amount,
  });
