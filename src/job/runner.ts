import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { isConnectionLost, isRetryable } from "../db/database.ts";
import type { Claim, Waiting } from "../db/leases.ts";
import { shuttingDown } from "../errors.ts";
import type { Metrics } from "../metrics.ts";

/** A piece of work that this process has claimed. */
export interface Item {
  /** For the log. */
  id: bigint | string;
  /** How often it was tried, this time included; or claimed by a process that died. */
  tries: number;
}

/** `later` is no failure: the item could not be finished yet and is tried again after a pause. */
export type Progress = "done" | "later";

/**
 * Work that comes due in the database and is done in the background, by whichever process claims it first.
 *
 * A claim is a lease that ends by itself, so what a process was at when it died is claimed by another one. It is longer
 * than a run may take; so an item is run by one process at a time as long as `run` ends when its signal says so. A run
 * may be repeated from its start: its process may have died, or its last commit may not have been answered.
 */
export interface Job<I extends Item = Item> {
  /** In the log and the metrics, as `audit.clean`. */
  name: string;
  /** Leases items that are due and not leased, those that have waited for longest first. See `claimRows`. */
  claim(claim: Claim): Promise<I[]>;
  /**
   * Does what the item says. If it answers `done`, it has stored that the item is not due any more, or when it is again,
   * and ended the lease: if the lease is still its own. What it throws was not foreseen.
   */
  run(item: I, signal: AbortSignal): Promise<Progress>;
  /** Ends the lease and makes the item due at that time, if the lease is still its own. */
  putOff(item: I, dueTime: Date): Promise<void>;
  /** What is due, for the metrics. It must be cheap. */
  measure(): Promise<Waiting>;
  /** How many items a process runs at a time. */
  runsMax: number;
  /** How long one may take. */
  timeoutMs: number;
  /** How often it looks when nothing was due. */
  idleMs: number;
  /** The first pause after a failure, or after `later`, and the longest. */
  pauses?: Pauses;
}

/** Pauses that double, from the first to the longest. */
export interface Pauses {
  firstMs: number;
  maxMs: number;
}

const RETRY: Pauses = { firstMs: 1_000, maxMs: 10 * 60_000 };
/** While the database does not answer, or a claim fails. */
const LOOK_AGAIN: Pauses = { firstMs: 500, maxMs: 10_000 };
/** What a lease has beyond the time of a run, to write down how it ended. */
const LEASE_MARGIN_MS = 30_000;
/** A run that goes on for so long after its time is reported. */
const OVERTIME_MS = 5_000;
const PUT_OFF_TRIES_MAX = 4;
/** After those who close have lost their patience, runs are told to end, and get so long for it. */
const CUT_MS = 2_000;

export type Runner = ReturnType<typeof openRunner>;

export interface RunnerOptions {
  log: Logger;
  metrics: Pick<Metrics, "observeJob" | "watchJobs">;
  /** How long runs may take to end when the runner closes. */
  graceMs: number;
}

/** Runs jobs until it is closed. Nothing here keeps the process alive. */
export function openRunner({ log, metrics, graceMs }: RunnerOptions) {
  const watches = new Map<string, Watch>();
  const cut = new AbortController();
  let closing: Promise<void> | undefined;
  const database = watchDatabase(log);
  metrics.watchJobs(() => [...watches.values()]);

  async function close() {
    for (const watch of watches.values()) watch.stop();
    const ended = Promise.all([...watches.values()].map((watch) => watch.ended));
    await within(graceMs, ended);
    cut.abort(shuttingDown());
    await within(CUT_MS, ended);
  }

  return {
    /** From now on this process looks for what is due. */
    start(jobs: Job[]) {
      if (closing) return;
      for (const job of jobs) {
        if (watches.has(job.name)) throw new Error(`there are two jobs ${job.name}`);
        watches.set(job.name, watchJob({ job, log, metrics, cut: cut.signal, database }));
      }
    },

    /** Has the job look at once, if it runs in this process; in others it looks when it has been idle. */
    nudge: (name: string) => watches.get(name)?.nudge(),

    /** Claims nothing more and waits for what runs: for the grace, then it tells it to end. */
    close: () => (closing ??= close()),
  };
}

type Watch = ReturnType<typeof watchJob>;

interface WatchOptions extends Pick<RunnerOptions, "log" | "metrics"> {
  job: Job;
  cut: AbortSignal;
  database: ReturnType<typeof watchDatabase>;
}

