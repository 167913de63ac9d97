import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "kysely";
import { expect, vi } from "vitest";
import { startKftc } from "../../sandbox/kftc/server.ts";
import { type Db, openDatabase } from "../../src/db/database.ts";
import { createDatabase, type Server, startMysql } from "../../tools/services.ts";
import { chooseSeed, randomOf, type ServerProcess, startProcess } from "../support/load.ts";
import { differencesIn } from "../support/people.ts";
import { makeDatabase, redisUrl } from "../support/server.ts";
import type { Chance } from "./chance.ts";
import { gather } from "./crowd.ts";
import { clientsAt, type Desk, openDesk, pursue } from "./orders.ts";
import {
  expectAllTold,
  expectAsTold,
  expectBalances,
  expectEvents,
  expectSameAtBanks,
  expectWithinLimits,
} from "./proof.ts";
import { buildTown, type Town, townSettings } from "./town.ts";
import { storm } from "./weather.ts";

export type Victim = "server" | "mysqld" | "both";

interface Run {
  people: number;
  /** Processes that serve at the same time. */
  servers: number;
  /** What is killed, one after the other, before all servers are in the end. */
  victims: Victim[];
}

/** What is answered between two crashes, at least. */
const ANSWERS_MIN = 30;
const LOAD_MAX_MS = 1_500;
const AWAY_MAX_MS = 1_000;
const PATIENCE_MS = 180_000;
const PATIENCE = { timeout: PATIENCE_MS, interval: 50 };
const DRAIN_PAUSE_MS = 250;

/**
 * People order at random while banks fail in every way, and servers and MySQL are killed. In the end the banks are well,
 * what is due is done, and everybody asks once more; then both sides must have the same to the won. Answers with how
 * often calls ended how.
 */
export async function crashBanks({ people, servers: count, victims }: Run): Promise<Desk["counts"]> {
  const seed = chooseSeed("money between banks and wallets");
  const chance = randomOf(seed);
  const kftc = await startKftc({ port: 0 });
  const mysql = await openMysql(victims.some((victim) => victim !== "server"));
  const { url } = mysql;
  const start = (port?: number) => startProcess(url, redisUrl(), port, townSettings(kftc));
  const servers: ServerProcess[] = [];
  const killed: ServerProcess[] = [];
  const desk = openDesk();
  let isOver = false;

  async function killOne() {
    const [server] = servers.splice(Math.floor(chance() * servers.length), 1) as [ServerProcess];
    await server.kill();
    killed.push(server);
    return server.grpcPort;
  }

  async function crash(victim: Victim) {
    if (victim !== "server") await mysql.kill();
    const port = victim === "mysqld" ? undefined : await killOne();
    if (victim !== "server") {
      await sleep(chance() * AWAY_MAX_MS);
      await mysql.start();
    }
    if (port !== undefined) servers.push(await start(port));
  }

  try {
    const town = await buildTown(url, kftc, people, chance);
    for (let i = 0; i < count; i += 1) servers.push(await start());
    const ports = servers.map(({ grpcPort }) => grpcPort);
    const crowd = gather(town, desk, { ports, seed, isOver: () => isOver });
    const storming = storm(town.land, randomOf(seed - 1), () => isOver);
    // Looked at only in the end; what fails before is not unheard.
    for (const each of [crowd, storming]) each.catch(() => {});

    for (const victim of victims) {
      await working(desk, chance);
      await crash(victim);
    }
    await working(desk, chance);
    isOver = true;
    while (servers.length > 0) await killOne();
    await Promise.all([crowd, storming]);

    const db = openDatabase(url);
    await expectAsTold(db, desk.orders);
    await endLeases(db);
    const last = await start(ports[0]);
    servers.push(last);
    await drain(db);
    await askAll(desk, last, town, chance);
    await drain(db);
    expect(await last.stop()).toBe(0);

    await expectProven(db, town, desk);
    await db.destroy();
    expect(await differencesIn(url)).toEqual([]);
    expect([...killed, last].flatMap(troubleIn)).toEqual([]);
    console.log(summaryOf(desk, killed.length, victims));
    return desk.counts;
  } finally {
    isOver = true;
    for (const server of servers) await server.kill();
    await mysql.stop();
    await kftc.stop();
  }
}

