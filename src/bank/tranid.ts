import { hash, randomBytes } from "node:crypto";
import { type Db, isDuplicateKey } from "../db/database.ts";
import { seoulDayNumber } from "../seoul.ts";
import { insertTranClaim } from "./queries.ts";

/**
 * A bank_tran_id: the institution's code, U for an id that the institution makes, and nine digits or upper-case letters.
 * It must be another one for each call of a day in Seoul. KFTC open banking 2.0, common rules.
 */

const TAIL_LENGTH = 9;
const TAILS = 36n ** BigInt(TAIL_LENGTH);
/** There are a hundred trillion of them, so several in a row that are taken are no accident. */
const TRIES_MAX = 5;

/** The one of what has this id: always the same. Two that meet are found by the claim that goes with each. */
export const tranIdOf = (institutionCode: string, id: bigint): string =>
  written(institutionCode, hash("sha256", String(id), "buffer"));

/** One that nobody has used today, for a call that moves no money. It is claimed for good. */
export async function claimTranId(db: Db, institutionCode: string, time: Date): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    const tranId = written(institutionCode, randomBytes(8));
    try {
      await insertTranClaim(db, { day: seoulDayNumber(time), tranId, createTime: time });
      return tranId;
    } catch (error) {
      if (attempt === TRIES_MAX || !isDuplicateKey(error)) throw error;
    }
  }
}

const written = (institutionCode: string, bytes: Buffer) =>
  `${institutionCode}U${(bytes.readBigUInt64BE() % TAILS).toString(36).toUpperCase().padStart(TAIL_LENGTH, "0")}`;