function watchJob({ job, log, metrics, cut, database }: WatchOptions) {
  const running = new Set<Promise<void>>();
  let stopping = false;
  /** Whether the last claim took all that it had room for. */
  let mayBeMore = false;
  let failures = 0;
  let isNudged = false;
  let wake = () => {};

  async function look() {
    while (!stopping) {
      isNudged = false;
      const room = job.runsMax - running.size;
      if (room > 0) await claim(room);
      if (isNudged || (mayBeMore && running.size < job.runsMax)) continue;
      if (!stopping) await rest(restMs());
    }
    await Promise.all(running);
  }

  async function claim(limit: number) {
    const beganAt = performance.now();
    mayBeMore = false;
    try {
      const items = await job.claim({ owner: randomUUID(), limit, leaseMs: job.timeoutMs + LEASE_MARGIN_MS });
      database.answered(beganAt);
      failures = 0;
      mayBeMore = items.length >= limit;
      for (const item of items) start(item, beganAt);
    } catch (err) {
      failures += 1;
      if (!database.isAway(err)) log.error({ err, job: job.name }, "a job could not look for what is due");
    }
  }

  const restMs = () => (failures > 0 ? growingPause(failures, LOOK_AGAIN) : jitter(job.idleMs));

  const rest = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms).unref();
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  function start(item: Item, claimedAt: number) {
    const run = runItem(item, claimedAt).finally(() => {
      running.delete(run);
      if (mayBeMore) wake();
    });
    running.add(run);
  }

  async function runItem(item: Item, claimedAt: number) {
    // The lease counts from the claim, so what that took is not there for the run.
    const leftMs = Math.ceil(job.timeoutMs - (performance.now() - claimedAt));
    if (stopping || leftMs <= 0) return putOff(item, new Date());
    const beganAt = performance.now();
    const outcome = await attempt(item, leftMs);
    metrics.observeJob({ job: job.name, outcome, seconds: (performance.now() - beganAt) / 1_000 });
    if (outcome === "done") return;
    const pauseMs = outcome === "stopped" ? 0 : growingPause(item.tries, job.pauses ?? RETRY);
    await putOff(item, new Date(Date.now() + pauseMs));
  }

  async function attempt(item: Item, limitMs: number): Promise<Progress | "failed" | "stopped"> {
    const late = AbortSignal.timeout(limitMs);
    const names = { job: job.name, item: String(item.id) };
    const overtime = setTimeout(() => log.error(names, "a job does not heed its time limit"), limitMs + OVERTIME_MS);
    overtime.unref();
    try {
      return await job.run(item, AbortSignal.any([late, cut]));
    } catch (err) {
      if (cut.aborted) return "stopped";
      if (!database.isAway(err)) log.error({ err, ...names, late: late.aborted }, "a job failed; it is tried again");
      return "failed";
    } finally {
      clearTimeout(overtime);
    }
  }

  /** If the database does not take it, the item is due again when its lease is over. */
  async function putOff(item: Item, dueTime: Date) {
    for (let attempts = 1; ; attempts += 1) {
      try {
        return await job.putOff(item, dueTime);
      } catch (err) {
        if (!database.isAway(err)) log.error({ err, job: job.name, item: String(item.id) }, "a job was not put off");
        if (stopping || attempts === PUT_OFF_TRIES_MAX) return;
        await sleep(growingPause(attempts, LOOK_AGAIN), undefined, { ref: false });
      }
    }
  }

  return {
    name: job.name,
    measure: () => job.measure(),
    nudge() {
      isNudged = true;
      wake();
    },
    stop() {
      stopping = true;
      wake();
    },
    ended: look(),
  };
}

/** Says once that the database is away, however many jobs meet it. */
function watchDatabase(log: Logger) {
  let toldAt: number | undefined;
  return {
    /** What was asked before it went away may be answered after. */
    answered(askedAt: number) {
      if (toldAt !== undefined && askedAt > toldAt) toldAt = undefined;
    },
    /** Whether an error says that the database is away, or gave way to others, and so will pass. */
    isAway(err: unknown): boolean {
      if (isRetryable(err) || isFull(err)) return true;
      if (!isConnectionLost(err)) return false;
      if (toldAt === undefined) log.warn({ err }, "jobs wait for the database");
      toldAt = performance.now();
      return true;
    },
  };
}

/** There was no connection to be had from the pool, or no room in the lane. */
const isFull = (err: unknown) => err instanceof ConnectError && err.code === Code.ResourceExhausted;

/** The pause after so many failures in a row: each longer than the one before, and no two processes have the same. */
export const growingPause = (failures: number, { firstMs, maxMs }: Pauses): number =>
  jitter(Math.min(maxMs, firstMs * 2 ** Math.max(0, failures - 1)));

/** Between three quarters and all of it. */
const jitter = (ms: number) => ms * (0.75 + Math.random() / 4);

/** Waits for work to end, but not for longer. */
async function within(ms: number, work: Promise<unknown>) {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, late]);
  clearTimeout(timer);
}
