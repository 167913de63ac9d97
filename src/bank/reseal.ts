import type { App } from "../app.ts";
import { type Swept, sweep } from "../job/periodic.ts";
import type { Bank } from "./bank.ts";
import {
  listOutdatedGrants,
  listOutdatedNumbers,
  listOutdatedTokens,
  resealGrant,
  resealInstitutionToken,
  resealNumber,
} from "./queries.ts";
import { contexts } from "./vault.ts";

/** Seals anew, a batch at a time, what secrets from before have sealed, so that they can go. */
export function openResealing({ db, log }: Pick<App, "db" | "log">, { vault }: Pick<Bank, "vault">) {
  /** What cannot be read stays as it is: its secret may come back. */
  function anew(sealed: Buffer, context: string): Buffer | undefined {
    const text = vault.open(sealed, context);
    return text === undefined ? undefined : vault.seal(text, context);
  }

  return async (signal: AbortSignal): Promise<Swept> => {
    const counts = { resealed: 0, unreadable: 0 };
    let lastNumber = 0n;
    let lastGrant = 0n;

    async function keep<S>(sealed: S | undefined, store: (sealed: S) => Promise<void>) {
      if (sealed !== undefined) await store(sealed);
      counts[sealed === undefined ? "unreadable" : "resealed"] += 1;
    }

    async function batch(limit: number): Promise<number> {
      const numbers = await listOutdatedNumbers(db, vault.keyId, lastNumber, limit);
      for (const row of numbers) {
        await keep(anew(row.numberSealed, contexts.number(row.id)), (sealed) => resealNumber(db, row, sealed));
        lastNumber = row.id;
      }
      const grants = await listOutdatedGrants(db, vault.keyId, lastGrant, limit);
      for (const row of grants) {
        const accessToken = anew(row.accessToken, contexts.grant(row.accountId));
        const refreshToken = anew(row.refreshToken, contexts.grant(row.accountId));
        const both = accessToken && refreshToken && { accessToken, refreshToken };
        await keep(both, (sealed) => resealGrant(db, row, sealed));
        lastGrant = row.accountId;
      }
      return Math.max(numbers.length, grants.length);
    }

    for (const row of await listOutdatedTokens(db, vault.keyId)) {
      const context = contexts.institutionToken(row.scope);
      await keep(anew(row.accessToken, context), (sealed) => resealInstitutionToken(db, row, sealed));
    }
    const swept = await sweep(batch)(signal);
    if (counts.unreadable > 0) log.warn(counts, "some of what is sealed needs a bank secret that is not accepted");
    else if (counts.resealed > 0) log.info(counts, "what earlier bank secrets have sealed was sealed anew");
    else log.info("nothing is sealed with an earlier bank secret any more");
    return swept;
  };
}
