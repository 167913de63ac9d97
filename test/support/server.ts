import { randomUUID } from "node:crypto";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { inject } from "vitest";
import { kftcSettings, startKftc } from "../../sandbox/kftc/server.ts";
import { startMailInbox } from "../../sandbox/mail.ts";
import { smsSettings, startSmsInbox } from "../../sandbox/sms.ts";
import { createApp } from "../../src/app.ts";
import { readConfig } from "../../src/config.ts";
import { openDatabase } from "../../src/db/database.ts";
import { migrate } from "../../src/db/migrate.ts";
import { createKey } from "../../src/key/key.ts";
import { openServer } from "../../src/server.ts";
import { createDatabase } from "../../tools/services.ts";

/** What a call is made with: a token or an API key, and the account that a chat server acts for. */
export interface Credential {
  bearer?: string;
  accountId?: bigint | string;
}

export type Door = "connect" | "grpc";
export type TestServer = Awaited<ReturnType<typeof startServer>>;

/** An empty database of its own on the run's MySQL. */
export async function makeDatabase(): Promise<string> {
  const name = `t_${randomUUID().replaceAll("-", "")}`;
  await createDatabase(inject("mysqlUrl"), name);
  return new URL(name, inject("mysqlUrl")).href;
}

/**
 * A database of the run's Redis that no file has which runs at the same time: some make all codes in it older than they
 * are. Which of them a file has says the worker that runs it; the first is the one that the address names.
 */
export function redisUrl(): string {
  const url = new URL(inject("redisUrl"));
  const first = Number(url.pathname.slice(1));
  url.pathname = String(first + Number(process.env.VITEST_POOL_ID) - 1);
  return url.href;
}

/** All tests call from 127.0.0.1, and faster than people. */
const NOT_LIMITED = Object.fromEntries(
  ["READ", "WRITE", "ENTER", "PARTNER", "OPERATOR", "FAILED_CREDENTIALS", "TEXTS"].map((name) => [
    `CHATPAY_LIMIT_${name}`,
    "1000000",
  ]),
);

export const testEnvironment = (databaseUrl: string, smtpPort: number): NodeJS.ProcessEnv => ({
  CHATPAY_MODE: "development",
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl(),
  CHATPAY_HOST: "127.0.0.1",
  CHATPAY_CONNECT_PORT: "0",
  CHATPAY_GRPC_PORT: "0",
  CHATPAY_INTERNAL_PORT: "0",
  CHATPAY_SMTP_URL: `smtp://127.0.0.1:${smtpPort}`,
  CHATPAY_LOG_LEVEL: "debug",
  ...NOT_LIMITED,
});

/** The whole service in this process: its own database, real MySQL, Redis and SMTP, both doors open. */
export async function startServer(environment: NodeJS.ProcessEnv = {}) {
  const inbox = await startMailInbox({ smtpPort: 0, httpPort: 0 });
  const smsInbox = await startSmsInbox({ port: 0 });
  const kftc = await startKftc({ port: 0, redirectUrl: environment.CHATPAY_OPENBANKING_REDIRECT_URL });
  const databaseUrl = environment.DATABASE_URL ?? (await makeDatabase());
  const config = readConfig({
    ...testEnvironment(databaseUrl, inbox.smtpPort),
    ...smsSettings(smsInbox.url),
    ...kftcSettings(kftc.url),
    ...environment,
  });
  const logs: string[] = [];
  const log = pino({ level: config.logLevel }, { write: (line) => void logs.push(line) });

  await migrateAt(config.databaseUrl);
  const app = await createApp(config, { log });
  const doors = await openServer(app);
  const baseUrl = `http://127.0.0.1:${doors.connectPort}`;
  const grpcUrl = `http://127.0.0.1:${doors.grpcPort}`;
  const internalUrl = `http://127.0.0.1:${doors.internalPort}`;

  const makeKey = async (kind: "service" | "operator" | "partner", partnerId?: bigint) =>
    (await createKey(app, { kind, name: `test ${kind}`, partnerId })).key;
  const keys = { service: await makeKey("service"), operator: await makeKey("operator") };

  const transports = new Map<string, Transport>();
  function transport(door: Door, credential: Credential): Transport {
    const id = JSON.stringify([door, credential.bearer, String(credential.accountId)]);
    let made = transports.get(id);
    if (!made) {
      const options = { httpVersion: "2" as const, interceptors: [sendCredential(credential)] };
      made =
        door === "grpc"
          ? createGrpcTransport({ baseUrl: grpcUrl, ...options })
          : createConnectTransport({ baseUrl, ...options });
      transports.set(id, made);
    }
    return made;
  }

  return {
    app,
    logs,
    inbox,
    smsInbox,
    /** The open banking centre that the server talks with, unless its environment names another. */
    kftc,
    baseUrl,
    grpcUrl,
    internalUrl,
    grpcAddress: `127.0.0.1:${doors.grpcPort}`,
    keys,
    makeKey,
    /** A client that calls with this credential, by default as the chat server does. */
    client: <S extends DescService>(service: S, credential: Credential = {}, door: Door = "grpc"): Client<S> =>
      createClient(service, transport(door, credential)),
    async stop() {
      await doors.stop();
      await app.close();
      await inbox.stop();
      await smsInbox.stop();
      await kftc.stop();
    },
  };
}

async function migrateAt(databaseUrl: string) {
  const db = openDatabase(databaseUrl);
  await migrate(db);
  await db.destroy();
}

export const sendCredential =
  ({ bearer, accountId }: Credential): Interceptor =>
  (next) =>
  (request) => {
    if (bearer !== undefined) request.header.set("authorization", `Bearer ${bearer}`);
    if (accountId !== undefined) request.header.set("chatpay-account-id", String(accountId));
    return next(request);
  };
