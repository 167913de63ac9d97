import { expect, test } from "vitest";
import { crash } from "./crash/scenario.ts";

// A few rounds; `npm run test:crash` has many.

const ROUNDS = 2;
const TIMEOUT_MS = 120_000;

test.for(["server", "mysqld"] as const)(
  "kill -9 of the %s loses no answer and doubles no retry",
  { timeout: TIMEOUT_MS },
  async (victim) => {
    await expect(crash(victim, ROUNDS)).resolves.toBeUndefined();
  },
);
