import { afterAll, beforeAll, expect, test } from "vitest";
import { openRaces, PAIRS, type Races } from "./crash/races.ts";

// Some rounds of each; `npm run test:crash` has a thousand.

const ROUNDS = 50;
const TIMEOUT_MS = 120_000;

let races: Races;
beforeAll(async () => {
  races = await openRaces();
});
afterAll(() => races.stop());

test.for(PAIRS)("T2: of %s and %s at once one ends a gift", { timeout: TIMEOUT_MS }, async (pair) => {
  await expect(races.run(pair, ROUNDS)).resolves.toBeUndefined();
});

test("T2: after all races the books are right", { timeout: TIMEOUT_MS }, async () => {
  await expect(races.expectRightBooks()).resolves.toBeUndefined();
});
