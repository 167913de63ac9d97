import type { App } from "../app.ts";
import type { ScheduledTransferRow } from "../db/schema.ts";
import type { Item, Job } from "../job/runner.ts";
import { claimScheduled, measureScheduled, putOffScheduled } from "./queries.ts";
import { openDue } from "./schedule.ts";

/** What a run takes beyond the time that a bank has to say whether it pays what is missing. */
const MARGIN_MS = 30_000;

/** Transfers that were scheduled are made when their time has come. */
export function scheduleJobs(app: App): Job[] {
  const { db, config } = app;
  const run: Job<ScheduledTransferRow & Item> = {
    name: "schedule.run",
    claim: (claim) => claimScheduled(db, claim),
    run: openDue(app),
    putOff: (row, dueTime) => putOffScheduled(db, row, dueTime),
    measure: () => measureScheduled(db),
    // Many people choose the same hour; what is run together shares its commits.
    runsMax: 200,
    timeoutMs: config.maxTimeoutMs + MARGIN_MS,
    idleMs: 1_000,
  };
  return [run];
}
