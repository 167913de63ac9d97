import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import type { Db } from "../db/database.ts";
import type { GiftRow, TransferRow } from "../db/schema.ts";
import { idAround } from "../id.ts";
import {
  findPostingTime,
  type GiftPart,
  lastSequence,
  listGifts,
  listSends,
  type SendRow,
  type TransferFilter,
  type Window,
} from "./queries.ts";

/** Where a page ended: the sequence of the wallet's posting and the id of the gift before which the next one begins. */
export interface Mark {
  sequence: bigint;
  gift: bigint;
}

export interface HistoryPage {
  rows: (TransferRow | GiftRow)[];
  /** None when this was the last. */
  next: Mark | undefined;
}

const STATES = [
  Transfer_State.COMPLETED,
  Transfer_State.PENDING,
  Transfer_State.DECLINED,
  Transfer_State.CANCELED,
  Transfer_State.EXPIRED,
];

/** Gifts in a state: whatever is written down, one whose time is over waits no more. */
function partsOf(state: Transfer_State): GiftPart[] {
  if (state === Transfer_State.UNSPECIFIED) return STATES.map((each) => ({ state: each }));
  if (state === Transfer_State.PENDING) return [{ state, late: false }];
  if (state === Transfer_State.EXPIRED) return [{ state }, { state: Transfer_State.PENDING, late: true }];
  return [{ state }];
}

/**
 * A wallet's transfers, newest first. What was sent at once is read off its postings, so many of them for a page; gifts
 * have indexes. Each goes on from where the page before ended in it, so none is left out or told twice.
 */
export async function listHistory(
  db: Db,
  filter: TransferFilter & { state: Transfer_State },
  { after, size, spanBefore }: { after: Mark | undefined; size: number; spanBefore: (sequence: bigint) => Window },
): Promise<HistoryPage> {
  const { walletId, state, startTime, endTime } = filter;
  const isSent = state === Transfer_State.UNSPECIFIED || state === Transfer_State.COMPLETED;
  const first = after?.sequence ?? (isSent ? (await lastSequence(db, walletId)) + 1n : FIRST);
  const window = spanBefore(first);
  const latest = endTime ? idAround(endTime, 1) : ID_MAX;
  const ids = {
    after: startTime ? idAround(startTime, -1) : NONE,
    before: after && after.gift < latest ? after.gift : latest,
    now: new Date(),
  };
  const [sends, gifts] = await Promise.all([
    first > FIRST ? listSends(db, filter, window, size) : [],
    after?.gift === NONE ? [] : listGifts(db, filter, partsOf(state), ids, size),
  ]);

  // Sends that were not looked at are older than those that were; gifts as old wait for the page that looks at them.
  const isCut = sends.length < size && window.from > FIRST;
  const since = isCut ? await findPostingTime(db, walletId, window.from) : undefined;
  const rows = mergeNewest(
    sends,
    gifts.filter(({ createTime }) => !since || createTime >= since),
    size,
  );
  const lastSend = rows.findLast(isSend);
  const lastGift = rows.findLast((row) => !isSend(row));
  const sendsLeft = sends.length === size || sends.at(-1) !== lastSend;
  const giftsLeft = gifts.length === size || gifts.at(-1) !== lastGift;
  const next = {
    sequence: sendsLeft ? (lastSend?.sequence ?? first) : window.from,
    gift: giftsLeft ? (lastGift?.id ?? after?.gift ?? ID_MAX) : NONE,
  };
  return { rows, next: next.sequence > FIRST || next.gift > NONE ? next : undefined };
}

/** There are none before these. */
const FIRST = 1n;
const NONE = 0n;
const ID_MAX = 2n ** 63n - 1n;

const isSend = (row: SendRow | GiftRow): row is SendRow => "sequence" in row;

/** The next of each is compared, so that what is taken of each has no gap, even where clocks were apart. */
function mergeNewest(sends: SendRow[], gifts: GiftRow[], limit: number): (SendRow | GiftRow)[] {
  const merged: (SendRow | GiftRow)[] = [];
  for (let s = 0, g = 0; merged.length < limit; ) {
    const send = sends[s];
    const gift = gifts[g];
    const newer = send && (!gift || send.createTime > gift.createTime) ? send : gift;
    if (!newer) break;
    merged.push(newer);
    if (newer === send) s += 1;
    else g += 1;
  }
  return merged;
}
