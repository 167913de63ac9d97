import { expect, test } from "vitest";
import { expectNoScan } from "./waiting.ts";

test("a million gifts that wait are not looked through", async () => {
  await expect(expectNoScan(1_000_000)).resolves.toBeUndefined();
});
