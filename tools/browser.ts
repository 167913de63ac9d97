import { resolve } from "node:path";
import { type UnpackedBrowser, unpackBrowser } from "./debian.ts";
import { exists, which } from "./system.ts";

/** Shared by everything that runs in this checkout, beside the unpacked servers. */
const UNPACKED = resolve(import.meta.dirname, "../.local/services");
const NAMES = ["chromium", "chromium-headless-shell", "google-chrome", "google-chrome-stable"];
const ON_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/** A Chromium for tests: the one that the environment names, one of this machine, or Debian's. */
export async function findBrowser(): Promise<UnpackedBrowser> {
  for (const path of [process.env.CHATPAY_TEST_BROWSER, ...(await Promise.all(NAMES.map(which)))])
    if (path) return { path, env: {} };
  if (await exists(ON_MACOS)) return { path: ON_MACOS, env: {} };
  const unpacked = process.platform === "linux" ? await unpackBrowser(UNPACKED) : undefined;
  if (unpacked) return unpacked;
  throw new Error(`The pages are tested in Chromium, and there is none here. Install chromium or Google Chrome, or set
CHATPAY_TEST_BROWSER to the path of one. On Debian it is fetched from the packages.`);
}
