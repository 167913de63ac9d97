/**
 * Every table on one page: the columns of each, in the order of the migrations, with the type that a
 * row has in code. Kysely's types, the ledger's bulk writes and its reads are all made from this.
 */

/** How a column's values are written in SQL: an integer, text, bytes, or a UTC time in milliseconds. */
export type ColumnType = "bigint" | "number" | "text" | "bytes" | "time";

export interface Column<Value> {
  type: ColumnType;
  nullable: boolean;
  /** Carries the type of the values; never set. */
  value?: Value;
}

const bigint: Column<bigint> = { type: "bigint", nullable: false };
const number: Column<number> = { type: "number", nullable: false };
const text: Column<string> = { type: "text", nullable: false };
const bytes: Column<Buffer> = { type: "bytes", nullable: false };
const time: Column<Date> = { type: "time", nullable: false };
const optional = <Value>({ type }: Column<Value>): Column<Value | null> => ({ type, nullable: true });

export const tables = {
  /** What can hold money. Only the lane writes balance, held, version and sequence. */
  wallet: {
    id: bigint,
    accountId: optional(bigint),
    partnerId: optional(bigint),
    /** Wallet_Kind of the proto. */
    kind: number,
    /** Wallet_State of the proto. */
    state: number,
    currency: text,
    balance: bigint,
    /** The sum of what open holds set aside. */
    held: bigint,
    version: bigint,
    /** The sequence of the wallet's last posting. */
    sequence: bigint,
    createTime: time,
    updateTime: time,
  },
  /** Money set aside in a wallet. It is open while something remains. */
  hold: {
    id: bigint,
    walletId: bigint,
    amount: bigint,
    remaining: bigint,
    /** Entry_Cause of the proto, and the id of what it names. */
    cause: number,
    causeId: bigint,
    createTime: time,
    expireTime: time,
  },
  /** One movement of money: a debit, a credit, an amount. Appended, never changed. */
  posting: {
    id: bigint,
    batchId: bigint,
    debitWalletId: bigint,
    debitSequence: bigint,
    debitBalance: bigint,
    creditWalletId: bigint,
    creditSequence: bigint,
    creditBalance: bigint,
    amount: bigint,
    /** Entry_Cause of the proto, and the id of what it names. */
    cause: number,
    causeId: bigint,
    createTime: time,
  },
  /** One commit of the lane. A row without a number is the tombstone of a commit that never was. */
  ledgerBatch: {
    id: bigint,
    number: optional(bigint),
    /** The position of the last event up to and including this batch. */
    lastPosition: bigint,
    eventCount: number,
    postingCount: number,
    /** The events as a JSON array; compressed with Zstandard when that pays. */
    events: bytes,
    hash: bytes,
    createTime: time,
  },
  /** One row: where the log ends. Locked last in every batch, so positions follow the commits. */
  ledgerHead: {
    id: bigint,
    number: bigint,
    position: bigint,
    hash: bytes,
  },
  transfer: {
    id: bigint,
    senderWalletId: bigint,
    recipientWalletId: bigint,
    amount: bigint,
    currency: text,
    memo: text,
    /** Transfer_State of the proto. */
    state: number,
    idempotencyKey: bytes,
    createTime: time,
  },
  /** An operator's credit (positive) or debit (negative) of a wallet. */
  adjustment: {
    id: bigint,
    walletId: bigint,
    amount: bigint,
    currency: text,
    reason: text,
    apiKeyId: bigint,
    idempotencyKey: bytes,
    createTime: time,
  },
  partner: {
    id: bigint,
    name: text,
    walletId: bigint,
    idempotencyKey: bytes,
    createTime: time,
  },
  payment: {
    id: bigint,
    partnerId: bigint,
    /** The partner's own name for the order. */
    orderKey: text,
    payerAccountId: bigint,
    payerWalletId: bigint,
    amount: bigint,
    currency: text,
    /** The items as JSON. */
    items: text,
    /** Payment_State of the proto. */
    state: number,
    /** Made of the partner and the order key: an order is paid once. */
    idempotencyKey: bytes,
    createTime: time,
  },
  account: {
    id: bigint,
    email: text,
    /** A keyed hash of the address in lower case, so that an address has one open account. */
    emailKey: optional(bytes),
    passwordHash: text,
    displayName: text,
    /** Account_State of the proto. */
    state: number,
    mainWalletId: bigint,
    createTime: time,
    updateTime: time,
    /** As +821012345678; empty when there is none. */
    phone: text,
    /** A keyed hash of the number, so that it has one open account. */
    phoneKey: optional(bytes),
    /** Of messages: `ko` or `en`. */
    language: text,
    /** It stays when the account is closed. */
    identityId: optional(bigint),
    /** Empty when there is none; so is the password's. */
    pinHash: text,
    /** How often in a row the PIN was wrong. */
    pinTries: number,
    /** The identity's key while the account is open, so that a person has one open account. */
    identityKey: optional(bytes),
    /** So that closing knows that it has all of them. */
    walletCount: number,
  },
  /** A person in the flesh. It outlives their accounts, one of which is open at most. */
  identity: {
    id: bigint,
    /** A keyed hash of the connecting information. */
    identityKey: bytes,
    /** As 1990-12-31. */
    birthDate: text,
    createTime: time,
  },
  /** A signed-in device: one family of refresh tokens. */
  session: {
    id: bigint,
    accountId: bigint,
    createTime: time,
    revokeTime: optional(time),
    /** What the person or the client called the device. */
    device: text,
    /** Of the last sign-in or refresh. */
    ip: text,
    lastUseTime: time,
  },
  refreshToken: {
    /** SHA-256 of the token. */
    tokenHash: bytes,
    sessionId: bigint,
    createTime: time,
    expireTime: time,
    /** When it was exchanged for the next. */
    useTime: optional(time),
  },
  apiKey: {
    id: bigint,
    /** CallerKind of the proto. */
    kind: number,
    partnerId: optional(bigint),
    name: text,
    /** SHA-256 of the key. */
    keyHash: bytes,
    /** What a person sees of it: the last four characters. */
    ending: text,
    createTime: time,
    expireTime: optional(time),
    revokeTime: optional(time),
    lastUseTime: optional(time),
    /** Scope of the proto, comma separated; empty for all that the kind may do. */
    scopes: text,
  },
  /** One call that changed something or was refused. Appended, never changed. */
  auditRecord: {
    id: bigint,
    createTime: time,
    rpc: text,
    /** Code of Connect; 0 for success. */
    code: number,
    /** Reason of the proto; 0 for success. */
    reason: number,
    /** CallerKind of the proto. */
    caller: number,
    accountId: optional(bigint),
    partnerId: optional(bigint),
    keyId: optional(bigint),
    sessionId: optional(bigint),
    objectId: optional(bigint),
    ip: text,
    requestId: text,
  },
  /** The numbers that keep ids of different processes apart; see id.ts. */
  processSlot: {
    slot: number,
    owner: text,
    /** Milliseconds since 1970: the lease ends then, and no id of the slot is later. */
    leaseUntil: bigint,
  },
} satisfies Record<string, Record<string, Column<unknown>>>;

type Tables = typeof tables;
export type TableName = keyof Tables;

type ValueOf<C> = C extends Column<infer Value> ? Value : never;

/** A row of a table, as code sees it. */
export type Row<T extends TableName> = { [C in keyof Tables[T]]: ValueOf<Tables[T][C]> };

/** The database as Kysely types it. */
export type Database = { [T in TableName]: Row<T> };

export type WalletRow = Row<"wallet">;
export type HoldRow = Row<"hold">;
export type PostingRow = Row<"posting">;
export type TransferRow = Row<"transfer">;
export type AdjustmentRow = Row<"adjustment">;
export type PartnerRow = Row<"partner">;
export type PaymentRow = Row<"payment">;
export type AccountRow = Row<"account">;
export type IdentityRow = Row<"identity">;
export type AuditRow = Row<"auditRecord">;
export type SessionRow = Row<"session">;
export type ApiKeyRow = Row<"apiKey">;

/** The wallet on the other side of money that came from or went to a bank. */
export const BANK_CLEARING = 1n;
