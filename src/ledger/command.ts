import type { Row } from "../db/schema.ts";
import { batchAborted, idempotencyKeyReused } from "../errors.ts";
import {
  type Books,
  entry,
  LOCK_ORDER,
  type LockedTable,
  type OnceIndex,
  type OnceTable,
  type openBooks,
} from "./books.ts";
import { type Known, keyText, type Touched } from "./queries.ts";

/** What the lane runs: commands, as domains make them, and how a batch of them decides. */

/** The unique key of the row that a command makes. A repeat is answered from that row. */
export interface Once<T> {
  by: OnceIndex;
  key: Buffer;
  /** Whether the first row came of the same request; the key of another request is refused. */
  isRepeat?(first: T): boolean;
  /** What a repeat answers with, if not the first row. It may throw a refusal. */
  repeat?(first: T): T;
}

export interface Command<T> {
  /** The rows that `decide` looks at; it may change no others. */
  touches: { [table in LockedTable]?: bigint[] };
  once?: Once<T>;
  /** Says what to write, or throws a refusal. Pure: it may run again on other rows. */
  decide(books: Books): T;
}

export interface Result<T> {
  value: T;
  /** The key had been used before: nothing moved now. */
  replayed: boolean;
}

export type Settled<T> = { result: Result<T>; error?: undefined } | { result?: undefined; error: unknown };

/** Commands that happen together or not at all; mostly just one. */
export interface Together {
  commands: Command<unknown>[];
}

/** All that a batch touches. */
export function touchedBy(units: Together[]): Touched {
  const touched: Touched = { ids: new Map(), keys: new Map() };
  for (const { commands } of units) {
    for (const { touches, once } of commands) {
      for (const table of LOCK_ORDER) {
        for (const id of touches[table] ?? []) entry(touched.ids, table, () => new Set<bigint>()).add(id);
      }
      if (once) entry(touched.keys, once.by, () => new Map<string, Buffer>()).set(keyText(once.key), once.key);
    }
  }
  return touched;
}

/** The keys of the commands that made no row: they were refused, or found nothing to do. */
export const unusedKeys = (units: Together[], outcomes: Settled<unknown>[][]) =>
  units.flatMap(({ commands }, i) =>
    commands.flatMap(({ once }, j) => (once && outcomes[i]?.[j]?.result?.value === undefined ? [once] : [])),
  );

/** Decides the commands of a unit in order. When one is refused, none of them happens. */
export function decideUnit(unit: Together, open: ReturnType<typeof openBooks>, known: Known): Settled<unknown>[] {
  const outcomes: Settled<unknown>[] = [];
  const made: { once: Once<unknown>; text: string }[] = [];
  let refused = false;
  for (const command of unit.commands) {
    try {
      outcomes.push({ result: decideOne(command, open.books, known, made) });
    } catch (error) {
      outcomes.push({ error });
      refused = true;
    }
  }
  if (!refused) {
    open.keep();
    return outcomes;
  }
  open.undo();
  for (const { once, text } of made) known.get(once.by)?.delete(text);
  // A repeat of what an earlier batch made still stands; whatever else was decided did not happen.
  return outcomes.map((outcome, i) => {
    const once = unit.commands[i]?.once;
    const stands = once && known.get(once.by)?.has(keyText(once.key));
    return outcome.result && !stands ? { error: batchAborted() } : outcome;
  });
}

function decideOne(
  { once, decide }: Command<unknown>,
  books: Books,
  known: Known,
  made: { once: Once<unknown>; text: string }[],
): Result<unknown> {
  if (!once) return { value: decide(books), replayed: false };
  const rows = known.get(once.by);
  const text = keyText(once.key);
  const first = rows?.get(text);
  if (first) {
    if (once.isRepeat && !once.isRepeat(first)) throw idempotencyKeyReused();
    return { value: once.repeat ? once.repeat(first) : first, replayed: true };
  }
  const value = decide(books);
  // Later commands of the batch find the row as if it were stored.
  rows?.set(text, value as Row<OnceTable>);
  made.push({ once, text });
  return { value, replayed: false };
}
