import { createAuthenticate } from "../../src/account/authenticate.ts";
import { findAccount, isSessionOpen, listOpenSessionIds } from "../../src/account/queries.ts";
import { openSessions } from "../../src/account/sessions.ts";
import { type App, createApp } from "../../src/app.ts";
import { readConfig } from "../../src/config.ts";
import { createKey } from "../../src/key/key.ts";
import type { Authenticate } from "../../src/rpc/caller.ts";
import { CallHeaders } from "../../src/rpc/headers.ts";
import { type Arena, log, openArena } from "../arena.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, microseconds, milliseconds, type Section } from "../report.ts";
import type { Settings } from "../settings.ts";

/** What it costs to find out who calls, and what a look-up of what is not known costs in MySQL and would in Redis. */
export async function verify({ services, settings, say }: Bench): Promise<Section> {
  const { people } = settings.verify;
  const arena = await openArena(services, "bench_verify", people);
  const app = await createApp(configOf(arena), { log });
  try {
    const { tokens, sessionIds } = await signIn(app, arena, people);
    const { key } = await createKey(app, { kind: "service", name: "bench" });
    const authenticate = createAuthenticate(app);
    const person = await measure(
      authenticate,
      tokens.map((token) => headersOf(token)),
      settings.verify,
    );
    say(`access tokens: first ${milliseconds(person.firstMs)}, then ${microseconds(person.knownUs)}`);
    const chat = await measure(
      authenticate,
      arena.people.accountIds.slice(0, people).map((id) => headersOf(key, id)),
      settings.verify,
    );
    say(`a key for accounts: first ${milliseconds(chat.firstMs)}, then ${microseconds(chat.knownUs)}`);

    for (const id of sessionIds) await app.redis.set(`bench:session:${id}`, "1", "EX", 600);
    const mysql = await lookUp(sessionIds, (id) => isSessionOpen(app.db, id), settings.verify);
    const redis = await lookUp(
      sessionIds,
      async (id) => (await app.redis.get(`bench:session:${id}`)) !== null,
      settings.verify,
    );
    const together = await lookUpTogether(app, sessionIds, settings.verify);
    return {
      title: "Credentials",
      tables: [
        [
          [`${count(people)} callers`, "first time", "known"],
          ["a person's access token", milliseconds(person.firstMs), microseconds(person.knownUs)],
          ["the key of a chat server, for an account", milliseconds(chat.firstMs), microseconds(chat.knownUs)],
        ],
        [
          ["is a session open?", "one query", "sessions per second"],
          [`one by one in MySQL, ${LOOK_UPS} at a time`, milliseconds(mysql.aloneMs), count(mysql.perSecond)],
          [
            `one by one in Redis, if they were there, ${LOOK_UPS} at a time`,
            milliseconds(redis.aloneMs),
            count(redis.perSecond),
          ],
          ["all at once in MySQL", milliseconds(together.ms), count((people * 1000) / together.ms)],
        ],
      ],
      goals: [
        {
          measure: "verifying a known credential",
          value: Math.max(person.knownUs, chat.knownUs),
          lessIsBetter: true,
          must: 5,
          aim: 1,
          show: microseconds,
        },
      ],
    };
  } finally {
    await app.close();
    await arena.close();
  }
}

const LOOK_UPS = 64;

const configOf = ({ databaseUrl, redisUrl }: Arena) =>
  readConfig({
    CHATPAY_MODE: "development",
    DATABASE_URL: databaseUrl,
    REDIS_URL: redisUrl,
    CHATPAY_SMTP_URL: "smtp://127.0.0.1:1025",
  });

async function signIn(app: App, arena: Arena, people: number) {
  const sessions = openSessions(app);
  const tokens: string[] = [];
  for (const id of arena.people.accountIds.slice(0, people)) {
    const account = await findAccount(app.db, id);
    if (!account) throw new Error(`the arena lost account ${id}`);
    tokens.push((await sessions.start(account, { device: "bench", ip: "127.0.0.1" })).accessToken);
  }
  const open = await app.db.selectFrom("session").select("id").execute();
  return { tokens, sessionIds: open.map(({ id }) => id) };
}

/** As they come in at the gRPC door. */
function headersOf(credential: string, accountId?: bigint): Headers {
  const headers = new CallHeaders();
  headers.set("user-agent", "bench");
  headers.set("authorization", `Bearer ${credential}`);
  if (accountId !== undefined) headers.set("chatpay-account-id", String(accountId));
  return headers;
}

/** Medians: of the first look at each caller, and of all looks when each is known. */
async function measure(authenticate: Authenticate, callers: Headers[], { calls, rounds }: Settings["verify"]) {
  const firstMs: number[] = [];
  for (const caller of callers) {
    const start = performance.now();
    await authenticate(caller);
    firstMs.push(performance.now() - start);
  }
  const knownUs: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // Sessions and keys are looked up again every few seconds; that is not what is measured.
    for (const caller of callers) await authenticate(caller);
    let waited = 0;
    const start = performance.now();
    for (let i = 0; i < calls; i += 1) {
      if (authenticate(callers[i % callers.length] as Headers) instanceof Promise) waited += 1;
    }
    knownUs.push(((performance.now() - start) * 1000) / calls);
    if (waited > 0) throw new Error(`${waited} of ${calls} known callers were looked up again`);
  }
  return { firstMs: median(firstMs), knownUs: median(knownUs) };
}

async function lookUp(ids: bigint[], isOpen: (id: bigint) => Promise<boolean>, { lookUps }: Settings["verify"]) {
  const look = async (i: number) => {
    if (!(await isOpen(ids[i % ids.length] as bigint))) throw new Error("an open session was not found");
  };
  const aloneMs: number[] = [];
  for (let i = 0; i < lookUps; i += 1) {
    const start = performance.now();
    await look(i);
    aloneMs.push(performance.now() - start);
  }
  const start = performance.now();
  let next = 0;
  const client = async () => {
    while (next < lookUps) await look((next += 1));
  };
  await Promise.all(Array.from({ length: LOOK_UPS }, client));
  return { aloneMs: median(aloneMs), perSecond: (lookUps * 1000) / (performance.now() - start) };
}

async function lookUpTogether({ db }: App, ids: bigint[], { rounds }: Settings["verify"]) {
  const tookMs: number[] = [];
  for (let round = 0; round < rounds * 10; round += 1) {
    const start = performance.now();
    const open = await listOpenSessionIds(db, ids);
    tookMs.push(performance.now() - start);
    if (open.length !== ids.length) throw new Error("an open session was not found");
  }
  return { ms: median(tookMs) };
}
