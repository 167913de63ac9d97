import { afterAll, beforeAll, expect, test } from "vitest";
import { openRaces, PAIRS, type Races } from "./races.ts";

const ROUNDS = Number(process.env.CHATPAY_TEST_ROUNDS ?? 1_000);

let races: Races;
beforeAll(async () => {
  races = await openRaces();
});
afterAll(() => races.stop());

test.for(PAIRS)("of %s and %s at once one ends a gift, again and again", async (pair) => {
  await expect(races.run(pair, ROUNDS)).resolves.toBeUndefined();
});

test("after all of it the books are right", async () => {
  await expect(races.expectRightBooks()).resolves.toBeUndefined();
});
