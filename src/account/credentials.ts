import { LRUCache } from "lru-cache";
import type { App } from "../app.ts";
import { keyMsLeft } from "../key/key.ts";
import type { Caller, ChatServer } from "../rpc/caller.ts";
import { isSessionOpen, listOpenAccounts, listOpenSessionIds } from "./queries.ts";

const OPEN_MAX = 20_000;
const ACCOUNTS_MAX = 50_000;
/** How long something is known without being looked up by itself again: many people, and few keys. */
const PERSON_MS = 10 * 60_000;
const KEY_MS = 10_000;
/** How many ids the database is asked about at once. */
const CHECK_IDS = 1_000;

type Kind = Caller["kind"];
type ActedFor = Pick<ChatServer, "accountId" | "walletId">;

/**
 * What this process knows of sessions, keys and accounts, by their ids; `fetch` looks up what it does not know. It hears
 * of each revocation through Redis at once. What it did not hear, because Redis is away from it or from the process that
 * revoked, it finds out within 10 seconds: keys are looked up again, and all sessions and accounts are compared with the
 * database.
 *
 * There is no second memory in Redis. A look-up by primary key takes 80 µs of this process and as many of MySQL, and a
 * look into Redis 10; but each of a thousand that are compared together takes 2 or 3 in all, and nothing is stale twice.
 */
export function openMemory({ db, log, revocations }: Pick<App, "db" | "log" | "revocations">) {
  // Who asked before a revocation may go on; the answer is not kept.
  const ignoreFetchAbort = true;

  /** The kind of who holds a session or key that is open. */
  const openIds = new LRUCache<string, Kind | false, Kind>({
    max: OPEN_MAX,
    ttl: PERSON_MS,
    ignoreFetchAbort,
    async fetchMethod(text, _stale, { context: kind, options }) {
      const id = BigInt(text);
      if (kind === "person") return (await isSessionOpen(db, id)) && kind;
      const msLeft = await keyMsLeft(db, id);
      options.ttl = Math.max(1, Math.min(KEY_MS, msLeft));
      return msLeft > 0 && kind;
    },
  });
  const accounts = new LRUCache<string, ActedFor | false>({
    max: ACCOUNTS_MAX,
    ttl: PERSON_MS,
    ignoreFetchAbort,
    fetchMethod: async (accountId) => (await listOpenAccounts(db, [BigInt(accountId)]))[0] ?? false,
  });

  async function check() {
    const people = [...openIds.entries()].filter(([, kind]) => kind === "person");
    for (const ids of chunksOf(people.map(([id]) => id))) forgetOthers(openIds, ids, await listOpenSessionIds(db, ids));
    for (const ids of chunksOf([...accounts.keys()])) {
      const open = (await listOpenAccounts(db, ids)).map(({ accountId }) => accountId);
      forgetOthers(accounts, ids, open);
    }
  }

  let checking: Promise<void> | undefined;
  revocations.on("check", () => {
    checking ??= check()
      .catch((err: unknown) => {
        log.warn({ err }, "what is remembered could not be compared with the database");
        openIds.clear();
        accounts.clear();
      })
      .finally(() => {
        checking = undefined;
      });
  });
  revocations.on("revoked", (id) => {
    openIds.delete(id);
    accounts.delete(id);
  });
  return { openIds, accounts };
}

function forgetOthers(known: { delete(id: string): boolean }, ids: bigint[], open: bigint[]) {
  const isOpen = new Set(open);
  for (const id of ids) if (!isOpen.has(id)) known.delete(String(id));
}

function* chunksOf(ids: string[]): Generator<bigint[]> {
  for (let i = 0; i < ids.length; i += CHECK_IDS) yield ids.slice(i, i + CHECK_IDS).map(BigInt);
}
