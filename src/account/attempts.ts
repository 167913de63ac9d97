import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import type { App } from "../app.ts";
import { tooManyAttempts } from "../errors.ts";

const ATTEMPTS = { points: 10, duration: 15 * 60 };

/** How often a password may be tried for an address, known or not. Without Redis each process counts for itself. */
export function openAttempts({ redis }: App) {
  const limiter = new RateLimiterRedis({
    ...ATTEMPTS,
    keyPrefix: "chatpay:sign-in",
    storeClient: redis,
    rejectIfRedisNotReady: true,
    insuranceLimiter: new RateLimiterMemory(ATTEMPTS),
  });
  return {
    /** Counts first, so that guesses at the same time do not pass together. Throws TOO_MANY_ATTEMPTS. */
    async count(emailKey: Buffer) {
      try {
        await limiter.consume(emailKey.toString("hex"));
      } catch (error) {
        throw error instanceof RateLimiterRes ? tooManyAttempts(error.msBeforeNext) : error;
      }
    },
    /** The attempt was not judged, so it does not count. */
    giveBack: (emailKey: Buffer) => limiter.reward(emailKey.toString("hex")),
    /** The right password came: what was tried before does not count. */
    forget: (emailKey: Buffer) => limiter.delete(emailKey.toString("hex")),
  };
}
