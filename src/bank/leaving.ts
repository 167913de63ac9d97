import { randomUUID } from "node:crypto";
import type { App } from "../app.ts";
import type { Call } from "../ledger/lane.ts";
import { openSavings } from "../wallet/savings.ts";
import type { Owner } from "./commands.ts";
import { findPayee } from "./queries.ts";
import type { BankTransfers } from "./transfers.ts";

/** Pays out what somebody has who leaves. */
export type PayOut = ReturnType<typeof openPayOut>;

export function openPayOut(app: Pick<App, "db" | "lane" | "funding">, transfers: BankTransfers | undefined) {
  const { db } = app;
  const savings = openSavings(app);

  /**
   * Takes all out of savings, and sends what the main wallet has to the primary bank account. Where there is none it
   * stays, and stands in the way of closing. Throws what withdrawing does.
   */
  return async (owner: Owner, pin: string, call: Call): Promise<void> => {
    const payee = transfers && (await findPayee(db, owner.accountId));
    if (!payee) return;
    const amount = await savings.collect(owner, call);
    if (amount === 0n) return;
    const order = { idempotencyKey: randomUUID(), bankAccountId: payee.id, amount };
    await transfers.withdraw(owner, order, pin, call);
  };
}
