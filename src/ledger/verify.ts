import { createHash, type Hash } from "node:crypto";
import { Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { HoldRow, PostingRow, Row } from "../db/schema.ts";
import { openSession, type Session } from "../db/session.ts";
import { followChain } from "./chain.ts";
import { contentHash, type Head, postingText, unpackEvents } from "./queries.ts";
import {
  beginSnapshot,
  type HolderRow,
  hasBatch,
  readBatches,
  readCounts,
  readHead,
  readHeld,
  readHolders,
  readHolds,
  readPostings,
  readSide,
  readSource,
  readWallets,
  type SideRow,
  type SourceRow,
} from "./snapshot.ts";

/**
 * The proof of the books: what is stored more than once is read from each place and compared, as it
 * stands at one moment, while the system goes on. Memory does not grow with the tables.
 */

/** Rows of a domain that each moved money once. */
export interface PostingSource {
  /** Entry_Cause of the proto. */
  cause: number;
  name: string;
  /** Gives id, debited wallet, credited wallet and amount; a condition on the id, an order and a limit follow. */
  select: string;
  idColumn: string;
}

/** Rows of a domain for which money of a wallet is set aside while they are open. */
export interface HoldSource {
  /** Entry_Cause of the proto. */
  cause: number;
  name: string;
  /**
   * Gives id, hold (0 for none), wallet, amount that the hold was made with (0 where the row does not say), and 1 while the
   * row is open, of all rows that need a hold or have one; a condition on the id, an order and a limit follow.
   */
  select: string;
  idColumn: string;
}

/** What a domain counts of its rows. */
export interface CountSource {
  /** What is counted, and the rows. */
  name: string;
  rows: string;
  /** Gives a wallet, what is counted of it, and what the rows make; a condition on the wallet, an order and a limit follow. */
  select: string;
  idColumn: string;
}

/** What the domains say of themselves. */
export interface Sources {
  postings: PostingSource[];
  holds: HoldSource[];
  counts: CountSource[];
}

export interface Difference {
  check: "batches" | "wallets" | "totals" | "causes" | "holds" | "counts";
  subject: string;
  message: string;
}

export interface Report {
  clean: boolean;
  differenceCount: number;
  walletCount: number;
  postingCount: number;
  batchCount: number;
  position: bigint;
  readTime: Date;
}

export type Finding =
  | { kind: "progress"; check: string; rows: number }
  | ({ kind: "difference" } & Difference)
  | ({ kind: "report" } & Report);

const ID_MAX = 2n ** 63n - 1n;
/** What has expired is ended by a job, soon. */
const EXPIRED_MS = 24 * 60 * 60_000;
/** Whoever reads the findings may be slow. */
const READER_PATIENCE_S = 3_600;
const DIFFERENCES_MAX = 1_000;
const PROGRESS_MS = 1_000;
const PAGE_ROWS = 5_000;
const BATCHES_PAGE_ROWS = 200;

/** What the checks share: where differences go, and what has been counted. */
export interface Tally {
  walletCount: number;
  postingCount: number;
  batchCount: number;
  differ(check: Difference["check"], subject: string, message: string): void;
}

/** Checks all books as of now. Yields progress and differences as they come, and a report at the end. */
export async function* verifyBooks(databaseUrl: string, sources: Sources): AsyncGenerator<Finding> {
  const session = await openSession(databaseUrl, READER_PATIENCE_S);
  try {
    const readTime = new Date();
    await beginSnapshot(session);
    const head = await readHead(session);
    let differenceCount = 0;
    let found: Finding[] = [];
    const tally: Tally = {
      walletCount: 0,
      postingCount: 0,
      batchCount: 0,
      differ(check, subject, message) {
        differenceCount += 1;
        if (differenceCount <= DIFFERENCES_MAX) found.push({ kind: "difference", check, subject, message });
      },
    };

    const checks = [
      { check: "batches", steps: checkLog(session, head, sources.postings, tally) },
      { check: "wallets", steps: checkWallets(session, tally) },
      { check: "holds", steps: checkHolds(session, sources.holds, readTime, tally) },
      { check: "counts", steps: checkCounts(session, sources.counts, tally) },
    ];
    for (const { check, steps } of checks) {
      let rows = 0;
      let toldMs = -Infinity;
      for await (const more of steps) {
        rows += more;
        if (performance.now() - toldMs > PROGRESS_MS) {
          toldMs = performance.now();
          found.push({ kind: "progress", check, rows });
        }
        yield* found;
        found = [];
      }
    }
    yield* found;
    const { walletCount, postingCount, batchCount } = tally;
    const { position } = head;
    const clean = differenceCount === 0;
    yield { kind: "report", clean, differenceCount, walletCount, postingCount, batchCount, position, readTime };
  } finally {
    session.destroy();
  }
}

interface OpenBatch {
  batch: Row<"ledgerBatch">;
  postings: number;
  digest: Hash;
}

/** Ids carry the number of the process that made them; a process writes one batch after the other. */
const slotOf = (id: bigint) => (id >> 12n) & 1023n;

/**
 * Every posting belongs to a batch and to the row that caused it, and every batch says what it wrote.
 * Batches, postings and causes are all read in the order of their ids, which is nearly that of their commits.
 */
async function* checkLog(session: Session, head: Head, sources: PostingSource[], tally: Tally): AsyncGenerator<number> {
  const chain = followChain(head, tally, (number) => hasBatch(session, number));
  const open = new Map<bigint, OpenBatch>();
  const bySlot = new Map<bigint, OpenBatch>();
  const batches = reader((after: Row<"ledgerBatch"> | undefined) =>
    readBatches(session, after?.id ?? 0n, BATCHES_PAGE_ROWS),
  );
  const postings = reader((after: PostingRow | undefined) => readPostings(session, after?.id ?? 0n, PAGE_ROWS));
  const causes = new Map(sources.map((source) => [source.cause, followCause(session, source, tally)]));

  const close = async ({ batch, ...seen }: OpenBatch) => {
    open.delete(batch.id);
    const subject = `batch ${batch.number}`;
    if (seen.postings !== batch.postingCount) {
      tally.differ("batches", subject, `says ${batch.postingCount} postings, ${seen.postings} are there`);
    }
    const events = readEvents(batch);
    if (events.count !== batch.eventCount) {
      tally.differ(
        "batches",
        subject,
        `says ${batch.eventCount} events, ${events.count ?? "unreadable ones"} are there`,
      );
    }
    await chain.add(batch, contentHash(batch, seen.digest.digest(), events.text));
  };
  /** The chain must not wait for the next batch of a process that may be idle for long. */
  const closeWhole = async (opened: OpenBatch) => {
    if (opened.postings === opened.batch.postingCount) await close(opened);
  };
  const begin = async (batch: Row<"ledgerBatch">) => {
    if (batch.number === null) return;
    tally.batchCount += 1;
    const before = bySlot.get(slotOf(batch.id));
    if (before && open.has(before.batch.id)) await close(before);
    const opened = { batch, postings: 0, digest: createHash("sha256") };
    bySlot.set(slotOf(batch.id), opened);
    open.set(batch.id, opened);
    await closeWhole(opened);
  };

  for (let posting = await postings.next(); posting; posting = await postings.next()) {
    for (let batch = await batches.peek(); batch && batch.id < posting.id; batch = await batches.peek()) {
      await begin(batch);
      await batches.next();
    }
    tally.postingCount += 1;
    const batch = open.get(posting.batchId);
    if (batch) {
      batch.digest.update(batch.postings === 0 ? postingText(posting) : `,${postingText(posting)}`);
      batch.postings += 1;
      await closeWhole(batch);
    } else {
      const message = `its batch ${posting.batchId} is not there, or has all its postings`;
      tally.differ("batches", `posting ${posting.id}`, message);
    }
    const cause = causes.get(posting.cause);
    if (cause) await cause.match(posting);
    else tally.differ("causes", `posting ${posting.id}`, `cause ${posting.cause} is not known`);
    if (tally.postingCount % PAGE_ROWS === 0) yield PAGE_ROWS;
  }
  for (let batch = await batches.next(); batch; batch = await batches.next()) {
    await begin(batch);
    yield 0;
  }
  for (const left of open.values()) await close(left);
  chain.end();
  for (const cause of causes.values()) await cause.end();
  yield tally.postingCount % PAGE_ROWS;
}

function readEvents(batch: Row<"ledgerBatch">): { text: string; count: number | undefined } {
  try {
    const text = unpackEvents(batch.events);
    return { text, count: (JSON.parse(text) as unknown[]).length };
  } catch {
    return { text: "", count: undefined };
  }
}

/** A row is made before its posting, so it has the smaller id: rows are read up to the posting's. */
function followCause(session: Session, source: PostingSource, tally: Tally) {
  const rows = reader((after: SourceRow | undefined) => readSource(session, source, after?.id ?? 0n, PAGE_ROWS));
  const unmatched = new Map<bigint, SourceRow>();
  return {
    async match(posting: PostingRow) {
      for (let row = await rows.peek(); row && row.id < posting.id; row = await rows.peek()) {
        unmatched.set(row.id, row);
        await rows.next();
      }
      const row = unmatched.get(posting.causeId);
      unmatched.delete(posting.causeId);
      const subject = `posting ${posting.id}`;
      if (!row)
        return tally.differ(
          "causes",
          subject,
          `its ${source.name} ${posting.causeId} is not there, or was posted before`,
        );
      const fits =
        row.debitWalletId === posting.debitWalletId &&
        row.creditWalletId === posting.creditWalletId &&
        row.amount === posting.amount;
      if (!fits) tally.differ("causes", subject, `differs from its ${source.name} ${row.id} in wallets or amount`);
    },
    async end() {
      for (let row = await rows.next(); row; row = await rows.next()) unmatched.set(row.id, row);
      for (const { id } of unmatched.values()) tally.differ("causes", `${source.name} ${id}`, "moved no money");
    },
  };
}

/** Every wallet is what its postings and open holds make of it. */
async function* checkWallets(session: Session, tally: Tally): AsyncGenerator<number> {
  const debits = reader((after: SideRow | undefined) => readSide(session, "debit", after, PAGE_ROWS));
  const credits = reader((after: SideRow | undefined) => readSide(session, "credit", after, PAGE_ROWS));
  const totals = new Map<string, bigint>();
  let afterId = 0n;

  /** The next entry in the order of wallets and sequences, of those up to this wallet. */
  async function nextEntry(walletId: bigint | undefined): Promise<(SideRow & { change: bigint }) | undefined> {
    const debit = await debits.peek();
    const credit = await credits.peek();
    const isDebit = debit !== undefined && (credit === undefined || comesBefore(debit, credit));
    const row = isDebit ? debit : credit;
    if (!row || (walletId !== undefined && row.walletId > walletId)) return undefined;
    await (isDebit ? debits : credits).next();
    return { ...row, change: isDebit ? -row.amount : row.amount };
  }

  for (;;) {
    const wallets = await readWallets(session, afterId, PAGE_ROWS);
    const last = wallets.at(-1);
    const heldByWallet = await readHeld(session, afterId, last?.id ?? ID_MAX);
    let entries = 0;
    for (const wallet of wallets) {
      const subject = `wallet ${wallet.id}`;
      let sequence = 0n;
      let balance = 0n;
      let time = "";
      for (let entry = await nextEntry(wallet.id); entry; entry = await nextEntry(wallet.id)) {
        entries += 1;
        if (entry.walletId !== wallet.id) {
          tally.differ("wallets", `wallet ${entry.walletId}`, `is not there, but its entry ${entry.sequence} is`);
          continue;
        }
        sequence += 1n;
        balance += entry.change;
        if (entry.sequence !== sequence) {
          tally.differ("wallets", subject, `has entry ${entry.sequence} where ${sequence} should be`);
          sequence = entry.sequence;
        }
        if (entry.balance !== balance) {
          tally.differ(
            "wallets",
            subject,
            `entry ${sequence} says balance ${entry.balance}, the entries make ${balance}`,
          );
          balance = entry.balance;
        }
        if (entry.time < time) tally.differ("wallets", subject, `entry ${sequence} is earlier than the one before`);
        time = entry.time;
        if (entries % PAGE_ROWS === 0) yield 0;
      }
      const held = heldByWallet.get(wallet.id) ?? 0n;
      heldByWallet.delete(wallet.id);
      if (wallet.sequence !== sequence) {
        tally.differ("wallets", subject, `says ${wallet.sequence} entries, ${sequence} are there`);
      }
      if (wallet.balance !== balance) {
        tally.differ("wallets", subject, `says balance ${wallet.balance}, the entries make ${balance}`);
      }
      if (wallet.held !== held)
        tally.differ("wallets", subject, `says held ${wallet.held}, the open holds make ${held}`);
      if (wallet.kind < Wallet_Kind.BANK_CLEARING && wallet.balance < wallet.held) {
        tally.differ("wallets", subject, `has balance ${wallet.balance} below held ${wallet.held}`);
      }
      if (wallet.state === Wallet_State.CLOSED && (wallet.balance !== 0n || wallet.held !== 0n)) {
        tally.differ("wallets", subject, `is closed with balance ${wallet.balance} and held ${wallet.held}`);
      }
      totals.set(wallet.currency, (totals.get(wallet.currency) ?? 0n) + wallet.balance);
      tally.walletCount += 1;
    }
    for (const [id, held] of heldByWallet) {
      tally.differ("wallets", `wallet ${id}`, `is not there, but holds of ${held} are`);
    }
    if (!last) break;
    afterId = last.id;
    yield wallets.length;
  }
  for (let entry = await nextEntry(undefined); entry; entry = await nextEntry(undefined)) {
    tally.differ("wallets", `wallet ${entry.walletId}`, `is not there, but its entry ${entry.sequence} is`);
  }
  for (const [currency, total] of totals) {
    if (total !== 0n) tally.differ("totals", currency, `all balances together make ${total}, not 0`);
  }
}

const comesBefore = (a: SideRow, b: SideRow) =>
  a.walletId < b.walletId || (a.walletId === b.walletId && a.sequence < b.sequence);

/** Money is set aside for what is open, all of it, and for nothing else; and not for longer than was said. */
async function* checkHolds(
  session: Session,
  sources: HoldSource[],
  readTime: Date,
  tally: Tally,
): AsyncGenerator<number> {
  const holds = reader((after: HoldRow | undefined) => readHolds(session, after?.id ?? 0n, PAGE_ROWS));
  const holders = new Map(sources.map((source) => [source.cause, followHolder(session, source, tally)]));
  let count = 0;
  for (let hold = await holds.next(); hold; hold = await holds.next()) {
    if (hold.remaining > 0n && readTime.getTime() - hold.expireTime.getTime() > EXPIRED_MS) {
      tally.differ("holds", `hold ${hold.id}`, `sets ${hold.remaining} aside, more than a day after it expired`);
    }
    await holders.get(hold.cause)?.match(hold);
    count += 1;
    if (count % PAGE_ROWS === 0) yield PAGE_ROWS;
  }
  for (const holder of holders.values()) await holder.end();
  yield count % PAGE_ROWS;
}

/** A row is made before its hold, so it has the smaller id: rows are read up to the hold's. */
function followHolder(session: Session, source: HoldSource, tally: Tally) {
  const rows = reader((after: HolderRow | undefined) => readHolders(session, source, after?.id ?? 0n, PAGE_ROWS));
  const unmatched = new Map<bigint, HolderRow>();
  return {
    async match(hold: HoldRow) {
      for (let row = await rows.peek(); row && row.id < hold.id; row = await rows.peek()) {
        unmatched.set(row.id, row);
        await rows.next();
      }
      const row = unmatched.get(hold.causeId);
      unmatched.delete(hold.causeId);
      const subject = `hold ${hold.id}`;
      const named = `${source.name} ${hold.causeId}`;
      if (!row) return tally.differ("holds", subject, `its ${named} is not there, or has another hold`);
      const amount = row.amount || hold.amount;
      if (row.holdId !== hold.id || row.walletId !== hold.walletId || amount !== hold.amount) {
        tally.differ("holds", subject, `differs from its ${named} in hold, wallet or amount`);
      }
      const needed = row.isOpen ? amount : 0n;
      if (hold.remaining !== needed) {
        tally.differ("holds", subject, `sets ${hold.remaining} aside where its ${named} needs ${needed}`);
      }
    },
    async end() {
      for (let row = await rows.next(); row; row = await rows.next()) unmatched.set(row.id, row);
      for (const { id } of unmatched.values()) tally.differ("holds", `${source.name} ${id}`, "has no hold");
    },
  };
}

/** What is counted is what the rows make. */
async function* checkCounts(session: Session, sources: CountSource[], tally: Tally): AsyncGenerator<number> {
  for (const source of sources) {
    for (let rows = await readCounts(session, source, 0n, PAGE_ROWS); rows.length > 0; ) {
      for (const { id, counted, made } of rows) {
        if (counted !== made) {
          tally.differ("counts", `wallet ${id}`, `says ${counted} ${source.name}, the ${source.rows} make ${made}`);
        }
      }
      yield rows.length;
      rows = await readCounts(session, source, rows.at(-1)?.id ?? ID_MAX, PAGE_ROWS);
    }
  }
}

/** Rows one at a time from pages; each page is read after the last row of the one before. */
function reader<R>(readAfter: (last: R | undefined) => Promise<R[]>) {
  let rows: R[] = [];
  let at = 0;
  let ended = false;
  async function fill() {
    if (at < rows.length || ended) return;
    rows = await readAfter(rows.at(-1));
    at = 0;
    ended = rows.length === 0;
  }
  return {
    async peek(): Promise<R | undefined> {
      await fill();
      return rows[at];
    },
    async next(): Promise<R | undefined> {
      await fill();
      return rows[at++];
    },
  };
}
