import { hash } from "node:crypto";

/**
 * A bank_tran_id: the institution's code, U for an id that the institution makes, and nine digits or upper-case letters.
 * It must be another one for each call of a day in Seoul. KFTC open banking 2.0, common rules.
 */

const TAIL_LENGTH = 9;
const TAILS = 36n ** BigInt(TAIL_LENGTH);

/** The one of what has this id: always the same. Two that meet are found by the claim that goes with each. */
export function tranIdOf(institutionCode: string, id: bigint): string {
  const number = hash("sha256", String(id), "buffer").readBigUInt64BE() % TAILS;
  return `${institutionCode}U${number.toString(36).toUpperCase().padStart(TAIL_LENGTH, "0")}`;
}
