import { setTimeout as sleep } from "node:timers/promises";
import type { Db } from "../db/database.ts";
import type { JobRow } from "../db/schema.ts";
import { claimJob, finishJob, insertJob, measureJob, putOffJob } from "./queries.ts";
import type { Item, Job } from "./runner.ts";

/** `more` has it run again at once, in this process or another. */
export type Swept = "done" | "more";

export interface Period {
  name: string;
  everyMs: number;
  /** What is done once in each period by one process of all. It may be repeated when that one dies. */
  run(signal: AbortSignal): Promise<Swept>;
}

const TIMEOUT_MS = 30_000;
/** How soon a process sees that a period has begun, at the latest; and a share of short ones. */
const IDLE_MS = 30_000;
const IDLE_SHARE = 10;

/** A job that is due once in each period, whichever and however many processes run it. */
export function periodic(db: Db, { name, everyMs, run }: Period): Job<JobRow & Item> {
  let isKnown = false;
  return {
    name,
    async claim(claim) {
      if (!isKnown) await insertJob(db, name, new Date());
      isKnown = true;
      const claimed = await claimJob(db, name, claim);
      return claimed.map((row) => ({ ...row, id: name }));
    },
    async run(row, signal) {
      const swept = await run(signal);
      const now = new Date();
      await finishJob(db, row, now, swept === "more" ? now : nextDue(row.dueTime, everyMs, now));
      return "done";
    },
    putOff: (row, dueTime) => putOffJob(db, row, dueTime),
    measure: () => measureJob(db, name),
    runsMax: 1,
    timeoutMs: TIMEOUT_MS,
    idleMs: Math.min(IDLE_MS, everyMs / IDLE_SHARE),
  };
}

/** Periods follow each other from the first on; those that nobody ran are left out. */
function nextDue(dueTime: Date, everyMs: number, now: Date): Date {
  const gone = Math.max(0, Math.floor((now.getTime() - dueTime.getTime()) / everyMs));
  return new Date(dueTime.getTime() + (gone + 1) * everyMs);
}

/** Rows in one statement, and the pause after it: so that nobody waits for its locks, and replicas keep up. */
const BATCH_MAX = 1_000;
const PAUSE_MS = 50;
/** Then the next run goes on. */
const SWEEP_MS = 10_000;

/** Does something to many rows, a batch at a time, until there are no more or it has taken long enough. */
export const sweep =
  (batch: (limit: number) => Promise<number>) =>
  async (signal: AbortSignal): Promise<Swept> => {
    const endMs = performance.now() + SWEEP_MS;
    while ((await batch(BATCH_MAX)) >= BATCH_MAX) {
      if (signal.aborted || performance.now() >= endMs) return "more";
      await sleep(PAUSE_MS, undefined, { ref: false });
    }
    return "done";
  };
