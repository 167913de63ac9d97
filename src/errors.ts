import { Code, ConnectError } from "@connectrpc/connect";
import { type Scope, ScopeSchema } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

type Metadata = Record<string, bigint | number | string>;

/** An error that tells a client why, and what to do next. With `retryAfterMs`, when to try again. */
function refusal(
  code: Code,
  reason: Reason,
  message: string,
  metadata: Metadata = {},
  retryAfterMs?: number,
): ConnectError {
  const texts = Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, String(value)]));
  const error = new ConnectError(message, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, metadata: texts } },
  ]);
  if (retryAfterMs !== undefined) {
    const retryDelay = { seconds: BigInt(Math.floor(retryAfterMs / 1000)), nanos: (retryAfterMs % 1000) * 1_000_000 };
    error.details.push({ desc: RetryInfoSchema, value: { retryDelay } });
  }
  return error;
}

/** The reason of a refusal, where the error is one. */
export const reasonOf = (error: unknown): Reason | undefined =>
  error instanceof ConnectError ? error.findDetails(ErrorInfoSchema)[0]?.reason : undefined;

/** The wallet of which a refusal says that it has too little. */
export function shortWalletOf(error: unknown): bigint | undefined {
  if (reasonOf(error) !== Reason.INSUFFICIENT_FUNDS) return undefined;
  const [info] = (error as ConnectError).findDetails(ErrorInfoSchema);
  return BigInt(info?.metadata.wallet_id ?? 0);
}

// Who is calling

export const credentialMissing = () =>
  refusal(
    Code.Unauthenticated,
    Reason.CREDENTIAL_MISSING,
    "send a credential: authorization: Bearer <token or API key>",
  );

export const credentialInvalid = () =>
  refusal(Code.Unauthenticated, Reason.CREDENTIAL_INVALID, "the credential is not valid, or not any more");

export const callerNotAllowed = (kind: string) =>
  refusal(Code.PermissionDenied, Reason.CALLER_NOT_ALLOWED, `this call is not for a ${kind} credential`);

export const actingAccountInvalid = (message: string) =>
  refusal(Code.InvalidArgument, Reason.ACTING_ACCOUNT_INVALID, message);

export function scopeMissing(missing: Scope) {
  const scope = ScopeSchema.value[missing]?.localName ?? "";
  return refusal(Code.PermissionDenied, Reason.SCOPE_MISSING, `the API key lacks the scope ${scope}`, { scope });
}

export const countryNotAllowed = (country: string) =>
  refusal(Code.PermissionDenied, Reason.COUNTRY_NOT_ALLOWED, "this is not possible from where you are", { country });

export const rateLimited = (retryAfterMs: number) =>
  refusal(
    Code.ResourceExhausted,
    Reason.RATE_LIMITED,
    `too many calls; try again in ${Math.ceil(retryAfterMs / 1000)} s`,
    {},
    retryAfterMs,
  );

// The request

export const requestInvalid = (message: string) => refusal(Code.InvalidArgument, Reason.REQUEST_INVALID, message);

export const idempotencyKeyMissing = () =>
  refusal(
    Code.InvalidArgument,
    Reason.IDEMPOTENCY_KEY_MISSING,
    "set idempotency_key, or send an Idempotency-Key header, of 1 to 64 characters",
  );

export const idempotencyKeyReused = () =>
  refusal(
    Code.InvalidArgument,
    Reason.IDEMPOTENCY_KEY_REUSED,
    "this idempotency key belongs to another request; make a new key for a new request",
  );

export const pageTokenInvalid = () =>
  refusal(
    Code.InvalidArgument,
    Reason.PAGE_TOKEN_INVALID,
    "the page token is not of this listing; start again without one",
  );

// Accounts

export const accountNotFound = (accountId: bigint | string) =>
  refusal(Code.NotFound, Reason.ACCOUNT_NOT_FOUND, "no such account", { account_id: accountId });

export const codeInvalid = () =>
  refusal(Code.InvalidArgument, Reason.CODE_INVALID, "the code is not valid, or not any more; ask for a new one");

export const phoneNotServed = () =>
  refusal(Code.InvalidArgument, Reason.PHONE_NOT_SERVED, "no text messages are sent to numbers of this country");

export const addressTaken = () =>
  refusal(Code.AlreadyExists, Reason.ADDRESS_TAKEN, "this address has an account; sign in instead");

