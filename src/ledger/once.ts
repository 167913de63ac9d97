import { hash } from "node:crypto";

/** Keys live in 16 bytes: enough that two never meet by chance, and small in the index. */
const KEY_BYTES = 16;

/** The unique key of what a caller does under a key of their own choice. Scopes hold no line break. */
export const onceKeyOf = (scope: string, key: string): Buffer =>
  hash("sha256", `${scope}\n${key}`, "buffer").subarray(0, KEY_BYTES);

/** Operators share one scope, so that a retry with a newer API key moves nothing twice. */
export const OPERATORS = "operators";

/** An account's scope, whether the person acts or a chat server acts for them. */
export const scopeOf = ({ accountId }: { accountId: bigint }) => `account:${accountId}`;
