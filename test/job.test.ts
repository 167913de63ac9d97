import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { openDatabase } from "../src/db/database.ts";
import { claimRows } from "../src/db/leases.ts";
import { periodic, sweep } from "../src/job/periodic.ts";
import { growingPause, type Job } from "../src/job/runner.ts";
import { makeBooks } from "./support/load.ts";
import { startRelay } from "./support/relay.ts";
import { openWorker, WORK, type Worker, type WorkItem } from "./support/worker.ts";

const DAY_MS = 24 * 60 * 60_000;
const SOON = { timeout: 10_000, interval: 10 };
const ago = (ms: number) => new Date(Date.now() - ms);

const databaseUrl = await makeBooks();
const db = openDatabase(databaseUrl);
let workers: Worker[] = [];

beforeAll(async () => {
  // Two runs of one item at the same time would be two rows with its key; each run leaves a row behind.
  await sql`create table running (item bigint primary key)`.execute(db);
  await sql`create table ran (item bigint not null)`.execute(db);
});
beforeEach(async () => {
  for (const table of ["account_cleanup", "job", "running", "ran"])
    await sql`delete from ${sql.table(table)}`.execute(db);
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  workers = [];
});
afterAll(() => db.destroy());

function open(options: { url?: string; graceMs?: number } = {}) {
  const worker = openWorker(options.url ?? databaseUrl, options);
  workers.push(worker);
  return worker;
}

async function addWork(count: number, from = 1) {
  const ids = Array.from({ length: count }, (_, i) => BigInt(from + i));
  const item = { dueTime: ago(1_000), leaseOwner: "", leaseUntil: null, tries: 0 };
  await db
    .insertInto("accountCleanup")
    .values(ids.map((id) => ({ id, ...item })))
    .execute();
}

const workLeft = () => db.selectFrom("accountCleanup").selectAll().orderBy("id").execute();
const makeDue = () =>
  db
    .updateTable("accountCleanup")
    .set({ dueTime: ago(1_000) })
    .execute();
/** As if so much time had passed that no lease holds any more. */
const endLeases = () =>
  db
    .updateTable("accountCleanup")
    .set({ leaseUntil: ago(1_000) })
    .execute();
const runsOf = async () => {
  const { rows } = await sql<{ item: bigint }>`select item from ran order by item`.execute(db);
  return rows.map(({ item }) => item);
};

/** Runs an item so that it would show if somebody else ran it at the same time. */
async function runAlone(item: bigint, work: () => Promise<unknown>) {
  await sql`insert into running values (${item})`.execute(db);
  await work();
  await sql`insert into ran values (${item})`.execute(db);
  await sql`delete from running where item = ${item}`.execute(db);
}

test("runners of several processes run each item once, and none at the same time", async () => {
  const COUNT = 300;
  await addWork(COUNT);

  for (let i = 0; i < 6; i += 1) {
    const worker = open();
    worker.start({
      async run(item) {
        await runAlone(item.id, () => sleep(Math.random() * 5));
        await worker.finish(item);
        return "done";
      },
    });
  }
  await expect.poll(workLeft, SOON).toEqual([]);
  await Promise.all(workers.map(({ runner }) => runner.close()));

  expect(await runsOf()).toEqual(Array.from({ length: COUNT }, (_, i) => BigInt(i + 1)));
  expect(workers.flatMap(({ logs }) => logs)).toEqual([]);
});

test("no process runs more at a time than the job says", async () => {
  await addWork(20);
  const worker = open();
  let running = 0;
  let most = 0;

  worker.start({
    runsMax: 3,
    async run(item) {
      running += 1;
      most = Math.max(most, running);
      await sleep(5);
      await worker.finish(item);
      running -= 1;
      return "done";
    },
  });
  await expect.poll(workLeft, SOON).toEqual([]);

  expect(most).toBe(3);
});

