import { randomUUID } from "node:crypto";
import { Code, ConnectError, type ContextValues, createContextKey, type Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { ErrorInfoSchema, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import { isConnectionLost } from "../db/database.ts";
import { deadlineExceeded, dependencyUnavailable, internal, requestInvalid } from "../errors.ts";
import { type Caller, callerOf } from "./caller.ts";
import type { Meter } from "./meter.ts";
import { ending } from "./stream.ts";

const SLOW_MS = 1_000;
const REQUEST_ID = "x-request-id";
const SANE_REQUEST_ID = /^[\w.:-]{1,64}$/;

const requestIdKey = createContextKey<string>("", { description: "request id" });

/** What finds this call in the log. */
export const requestIdOf = (context: { values: ContextValues }): string => context.values.get(requestIdKey);

/** Gives every call a request id, a place in the metrics, a line in the log, and an answer that tells nothing of our insides. */
export const observe =
  (log: Logger, meter: Meter): Interceptor =>
  (next) =>
  async (request) => {
    const startedAt = performance.now();
    const requestId = readRequestId(request.header);
    request.contextValues.set(requestIdKey, requestId);
    meter.started(request.method);

    const settle = (failure?: unknown) => {
      const ms = performance.now() - startedAt;
      const error = failure === undefined ? undefined : answerTo(failure, request.signal);
      error?.metadata.set(REQUEST_ID, requestId);
      meter.handled(request.method, error?.code, ms);
      const level = levelOf(error, ms);
      if (log.isLevelEnabled(level)) {
        const rpc = `${request.service.typeName}/${request.method.name}`;
        const outcome = { code: error ? Code[error.code] : "OK", ms: Math.round(ms) };
        const caller = idsOf(callerOf({ values: request.contextValues }));
        log[level]({ rpc, ...outcome, requestId, ...caller, ...(error && whyOf(error)) }, "call");
      }
      return error;
    };

    try {
      const response = await next(request);
      response.header.set(REQUEST_ID, requestId);
      if (response.stream) return { ...response, message: ending(response.message, settle) };
      settle();
      return response;
    } catch (failure) {
      throw settle(failure);
    }
  };

function readRequestId(header: Headers) {
  const given = header.get(REQUEST_ID);
  return given !== null && SANE_REQUEST_ID.test(given) ? given : randomUUID();
}

/** A refusal is the answer. What nobody foresaw stays inside, as the cause of an error that only names its id. */
export function answerTo(failure: unknown, signal: AbortSignal): ConnectError {
  if (failure instanceof ConnectError && !failure.isWireError && !UNFORESEEN.has(failure.code)) {
    return failure.code === Code.DeadlineExceeded && failure.details.length === 0 ? deadlineExceeded() : failure;
  }
  if (isConnectionLost(failure)) return Object.assign(dependencyUnavailable("mysql"), { cause: failure });
  if (failure instanceof ConnectError && isMalformed(failure)) return requestInvalid(failure.rawMessage);
  if (signal.aborted && failure === signal.reason) return new ConnectError("the client is gone", Code.Canceled);
  const error = internal(randomUUID());
  error.cause = failure;
  return error;
}

/** Bytes that are no message are the client's mistake; connect-node says INTERNAL where they are binary. */
export const isMalformed = ({ rawMessage }: ConnectError) =>
  rawMessage.startsWith("parse binary") || rawMessage === "decompression failed";

const UNFORESEEN = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/** What needs somebody to look stands out; what happens all day is there for who asks. */
function levelOf(error: ConnectError | undefined, ms: number) {
  switch (error?.code) {
    case Code.Internal:
      return "error";
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return "warn";
    case undefined:
    case Code.Canceled:
      return ms >= SLOW_MS ? "info" : "debug";
    // The limit reports what it sheds once a second; a line for each would be load on top of overload.
    case Code.ResourceExhausted:
      return "debug";
    default:
      return "info";
  }
}

const idsOf = (caller: Caller) => ({
  caller: caller.kind,
  accountId: "accountId" in caller ? String(caller.accountId) : undefined,
  partnerId: "partnerId" in caller ? String(caller.partnerId) : undefined,
  keyId: "keyId" in caller ? String(caller.keyId) : undefined,
});

/** The reason of a refusal, or the cause that the client does not get. */
function whyOf(error: ConnectError) {
  const [info] = error.findDetails(ErrorInfoSchema);
  const reason = info && ReasonSchema.value[info.reason]?.name;
  return error.code === Code.Internal
    ? { reason, errorId: info?.metadata.error_id, cause: plainError(error.cause) }
    : { reason, message: info ? undefined : error.rawMessage };
}

/** Of an error only what tells no secret: those of MySQL, Redis and mail servers repeat in their message what they were told. */
export function plainError(error: unknown): unknown {
  if (!(error instanceof Error)) return { type: typeof error };
  const { name, message, stack = "", cause } = error;
  const { code, errno } = error as NodeJS.ErrnoException;
  const frames = stack.slice(Math.max(stack.indexOf("\n    at "), 0)).trim();
  return {
    type: name,
    message: "sql" in error || "command" in error ? undefined : message,
    code,
    errno,
    stack: frames,
    ...(cause !== undefined && { cause: plainError(cause) }),
  };
}
