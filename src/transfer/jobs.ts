import { ConnectError } from "@connectrpc/connect";
import type { App } from "../app.ts";
import type { Db } from "../db/database.ts";
import type { Waiting } from "../db/leases.ts";
import type { GiftRow } from "../db/schema.ts";
import type { Item, Job } from "../job/runner.ts";
import type { Command } from "../ledger/command.ts";
import { expireGift, remindOf } from "./gift.ts";
import { listExpiredGifts, listGiftsToRemindOf, measureExpiredGifts, measureGiftsToRemindOf } from "./queries.ts";

/** Gifts in one go. */
const BATCH_MAX = 256;
/** With what a run takes, a gift is ended well within 5 seconds of its time. */
const IDLE_MS = 1_000;
/** One with which something is wrong is left alone for so long, so many of them at most. */
const FAILED_MS = 10 * 60_000;
const FAILED_MAX = 1_000;

/** What is done with gifts when their time has come. */
export const transferJobs = (app: App): Job[] => [
  dueGifts(app, {
    name: "transfer.expire",
    list: listExpiredGifts,
    measure: measureExpiredGifts,
    command: expireGift,
  }),
  dueGifts(app, {
    name: "transfer.remind",
    list: listGiftsToRemindOf,
    measure: measureGiftsToRemindOf,
    command: remindOf,
  }),
];

interface DueGifts {
  name: string;
  list(db: Db, now: Date, but: bigint[], limit: number): Promise<GiftRow[]>;
  measure(db: Db, now: Date): Promise<Waiting>;
  /** What is done with each; it does nothing the second time. */
  command(gift: GiftRow): Command<GiftRow>;
}

/**
 * A command for each gift that is due, many in one go. Nothing is leased: of processes that take the same gifts each
 * finds done what another was first to do, and when one dies nobody waits for it.
 */
function dueGifts(
  { db, lane, log }: App,
  { name, list, measure, command }: DueGifts,
): Job<Item & { gifts: GiftRow[] }> {
  /** Gifts with which something is wrong, and when they are tried again. */
  const failed = new Map<bigint, number>();
  let restUntilMs = 0;

  return {
    name,
    async claim() {
      const nowMs = Date.now();
      if (nowMs < restUntilMs) return [];
      for (const [id, untilMs] of failed) if (untilMs <= nowMs) failed.delete(id);
      const gifts = await list(db, new Date(nowMs), [...failed.keys()], BATCH_MAX);
      return gifts.length === 0 ? [] : [{ id: `${gifts.length} gifts`, tries: 1, gifts }];
    },
    async run({ gifts }) {
      const outcomes = await lane.submitEach(gifts.map(command));
      const refused = outcomes.find(({ error }) => error instanceof ConnectError);
      if (refused) throw refused.error;
      outcomes.forEach(({ error: err }, i) => {
        if (err === undefined) return;
        const id = gifts[i]?.id ?? 0n;
        log.error({ err, job: name, gift: String(id) }, "something is wrong with a gift; it is tried again later");
        if (failed.size < FAILED_MAX) failed.set(id, Date.now() + FAILED_MS);
      });
      return outcomes.some(({ result }) => result) ? "done" : "later";
    },
    async putOff(_, dueTime) {
      restUntilMs = dueTime.getTime();
    },
    measure: () => measure(db, new Date()),
    runsMax: 1,
    timeoutMs: 30_000,
    idleMs: IDLE_MS,
  };
}
