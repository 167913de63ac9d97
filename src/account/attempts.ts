import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import type { App } from "../app.ts";
import { signInFailed, tooManyAttempts } from "../errors.ts";

const ATTEMPTS = { points: 10, duration: 15 * 60 };

/** Where a password is tried: at an address, known or not, or by whoever is signed in to an account. */
export type Lock = { address: Buffer } | { accountId: bigint };

const nameOf = (lock: Lock) => ("address" in lock ? lock.address.toString("hex") : String(lock.accountId));

/** How often a password may be tried. Without Redis each process counts for itself. */
export function openAttempts({ redis }: Pick<App, "redis">) {
  const limiter = new RateLimiterRedis({
    ...ATTEMPTS,
    keyPrefix: "chatpay:sign-in",
    storeClient: redis,
    rejectIfRedisNotReady: true,
    insuranceLimiter: new RateLimiterMemory(ATTEMPTS),
  });

  async function count(lock: Lock) {
    try {
      await limiter.consume(nameOf(lock));
    } catch (error) {
      throw error instanceof RateLimiterRes ? tooManyAttempts(error.msBeforeNext) : error;
    }
  }

  const forget = (lock: Lock) => limiter.delete(nameOf(lock));

  return {
    /** Whom the password lets in, if there is somebody. Throws SIGN_IN_FAILED, TOO_MANY_ATTEMPTS. */
    async guard<T>(lock: Lock, judge: () => Promise<T | undefined>): Promise<T> {
      // Counted first, so that guesses at the same time do not pass together.
      await count(lock);
      const found = await judge().catch(async (error: unknown) => {
        // It was not judged, so it does not count.
        await limiter.reward(nameOf(lock));
        throw error;
      });
      if (found === undefined) throw signInFailed();
      await forget(lock);
      return found;
    },
    /** The person proved themselves: what was tried before does not count. */
    forget,
  };
}
