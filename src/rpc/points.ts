import type { Redis } from "ioredis";
import { LRUCache } from "lru-cache";
import { RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";

/** Whom the points belong to. */
type Key = bigint | string;

export interface PointsOptions {
  redis: Redis;
  /** Keeps the points of one limit apart from those of others. */
  name: string;
  /** In each window, of all processes together. */
  max: number;
  windowS: number;
  /** Redis did not answer, and the process counts for itself. */
  onFallback: () => void;
}

/** What a process has of the points of a key. */
interface Share {
  left: number;
  /** All that it took in this window. */
  taken: number;
  endsAt: number;
  /** The window has no more. */
  isDrawn: boolean;
  /** Calls that wait for points. */
  waiting: number;
  drawing?: Promise<void> | undefined;
}

/** Of a window that has so many points or more, a process takes many at a time; of a smaller one, as many as it needs. */
const CHUNKS = 100;
const KEYS_MAX = 20_000;
/** A call waits no longer than this to be counted. */
const REDIS_WAIT_MS = 100;
/** How long a Redis that did not answer is left alone. */
const REDIS_AWAY_MS = 1_000;

export type Points = ReturnType<typeof openPoints>;

/**
 * Points that a key may spend in a window, in all processes together. Each process draws a chunk from Redis and spends it
 * from memory, so a busy key costs Redis a hundred questions in a window, and what Redis hands out is never more than
 * there is. What is left of a chunk at the end is lost. Without Redis each process hands out all of it.
 */
export function openPoints({ redis, name, max, windowS, onFallback }: PointsOptions) {
  const windowMs = windowS * 1_000;
  const chunk = Math.max(1, Math.floor(max / CHUNKS));
  const shares = new LRUCache<Key, Share>({ max: KEYS_MAX });
  let awayUntil = 0;
  const store = new RateLimiterRedis({
    storeClient: redis,
    keyPrefix: `chatpay:rate:${name}`,
    points: max,
    duration: windowS,
    rejectIfRedisNotReady: true,
  });

  function shareOf(key: Key): Share {
    let share = shares.get(key);
    if (!share) {
      share = { left: 0, taken: 0, endsAt: 0, isDrawn: false, waiting: 0 };
      shares.set(key, share);
    }
    return share;
  }

  /** What is gone of the window, as Redis counts it with `wanted` more; undefined if it does not say so in time. */
  async function countAtRedis(key: Key, wanted: number): Promise<RateLimiterRes | undefined> {
    if (performance.now() < awayUntil) return undefined;
    const count = store.consume(String(key), wanted).catch((reason: unknown) => {
      // This is how it says that there were not so many.
      return reason instanceof RateLimiterRes ? reason : undefined;
    });
    const counted = await orNothing(count, REDIS_WAIT_MS);
    if (!counted) awayUntil = performance.now() + REDIS_AWAY_MS;
    return counted;
  }

  async function draw(key: Key, share: Share) {
    const wanted = Math.max(chunk, share.waiting);
    const counted = await countAtRedis(key, wanted);
    if (!counted) onFallback();
    const now = performance.now();
    const isOver = now >= share.endsAt;
    const endsAt = counted ? now + counted.msBeforeNext : isOver ? now + windowMs : share.endsAt;
    // By the clock of Redis the next window may have begun a little earlier.
    if (isOver || endsAt - share.endsAt > windowMs / 2) Object.assign(share, { left: 0, taken: 0 });
    share.endsAt = endsAt;
    const gone = counted ? counted.consumedPoints - wanted : share.taken;
    const got = Math.min(wanted, Math.max(0, max - gone));
    share.left += got;
    share.taken += got;
    share.isDrawn = gone + got >= max;
  }

  const drawOnce = (key: Key, share: Share) =>
    (share.drawing ??= draw(key, share).finally(() => {
      share.drawing = undefined;
    }));

  async function wait(key: Key, share: Share): Promise<number> {
    share.waiting += 1;
    try {
      for (;;) {
        await drawOnce(key, share);
        if (share.left > 0) {
          share.left -= 1;
          return 0;
        }
        const leftMs = msLeft(share);
        if (leftMs > 0) return leftMs;
      }
    } finally {
      share.waiting -= 1;
    }
  }

  return {
    /** Spends a point. 0 if there was one; else in how many milliseconds there is one again. */
    spend(key: Key): number | Promise<number> {
      const share = shareOf(key);
      if (performance.now() >= share.endsAt) return wait(key, share);
      if (share.left === 0) return msLeft(share) || wait(key, share);
      share.left -= 1;
      // The next chunk comes before this one is gone, so that nobody waits for it.
      if (!share.isDrawn && share.left < chunk / 2) void drawOnce(key, share);
      return 0;
    },

    /** In how many milliseconds there are points again, as far as this process knows; 0 if it knows of none that are missing. */
    msUntilMore: (key: Key): number => {
      const share = shares.get(key);
      return share && share.left === 0 ? msLeft(share) : 0;
    },
  };
}

/** How long a window that has nothing more goes on. */
const msLeft = ({ isDrawn, endsAt }: Share) => (isDrawn ? Math.max(0, Math.ceil(endsAt - performance.now())) : 0);

/** What the work comes to, or undefined if that takes too long. A process that was busy itself still reads what is there. */
async function orNothing<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => setImmediate(() => resolve(undefined)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
