import { LRUCache } from "lru-cache";
import type { App } from "../app.ts";
import { keyMsLeft } from "../key/key.ts";
import { hearRevoked } from "../revocations.ts";
import type { Caller } from "../rpc/caller.ts";
import { isSessionOpen } from "./queries.ts";

const OPEN_MAX = 20_000;
/**
 * How long a session or key counts as open once it was looked up. Revocations are heard through Redis at
 * once; while Redis is away, a process that did not revoke it itself may accept a credential for so long.
 */
const OPEN_MS = 10_000;

/** Whether a session or key is open, by its id; `fetch` looks up what is not known. */
export type OpenIds = LRUCache<string, boolean, Caller["kind"]>;

/** The open sessions and keys as this process knows them; it hears of every revocation. */
export function watchOpenIds(app: App): OpenIds {
  const { db } = app;
  const openIds: OpenIds = new LRUCache({
    max: OPEN_MAX,
    ttl: OPEN_MS,
    // Who asked before a revocation may go on; the answer is not kept.
    ignoreFetchAbort: true,
    async fetchMethod(text, _stale, { context: kind, options }) {
      const id = BigInt(text);
      if (kind === "person") return isSessionOpen(db, id);
      const msLeft = await keyMsLeft(db, id);
      options.ttl = Math.max(1, Math.min(OPEN_MS, msLeft));
      return msLeft > 0;
    },
  });
  hearRevoked(app, (id) => openIds.delete(id));
  return openIds;
}