export const signInFailed = () =>
  refusal(Code.Unauthenticated, Reason.SIGN_IN_FAILED, "address and password do not belong together");

export const refreshTokenInvalid = () =>
  refusal(
    Code.Unauthenticated,
    Reason.REFRESH_TOKEN_INVALID,
    "the refresh token is not valid, or not any more; sign in",
  );

export const passwordTooSimple = () =>
  refusal(Code.InvalidArgument, Reason.PASSWORD_TOO_SIMPLE, "choose a password that is not your address");

export const tooManyAttempts = (retryAfterMs: number) =>
  refusal(
    Code.ResourceExhausted,
    Reason.TOO_MANY_ATTEMPTS,
    `too many attempts; try again in ${Math.ceil(retryAfterMs / 1000)} s`,
    {},
    retryAfterMs,
  );

export const sessionNotFound = (sessionId: string) =>
  refusal(Code.NotFound, Reason.SESSION_NOT_FOUND, "no such session, or it has ended", { session_id: sessionId });

/** The service adds what stands in the way as a `ClosingObstacles` detail. */
export const accountNotSettled = () =>
  refusal(
    Code.FailedPrecondition,
    Reason.ACCOUNT_NOT_SETTLED,
    "the account cannot be closed yet; settle what is listed, then try again",
  );

export const identityTaken = () =>
  refusal(Code.AlreadyExists, Reason.IDENTITY_TAKEN, "this person has another open account");

export const identityFixed = () =>
  refusal(Code.FailedPrecondition, Reason.IDENTITY_FIXED, "the account has another identity, which stays");

export const identityMismatch = () =>
  refusal(Code.FailedPrecondition, Reason.IDENTITY_MISMATCH, "the identity is known with another birth date");

export const pinTooSimple = () =>
  refusal(Code.InvalidArgument, Reason.PIN_TOO_SIMPLE, "choose a PIN that is not one digit, and no digits in a row");

export const pinRequired = (above: bigint) =>
  refusal(Code.FailedPrecondition, Reason.PIN_REQUIRED, "this amount needs the payment PIN", { above });

export const pinWrong = (triesLeft: number) =>
  refusal(Code.PermissionDenied, Reason.PIN_WRONG, "the PIN is wrong", { tries_left: triesLeft });

export const pinLocked = () =>
  refusal(Code.FailedPrecondition, Reason.PIN_LOCKED, "the PIN is locked; set a new one to unlock it");

// API keys

export const keyNotFound = (keyId: string) =>
  refusal(Code.NotFound, Reason.KEY_NOT_FOUND, "no such API key", { key_id: keyId });

export const keyEnded = (keyId: string) =>
  refusal(Code.FailedPrecondition, Reason.KEY_ENDED, "the API key has expired or was revoked", { key_id: keyId });

export const keyTooWide = () =>
  refusal(
    Code.PermissionDenied,
    Reason.SCOPE_MISSING,
    "a key with scopes makes and replaces only keys of its own kind that have scopes too",
  );

export const tooManyKeys = (max: number) =>
  refusal(Code.FailedPrecondition, Reason.TOO_MANY_KEYS, `there are ${max} API keys already; revoke one`, { max });

// Wallets

export const systemWallet = (walletId: bigint) =>
  refusal(Code.InvalidArgument, Reason.SYSTEM_WALLET, "the wallet belongs to the house", { wallet_id: walletId });

export const walletNotFound = (walletId: bigint | string) =>
  refusal(Code.NotFound, Reason.WALLET_NOT_FOUND, "no such wallet", { wallet_id: walletId });

/** Tells the available balance: only ever about the caller's own wallet, or to an operator. */
export const insufficientFunds = (walletId: bigint, available: bigint, amount: bigint) =>
  refusal(Code.FailedPrecondition, Reason.INSUFFICIENT_FUNDS, "the available balance is below the amount", {
    wallet_id: walletId,
    available,
    amount,
  });

export const walletFrozen = (walletId: bigint) =>
  refusal(Code.FailedPrecondition, Reason.WALLET_FROZEN, "the wallet is frozen and does not pay", {
    wallet_id: walletId,
  });

export const walletClosed = (walletId: bigint) =>
  refusal(Code.FailedPrecondition, Reason.WALLET_CLOSED, "the wallet is closed", { wallet_id: walletId });

