import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { deadlineExceeded, overloaded } from "../errors.ts";
import { ending, orAborted, untilAborted } from "./stream.ts";

const RETRY_AFTER_MS = 500;
const REPORT_EVERY_MS = 1_000;

/** Ends a call when its time is over or the client is gone, and a stream when the server stops, whatever its handler does. */
export const bound =
  (maxTimeoutMs: number, closing: AbortSignal): Interceptor =>
  (next) =>
  async (request) => {
    if (request.stream) {
      const signal = AbortSignal.any([request.signal, closing]);
      const response = await orAborted(next({ ...request, signal }), signal);
      return response.stream ? { ...response, message: untilAborted(response.message, signal) } : response;
    }
    return orAborted(next(request), request.signal, { ms: maxTimeoutMs, end: deadlineExceeded });
  };

/** Refuses at once what is above the limit, so that what was taken is answered in time. */
export function shed(maxInFlight: number, maxStreams: number, log: Logger) {
  const inFlight = { calls: 0, streams: 0 };
  let unreported = 0;
  let reportedAt = 0;
  const refuse = () => {
    unreported += 1;
    if (Date.now() - reportedAt >= REPORT_EVERY_MS) {
      log.warn({ refused: unreported, ...inFlight }, "overloaded");
      unreported = 0;
      reportedAt = Date.now();
    }
    return overloaded(RETRY_AFTER_MS);
  };

  const interceptor: Interceptor = (next) => async (request) => {
    const [kind, max] = request.stream ? (["streams", maxStreams] as const) : (["calls", maxInFlight] as const);
    if (inFlight[kind] >= max) throw refuse();
    inFlight[kind] += 1;
    const leave = () => {
      inFlight[kind] -= 1;
    };
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: ending(response.message, leave) };
      leave();
      return response;
    } catch (failure) {
      leave();
      throw failure;
    }
  };
  return { interceptor, inFlight };
}
