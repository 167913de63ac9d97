import { Reason } from "../../gen/chatpay/error/v1/error_pb.ts";
import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { Db } from "../db/database.ts";
import type { GiftRow } from "../db/schema.ts";
import { reasonOf, shortWalletOf } from "../errors.ts";
import type { Command, Settled } from "../ledger/command.ts";
import type { Call, Lane } from "../ledger/lane.ts";
import { declineGift, expireGift, handOver } from "./gift.ts";
import { listGiftsReceived, listGiftsSent, listLateGifts, type Side } from "./queries.ts";
import type { Sender } from "./transfer.ts";

/** Gifts that wait, for those who need the money that they set aside, and for accounts that close. */
export type WaitingGifts = ReturnType<typeof openWaitingGifts>;

/** What waits of a wallet's gifts. */
export interface Waiting {
  sent: Pick<GiftRow, "id" | "holdId">[];
  received: Pick<GiftRow, "id">[];
  /** More may wait for the wallet: nobody can keep others from giving. */
  more: boolean;
}

/** So many of those that wait for a wallet are looked at. */
const RECEIVED_MAX = 1_000;
/** Gifts that are ended in one go. */
const BATCH_MAX = 256;

/** `lane` is the ledger's own. */
export function openWaitingGifts({ db, lane }: { db: Db; lane: Lane }) {
  /** Ends the gifts of a side of a wallet whose time is over, if the job has not got to them. Whether there were any. */
  async function endLate(side: Side, walletId: bigint): Promise<boolean> {
    for (let ended = false; ; ended = true) {
      const late = await listLateGifts(db, side, walletId, new Date(), BATCH_MAX);
      const outcomes = await lane.submitEach(late.map(expireGift));
      const failed = outcomes.find(({ error }) => error !== undefined);
      if (failed) throw failed.error;
      if (!outcomes.some(({ result }) => result && result.value.state !== Transfer_State.PENDING)) return ended;
    }
  }

  return {
    /** The lane as all others have it: see `releasing`. */
    lane: releasing(lane, (walletId) => endLate("sender", walletId)),

    /** Ends what is over of a wallet's gifts, given and received. */
    async endLate(walletId: bigint): Promise<void> {
      await endLate("sender", walletId);
      await endLate("recipient", walletId);
    },

    async list(walletId: bigint): Promise<Waiting> {
      const sent = await listGiftsSent(db, walletId);
      const received = await listGiftsReceived(db, walletId, RECEIVED_MAX);
      return { sent, received, more: received.length === RECEIVED_MAX };
    },

    /** Declines all that waits for somebody who leaves. */
    async returnReceipts({ walletId, ...actor }: Pick<Sender, "walletId" | "keyId">, call: Call): Promise<void> {
      for (;;) {
        const gifts = await listGiftsReceived(db, walletId, BATCH_MAX);
        if (gifts.length === 0) return;
        const commands = gifts.map((gift) => declineGift(gift, actor));
        const failed = (await lane.submitEach(commands, call)).find(({ error }) => !isOver(error));
        if (failed) throw failed.error;
        await endLate("recipient", walletId);
      }
    },

    handOver,
  };
}

/** Whether a gift was declined, or waits no more. */
const isOver = (error: unknown) => error === undefined || reasonOf(error) === Reason.TRANSFER_ENDED;

/**
 * A lane in which a debit that finds too little has those gifts of its wallet ended whose time is over, and is tried
 * once more: their money is the sender's again, also when the job is late.
 */
function releasing(lane: Lane, release: (walletId: bigint) => Promise<boolean>): Lane {
  async function isReleased(errors: unknown[]): Promise<boolean> {
    let released = false;
    for (const walletId of new Set(errors.map(shortWalletOf))) {
      if (walletId !== undefined && (await release(walletId))) released = true;
    }
    return released;
  }

  return {
    ...lane,
    async submit(command, call) {
      try {
        return await lane.submit(command, call);
      } catch (error) {
        if (!(await isReleased([error]))) throw error;
        return lane.submit(command, call);
      }
    },
    async submitEach<T>(commands: Command<T>[], call?: Call) {
      const outcomes = await lane.submitEach(commands, call);
      const isShort = ({ error }: Settled<T>) => shortWalletOf(error) !== undefined;
      const short = commands.filter((_, i) => isShort(outcomes[i] as Settled<T>));
      try {
        if (!(await isReleased(outcomes.map(({ error }) => error)))) return outcomes;
        const again = await lane.submitEach(short, call);
        return outcomes.map((outcome) => (isShort(outcome) ? (again.shift() as Settled<T>) : outcome));
      } catch (error) {
        // The others have happened, so this must not be the answer to all.
        return outcomes.map((outcome) => (isShort(outcome) ? { error } : outcome));
      }
    },
    async submitTogether(commands, call) {
      const outcomes = await lane.submitTogether(commands, call);
      return (await isReleased(outcomes.map(({ error }) => error))) ? lane.submitTogether(commands, call) : outcomes;
    },
  };
}
