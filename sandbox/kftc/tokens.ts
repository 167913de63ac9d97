import { createHmac, randomBytes, randomUUID } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Store } from "./store.ts";

/** As the centre says it. Refreshing is possible for ten days longer. */
const ACCESS_SECONDS = 7_775_999;
const REFRESH_SECONDS = ACCESS_SECONDS + 10 * 86_400;
const CODE_SECONDS = 600;

export interface Token {
  value: string;
  kind: "access" | "refresh";
  scopes: string[];
  /** Of the person, or "" when it is the institution's own. */
  userSeqNo: string;
  expireTime: Date;
}

interface AuthorizationCode {
  value: string;
  userSeqNo: string;
  scopes: string[];
  redirectUri: string;
  expireTime: Date;
}

/** Codes and tokens that were given out and are still good for something. */
export function openTokens(clock: Clock, store: Store, institution: string) {
  const tokens = new Map(store.list<Token>("token").map((token) => [token.value, token]));
  const codes = new Map(store.list<AuthorizationCode>("code").map((code) => [code.value, code]));
  const key = randomBytes(32);

  function issue(kind: Token["kind"], userSeqNo: string, scopes: string[]): Token {
    const seconds = kind === "access" ? ACCESS_SECONDS : REFRESH_SECONDS;
    const expireTime = later(seconds);
    const claims = {
      aud: userSeqNo || institution,
      scope: scopes,
      iss: "https://www.openbanking.or.kr",
      exp: Math.floor(expireTime.getTime() / 1000),
      jti: randomUUID(),
    };
    const text = `${base64({ typ: "JWT", alg: "HS256" })}.${base64(claims)}`;
    const value = `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
    return keep({ value, kind, scopes, userSeqNo, expireTime });
  }

  function keep(token: Token): Token {
    tokens.set(token.value, token);
    store.put("token", token.value, token);
    return token;
  }

  const later = (seconds: number) => new Date(clock.now().getTime() + seconds * 1000);

  return {
    issueCode(asked: Omit<AuthorizationCode, "value" | "expireTime">): string {
      const code = { ...asked, value: randomBytes(20).toString("base64url"), expireTime: later(CODE_SECONDS) };
      codes.set(code.value, code);
      store.put("code", code.value, code);
      return code.value;
    },

    /** A code is good for one time, and used up by any try. */
    takeCode(value: string): AuthorizationCode | undefined {
      const code = codes.get(value);
      codes.delete(value);
      store.remove("code", value);
      return code && code.expireTime > clock.now() ? code : undefined;
    },

    /** A person's pair, or the institution's token, which is never refreshed. */
    issuePair: (userSeqNo: string, scopes: string[]) => ({
      access: issue("access", userSeqNo, scopes),
      refresh: issue("refresh", userSeqNo, scopes),
    }),
    issueOwn: () => issue("access", "", ["oob"]),

    find: (value: string, kind: Token["kind"]) => {
      const token = tokens.get(value);
      return token?.kind === kind ? token : undefined;
    },
    isExpired: (token: Token) => token.expireTime <= clock.now(),
    expire: (token: Token) => keep({ ...token, expireTime: clock.now() }),

    revoke({ value }: Token) {
      tokens.delete(value);
      store.remove("token", value);
    },

    /** Every token that is meant: of one person, the institution's (""), or all of them. */
    listOf: (userSeqNo?: string) =>
      [...tokens.values()].filter((token) => userSeqNo === undefined || token.userSeqNo === userSeqNo),
    seconds: ACCESS_SECONDS,
  };
}

const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
