import { type RawBuilder, sql } from "kysely";
import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Db } from "../db/database.ts";
import type { Waiting } from "../db/leases.ts";
import { type GiftRow, HOUSE, type TransferRow } from "../db/schema.ts";
import type { CountSource, HoldSource, PostingSource } from "../ledger/verify.ts";

export const findTransfer = (db: Db, id: bigint): Promise<TransferRow | undefined> =>
  db.selectFrom("transfer").selectAll().where("id", "=", id).executeTakeFirst();

/** The transfer, if one of the account's wallets is a party to it. */
export const findTransferOf = (db: Db, accountId: bigint, id: bigint): Promise<TransferRow | undefined> =>
  db
    .selectFrom("transfer")
    .selectAll()
    .where("id", "=", id)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom("wallet")
          .select("wallet.id")
          .where("wallet.accountId", "=", accountId)
          .where((on) =>
            on.or([
              on("wallet.id", "=", on.ref("transfer.senderWalletId")),
              on("wallet.id", "=", on.ref("transfer.recipientWalletId")),
            ]),
          ),
      ),
    )
    .executeTakeFirst();

/** Those of the keys under which a transfer was made. */
export async function listUsedKeys(db: Db, keys: Buffer[]): Promise<Buffer[]> {
  const made = await db.selectFrom("transfer").select("idempotencyKey").where("idempotencyKey", "in", keys).execute();
  return made.map(({ idempotencyKey }) => idempotencyKey);
}

/** So many of a wallet's last payments are looked through for those whom it has sent money. */
const PAYMENTS_MAX = 10_000;

/** Those of the wallets to which this one has sent money lately. */
export async function listKnownRecipients(
  db: Db,
  senderWalletId: bigint,
  recipientWalletIds: bigint[],
): Promise<Set<bigint>> {
  const known = await db
    .selectFrom((on) =>
      on
        .selectFrom("posting")
        .select(["creditWalletId", "cause"])
        .where("debitWalletId", "=", senderWalletId)
        .orderBy("debitSequence", "desc")
        .limit(PAYMENTS_MAX)
        .as("payment"),
    )
    .select("creditWalletId")
    .distinct()
    .where("creditWalletId", "in", recipientWalletIds)
    .where("cause", "in", [Entry_Cause.TRANSFER, Entry_Cause.GIFT])
    .execute();
  return new Set(known.map(({ creditWalletId }) => creditWalletId));
}

/** On which side of its transfers a wallet stands. */
export type Side = "sender" | "recipient";

export interface TransferFilter {
  walletId: bigint;
  sides: Side[];
  counterparty: bigint | undefined;
  startTime: Date | undefined;
  endTime: Date | undefined;
}

/** Sequences of the wallet: from (included) and to (not included). */
export interface Window {
  from: bigint;
  before: bigint;
}

export type SendRow = TransferRow & { sequence: bigint };

/** What a wallet sent and was sent at once, newest first, read off its postings: no index of their own is needed. */
export async function listSends(db: Db, filter: TransferFilter, window: Window, limit: number): Promise<SendRow[]> {
  const sides = await Promise.all(filter.sides.map((side) => listSide(db, side, filter, window, limit)));
  return sides
    .flat()
    .sort((a, b) => (a.sequence > b.sequence ? -1 : 1))
    .slice(0, limit);
}

const POSTING_SIDE = { sender: "debit", recipient: "credit" } as const;

function listSide(
  db: Db,
  of: Side,
  filter: TransferFilter,
  { from, before }: Window,
  limit: number,
): Promise<SendRow[]> {
  const side = POSTING_SIDE[of];
  const other = side === "debit" ? "credit" : "debit";
  let query = db
    .selectFrom("posting")
    .innerJoin("transfer", "transfer.id", "posting.causeId")
    .selectAll("transfer")
    .select(`posting.${side}Sequence as sequence`)
    .where(`posting.${side}WalletId`, "=", filter.walletId)
    .where(`posting.${side}Sequence`, ">=", from)
    .where(`posting.${side}Sequence`, "<", before)
    .where("posting.cause", "=", Entry_Cause.TRANSFER);
  if (filter.counterparty !== undefined) query = query.where(`posting.${other}WalletId`, "=", filter.counterparty);
  if (filter.startTime) query = query.where("posting.createTime", ">=", filter.startTime);
  if (filter.endTime) query = query.where("posting.createTime", "<", filter.endTime);
  return query.orderBy(`posting.${side}Sequence`, "desc").limit(limit).execute();
}

