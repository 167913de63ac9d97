import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { TestProject } from "vitest/node";
import { type Services, startServices, stopAbandoned } from "../../tools/services.ts";
import { isRunning } from "../../tools/system.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A MySQL where tests make databases of their own; the address names none. */
    mysqlUrl: string;
    redisUrl: string;
    /** Where tests keep servers of their own, so that a later run finds what this one leaves. */
    runDir: string;
  }
}

const RUNS = resolve(import.meta.dirname, "../../.local/test");
const dir = join(RUNS, `${process.pid}`);
let services: Services;

/** One MySQL and one Redis for the whole run, in a directory that goes away with it. */
export async function setup(project: TestProject) {
  await removeAbandoned();
  await mkdir(dir, { recursive: true });
  services = await startServices({
    dir,
    databaseUrl: process.env.CHATPAY_TEST_DATABASE_URL,
    redisUrl: process.env.CHATPAY_TEST_REDIS_URL,
    mysqlFlags: ["--performance-schema=OFF", "--innodb-buffer-pool-size=256M"],
  });
  void services.died.then((what) => console.error(what));
  const mysqlUrl = new URL(services.databaseUrl);
  mysqlUrl.pathname = "";
  project.provide("mysqlUrl", mysqlUrl.href);
  project.provide("redisUrl", services.redisUrl);
  project.provide("runDir", dir);
}

export async function teardown() {
  await services.stop();
  await rm(dir, { recursive: true, force: true });
}

/** A run that was killed leaves its servers running and its directory in place. */
async function removeAbandoned() {
  await mkdir(RUNS, { recursive: true });
  for (const name of await readdir(RUNS)) {
    if (await isRunning(Number(name))) continue;
    await stopAbandoned(join(RUNS, name));
    await rm(join(RUNS, name), { recursive: true, force: true });
  }
}
