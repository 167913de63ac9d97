import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type Adjustment,
  AdjustmentSchema,
  type Allowance,
  AllowanceSchema,
  type CreditWalletRequest,
  type DebitWalletRequest,
  type DepositSavingsRequest,
  type Entry,
  type Entry_Cause,
  EntrySchema,
  ExportEntriesResponseSchema,
  type FreezeWalletRequest,
  type SavingsMove,
  SavingsMoveSchema,
  type UnfreezeWalletRequest,
  type Wallet,
  Wallet_Kind,
  type Wallet_State,
  WalletSchema,
  type WalletService,
  type WithdrawSavingsRequest,
} from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { App } from "../app.ts";
import type { AdjustmentRow, AllowanceRow, SavingsMoveRow } from "../db/schema.ts";
import { requestInvalid, walletNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { type Caller, callerOf, operatorOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { marksOf, readPage, readSpan, readTime, scanWindow, splitPage } from "../rpc/page.ts";
import { allowedAt, type Tiers } from "./limits.ts";
import {
  type EntryRow,
  findAllowance,
  findWallet,
  listEntries,
  listWallets,
  type NamedWallet,
  type Owner,
} from "./queries.ts";
import { openSavings, type SavingsOrder } from "./savings.ts";
import { exportStatement, standAt } from "./statement.ts";
import { adjustWallet, type FreezeOrder, freezeWallet, setTier, unfreezeWallet } from "./wallet.ts";

export const walletService = (app: App): ServiceImpl<typeof WalletService> => {
  const { db, lane, config } = app;
  const savings = openSavings(app);
  const { tiers } = config;

  /** The wallet that is named, or the caller's own when none is; never somebody else's. */
  async function getWallet(caller: Caller, walletId: string): Promise<NamedWallet> {
    const id = walletId === "" && "walletId" in caller ? caller.walletId : idOf(walletId || "0");
    const wallet = await findWallet(db, ownerOf(caller), id);
    if (!wallet) throw walletNotFound(walletId);
    return wallet;
  }

  async function adjust(request: CreditWalletRequest | DebitWalletRequest, amount: bigint, context: HandlerContext) {
    const command = adjustWallet({
      idempotencyKey: idempotencyKeyOf(request, context),
      walletId: idOf(request.walletId),
      amount,
      reason: request.reason.toWellFormed(),
      apiKeyId: operatorOf(context).keyId,
    });
    const { value, replayed } = await lane.submit(command, context);
    tellReplayed(context, replayed);
    return { adjustment: toAdjustment(value) };
  }

  return {
    async getWallet({ walletId }, context) {
      return { wallet: toWallet(await getWallet(callerOf(context), walletId)) };
    },

    async listWallets(request, context) {
      const owner = ownerOf(callerOf(context));
      const page = readPage(request, markOf(owner));
      const wallets = await listWallets(db, owner, page.cursor ?? 0n, page.size + 1);
      const { rows, nextPageToken } = splitPage(wallets, page, ({ id }) => id);
      return { wallets: rows.map(toWallet), nextPageToken };
    },

    async listEntries(request, context) {
      const { id: walletId, sequence } = await getWallet(callerOf(context), request.walletId);
      const span = readSpan(request);
      const page = readPage(request, walletId, ...marksOf(span));
      const window = scanWindow(page, sequence);
      const rows = await listEntries(db, { walletId, ...window, ...span, limit: page.size });
      return { entries: rows.map(toEntry), nextPageToken: window.tokenAfter(rows) };
    },

    creditWallet: (request, context) => adjust(request, request.amount, context),
    debitWallet: (request, context) => adjust(request, -request.amount, context),

    async freezeWallet(request, context) {
      await lane.submit(freezeWallet(freezeOrderOf(request, context)), context);
      return { wallet: toWallet(await getWallet(callerOf(context), request.walletId)) };
    },

    async unfreezeWallet(request, context) {
      await lane.submit(unfreezeWallet(freezeOrderOf(request, context)), context);
      return { wallet: toWallet(await getWallet(callerOf(context), request.walletId)) };
    },

    async setTier({ walletId, tier, reason }, context) {
      const order = {
        walletId: idOf(walletId),
        tier,
        reason: reason.toWellFormed(),
        apiKeyId: operatorOf(context).keyId,
      };
      const { value } = await lane.submit(setTier(tiers, order), context);
      return { allowance: toAllowance(tiers, order.walletId, value) };
    },

    async getAllowance({ walletId }, context) {
      const { id, kind } = await getWallet(callerOf(context), walletId);
      if (kind !== Wallet_Kind.MAIN) throw walletNotFound(walletId);
      return { allowance: toAllowance(tiers, id, await findAllowance(db, id)) };
    },

    async getBalance(request, context) {
      const wallet = await getWallet(callerOf(context), request.walletId);
      const now = new Date();
      const time = readTime("time", request.time) ?? now;
      if (time > now) throw requestInvalid("time: has not come yet");
      const { balance, sequence } = await standAt(db, wallet.id, time);
      return { balance, sequence, currency: wallet.currency, time: timestampFromDate(time) };
    },

    async *exportEntries(request, context) {
      const { id } = await getWallet(callerOf(context), request.walletId);
      for await (const csv of exportStatement(db, id, readSpan(request))) {
        yield create(ExportEntriesResponseSchema, { csv });
      }
    },

    async createSavings(request, context) {
      const order = { idempotencyKey: idempotencyKeyOf(request, context), name: request.name.toWellFormed() };
      const { value, replayed } = await savings.create(payerOf(context), order, context);
      tellReplayed(context, replayed);
      return { wallet: toWallet(value) };
    },

    async renameSavings({ walletId, name }, context) {
      return { wallet: toWallet(await savings.rename(payerOf(context), idOf(walletId), name.toWellFormed())) };
    },

    async closeSavings({ walletId }, context) {
      return { wallet: toWallet(await savings.close(payerOf(context), idOf(walletId), context)) };
    },

    async depositSavings(request, context) {
      const { value, replayed } = await savings.deposit(payerOf(context), savingsOrderOf(request, context), context);
      tellReplayed(context, replayed);
      return { move: toSavingsMove(value) };
    },

    async withdrawSavings(request, context) {
      const { value, replayed } = await savings.withdraw(payerOf(context), savingsOrderOf(request, context), context);
      tellReplayed(context, replayed);
      return { move: toSavingsMove(value) };
    },
  };
};

const savingsOrderOf = (
  request: DepositSavingsRequest | WithdrawSavingsRequest,
  context: HandlerContext,
): SavingsOrder => ({
  idempotencyKey: idempotencyKeyOf(request, context),
  savingsWalletId: idOf(request.savingsWalletId),
  amount: request.amount,
});

const freezeOrderOf = (
  { walletId, reason }: FreezeWalletRequest | UnfreezeWalletRequest,
  context: HandlerContext,
): FreezeOrder => ({
  walletId: idOf(walletId),
  // JSON lets half a character through; the event does not.
  reason: reason.toWellFormed(),
  apiKeyId: operatorOf(context).keyId,
});

function ownerOf(caller: Caller): Owner {
  switch (caller.kind) {
    case "person":
    case "service":
      return { accountId: caller.accountId };
    case "partner":
      return { partnerId: caller.partnerId };
    case "operator":
      return "all";
    case "anyone":
      throw new Error("nobody owns no wallet");
  }
}

const markOf = (owner: Owner) => {
  if (owner === "all") return owner;
  return "accountId" in owner ? owner.accountId : owner.partnerId;
};

const toWallet = (row: NamedWallet): Wallet =>
  create(WalletSchema, {
    id: String(row.id),
    accountId: row.accountId === null ? "" : String(row.accountId),
    partnerId: row.partnerId === null ? "" : String(row.partnerId),
    kind: row.kind as Wallet_Kind,
    state: row.state as Wallet_State,
    currency: row.currency,
    balance: row.balance,
    held: row.held,
    available: row.balance - row.held,
    version: row.version,
    createTime: timestampFromDate(row.createTime),
    updateTime: timestampFromDate(row.updateTime),
    name: row.name,
  });

function toAllowance(tiers: Tiers, walletId: bigint, row: AllowanceRow | undefined): Allowance {
  const { renewTime, ...allowed } = allowedAt(tiers, row, new Date());
  return create(AllowanceSchema, { walletId: String(walletId), ...allowed, renewTime: timestampFromDate(renewTime) });
}

const toEntry = (row: EntryRow): Entry =>
  create(EntrySchema, {
    sequence: row.sequence,
    amount: row.amount,
    balanceAfter: row.balanceAfter,
    counterpartyWalletId: String(row.counterpartyWalletId),
    cause: row.cause as Entry_Cause,
    causeId: String(row.causeId),
    memo: row.memo,
    createTime: timestampFromDate(row.createTime),
  });

const toAdjustment = (row: AdjustmentRow): Adjustment =>
  create(AdjustmentSchema, {
    id: String(row.id),
    walletId: String(row.walletId),
    amount: row.amount,
    currency: row.currency,
    reason: row.reason,
    apiKeyId: String(row.apiKeyId),
    createTime: timestampFromDate(row.createTime),
  });

const toSavingsMove = (row: SavingsMoveRow): SavingsMove =>
  create(SavingsMoveSchema, {
    id: String(row.id),
    savingsWalletId: String(row.savingsWalletId),
    mainWalletId: String(row.mainWalletId),
    amount: row.amount,
    currency: row.currency,
    createTime: timestampFromDate(row.createTime),
  });
