import type { App } from "./app.ts";

const CHANNEL = "chatpay:revoked";

type Listener = (id: string) => void;
const listeners = new WeakMap<object, Listener>();

/** Calls back with the id of every session or key that ended, or ends sooner than it was known to, in any process. */
export function hearRevoked(app: App, listener: Listener) {
  listeners.set(app.redis, listener);
  app.subscriber.on("message", (channel: string, id: string) => {
    if (channel === CHANNEL) listener(id);
  });
  app.subscriber.subscribe(CHANNEL).catch(() => {});
}

/** Tells every process that a session or key ended, or ends sooner; this one without Redis. */
export async function tellRevoked({ redis, log }: Pick<App, "redis" | "log">, id: bigint) {
  listeners.get(redis)?.(String(id));
  await redis.publish(CHANNEL, String(id)).catch((err: unknown) => {
    log.warn({ err, id: String(id) }, "the other processes were not told of a revocation");
  });
}
