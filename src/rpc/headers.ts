import type { IncomingHttpHeaders } from "node:http";

/** What says who calls, and for whom. */
const CREDENTIALS = ["authorization", "chatpay-account-id", "chatpay-caller"];
const ILLEGAL = /[^ -~]/g;

/**
 * Sees that headers which say who calls arrive as they were sent, to be refused if need be. Of two `authorization`
 * headers Node would drop the second, and grpc-js any value with letters that gRPC does not allow: then a call would be
 * judged by less than what it said. Names in `rawHeaders` and their values take turns.
 */
export function keepCredentials(headers: IncomingHttpHeaders, rawHeaders: readonly string[]) {
  let seen = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!isAuthorization(rawHeaders[i])) continue;
    if (seen > 0) headers.authorization += `, ${rawHeaders[i + 1]}`;
    seen += 1;
  }
  for (const name of CREDENTIALS) {
    const value = headers[name];
    if (typeof value === "string") headers[name] = value.replace(ILLEGAL, "?");
  }
}

/** The length is compared first, because it is asked of every header of every call. */
const isAuthorization = (name = "") => name.length === 13 && name.toLowerCase() === "authorization";

/**
 * Headers of a call at the grpc-js door. The web's own check every name and value, which grpc-js has done or will do; on
 * the way of a single call that is one twentieth of its time.
 */
export class CallHeaders implements Headers {
  readonly #values = new Map<string, string>();

  get(name: string) {
    return this.#values.get(name.toLowerCase()) ?? null;
  }
  has(name: string) {
    return this.#values.has(name.toLowerCase());
  }
  set(name: string, value: string) {
    this.#values.set(name.toLowerCase(), value);
  }
  append(name: string, value: string) {
    const before = this.get(name);
    this.set(name, before === null ? value : `${before}, ${value}`);
  }
  delete(name: string) {
    this.#values.delete(name.toLowerCase());
  }
  /** There are no cookies here. */
  getSetCookie() {
    return [];
  }
  forEach(callback: (value: string, name: string, parent: Headers) => void) {
    for (const [name, value] of this.#values) callback(value, name, this);
  }
  entries() {
    return this.#values.entries();
  }
  keys() {
    return this.#values.keys();
  }
  values() {
    return this.#values.values();
  }
  [Symbol.iterator]() {
    return this.#values.entries();
  }
}