/** When the wallet's posting with this sequence was made. */
export async function findPostingTime(db: Db, walletId: bigint, sequence: bigint): Promise<Date | undefined> {
  const ofSide = (side: "debit" | "credit") =>
    db
      .selectFrom("posting")
      .select("createTime")
      .where(`${side}WalletId`, "=", walletId)
      .where(`${side}Sequence`, "=", sequence);
  const found = await ofSide("debit").unionAll(ofSide("credit")).executeTakeFirst();
  return found?.createTime;
}

/** The sequence of the wallet's last posting. */
export async function lastSequence(db: Db, walletId: bigint): Promise<bigint> {
  const wallet = await db.selectFrom("wallet").select("sequence").where("id", "=", walletId).executeTakeFirst();
  return wallet?.sequence ?? 0n;
}

/** What VerifyBooks expects of transfers: one posting each. */
export const transferPostings: PostingSource = {
  cause: Entry_Cause.TRANSFER,
  name: "transfer",
  select: "select id, sender_wallet_id, recipient_wallet_id, amount from transfer",
  idColumn: "id",
};

// Gifts

export const findGift = (db: Db, id: bigint): Promise<GiftRow | undefined> =>
  db.selectFrom("gift").selectAll().where("id", "=", id).executeTakeFirst();

/** The gift, if the account is a party to it. */
export const findGiftOf = (db: Db, accountId: bigint, id: bigint): Promise<GiftRow | undefined> =>
  db
    .selectFrom("gift")
    .selectAll()
    .where("id", "=", id)
    .where((on) => on.or([on("senderAccountId", "=", accountId), on("recipientAccountId", "=", accountId)]))
    .executeTakeFirst();

/** Whether a gift was made under the key. */
export async function isGiftKeyUsed(db: Db, key: Buffer): Promise<boolean> {
  const made = await db.selectFrom("gift").select("id").where("idempotencyKey", "=", key).executeTakeFirst();
  return made !== undefined;
}

/** Gifts in a state as it is stored; of those that are pending all, or only those whose time is over, or not. */
export interface GiftPart {
  state: Transfer_State;
  late?: boolean;
}

export interface GiftWindow {
  /** Ids between these two, neither included. */
  after: bigint;
  before: bigint;
  now: Date;
}

/**
 * Gifts that a wallet gave and was given, newest first. Each part of each side is the end of a range of an index, so a
 * page costs the same however many gifts there are. MySQL is told which, because it would rather intersect two of them.
 */
export async function listGifts(
  db: Db,
  filter: TransferFilter,
  parts: GiftPart[],
  window: GiftWindow,
  limit: number,
): Promise<GiftRow[]> {
  const ranges = filter.sides.flatMap((side) => parts.map((part) => giftRange(side, part, filter, window, limit)));
  if (ranges.length === 0) return [];
  const { rows } = await sql<GiftRow>`${sql.join(ranges, sql` union all `)} order by id desc limit ${limit}`.execute(
    db,
  );
  return rows;
}

function giftRange(
  side: Side,
  { state, late }: GiftPart,
  { walletId, counterparty, startTime, endTime }: TransferFilter,
  { after, before, now }: GiftWindow,
  limit: number,
): RawBuilder<unknown> {
  const other = side === "sender" ? "recipient" : "sender";
  const index = counterparty === undefined ? `gift_${side}` : "gift_pair";
  const conditions = [
    sql`${sql.ref(`${side}_wallet_id`)} = ${walletId}`,
    sql`state = ${state}`,
    sql`id > ${after} and id < ${before}`,
  ];
  if (counterparty !== undefined) conditions.push(sql`${sql.ref(`${other}_wallet_id`)} = ${counterparty}`);
  if (late !== undefined) conditions.push(late ? sql`expire_time <= ${now}` : sql`expire_time > ${now}`);
  if (startTime) conditions.push(sql`create_time >= ${startTime}`);
  if (endTime) conditions.push(sql`create_time < ${endTime}`);
  return sql`(select * from gift force index (${sql.ref(index)}) where ${sql.join(conditions, sql` and `)} order by id desc limit ${limit})`;
}

/** A wallet's gifts that wait, with what holds their money. */
export const listGiftsSent = (db: Db, walletId: bigint): Promise<Pick<GiftRow, "id" | "holdId">[]> =>
  db
    .selectFrom("gift")
    .select(["id", "holdId"])
    .where("senderWalletId", "=", walletId)
    .where("state", "=", Transfer_State.PENDING)
    .where("handOverTime", "is", null)
    .execute();

