import { overloaded } from "../errors.ts";

/** Lets only so many do something at a time. The next wait for their turn, and when too many wait, more are refused. */
export function openTurns(max: { running: number; waiting: number; retryAfterMs: number }) {
  const waiting: (() => void)[] = [];
  let running = 0;

  /** Throws OVERLOADED when no more may wait. */
  function check() {
    if (running === max.running && waiting.length === max.waiting) throw overloaded(max.retryAfterMs);
  }

  return {
    check,
    /** Throws OVERLOADED. */
    async take<T>(work: () => Promise<T>): Promise<T> {
      check();
      if (running === max.running) await new Promise<void>((resolve) => waiting.push(resolve));
      else running += 1;
      try {
        return await work();
      } finally {
        const next = waiting.shift();
        if (next) next();
        else running -= 1;
      }
    },
  };
}
