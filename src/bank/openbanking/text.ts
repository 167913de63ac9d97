/** What passbooks and names may be made of at all banks, at most this many. */
const PRINT_MAX = 20;

/**
 * AH(20): Hangul, upper-case letters and digits. The centre refuses a transfer with other signs, so they are left out;
 * `instead` stands where nothing is left.
 */
export const printable = (text: string, instead: string): string => printed(text) || printed(instead) || "CHATPAY";

const printed = (text: string) =>
  text
    .normalize("NFKC")
    .toUpperCase()
    .replaceAll(/[^0-9A-Z가-힣]/g, "")
    .slice(0, PRINT_MAX);

/** The bank compares it, so it stays as the bank gave it, but for its length. */
export const holderName = (name: string): string => readable(name.normalize("NFC"), PRINT_MAX);

/** On one line, without signs that are not seen, and no half of one that takes two places. */
export const readable = (text: string, max: number): string =>
  text
    .replaceAll(/[\p{C}\p{Z}]+/gu, " ")
    .trim()
    .slice(0, max)
    .replace(/[\uD800-\uDBFF]$/, "");
