import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Waiting } from "./db/leases.ts";

/** What the process tells Prometheus of the ledger; the RPC layer adds its own to the registry. */
export type Metrics = ReturnType<typeof createMetrics>;

const BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const BATCH_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const JOB_SECONDS = [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 60];
/** Whoever asks for metrics waits so long for the database to count what is due. */
const MEASURE_MS = 1_000;

/** A job that runs in this process, and what of it is due in all of them. */
interface MeasuredJob {
  name: string;
  measure(): Promise<{ count: number; oldestMs: number }>;
}

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const commands = new Histogram({
    name: "chatpay_lane_batch_commands",
    help: "Commands in one transaction of the ledger lane.",
    buckets: BATCH_SIZES,
    registers,
  });
  const seconds = new Histogram({
    name: "chatpay_lane_batch_seconds",
    help: "Time from the first lock of a batch to its commit.",
    buckets: BATCH_SECONDS,
    registers,
  });
  const postings = new Counter({
    name: "chatpay_postings_total",
    help: "Movements of money that this process committed.",
    registers,
  });
  const trouble = new Counter({
    name: "chatpay_lane_trouble_total",
    help: "Batches that were run again, taken apart, or whose commit was not answered.",
    labelNames: ["kind"],
    registers,
  });
  const messages = new Counter({
    name: "chatpay_messages_total",
    help: "Mails and text messages, by what became of them: sent or failed.",
    labelNames: ["channel", "outcome"],
    registers,
  });

  const records = new Counter({
    name: "chatpay_audit_records_total",
    help: "Records of the audit trail, by what became of them: written, lost to a database that did not take them, or dropped because of too many.",
    labelNames: ["outcome"],
    registers,
  });
  const jobSeconds = new Histogram({
    name: "chatpay_job_seconds",
    help: "Time of a run of a job.",
    labelNames: ["job"],
    buckets: JOB_SECONDS,
    registers,
  });
  const jobRuns = new Counter({
    name: "chatpay_job_runs_total",
    help: "Runs of jobs, by how they ended: done, later (not finished yet), failed, or stopped with the process.",
    labelNames: ["job", "outcome"],
    registers,
  });

  const bankAnswers = new Counter({
    name: "chatpay_bank_answers_total",
    help: "What banks said of a transfer, when they were asked to move the money and when they were asked what became of it.",
    labelNames: ["kind", "outcome"],
    registers,
  });

  return {
    registry,
    observeJob({ job, outcome, seconds: took }: { job: string; outcome: string; seconds: number }) {
      jobRuns.inc({ job, outcome });
      jobSeconds.observe({ job }, took);
    },
    /** What is due is in the database, so each process that runs the jobs tells the same of it. */
    watchJobs(running: () => MeasuredJob[]) {
      const oldest = new Gauge({
        name: "chatpay_job_oldest_seconds",
        help: "How long the first item that waits for a job has been due.",
        labelNames: ["job"],
        registers,
      });
      new Gauge({
        name: "chatpay_job_due",
        help: "Items that are due and that no process runs, up to a thousand.",
        labelNames: ["job"],
        registers,
        async collect() {
          // While the database does not say, nothing is better than what was.
          this.reset();
          oldest.reset();
          const late = new Promise<void>((resolve) => setTimeout(resolve, MEASURE_MS).unref());
          const measured = running().map(async ({ name, measure }) => {
            const { count, oldestMs } = await measure();
            this.set({ job: name }, count);
            oldest.set({ job: name }, oldestMs / 1_000);
          });
          await Promise.race([Promise.allSettled(measured), late]);
        },
      });
    },
    /** What banks have not decided is in the database, so each process tells the same of it. */
    watchBankTransfers(measure: () => Promise<Waiting>) {
      const oldest = new Gauge({
        name: "chatpay_bank_transfers_open_oldest_seconds",
        help: "How long ago the first bank transfer began of which nobody knows yet what became of it.",
        registers,
      });
      new Gauge({
        name: "chatpay_bank_transfers_open",
        help: "Bank transfers of which nobody knows yet what became of them, up to a thousand.",
        registers,
        async collect() {
          // While the database does not say, nothing is better than what was.
          this.reset();
          oldest.reset();
          const late = new Promise<void>((resolve) => setTimeout(resolve, MEASURE_MS).unref());
          const open = await Promise.race([measure().catch(() => undefined), late]);
          if (!open) return;
          this.set(open.count);
          oldest.set(open.oldestMs / 1_000);
        },
      });
    },
    observeBankAnswer(kind: string, outcome: "approved" | "declined" | "unknown") {
      bankAnswers.inc({ kind, outcome });
    },
    observeAudit(outcome: "written" | "lost" | "dropped", count: number) {
      records.inc({ outcome }, count);
    },
    observeMessage(channel: string, outcome: "sent" | "failed") {
      messages.inc({ channel, outcome });
    },
    observeBatch(batch: { commands: number; postings: number; seconds: number }) {
      commands.observe(batch.commands);
      seconds.observe(batch.seconds);
      postings.inc(batch.postings);
    },
    observeLaneTrouble(kind: string) {
      trouble.inc({ kind });
    },
    watchLane(size: () => number) {
      new Gauge({
        name: "chatpay_lane_commands",
        help: "Commands that wait for the ledger lane or run in it.",
        registers,
        collect() {
          this.set(size());
        },
      });
    },
  };
}
