import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type Account,
  type Account_State,
  AccountSchema,
  type AccountService,
  ClosingObstaclesSchema,
  CodePurpose,
  type Session,
  SessionSchema,
  type Tokens,
  TokensSchema,
} from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import type { AccountRow, SessionRow } from "../db/schema.ts";
import { accountNotFound, accountNotSettled } from "../errors.ts";
import { idOf } from "../id.ts";
import { callerOf, payerOf, personOf, setSubject } from "../rpc/caller.ts";
import { originOf } from "../rpc/origin.ts";
import { openAccounts } from "./account.ts";
import { type Address, addressOf } from "./address.ts";
import { type Obstacle, openClosing } from "./closing.ts";
import { openCookies } from "./cookies.ts";
import { openCountryGate } from "./country.ts";
import { openIdentities } from "./identity.ts";
import { openPins } from "./pin.ts";
import { findAccount } from "./queries.ts";
import { openSessions, type TokenPair } from "./sessions.ts";
import { openTextGate } from "./texts.ts";

export const accountService = (app: App): ServiceImpl<typeof AccountService> => {
  const sessions = openSessions(app);
  const cookies = openCookies(app.config);
  const accounts = openAccounts(app, sessions);
  const gate = openCountryGate(app);
  const texts = openTextGate(app);
  const pins = openPins(app);
  const identities = openIdentities(app);
  const closing = openClosing(app, sessions);
  const address = (request: { email: string; phone: string }) => addressOf(app.config.hashSecret, request);

  /** The answer of every way in. */
  async function signIn(
    purpose: CodePurpose,
    request: { email: string; phone: string; device: string; refreshCookie: boolean },
    context: HandlerContext,
    enter: (by: Address, start: (account: AccountRow) => Promise<Started>) => Promise<Started>,
  ) {
    const { device, refreshCookie } = request;
    const by = address(request);
    if (refreshCookie) cookies.check(context);
    await gate.check(purpose, by, originOf(context), context.requestHeader);
    const place = { device: device || agentOf(context), ip: originOf(context).ip };
    const { account, pair } = await enter(by, async (owner) => ({
      account: owner,
      pair: await sessions.start(owner, place),
    }));
    return { account: toAccount(account), tokens: handOver(pair, refreshCookie, context) };
  }

  /** The refresh token goes into the answer, or else into a cookie. */
  function handOver(pair: TokenPair, inCookie: boolean, context: HandlerContext): Tokens {
    setSubject(context, pair);
    if (!inCookie) return toTokens(pair);
    cookies.set(context, pair.refreshToken, pair.refreshExpireTime);
    return toTokens({ ...pair, refreshToken: "" });
  }

  return {
    async sendCode(request, context) {
      const { purpose, language } = request;
      const to = address(request);
      await texts.check(to, originOf(context).ip);
      await gate.check(purpose, to, originOf(context), context.requestHeader);
      const { expireTime, resendTime } = await accounts.sendCode(to, purpose, language);
      return { expireTime: timestampFromDate(expireTime), resendTime: timestampFromDate(resendTime) };
    },

    signUp: (request, context) =>
      signIn(CodePurpose.SIGN_UP, request, context, async (by, start) => start(await accounts.signUp(by, request))),

    signIn: (request, context) =>
      signIn(CodePurpose.SIGN_IN, request, context, async (by, start) =>
        start(await accounts.signIn(by, request.password)),
      ),

    signInWithCode: (request, context) =>
      signIn(CodePurpose.SIGN_IN, request, context, (by, start) => accounts.signInWithCode(by, request.code, start)),

    async resetPassword(request, context) {
      const { id } = await accounts.resetPassword(address(request), request.code, request.newPassword);
      setSubject(context, { accountId: id });
      return {};
    },

    async refreshTokens({ refreshToken }, context) {
      const inCookie = refreshToken === "";
      const pair = await sessions.refresh(inCookie ? cookies.read(context) : refreshToken, originOf(context));
      return { tokens: handOver(pair, inCookie, context) };
    },

    async signOut(_request, context) {
      await sessions.end(personOf(context).sessionId);
      cookies.clear(context);
      return {};
    },

    async listSessions(_request, context) {
      const { accountId, sessionId } = personOf(context);
      const open = await sessions.list(accountId);
      return { sessions: open.map((session) => toSession(session, sessionId)) };
    },

    async endSession(request, context) {
      await sessions.endOne(personOf(context).accountId, idOf(request.sessionId));
      return {};
    },

    async endOtherSessions(_request, context) {
      const { accountId, sessionId } = personOf(context);
      return { ended: await sessions.endAll(accountId, sessionId) };
    },

    async changePassword(request, context) {
      await accounts.changePassword(personOf(context), request, request.newPassword);
      return {};
    },

    async changeAddress(request, context) {
      const account = await accounts.changeAddress(personOf(context), request, address(request), request.code);
      return { account: toAccount(account) };
    },

    async setPin(request, context) {
      await pins.set(personOf(context).accountId, { address: address(request), code: request.code, pin: request.pin });
      return {};
    },

    async setIdentity(request, context) {
      const caller = callerOf(context);
      if (caller.kind !== "service") throw new Error(`${caller.kind} says of nobody who they are`);
      return { account: toAccount(await identities.set(caller, request, context)) };
    },

    async getAccount({ accountId }, context) {
      const caller = callerOf(context);
      const own = "accountId" in caller ? caller.accountId : 0n;
      const id = accountId === "" ? own : idOf(accountId);
      const account = id === own || caller.kind === "operator" ? await findAccount(app.db, id) : undefined;
      if (!account) throw accountNotFound(accountId);
      return { account: toAccount(account) };
    },

    async updateAccount(request, context) {
      return { account: toAccount(await accounts.updateProfile(payerOf(context).accountId, request)) };
    },

    async closeAccount({ withdrawRest, pin, handOverGifts, returnReceipts }, context) {
      if (withdrawRest) await app.payOut(payerOf(context), pin, context);
      const outcome = await closing.close(payerOf(context), { handOverGifts, returnReceipts }, context);
      if ("account" in outcome) return { account: toAccount(outcome.account) };
      const error = accountNotSettled();
      error.details.push({ desc: ClosingObstaclesSchema, value: { obstacles: outcome.obstacles.map(toObstacle) } });
      throw error;
    },
  };
};

