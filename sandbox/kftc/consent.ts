import type { Clock } from "./clock.ts";
import type { Account, Citizen } from "./ledger.ts";

/** Agreements are good for a year. */
const CONSENT_DAYS = 365;
const DAY_MS = 86_400_000;

/** Who has ever consented, as the institution knows them. */
export interface User {
  userSeqNo: string;
  citizen: Citizen;
  isClosed: boolean;
}

/** One account in the hands of the institution. The times say since when, undefined that it is not agreed to. */
export interface Consent {
  fintechUseNum: string;
  user: User;
  account: Account;
  inquiryTime: Date | undefined;
  transferTime: Date | undefined;
}

export type Agreement = "inquiry" | "transfer";

/** The agreements of people with the institution, account by account. */
export function openConsents(clock: Clock) {
  const users: User[] = [];
  const consents = new Map<string, Consent>();

  function userOf(citizen: Citizen): User {
    const known = users.find((user) => user.citizen === citizen && !user.isClosed);
    if (known) return known;
    const user: User = { userSeqNo: `${1_100_000_001 + users.length}`, citizen, isClosed: false };
    users.push(user);
    return user;
  }

  return {
    findUser: (userSeqNo: string) => users.find((user) => user.userSeqNo === userSeqNo),
    find: (fintechUseNum: string) => consents.get(fintechUseNum),
    /** As the newest user of the account's owner has it. */
    findOf: (account: Account) => [...consents.values()].findLast((consent) => consent.account === account),
    listOf: (user: User) => [...consents.values()].filter((consent) => consent.user === user),

    /** The same account of the same user keeps its number, and what was agreed to before. */
    agree(citizen: Citizen, accounts: Account[], agreements: Agreement[]): User {
      const user = userOf(citizen);
      for (const account of accounts) {
        const known = this.listOf(user).find((consent) => consent.account === account);
        const fintechUseNum = `120260000188940${`${consents.size + 1}`.padStart(9, "0")}`;
        const consent = known ?? { fintechUseNum, user, account, inquiryTime: undefined, transferTime: undefined };
        if (agreements.includes("inquiry")) consent.inquiryTime = clock.now();
        if (agreements.includes("transfer")) consent.transferTime = clock.now();
        consents.set(consent.fintechUseNum, consent);
      }
      return user;
    },

    end(consent: Consent, agreement: Agreement) {
      if (agreement === "inquiry") consent.inquiryTime = undefined;
      else consent.transferTime = undefined;
    },

    close(user: User) {
      user.isClosed = true;
      for (const consent of this.listOf(user))
        for (const one of ["inquiry", "transfer"] as const) this.end(consent, one);
    },

    /** Whether something agreed to is too old by now. */
    isExpired: (time: Date) => clock.now().getTime() - time.getTime() > CONSENT_DAYS * DAY_MS,
  };
}
