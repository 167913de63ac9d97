import { EventEmitter } from "node:events";
import type { Redis } from "ioredis";
import type { App } from "./app.ts";

const CHANNEL = "chatpay:revoked";
const CHECK_MS = 5_000;

/**
 * Tells those who remember what is open. `revoked` says that the session, API key or account of this id has ended, here
 * or in another process. That may go by unheard, so `check` says every few seconds to compare with the database.
 */
export type Revocations = EventEmitter<{ revoked: [id: string]; check: [] }> & { close(): void };

/** Hears what other processes revoke. */
export function openRevocations(subscriber: Redis): Revocations {
  const heard = new EventEmitter<{ revoked: [id: string]; check: [] }>();
  subscriber.on("message", (channel: string, ids: string) => {
    if (channel === CHANNEL) for (const id of ids.split(",")) heard.emit("revoked", id);
  });

  const again = () => subscriber.disconnect(true);
  const listen = () => void subscriber.subscribe(CHANNEL).catch(again);
  subscriber.on("ready", listen);
  if (subscriber.status === "ready") listen();

  const timer = setInterval(() => {
    heard.emit("check");
    // A connection that only listens does not notice that it has died.
    if (subscriber.status === "ready") subscriber.ping().catch(again);
  }, CHECK_MS).unref();

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
