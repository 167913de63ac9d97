import { randomInt, timingSafeEqual } from "node:crypto";
import { type CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import { codeInvalid, dependencyUnavailable, tooManyAttempts } from "../errors.ts";
import { keyedHash } from "./hash.ts";

const CODE_MS = 10 * 60_000;
const RESEND_MS = 60_000;
const TRIES_MAX = 5;

/** What a code proves: that somebody reads what is sent to the address, for one purpose. */
export interface Claim {
  /** The keyed hash of the address. */
  emailKey: Buffer;
  purpose: CodePurpose;
}

/**
 * A code is one hash in Redis: its keyed hash, and the tries that are left. The key stays when the code is
 * used or out of tries, because its age tells when the next may be sent.
 */
const SEND = `
local wait = redis.call('pttl', KEYS[1]) - (ARGV[3] - ARGV[4])
if wait > 0 then return wait end
redis.call('hset', KEYS[1], 'code', ARGV[1], 'tries', ARGV[2])
redis.call('pexpire', KEYS[1], ARGV[3])
return 0`;

const TRY = `
if tonumber(redis.call('hget', KEYS[1], 'tries') or 0) < 1 then return false end
redis.call('hincrby', KEYS[1], 'tries', -1)
return redis.call('hget', KEYS[1], 'code')`;

const USE = `
if redis.call('hget', KEYS[1], 'code') ~= ARGV[1] then return 0 end
return redis.call('hdel', KEYS[1], 'code')`;

const RESTORE = `
if redis.call('exists', KEYS[1]) == 1 then redis.call('hset', KEYS[1], 'code', ARGV[1]) end
return 1`;

/** 6-digit codes. Without Redis none can be sent or proved. */
export function openCodes({ redis, config, log }: App) {
  const keyOf = ({ emailKey, purpose }: Claim) => `chatpay:code:${purpose}:${emailKey.toString("hex")}`;

  const hashOf = (claim: Claim, code: string) =>
    keyedHash(config.hashSecret, "code", `${keyOf(claim)}:${code}`).toString("hex");

  async function run(script: string, claim: Claim, ...args: (string | number)[]): Promise<unknown> {
    try {
      return await redis.eval(script, 1, keyOf(claim), ...args);
    } catch (err) {
      log.warn({ err }, "Redis did not take a code");
      throw dependencyUnavailable("redis");
    }
  }

  return {
    /** Makes a new code in place of the one before. Throws TOO_MANY_ATTEMPTS when that is too young. */
    async make(claim: Claim) {
      const code = String(randomInt(1_000_000)).padStart(6, "0");
      const now = Date.now();
      const waitMs = await run(SEND, claim, hashOf(claim, code), TRIES_MAX, CODE_MS, RESEND_MS);
      if (Number(waitMs) > 0) throw tooManyAttempts(Number(waitMs));
      return { code, expireTime: new Date(now + CODE_MS), resendTime: new Date(now + RESEND_MS) };
    },

    /** Proves the claim, and uses the code up: of many who prove it at once, one succeeds. Throws CODE_INVALID. */
    async prove(claim: Claim, code: string) {
      const stored = await run(TRY, claim);
      const given = hashOf(claim, code);
      if (typeof stored !== "string" || !timingSafeEqual(Buffer.from(stored), Buffer.from(given))) throw codeInvalid();
      if ((await run(USE, claim, stored)) === 0) throw codeInvalid();
    },

    /** Makes a code that was used good again, when what it was used for did not happen. */
    async restore(claim: Claim, code: string) {
      await run(RESTORE, claim, hashOf(claim, code));
    },
  };
}
