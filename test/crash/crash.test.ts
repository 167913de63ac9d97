import { expect, test } from "vitest";
import { crash } from "./scenario.ts";

const ROUNDS = Number(process.env.CHATPAY_TEST_ROUNDS ?? 20);

test.for(["server", "mysqld"] as const)("kill -9 of the %s, again and again", async (victim) => {
  await expect(crash(victim, ROUNDS)).resolves.toBeUndefined();
});
