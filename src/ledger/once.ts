import { hash } from "node:crypto";

/** Keys live in 16 bytes: enough that two never meet by chance, and small in the index. */
const KEY_BYTES = 16;
const REQUEST_BYTES = 8;

const digest = (parts: (bigint | string)[], bytes: number): Buffer =>
  hash("sha256", parts.map((part) => `${String(part).length}:${part}`).join(""), "buffer").subarray(0, bytes);

/** The unique key of what a caller does under a key of their own choice. */
export const onceKeyOf = (scope: string, key: string): Buffer => digest([scope, key], KEY_BYTES);

/** What tells two requests with the same key apart. */
export const requestHashOf = (...parts: (bigint | string)[]): Buffer => digest(parts, REQUEST_BYTES);

/** Operators share one scope, so that a retry with a newer API key moves nothing twice. */
export const OPERATORS = "operators";

/** An account's scope, whether the person acts or a chat server acts for them. */
export const scopeOf = ({ accountId }: { accountId: bigint }) => `account:${accountId}`;
