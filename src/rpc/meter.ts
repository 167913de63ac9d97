import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Counter, type Metric, type Registry } from "prom-client";

const BUCKETS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];
const LABELS = ["door", "grpc_type", "grpc_service", "grpc_method"];

export interface Meter {
  started(method: DescMethod): void;
  handled(method: DescMethod, error: Code | undefined, ms: number): void;
}

/** What one RPC did at one door since the process began. */
interface Tally {
  labels: Record<string, string>;
  started: number;
  handled: Map<string, number>;
  /** How many took as long as each bucket but longer than the one before; the last are those above all. */
  took: number[];
  seconds: number;
}

/**
 * Counts calls under the names of go-grpc-prometheus, so that stock dashboards show them. Gives a meter for each door.
 * The counts are plain numbers until Prometheus asks: prom-client looks labels up again for each one it is given.
 */
export function createMeters(registry: Registry) {
  const tallies: Tally[] = [];
  const registers = [registry];
  new Counter({
    name: "grpc_server_started_total",
    help: "Calls that began.",
    labelNames: LABELS,
    registers,
    collect() {
      this.reset();
      for (const { labels, started } of tallies) this.inc(labels, started);
    },
  });
  new Counter({
    name: "grpc_server_handled_total",
    help: "Calls that ended, by code.",
    labelNames: [...LABELS, "grpc_code"],
    registers,
    collect() {
      this.reset();
      for (const { labels, handled } of tallies) {
        for (const [grpc_code, count] of handled) this.inc({ ...labels, grpc_code }, count);
      }
    },
  });
  const histogram = {
    name: "grpc_server_handling_seconds",
    help: "Time from the request to the end of the answer.",
    type: "histogram",
    aggregator: "sum",
  };
  const get = () =>
    Promise.resolve({ ...histogram, values: tallies.flatMap((tally) => linesOf(histogram.name, tally)) });
  registry.registerMetric({ ...histogram, get, reset: () => {} } as unknown as Metric);

  return (door: string): Meter => {
    const byMethod = new Map<DescMethod, Tally>();
    const tallyOf = (method: DescMethod) => {
      const known = byMethod.get(method);
      if (known) return known;
      const tally = newTally(door, method);
      byMethod.set(method, tally);
      tallies.push(tally);
      return tally;
    };
    return {
      started(method) {
        tallyOf(method).started += 1;
      },
      handled(method, error, ms) {
        const tally = tallyOf(method);
        const code = error === undefined ? "OK" : Code[error];
        tally.handled.set(code, (tally.handled.get(code) ?? 0) + 1);
        const bucket = BUCKETS_S.findIndex((most) => ms <= most * 1_000);
        const at = bucket < 0 ? BUCKETS_S.length : bucket;
        tally.took[at] = (tally.took[at] ?? 0) + 1;
        tally.seconds += ms / 1_000;
      },
    };
  };
}

const newTally = (door: string, method: DescMethod): Tally => ({
  labels: { door, grpc_type: method.methodKind, grpc_service: method.parent.typeName, grpc_method: method.name },
  started: 0,
  handled: new Map(),
  took: [...BUCKETS_S, Infinity].map(() => 0),
  seconds: 0,
});

function linesOf(name: string, { labels, took, seconds }: Tally) {
  let count = 0;
  const buckets = took.map((more, i) => {
    count += more;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: BUCKETS_S[i] ?? "+Inf" }, value: count };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: seconds },
    { metricName: `${name}_count`, labels, value: count },
  ];
}