/** Tells the balance: only ever about the caller's own wallet. */
export const walletNotEmpty = (walletId: bigint, balance: bigint) =>
  refusal(Code.FailedPrecondition, Reason.WALLET_NOT_EMPTY, "the wallet has money; take it out first", {
    wallet_id: walletId,
    balance,
  });

export const currencyMismatch = (from: string, to: string) =>
  refusal(Code.FailedPrecondition, Reason.CURRENCY_MISMATCH, "the wallets have different currencies", { from, to });

export const balanceOverflow = (walletId: bigint) =>
  refusal(Code.OutOfRange, Reason.BALANCE_OVERFLOW, "the wallet cannot hold that much", { wallet_id: walletId });

// Transfers

export const sameWallet = (walletId: bigint) =>
  refusal(Code.InvalidArgument, Reason.SAME_WALLET, "sender and recipient are the same wallet", {
    wallet_id: walletId,
  });

export const transferNotFound = (transferId: bigint | string) =>
  refusal(Code.NotFound, Reason.TRANSFER_NOT_FOUND, "no such transfer", { transfer_id: transferId });

/** `state` is how it ended, such as EXPIRED. */
export const transferEnded = (transferId: bigint, state: string) =>
  refusal(Code.FailedPrecondition, Reason.TRANSFER_ENDED, "the gift has ended already; look at its state", {
    transfer_id: transferId,
    state,
  });

export const batchAborted = () =>
  refusal(Code.Aborted, Reason.BATCH_ABORTED, "another transfer of the batch was refused, so none happened");

// Requests for money

export const moneyRequestNotFound = (requestId: bigint | string) =>
  refusal(Code.NotFound, Reason.MONEY_REQUEST_NOT_FOUND, "no such request for money", { request_id: requestId });

/** `state` is how it ended, as the proto writes it. */
export const moneyRequestEnded = (requestId: bigint, state: string) =>
  refusal(Code.FailedPrecondition, Reason.MONEY_REQUEST_ENDED, "the request for money has ended", {
    request_id: requestId,
    state,
  });

// Scheduled transfers

export const scheduledTransferNotFound = (id: bigint | string) =>
  refusal(Code.NotFound, Reason.SCHEDULED_TRANSFER_NOT_FOUND, "no such scheduled transfer", {
    scheduled_transfer_id: id,
  });

/** `state` is how it ended, as the proto writes it, or STARTED. */
export const scheduledTransferEnded = (id: bigint, state: string) =>
  refusal(Code.FailedPrecondition, Reason.SCHEDULED_TRANSFER_ENDED, "the scheduled transfer has started or ended", {
    scheduled_transfer_id: id,
    state,
  });

// Payments

export const partnerNotFound = (partnerId: bigint | string) =>
  refusal(Code.NotFound, Reason.PARTNER_NOT_FOUND, "no such partner", { partner_id: partnerId });

export const paymentNotFound = (paymentId: bigint | string) =>
  refusal(Code.NotFound, Reason.PAYMENT_NOT_FOUND, "no such payment", { payment_id: paymentId });

export const paymentExists = (partnerId: bigint, orderKey: string) =>
  refusal(Code.AlreadyExists, Reason.PAYMENT_EXISTS, "this order was paid before", {
    partner_id: partnerId,
    order_key: orderKey,
  });

export const itemsSumMismatch = (itemsSum: bigint, amount: bigint) =>
  refusal(Code.InvalidArgument, Reason.ITEMS_SUM_MISMATCH, "the items do not add up to the amount", {
    items_sum: itemsSum,
    amount,
  });

export const itemsPartlyPriced = () =>
  refusal(Code.InvalidArgument, Reason.ITEMS_SUM_MISMATCH, "price every item, or none");

// Banks

export const bankAccountNotFound = (bankAccountId: bigint | string) =>
  refusal(Code.NotFound, Reason.BANK_ACCOUNT_NOT_FOUND, "no such bank account, or it is not linked any more", {
    bank_account_id: bankAccountId,
  });

export const bankAccountTaken = () =>
  refusal(Code.AlreadyExists, Reason.BANK_ACCOUNT_TAKEN, "this bank account is linked to somebody else");

export const bankStateInvalid = () =>
  refusal(Code.InvalidArgument, Reason.BANK_STATE_INVALID, "this consent was not begun here, or is over; begin again");

export const bankConsentRefused = () =>
  refusal(Code.FailedPrecondition, Reason.BANK_CONSENT_REFUSED, "KFTC did not take the consent; begin again");

