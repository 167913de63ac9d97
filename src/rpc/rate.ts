import { hash } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Interceptor } from "@connectrpc/connect";
import type { Redis } from "ioredis";
import { LRUCache } from "lru-cache";
import { Counter, type Registry } from "prom-client";
import { credentialInvalid, rateLimited } from "../errors.ts";
import { type Caller, callerOf } from "./caller.ts";
import { networkOf, originOf } from "./origin.ts";
import { openPoints, type Points } from "./points.ts";

/** How many calls there may be of each class in its window; of a class with 0, any number. */
export type RateLimits = Record<keyof typeof WINDOWS_S, number>;

/** The classes of calls, and how long a window of each is. */
const WINDOWS_S = {
  /** Of an account: calls that change nothing. */
  read: 10,
  /** Of an account: all other calls. */
  write: 10,
  /** Of an IP address or IPv6 network: calls that need no credential. */
  enter: 60,
  /** Of the API key of a chat server. */
  service: 10,
  /** Of a partner, with all its keys. */
  partner: 10,
  /** Of the API key of an operator. */
  operator: 10,
  /** Of an IP address or IPv6 network: credentials that turned out to be wrong. */
  failedCredentials: 60,
  /** Of an IP address or IPv6 network: codes for phone numbers. */
  texts: 3_600,
};

type Class = keyof typeof WINDOWS_S;

const WRONG_MAX = 10_000;
/** How long a credential that was wrong is known to be. */
const WRONG_MS = 60_000;

export interface RatesOptions {
  redis: Redis;
  metrics: { registry: Registry };
  config: { rateLimits: RateLimits };
}

export type Rates = ReturnType<typeof openRates>;

/** Sees that nobody calls more than their share, in all processes together. */
export function openRates({ redis, metrics, config }: RatesOptions) {
  const registers = [metrics.registry];
  const refused = new Counter({
    name: "chatpay_rate_limited_total",
    help: "Calls that were refused because their caller made too many, by class.",
    labelNames: ["class"],
    registers,
  });
  const fallbacks = new Counter({
    name: "chatpay_rate_fallback_total",
    help: "Questions of how many calls there were that Redis did not answer, so that the process counted for itself.",
    registers,
  });

  const open = (name: Class) => {
    const max = config.rateLimits[name];
    const windowS = WINDOWS_S[name];
    return max === 0 ? undefined : openPoints({ redis, name, max, windowS, onFallback: () => fallbacks.inc() });
  };
  const points = Object.fromEntries(Object.keys(WINDOWS_S).map((name) => [name, open(name as Class)])) as Record<
    Class,
    Points | undefined
  >;

  function refuse(name: Class, waitMs: number) {
    refused.inc({ class: name });
    return rateLimited(waitMs);
  }

  const interceptor: Interceptor = (next) => async (request) => {
    const { contextValues: values } = request;
    const caller = callerOf({ values });
    const name = classOf(caller, request.method);
    const spent = points[name]?.spend(keyOf(caller, originOf({ values }).ip)) ?? 0;
    // Nearly always a number; a call that need not wait does not.
    const waitMs = typeof spent === "number" ? spent : await spent;
    if (waitMs > 0) throw refuse(name, waitMs);
    return next(request);
  };

  /** By their hashes, because a stranger may send many that are as long as a header can be. */
  const wrong = new LRUCache<string, true>({ max: WRONG_MAX, ttl: WRONG_MS });
  const markOf = (authorization: string) => hash("sha256", authorization, "base64url");
  /**
   * Wrong credentials, by where they come from. One that comes again counts once, so that a server with an old key does
   * not use up the tries of its neighbours; and a token needs no look-up to be judged, so a good one always passes. Without
   * an address nothing is counted.
   */
  const guesses = {
    /** Throws CREDENTIAL_INVALID if this one was wrong before. */
    recall(authorization: string) {
      if (wrong.has(markOf(authorization))) throw credentialInvalid();
    },
    /** Before a look-up. Throws RATE_LIMITED when too many were wrong. */
    check(ip: string) {
      if (ip === "") return;
      const waitMs = points.failedCredentials?.msUntilMore(networkOf(ip)) ?? 0;
      if (waitMs > 0) throw refuse("failedCredentials", waitMs);
    },
    /** Counts one that was wrong. Throws RATE_LIMITED instead of what it was refused with, when there are too many. */
    async count(ip: string, authorization: string) {
      if (ip === "") return;
      const waitMs = (await points.failedCredentials?.spend(networkOf(ip))) ?? 0;
      if (waitMs > 0) throw refuse("failedCredentials", waitMs);
      wrong.set(markOf(authorization), true);
    },
  };

  const texts = {
    /** Counts a text message. Throws RATE_LIMITED when there were too many. Without an address nothing is counted. */
    async count(ip: string) {
      const waitMs = ip === "" ? 0 : ((await points.texts?.spend(networkOf(ip))) ?? 0);
      if (waitMs > 0) throw refuse("texts", waitMs);
    },
  };
  return { interceptor, guesses, texts };
}

function classOf({ kind }: Caller, method: DescMethod): Class {
  if (kind === "anyone") return "enter";
  if (kind !== "person") return kind;
  return method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS ? "read" : "write";
}

function keyOf(caller: Caller, ip: string): bigint | string {
  switch (caller.kind) {
    case "anyone":
      return networkOf(ip);
    case "person":
      return caller.accountId;
    case "partner":
      return caller.partnerId;
    default:
      return caller.keyId;
  }
}
