import { expect, test } from "vitest";
import { crashBanks } from "./crash/bank.ts";
import { crash } from "./crash/scenario.ts";

// A few rounds; `npm run test:crash` has many.

const ROUNDS = 2;
const TIMEOUT_MS = 120_000;
/** Many seconds on a machine of its own, and minutes on one that has other things to do. */
const BANKS_TIMEOUT_MS = 300_000;

test.for(["server", "mysqld"] as const)(
  "kill -9 of the %s loses no answer and doubles no retry",
  { timeout: TIMEOUT_MS },
  async (victim) => {
    await expect(crash(victim, ROUNDS)).resolves.toBeUndefined();
  },
);

test("kill -9 of the server leaves the same at banks and in wallets, however banks fail", {
  timeout: BANKS_TIMEOUT_MS,
}, async () => {
  const counts = await crashBanks({ people: 4, servers: 1, victims: [] });

  expect(counts.get("done")).toBeGreaterThan(0);
});