/** Who has come in, and the session that they have. */
interface Started {
  account: AccountRow;
  pair: TokenPair;
}

const DEVICE_MAX = 100;

/** What the client calls itself. */
const agentOf = ({ requestHeader }: HandlerContext) => (requestHeader.get("user-agent") ?? "").slice(0, DEVICE_MAX);

const toAccount = (row: AccountRow): Account =>
  create(AccountSchema, {
    id: String(row.id),
    email: row.email,
    displayName: row.displayName,
    state: row.state as Account_State,
    mainWalletId: String(row.mainWalletId),
    createTime: timestampFromDate(row.createTime),
    updateTime: timestampFromDate(row.updateTime),
    phone: row.phone,
    language: row.language,
    identified: row.identityId !== null,
    hasPin: row.pinHash !== "",
  });

const toObstacle = ({ kind, walletId, amount, transferId }: Obstacle) => ({
  kind,
  walletId: String(walletId),
  amount,
  transferId: String(transferId ?? ""),
});

const toSession = (row: SessionRow, currentId: bigint): Session =>
  create(SessionSchema, {
    id: String(row.id),
    device: row.device,
    ip: row.ip,
    createTime: timestampFromDate(row.createTime),
    lastUseTime: timestampFromDate(row.lastUseTime),
    current: row.id === currentId,
  });

const toTokens = (pair: TokenPair): Tokens =>
  create(TokensSchema, {
    accessToken: pair.accessToken,
    accessExpireTime: timestampFromDate(pair.accessExpireTime),
    refreshToken: pair.refreshToken,
    refreshExpireTime: timestampFromDate(pair.refreshExpireTime),
  });
