import type { Arena } from "../arena.ts";
import type { Contestant } from "../contestant.ts";
import { startGenerator, type Target } from "../load/load.ts";
import { type Memory, startChatPay } from "../server.ts";
import type { Settings } from "../settings.ts";

/** A contestant that is a whole server, called by another process. */
export interface ServedContestant extends Contestant {
  connectPort: number;
  memory(): Promise<Memory>;
}

/** (d) One SendTransfer per call through gRPC. */
export const openUnary = (arena: Arena, { inFlight, sessions }: Settings, environment?: NodeJS.ProcessEnv) =>
  open(arena, { door: "grpc", inFlight, connections: sessions }, environment);

/** (e) The same as Connect JSON. */
export const openJson = (arena: Arena, { sockets }: Settings) =>
  open(arena, { door: "json", inFlight: sockets, connections: sockets });

/** (f) BatchSendTransfers through gRPC. */
export const openBatches = (arena: Arena, { batchCalls, batchSize }: Settings) =>
  open(arena, { door: "batch", inFlight: batchCalls, connections: 1, batchSize });

interface Way {
  door: Target["door"];
  inFlight: number;
  connections: number;
  batchSize?: number;
}

/** Each has a server of its own, so that the memory of one says nothing of the others. */
async function open(
  arena: Arena,
  { door, inFlight, connections, batchSize = 1 }: Way,
  environment?: NodeJS.ProcessEnv,
): Promise<ServedContestant> {
  const server = await startChatPay(arena, environment);
  const port = door === "json" ? server.connectPort : server.grpcPort;
  const { key } = server;
  const generator = await startGenerator({ door, port, key, people: arena.people, connections, batchSize });
  return {
    inFlight,
    connectPort: server.connectPort,
    run: ({ name }, load) => generator.run({ workload: name, load }),
    memory: server.memory,
    async close() {
      generator.close();
      await server.stop();
    },
  };
}