test("what a killed process was at is run by another one when its lease is over, and not before", async () => {
  await addWork(1);
  const program = spawn(process.execPath, [join(import.meta.dirname, "support/worker.ts"), databaseUrl], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface(program.stdout), "line")) as [string];
  program.kill("SIGKILL");
  await once(program, "exit");

  const worker = open();
  let looks = 0;
  const ran: number[] = [];
  worker.start({
    async run(item) {
      ran.push(item.tries);
      await worker.finish(item);
      return "done";
    },
    ...countClaims(worker, () => (looks += 1)),
  });
  await expect.poll(() => looks, SOON).toBeGreaterThan(3);
  expect([line, ran]).toEqual(["1", []]);
  await endLeases();

  await expect.poll(workLeft, SOON).toEqual([]);
  expect(ran).toEqual([2]);
});

/** The claim of most tests, which also tells that it was made. */
const countClaims = ({ db: own }: Worker, told: () => void): Pick<Job<WorkItem>, "claim"> => ({
  async claim(claim) {
    const claimed = await claimRows(own, WORK, claim);
    told();
    return claimed;
  },
});

test("a lease that is over counts no more: who was late neither finishes nor puts off what another one has", async () => {
  await addWork(1);
  const late = open();
  const { promise: gate, resolve: pass } = Promise.withResolvers<void>();
  late.start({
    // It has no room for another run, or it might be the one that claims the item anew.
    runsMax: 1,
    async run() {
      await gate;
      throw new Error("too late");
    },
  });
  await expect.poll(async () => (await workLeft())[0]?.tries, SOON).toBe(1);
  await endLeases();
  const prompt = open({ graceMs: 0 });
  prompt.start({ run: (_item, signal) => once(signal, "abort").then(() => "later" as const) });
  await expect.poll(async () => (await workLeft())[0]?.tries, SOON).toBe(2);
  const [taken] = await workLeft();

  pass();
  await late.runner.close();

  expect(await workLeft()).toEqual([taken]);
});

test("an item that fails is tried again after pauses that grow, and disturbs no other", async () => {
  await addWork(5);
  const worker = open();
  const pauses: number[] = [];
  const before: number[] = [];

  worker.start({
    pauses: { firstMs: 60_000, maxMs: 480_000 },
    async run(item) {
      if (item.id === 3n) throw new Error("nobody foresaw it");
      await worker.finish(item);
      return "done";
    },
  });
  await expect.poll(async () => (await workLeft()).map(({ id }) => id), SOON).toEqual([3n]);
  for (let tries = 1; tries <= 6; tries += 1) {
    await expect
      .poll(async () => (await workLeft())[0], SOON)
      .toMatchObject({ tries, leaseOwner: "", leaseUntil: null });
    const [item] = await workLeft();
    pauses.push((item?.dueTime.getTime() ?? 0) - Date.now());
    before.push(growingPause(tries, { firstMs: 60_000, maxMs: 480_000 }));
    await makeDue();
  }

  // At most the time of this test is missing of each; the pauses from one to the next differ by much more.
  for (const [i, most] of [60_000, 120_000, 240_000, 480_000, 480_000, 480_000].entries()) {
    expect(pauses[i]).toBeGreaterThan(most * 0.75 - 20_000);
    expect(pauses[i]).toBeLessThanOrEqual(most);
    expect(before[i]).toBeGreaterThanOrEqual(most * 0.75);
  }
  const failure = worker.logs.find(({ item }) => item === "3");
  expect(failure).toMatchObject({ level: 50, job: "test.work", late: false });
  expect(worker.logs.every(({ item }) => item === "3")).toBe(true);
  const counted = await worker.metrics.registry.metrics();
  expect(counted).toContain('chatpay_job_runs_total{job="test.work",outcome="done"} 4');
  expect(counted).toMatch(/chatpay_job_runs_total\{job="test.work",outcome="failed"\} [67]/);
});

test("what is not finished yet is no failure, and is tried again later", async () => {
  await addWork(1);
  const worker = open();

  worker.start({ pauses: { firstMs: 60_000, maxMs: 60_000 }, run: async () => "later" });
  await expect.poll(async () => (await workLeft())[0]?.leaseOwner, SOON).toBe("");
  await expect.poll(async () => (await workLeft())[0]?.tries, SOON).toBe(1);
  await expect.poll(() => worker.metrics.registry.metrics(), SOON).toContain('outcome="later"} 1');

  const [item] = await workLeft();
  expect(item?.dueTime.getTime()).toBeGreaterThan(Date.now() + 20_000);
  expect(worker.logs).toEqual([]);
});

