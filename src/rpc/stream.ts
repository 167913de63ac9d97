/**
 * The work, or the reason of the abort, or the error that `ms` of time end with, whichever comes first. The work itself
 * goes on; its own signal tells it to stop.
 */
export function orAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
  most?: { ms: number; end: () => Error },
): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    const timer = most && setTimeout(() => reject(most.end()), most.ms);
    const tidy = () => {
      signal.removeEventListener("abort", abort);
      clearTimeout(timer);
    };
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    work.then(
      (result) => {
        tidy();
        resolve(result);
      },
      (failure: Error) => {
        tidy();
        reject(failure);
      },
    );
  });
}

/**
 * Passes messages on until the signal aborts, even when nobody sends any more. Then it leaves them, also when nobody asks
 * for the next: whoever writes to a client that has gone may wait for ever.
 */
export const untilAborted = <T>(messages: AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T> => ({
  [Symbol.asyncIterator]() {
    const iterator = messages[Symbol.asyncIterator]();
    let last: Promise<unknown> = Promise.resolve();
    // Not awaited: a generator that waits for something else returns only when it has it.
    const leave = () => iterator.return?.().catch(() => {});
    signal.addEventListener("abort", () => void last.then(leave, leave), { once: true });
    return {
      next() {
        const next = iterator.next();
        last = next;
        return orAborted(next, signal);
      },
      async return() {
        void leave();
        return { done: true, value: undefined };
      },
    };
  },
});

/**
 * Passes messages on, and calls `end` once: after the last, with the failure, or when nobody wants more. What `end`
 * makes of a failure is thrown instead.
 */
export const ending = <T>(messages: AsyncIterable<T>, end: (failure?: unknown) => unknown): AsyncIterable<T> => ({
  [Symbol.asyncIterator]() {
    const iterator = messages[Symbol.asyncIterator]();
    let ended = false;
    const endOnce = (failure?: unknown) => {
      if (ended) return failure;
      ended = true;
      return end(failure) ?? failure;
    };
    return {
      async next() {
        try {
          const next = await iterator.next();
          if (next.done) endOnce();
          return next;
        } catch (failure) {
          throw endOnce(failure);
        }
      },
      async return() {
        endOnce();
        return (await iterator.return?.()) ?? { done: true, value: undefined };
      },
    };
  },
});

export async function* mapped<T, U>(messages: AsyncIterable<T>, change: (message: T) => U) {
  for await (const message of messages) yield change(message);
}

export async function* one<T>(message: T) {
  yield message;
}

/** The message of a stream that carries exactly one. */
export async function only<T>(messages: AsyncIterable<T>): Promise<T> {
  for await (const message of messages) return message;
  throw new Error("the stream has no message");
}
