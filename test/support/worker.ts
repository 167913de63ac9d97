import { pino } from "pino";
import { openDatabase } from "../../src/db/database.ts";
import { claimRows, measureDue, putOffRow } from "../../src/db/leases.ts";
import type { AccountCleanupRow } from "../../src/db/schema.ts";
import { type Job, openRunner, type Runner } from "../../src/job/runner.ts";
import { createMetrics } from "../../src/metrics.ts";

/** The table that has the work of tests, and what they do with an item of it. */
export const WORK = { table: "accountCleanup", due: "dueTime", tries: "tries" } as const;
export type WorkItem = AccountCleanupRow;

export interface Worker {
  runner: Runner;
  logs: { level: number; msg: string; job?: string; item?: string; late?: boolean }[];
  metrics: ReturnType<typeof createMetrics>;
  /** Starts a job that works on the table; what is left out is fit for most tests. */
  start(job: Pick<Job<WorkItem>, "run"> & Partial<Job<WorkItem>>): void;
  /** Takes the item out of the work: what `run` does at its end. */
  finish(item: WorkItem): Promise<void>;
  db: ReturnType<typeof openDatabase>;
  close(): Promise<void>;
}

/** A runner as one process has it, with connections of its own. */
export function openWorker(databaseUrl: string, { graceMs = 10_000 } = {}): Worker {
  const db = openDatabase(databaseUrl);
  const logs: Worker["logs"] = [];
  const log = pino({ level: "info" }, { write: (line) => void logs.push(JSON.parse(line)) });
  const metrics = createMetrics();
  const runner = openRunner({ log, metrics, graceMs });
  return {
    runner,
    logs,
    metrics,
    db,
    start(job) {
      const whole: Job<WorkItem> = {
        name: "test.work",
        claim: (claim) => claimRows(db, WORK, claim),
        putOff: (item, dueTime) => putOffRow(db, WORK, item, dueTime),
        measure: () => measureDue(db, WORK),
        runsMax: 4,
        timeoutMs: 20_000,
        idleMs: 20,
        ...job,
      };
      runner.start([whole]);
    },
    async finish({ id, leaseOwner }) {
      await db.deleteFrom("accountCleanup").where("id", "=", id).where("leaseOwner", "=", leaseOwner).execute();
    },
    async close() {
      await runner.close();
      await db.destroy();
    },
  };
}

// As a program: claims what there is, says so, and is at it until it is killed.
if (import.meta.main) {
  const worker = openWorker(process.argv[2] ?? "");
  worker.start({
    run({ id }) {
      process.stdout.write(`${id}\n`);
      return new Promise(() => setInterval(() => {}, 1_000));
    },
  });
}
