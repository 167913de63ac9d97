import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Counter, Histogram, type Registry } from "prom-client";

const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];
const LABELS = ["door", "grpc_type", "grpc_service", "grpc_method"];

export interface Meter {
  started(method: DescMethod): void;
  handled(method: DescMethod, error: Code | undefined, ms: number): void;
}

/** Counts calls under the names of go-grpc-prometheus, so that stock dashboards show them. Gives a meter for each door. */
export function createMeters(registry: Registry) {
  const registers = [registry];
  const started = new Counter({
    name: "grpc_server_started_total",
    help: "Calls that began.",
    labelNames: LABELS,
    registers,
  });
  const handled = new Counter({
    name: "grpc_server_handled_total",
    help: "Calls that ended, by code.",
    labelNames: [...LABELS, "grpc_code"],
    registers,
  });
  const seconds = new Histogram({
    name: "grpc_server_handling_seconds",
    help: "Time from the request to the end of the answer.",
    labelNames: LABELS,
    buckets: SECONDS,
    registers,
  });
  return (door: string): Meter => ({
    started: (method) => started.inc(labelsOf(door, method)),
    handled(method, error, ms) {
      const labels = labelsOf(door, method);
      handled.inc({ ...labels, grpc_code: error === undefined ? "OK" : Code[error] });
      seconds.observe(labels, ms / 1_000);
    },
  });
}

const labelsOf = (door: string, method: DescMethod) => ({
  door,
  grpc_type: method.methodKind,
  grpc_service: method.parent.typeName,
  grpc_method: method.name,
});
