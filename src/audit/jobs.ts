import type { App } from "../app.ts";
import { idAround } from "../id.ts";
import { periodic, sweep } from "../job/periodic.ts";
import { deleteRecords } from "./queries.ts";

const HOUR_MS = 60 * 60_000;
const DAY_MS = 24 * HOUR_MS;

/** The trail goes back as far as it is configured to, and without an end if it is not. */
export function auditJobs({ db, config: { auditDays } }: Pick<App, "db" | "config">) {
  if (auditDays === 0) return [];
  const deleteOld = sweep((limit) => {
    const end = new Date(Date.now() - auditDays * DAY_MS);
    return deleteRecords(db, { end, beforeId: idAround(end, 1) }, limit);
  });
  return [periodic(db, { name: "audit.records", everyMs: HOUR_MS, run: deleteOld })];
}
