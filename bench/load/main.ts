import { type Answer, drive, ONE } from "../drive.ts";
import { type Workload, workloadOf } from "../workloads.ts";
import { openBatchCalls } from "./batches.ts";
import { openCalls } from "./calls.ts";
import { openJson } from "./json.ts";
import type { Run, Target } from "./load.ts";
import { batchRequests, countMade, grpcRequests, jsonRequests } from "./messages.ts";

/**
 * The load generator, a process of its own: it is told whom to call and then, for each run, with what. It
 * looks at the status of every answer; those that count what was sent are known to lie.
 */

type Caller = (workload: Workload) => Promise<Answer>;

const OK = "0";

async function openCaller({ door, port, key, people, connections, batchSize }: Target): Promise<Caller> {
  switch (door) {
    case "grpc": {
      const call = await openCalls(port, key, connections);
      const next = grpcRequests(people);
      return async (workload) => {
        const status = await call(next(workload));
        return status === OK ? ONE : { made: 0, refusal: `gRPC ${status}` };
      };
    }
    case "batch": {
      const call = await openBatchCalls(port, key);
      const next = batchRequests(people, batchSize);
      return async (workload) => {
        const { status, body } = await call(next(workload));
        const made = status === OK ? countMade(body) : 0;
        return made === batchSize ? { made } : { made, refusal: `gRPC ${status}, ${made} of ${batchSize}` };
      };
    }
    case "json": {
      const call = openJson(port, key, connections);
      const next = jsonRequests(people);
      return async (workload) => {
        const { httpStatus } = await call(next(workload));
        return httpStatus === 200 ? ONE : { made: 0, refusal: `HTTP ${httpStatus}` };
      };
    }
  }
}

let caller: Caller;
let size = 0;

async function answer(message: { target: Target } | { run: Run }) {
  if ("target" in message) {
    caller = await openCaller(message.target);
    size = message.target.people.walletIds.length;
    return "ready";
  }
  const { workload, load } = message.run;
  const chosen = workloadOf(workload, size);
  return drive(load, () => caller(chosen));
}

process.on("message", (message: Parameters<typeof answer>[0]) => {
  void answer(message).then((reply) => process.send?.(reply));
});
process.once("disconnect", () => process.exit());
