import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { createKey } from "../src/key/key.ts";
import { freePort } from "../tools/system.ts";
import type { Arena } from "./arena.ts";
import { DATA, ROOT } from "./settings.ts";

/** `chatpay serve` in a process of its own, as it runs in production. */
export interface ChatPay {
  grpcPort: number;
  connectPort: number;
  /** Of a chat server. */
  key: string;
  /** From the start of the process until its health is SERVING. */
  startMs: number;
  memory(): Promise<Memory>;
  stop(): Promise<void>;
}

export interface Memory {
  bytes: number;
  peakBytes: number;
}

const START_TIMEOUT_MS = 30_000;
const POLL_MS = 5;

export async function startChatPay(arena: Arena, environment: NodeJS.ProcessEnv = {}): Promise<ChatPay> {
  const [grpcPort, connectPort, internalPort] = [await freePort(), await freePort(), await freePort()];
  const { key } = await createKey(arena, { kind: "service", name: "bench" });
  const log = await open(join(DATA, "server.log"), "a");
  const start = performance.now();
  const child = spawn(join(ROOT, "bin/chatpay"), ["serve"], {
    cwd: ROOT,
    stdio: ["ignore", log.fd, log.fd, "ipc"],
    env: {
      PATH: process.env.PATH,
      NODE_ENV: "production",
      // So that the server ends with the bench, however that ends.
      NODE_OPTIONS: `--import=${pathToFileURL(join(ROOT, "tools/follow.ts")).href}`,
      // As in the image: what V8 compiled is kept.
      NODE_COMPILE_CACHE: join(DATA, "compiled"),
      DATABASE_URL: arena.databaseUrl,
      REDIS_URL: arena.redisUrl,
      CHATPAY_HOST: "127.0.0.1",
      CHATPAY_GRPC_PORT: `${grpcPort}`,
      CHATPAY_CONNECT_PORT: `${connectPort}`,
      CHATPAY_INTERNAL_PORT: `${internalPort}`,
      CHATPAY_SMTP_URL: "smtp://127.0.0.1:1025",
      CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
      CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
      // All calls come from 127.0.0.1; the limit of a chat server's key is as in production.
      CHATPAY_LIMIT_READ: "1000000",
      CHATPAY_LIMIT_WRITE: "1000000",
      CHATPAY_LIMIT_ENTER: "1000000",
      ...environment,
    },
  });
  const exit = once(child, "exit");
  await log.close();
  await untilServing(`http://127.0.0.1:${internalPort}/healthz`, start, () => child.exitCode !== null);
  const startMs = performance.now() - start;

  return {
    grpcPort,
    connectPort,
    key,
    startMs,
    memory: () => memoryOf(child.pid ?? 0),
    async stop() {
      child.kill("SIGTERM");
      await exit;
    },
  };
}

/** The internal port opens last and says what the gRPC health service says. */
async function untilServing(url: string, start: number, hasEnded: () => boolean) {
  while (performance.now() - start < START_TIMEOUT_MS && !hasEnded()) {
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok) return;
    await sleep(POLL_MS);
  }
  throw new Error(`the server does not serve; see ${join(DATA, "server.log")}`);
}

/** What the process has in memory, as Linux counts it. */
async function memoryOf(pid: number): Promise<Memory> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const bytesOf = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * 1024;
  return { bytes: bytesOf("VmRSS"), peakBytes: bytesOf("VmHWM") };
}
