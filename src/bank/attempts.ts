import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import type { App } from "../app.ts";
import { tooManyAttempts } from "../errors.ts";

const ATTEMPTS = { points: 10, duration: 24 * 60 * 60 };

/** How often somebody may ask whose an account number is. Without Redis each process counts for itself. */
export function openAttempts({ redis }: Pick<App, "redis">) {
  const limiter = new RateLimiterRedis({
    ...ATTEMPTS,
    keyPrefix: "chatpay:real-name",
    storeClient: redis,
    rejectIfRedisNotReady: true,
    insuranceLimiter: new RateLimiterMemory(ATTEMPTS),
  });
  return {
    /** Counted first, so that those at the same time do not pass together. Throws TOO_MANY_ATTEMPTS. */
    async count(accountId: bigint) {
      try {
        await limiter.consume(String(accountId));
      } catch (error) {
        throw error instanceof RateLimiterRes ? tooManyAttempts(error.msBeforeNext) : error;
      }
    },
    /** Nobody said anything, so it does not count. */
    async giveBack(accountId: bigint) {
      await limiter.reward(String(accountId));
    },
  };
}
