import { accountJobs } from "./account/jobs.ts";
import type { App } from "./app.ts";
import { auditJobs } from "./audit/jobs.ts";
import { bankJobs } from "./bank/jobs.ts";
import type { Job } from "./job/runner.ts";
import { requestJobs } from "./request/jobs.ts";
import { scheduleJobs } from "./schedule/jobs.ts";
import { transferJobs } from "./transfer/jobs.ts";

/** The table of contents of what a server with the role `worker` does in the background. */
export const jobs = (app: App): Job[] => [
  ...accountJobs(app),
  ...auditJobs(app),
  ...bankJobs(app),
  ...requestJobs(app),
  ...scheduleJobs(app),
  ...transferJobs(app),
];