test("a run that takes too long is told to end", async () => {
  await addWork(1);
  const worker = open();
  const reasons: unknown[] = [];

  worker.start({
    timeoutMs: 300,
    pauses: { firstMs: 60_000, maxMs: 60_000 },
    async run(_item, signal) {
      await once(signal, "abort");
      reasons.push((signal.reason as Error).name);
      throw signal.reason;
    },
  });
  await expect.poll(() => worker.logs, SOON).toMatchObject([{ level: 50, job: "test.work", item: "1", late: true }]);

  expect(reasons).toEqual(["TimeoutError"]);
});

test("whoever is nudged looks at once", async () => {
  const worker = open();
  let looks = 0;
  worker.start({
    idleMs: DAY_MS,
    ...countClaims(worker, () => (looks += 1)),
    async run(item) {
      await worker.finish(item);
      return "done";
    },
  });
  await expect.poll(() => looks, SOON).toBe(1);
  await addWork(10);

  worker.runner.nudge("test.work");
  worker.runner.nudge("a job that runs elsewhere");

  await expect.poll(workLeft, SOON).toEqual([]);
});

test("closing waits for what runs, and claims nothing more", async () => {
  await addWork(3);
  const worker = open();
  const { promise: gate, resolve: pass } = Promise.withResolvers<void>();
  let begun = 0;
  worker.start({
    runsMax: 1,
    async run(item) {
      begun += 1;
      await gate;
      await worker.finish(item);
      return "done";
    },
  });
  await expect.poll(() => begun, SOON).toBe(1);

  let isClosed = false;
  const closing = worker.runner.close().then(() => (isClosed = true));
  await sleep(50);
  expect(isClosed).toBe(false);
  pass();
  await closing;

  expect((await workLeft()).map(({ id, tries }) => [id, tries])).toEqual([
    [2n, 0],
    [3n, 0],
  ]);
});

test("closing does not wait for ever: what still runs is told to end, and is due at once for others", async () => {
  await addWork(1);
  const worker = open({ graceMs: 20 });
  let begun = 0;
  worker.start({
    async run(_item, signal) {
      begun += 1;
      await once(signal, "abort");
      throw signal.reason;
    },
  });
  await expect.poll(() => begun, SOON).toBe(1);

  await worker.runner.close();

  const [item] = await workLeft();
  expect(item).toMatchObject({ leaseOwner: "", leaseUntil: null });
  expect(item?.dueTime.getTime()).toBeLessThanOrEqual(Date.now());
  expect(worker.logs).toEqual([]);
});

