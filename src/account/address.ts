import type { AccountRow } from "../db/schema.ts";
import { keyedHash } from "./hash.ts";

/** Where a person can be reached, and what their account is found by. */
export interface Address {
  kind: AddressKind;
  /** As it is written to: an e-mail address as it was given, or a phone number as +821012345678. */
  text: string;
  /** Its keyed hash: the same in whatever letters it was given. */
  key: Buffer;
}
export type AddressKind = "email" | "phone";

const KEY_BYTES = 16;

/** The one address that a request names. */
export function addressOf(hashSecret: Buffer, { email, phone }: { email: string; phone: string }): Address {
  const kind = email === "" ? "phone" : "email";
  // At home Koreans write a 0 before their number, which it does not have behind +82.
  const text = kind === "email" ? email.trim() : phone.replace(/^\+820/, "+82");
  return { kind, text, key: keyedHash(hashSecret, kind, text.toLowerCase()).subarray(0, KEY_BYTES) };
}

/** The columns of an account that hold the address. */
export const columnsOf = ({ kind, text, key }: Address) =>
  kind === "email" ? { email: text, emailKey: key } : { phone: text, phoneKey: key };

/** Whether the account has the address. */
export const hasAddress = (account: AccountRow, { kind, key }: Address): boolean =>
  (kind === "email" ? account.emailKey : account.phoneKey)?.equals(key) ?? false;
