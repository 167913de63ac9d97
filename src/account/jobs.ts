import type { App } from "../app.ts";
import type { AccountCleanupRow } from "../db/schema.ts";
import { periodic, sweep } from "../job/periodic.ts";
import type { Job } from "../job/runner.ts";
import { openClosing } from "./closing.ts";
import { claimCleanups, measureCleanups, putOffCleanup } from "./queries.ts";
import { openSessions } from "./sessions.ts";

const HOUR_MS = 60 * 60_000;

/** What is left of people who are gone, and of sessions that have ended. */
export function accountJobs(app: App): Job[] {
  const { db } = app;
  const sessions = openSessions(app);
  const closing = openClosing(app, sessions);

  /** What a process that closed an account did not get to. */
  const cleanUp: Job<AccountCleanupRow> = {
    name: "account.closed",
    claim: (claim) => claimCleanups(db, claim),
    async run({ id }) {
      await closing.cleanUp(id);
      return "done";
    },
    putOff: (row, dueTime) => putOffCleanup(db, row, dueTime),
    measure: () => measureCleanups(db),
    runsMax: 2,
    timeoutMs: 30_000,
    idleMs: 30_000,
  };

  return [
    cleanUp,
    periodic(db, { name: "account.tokens", everyMs: HOUR_MS, run: sweep(sessions.deleteExpiredTokens) }),
    periodic(db, { name: "account.sessions", everyMs: HOUR_MS, run: sweep(sessions.deleteOld) }),
  ];
}
