import { setTimeout as sleep } from "node:timers/promises";
import Redlock from "redlock";
import type { App } from "../app.ts";
import type { Trx } from "../db/database.ts";
import type { BankGrantRow } from "../db/schema.ts";
import { BankingError, type OpenBanking, type UserGrant } from "./openbanking/contract.ts";
import { changeGrant, findGrant, findInstitutionToken, keepGrant, keepInstitutionToken } from "./queries.ts";
import { contexts, type Vault } from "./vault.ts";

/** A token is renewed so long before it ends. */
const RENEW_MS = 24 * 60 * 60_000;
/** Whoever renews has so long before somebody else does it too. */
const TURN_MS = 15_000;
const TURN_RETRY_MS = 100;
/** Whoever renews without a turn, and is too late, waits so long for whoever was first to keep what they got. */
const OTHERS_MS = 3_000;
/** Our own token, which no person stands behind. */
const SCOPE = "oob";

export type BankTokens = ReturnType<typeof openBankTokens>;

const OWN_CONTEXT = contexts.institutionToken(SCOPE);

/** A token as it was seen: whoever finds it refused renews it, unless somebody else has by then. */
interface Seen {
  token: string;
  version: bigint;
}

/**
 * What calls are made with: the grants of people and a token of ours, both encrypted in MySQL. They are renewed before
 * they end and when they are refused, by one process at a time; the versions of the rows see to it that none is lost
 * when two do it all the same.
 */
