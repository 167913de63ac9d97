import { setTimeout as sleep } from "node:timers/promises";
import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import { type Trx, transact } from "../db/database.ts";
import type { AccountRow, SessionRow } from "../db/schema.ts";
import { refreshTokenInvalid, sessionNotFound, signInFailed } from "../errors.ts";
import type { Command } from "../ledger/command.ts";
import { tellRevoked } from "../revocations.ts";
import type { Person } from "../rpc/caller.ts";
import {
  deleteRefreshTokens,
  deleteSessions,
  findAccount,
  insertRefreshToken,
  insertSession,
  isRefreshTokenUnused,
  listSessions,
  lockAccount,
  lockRefreshToken,
  lockSessions,
  markRefreshTokenUsed,
  noteSessionUse,
  revokeSessions,
  type Sessions,
} from "./queries.ts";
import { newRefreshToken, nextRefreshToken, openTokens, secretHash } from "./tokens.ts";

/** A session ends when it is not refreshed for so long. */
const REFRESH_MS = 30 * 24 * 60 * 60_000;
/** How long a refresh may be repeated by whoever lost its answer. */
const RETRY_MS = 10_000;
/** A token is deleted so long after its end, however the clocks of processes differ: until then its return is noticed. */
const TOKEN_KEEP_MS = 24 * 60 * 60_000;
/** A session is deleted so long after its last use, far beyond its end. The audit trail still has its id. */
const SESSION_KEEP_MS = 90 * 24 * 60 * 60_000;
const LIST_MAX = 100;
/** After which pauses an event that could not be written is tried again, and for how long the caller waits for it. */
const TELL_PAUSES_MS = [500, 1_500, 5_000, 15_000, 40_000];
const TELL_WAIT_MS = 1_000;

/** The credentials of a session. */
export interface TokenPair {
  accountId: bigint;
  sessionId: bigint;
  accessToken: string;
  accessExpireTime: Date;
  refreshToken: string;
  refreshExpireTime: Date;
}

/** Where a session is used. */
export interface Place {
  device: string;
  ip: string;
}

