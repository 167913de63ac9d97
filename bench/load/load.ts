import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { People } from "../arena.ts";
import type { Load, Outcome } from "../drive.ts";

/** Whom the load generator calls, and as whom. */
export interface Target {
  door: "grpc" | "batch" | "json";
  port: number;
  key: string;
  people: People;
  connections: number;
  batchSize: number;
}

export interface Run {
  workload: string;
  load: Load;
}

export interface Generator {
  run(run: Run): Promise<Outcome>;
  close(): void;
}

export async function startGenerator(target: Target): Promise<Generator> {
  const child = fork(join(import.meta.dirname, "main.ts"), { serialization: "advanced" });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the load generator has ended with code ${code}`);
  });
  ended.catch(() => {});
  const ask = async (question: { target: Target } | { run: Run }) => {
    child.send(question);
    const [answer] = await Promise.race([once(child, "message"), ended]);
    return answer as unknown;
  };
  await ask({ target });
  return {
    run: async (run) => (await ask({ run })) as Outcome,
    close: () => child.disconnect(),
  };
}
