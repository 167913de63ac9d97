import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import { CallerKind } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import { type Db, isConnectionLost, isDuplicateKey, isRetryable } from "../db/database.ts";
import type { AuditRow } from "../db/schema.ts";
import type { NewId } from "../id.ts";
import type { AuditEntry, Trail } from "../rpc/audit.ts";
import { insertRecords } from "./queries.ts";

/** Rows in one statement. */
const BATCH_MAX = 500;
/** Records that nobody waits for; those that somebody does are as many as there are calls. */
const LATER_MAX = 10_000;
/** A call that has changed something gets its answer then, whatever becomes of its record. */
const WAIT_MAX_MS = 2_000;
const ATTEMPTS_MAX = 5;
const RETRY_PAUSE_MS = 50;
/** Records of refused credentials in one second: of all together, and from one place. */
const REFUSALS_MAX = 100;
const REFUSALS_FROM_ONE_MAX = 20;
const SECOND_MS = 1_000;

export interface TrailOptions {
  db: Db;
  newId: NewId;
  log: Logger;
  /** Told what became of records: written, lost to a database that did not take them, or dropped because of too many. */
  observe(outcome: "written" | "lost" | "dropped", count: number): void;
}

export interface OpenTrail extends Trail {
  /** Writes what waits, then ends. */
  close(): Promise<void>;
}

interface Waiting {
  row: AuditRow;
  /** Somebody waits for it, and hears of its end. */
  done?(): void;
}

/**
 * The writer of the audit trail. Records wait in a queue; when the insert before has returned, what waits becomes the
 * next one, and whatever somebody waits for goes first.
 *
 * A record that the database does not take is lost, and the call is answered as if it were there: the change has been
 * made, and a caller who is told otherwise makes it twice. What the record would have said of a change goes to the log.
 */
export function openTrail({ db, newId, log, observe }: TrailOptions): OpenTrail {
  let awaited: Waiting[] = [];
  let later: Waiting[] = [];
  let writing: Promise<void> | undefined;
  let closing = false;
  const isFlood = watchRefusals();
  const tellFlood = occasionally((count) => log.warn({ records: count }, "too many credentials are refused to record"));
  const tellFull = occasionally((count) => log.warn({ records: count }, "too many records wait; some are dropped"));
  const tellLost = occasionally((count) => log.error({ records: count }, "records of the audit trail are lost"));

  function rowOf(entry: AuditEntry): AuditRow | undefined {
    if (isFlood(entry)) {
      observe("dropped", 1);
      tellFlood();
      return undefined;
    }
    try {
      return { id: newId(), createTime: new Date(), ...entry };
    } catch {
      // There are no ids while the database is away for long.
      lose(entry, true);
      return undefined;
    }
  }

  function lose(entry: AuditEntry, isOnlyTrace: boolean) {
    observe("lost", 1);
    if (entry.code === 0 && isOnlyTrace) log.error(textOf(entry), "the record of a change is lost");
    else tellLost();
  }

  function start() {
    // Not at once, so that what ends together is written together.
    writing ??= Promise.resolve().then(async () => {
      while (awaited.length + later.length > 0) await write(take());
      writing = undefined;
    });
  }

  function take(): Waiting[] {
    const batch = awaited.slice(0, BATCH_MAX);
    const room = BATCH_MAX - batch.length;
    awaited = awaited.slice(BATCH_MAX);
    batch.push(...later.slice(0, room));
    later = later.slice(room);
    return batch;
  }

  async function write(batch: Waiting[]) {
    const isWritten = await tryToInsert(batch.map(({ row }) => row));
    if (isWritten) observe("written", batch.length);
    for (const { row, done } of batch) {
      if (!isWritten) lose(row, done !== undefined);
      done?.();
    }
  }

  async function tryToInsert(rows: AuditRow[]): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await insertRecords(db, rows);
        return true;
      } catch (err) {
        // One statement inserts all or none, and the ids are our own: the answer to the attempt before was lost.
        if (attempt > 1 && isDuplicateKey(err)) return true;
        const mayPass = isConnectionLost(err) || isRetryable(err);
        if (!mayPass || closing || attempt === ATTEMPTS_MAX) {
          log.error({ err }, "the audit trail is not written");
          return false;
        }
        await sleep(RETRY_PAUSE_MS * 2 ** attempt);
      }
    }
  }

  return {
    write(entry) {
      const row = rowOf(entry);
      if (!row) return Promise.resolve();
      return new Promise((resolve) => {
        const timer = setTimeout(resolve, WAIT_MAX_MS);
        const done = () => {
          clearTimeout(timer);
          resolve();
        };
        awaited.push({ row, done });
        start();
      });
    },

    writeLater(entry) {
      if (later.length >= LATER_MAX) {
        observe("dropped", 1);
        tellFull();
        return;
      }
      const row = rowOf(entry);
      if (row) later.push({ row });
      start();
    },

    async close() {
      closing = true;
      await writing;
    },
  };
}

/** Whether a refusal is one too many of its second: nobody fills the table with credentials that open nothing. */
function watchRefusals(): (entry: AuditEntry) => boolean {
  let since = 0;
  let count = 0;
  const bySource = new Map<bigint | string, number>();
  return (entry) => {
    if (!isOfCredential(entry)) return false;
    if (Date.now() - since >= SECOND_MS) {
      since = Date.now();
      count = 0;
      bySource.clear();
    }
    // Whoever makes a flood does not hide the others in it.
    const source = entry.accountId ?? entry.keyId ?? entry.ip;
    const ofSource = bySource.get(source) ?? 0;
    if (count >= REFUSALS_MAX || ofSource >= REFUSALS_FROM_ONE_MAX) return true;
    count += 1;
    bySource.set(source, ofSource + 1);
    return false;
  };
}

const CREDENTIAL_CODES = new Set<number>([Code.Unauthenticated, Code.PermissionDenied]);

/** Of somebody who is not who they say, or whom nobody knows. All others have limits of their own. */
const isOfCredential = ({ code, caller }: AuditEntry) =>
  CREDENTIAL_CODES.has(code) || (code !== 0 && caller === CallerKind.ANYONE);

/** Tells once a second at most how often it was called. */
function occasionally(tell: (count: number) => void): () => void {
  let count = 0;
  let toldAt = 0;
  return () => {
    count += 1;
    if (Date.now() - toldAt < SECOND_MS) return;
    tell(count);
    count = 0;
    toldAt = Date.now();
  };
}

/** For the log, which has no bigint. */
const textOf = (entry: AuditEntry) =>
  Object.fromEntries(
    Object.entries(entry).flatMap(([key, value]) => {
      if (value === null) return [];
      return [[key, typeof value === "bigint" ? String(value) : value]];
    }),
  );