/** Sessions: each is a family of refresh tokens, of which only the newest may be used. */
export function openSessions(app: App) {
  const { db, lane, log, newId, messenger, config } = app;
  const tokens = openTokens(config);

  /** The pair that was given at that time: the same again whenever it is asked for. */
  async function pairOf(person: Omit<Person, "kind">, refreshToken: string, time: Date): Promise<TokenPair> {
    const { token: accessToken, expireTime: accessExpireTime } = await tokens.sign(person, time);
    return {
      accountId: person.accountId,
      sessionId: person.sessionId,
      accessToken,
      accessExpireTime,
      refreshToken,
      refreshExpireTime: refreshExpiry(time),
    };
  }

  /** Ends the open sessions that are meant, in one commit with what comes `before`; how many there were. */
  async function end(which: Sessions, before?: (trx: Trx) => Promise<void>): Promise<number> {
    const now = new Date();
    const ids = await transact(db, async (trx) => {
      await before?.(trx);
      const open = await lockSessions(trx, which, openSince(now));
      await revokeSessions(trx, open, now);
      return open;
    });
    await tellRevoked(app, ...ids);
    return ids.length;
  }

  /**
   * Tells the log and the person. The session has ended by then, and must end whatever room the lane has; so the event is
   * not of the same transaction but is tried again for a minute. It is lost only if the database stays away for so long,
   * or the process dies in that time.
   */
  async function tellReuse({ sessionId, accountId }: { sessionId: bigint; accountId: bigint }) {
    const told = submitPatiently(reuseDetected(sessionId, accountId)).catch((err: unknown) =>
      log.error({ err, session: String(sessionId) }, "a token reuse was not told"),
    );
    await Promise.race([told, sleep(TELL_WAIT_MS, undefined, { ref: false })]);
    const account = await findAccount(db, accountId);
    if (account) messenger.tell(account, { is: "session_reused" });
  }

  async function submitPatiently(command: Command<void>) {
    for (const pauseMs of TELL_PAUSES_MS) {
      try {
        return await lane.submit(command);
      } catch {
        await sleep(pauseMs, undefined, { ref: false });
      }
    }
    return lane.submit(command);
  }

  return {
    /** Signs in the account, as it was when its owner was proved. Throws SIGN_IN_FAILED. */
    async start(account: AccountRow, { device, ip }: Place): Promise<TokenPair> {
      const { id: accountId, mainWalletId: walletId } = account;
      const now = new Date();
      const sessionId = newId();
      const refreshToken = newRefreshToken();
      await transact(db, async (trx) => {
        // Whoever has closed it since, or set another password, has ended the sessions there were. This is none more.
        const { state, passwordHash } = (await lockAccount(trx, accountId)) ?? {};
        if (state !== Account_State.OPEN || passwordHash !== account.passwordHash) throw signInFailed();
        await insertSession(trx, {
          id: sessionId,
          accountId,
          createTime: now,
          revokeTime: null,
          device,
          ip,
          lastUseTime: now,
        });
        await insertRefreshToken(trx, refreshRow(refreshToken, sessionId, now));
      });
      return pairOf({ accountId, walletId, sessionId }, refreshToken, now);
    },

    /** Throws REFRESH_TOKEN_INVALID. */
    async refresh(token: string, { ip }: Pick<Place, "ip">): Promise<TokenPair> {
      const now = new Date();
      const next = nextRefreshToken(config.hashSecret, token);

      const used = await transact(db, async (trx) => {
        const found = await lockRefreshToken(trx, secretHash(token));
        if (!found || found.state !== Account_State.OPEN) throw refreshTokenInvalid();
        if (found.revokeTime || found.expireTime <= now) throw refreshTokenInvalid();
        if (!found.useTime) {
          await markRefreshTokenUsed(trx, secretHash(token), now);
          await insertRefreshToken(trx, refreshRow(next, found.sessionId, now));
          await noteSessionUse(trx, found.sessionId, { ip, lastUseTime: now });
          return { ...found, useTime: now, isReused: false };
        }
        // Whoever has used the next one had this answer, so it is not lost.
        const isRecent = now.getTime() - found.useTime.getTime() <= RETRY_MS;
        const isReused = !isRecent || !(await isRefreshTokenUnused(trx, secretHash(next)));
        if (isReused) await revokeSessions(trx, [found.sessionId], now);
        return { ...found, useTime: found.useTime, isReused };
      });

      if (!used.isReused) return pairOf(used, next, used.useTime);
      await tellRevoked(app, used.sessionId);
      await tellReuse(used);
      throw refreshTokenInvalid();
    },

    /** Both tokens of the session stop working, here at once and elsewhere as soon as they hear of it. */
    end: (sessionId: bigint) => end({ id: sessionId }),

    /** Ends one session of the account. Throws SESSION_NOT_FOUND. */
    async endOne(accountId: bigint, sessionId: bigint) {
      if ((await end({ accountId, id: sessionId })) === 0) throw sessionNotFound(String(sessionId));
    },

    /**
     * Ends the sessions of the account, all or all but one; how many there were. If `before` throws, none ends. It may
     * lock the account, which here comes before its sessions, as in `start`.
     */
    endAll: (accountId: bigint, exceptId?: bigint, before?: (trx: Trx) => Promise<void>) =>
      end({ accountId, exceptId }, before),

    /** The open ones, newest first. */
    list: (accountId: bigint): Promise<SessionRow[]> => listSessions(db, accountId, openSince(new Date()), LIST_MAX),

    /** Deletes tokens that expired a day ago; how many there were. */
    deleteExpiredTokens: (limit: number) => deleteRefreshTokens(db, new Date(Date.now() - TOKEN_KEEP_MS), limit),

    /** Deletes sessions that ended long ago, whoever or whatever ended them; how many there were. */
    deleteOld: (limit: number) => deleteSessions(db, new Date(Date.now() - SESSION_KEEP_MS), limit),
  };
}

const reuseDetected = (sessionId: bigint, accountId: bigint): Command<void> => ({
  touches: {},
  decide: (books) => books.tell("session.reuse_detected", [accountId], { sessionId }),
});

/** A session that was last used before has ended, though nobody ended it. */
const openSince = (now: Date) => new Date(now.getTime() - REFRESH_MS);

const refreshExpiry = (time: Date) => new Date(time.getTime() + REFRESH_MS);

const refreshRow = (token: string, sessionId: bigint, now: Date) => ({
  tokenHash: secretHash(token),
  sessionId,
  createTime: now,
  expireTime: refreshExpiry(now),
  useTime: null,
});
