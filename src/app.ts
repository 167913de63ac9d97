import { Redis } from "ioredis";
import { type Logger, pino } from "pino";
import { type Messenger, openMessenger } from "./account/messenger.ts";
import { type OpenTrail, openTrail } from "./audit/audit.ts";
import { type Bank, openBank } from "./bank/bank.ts";
import { type Funding, openFunding } from "./bank/funding.ts";
import { openPayOut, type PayOut } from "./bank/leaving.ts";
import { type BankTransfers, openBankTransfers } from "./bank/transfers.ts";
import type { Config } from "./config.ts";
import { type Db, openDatabase } from "./db/database.ts";
import { leaseIds, type NewId } from "./id.ts";
import { openRunner, type Runner } from "./job/runner.ts";
import { type Lane, openLane } from "./ledger/lane.ts";
import { type Mailer, openMailer } from "./mail.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { endRequestsOf } from "./request/leaving.ts";
import { openRevocations, type Revocations } from "./revocations.ts";
import { plainError } from "./rpc/observe.ts";
import { openRates, type Rates } from "./rpc/rate.ts";
import { cancelScheduledOf } from "./schedule/leaving.ts";
import { openTexter } from "./sms.ts";
import { openWaitingGifts, type WaitingGifts } from "./transfer/waiting.ts";

/** What the parts of the program share. */
export interface App {
  config: Config;
  log: Logger;
  metrics: Metrics;
  db: Db;
  redis: Redis;
  /** A second connection, which only listens. */
  subscriber: Redis;
  revocations: Revocations;
  /** Who called how much. */
  rates: Rates;
  lane: Lane;
  /** Who did what. */
  trail: OpenTrail;
  mailer: Mailer;
  /** Tells people things by mail and text message. */
  messenger: Messenger;
  /** Talks with banks; none where open banking is not configured. */
  bank: Bank | undefined;
  /** Moves money between wallets and banks, where there are any. */
  bankTransfers: BankTransfers | undefined;
  /** Runs debits, and draws what they find missing. */
  funding: Funding;
  /** Pays out what somebody has who leaves. */
  payOut: PayOut;
  /** Ends what somebody who left had open. */
  endPending(accountId: bigint): Promise<void>;
  /** What somebody gave or was given who leaves. */
  gifts: WaitingGifts;
  /** Does in the background what is due, in a server with the role. */
  runner: Runner;
  newId: NewId;
  /** Closes all of it, what others stand on last. */
  close(): Promise<void>;
}

/** Connects to everything. Tests may replace a part. */
export async function createApp(config: Config, parts: Partial<Pick<App, "log" | "mailer">> = {}): Promise<App> {
  // Whatever is logged of an error is what tells no secret.
  const log = (parts.log ?? pino({ level: config.logLevel })).child({}, { serializers: { err: plainError } });
  const metrics = createMetrics();
  const db = openDatabase(config.databaseUrl);
  const ids = await leaseIds(db, (err) => log.warn({ err }, "the process slot was not renewed"));
  const ledger = openLane({
    databaseUrl: config.databaseUrl,
    newId: ids.newId,
    log,
    queueMax: config.laneQueueMax,
    waitMaxMs: config.maxTimeoutMs,
    observe: metrics.observeBatch,
    observeTrouble: metrics.observeLaneTrouble,
  });
  metrics.watchLane(ledger.size);
  const gifts = openWaitingGifts({ db, lane: ledger });
  const { lane } = gifts;
  const trail = openTrail({ db, newId: ids.newId, log, observe: metrics.observeAudit });
  const redis = openRedis(config.redisUrl, log);
  const subscriber = redis.duplicate({ maxRetriesPerRequest: null, autoResubscribe: false });
  // The connection for commands tells when Redis is away.
  subscriber.on("error", () => {});
  const revocations = openRevocations(subscriber);
  const rates = openRates({ redis, metrics, config });
  const mailer = parts.mailer ?? openMailer(config);
  const messenger = openMessenger({ mailer, log, metrics }, config.sms && openTexter(config.sms));
  const runner = openRunner({ log, metrics, graceMs: config.shutdownGraceMs });

  const bank = openBank({ config, db, redis, log });
  const bankTransfers = bank && openBankTransfers({ config, db, redis, lane, log, metrics }, bank);
  const funding = openFunding({ config, db, lane }, bankTransfers);
  const payOut = openPayOut({ config, db, redis, log, lane, funding }, bankTransfers);

  return {
    config,
    log,
    metrics,
    db,
    redis,
    subscriber,
    revocations,
    rates,
    lane,
    trail,
    mailer,
    messenger,
    bank,
    bankTransfers,
    funding,
    payOut,
    async endPending(accountId) {
      await cancelScheduledOf({ db, lane }, accountId);
      await endRequestsOf({ db, lane }, accountId);
    },
    gifts,
    runner,
    newId: ids.newId,
    async close() {
      await runner.close();
      await bank?.banking.close();
      await lane.close();
      await trail.close();
      ids.close();
      await messenger.close();
      mailer.close();
      revocations.close();
      subscriber.disconnect();
      redis.disconnect();
      await db.destroy();
    },
  };
}

/** Redis may be away at any time: commands fail at once instead of waiting for it. */
export function openRedis(url: string, log: Logger): Redis {
  const redis = new Redis(url, { maxRetriesPerRequest: 1, enableOfflineQueue: true, commandTimeout: 1_000 });
  let told = false;
  redis.on("error", (err: Error) => {
    if (!told) log.warn({ err }, "Redis does not answer");
    told = true;
  });
  redis.on("ready", () => {
    told = false;
  });
  return redis;
}
