import { spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import mysql from "mysql2/promise";
import { findPrograms, type Program } from "./programs.ts";
import { exists, freePort, fullDisk, isFree, isRunning, lastLines, needSpace, readFrom, run } from "./system.ts";

const START_TIMEOUT_MS = 120_000;
const CONNECT_TIMEOUT_MS = 2_000;
const POLL_MS = 50;
const PORT_TRIES_MAX = 3;
const MYSQL_MB = 400;
const REDIS_MB = 50;

/** A database server of our own, on 127.0.0.1. */
export interface Server {
  port: number;
  pid: number;
  /** Without a database. */
  url: string;
  /** What is known about it when it has ended without being asked to; never resolves otherwise. */
  died: Promise<string>;
  /** Ends it in good order, unless another process that still runs started it. */
  stop(): Promise<void>;
  /** Ends it as a crash would: nothing is flushed, nothing is tidied. */
  kill(): Promise<void>;
}

export interface ServerOptions {
  /** Where the server keeps its data, its log and its port. */
  dir: string;
  /** A port that must be used; otherwise the one it had before, or any. */
  port?: number;
  /** More options for the server, after our own. */
  flags?: string[];
}

export interface Services {
  databaseUrl: string;
  redisUrl: string;
  mysqlPort: number;
  redisPort: number;
  /** Undefined when the database was given by its address. */
  mysqldPid: number | undefined;
  died: Promise<string>;
  stop(): Promise<void>;
}

export interface ServicesOptions {
  dir: string;
  mysqlFlags?: string[];
  redisFlags?: string[];
  /** The address of a MySQL that is used instead of one of our own. */
  databaseUrl?: string;
  /** The address of a Redis that is used instead of one of our own. */
  redisUrl?: string;
}

/** MySQL with an empty or known database `chatpay`, and Redis: the given ones, those that run in `dir`, or new ones. */
export async function startServices(options: ServicesOptions): Promise<Services> {
  const { dir, databaseUrl, redisUrl, mysqlFlags: flags } = options;
  const servers = await Promise.allSettled([
    databaseUrl ? undefined : startMysql({ dir: join(dir, "mysql"), flags }),
    redisUrl ? undefined : startRedis({ dir: join(dir, "redis"), flags: options.redisFlags }),
  ]);
  const stop = async () => {
    for (const server of servers) if (server.status === "fulfilled") await server.value?.stop();
  };
  const [database, redis] = servers;
  if (database.status === "rejected" || redis.status === "rejected") {
    await stop();
    throw database.status === "rejected" ? database.reason : (redis as PromiseRejectedResult).reason;
  }
  const url = databaseUrl ?? `${database.value?.url}/chatpay`;
  if (database.value) await createDatabase(database.value.url, "chatpay");
  return {
    databaseUrl: url,
    redisUrl: redisUrl ?? redis.value?.url ?? "",
    mysqlPort: portOf(url, 3306),
    redisPort: portOf(redisUrl ?? redis.value?.url ?? "", 6379),
    mysqldPid: database.value?.pid,
    died: Promise.race([database.value?.died ?? never, redis.value?.died ?? never]),
    stop,
  };
}

/**
 * A MySQL with all its promises of durability. `root` has no password: the server listens to this machine only.
 * A server that was killed is recovered by starting it again in the same directory.
 */
export const startMysql = (options: ServerOptions) => startServer(options, mysqlIn);

/** A Redis that keeps what it holds when it is stopped in good order. */
export const startRedis = (options: ServerOptions) => startServer(options, redisIn);

/** Stops the servers whose directories are in `dir`, after the process that started them was killed. */
export async function stopAbandoned(dir: string) {
  for (const name of await readdir(dir)) {
    const kindIn = (await exists(join(dir, name, "data/mysqld.pid"))) ? mysqlIn : redisIn;
    await (await findRunning(join(dir, name), kindIn))?.stop();
  }
}

function mysqlIn(dir: string): Kind {
  const data = join(dir, "data");
  return {
    name: "MySQL",
    megabytes: MYSQL_MB,
    program: async () => (await findPrograms()).mysqld,
    url: (port) => `mysql://root@127.0.0.1:${port}`,
    prepare: (words) => initialize(words, dir, data),
    args: (port) => [
      `--datadir=${data}`,
      `--port=${port}`,
      "--bind-address=127.0.0.1",
      // Relative to the data directory, because the kernel takes no long path.
      "--socket=mysqld.sock",
      "--pid-file=mysqld.pid",
      "--mysqlx=OFF",
      "--secure-file-priv=NULL",
      "--max-connections=300",
      "--binlog-expire-logs-seconds=86400",
      ...asRoot(),
    ],
    async answers(port) {
      const connection = await connect(`mysql://root@127.0.0.1:${port}`);
      try {
        const [rows] = await connection.query<mysql.RowDataPacket[]>("select @@datadir as dir");
        if (!(await isSame(rows[0]?.dir, data))) return undefined;
        return Number(await readFile(join(data, "mysqld.pid"), "utf8"));
      } finally {
        connection.destroy();
      }
    },
  };
}

function redisIn(dir: string): Kind {
  const data = join(dir, "data");
  return {
    name: "Redis",
    megabytes: REDIS_MB,
    program: async () => (await findPrograms()).redis,
    url: (port) => `redis://127.0.0.1:${port}`,
    prepare: () => mkdir(data, { recursive: true }),
    args: (port) => ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", data, "--save", "60 1"],
    async answers(port) {
      const client = new Redis({ host: "127.0.0.1", port, lazyConnect: true, retryStrategy: null });
      client.on("error", () => undefined);
      try {
        await client.connect();
        const reply = await client.config("GET", "dir");
        if (!(await isSame(reply[1] ?? "", data))) return undefined;
        return Number(/process_id:(\d+)/.exec(await client.info("server"))?.[1]);
      } finally {
        client.disconnect();
      }
    },
  };
}

export async function createDatabase(serverUrl: string, name: string) {
  const connection = await connect(serverUrl);
  try {
    await connection.query(`create database if not exists \`${name}\` character set utf8mb4 collate utf8mb4_bin`);
  } finally {
    connection.destroy();
  }
}

interface Kind {
  name: string;
  /** What the disk must have free before the server is started. */
  megabytes: number;
  program(): Promise<Program>;
  url(port: number): string;
  prepare(words: string[]): Promise<unknown>;
  args(port: number): string[];
  /** The pid of the server at the port, if its data are in our directory. */
  answers(port: number): Promise<number | undefined>;
}

/** The server that runs in `dir`. It becomes ours when the process that started it is gone. */
async function findRunning(dir: string, kindIn: (dir: string) => Kind): Promise<Server | undefined> {
  const kind = kindIn(dir);
  const port = await numberIn(dir, "port");
  const pid = port ? await kind.answers(port).catch(() => undefined) : undefined;
  if (!pid) return undefined;
  const owner = await numberIn(dir, "owner");
  const isOurs = owner === process.pid || !(await isRunning(owner));
  if (isOurs) await writeFile(join(dir, "owner"), `${process.pid}`);
  return handle(kind, dir, port, pid, isOurs);
}

const numberIn = async (dir: string, file: string) => Number(await readFile(join(dir, file), "utf8").catch(() => 0));

async function startServer(options: ServerOptions, kindIn: (dir: string) => Kind): Promise<Server> {
  const { dir } = options;
  const running = await findRunning(dir, kindIn);
  if (running) return running;

  const kind = kindIn(dir);
  const known = await numberIn(dir, "port");
  await needSpace(dir, kind.megabytes, kind.name);
  const words = (await kind.program())(dir);
  await kind.prepare(words);
  for (let attempt = 1; ; attempt += 1) {
    const port = await choosePort(kind, options.port, known);
    const outcome = await launch(kind, dir, words, port, options.flags ?? []);
    if (outcome.failure === undefined) {
      await writeFile(join(dir, "port"), `${port}`);
      await writeFile(join(dir, "owner"), `${process.pid}`);
      return handle(kind, dir, port, outcome.pid, true);
    }
    // Somebody took the port between the look and the start.
    const isTaken = /address already in use/i.test(outcome.failure);
    if (!isTaken || options.port || attempt === PORT_TRIES_MAX) throw new Error(outcome.failure);
  }
}

async function choosePort(kind: Kind, wanted: number | undefined, known: number): Promise<number> {
  if (wanted) {
    if (await isFree(wanted)) return wanted;
    throw new Error(`Port ${wanted}, where ${kind.name} should listen, is taken by another program.`);
  }
  return known && (await isFree(known)) ? known : freePort();
}

/** Starts the program and waits until it answers. */
async function launch(
  kind: Kind,
  dir: string,
  words: string[],
  port: number,
  flags: string[],
): Promise<{ pid: number; failure?: undefined } | { failure: string }> {
  const log = await open(join(dir, "server.log"), "a");
  const { size } = await log.stat();
  const [program = "", ...args] = [...words, ...kind.args(port), ...flags];
  // In a session of its own: Ctrl-C in the terminal is for us, and we stop the servers last.
  const child = spawn(program, args, { cwd: dir, detached: true, stdio: ["ignore", log.fd, log.fd] });
  let ended: string | undefined;
  child.once("error", (error) => (ended = error.message));
  child.once("exit", (code, signal) => (ended ??= signal ?? `exit code ${code}`));
  child.unref();
  await log.close();

  const deadline = Date.now() + START_TIMEOUT_MS;
  while (ended === undefined && Date.now() < deadline) {
    const pid = await kind.answers(port).catch(() => undefined);
    if (pid) return { pid };
    await sleep(POLL_MS);
  }
  if (ended === undefined) child.kill();
  const why = ended ? `ended at once (${ended})` : `did not answer within ${START_TIMEOUT_MS / 1000} s`;
  return { failure: await report(`${kind.name} ${why}.`, dir, size) };
}

/** The servers that end with this process, also when it ends without stopping them. */
const ours = new Set<number>();
process.on("exit", () => {
  for (const pid of ours) {
    try {
      process.kill(pid, "SIGTERM");
    } catch {
      // It ended a moment ago.
    }
  }
});

function handle(kind: Kind, dir: string, port: number, pid: number, isOurs: boolean): Server {
  let isWanted = true;
  if (isOurs) ours.add(pid);
  const end = async (signal: NodeJS.Signals) => {
    isWanted = false;
    if (await isRunning(pid)) process.kill(pid, signal);
    while (await isRunning(pid)) await sleep(POLL_MS);
    ours.delete(pid);
  };
  return {
    port,
    pid,
    url: kind.url(port),
    died: watch(pid).then(async () => {
      ours.delete(pid);
      if (!isWanted) return never;
      const { size } = await stat(join(dir, "server.log"));
      return report(`${kind.name} (process ${pid}) has ended and nobody asked it to.`, dir, Math.max(0, size - 4_096));
    }),
    stop: async () => (isOurs ? end("SIGTERM") : undefined),
    kill: () => end("SIGKILL"),
  };
}

const never = new Promise<never>(() => undefined);

/** Resolves when the process has ended. Does not keep our own process alive. */
async function watch(pid: number) {
  while (await isRunning(pid)) await sleep(500, undefined, { ref: false });
}

async function report(what: string, dir: string, logStart: number) {
  const log = join(dir, "server.log");
  const said = await readFrom(log, logStart);
  return `${what} Its log ${log} ends with:\n${lastLines(said, 10).replace(/^/gm, "  ")}${fullDisk(said)}`;
}

/** Makes the data directory once, beside its place, so that one that was interrupted is never taken for whole. */
async function initialize(words: string[], dir: string, data: string) {
  if (await exists(data)) return;
  const fresh = join(dir, "data.new");
  await rm(fresh, { recursive: true, force: true });
  const [program = "", ...args] = words;
  await run(program, [...args, "--initialize-insecure", `--datadir=${fresh}`, ...asRoot()]).catch((error: Error) => {
    throw new Error(`MySQL could not make its data directory in ${dir}. ${error.message}`, { cause: error });
  });
  await rename(fresh, data);
}

/** MySQL refuses to run as root unless it is told to. */
const asRoot = () => (process.getuid?.() === 0 ? ["--user=root"] : []);

const connect = (uri: string) => mysql.createConnection({ uri, connectTimeout: CONNECT_TIMEOUT_MS });

const isSame = async (one: string, other: string) => (await realpath(one)) === (await realpath(other));

const portOf = (url: string, usual: number) => Number(new URL(url).port) || usual;
