import type { Clock } from "./clock.ts";
import type { Account, Citizen, Ledger } from "./ledger.ts";
import type { Store } from "./store.ts";

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

/** As the store has them: people and accounts are elsewhere there. */
type KeptUser = Omit<User, "citizen"> & { citizenId: string };
type KeptConsent = Omit<Consent, "user" | "account"> & { userSeqNo: string; bankCode: string; number: string };

/** The agreements of people with the institution, account by account. */
export function openConsents(clock: Clock, store: Store, ledger: Pick<Ledger, "findCitizen" | "findAccount">) {
  const users: User[] = [];
  const consents = new Map<string, Consent>();

  for (const { citizenId, ...user } of store.list<KeptUser>("user")) {
    const citizen = ledger.findCitizen(citizenId);
    if (citizen) users.push({ ...user, citizen });
  }
  for (const { userSeqNo, bankCode, number, ...consent } of store.list<KeptConsent>("consent")) {
    const user = findUser(userSeqNo);
    const account = ledger.findAccount(bankCode, number);
    if (user && account) consents.set(consent.fintechUseNum, { ...consent, user, account });
  }

  function findUser(userSeqNo: string): User | undefined {
    return users.find((user) => user.userSeqNo === userSeqNo);
  }

  function keepUser({ citizen, ...user }: User) {
    store.put("user", user.userSeqNo, { ...user, citizenId: citizen.id } satisfies KeptUser);
  }

  function keepConsent({ user: { userSeqNo }, account: { bankCode, number }, ...consent }: Consent) {
    store.put("consent", consent.fintechUseNum, { ...consent, userSeqNo, bankCode, number } satisfies KeptConsent);
  }

  function userOf(citizen: Citizen): User {
    const known = users.find((user) => user.citizen === citizen && !user.isClosed);
    if (known) return known;
    const user: User = { userSeqNo: `${1_100_000_001 + users.length}`, citizen, isClosed: false };
    users.push(user);
    keepUser(user);
    return user;
  }

  return {
    findUser,
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
        keepConsent(consent);
      }
      return user;
    },

    end(consent: Consent, agreement: Agreement) {
      if (agreement === "inquiry") consent.inquiryTime = undefined;
      else consent.transferTime = undefined;
      keepConsent(consent);
    },

    /** Makes something agreed to too old. */
    expire(consent: Consent, agreement: Agreement) {
      consent[agreement === "inquiry" ? "inquiryTime" : "transferTime"] = new Date(0);
      keepConsent(consent);
    },

    close(user: User) {
      user.isClosed = true;
      keepUser(user);
      for (const consent of this.listOf(user))
        for (const one of ["inquiry", "transfer"] as const) this.end(consent, one);
    },

    /** Whether something agreed to is too old by now. */
    isExpired: (time: Date) => clock.now().getTime() - time.getTime() > CONSENT_DAYS * DAY_MS,
  };
}
