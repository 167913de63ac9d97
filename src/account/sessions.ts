import type { App } from "../app.ts";
import { transact } from "../db/database.ts";
import type { AccountRow } from "../db/schema.ts";
import { refreshTokenInvalid } from "../errors.ts";
import type { Command } from "../ledger/command.ts";
import { tellRevoked } from "../revocations.ts";
import type { Person } from "../rpc/caller.ts";
import {
  insertRefreshToken,
  insertSession,
  isRefreshTokenUnused,
  lockRefreshToken,
  markRefreshTokenUsed,
  revokeSession,
} from "./queries.ts";
import { newRefreshToken, nextRefreshToken, openTokens, secretHash } from "./tokens.ts";

/** A session ends when it is not refreshed for so long. */
const REFRESH_MS = 30 * 24 * 60 * 60_000;
/** How long a refresh may be repeated by whoever lost its answer. */
const RETRY_MS = 10_000;

/** The credentials of a session. */
export interface TokenPair {
  accessToken: string;
  accessExpireTime: Date;
  refreshToken: string;
  refreshExpireTime: Date;
}

/** Sessions: each is a family of refresh tokens, of which only the newest may be used. */
export function openSessions(app: App) {
  const { db, lane, log, newId, config } = app;
  const tokens = openTokens(config);

  /** The pair that was given at that time: the same again whenever it is asked for. */
  async function pairOf(person: Omit<Person, "kind">, refreshToken: string, time: Date): Promise<TokenPair> {
    const { token: accessToken, expireTime: accessExpireTime } = await tokens.sign(person, time);
    return { accessToken, accessExpireTime, refreshToken, refreshExpireTime: refreshExpiry(time) };
  }

  return {
    async start({ id: accountId, mainWalletId: walletId }: AccountRow): Promise<TokenPair> {
      const now = new Date();
      const sessionId = newId();
      const refreshToken = newRefreshToken();
      await transact(db, async (trx) => {
        await insertSession(trx, {
          id: sessionId,
          accountId,
          createTime: now,
          revokeTime: null,
          device: "",
          ip: "",
          lastUseTime: now,
        });
        await insertRefreshToken(trx, refreshRow(refreshToken, sessionId, now));
      });
      return pairOf({ accountId, walletId, sessionId }, refreshToken, now);
    },

    /** Throws REFRESH_TOKEN_INVALID. */
    async refresh(token: string): Promise<TokenPair> {
      const now = new Date();
      const next = nextRefreshToken(config.hashSecret, token);

      const used = await transact(db, async (trx) => {
        const found = await lockRefreshToken(trx, secretHash(token));
        if (!found || found.revokeTime || found.expireTime <= now) throw refreshTokenInvalid();
        if (!found.useTime) {
          await markRefreshTokenUsed(trx, secretHash(token), now);
          await insertRefreshToken(trx, refreshRow(next, found.sessionId, now));
          return { ...found, useTime: now, isReused: false };
        }
        // Whoever has used the next one had this answer, so it is not lost.
        const isRecent = now.getTime() - found.useTime.getTime() <= RETRY_MS;
        const isReused = !isRecent || !(await isRefreshTokenUnused(trx, secretHash(next)));
        if (isReused) await revokeSession(trx, found.sessionId, now);
        return { ...found, useTime: found.useTime, isReused };
      });

      if (!used.isReused) return pairOf(used, next, used.useTime);
      await tellRevoked(app, used.sessionId);
      await lane
        .submit(tellReuse(used))
        .catch((err: unknown) => log.error({ err, session: String(used.sessionId) }, "a token reuse was not told"));
      throw refreshTokenInvalid();
    },

    /** Both tokens of the session stop working, here at once and elsewhere as soon as they hear of it. */
    async end(sessionId: bigint) {
      await revokeSession(db, sessionId, new Date());
      await tellRevoked(app, sessionId);
    },
  };
}

const tellReuse = ({ sessionId, accountId }: { sessionId: bigint; accountId: bigint }): Command<void> => ({
  touches: {},
  decide: (books) => books.tell("session.reuse_detected", [accountId], { sessionId }),
});

const refreshExpiry = (time: Date) => new Date(time.getTime() + REFRESH_MS);

const refreshRow = (token: string, sessionId: bigint, now: Date) => ({
  tokenHash: secretHash(token),
  sessionId,
  createTime: now,
  expireTime: refreshExpiry(now),
  useTime: null,
});
