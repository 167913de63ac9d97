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
