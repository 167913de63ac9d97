import { openClock, seoul } from "./clock.ts";
import { openConsents } from "./consent.ts";
import { openFaults } from "./faults.ts";
import { openLedger } from "./ledger.ts";
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

/** Everything that the centre and its banks remember. */
export function openCentre(redirectUrl: string) {
  const clock = openClock();
  const consents = openConsents(clock);
  const { bankCode, account: number, holder, code } = INSTITUTION;
  /** By day in Seoul. */
  const tranIds = new Map<string, Set<string>>();
  return {
    redirectUrl,
    clock,
    consents,
    tokens: openTokens(clock, code),
    ledger: openLedger(clock, { bankCode, number, holder, balance: COLLECTING_WON }),
    faults: openFaults(),
    /** Banks that are away, and the code that says so. */
    downtime: new Map<string, string>(),

    /** Whether nobody has used the id today. It is used from now on, whatever becomes of the call. */
    claimTranId(bankTranId: string): boolean {
      const { date } = seoul(clock.now());
      const used = tranIds.get(date) ?? new Set();
      tranIds.set(date, used);
      if (used.has(bankTranId)) return false;
      used.add(bankTranId);
      return true;
    },
  };
}

export type Centre = ReturnType<typeof openCentre>;
