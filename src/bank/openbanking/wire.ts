import { type Dispatcher, Pool } from "undici";
import type { BankingSettings } from "./contract.ts";

const CONNECTIONS_MAX = 32;
/** At once, those that wait for a connection too. */
const CALLS_MAX = 500;
const CONNECT_TIMEOUT_MS = 3_000;
/** A connection that was idle for longer may be closed by the other side just when it is used. */
const KEEP_ALIVE_MS = 4_000;
const HEADERS_BYTES_MAX = 16 * 1024;
const ANSWER_BYTES_MAX = 1024 * 1024;

export interface Request {
  method: "GET" | "POST";
  path: string;
  /** Of whoever calls; the calls that ask for one have none. */
  token?: string;
  query?: Record<string, string>;
  form?: Record<string, string>;
  json?: object;
}

/** What came of a call: an answer, its body undefined where it is not understood; or nothing, and whether it may have arrived. */
export type Answer =
  | { is: "answer"; status: number; body: unknown }
  | { is: "silence"; mayHaveArrived: boolean; why: string };

export interface Wire {
  /** Never rejects, and never sends anything twice. */
  send(request: Request): Promise<Answer>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

/** HTTP to the centre, over connections that are kept. */
export function openWire({ baseUrl, timeoutMs }: Pick<BankingSettings, "baseUrl" | "timeoutMs">): Wire {
  const base = new URL(baseUrl);
  const prefix = base.pathname.replace(/\/$/, "");
  const pool = new Pool(base.origin, {
    connections: CONNECTIONS_MAX,
    allowH2: false,
    connectTimeout: Math.min(CONNECT_TIMEOUT_MS, timeoutMs),
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: HEADERS_BYTES_MAX,
    maxResponseSize: ANSWER_BYTES_MAX,
  });
  const watched = pool.compose(noteSending);
  let underWay = 0;

  async function exchange(request: Request): Promise<Answer> {
    const sending: Sending = { began: false };
    try {
      const { statusCode, body } = await watched.request({
        method: request.method,
        path: `${prefix}${request.path}${request.query ? `?${new URLSearchParams(request.query)}` : ""}`,
        ...contentOf(request),
        // Over all of it: the wait for a connection, and an answer that comes in drops.
        signal: AbortSignal.timeout(timeoutMs),
        opaque: sending,
      });
      return { is: "answer", status: statusCode, body: parse(await body.text()) };
    } catch (error) {
      return { is: "silence", mayHaveArrived: sending.began, why: reasonOf(error) };
    }
  }

  return {
    async send(request) {
      if (underWay >= CALLS_MAX) return { is: "silence", mayHaveArrived: false, why: "too many calls" };
      underWay += 1;
      try {
        return await exchange(request);
      } finally {
        underWay -= 1;
      }
    },
    close: () => pool.close(),
  };
}

interface Sending {
  began: boolean;
}

/** Notes in `opaque` when a request gets its connection: until then nobody can have heard of it. */
const noteSending: Dispatcher.DispatcherComposeInterceptor = (dispatch) => (options, handler) => {
  const { opaque, signal } = options as Dispatcher.RequestOptions<Sending>;
  return dispatch(options, {
    onRequestStart(...all) {
      // One whose time is over is taken back before its first byte.
      if (opaque && !(signal as AbortSignal).aborted) opaque.began = true;
      handler.onRequestStart?.(...all);
    },
    onResponseStart: (...all) => handler.onResponseStart?.(...all),
    onResponseData: (...all) => handler.onResponseData?.(...all),
    onResponseEnd: (...all) => handler.onResponseEnd?.(...all),
    onResponseError: (...all) => handler.onResponseError?.(...all),
  });
};

function contentOf({ token, form, json }: Request) {
  const headers: Record<string, string> = { accept: "application/json" };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  if (form) headers["content-type"] = "application/x-www-form-urlencoded; charset=UTF-8";
  if (json) headers["content-type"] = "application/json; charset=UTF-8";
  return { headers, body: form ? new URLSearchParams(form).toString() : json && JSON.stringify(json) };
}

/** Undefined where it is no JSON, or has a name twice in one object: then it says two things, and not which it means. */
function parse(text: string): unknown {
  try {
    const body: unknown = JSON.parse(text);
    return namesIn(body) === namesWritten(text) ? body : undefined;
  } catch {
    return undefined;
  }
}

function namesIn(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const values: unknown[] = Object.values(value);
  return values.reduce<number>((sum, one) => sum + namesIn(one), Array.isArray(value) ? 0 : values.length);
}

/** Of JSON: the texts before a colon. */
const TEXT = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?/g;

function namesWritten(json: string): number {
  let count = 0;
  for (const [, colon] of json.matchAll(TEXT)) if (colon !== undefined) count += 1;
  return count;
}

/** In a word: messages of errors may repeat what was sent. */
function reasonOf(error: unknown): string {
  const { name, code } = error as Partial<NodeJS.ErrnoException>;
  if (name === "TimeoutError") return "timeout";
  return typeof code === "string" && /^[A-Z0-9_]+$/.test(code) ? code : "no answer";
}
