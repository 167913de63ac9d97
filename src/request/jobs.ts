import type { App } from "../app.ts";
import type { MoneyRequestRow } from "../db/schema.ts";
import type { Item, Job } from "../job/runner.ts";
import { claimExpiring, listParts, measureExpiring, putOffExpiring } from "./queries.ts";
import { endRequest } from "./request.ts";

/** Requests for money end when their time is over. */
export function requestJobs({ db, lane }: App): Job[] {
  const expire: Job<MoneyRequestRow & Item> = {
    name: "request.expire",
    claim: (claim) => claimExpiring(db, claim),
    async run(row) {
      await lane.submit(endRequest(row, await listParts(db, row.id), "expired"));
      return "done";
    },
    putOff: (row, dueTime) => putOffExpiring(db, row, dueTime),
    measure: () => measureExpiring(db),
    runsMax: 20,
    timeoutMs: 30_000,
    idleMs: 2_000,
  };
  return [expire];
}
