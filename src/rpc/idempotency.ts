import { idempotencyKeyMissing } from "../errors.ts";

const KEY_CHARACTERS_MAX = 64;

/** The call's idempotency key: from the field, or from the header that JSON callers may send instead. */
export function idempotencyKeyOf(request: { idempotencyKey: string }, context: { requestHeader: Headers }): string {
  // The field has a rule of its own, which the call has passed.
  if (request.idempotencyKey !== "") return request.idempotencyKey;
  const key = context.requestHeader.get("idempotency-key") ?? "";
  if (key === "" || key.length > KEY_CHARACTERS_MAX) throw idempotencyKeyMissing();
  return key;
}

/** Tells the caller that the key had been used before and nothing moved now. */
export function tellReplayed(context: { responseHeader: Headers }, replayed: boolean) {
  if (replayed) context.responseHeader.set("idempotency-replayed", "true");
}
