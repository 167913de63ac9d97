import { type Entry_Cause, Entry_CauseSchema } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db } from "../db/database.ts";
import { csvLine, harmless } from "./csv.ts";
import { type EntryRow, findMoment, lastSequence, listEntries, type Moment } from "./queries.ts";

/** Entries that are read, and sent, at a time. */
const ENTRIES_MAX = 500;

const HEADER = [
  "time",
  "sequence",
  "amount",
  "balance_after",
  "cause",
  "cause_id",
  "counterparty_wallet_id",
  "memo",
] as const;

/** Where a wallet stood after all entries up to a time that has come. */
export const standAt = async (db: Db, walletId: bigint, time: Date): Promise<Moment> =>
  findMoment(db, walletId, time, await lastSequence(db, walletId));

/**
 * The statement as CSV, oldest first, in pieces: the entries that there are now, from the one time on and before the
 * other. One piece is in memory at a time, and the next is read when it is asked for.
 */
export async function* exportStatement(
  db: Db,
  walletId: bigint,
  { startTime, endTime }: { startTime: Date | undefined; endTime: Date | undefined },
): AsyncGenerator<string> {
  const upTo = await lastSequence(db, walletId);
  const standBefore = (time: Date) => findMoment(db, walletId, new Date(time.getTime() - 1), upTo);
  const last = endTime ? (await standBefore(endTime)).sequence : upTo;
  let from = startTime ? (await standBefore(startTime)).sequence + 1n : 1n;

  let lines = csvLine(HEADER);
  do {
    const before = from + BigInt(ENTRIES_MAX) <= last ? from + BigInt(ENTRIES_MAX) : last + 1n;
    const entries = await listEntries(db, {
      walletId,
      from,
      before,
      startTime: undefined,
      endTime: undefined,
      ascending: true,
      limit: ENTRIES_MAX,
    });
    yield lines + entries.map(toLine).join("");
    lines = "";
    from = before;
  } while (from <= last);
}

const toLine = (entry: EntryRow): string =>
  csvLine([
    entry.createTime.toISOString(),
    String(entry.sequence),
    String(entry.amount),
    String(entry.balanceAfter),
    Entry_CauseSchema.value[entry.cause as Entry_Cause]?.localName ?? "",
    String(entry.causeId),
    String(entry.counterpartyWalletId),
    harmless(entry.memo),
  ]);
