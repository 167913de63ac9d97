import { sendTransfer } from "../../src/transfer/transfer.ts";
import type { Arena } from "../arena.ts";
import { type Contestant, nextTransfer } from "../contestant.ts";
import { drive, ONE } from "../drive.ts";
import type { Settings } from "../settings.ts";

/** (c) The lane: what waits becomes one transaction. */
export function openLaneContestant(arena: Arena, { inFlight }: Settings): Contestant {
  const lane = arena.openLane();
  return {
    inFlight,
    run: (workload, load) =>
      drive(load, async () => {
        const { sender, order } = nextTransfer(arena.people, workload);
        await lane.submit(sendTransfer(sender, order));
        return ONE;
      }),
    close: () => lane.close(),
  };
}
