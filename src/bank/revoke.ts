import type { App } from "../app.ts";
import { transact } from "../db/database.ts";
import type { BankAccountRow } from "../db/schema.ts";
import type { Bank } from "./bank.ts";
import { BankingError } from "./openbanking/contract.ts";
import { deleteUnusedGrant, endRevocation, isLinkedAtCentre, lockAnyOwner } from "./queries.ts";
import { isConsentMissing } from "./refusals.ts";
import { claimTranId } from "./tranid.ts";

const SCOPES = ["inquiry", "transfer"] as const;

/** Tells KFTC of bank accounts that are not linked any more, and forgets what is of no use then. */
export function openRevocations({ db }: Pick<App, "db">, { settings, banking, tokens }: Bank) {
  async function cancel({ accountId, fintechUseNum }: BankAccountRow) {
    for (const scope of SCOPES) {
      await tokens.withUserToken(accountId, async (token) => {
        const tranId = await claimTranId(db, settings.institutionCode, new Date());
        await banking.cancelAccount(token, { tranId, fintechUseNum, scope });
      });
    }
  }

  return {
    /**
     * Ends the consent to a bank account. It may be repeated, and throws a BankingError when KFTC has not heard; a consent
     * that its owner has taken back there needs no telling. The grant goes with the last one that it was for.
     */
    async tell(row: BankAccountRow): Promise<void> {
      // KFTC calls an account the same when its owner links it again, so this would end the new consent.
      if (!(await isLinkedAtCentre(db, row.fintechUseNum))) {
        await cancel(row).catch((error: unknown) => {
          if (!(error instanceof BankingError && isConsentMissing(error))) throw error;
        });
      }
      await transact(db, async (trx) => {
        // Whoever links a bank account now waits, and keeps the grant that they bring.
        await lockAnyOwner(trx, row.accountId);
        await endRevocation(trx, row);
        await deleteUnusedGrant(trx, row.accountId);
      });
    },
  };
}
