import type { Store } from "./store.ts";

/** Korea has had no summer time since 1988. */
const SEOUL_MS = 9 * 3_600_000;

const CALENDAR = /^(\d{4})(\d{2})(\d{2})$/;
const DAY_TIME = /^([01]\d|2[0-3])[0-5]\d[0-5]\d$/;

export type Clock = ReturnType<typeof openClock>;

export function openClock(store: Store) {
  let [offsetMs = 0] = store.list<number>("clock");
  return {
    now: () => new Date(Date.now() + offsetMs),

    /** Goes this much ahead of the machine from now on. */
    goAhead(ms: number) {
      offsetMs = ms;
      store.put("clock", "offsetMs", ms);
    },
  };
}

/** What a clock on a wall in Seoul shows, as digits. */
export function seoul(time: Date) {
  const digits = new Date(time.getTime() + SEOUL_MS).toISOString().replaceAll(/\D/g, "");
  return {
    /** yyyyMMdd */
    date: digits.slice(0, 8),
    /** HHmmss, of 24 hours */
    time: digits.slice(8, 14),
    /** yyyyMMddHHmmssSSS */
    full: digits.slice(0, 17),
  };
}

/** Whether these eight digits are a day. */
export function isDate(text: string): boolean {
  const [, year = "", month = "", day = ""] = CALENDAR.exec(text) ?? [];
  const date = new Date(`${year}-${month}-${day}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(`${year}-${month}-${day}`);
}

/** Whether these fourteen digits are a moment, by a clock of 24 hours. */
export const isDateTime = (text: string): boolean => isDate(text.slice(0, 8)) && DAY_TIME.test(text.slice(8));