/** One of its own where it is to be killed, else a database of the run's. */
async function openMysql(isKilled: boolean) {
  if (!isKilled) {
    const never = () => Promise.reject(new Error("this MySQL is everybody's"));
    return { url: await makeDatabase(), start: never, kill: never, stop: async () => {} };
  }
  const dir = await mkdtemp(join(tmpdir(), "chatpay-"));
  const launch = () => startMysql({ dir, flags: ["--performance-schema=OFF", "--innodb-buffer-pool-size=64M"] });
  let mysql: Server = await launch();
  await createDatabase(mysql.url, "chatpay");
  return {
    url: `${mysql.url}/chatpay`,
    async start() {
      mysql = await launch();
    },
    kill: () => mysql.kill(),
    async stop() {
      await mysql.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Until people have been told more, and are at something else. */
async function working({ orders }: Desk, chance: Chance) {
  const answered = () => orders.filter(({ done, refused }) => done !== undefined || refused).length;
  const before = answered();
  await vi.waitFor(() => expect(answered()).toBeGreaterThanOrEqual(before + ANSWERS_MIN), PATIENCE);
  await sleep(chance() * LOAD_MAX_MS);
}

/** Whoever had claimed something is dead, so their time is over, as it would be by itself some minutes later. */
async function endLeases(db: Db) {
  await db
    .updateTable("bankTransfer")
    .set({ leaseOwner: "", leaseUntil: null })
    .where("leaseUntil", "is not", null)
    .execute();
}

/** Until nothing is under way. Pauses of minutes and hours are over at once. */
async function drain(db: Db) {
  await vi.waitFor(
    async () => {
      await sql`update bank_transfer set due_time = utc_timestamp(3)
                where due_time > utc_timestamp(3) and lease_until is null`.execute(db);
      expect(await db.selectFrom("bankTransfer").select("id").where("dueTime", "is not", null).execute()).toEqual([]);
    },
    { timeout: PATIENCE_MS, interval: DRAIN_PAUSE_MS },
  );
}

/** Everybody asks once more for everything that they ever ordered. */
async function askAll(desk: Desk, { grpcPort }: ServerProcess, { people }: Town, chance: Chance) {
  await Promise.all(
    people.map(async ({ person: { accountId, credential } }) => {
      const by = { accountId, clients: [clientsAt(grpcPort, credential)] };
      for (const order of desk.orders.filter((each) => each.by.accountId === accountId)) {
        order.by = by;
        expect(await pursue(desk, chance, order, PATIENCE_MS)).toBe(true);
      }
    }),
  );
}

async function expectProven(db: Db, town: Town, { orders, contradictions }: Desk) {
  expect(contradictions).toEqual([]);
  await expectSameAtBanks(db, town);
  await expectWithinLimits(db, town);
  await expectAllTold(db, orders);
  await expectBalances(db, town, orders);
  await expectEvents(db);
}

/** What must not be logged, whatever dies: an inner error, and a bank that says yes after it was taken for no. */
const troubleIn = ({ logs }: ServerProcess) =>
  logs.filter((line) => line.includes('"code":"Internal"') || line.includes("the bank has changed its word"));

function summaryOf({ orders, counts }: Desk, servers: number, victims: Victim[]): string {
  const databases = victims.filter((victim) => victim !== "server").length;
  const { length } = orders.filter(({ done }) => done !== undefined);
  const calls = [...counts].map(([what, count]) => `${what} ${count}`).join(", ");
  return `kill -9 of ${servers} servers and of mysqld ${databases} times; ${length} of ${orders.length} orders done; calls: ${calls}`;
}
