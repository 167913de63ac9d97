import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import pretty from "pino-pretty";
import { kftcSettings } from "../sandbox/kftc/server.ts";
import { smsSettings } from "../sandbox/sms.ts";
import { type Demo, makeDemo } from "./demo.ts";
import { startServices } from "./services.ts";
import { freePort, isFree, isRunning } from "./system.ts";

/** `npm start`: everything that ChatPay needs, and ChatPay itself, on this machine. Ctrl-C ends all of it. */

const ROOT = resolve(import.meta.dirname, "..");
const LOCAL = join(ROOT, ".local");
const DATA = join(LOCAL, "data");
const READY_TIMEOUT_MS = 30_000;

const PORTS = {
  CHATPAY_CONNECT_PORT: 8080,
  CHATPAY_GRPC_PORT: 50051,
  CHATPAY_INTERNAL_PORT: 9090,
  SANDBOX_SMTP_PORT: 1025,
  SANDBOX_MAIL_PORT: 8025,
  SANDBOX_SMS_PORT: 8026,
  SANDBOX_KFTC_PORT: 8027,
  EXAMPLE_WALLET_PORT: 8028,
};
type Ports = typeof PORTS;

/** What was started, to be ended in reverse order. */
const started: { name: string; stop(): Promise<void> }[] = [];
const children: ChildProcess[] = [];
let stopping: Promise<void> | undefined;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    // A second signal does not wait for calls in flight; MySQL is stopped in good order all the same.
    if (stopping) for (const child of children) child.kill("SIGKILL");
    void stop(0);
  });
}

try {
  await start();
} catch (error) {
  if (!stopping) console.error(`\n${(error as Error).message}`);
  await stop(1);
}

async function start() {
  const began = Date.now();
  await mkdir(DATA, { recursive: true });
  await claimCheckout();
  const ports = await choosePorts();

  const services = await startServices({
    dir: DATA,
    databaseUrl: process.env.DATABASE_URL,
    redisUrl: process.env.REDIS_URL,
  });
  started.push({ name: "MySQL and Redis", stop: services.stop });
  void services.died.then(fail);

  const env: NodeJS.ProcessEnv = {
    CHATPAY_MODE: "development",
    CHATPAY_HOST: "127.0.0.1",
    CHATPAY_SMTP_URL: `smtp://127.0.0.1:${ports.SANDBOX_SMTP_PORT}`,
    ...smsSettings(`http://127.0.0.1:${ports.SANDBOX_SMS_PORT}`),
    ...kftcSettings(`http://127.0.0.1:${ports.SANDBOX_KFTC_PORT}`),
    SANDBOX_KFTC_FILE: join(DATA, "kftc.db"),
    // People come back from their consent to the page of the wallet.
    CHATPAY_OPENBANKING_REDIRECT_URL: `http://localhost:${ports.EXAMPLE_WALLET_PORT}/linked`,
    ...(await secrets()),
    ...process.env,
    ...Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, `${port}`])),
    DATABASE_URL: services.databaseUrl,
    REDIS_URL: services.redisUrl,
  };
  const chatpay = async (...args: string[]) => {
    const words = [join(ROOT, "src/main.ts"), ...args];
    return (await promisify(execFile)(process.execPath, words, { env })).stdout;
  };
  await chatpay("migrate");

  const mailUrl = `http://127.0.0.1:${ports.SANDBOX_MAIL_PORT}`;
  const smsUrl = `http://127.0.0.1:${ports.SANDBOX_SMS_PORT}`;
  const serverUrl = `http://127.0.0.1:${ports.CHATPAY_CONNECT_PORT}`;
  startChild("The sandbox", [process.execPath, "sandbox/main.ts"], env);
  await untilAnswers(`${mailUrl}/mail`);
  await untilAnswers(`${smsUrl}/sms`);
  await untilAnswers(`http://127.0.0.1:${ports.SANDBOX_KFTC_PORT}`);
  startChild("ChatPay", ["bin/chatpay", "serve"], env);
  await untilAnswers(`http://127.0.0.1:${ports.CHATPAY_INTERNAL_PORT}/healthz`);

  const database = process.env.DATABASE_URL ?? "our own";
  const demo = await makeDemo({ file: join(DATA, "demo.json"), database, serverUrl, mailUrl, smsUrl, chatpay });
  const page = {
    EXAMPLE_CHATPAY_URL: serverUrl,
    EXAMPLE_MAIL_URL: `http://localhost:${ports.SANDBOX_MAIL_PORT}`,
    EXAMPLE_PARTNER_ID: demo.partner.id,
  };
  // The page is TypeScript that Node makes JavaScript of, and says each time that this is new.
  const words = [process.execPath, "--disable-warning=ExperimentalWarning", "examples/wallet/server.ts"];
  startChild("The page of the wallet", words, { ...env, ...page });
  await untilAnswers(`http://127.0.0.1:${ports.EXAMPLE_WALLET_PORT}`);
  console.log(banner(demo, ports, services.databaseUrl, services.redisUrl, Date.now() - began));
}

/** Two at once in one checkout would share their data. */
async function claimCheckout() {
  const file = join(DATA, "start.pid");
  const other = Number(await readFile(file, "utf8").catch(() => 0));
  if (other && other !== process.pid && (await isRunning(other))) {
    throw new Error(
      `ChatPay already runs from this checkout, as process ${other}. Press Ctrl-C there, or: kill ${other}`,
    );
  }
  await writeFile(file, `${process.pid}`);
}

