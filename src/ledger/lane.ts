import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import {
  endedBeforeCommit,
  errorNumber,
  isConnectionLost,
  isDuplicateKey,
  isRetryable,
  pause,
} from "../db/database.ts";
import type { Row } from "../db/schema.ts";
import { openSession, type Session } from "../db/session.ts";
import { deadlineExceeded, dependencyUnavailable, overloaded, shuttingDown } from "../errors.ts";
import type { NewId } from "../id.ts";
import { LOCK_ORDER, openBooks } from "./books.ts";
import {
  type Command,
  decideUnit,
  type Result,
  unusedKeys,
  type Settled,
  type Together,
  touchedBy,
} from "./command.ts";
import {
  chainHash,
  commitBatch,
  contentHash,
  digestOf,
  isAnyKnown,
  lastChange,
  lockTouched,
  packEvents,
  postingText,
  resolveBatch,
  writeRows,
} from "./queries.ts";

/**
 * The lane: all money of a process moves here. Commands wait in a queue. Whenever a track is free, those that
 * wait become one transaction on it, in order of arrival, but for those that touch what is on another track: they
 * stay in the queue. So tracks never wait for each other's rows. Who has stayed a few times is not overtaken any
 * more. Nobody is answered before their batch is known to be committed.
 */

/** What a call tells of itself: the lane drops a command whose call has ended before it enters a batch. */
export interface Call {
  readonly signal: AbortSignal;
}

export interface Lane {
  /** Runs the command; rejects with its refusal. */
  submit<T>(command: Command<T>, call?: Call): Promise<Result<T>>;
  /** Runs commands each on its own; one whose rows are busy may run after those behind it. Answers each, in order. */
  submitEach<T>(commands: Command<T>[], call?: Call): Promise<Settled<T>[]>;
  /**
   * Runs commands in one transaction: all, or none when one is refused; the others are then answered with
   * BATCH_ABORTED, unless an earlier batch had done them. Answers each, in order.
   */
  submitTogether<T>(commands: Command<T>[], call?: Call): Promise<Settled<T>[]>;
  /** How many commands wait or run. */
  size(): number;
  /** Runs what waits, then closes. */
  close(): Promise<void>;
}

export interface LaneOptions {
  databaseUrl: string;
  newId: NewId;
  log: Logger;
  /** Commands that may wait; more are refused at once. */
  queueMax?: number;
  /** Commands in one transaction. */
  batchMax?: number;
  /** The most time that a call gets; a command that waited for longer is not run. */
  waitMaxMs?: number;
  /** Told after each batch. */
  observe?(batch: { commands: number; postings: number; seconds: number }): void;
  /** Told when a batch must be run again, or its commit was not answered. */
  observeTrouble?(kind: "retry" | "isolate" | "ambiguous"): void;
}

/** Batches at a time, each on a connection of its own. */
const TRACKS = 2;
/** Units at the head of the queue that may be passed over; what stands behind them waits. */
const PASSED_MAX = 2_048;
/** After so many times, nobody behind a unit takes its rows before it. */
const PATIENCE = 3;
const QUEUE_MAX = 20_000;
const BATCH_MAX = 512;
const WAIT_MAX_MS = 60_000;
const ATTEMPTS_MAX = 6;
const OVERLOAD_RETRY_MS = 200;
const CAREFUL_MS = 10_000;
const RECONNECT_PAUSE_MS = 50;
const RESOLVE_PAUSE_MAX_MS = 2_000;
const RESOLVE_PATIENCE_MS = 500;
const CLOSE_PATIENCE_MS = 10_000;
/** The server gives up sessions that are silent for longer, so one that was idle is opened again. */
const IDLE_MAX_MS = 30_000;

/** A key of the batch had been used before, which the batch did not know when it decided. */
class RepeatMissed extends Error {}

/** The lane closes before the database has said whether a batch was committed. */
class OutcomeUnknown extends Error {}

