import { createServer as createHttp1Server, IncomingMessage, type ServerResponse } from "node:http";
import {
  constants,
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  cors,
  createConnectRouter,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { requestInvalid } from "../errors.ts";
import { keepCredentials } from "./headers.ts";
import { isMalformed, plainError } from "./observe.ts";
import { setPeer } from "./origin.ts";
import type { ServedRoute } from "./route.ts";

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

const ALLOWED_HEADERS = [
  ...cors.allowedHeaders,
  "authorization",
  "idempotency-key",
  "chatpay-account-id",
  "x-request-id",
];
const EXPOSED_HEADERS = [...cors.exposedHeaders, "idempotency-replayed", "x-request-id"];
const PREFLIGHT_MAX_AGE_S = 7_200;
const SECURITY_HEADERS = [
  ["cache-control", "no-store"],
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["x-content-type-options", "nosniff"],
] as const;
/** A timer for longer than this fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;
const SINGLE_REQUEST = new Set<DescMethod["methodKind"]>(["unary", "server_streaming"]);

/** What a path that is no RPC answers to anybody. */
export interface Page {
  type: string;
  cacheControl: string;
  body: string;
}

export type Pages = ReadonlyMap<string, Page>;

export interface ConnectOptions {
  routes: ServedRoute[];
  pages: Pages;
  log: Logger;
  corsOrigins: string[];
  secure: boolean;
  readMaxBytes: number;
  /** For the header lines of a request, and for all of it where it is a single message. */
  headersMs: number;
  requestMs: number;
  streamsPerConnection: number;
  /** Whether the server stops, and wants its connections back. */
  closing: AbortSignal;
}

/** The routes as Connect, gRPC-Web and gRPC, on an HTTP/1.1 and an HTTP/2 server that have no port of their own. */
export function createConnectServers(options: ConnectOptions) {
  const { headersMs, requestMs, streamsPerConnection } = options;
  const handle = handler(options);
  return {
    http1: createHttp1Server(
      { headersTimeout: headersMs, requestTimeout: requestMs, connectionsCheckingInterval: Math.min(headersMs, 1_000) },
      handle,
    ),
    http2: createHttp2Server({ settings: { maxConcurrentStreams: streamsPerConnection } }, handle),
  };
}

function handler({ routes, pages, log, corsOrigins, secure, readMaxBytes, requestMs, closing }: ConnectOptions) {
  const acceptCompression = [compressionGzip, compressionBrotli];
  const maxTimeoutMs = TIMER_MAX_MS;
  // A misspelt field must not be a field left out: money would move without it.
  const jsonOptions = { ignoreUnknownFields: false };
  const router = createConnectRouter({
    acceptCompression,
    readMaxBytes,
    maxTimeoutMs,
    jsonOptions,
    requestGate: explainRefusals,
  });
  for (const { service, implementation, interceptors } of routes)
    router.service(service, implementation, { interceptors });
  const rpcs = new Map(router.handlers.map((rpc) => [rpc.requestPath, rpc]));

  async function answer(request: Request, response: Response) {
    setHeaders(response, secure);
    if (closing.aborted && request.httpVersionMajor === 1) response.setHeader("connection", "close");
    if (allowOrigin(request, response, corsOrigins) && request.method === "OPTIONS") {
      response.statusCode = 204;
      response.end();
      return;
    }
    const path = request.url?.split("?", 1)[0] ?? "";
    const page = pages.get(path);
    if (page) {
      show(page, request, response);
      return;
    }
    const rpc = rpcs.get(path);
    if (!rpc) {
      response.statusCode = 404;
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ code: "unimplemented", message: `no such RPC: ${path}` }));
      return;
    }
    if (SINGLE_REQUEST.has(rpc.method.methodKind)) endWithin(request, requestMs);
    keepCredentials(request.headers, request.rawHeaders);
    const values = createContextValues();
    setPeer(values, request.socket.remoteAddress ?? "");
    await universalResponseToNodeResponse(
      await rpc(universalRequestFromNodeRequest(request, response, undefined, values)),
      response,
    );
  }

  return (request: Request, response: Response) => {
    answer(request, response).catch((failure: unknown) => {
      // Most often the client is gone. A request that makes no URL, such as one with a broken host, ends here too.
      log.debug({ cause: plainError(failure) }, "not answered");
      if (!response.headersSent) response.statusCode = 400;
      response.end();
    });
  };
}

/**
 * Connect refuses bytes that are no message before any interceptor, as INTERNAL where they are binary. It shows the error
 * only to whoever listens to the end of the call, just before it is written.
 */
function explainRefusals({ signal }: HandlerContext) {
  signal.addEventListener("abort", () => {
    const error: unknown = signal.reason;
    if (!(error instanceof ConnectError) || error.details.length > 0) return;
    const rawMessage = withoutValues(error.rawMessage);
    Object.assign(error, { rawMessage, message: error.message.replace(error.rawMessage, () => rawMessage) });
    if (isMalformed(error)) Object.assign(error, { code: Code.InvalidArgument });
    if (error.code === Code.InvalidArgument) error.details = requestInvalid(rawMessage).details;
  });
}

/** The parser repeats what it read, which may be a password; a client may log what it is answered. */
const withoutValues = (message: string) =>
  message.replace(/, got .*$/s, "").replace(/( from JSON): (?:".*|Unexpected .*)$/s, "$1");

function show({ type, cacheControl, body }: Page, { method }: Request, response: Response) {
  if (method !== "GET" && method !== "HEAD") {
    response.statusCode = 405;
    response.setHeader("allow", "GET, HEAD");
    response.end();
    return;
  }
  response.setHeader("content-type", type);
  response.setHeader("content-length", Buffer.byteLength(body));
  response.setHeader("cache-control", cacheControl);
  // Node keeps the body of a HEAD to itself.
  response.end(body);
}

/** HTTP/1.1 has a timeout for this of its own. */
function endWithin(request: Request, requestMs: number) {
  if (request instanceof IncomingMessage) return;
  const timer = setTimeout(() => request.stream.close(constants.NGHTTP2_CANCEL), requestMs);
  request.once("end", () => clearTimeout(timer)).once("close", () => clearTimeout(timer));
}

function setHeaders(response: Response, secure: boolean) {
  for (const [name, value] of SECURITY_HEADERS) response.setHeader(name, value);
  if (secure) response.setHeader("strict-transport-security", "max-age=31536000");
}

/** Whether the page that calls may. */
function allowOrigin({ headers: { origin } }: Request, response: Response, origins: string[]) {
  if (origins.length > 0) response.setHeader("vary", "origin");
  if (origin === undefined || !(origins.includes(origin) || origins.includes("*"))) return false;
  response.setHeader("access-control-allow-origin", origin);
  // Cookies are for pages that are listed by name, and never for all pages there are.
  if (origins.includes(origin)) response.setHeader("access-control-allow-credentials", "true");
  response.setHeader("access-control-allow-methods", cors.allowedMethods.join());
  response.setHeader("access-control-allow-headers", ALLOWED_HEADERS.join());
  response.setHeader("access-control-expose-headers", EXPOSED_HEADERS.join());
  response.setHeader("access-control-max-age", PREFLIGHT_MAX_AGE_S);
  return true;
}
