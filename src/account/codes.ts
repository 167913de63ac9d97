import { randomInt, randomUUID, timingSafeEqual } from "node:crypto";
import type { CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import { codeInvalid, dependencyUnavailable, tooManyAttempts } from "../errors.ts";
import type { Address } from "./address.ts";
import { keyedHash } from "./hash.ts";

const CODE_MS = 10 * 60_000;
const RESEND_MS = 60_000;
const TRIES_MAX = 5;
/**
 * Five guesses a minute, day after day, would find one in a million codes; and nobody wants more mail than this. But
 * never none, or a stranger who asks for codes would keep the owner out.
 */
const SENT_AT_ONCE_MAX = 20;
const SENT_EVERY_MS = 60 * 60_000;

/** What a code proves: that somebody reads what is sent to the address, for one purpose. */
export interface Claim {
  address: Pick<Address, "key">;
  purpose: CodePurpose;
}

/**
 * A code is one hash in Redis: its keyed hash, and the tries that are left. The key stays when the code is
 * used or out of tries, because its age tells when the next may be sent. Beside it stands a key that says only by
 * when it ends how many were sent since one was last proved: each puts that off by an hour.
 *
 * A script whose answer was lost is sent again when the connection is back. It says then again what it said, because
 * the code carries which call has made it, which one was counted as a try, and which one has used it up.
 */
const SEND = `
if redis.call('hget', KEYS[1], 'made') == ARGV[7] then return 0 end
local wait = redis.call('pttl', KEYS[1]) - (ARGV[3] - ARGV[4])
if wait > 0 then return wait end
local sent = math.max(redis.call('pttl', KEYS[2]), 0) + ARGV[6]
wait = sent - ARGV[5] * ARGV[6]
if wait > 0 then return wait end
redis.call('set', KEYS[2], '', 'px', sent)
redis.call('hset', KEYS[1], 'code', ARGV[1], 'tries', ARGV[2], 'made', ARGV[7])
redis.call('pexpire', KEYS[1], ARGV[3])
return 0`;

const TRY = `
if redis.call('hget', KEYS[1], 'tried') ~= ARGV[1] then
  if tonumber(redis.call('hget', KEYS[1], 'tries') or 0) < 1 then return false end
  redis.call('hincrby', KEYS[1], 'tries', -1)
  redis.call('hset', KEYS[1], 'tried', ARGV[1])
end
return redis.call('hget', KEYS[1], 'code')`;

const USE = `
if redis.call('hget', KEYS[1], 'used') == ARGV[2] then return 1 end
if redis.call('hget', KEYS[1], 'code') ~= ARGV[1] then return 0 end
redis.call('del', KEYS[2])
redis.call('hset', KEYS[1], 'used', ARGV[2])
return redis.call('hdel', KEYS[1], 'code')`;

const RESTORE = `
if redis.call('exists', KEYS[1]) == 1 then redis.call('hsetnx', KEYS[1], 'code', ARGV[1]) end
return 1`;

/** 6-digit codes. Without Redis none can be sent or proved. */
export function openCodes({ redis, config, log }: Pick<App, "redis" | "config" | "log">) {
  const keyOf = ({ address, purpose }: Claim) => `chatpay:code:${purpose}:${address.key.toString("hex")}`;
  const sentOf = ({ address, purpose }: Claim) => `chatpay:codes:${purpose}:${address.key.toString("hex")}`;

  const hashOf = (claim: Claim, code: string) =>
    keyedHash(config.hashSecret, "code", `${keyOf(claim)}:${code}`).toString("hex");

  async function run(script: string, claim: Claim, ...args: (string | number)[]): Promise<unknown> {
    try {
      return await redis.eval(script, 2, keyOf(claim), sentOf(claim), ...args);
    } catch (err) {
      log.warn({ err }, "Redis did not take a code");
      throw dependencyUnavailable("redis");
    }
  }

  /** As good as before, if Redis is there. */
  const restore = (claim: Claim, stored: string) => run(RESTORE, claim, stored).catch(() => undefined);

  /** Uses the code up, if it is the right one: of many who prove it at once, one succeeds. */
  async function isProved(claim: Claim, code: string): Promise<boolean> {
    const callId = randomUUID();
    const stored = await run(TRY, claim, callId);
    const given = hashOf(claim, code);
    if (typeof stored !== "string" || !timingSafeEqual(Buffer.from(stored), Buffer.from(given))) return false;
    try {
      return (await run(USE, claim, stored, callId)) !== 0;
    } catch (error) {
      // Nobody knows whether it was used, and nothing was done with it.
      await restore(claim, stored);
      throw error;
    }
  }

  async function proveOne(claims: Claim[], code: string): Promise<Claim> {
    for (const claim of claims) if (await isProved(claim, code)) return claim;
    throw codeInvalid();
  }

  async function spendOne<T>(claims: Claim[], code: string, work: () => Promise<T>): Promise<T> {
    const claim = await proveOne(claims, code);
    try {
      return await work();
    } catch (error) {
      await restore(claim, hashOf(claim, code));
      throw error;
    }
  }

  return {
    /** Makes a new code in place of the one before. Throws TOO_MANY_ATTEMPTS when that is too young, or one of too many. */
    async make(claim: Claim) {
      const code = String(randomInt(1_000_000)).padStart(6, "0");
      const now = Date.now();
      const limits = [TRIES_MAX, CODE_MS, RESEND_MS, SENT_AT_ONCE_MAX, SENT_EVERY_MS];
      const waitMs = await run(SEND, claim, hashOf(claim, code), ...limits, randomUUID());
      if (Number(waitMs) > 0) throw tooManyAttempts(Number(waitMs));
      return { code, expireTime: new Date(now + CODE_MS), resendTime: new Date(now + RESEND_MS) };
    },

    /** Does what the code is needed for. The code is used, unless that fails: then it is as good as before. Throws CODE_INVALID. */
    spend: <T>(claim: Claim, code: string, work: () => Promise<T>): Promise<T> => spendOne([claim], code, work),

    /** The same with a code that proves any of the claims. */
    spendOne,
  };
}