export function openBankTokens(
  { db, redis, log }: Pick<App, "db" | "redis" | "log">,
  banking: OpenBanking,
  vault: Vault,
) {
  const turns = new Redlock([redis], { retryCount: 0, retryDelay: TURN_RETRY_MS });
  let redisErrors = 0;
  turns.on("clientError", () => {
    redisErrors += 1;
  });
  let own: (Seen & { expireTime: Date }) | undefined;
  let fetching: Promise<Seen> | undefined;

  /** None when somebody has had it for too long, or Redis is away. */
  async function takeTurn(name: string) {
    const endMs = performance.now() + TURN_MS;
    while (performance.now() < endMs) {
      const errorsBefore = redisErrors;
      const turn = await turns.lock(`chatpay:bank:${name}`, TURN_MS).catch(() => undefined);
      if (turn || redisErrors !== errorsBefore) return turn;
      await sleep(TURN_RETRY_MS);
    }
    return undefined;
  }

  /** One at a time in all processes, which saves work; without Redis each for itself. */
  async function inTurn<T>(name: string, work: (isAlone: boolean) => Promise<T>): Promise<T> {
    const turn = await takeTurn(name);
    try {
      return await work(turn !== undefined);
    } finally {
      await turn?.unlock().catch(() => {});
    }
  }

  /** The token of ours, unless there is none that can be read, and the version of what is there. */
  async function readOwn() {
    const row = await findInstitutionToken(db, SCOPE);
    const token = row && vault.open(row.accessToken, OWN_CONTEXT);
    own = row && token !== undefined ? { token, version: row.version, expireTime: row.expireTime } : undefined;
    return { known: own, version: row?.version ?? 0n };
  }

  /** While no other is to be had, a token is good to its end. */
  const isStillGood = ({ expireTime }: { expireTime: Date }, error: unknown) =>
    error instanceof BankingError && error.kind === "unavailable" && expireTime > new Date();

  const isLasting = ({ expireTime }: { expireTime: Date }) => expireTime.getTime() - Date.now() > RENEW_MS;

  /** A token of ours that is not the one that was refused. */
  const fetchOwn = (refused: Seen | undefined): Promise<Seen> =>
    inTurn("institution", async () => {
      const { known, version: before } = await readOwn();
      if (known && isLasting(known) && known.version !== refused?.version) return known;
      const { accessToken, expireTime } = await banking.institutionToken();
      const version = before + 1n;
      own = { token: accessToken, version, expireTime };
      const sealed = vault.seal(accessToken, OWN_CONTEXT);
      await keepInstitutionToken(db, {
        scope: SCOPE,
        accessToken: sealed,
        expireTime,
        version,
        updateTime: new Date(),
      });
      return own;
    });

  async function institutionToken(refused?: Seen): Promise<Seen> {
    const known = own ?? (await readOwn()).known;
    if (known && isLasting(known) && known.version !== refused?.version) return known;
    fetching ??= fetchOwn(refused).finally(() => {
      fetching = undefined;
    });
    return fetching.catch((error: unknown) => {
      if (known && known.version !== refused?.version && isStillGood(known, error)) return known;
      throw error;
    });
  }

  async function getGrant(accountId: bigint): Promise<BankGrantRow> {
    const grant = await findGrant(db, accountId);
    if (!grant) throw new BankingError("token", "NO_GRANT");
    return grant;
  }

  const sealedGrant = (accountId: bigint, { accessToken, refreshToken, scope, ...grant }: UserGrant) => ({
    ...grant,
    accountId,
    accessToken: vault.seal(accessToken, contexts.grant(accountId)),
    refreshToken: vault.seal(refreshToken, contexts.grant(accountId)),
    scope: scope.join(" "),
    updateTime: new Date(),
  });

  /** What its secret has gone of is as good as taken back: only a new consent helps. */
  function open(sealed: Buffer, accountId: bigint): string {
    const token = vault.open(sealed, contexts.grant(accountId));
    if (token === undefined) throw new BankingError("token", "UNREADABLE");
    return token;
  }

  const seen = ({ accountId, accessToken, version }: BankGrantRow): Seen => ({
    token: open(accessToken, accountId),
    version,
  });

  /** What others have made of the grant of this version, once they have kept it. */
  async function awaitOthers(accountId: bigint, version: bigint): Promise<Seen | undefined> {
    for (const endMs = performance.now() + OTHERS_MS; performance.now() < endMs; await sleep(TURN_RETRY_MS)) {
      const grant = await getGrant(accountId);
      if (grant.version !== version) return seen(grant);
    }
    return undefined;
  }

  /** Renews a person's grant, unless that has happened since its version was seen. */
  const renewGrant = (accountId: bigint, version: bigint): Promise<Seen> =>
    inTurn(`grant:${accountId}`, async (isAlone) => {
      const before = await getGrant(accountId);
      if (before.version !== version) return seen(before);
      const refreshToken = open(before.refreshToken, accountId);
      let renewed: UserGrant;
      try {
        renewed = await banking.refreshGrant(refreshToken, before.scope.split(" "));
      } catch (error) {
        // A refresh token is used once. Without Redis somebody else may just have done that.
        const others = !isAlone && isRefused(error) && (await awaitOthers(accountId, version));
        if (others) return others;
        throw error;
      }
      // Without Redis two may have renewed it: whoever comes second takes what the first has kept.
      if (!(await changeGrant(db, sealedGrant(accountId, renewed), version))) {
        log.warn({ account: String(accountId) }, "a grant was renewed twice");
      }
      return seen(await getGrant(accountId));
    });

  /** Whatever KFTC says of a grant that it does not renew, it lets us do nothing more. */
  const renewOrEnd = (accountId: bigint, version: bigint): Promise<Seen> =>
    renewGrant(accountId, version).catch((error: unknown) => {
      if (isRefused(error)) throw new BankingError("token", error.code);
      throw error;
    });

  async function userToken(accountId: bigint): Promise<Seen> {
    const grant = await getGrant(accountId);
    if (isLasting(grant)) return seen(grant);
    try {
      return await renewOrEnd(accountId, grant.version);
    } catch (error) {
      if (isStillGood(grant, error)) return seen(grant);
      throw error;
    }
  }

  /** Runs a call, and once more with another token when that one is refused: nothing was done then. */
  async function withToken<T>(
    first: Seen,
    renew: (refused: Seen) => Promise<Seen>,
    use: (token: string) => Promise<T>,
  ) {
    try {
      return await use(first.token);
    } catch (error) {
      if (!(error instanceof BankingError) || error.kind !== "token") throw error;
      const { token } = await renew(first);
      return use(token);
    }
  }

  return {
    /** What a person lets us do from now on, in the place of what they let us do before. */
    async keep(trx: Trx, accountId: bigint, grant: UserGrant) {
      await keepGrant(trx, sealedGrant(accountId, grant));
    },

    /** Makes a call with what the person lets us do. Throws a BankingError of kind "token" when that is nothing. */
    withUserToken: async <T>(accountId: bigint, use: (token: string) => Promise<T>): Promise<T> =>
      withToken(await userToken(accountId), ({ version }) => renewOrEnd(accountId, version), use),

    /** Makes a call that needs no person's consent. */
    withInstitutionToken: async <T>(use: (token: string) => Promise<T>): Promise<T> =>
      withToken(await institutionToken(), institutionToken, use),
  };
}

const isRefused = (error: unknown): error is BankingError => error instanceof BankingError && error.kind === "refused";
