import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Account, RefreshTokensResponse, Tokens } from "../../../gen/chatpay/account/v1/account_pb.ts";

/** Calls to ChatPay, which are JSON by `fetch`, and the session in which they are made. */

/** A message as it is in JSON: 64-bit numbers and times are strings, enums are names, and what is zero is left out. */
export type Json<T> = T extends bigint | number | Timestamp
  ? string
  : T extends (infer Item)[]
    ? Json<Item>[]
    : T extends object
      ? { [Name in Exclude<keyof T, "$typeName" | "$unknown">]?: Json<T[Name]> }
      : T;

/** Why a call failed. Without an answer the code is `unavailable`. */
export class CallError extends Error {
  readonly code: string;
  /** A `chatpay.error.v1.Reason` without `REASON_`, or empty. */
  readonly reason: string;
  readonly metadata: Record<string, string>;
  readonly retrySeconds: number;

  constructor({ code = "unknown", message = "", details = [] }: Failure) {
    super(message);
    this.code = code;
    const find = (type: string) => details.find((detail) => detail.type === type)?.debug;
    const info = find("chatpay.error.v1.ErrorInfo");
    this.reason = info?.reason?.replace("REASON_", "") ?? "";
    this.metadata = info?.metadata ?? {};
    this.retrySeconds = Math.ceil(Number.parseFloat(find("google.rpc.RetryInfo")?.retryDelay ?? "0"));
  }
}

interface Failure {
  code?: string;
  message?: string;
  details?: {
    type: string;
    debug?: { reason?: string; metadata?: Record<string, string>; retryDelay?: string };
  }[];
}

const ACCOUNTS = "chatpay.account.v1.AccountService";
/** An access token is renewed so long before its end. */
const EARLY_MS = 30_000;

/** In memory alone. The refresh token is in a cookie that no script can read. */
let access = { token: "", expireMs: 0 };
let refreshing: Promise<void> | undefined;

/** One call. An access token that has ended is renewed, and the call made again. */
export async function call<T>(rpc: string, request: object = {}, idempotencyKey = ""): Promise<Json<T>> {
  const send = async () => {
    const response = await post(rpc, "application/json", JSON.stringify(request), idempotencyKey);
    return (await response.json().catch(lost)) as Json<T>;
  };
  return withSession(send);
}

/** A call that streams its answer. Throws unless the stream came to its end. */
export const callStream = <T>(rpc: string, request: object): Promise<Json<T>[]> =>
  withSession(async () => {
    const response = await post(rpc, "application/connect+json", enveloped(request));
    const messages: Json<T>[] = [];
    for (const { isEnd, value } of envelopes(await response.arrayBuffer().catch(lost))) {
      if (!isEnd) messages.push(value as Json<T>);
      else if (value.error) throw new CallError(value.error);
      else return messages;
    }
    return lost();
  });

/** Signs up or in, with the refresh token in a cookie. */
export async function enter(rpc: "SignUp" | "SignIn" | "SignInWithCode", request: object): Promise<Json<Account>> {
  const fields = { ...request, refreshCookie: true };
  const { account = {}, tokens } = await call<{ account: Account; tokens: Tokens }>(`${ACCOUNTS}/${rpc}`, fields);
  keep(tokens);
  return account;
}

/** Ends the session here and at the server. */
export async function leave() {
  await call(`${ACCOUNTS}/SignOut`);
  access = { token: "", expireMs: 0 };
}

/**
 * Takes the session up that the cookie has. The cookie changes each time, so the tabs of a browser take turns; within a tab
 * all who wait share one. Throws REFRESH_TOKEN_INVALID when nobody is signed in.
 */
export function refresh(): Promise<void> {
  refreshing ??= navigator.locks
    .request("chatpay session", async () => {
      access = { token: "", expireMs: 0 };
      const response = await post(`${ACCOUNTS}/RefreshTokens`, "application/json", "{}");
      keep(((await response.json().catch(lost)) as Json<RefreshTokensResponse>).tokens);
    })
    .finally(() => {
      refreshing = undefined;
    });
  return refreshing;
}

function keep({ accessToken = "", accessExpireTime = "" }: Json<Tokens> = {}) {
  access = { token: accessToken, expireMs: Date.parse(accessExpireTime) };
}

async function withSession<T>(send: () => Promise<T>): Promise<T> {
  if (access.token && access.expireMs - Date.now() < EARLY_MS) await refresh();
  try {
    return await send();
  } catch (error) {
    if (!access.token || !(error instanceof CallError) || error.reason !== "CREDENTIAL_INVALID") throw error;
    await refresh();
    return send();
  }
}

async function post(rpc: string, type: string, body: BodyInit, idempotencyKey = ""): Promise<Response> {
  const headers = new Headers({ "content-type": type });
  if (access.token) headers.set("authorization", `Bearer ${access.token}`);
  if (idempotencyKey) headers.set("idempotency-key", idempotencyKey);
  const response = await fetch(`/${rpc}`, { method: "POST", headers, body }).catch(lost);
  if (!response.ok) throw new CallError((await response.json().catch(lost)) as Failure);
  return response;
}

/** Nobody knows what became of the call. */
function lost(): never {
  throw new CallError({ code: "unavailable" });
}

/** Five bytes before each message of a stream: what it is, 2 for the end, and its length. */
const HEAD_BYTES = 5;

function enveloped(message: object): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(JSON.stringify(message));
  const bytes = new Uint8Array(HEAD_BYTES + body.length);
  new DataView(bytes.buffer).setUint32(1, body.length);
  bytes.set(body, HEAD_BYTES);
  return bytes;
}

function* envelopes(buffer: ArrayBuffer): Generator<{ isEnd: boolean; value: { error?: Failure } }> {
  const view = new DataView(buffer);
  for (let start = 0; start + HEAD_BYTES <= buffer.byteLength; ) {
    const length = view.getUint32(start + 1);
    const body = new Uint8Array(buffer, start + HEAD_BYTES, Math.min(length, buffer.byteLength - start - HEAD_BYTES));
    if (body.length < length) return;
    yield { isEnd: view.getUint8(start) === 2, value: JSON.parse(new TextDecoder().decode(body)) };
    start += HEAD_BYTES + length;
  }
}
