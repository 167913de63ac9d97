import { setTimeout as sleep } from "node:timers/promises";

/** How hard and how long. */
export interface Load {
  inFlight: number;
  /** Begin so many calls a second, each at its time, whatever becomes of those before; then `inFlight` says nothing. */
  perSecond?: number;
  warmupMs: number;
  measureMs: number;
  /** How long a client waits when it was refused. */
  pauseMs?: number;
}

/** What one call brought about. */
export interface Answer {
  /** Transfers that happened. */
  made: number;
  /** Why the others did not. */
  refusal?: string;
}

export interface Outcome {
  /** All transfers that were answered with success, from the first call to the last: so many must be in the books. */
  made: number;
  /** Transfers that happened per second of the measured time. */
  perSecond: number;
  /** How long calls took in the measured time, in milliseconds. */
  latency: Latency;
  refusals: Record<string, number>;
  refusedLatency: Latency;
}

export interface Latency {
  p50: number;
  p99: number;
}

export const ONE: Answer = { made: 1 };

/**
 * Keeps `inFlight` calls open, a new one as soon as one is answered, or begins `perSecond`. What is answered before the
 * warm-up is over or after the end is not measured, but counted all the same.
 */
export async function drive(
  { inFlight, perSecond, warmupMs, measureMs, pauseMs }: Load,
  call: () => Promise<Answer>,
): Promise<Outcome> {
  const start = performance.now();
  const begin = start + warmupMs;
  const end = begin + measureMs;
  const tookMs: number[] = [];
  const refusedMs: number[] = [];
  const refusals: Record<string, number> = {};
  let made = 0;
  let measured = 0;

  /** Makes a call that was due at a time, from which it is measured. */
  async function callOnce(dueAt: number): Promise<Answer> {
    const answer = await call();
    const now = performance.now();
    const counts = now >= begin && now < end;
    made += answer.made;
    if (counts) measured += answer.made;
    if (answer.refusal !== undefined) refusals[answer.refusal] = (refusals[answer.refusal] ?? 0) + 1;
    if (counts) (answer.refusal === undefined ? tookMs : refusedMs).push(now - dueAt);
    return answer;
  }

  async function client() {
    for (let now = start; now < end; now = performance.now()) {
      const { refusal } = await callOnce(now);
      if (refusal !== undefined) await sleep(pauseMs);
    }
  }

  async function clock(everyMs: number) {
    const calls: Promise<Answer>[] = [];
    for (let dueAt = start; dueAt < end; dueAt += everyMs) {
      while (performance.now() < dueAt) await sleep(1);
      calls.push(callOnce(dueAt));
    }
    await Promise.all(calls);
  }

  if (perSecond) await clock(1000 / perSecond);
  else await Promise.all(Array.from({ length: inFlight }, client));
  const reached = (measured * 1000) / measureMs;
  return { made, perSecond: reached, latency: latencyOf(tookMs), refusals, refusedLatency: latencyOf(refusedMs) };
}

function latencyOf(tookMs: number[]): Latency {
  const sorted = Float64Array.from(tookMs).sort();
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[(sorted.length >> 1) - 1] ?? Number.NaN) + upper) / 2;
}
