import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import mysql from "mysql2/promise";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type Server, startMysql, startRedis } from "../tools/services.ts";

// Directories of our own: these tests kill what the others live on.
let dir: string;
const flags = ["--performance-schema=OFF", "--innodb-buffer-pool-size=32M"];
const start = () => startMysql({ dir, flags });

beforeAll(async () => {
  dir = await mkdtemp(join(inject("runDir"), "own-"));
  await start();
});

afterAll(async () => {
  await (await start()).stop();
  await rm(dir, { recursive: true, force: true });
});

test("a server that is up is used again, on the same port", async () => {
  const first = await start();

  const second = await start();

  expect(second).toMatchObject({ pid: first.pid, port: first.port });
});

test("a server that was started by another process is left running", async () => {
  const first = await start();
  await writeFile(join(dir, "owner"), `${process.ppid}`);

  await (await start()).stop();

  expect(await query(first, "select 1 as one")).toEqual([{ one: 1 }]);
  await writeFile(join(dir, "owner"), `${process.pid}`);
});

test("what was committed before kill -9 is there after the next start, on the same port", async () => {
  const before = await start();
  await query(before, "create database kept");
  await query(before, "create table kept.row (id int primary key)");
  await query(before, "insert into kept.row values (1)");

  await before.kill();
  const after = await start();

  expect(after.port).toBe(before.port);
  expect(after.pid).not.toBe(before.pid);
  expect(await query(after, "select id from kept.row")).toEqual([{ id: 1 }]);
});

test("a server that ends without being asked to says so, with the end of its log", async () => {
  const server = await start();

  process.kill(server.pid, "SIGKILL");

  expect(await server.died).toMatch(/^MySQL \(process \d+\) has ended[^]*server\.log ends with:\n {2}\S/);
});

test("a port that somebody else has is named", async () => {
  const taken = Number(new URL(inject("redisUrl")).port);
  const own = await mkdtemp(join(inject("runDir"), "own-"));

  await expect(startRedis({ dir: own, port: taken })).rejects.toThrow(`Port ${taken}, where Redis should listen`);

  await rm(own, { recursive: true });
});

async function query(server: Server, sql: string) {
  const connection = await mysql.createConnection(server.url);
  const [rows] = await connection.query(sql);
  await connection.end();
  return rows;
}
