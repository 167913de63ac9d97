import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Account,
  type Account_State,
  AccountSchema,
  type AccountService,
  type Tokens,
  TokensSchema,
} from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import type { AccountRow } from "../db/schema.ts";
import { accountNotFound } from "../errors.ts";
import { idOf } from "../id.ts";
import { callerOf, payerOf } from "../rpc/caller.ts";
import { openAccounts } from "./account.ts";
import { findAccount } from "./queries.ts";
import { openSessions, type TokenPair } from "./sessions.ts";

export const accountService = (app: App): ServiceImpl<typeof AccountService> => {
  const accounts = openAccounts(app);
  const sessions = openSessions(app);

  const signedIn = async (account: AccountRow) => ({
    account: toAccount(account),
    tokens: toTokens(await sessions.start(account)),
  });

  return {
    async sendCode({ email, purpose }) {
      const { expireTime, resendTime } = await accounts.sendCode(email, purpose);
      return { expireTime: timestampFromDate(expireTime), resendTime: timestampFromDate(resendTime) };
    },

    signUp: async (request) => signedIn(await accounts.signUp(request)),
    signIn: async ({ email, password }) => signedIn(await accounts.signIn(email, password)),

    async refreshTokens({ refreshToken }) {
      return { tokens: toTokens(await sessions.refresh(refreshToken)) };
    },

    async signOut(_request, context) {
      const caller = callerOf(context);
      if (caller.kind !== "person") throw new Error(`${caller.kind} has no session`);
      await sessions.end(caller.sessionId);
      return {};
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

const toTokens = (pair: TokenPair): Tokens =>
  create(TokensSchema, {
    accessToken: pair.accessToken,
    accessExpireTime: timestampFromDate(pair.accessExpireTime),
    refreshToken: pair.refreshToken,
    refreshExpireTime: timestampFromDate(pair.refreshExpireTime),
  });
