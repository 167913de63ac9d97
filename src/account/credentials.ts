import { LRUCache } from "lru-cache";
import type { App } from "../app.ts";
import type { Caller } from "../rpc/caller.ts";
import { isKeyOpen, isSessionOpen, markKeyUsed } from "./queries.ts";

const OPEN_MAX = 20_000;
/**
 * How long a session or key counts as open once it was looked up. Revocations are heard through Redis at
 * once; while Redis is away, a process that did not revoke it itself may accept a credential for so long.
 */
const OPEN_MS = 10_000;
const CHANNEL = "chatpay:revoked";

/** Whether a session or key is open, by its id; `fetch` looks up what is not known. */
export type OpenIds = LRUCache<string, boolean, Caller["kind"]>;

const openIdsOf = new WeakMap<App, OpenIds>();

/** The open sessions and keys as this process knows them; it hears of every revocation. */
export function watchOpenIds(app: App): OpenIds {
  const { db, subscriber, log } = app;
  const openIds: OpenIds = new LRUCache({
    max: OPEN_MAX,
    ttl: OPEN_MS,
    // Who asked before a revocation may go on; the answer is not kept.
    ignoreFetchAbort: true,
    fetchMethod(text, _stale, { context: kind }) {
      const id = BigInt(text);
      if (kind === "person") return isSessionOpen(db, id);
      markKeyUsed(db, id, new Date()).catch((err: unknown) => log.warn({ err }, "the use of an API key was not noted"));
      return isKeyOpen(db, id);
    },
  });
  openIdsOf.set(app, openIds);

  subscriber.on("message", (_channel: string, id: string) => openIds.delete(id));
  subscriber.subscribe(CHANNEL).catch(() => {});
  return openIds;
}

/** A session or key has ended: no process may accept it any more. */
export async function tellRevoked(app: Pick<App, "redis" | "log">, id: bigint) {
  openIdsOf.get(app as App)?.delete(String(id));
  await app.redis.publish(CHANNEL, String(id)).catch((err: unknown) => {
    app.log.warn({ err, id: String(id) }, "the other processes were not told of a revocation");
  });
}
