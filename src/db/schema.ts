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
    /** Those that are linked; closing goes by it too. */
    bankAccountCount: number,
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
  /** A job that is due once in a period; see job/periodic.ts. */
  job: {
    name: text,
    dueTime: time,
    /** Who runs it, until when; see db/leases.ts. */
    leaseOwner: text,
    leaseUntil: optional(time),
    /** Since it last succeeded. */
    tries: number,
    runs: bigint,
    lastRunTime: optional(time),
  },
  /** A closed account whose sessions are yet to be ended and erased. */
  accountCleanup: {
    /** The account's. */
    id: bigint,
    dueTime: time,
    leaseOwner: text,
    leaseUntil: optional(time),
    tries: number,
  },
  /** What a main wallet may do in a day, and what it has done of it. A wallet without a row has done nothing yet. */
  allowance: {
    /** The wallet's. */
    id: bigint,
    /** The name of its limits in the configuration; empty for the first of them. */
    tier: text,
    /** The day in Seoul that is counted, as 20261231. What was counted of another day is over. */
    day: number,
    /** Drawn from banks, whatever may yet become of it. */
    drawn: bigint,
    sent: bigint,
    sentToStrangers: bigint,
    /** Transfers from and to banks that have not ended. */
    bankTransfers: number,
    updateTime: time,
    /** Requests for money that are open. */
    requests: number,
    /** Transfers that are scheduled. */
    scheduled: number,
    /** Gifts of the wallet that wait, and those that wait for it. */
    giftsSent: number,
    giftsReceived: number,
    /** The sum of the top-ups that have not ended. */
    incoming: bigint,
  },
  /** What is known of a savings wallet besides its money. */
  savings: {
    walletId: bigint,
    accountId: bigint,
    name: text,
    idempotencyKey: bytes,
    createTime: time,
  },
  /** Money put into savings (positive) or taken out (negative). */
  savingsMove: {
    id: bigint,
    accountId: bigint,
    mainWalletId: bigint,
    savingsWalletId: bigint,
    amount: bigint,
    currency: text,
    idempotencyKey: bytes,
    createTime: time,
  },
  /** An account at a bank that a person has linked. */
  bankAccount: {
    id: bigint,
    accountId: bigint,
    /** BankAccount_State of the proto. */
    state: number,
    /** Three digits. */
    bankCode: text,
    bankName: text,
    /** As the bank shows it to others: 110-123-*** */
    maskedNumber: text,
    /** The whole number, encrypted; none where the bank does not tell it. */
    numberSealed: optional(bytes),
    /** A keyed hash of bank and number while it is linked, so that it is linked once. */
    linkKey: optional(bytes),
    /** What KFTC calls the account to us; empty when it was linked by its number. */
    fintechUseNum: text,
    holderName: text,
    alias: text,
    /** The account whose primary one it is; none when it is not. */
    primaryOf: optional(bigint),
    /** 1 when its owner has agreed at KFTC that it may be looked at; and drawn from. */
    canInquire: number,
    canDraw: number,
    /** 1 when its owner wants what is missing to be drawn from it. */
    automaticTopUp: number,
    /** Such draws are rounded up to this many won. */
    topUpUnit: bigint,
    createTime: time,
    updateTime: time,
    unlinkTime: optional(time),
    /** When KFTC is told that it is not linked any more; none when there is nothing to tell. */
    revokeDueTime: optional(time),
    /** How often it was tried to tell. */
    revokeTries: number,
    leaseOwner: text,
    leaseUntil: optional(time),
    /** The API key of the chat server that linked it, if one did. */
    apiKeyId: optional(bigint),
    /** When the log is told that it was linked, if that is not done; none when it is. */
    tellDueTime: optional(time),
  },
  /** A consent that somebody went to KFTC for. */
  bankConsent: {
    /** SHA-256 of the state that they bring back. */
    stateHash: bytes,
    accountId: bigint,
    /** The session or API key that asked. Nobody else may come back. */
    holderId: bigint,
    createTime: time,
    expireTime: time,
    useTime: optional(time),
  },
  /** What a person lets us do at KFTC. */
  bankGrant: {
    accountId: bigint,
    userSeqNo: text,
    /** Both encrypted. */
    accessToken: bytes,
    refreshToken: bytes,
    /** Separated by spaces. */
    scope: text,
    expireTime: time,
    version: bigint,
    updateTime: time,
  },
  /** What KFTC lets us do without a person. */
  bankInstitutionToken: {
    scope: text,
    /** Encrypted. */
    accessToken: bytes,
    expireTime: time,
    version: bigint,
    updateTime: time,
  },
  /** Each bank_tran_id that was used on a day in Seoul. */
  bankTranClaim: {
    /** As 20261231. */
    day: number,
    tranId: text,
    createTime: time,
  },
  /** Money that comes from a bank or goes to one: an attempt, until the bank has said what became of it. */
  bankTransfer: {
    id: bigint,
    /** BankTransfer_Kind of the proto. */
    kind: number,
    accountId: bigint,
    walletId: bigint,
    bankAccountId: bigint,
    amount: bigint,
    currency: text,
    /** BankTransfer_State of the proto. */
    state: number,
    /** What is set aside for it: the money that goes out, or what the wallet has of a debit that draws the rest. */
    holdId: optional(bigint),
    /** The day in Seoul whose limit it counts against, as 20261231; 0 for none. */
    day: number,
    tranId: text,
    /** The day in Seoul on which the bank was asked, as 20261231. */
    tranDate: text,
    /** What KFTC calls it; empty until it has succeeded. */
    bankRef: text,
    /** Why it failed: the bank that said so (empty when it was KFTC), its code, and its words. */
    failureBank: text,
    failureCode: text,
    failureMessage: text,
    /** The API key of the chat server that acted, if one did. */
    apiKeyId: optional(bigint),
    idempotencyKey: bytes,
    /** Of the debit that waits for it, until it has ended: so that a debit has one draw under way. */
    drawKey: optional(bytes),
    createTime: time,
    updateTime: time,
    /** When the bank is asked next what became of it; none when that is known. */
    dueTime: optional(time),
    inquiries: number,
    leaseOwner: text,
    leaseUntil: optional(time),
  },
  /** Money that somebody asked others for. */
  moneyRequest: {
    id: bigint,
    requesterAccountId: bigint,
    requesterWalletId: bigint,
    /** What all parts make together. */
    amount: bigint,
    /** Of a bill, what the requester takes; 0 for nothing. */
    ownAmount: bigint,
    currency: text,
    memo: text,
    /** MoneyRequest_State of the proto. */
    state: number,
    parts: number,
    /** Of the parts, those that can be paid and those that were. */
    openParts: number,
    paidParts: number,
    paidAmount: bigint,
    /** Of all that was asked: a repeat has the same. */
    contentHash: bytes,
    /** The API key of the chat server that acted, if one did. */
    apiKeyId: optional(bigint),
    idempotencyKey: bytes,
    createTime: time,
    updateTime: time,
    expireTime: time,
    /** When it expires; none when it has ended. */
    dueTime: optional(time),
    tries: number,
    leaseOwner: text,
    leaseUntil: optional(time),
  },
  /** What one person is asked for. */
  moneyRequestPart: {
    id: bigint,
    requestId: bigint,
    payerAccountId: bigint,
    payerWalletId: bigint,
    amount: bigint,
    /** MoneyRequest_Part_State of the proto. */
    state: number,
    /** The transfer that paid it. */
    transferId: optional(bigint),
    remindTime: optional(time),
    updateTime: time,
  },
  /** Money that is sent at a time to come. */
  scheduledTransfer: {
    id: bigint,
    accountId: bigint,
    senderWalletId: bigint,
    recipientWalletId: bigint,
    amount: bigint,
    currency: text,
    memo: text,
    /** ScheduledTransfer_State of the proto. */
    state: number,
    transferTime: time,
    /** The transfer that was made. */
    transferId: optional(bigint),
    /** Reason of the proto, and the words; 0 and empty unless it failed. */
    failureReason: number,
    failureMessage: text,
    /** The API key of the chat server that acted, if one did. */
    apiKeyId: optional(bigint),
    idempotencyKey: bytes,
    createTime: time,
    updateTime: time,
    /** When it is sent, or tried again; none when it has ended. */
    dueTime: optional(time),
    tries: number,
    leaseOwner: text,
    leaseUntil: optional(time),
  },
  /** A transfer that its recipient accepts in the chat. */
  gift: {
    id: bigint,
    senderAccountId: bigint,
    senderWalletId: bigint,
    recipientAccountId: bigint,
    recipientWalletId: bigint,
    amount: bigint,
    currency: text,
    memo: text,
    /** Transfer_State of the proto. One that is pending after its time has expired, though nobody has written it down. */
    state: number,
    /** Sets the money aside in the sender's wallet. */
    holdId: bigint,
    /** The day in Seoul whose limit it counts against, as 20261231; 0 for none. */
    day: number,
    /** 1 when it counts as sent to a stranger. */
    toStranger: number,
    /** The API key of the chat server that acted for the sender, if one did. */
    apiKeyId: optional(bigint),
    idempotencyKey: bytes,
    createTime: time,
    expireTime: time,
    /** When those whom it concerns are reminded; none when they were, or when it has ended. */
    remindTime: optional(time),
    /** When its sender left, and the house took the money over. */
    handOverTime: optional(time),
    endTime: optional(time),
    /** The API key of the chat server that ended it for somebody, if one did. */
    endApiKeyId: optional(bigint),
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
export type JobRow = Row<"job">;
export type AccountCleanupRow = Row<"accountCleanup">;
export type AllowanceRow = Row<"allowance">;
export type SavingsMoveRow = Row<"savingsMove">;
export type BankAccountRow = Row<"bankAccount">;
export type BankGrantRow = Row<"bankGrant">;
export type BankTransferRow = Row<"bankTransfer">;
export type MoneyRequestRow = Row<"moneyRequest">;
export type MoneyRequestPartRow = Row<"moneyRequestPart">;
export type ScheduledTransferRow = Row<"scheduledTransfer">;
export type GiftRow = Row<"gift">;

/** The wallet on the other side of money that came from or went to a bank. */
export const BANK_CLEARING = 1n;
/** The wallet of the house's own money. */
export const HOUSE = 2n;
