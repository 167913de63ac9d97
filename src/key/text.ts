import { hash, randomInt } from "node:crypto";
import { crc32 } from "node:zlib";

/**
 * API keys look like `cp_svc_…`: a prefix that scanners of leaked secrets find, 30 random characters, and
 * their checksum, so that a mistyped key is told from a real one without a look into the database.
 */

const PREFIXES = { service: "cp_svc_", partner: "cp_ptn_", operator: "cp_opr_" } as const;

export type KeyKind = keyof typeof PREFIXES;

export const KEY_KINDS = Object.keys(PREFIXES) as KeyKind[];

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LENGTH = 30;
const CHECKSUM_LENGTH = 6;
const KEY = /^cp_(?:svc|ptn|opr)_([0-9A-Za-z]{30})([0-9A-Za-z]{6})$/;

function checksum(random: string): string {
  let rest = crc32(random);
  let text = "";
  for (let i = 0; i < CHECKSUM_LENGTH; i += 1) {
    text = DIGITS.charAt(rest % DIGITS.length) + text;
    rest = Math.floor(rest / DIGITS.length);
  }
  return text;
}

/** The text of a new key. */
export function newKeyText(kind: KeyKind): string {
  const random = Array.from({ length: RANDOM_LENGTH }, () => DIGITS.charAt(randomInt(DIGITS.length))).join("");
  return `${PREFIXES[kind]}${random}${checksum(random)}`;
}

/** Whether the text has the form of an API key, its checksum included. */
export function isKeyText(text: string): boolean {
  const [, random, check] = KEY.exec(text) ?? [];
  return random !== undefined && check === checksum(random);
}

/** What is stored of a key; it is random enough to need no slow hash. */
export const keyHash = (text: string): Buffer => hash("sha256", text, "buffer");
