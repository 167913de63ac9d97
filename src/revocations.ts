import { EventEmitter } from "node:events";
import type { Redis } from "ioredis";
import type { App } from "./app.ts";

const CHANNEL = "chatpay:revoked";
/** How often the connection that listens is asked whether it still does; one that died in silence does not say so. */
const ASK_MS = 3_000;

/**
 * What was revoked, in this process or another: the id of a session, an API key or an account. `missed` says that a
 * revocation may have gone by unheard; as long as Redis is away, it is said again and again.
 */
export type Revocations = EventEmitter<{ revoked: [id: string]; missed: [] }> & { close(): void };

/** Hears what other processes revoke. */
export function openRevocations(subscriber: Redis): Revocations {
  const heard = new EventEmitter<{ revoked: [id: string]; missed: [] }>();
  const missed = () => heard.emit("missed");

  subscriber.on("message", (channel: string, ids: string) => {
    if (channel === CHANNEL) for (const id of ids.split(",")) heard.emit("revoked", id);
  });
  // What was said while we did not listen has gone by, so that comes after listening again.
  const again = () => subscriber.disconnect(true);
  const listen = () => subscriber.subscribe(CHANNEL).then(missed, again);
  subscriber.on("ready", () => void listen());
  if (subscriber.status === "ready") void listen();

  const timer = setInterval(() => {
    if (subscriber.status !== "ready") missed();
    else subscriber.ping().catch(again);
  }, ASK_MS).unref();

  return Object.assign(heard, { close: () => clearInterval(timer) });
}

/**
 * Tells every process, this one without Redis, that something must be looked up again before it is believed. Whoever
 * ends a session, ends an API key or makes it end sooner, or closes an account must call it, after the commit and with
 * all the ids. The command line has no memory of its own and leaves `revocations` out.
 */
export async function tellRevoked(
  { redis, log, revocations }: Pick<App, "redis" | "log"> & Partial<Pick<App, "revocations">>,
  ...ids: bigint[]
) {
  if (ids.length === 0) return;
  for (const id of ids) revocations?.emit("revoked", String(id));
  await redis.publish(CHANNEL, ids.join()).catch((err: unknown) => {
    log.warn({ err, ids: ids.map(String) }, "the other processes were not told of a revocation");
  });
}
