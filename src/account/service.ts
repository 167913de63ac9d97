import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type Account,
  type Account_State,
  AccountSchema,
  type AccountService,
  type Session,
  SessionSchema,
  type Tokens,
  TokensSchema,
} from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import type { AccountRow, SessionRow } from "../db/schema.ts";
import { accountNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { callerOf, payerOf, personOf } from "../rpc/caller.ts";
import { originOf } from "../rpc/origin.ts";
import { openAccounts } from "./account.ts";
import { findAccount } from "./queries.ts";
import { openSessions, type TokenPair } from "./sessions.ts";

export const accountService = (app: App): ServiceImpl<typeof AccountService> => {
  const accounts = openAccounts(app);
  const sessions = openSessions(app);

  /** The answer of every way in. */
  async function signIn({ device }: { device: string }, context: HandlerContext, enter: () => Promise<AccountRow>) {
    const account = await enter();
    const pair = await sessions.start(account, { device: device || agentOf(context), ip: originOf(context).ip });
    return { account: toAccount(account), tokens: toTokens(pair) };
  }

  return {
    async sendCode({ email, purpose }) {
      const { expireTime, resendTime } = await accounts.sendCode(email, purpose);
      return { expireTime: timestampFromDate(expireTime), resendTime: timestampFromDate(resendTime) };
    },

    signUp: (request, context) => signIn(request, context, () => accounts.signUp(request)),
    signIn: (request, context) => signIn(request, context, () => accounts.signIn(request.email, request.password)),

    async refreshTokens({ refreshToken }, context) {
      return { tokens: toTokens(await sessions.refresh(refreshToken, originOf(context))) };
    },

    async signOut(_request, context) {
      await sessions.end(personOf(context).sessionId);
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
  };
};

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