export const bankPersonMismatch = () =>
  refusal(Code.FailedPrecondition, Reason.BANK_PERSON_MISMATCH, "the bank says that the account is another person's");

export const bankConsentMissing = (bankAccountId: bigint) =>
  refusal(
    Code.FailedPrecondition,
    Reason.BANK_CONSENT_MISSING,
    "its owner has not agreed to this, or not any more; link the bank account again by consent",
    { bank_account_id: bankAccountId },
  );

/** What a bank said no to, in its words. */
export interface BankRefusal {
  /** The bank's three digits; empty when it was KFTC. */
  bankCode: string;
  code: string;
  message: string;
}

export const bankRefused = ({ bankCode, code, message }: BankRefusal) =>
  refusal(Code.FailedPrecondition, Reason.BANK_REFUSED, message, { bank_code: bankCode, code });

export const bankDeclined = (bankTransferId: bigint, { bankCode, code, message }: BankRefusal) =>
  refusal(Code.FailedPrecondition, Reason.BANK_DECLINED, message, {
    bank_transfer_id: bankTransferId,
    bank_code: bankCode,
    code,
  });

export const bankTransferNotFound = (bankTransferId: bigint | string) =>
  refusal(Code.NotFound, Reason.BANK_TRANSFER_NOT_FOUND, "no such bank transfer", {
    bank_transfer_id: bankTransferId,
  });

export const identityRequired = () =>
  refusal(Code.FailedPrecondition, Reason.IDENTITY_REQUIRED, "nobody has proved yet whose account this is");

/** Tells what may still be done: only ever about the caller's own account. */
export const drawLimitExceeded = (limit: bigint, left: bigint) =>
  refusal(Code.FailedPrecondition, Reason.DRAW_LIMIT_EXCEEDED, "more than may be drawn from banks in a day", {
    limit,
    left,
  });

export const sendLimitExceeded = (which: "transfer" | "day" | "strangers", limit: bigint, left: bigint) =>
  refusal(Code.FailedPrecondition, Reason.SEND_LIMIT_EXCEEDED, SEND_LIMITS[which], { which, limit, left });

const SEND_LIMITS = {
  transfer: "more than may be sent at once",
  day: "more than may be sent in a day",
  strangers: "more than may be sent in a day to people who were never sent anything before",
};

/** Says nothing of what the wallet holds: it may be somebody else's. */
export const balanceLimitExceeded = (walletId: bigint) =>
  refusal(Code.FailedPrecondition, Reason.BALANCE_LIMIT_EXCEEDED, "the wallet may not hold so much", {
    wallet_id: walletId,
  });

export const tooMany = (what: string, max: number) =>
  refusal(Code.FailedPrecondition, Reason.TOO_MANY, `there are ${max} ${what} already`, { max });

export const tierUnknown = (tier: string) =>
  refusal(Code.InvalidArgument, Reason.TIER_UNKNOWN, "there are no limits of this name", { tier });

// Holds

export const holdNotFound = (holdId: bigint) =>
  refusal(Code.NotFound, Reason.HOLD_NOT_FOUND, "no such hold", { hold_id: holdId });

export const holdEnded = (holdId: bigint) =>
  refusal(Code.FailedPrecondition, Reason.HOLD_ENDED, "the hold has ended, or holds less", { hold_id: holdId });

// The server

export const overloaded = (retryAfterMs: number) =>
  refusal(
    Code.ResourceExhausted,
    Reason.OVERLOADED,
    "the server has all the work it takes; try again shortly",
    {},
    retryAfterMs,
  );

export const dependencyUnavailable = (name: string, retryAfterMs = 1_000) =>
  refusal(
    Code.Unavailable,
    Reason.DEPENDENCY_UNAVAILABLE,
    `${name} does not answer; try again with the same idempotency key`,
    { dependency: name },
    retryAfterMs,
  );

export const shuttingDown = () =>
  refusal(
    Code.Unavailable,
    Reason.SHUTTING_DOWN,
    "the server is stopping; try again with the same idempotency key",
    {},
    0,
  );

export const deadlineExceeded = () =>
  refusal(
    Code.DeadlineExceeded,
    Reason.DEADLINE_EXCEEDED,
    "the time allowed is over; a retry with the same idempotency key finds the outcome",
  );

export const internal = (errorId: string) =>
  refusal(Code.Internal, Reason.INTERNAL, "something went wrong; the error id finds it in the log", {
    error_id: errorId,
  });
