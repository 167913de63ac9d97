import { assert, date, property } from "fast-check";
import { expect, test } from "vitest";
import { daysAfter, fromSeoul, seoulDay, seoulDayNumber, seoulMidnight, seoulTime } from "../src/seoul.ts";

test("a day in Seoul begins at three in the afternoon of UTC, to the millisecond", () => {
  const last = new Date("2026-12-31T14:59:59.999Z");
  const first = new Date("2026-12-31T15:00:00.000Z");

  expect([seoulDay(last), seoulTime(last)]).toEqual(["20261231", "20261231235959"]);
  expect([seoulDay(first), seoulTime(first)]).toEqual(["20270101", "20270101000000"]);
  expect([seoulDayNumber(last), seoulDayNumber(first)]).toEqual([20261231, 20270101]);
  expect(seoulMidnight(last)).toEqual(new Date("2026-12-30T15:00:00Z"));
  expect(seoulMidnight(first)).toEqual(first);
});

test("days are counted over the ends of months and years", () => {
  expect(daysAfter("20261231", 1)).toBe("20270101");
  expect(daysAfter("20280228", 1)).toBe("20280229");
  expect(daysAfter("20270301", -1)).toBe("20270228");
  expect(daysAfter("20270301", 0)).toBe("20270301");
});

test("a time is read back as it was written, and what is no time is not read", () => {
  const times = date({ min: new Date("1900-01-01"), max: new Date("2999-12-31"), noInvalidDate: true });
  assert(
    property(times, (time) => {
      expect(fromSeoul(seoulTime(time))?.getTime()).toBe(Math.floor(time.getTime() / 1_000) * 1_000);
    }),
  );

  const wrong = ["", "20261231", "20260230120000", "20261231240000", "20261231236000", "2026-12-31T00:00:00Z", "0"];
  for (const text of [...wrong, "x0261231235959", "202612312359590"]) expect(fromSeoul(text), text).toBeUndefined();
});
