import type { BankAccountRow } from "../db/schema.ts";
import { bankConsentMissing, bankRefused, dependencyUnavailable } from "../errors.ts";
import { BankingError } from "./openbanking/contract.ts";

/** How what KFTC and banks say to calls that move no money becomes what people are told. */

export const unavailable = () => dependencyUnavailable("open banking");

/** The owner has not agreed, or not any more; or is not, or not any more, known to KFTC or to the bank. */
const CONSENT_MISSING = new Set(
  "A0014 A0019 A0304 A0305 A0306 A0313 A0316 A0317 A0319 A0323 A0327 A0334 A0337 468 551 555 556".split(" "),
);

/** Whether only a new consent helps. A token that is refused, and cannot be renewed, is one that was taken back. */
export const isConsentMissing = ({ kind, code }: BankingError) =>
  kind === "token" || (kind === "refused" && CONSENT_MISSING.has(code));

/** The name, the birth date or the person are not those that the bank knows. */
const OTHER_PERSON = new Set(["A0312", "A0321", "461", "463", "464"]);

export const isOtherPerson = ({ kind, code }: BankingError) => kind === "refused" && OTHER_PERSON.has(code);

/** What a person is told whose call about a bank account failed. */
export function refusalFor({ id, bankCode }: Pick<BankAccountRow, "id" | "bankCode">, error: unknown): unknown {
  if (!(error instanceof BankingError)) return error;
  if (isConsentMissing(error)) return bankConsentMissing(id);
  return error.kind === "refused" ? refusalOf(error, bankCode) : unavailable();
}

/** What the bank, or KFTC, said no to. */
export const refusalOf = ({ code, bankMessage: message }: BankingError, bankCode: string) =>
  bankRefused({ bankCode: isBankCode(code) ? bankCode : "", code, message });

/** Banks have three digits, KFTC a letter and four. */
const isBankCode = (code: string) => /^[0-9]{3}$/.test(code);
