import type { IncomingMessage, ServerResponse } from "node:http";
import { Code } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJson } from "@connectrpc/connect/protocol-connect";
import type { Logger } from "pino";
import { answerTo, plainError } from "./observe.ts";

/** Finds out who calls with these headers, and returns a caller token. Throws a refusal. */
export type Resolve = (header: Headers) => Promise<string>;

const NEVER = new AbortController().signal;

/** Whether a gateway asks here. Some put the path of the call behind it. */
export const isResolve = (url = "") => /^\/resolve(?:[/?]|$)/.test(url);

/**
 * Answers a gateway that sends the headers of a call and wants to know whose it is: with a caller token in a header,
 * or with the refusal as Connect writes it, which the gateway may pass on.
 */
export async function answerGateway(resolve: Resolve, log: Logger, request: IncomingMessage, response: ServerResponse) {
  response.setHeader("cache-control", "no-store");
  try {
    response.writeHead(200, { "chatpay-caller": await resolve(headerOf(request)) }).end();
  } catch (failure) {
    const error = answerTo(failure, NEVER);
    if (error.code === Code.Internal) log.error({ cause: plainError(error.cause) }, "a gateway was not answered");
    response.writeHead(codeToHttpStatus(error.code), { "content-type": "application/json" });
    response.end(JSON.stringify(errorToJson(error, undefined)));
  }
}

/** Each header with all of its values: of two credentials, Node would keep the first and drop the other. */
function headerOf({ headersDistinct }: IncomingMessage): Headers {
  const header = new Headers();
  for (const [name, values = []] of Object.entries(headersDistinct)) {
    for (const value of values) header.append(name, value);
  }
  return header;
}
