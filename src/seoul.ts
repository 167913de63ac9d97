/**
 * Days and times by the clock in Seoul: those of banks, and of what may be done in a day. It is nine hours ahead of UTC
 * all the year.
 */
const AHEAD_MS = 9 * 60 * 60_000;
const DAY_MS = 24 * 60 * 60_000;

const digitsOf = (utc: number) => new Date(utc).toISOString().replaceAll(/\D/g, "");

/** As 20261231. */
export const seoulDay = (date: Date): string => digitsOf(date.getTime() + AHEAD_MS).slice(0, 8);

/** As 20261231235959. */
export const seoulTime = (date: Date): string => digitsOf(date.getTime() + AHEAD_MS).slice(0, 14);

/** The day as a number that columns can hold: 20261231. */
export const seoulDayNumber = (date: Date): number => Number(seoulDay(date));

/** When the day began. */
export const seoulMidnight = (date: Date): Date =>
  new Date(Math.floor((date.getTime() + AHEAD_MS) / DAY_MS) * DAY_MS - AHEAD_MS);

/** The day that is so many days later, or earlier when they are negative; both as 20261231. */
export const daysAfter = (day: string, days: number): string =>
  digitsOf(utcOf(`${day}000000`) + days * DAY_MS).slice(0, 8);

/** The moment of a time as 20261231235959; undefined when there is none. */
export function fromSeoul(text: string): Date | undefined {
  const utc = utcOf(text);
  // What is no time, as the 30th of February, would become another.
  return !Number.isNaN(utc) && digitsOf(utc).startsWith(text) ? new Date(utc - AHEAD_MS) : undefined;
}

const TIME = /^([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})$/;

/** As if the clock showed UTC. */
const utcOf = (text: string) => Date.parse(text.replace(TIME, "$1-$2-$3T$4:$5:$6Z"));
