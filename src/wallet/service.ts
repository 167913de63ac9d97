import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type Adjustment,
  AdjustmentSchema,
  type CreditWalletRequest,
  type DebitWalletRequest,
  type Entry,
  type Entry_Cause,
  EntrySchema,
  type FreezeWalletRequest,
  type UnfreezeWalletRequest,
  type Wallet,
  type Wallet_Kind,
  type Wallet_State,
  WalletSchema,
  type WalletService,
} from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { App } from "../app.ts";
import type { AdjustmentRow, WalletRow } from "../db/schema.ts";
import { walletNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { type Caller, callerOf, operatorOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { marksOf, readPage, readSpan, scanWindow, splitPage } from "../rpc/page.ts";
import { type EntryRow, findWallet, listEntries, listWallets, type Owner } from "./queries.ts";
import { adjustWallet, type FreezeOrder, freezeWallet, unfreezeWallet } from "./wallet.ts";

export const walletService = ({ db, lane }: App): ServiceImpl<typeof WalletService> => {
  /** The wallet that is named, or the caller's own when none is; never somebody else's. */
  async function getWallet(caller: Caller, walletId: string): Promise<WalletRow> {
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
      const { value } = await lane.submit(freezeWallet(freezeOrderOf(request, context)), context);
      return { wallet: toWallet(value) };
    },

    async unfreezeWallet(request, context) {
      const { value } = await lane.submit(unfreezeWallet(freezeOrderOf(request, context)), context);
      return { wallet: toWallet(value) };
    },
  };
};

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

const toWallet = (row: WalletRow): Wallet =>
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
  });

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
