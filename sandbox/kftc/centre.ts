import { openClock, seoul } from "./clock.ts";
import { openConsents } from "./consent.ts";
import { openFaults } from "./faults.ts";
import { openLedger } from "./ledger.ts";
import type { Store } from "./store.ts";
import { openTokens } from "./tokens.ts";

/** The one institution that the centre knows, its collecting account, and what it may move at once. */
export const INSTITUTION = {
  clientId: "5a0ce2f1-6b7d-4c1e-9b0d-3c2f1a8e7d64",
  clientSecret: "sandbox-openbanking-secret",
  code: "M202600001",
  bankCode: "004",
  account: "93740101234567",
  holder: "주식회사챗페이",
  passPhrase: "NONE",
  withdrawMax: 999_999_999_999n,
  depositMax: 999_999_999_999n,
};

/** What the collecting account starts with, so that it can pay before anything was drawn. */
const COLLECTING_WON = 1_000_000_000n;

/** What the store has of an id. */
interface Claim {
  date: string;
  bankTranId: string;
}

/** Everything that the centre and its banks remember; of what goes wrong on purpose the store knows nothing. */
export function openCentre(redirectUrl: string, store: Store) {
  const clock = openClock(store);
  const { bankCode, account: number, holder, code } = INSTITUTION;
  const ledger = openLedger(clock, store, { bankCode, number, holder, balance: COLLECTING_WON });
  /** By day in Seoul. */
  const tranIds = new Map<string, Set<string>>();
  for (const claim of store.list<Claim>("tran_id")) idsOf(claim.date).add(claim.bankTranId);

  function idsOf(date: string): Set<string> {
    const used = tranIds.get(date) ?? new Set();
    tranIds.set(date, used);
    return used;
  }

  return {
    redirectUrl,
    clock,
    consents: openConsents(clock, store, ledger),
    tokens: openTokens(clock, store, code),
    ledger,
    faults: openFaults(),
    /** Banks that are away, and the code that says so. */
    downtime: new Map<string, string>(),

    /** Whether nobody has used the id today. It is used from now on, whatever becomes of the call. */
    claimTranId(bankTranId: string): boolean {
      const { date } = seoul(clock.now());
      const used = idsOf(date);
      if (used.has(bankTranId)) return false;
      used.add(bankTranId);
      store.put("tran_id", `${date} ${bankTranId}`, { date, bankTranId } satisfies Claim);
      return true;
    },
  };
}

export type Centre = ReturnType<typeof openCentre>;
