import { ScheduledTransfer_State } from "../../gen/chatpay/transfer/v1/schedule_pb.ts";
import type { App } from "../app.ts";
import { listScheduled } from "./queries.ts";
import { abandonTransfer } from "./schedule.ts";

/** As many as there may be of an account, and more. */
const LEFT_MAX = 1_000;

/** Cancels what somebody had scheduled who closed their account. It could not be sent: the wallet is closed. */
export async function cancelScheduledOf({ db, lane }: Pick<App, "db" | "lane">, accountId: bigint): Promise<void> {
  const left = await listScheduled(db, { accountId, state: ScheduledTransfer_State.SCHEDULED, limit: LEFT_MAX });
  await Promise.all(left.map((row) => lane.submit(abandonTransfer(row))));
}