/** The usual ports, or those that the environment names; the message for taken ones can be run as it is. */
async function choosePorts(): Promise<Ports> {
  const ports = { ...PORTS };
  const instead: string[] = [];
  const taken: number[] = [];
  for (const name of Object.keys(PORTS) as (keyof Ports)[]) {
    ports[name] = Number(process.env[name] || PORTS[name]);
    if (await isFree(ports[name])) {
      if (process.env[name]) instead.push(`${name}=${ports[name]}`);
      continue;
    }
    taken.push(ports[name]);
    instead.push(`${name}=${await freePort()}`);
  }
  if (taken.length === 0) return ports;
  throw new Error(`Taken by another program: port ${taken.join(", port ")}. End it, or choose other ports:

  ${instead.join(" ")} npm start`);
}

/** Made once: what they sign must still be valid after a restart. */
async function secrets(): Promise<Record<string, string>> {
  const file = join(DATA, "secrets.json");
  const known = JSON.parse(await readFile(file, "utf8").catch(() => "{}")) as Record<string, string>;
  const make = () => randomBytes(32).toString("hex");
  const made = { CHATPAY_TOKEN_SECRET: make(), CHATPAY_HASH_SECRET: make(), CHATPAY_BANK_SECRET: make(), ...known };
  await writeFile(file, `${JSON.stringify(made, null, 2)}\n`, { mode: 0o600 });
  return made;
}

function startChild(name: string, [command = "", ...args]: string[], env: NodeJS.ProcessEnv) {
  const follow = pathToFileURL(join(import.meta.dirname, "follow.ts")).href;
  const child = spawn(command, args, {
    cwd: ROOT,
    env: { ...env, NODE_OPTIONS: `${env.NODE_OPTIONS ?? ""} --import=${follow}` },
    // In a session of its own, so that Ctrl-C reaches it in its turn.
    detached: true,
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  children.push(child);
  child.stdout?.pipe(pretty({ ignore: "pid,hostname", singleLine: true }));
  child.stderr?.pipe(process.stderr);
  const exit = once(child, "exit");
  void exit.then(([code, signal]) => fail(`${name} has ended by itself (${signal ?? `exit code ${code}`}).`));
  started.push({
    name,
    async stop() {
      child.kill("SIGTERM");
      await exit;
    },
  });
}

async function untilAnswers(url: string) {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (Date.now() < deadline && !stopping) {
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok) return;
    await sleep(50);
  }
  throw new Error(`${url} did not answer within ${READY_TIMEOUT_MS / 1000} s`);
}

function fail(message: string) {
  if (stopping) return;
  console.error(`\n${message}`);
  void stop(1);
}

function stop(exitCode: number): Promise<void> {
  stopping ??= (async () => {
    for (const part of started.reverse()) {
      await part.stop().catch((error: Error) => console.error(`${part.name} could not be stopped: ${error.message}`));
    }
    process.exit(exitCode);
  })();
  return stopping;
}

function banner(demo: Demo, ports: Ports, databaseUrl: string, redisUrl: string, tookMs: number) {
  return `
ChatPay is up (${(tookMs / 1000).toFixed(1)} s). Ctrl-C stops all of it; the data stay in .local/data.

  a wallet in the browser   http://localhost:${ports.EXAMPLE_WALLET_PORT}
  Connect, gRPC-Web, gRPC   http://localhost:${ports.CHATPAY_CONNECT_PORT}
  gRPC                      localhost:${ports.CHATPAY_GRPC_PORT}
  metrics, health           http://localhost:${ports.CHATPAY_INTERNAL_PORT}/metrics, /healthz
  mail inbox                http://localhost:${ports.SANDBOX_MAIL_PORT}
  SMS inbox                 http://localhost:${ports.SANDBOX_SMS_PORT}
  banks                     http://localhost:${ports.SANDBOX_KFTC_PORT}
  MySQL                     ${databaseUrl}
  Redis                     ${redisUrl}

  ${demo.alice.address}, ${demo.bob.address}, ${demo.carol.address}: password "${demo.password}"
  alice    account ${demo.alice.accountId}  wallet ${demo.alice.walletId}
  bob      account ${demo.bob.accountId}  wallet ${demo.bob.walletId}
  carol    account ${demo.carol.accountId}  wallet ${demo.carol.walletId}
  partner  id ${demo.partner.id}  wallet ${demo.partner.walletId}

  chat server's key  ${demo.keys.service}
  partner's key      ${demo.keys.partner}
  operator's key     ${demo.keys.operator}

A first call: the chat server sends 1,000 won from Alice to Bob. Run it twice, and the money moves once.

curl http://localhost:${ports.CHATPAY_CONNECT_PORT}/chatpay.transfer.v1.TransferService/SendTransfer \\
  -H 'content-type: application/json' \\
  -H 'authorization: Bearer ${demo.keys.service}' \\
  -H 'chatpay-account-id: ${demo.alice.accountId}' \\
  -d '{"idempotencyKey": "first", "recipientWalletId": "${demo.bob.walletId}", "amount": "1000", "memo": "lunch"}'
`;
}
