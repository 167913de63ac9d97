import { Entry_Cause, Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { type AdjustmentRow, type AllowanceRow, BANK_CLEARING, type WalletRow } from "../db/schema.ts";
import { systemWallet, tierUnknown, walletClosed, walletNotFound } from "../errors.ts";
import { isSystem } from "../ledger/books.ts";
import type { Command } from "../ledger/command.ts";
import { OPERATORS, onceKeyOf } from "../ledger/once.ts";
import { openAllowance, type Tiers } from "./limits.ts";

export interface AdjustmentOrder {
  idempotencyKey: string;
  walletId: bigint;
  /** Positive to credit, negative to debit. */
  amount: bigint;
  reason: string;
  /** The operator's API key. */
  apiKeyId: bigint;
}

/** Money that came from, or went to, a bank outside of ChatPay, as an operator says. */
export function adjustWallet({
  walletId,
  amount,
  reason,
  apiKeyId,
  ...order
}: AdjustmentOrder): Command<AdjustmentRow> {
  const idempotencyKey = onceKeyOf(OPERATORS, order.idempotencyKey);
  const [from, to] = amount > 0n ? [BANK_CLEARING, walletId] : [walletId, BANK_CLEARING];
  return {
    touches: { wallet: [walletId, BANK_CLEARING] },
    once: {
      by: "adjustment",
      key: idempotencyKey,
      isRepeat: (first) => first.walletId === walletId && first.amount === amount && first.reason === reason,
    },
    decide(books) {
      const { accountId, currency } = books.wallet(walletId);
      const id = books.newId();
      const because = { cause: Entry_Cause.ADJUSTMENT, id };
      books.move({ from, to, amount: amount > 0n ? amount : -amount, because, byOperator: true });
      books.tell("wallet.adjusted", [accountId], { adjustmentId: id, walletId, amount, currency, reason });
      return books.insert("adjustment", {
        id,
        walletId,
        amount,
        currency,
        reason,
        apiKeyId,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}

export interface FreezeOrder {
  walletId: bigint;
  /** Why, in the operator's words. */
  reason: string;
  /** The operator's API key. */
  apiKeyId: bigint;
}

/** The wallet receives but does not pay from now on; only an operator may take money from it. */
export const freezeWallet = (order: FreezeOrder) => turnWallet(order, Wallet_State.FROZEN, "wallet.frozen");

/** The wallet pays again. */
export const unfreezeWallet = (order: FreezeOrder) => turnWallet(order, Wallet_State.OPEN, "wallet.unfrozen");

/** A wallet that is in the state already stays as it is, and nothing is told: a repeat does no harm and needs no key. */
const turnWallet = (
  { walletId, reason, apiKeyId }: FreezeOrder,
  state: Wallet_State,
  event: string,
): Command<WalletRow> => ({
  touches: { wallet: [walletId] },
  decide(books) {
    const wallet = books.wallet(walletId);
    if (isSystem(wallet)) throw systemWallet(walletId);
    if (wallet.state === Wallet_State.CLOSED) throw walletClosed(walletId);
    if (wallet.state === state) return wallet;
    books.tell(event, [wallet.accountId], { walletId, reason, apiKeyId });
    return books.setState(walletId, state);
  },
});

export interface TierOrder {
  walletId: bigint;
  /** The name of limits; empty for everybody's. */
  tier: string;
  /** Why, in the operator's words. */
  reason: string;
  /** The operator's API key. */
  apiKeyId: bigint;
}

/** Other limits for a main wallet, from now on. What it did today stays counted. A wallet of the tier stays as it is. */
export function setTier(tiers: Tiers, { walletId, tier, reason, apiKeyId }: TierOrder): Command<AllowanceRow> {
  if (tier !== "" && !tiers.has(tier)) throw tierUnknown(tier);
  return {
    touches: { wallet: [walletId], allowance: [walletId] },
    decide(books) {
      const { kind, state, accountId } = books.wallet(walletId);
      if (kind !== Wallet_Kind.MAIN) throw walletNotFound(walletId);
      if (state === Wallet_State.CLOSED) throw walletClosed(walletId);
      const { row } = openAllowance(books, walletId);
      if (row.tier === tier) return row;
      books.tell("wallet.tier_changed", [accountId], { walletId, tier, reason, apiKeyId });
      return books.update("allowance", walletId, { tier, updateTime: books.now });
    },
  };
}
