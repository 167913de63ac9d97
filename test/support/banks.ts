import type { BankAccount } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import type { NewPerson } from "../../sandbox/kftc/remote.ts";
import { seoulDay } from "../../src/seoul.ts";
import type { Person } from "./people.ts";
import type { TestServer } from "./server.ts";

/** Somebody whom the banks know. */
export type Citizen = Awaited<ReturnType<TestServer["kftc"]["addCitizen"]>>;
/** Where people consent. */
interface Centre {
  kftc: Pick<TestServer["kftc"], "addCitizen" | "consent">;
}
type Choice = Parameters<TestServer["kftc"]["consent"]>[1];

const SOMEBODY = { name: "김하늘", birthDate: "19900131" };

/** A person at banks, by default with one account that has that much. */
export const addCitizen = (
  { kftc }: Centre,
  { balance = 1_000_000n, ...person }: Partial<NewPerson> & { balance?: bigint } = {},
): Promise<Citizen> =>
  kftc.addCitizen({ ...SOMEBODY, accounts: [{ bankCode: "088", balance: String(balance) }], ...person });

/** What comes back from the page where the person consents: state and code. */
export async function consentTo(server: Centre, { banks }: Pick<Person, "banks">, choice: Choice) {
  const { consentUrl } = await banks.startLink({});
  const { searchParams } = await server.kftc.consent(consentUrl, choice);
  return { state: searchParams.get("state") ?? "", code: searchParams.get("code") ?? "" };
}

export interface LinkedBank {
  /** Whom the bank knows, and where: `server.kftc.getAccount(where)` tells the balance there. */
  citizen: Citizen;
  where: { bankCode: string; number: string };
  /** The first account, and all that were linked. */
  bankAccount: BankAccount;
  bankAccounts: BankAccount[];
}

/**
 * Links a person's accounts by consent: those of a citizen, or of a new one. The first account is the primary one. With
 * `automaticTopUp` what is missing is drawn from it.
 */
export async function linkBank(
  server: Centre,
  person: Pick<Person, "banks">,
  {
    automaticTopUp = false,
    topUpUnit = 1n,
    accounts,
    agree,
    ...who
  }: Omit<Partial<Choice>, "citizen"> & {
    citizen?: Citizen;
    balance?: bigint;
    automaticTopUp?: boolean;
    topUpUnit?: bigint;
  } = {},
): Promise<LinkedBank> {
  const citizen = who.citizen ?? (await addCitizen(server, who));
  const choice = { citizen, ...(accounts && { accounts }), ...(agree && { agree }) };
  const { bankAccounts } = await person.banks.finishLink(await consentTo(server, person, choice));
  const bankAccount = bankAccounts.find(({ primary }) => primary) ?? bankAccounts[0];
  const where = citizen.accounts.find((one) => bankAccount && isShownAs(one, bankAccount));
  if (!bankAccount || !where) throw new Error("no bank account was linked");
  if (!automaticTopUp && topUpUnit === 1n) return { citizen, where, bankAccount, bankAccounts };
  const change = { bankAccountId: bankAccount.id, automaticTopUp, topUpUnit };
  const { bankAccount: changed = bankAccount } = await person.banks.updateBankAccount(change);
  return { citizen, where, bankAccount: changed, bankAccounts };
}

const isShownAs = (where: LinkedBank["where"], { bankCode, maskedNumber }: BankAccount) =>
  where.bankCode === bankCode && `${where.number.slice(0, -3)}***` === maskedNumber;

const DAY_MS = 24 * 60 * 60_000;

/** A day in Seoul as 2026-12-31: today, or so many days from it. */
export const seoulDate = (days = 0): string =>
  seoulDay(new Date(Date.now() + days * DAY_MS)).replace(/^(....)(..)(..)$/, "$1-$2-$3");
