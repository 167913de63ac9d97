import { randomUUID } from "node:crypto";
import type { Db } from "./db/database.ts";
import { claimSlot, renewSlot } from "./db/slots.ts";
import { dependencyUnavailable } from "./errors.ts";

/** Makes an id that is unique in its database and later than all that the process made before. */
export type NewId = () => bigint;

/** Ids count milliseconds from here: 41 bits last until 2095. */
const EPOCH_MS = Date.UTC(2026, 0, 1);
const SLOT_BITS = 10n;
const COUNTER_BITS = 12n;
const COUNTER_MAX = (1 << Number(COUNTER_BITS)) - 1;

/** The number of the process, and the last millisecond in which it may use it. */
interface Lease {
  slot: number;
  untilMs: number;
}

/**
 * 63-bit ids, ordered by time: milliseconds, the number of the process, a counter. Past 4,096 in a
 * millisecond, or when the clock steps back, the time of the ids runs ahead of the clock's.
 */
function idsOf(lease: Lease): NewId {
  let lastMs = 0;
  let counter = 0;
  let prefix = 0n;
  return () => {
    const nowMs = Date.now();
    if (nowMs > lastMs || counter === COUNTER_MAX) {
      lastMs = Math.max(nowMs, lastMs + 1);
      // It could not be renewed because the database is away.
      if (lastMs > lease.untilMs) throw dependencyUnavailable("mysql");
      prefix = ((BigInt(lastMs - EPOCH_MS) << SLOT_BITS) | BigInt(lease.slot)) << COUNTER_BITS;
      counter = 0;
    } else {
      counter += 1;
    }
    return prefix | BigInt(counter);
  };
}

const ID_MAX = 2n ** 63n - 1n;

/** An id as the API writes it. A number too large for an id becomes 0, which nothing has. */
export function idOf(text: string): bigint {
  const id = BigInt(text);
  return id > ID_MAX ? 0n : id;
}

const LEASE_MS = 60_000;
const RENEW_MS = 5_000;

/** How far the clocks of processes may be apart for `idAround` to hold. */
const CLOCKS_MS = 10 * 60_000;

/** An id that is surely earlier (-1) or later (1) than those made at that time. */
export function idAround(time: Date, side: -1 | 1): bigint {
  const ms = Math.max(0, time.getTime() - EPOCH_MS + side * CLOCKS_MS);
  const id = BigInt(ms) << (SLOT_BITS + COUNTER_BITS);
  return id > ID_MAX ? ID_MAX : id;
}

export interface Ids {
  newId: NewId;
  /** Stops renewing. The slot is free for another process when the lease runs out. */
  close(): void;
}

/**
 * Leases a slot for this process and keeps it until closed. Ids are never later than the lease, and a
 * slot is leased again only to a process whose clock is past it, so clocks that differ do no harm.
 */
export async function leaseIds(db: Db, onError: (error: unknown) => void): Promise<Ids> {
  const owner = randomUUID();
  async function claim(): Promise<Lease> {
    const untilMs = Date.now() + LEASE_MS;
    return { slot: await claimSlot(db, owner, untilMs), untilMs };
  }
  const lease = await claim();

  async function renew() {
    const untilMs = Date.now() + LEASE_MS;
    if (await renewSlot(db, lease.slot, owner, untilMs)) lease.untilMs = untilMs;
    // The lease ran out while the database was away, and another process took the slot.
    else Object.assign(lease, await claim());
  }
  const timer = setInterval(() => void renew().catch(onError), RENEW_MS);
  timer.unref();

  return { newId: idsOf(lease), close: () => clearInterval(timer) };
}
