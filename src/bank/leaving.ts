import { randomUUID } from "node:crypto";
import { Reason } from "../../gen/chatpay/error/v1/error_pb.ts";
import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import { reasonOf } from "../errors.ts";
import type { Call } from "../ledger/lane.ts";
import { openSavings } from "../wallet/savings.ts";
import type { Owner } from "./commands.ts";
import { findPayee } from "./queries.ts";
import type { BankTransfers } from "./transfers.ts";

/** Pays out what somebody has who leaves. */
export type PayOut = ReturnType<typeof openPayOut>;

/** Somebody else sends the money just now, or nobody may. The closing that follows says so, with all else there is. */
const LISTED: Reason[] = [Reason.INSUFFICIENT_FUNDS, Reason.WALLET_FROZEN, Reason.WALLET_CLOSED];

export function openPayOut(
  app: Pick<App, "config" | "db" | "redis" | "log" | "lane" | "funding">,
  transfers: BankTransfers | undefined,
) {
  const { db } = app;
  const pins = openPins(app);
  const savings = openSavings(app);

  /**
   * Takes all out of savings, and sends what the main wallet has to the primary bank account. Where there is none it
   * stays, and stands in the way of closing. Throws what withdrawing does, but for what closing lists.
   */
  return async (owner: Owner, pin: string, call: Call): Promise<void> => {
    const payee = transfers && (await findPayee(db, owner.accountId));
    if (!payee) return;
    // Before anything moves: with a wrong PIN savings stay what they are.
    const total = await savings.total(owner);
    await pins.check(owner.accountId, pin, { amount: total, left: async () => total });
    try {
      const amount = await savings.collect(owner, call);
      if (amount === 0n) return;
      const order = { idempotencyKey: randomUUID(), bankAccountId: payee.id, amount };
      await transfers.withdraw(owner, order, pin, call);
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === undefined || !LISTED.includes(reason)) throw error;
    }
  };
}