test("nothing of it keeps a process alive", async () => {
  const program = `
    import { pino } from "pino";
    import { openRunner } from "./src/job/runner.ts";
    import { createMetrics } from "./src/metrics.ts";
    const job = { name: "idle", runsMax: 1, timeoutMs: 600_000, idleMs: 600_000, pauses: { firstMs: 600_000, maxMs: 600_000 },
      claim: async () => (job.claimed ? [] : (job.claimed = [{ id: 1n, tries: 1 }])), putOff: async () => {},
      run: () => new Promise(() => {}), measure: async () => ({ count: 0, oldestMs: 0 }) };
    openRunner({ log: pino(), metrics: createMetrics(), graceMs: 600_000 }).start([job]);
    setTimeout(() => {}, 100);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: join(import.meta.dirname, ".."),
    stdio: "ignore",
    timeout: 15_000,
  });

  const [exitCode] = await once(child, "exit");

  expect(exitCode).toBe(0);
});

test("while the database is away jobs wait with one line in the log, and go on when it is back", async () => {
  const relay = await startRelay(databaseUrl);
  const worker = open({ url: relay.url });
  let looks = 0;
  worker.start({
    ...countClaims(worker, () => (looks += 1)),
    async run(item) {
      await worker.finish(item);
      return "done";
    },
  });
  for (let i = 0; i < 3; i += 1)
    worker.runner.start([periodic(worker.db, { name: `test.${i}`, everyMs: 200, run: async () => "done" })]);
  await expect.poll(() => looks, SOON).toBeGreaterThan(0);

  relay.cut();
  await addWork(5);
  await expect.poll(() => worker.logs.length, SOON).toBeGreaterThan(0);
  await sleep(1_500);
  expect((await workLeft()).length).toBe(5);
  relay.mend();

  await expect.poll(workLeft, { ...SOON, timeout: 15_000 }).toEqual([]);
  expect(worker.logs.map(({ msg }) => msg)).toEqual(["jobs wait for the database"]);
  await worker.runner.close();
  await relay.close();
});

test("a periodic job runs once in each period, however many processes there are", async () => {
  let runs = 0;
  const everyMs = 60 * 60_000;
  const counted = () => periodic(db, { name: "test.period", everyMs, run: async () => ((runs += 1), "done") });
  const rows = () => db.selectFrom("job").selectAll().execute();
  for (let i = 0; i < 8; i += 1) open().runner.start([counted()]);
  await expect.poll(async () => (await rows())[0]?.runs, SOON).toBe(1n);
  const first = (await rows())[0]?.dueTime as Date;
  expect(first.getTime()).toBeGreaterThan(Date.now() + everyMs / 2);

  // Five periods, of which nobody ran four.
  const dueTime = new Date(first.getTime() - 5.5 * everyMs);
  await db.updateTable("job").set({ dueTime }).execute();
  for (const { runner } of workers) runner.nudge("test.period");
  await expect.poll(async () => (await rows())[0]?.runs, SOON).toBe(2n);
  for (const { runner } of workers) runner.nudge("test.period");
  await Promise.all(workers.map(({ runner }) => runner.close()));

  expect(runs).toBe(2);
  const [row] = await rows();
  expect(row).toMatchObject({ runs: 2n, tries: 0, leaseOwner: "", leaseUntil: null, lastRunTime: expect.any(Date) });
  // In step with the periods before.
  expect(((row?.dueTime.getTime() ?? 0) - dueTime.getTime()) % everyMs).toBe(0);
  expect(row?.dueTime.getTime()).toBeGreaterThan(Date.now());
});

test("a periodic job that fails is tried again before its next period", async () => {
  let runs = 0;
  const worker = open();
  const fail = async () => {
    runs += 1;
    if (runs === 1) throw new Error("nobody foresaw it");
    return "done" as const;
  };

  worker.runner.start([periodic(worker.db, { name: "test.failing", everyMs: 5_000, run: fail })]);

  await expect.poll(() => runs, SOON).toBe(2);
  expect(worker.logs).toMatchObject([{ job: "test.failing", item: "test.failing" }]);
});

test("a sweep takes batch after batch, and leaves the rest to the next run when it is told to end", async () => {
  const batches = [1_000, 1_000, 3];
  const limits: number[] = [];
  const some = async (limit: number) => {
    limits.push(limit);
    return batches.shift() ?? 0;
  };

  expect(await sweep(some)(new AbortController().signal)).toBe("done");
  expect(limits).toEqual([1_000, 1_000, 1_000]);
  batches.push(1_000, 1_000);
  expect(await sweep(some)(AbortSignal.abort())).toBe("more");
  expect(limits.length).toBe(4);
});

test("the metrics say what is due and for how long, without what runs or is due later", async () => {
  await addWork(1_500);
  await db
    .updateTable("accountCleanup")
    .set({ dueTime: ago(90_000) })
    .where("id", "=", 7n)
    .execute();
  await db
    .updateTable("accountCleanup")
    .set({ dueTime: ago(-DAY_MS) })
    .where("id", ">", 20n)
    .execute();
  await db
    .updateTable("accountCleanup")
    .set({ leaseUntil: ago(-DAY_MS) })
    .where("id", "<=", 5n)
    .execute();
  const worker = open();
  worker.start({ claim: async () => [], run: async () => "done" });

  const valueOf = async (name: string) =>
    Number(new RegExp(`^${name}\\{job="test.work"\\} (.*)$`, "m").exec(await worker.metrics.registry.metrics())?.[1]);

  expect(await valueOf("chatpay_job_due")).toBe(15);
  expect(await valueOf("chatpay_job_oldest_seconds")).toBeGreaterThanOrEqual(90);
  expect(await valueOf("chatpay_job_oldest_seconds")).toBeLessThan(150);
  await makeDue();
  expect(await valueOf("chatpay_job_due")).toBe(1_000);
  await worker.db.destroy();
  expect(await valueOf("chatpay_job_due")).toBeNaN();
});
