import { expect, test } from "vitest";
import { expectNoScan } from "./crash/waiting.ts";

// `npm run test:crash` has a million of them.

test("T2: gifts that wait are not looked through", { timeout: 120_000 }, async () => {
  await expect(expectNoScan(20_000)).resolves.toBeUndefined();
});
