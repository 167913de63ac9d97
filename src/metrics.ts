import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** What the process tells Prometheus of the ledger; the RPC layer adds its own to the registry. */
export type Metrics = ReturnType<typeof createMetrics>;

const BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const BATCH_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];

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

  return {
    registry,
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