/** Gifts that wait for a wallet, oldest first. */
export const listGiftsReceived = (db: Db, walletId: bigint, limit: number): Promise<GiftRow[]> =>
  db
    .selectFrom("gift")
    .selectAll()
    .where("recipientWalletId", "=", walletId)
    .where("state", "=", Transfer_State.PENDING)
    .orderBy("id")
    .limit(limit)
    .execute();

/** Gifts from or to a wallet whose time is over, though nobody has written that down yet. */
export const listLateGifts = (db: Db, side: Side, walletId: bigint, now: Date, limit: number): Promise<GiftRow[]> =>
  db
    .selectFrom("gift")
    .selectAll()
    .where(`${side}WalletId`, "=", walletId)
    .where("state", "=", Transfer_State.PENDING)
    .where("expireTime", "<=", now)
    .limit(limit)
    .execute();

/** Gifts of all wallets whose time is over, those that were first before others, but for some. */
export const listExpiredGifts = (db: Db, now: Date, but: bigint[], limit: number): Promise<GiftRow[]> =>
  db
    .selectFrom("gift")
    .selectAll()
    .where("state", "=", Transfer_State.PENDING)
    .where("expireTime", "<=", now)
    .$if(but.length > 0, (query) => query.where("id", "not in", but))
    .orderBy("expireTime")
    .limit(limit)
    .execute();

/** Gifts of which people are to be reminded, the same way. */
export const listGiftsToRemindOf = (db: Db, now: Date, but: bigint[], limit: number): Promise<GiftRow[]> =>
  db
    .selectFrom("gift")
    .selectAll()
    .where("remindTime", "<=", now)
    .$if(but.length > 0, (query) => query.where("id", "not in", but))
    .orderBy("remindTime")
    .limit(limit)
    .execute();

/** Where more wait, so many are counted. */
const COUNT_MAX = 1_000;

export const measureExpiredGifts = (db: Db, now: Date): Promise<Waiting> =>
  measure(
    db,
    now,
    sql`select expire_time as due from gift where state = ${Transfer_State.PENDING} and expire_time <= ${now}
        order by expire_time limit ${COUNT_MAX}`,
  );

export const measureGiftsToRemindOf = (db: Db, now: Date): Promise<Waiting> =>
  measure(
    db,
    now,
    sql`select remind_time as due from gift where remind_time <= ${now} order by remind_time limit ${COUNT_MAX}`,
  );

async function measure(db: Db, now: Date, due: RawBuilder<unknown>): Promise<Waiting> {
  const { rows } = await sql<{ count: bigint; oldest: Date | null }>`
    select count(*) as count, min(due) as oldest from (${due}) waiting`.execute(db);
  const oldest = rows[0]?.oldest;
  return { count: Number(rows[0]?.count ?? 0), oldestMs: oldest ? now.getTime() - oldest.getTime() : 0 };
}

/** What VerifyBooks expects of gifts: those that were accepted made one posting each, from whoever had the money. */
export const giftPostings: PostingSource = {
  cause: Entry_Cause.GIFT,
  name: "gift",
  select: `select id, if(hand_over_time is null, sender_wallet_id, ${HOUSE}), recipient_wallet_id, amount
           from (select * from gift where state = ${Transfer_State.COMPLETED}) as accepted`,
  idColumn: "id",
};

/** Those that were handed over made one to the house. */
export const handOverPostings: PostingSource = {
  cause: Entry_Cause.GIFT_HAND_OVER,
  name: "handed over gift",
  select: `select id, sender_wallet_id, ${HOUSE}, amount
           from (select * from gift where hand_over_time is not null) as handed_over`,
  idColumn: "id",
};

const IS_WAITING = `state = ${Transfer_State.PENDING}`;

/** Each has a hold, which is open as long as the gift waits with its sender. */
export const giftHolds: HoldSource = {
  cause: Entry_Cause.GIFT,
  name: "gift",
  select: `select id, hold_id, sender_wallet_id, amount, ${IS_WAITING} and hand_over_time is null from gift`,
  idColumn: "id",
};

/** What is handed over is its sender's no more. */
export const sentGiftCounts: CountSource = {
  name: "given that wait",
  rows: "gifts",
  select: `select id, gifts_sent, (select count(*) from gift where sender_wallet_id = allowance.id and ${IS_WAITING}
             and hand_over_time is null)
           from allowance`,
  idColumn: "id",
};

export const receivedGiftCounts: CountSource = {
  name: "received that wait",
  rows: "gifts",
  select: `select id, gifts_received, (select count(*) from gift where recipient_wallet_id = allowance.id and ${IS_WAITING})
           from allowance`,
  idColumn: "id",
};