/** Commands that happen together or not at all; mostly just one. */
interface Unit extends Together {
  /** All rows that they touch. */
  ids: bigint[];
  /** How often it stayed in the queue because a track had one of its rows. */
  stayed: number;
  call: Call | undefined;
  sinceMs: number;
  settle(outcomes: Settled<unknown>[]): void;
}

/** What runs one batch at a time. */
interface Track {
  session: Session | undefined;
  lastRunMs: number;
}

export function openLane(options: LaneOptions): Lane {
  const { databaseUrl, newId, log, queueMax = QUEUE_MAX, batchMax = BATCH_MAX, waitMaxMs = WAIT_MAX_MS } = options;
  // A batch beside another pays when it is large; what is less waits for the commit of the other.
  const besideMin = batchMax / 2;
  const trouble = options.observeTrouble ?? (() => {});
  let waiting: Unit[] = [];
  let size = 0;
  const idle: Track[] = Array.from({ length: TRACKS }, () => ({ session: undefined, lastRunMs: 0 }));
  const running = new Set<Promise<void>>();
  /** The rows that running batches touch. */
  const onTracks = new Set<bigint>();
  /** So many units at the head of the queue wait for a track to end. */
  let passed = 0;
  /** The rows of those among them that have stayed too often. */
  const reserved = new Set<bigint>();
  let starting: Promise<void> | undefined;
  let closing = false;
  let closingSinceMs = Infinity;
  // A repeat is rare, and the unique index finds it. Keys are looked up beforehand only for some seconds after
  // a start and after a repeat, when clients try again what was not answered.
  let carefulUntilMs = performance.now() + CAREFUL_MS;

  function enqueue(commands: Command<unknown>[], call?: Call): Promise<Settled<unknown>[]> {
    const full = size + commands.length > queueMax;
    if (closing || full) {
      const error = closing ? shuttingDown() : overloaded(OVERLOAD_RETRY_MS);
      return Promise.resolve(commands.map(() => ({ error })));
    }
    size += commands.length;
    return new Promise((resolve) => {
      const settle = (outcomes: Settled<unknown>[]) => {
        size -= commands.length;
        resolve(outcomes);
      };
      waiting.push({ commands, ids: idsOf(commands), stayed: 0, call, sinceMs: performance.now(), settle });
      // Not at once, so that what is submitted together stays together.
      starting ??= Promise.resolve().then(() => {
        starting = undefined;
        start();
      });
    });
  }

  /** Starts a batch on each track that is free, as long as enough waits that may run. */
  function start() {
    while (idle.length > 0 && passed < PASSED_MAX) {
      const least = running.size === 0 ? 1 : besideMin;
      if (waiting.length - passed < least) return;
      const units = take(least);
      if (units.length === 0) return;
      const track = idle.pop() as Track;
      const run = runUntilDecided(track, units).then((answer) => {
        running.delete(run);
        idle.push(track);
        for (const { ids } of units) for (const id of ids) onTracks.delete(id);
        passed = 0;
        reserved.clear();
        // MySQL has the next batch before Node answers the callers of this one.
        start();
        answer();
      });
      running.add(run);
    }
  }

  /** The next units in order of arrival, without those that must wait for another track; none when they are fewer commands than that. */
  function take(least: number): Unit[] {
    const units: Unit[] = [];
    const stay = waiting.slice(0, passed);
    let commands = 0;
    let next = passed;
    for (; next < waiting.length && stay.length < PASSED_MAX; next += 1) {
      const unit = waiting[next] as Unit;
      if (unit.ids.some((id) => onTracks.has(id) || reserved.has(id))) {
        unit.stayed += 1;
        if (unit.stayed > PATIENCE) for (const id of unit.ids) reserved.add(id);
        stay.push(unit);
        continue;
      }
      if (units.length > 0 && commands + unit.commands.length > batchMax) break;
      commands += unit.commands.length;
      units.push(unit);
    }
    if (commands < least) {
      passed = next;
      return [];
    }
    for (const { ids } of units) for (const id of ids) onTracks.add(id);
    waiting = [...stay, ...waiting.slice(next)];
    passed = stay.length;
    return units;
  }

  /** Settles a unit whose caller has gone, or whom nobody can be waiting for any more. */
  function isAwaited(unit: Unit): boolean {
    const gone = (unit.call?.signal.aborted ?? false) || performance.now() - unit.sinceMs > waitMaxMs;
    if (gone) unit.settle(unit.commands.map(() => ({ error: deadlineExceeded() })));
    return !gone;
  }

  /** Runs the batch, again while the database gives way to others; then each unit alone, so that one in trouble harms no other. */
  async function runUntilDecided(track: Track, taken: Unit[], attemptsMax = ATTEMPTS_MAX): Promise<() => void> {
    let units = taken;
    let repeatsMissed = 0;
    for (let attempt = 1; ; ) {
      // Nothing of the batch is committed here, so who has gone meanwhile need not have it done.
      units = units.filter(isAwaited);
      if (units.length === 0) return () => {};
      try {
        const outcomes = await runOnce(track, units);
        return () => units.forEach((unit, i) => unit.settle(outcomes[i] as Settled<unknown>[]));
      } catch (error) {
        const isRepeat = isDuplicateKey(error) || error instanceof RepeatMissed;
        if (isRepeat) carefulUntilMs = performance.now() + CAREFUL_MS;
        const mayPass = isRetryable(error) || isRepeat || isConnectionLost(error);
        // That the database was away for all the tries is no reason not to find a repeat.
        const isLeft = isRepeat ? repeatsMissed < ATTEMPTS_MAX : attempt < attemptsMax;
        if (mayPass && isLeft && !(closing && isConnectionLost(error))) {
          trouble("retry");
          await (isConnectionLost(error) ? sleep(RECONNECT_PAUSE_MS * 2 ** attempt) : pause(attempt));
          if (isRepeat) repeatsMissed += 1;
          else attempt += 1;
          continue;
        }
        if (units.length > 1 && !isConnectionLost(error) && !(error instanceof OutcomeUnknown)) {
          trouble("isolate");
          // Whoever holds a lock for so long holds it still: no unit makes the others wait for all the attempts.
          for (const unit of units) {
            (await runUntilDecided(track, [unit], isRetryable(error) ? 1 : ATTEMPTS_MAX))();
          }
          return () => {};
        }
        if (isConnectionLost(error)) turnAway();
        return () => {
          for (const unit of units) unit.settle(unit.commands.map(() => ({ error: lasting(error) })));
        };
      }
    }
  }

  /** What a caller is told when the database would not run the command. */
  function lasting(error: unknown): unknown {
    if (!isConnectionLost(error) && !isRetryable(error) && !(error instanceof OutcomeUnknown)) return error;
    log.error({ err: error, errno: errorNumber(error) }, "the ledger gave a batch up");
    return dependencyUnavailable("mysql");
  }

  async function runOnce(track: Track, units: Unit[]): Promise<Settled<unknown>[][]> {
    const startMs = performance.now();
    if (startMs - track.lastRunMs > IDLE_MAX_MS) endSession(track);
    track.lastRunMs = startMs;
    track.session ??= await openSession(databaseUrl);
    const { session } = track;
    try {
      const lookUp = startMs < carefulUntilMs;
      const { locked, known } = await lockTouched(session, touchedBy(units), lookUp);
      const batchId = newId();
      const now = new Date(Math.max(Date.now(), lastChange(locked.wallet.values())));
      const open = openBooks(batchId, now, newId, locked);
      const outcomes = units.map((unit) => decideUnit(unit, open, known));
      const { writes } = open;
      // Who gets nothing may have had it before: money that was sent cannot be sent again.
      const doubtful = lookUp ? [] : unusedKeys(units, outcomes);
      if (doubtful.length > 0 && (await isAnyKnown(session, doubtful))) throw new RepeatMissed();

      if (writes.events.length === 0 && writes.postings.length === 0 && !hasRows(writes.inserted, writes.changed)) {
        await session.run(["rollback"]);
        return outcomes;
      }

      const postings = writes.postings.map(postingText);
      const writing = writeRows(session, writes, postings);
      // While MySQL writes.
      const events = `[${writes.events.join(",")}]`;
      const packed = packEvents(events);
      const digest = digestOf(postings);
      const head = await writing;
      const batch: Row<"ledgerBatch"> = {
        id: batchId,
        number: head.number + 1n,
        lastPosition: head.position + BigInt(writes.events.length),
        eventCount: writes.events.length,
        postingCount: postings.length,
        events: packed,
        hash: Buffer.alloc(0),
        createTime: now,
      };
      batch.hash = chainHash(head.hash, contentHash(batch, digest, events));
      await commit(track, session, batch);
      options.observe?.({
        commands: units.reduce((sum, unit) => sum + unit.commands.length, 0),
        postings: postings.length,
        seconds: (performance.now() - startMs) / 1000,
      });
      return outcomes;
    } catch (error) {
      await giveBack(track, error);
      throw error;
    }
  }

  /** Leaves no transaction open: MySQL keeps one after a lock wait or a duplicate key. */
  async function giveBack(track: Track, error: unknown) {
    if (!isConnectionLost(error)) {
      try {
        await track.session?.run(["rollback"]);
        return;
      } catch {
        // The connection went with it.
      }
    }
    endSession(track);
  }

  function endSession(track: Track) {
    track.session?.destroy();
    track.session = undefined;
  }

  async function commit(track: Track, session: Session, batch: Row<"ledgerBatch">) {
    try {
      await commitBatch(session, batch);
    } catch (error) {
      if (endedBeforeCommit(error)) throw error;
      trouble("ambiguous");
      log.warn({ err: error, batch: String(batch.id) }, "the commit of a batch was not answered");
      endSession(track);
      if (!(await isCommitted(track, batch))) throw error;
    }
  }

  /** Asks until the database says whether the batch is there. Nobody of it is answered before. */
  async function isCommitted(track: Track, batch: Row<"ledgerBatch">): Promise<boolean> {
    for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, RESOLVE_PAUSE_MAX_MS)) {
      try {
        track.session ??= await openSession(databaseUrl);
        return await resolveBatch(track.session, batch.id, batch.createTime);
      } catch {
        endSession(track);
        // Whoever waits is told to try again with the same key, and finds the outcome then.
        if (performance.now() - closingSinceMs > CLOSE_PATIENCE_MS) throw new OutcomeUnknown();
        if (pauseMs > RESOLVE_PATIENCE_MS) turnAway();
        await sleep(pauseMs);
      }
    }
  }

  /** Who has not entered a batch need not wait until the database is back. */
  function turnAway() {
    for (const unit of waiting) unit.settle(unit.commands.map(() => ({ error: dependencyUnavailable("mysql") })));
    waiting = [];
    passed = 0;
    reserved.clear();
  }

  return {
    async submit<T>(command: Command<T>, call?: Call) {
      const [outcome] = (await enqueue([command], call)) as [Settled<T>];
      if (outcome.result) return outcome.result;
      throw outcome.error;
    },
    async submitEach<T>(commands: Command<T>[], call?: Call) {
      const outcomes = commands.map((command) => enqueue([command], call));
      return (await Promise.all(outcomes)).flat() as Settled<T>[];
    },
    async submitTogether<T>(commands: Command<T>[], call?: Call) {
      return commands.length === 0 ? [] : ((await enqueue(commands, call)) as Settled<T>[]);
    },
    size: () => size,
    async close() {
      closing = true;
      closingSinceMs = performance.now();
      await starting;
      while (running.size > 0) await Promise.all(running);
      for (const track of idle) endSession(track);
    },
  };
}

const hasRows = (...maps: Map<unknown, { size: number } | { length: number }>[]) =>
  maps.some((map) => [...map.values()].some((rows) => ("size" in rows ? rows.size : rows.length) > 0));

const idsOf = (commands: Command<unknown>[]) =>
  commands.flatMap(({ touches }) => LOCK_ORDER.flatMap((table) => touches[table] ?? []));
