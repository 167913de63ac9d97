import { LRUCache } from "lru-cache";
import type { App } from "../app.ts";
import { keyMsLeft } from "../key/key.ts";
import type { Caller, ChatServer } from "../rpc/caller.ts";
import { findOpenAccount, isSessionOpen } from "./queries.ts";

const OPEN_MAX = 20_000;
/** How long a session or key counts as open once it was looked up. */
const OPEN_MS = 10_000;
const ACCOUNTS_MAX = 50_000;
/** How long the wallet of an open account is known. */
const ACCOUNT_MS = 10 * 60_000;

/**
 * What this process knows of sessions, keys and accounts, by their ids; `fetch` looks up what it does not know. It hears
 * of each revocation through Redis at once. While Redis is away, it may take what another process has ended for open for
 * up to 10 seconds: sessions and keys, since they are known for no longer, and accounts, since all of them are forgotten
 * again and again in that time.
 */
export function openMemory({ db, revocations }: Pick<App, "db" | "revocations">) {
  // Who asked before a revocation may go on; the answer is not kept.
  const ignoreFetchAbort = true;

  const openIds = new LRUCache<string, boolean, Caller["kind"]>({
    max: OPEN_MAX,
    ttl: OPEN_MS,
    ignoreFetchAbort,
    async fetchMethod(text, _stale, { context: kind, options }) {
      const id = BigInt(text);
      if (kind === "person") return isSessionOpen(db, id);
      const msLeft = await keyMsLeft(db, id);
      options.ttl = Math.max(1, Math.min(OPEN_MS, msLeft));
      return msLeft > 0;
    },
  });
  const accounts = new LRUCache<string, Pick<ChatServer, "accountId" | "walletId"> | false>({
    max: ACCOUNTS_MAX,
    ttl: ACCOUNT_MS,
    ignoreFetchAbort,
    fetchMethod: async (accountId) => (await findOpenAccount(db, BigInt(accountId))) ?? false,
  });

  revocations.on("revoked", (id) => {
    openIds.delete(id);
    accounts.delete(id);
  });
  revocations.on("missed", () => accounts.clear());
  return { openIds, accounts };
}
