import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import { Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { AccountRow, HoldRow, PostingRow, Row, TableName, WalletRow } from "../db/schema.ts";
import {
  accountNotFound,
  balanceOverflow,
  currencyMismatch,
  holdEnded,
  holdNotFound,
  insufficientFunds,
  sameWallet,
  walletClosed,
  walletFrozen,
  walletNotFound,
} from "../errors.ts";
import type { NewId } from "../id.ts";
import type { Change } from "./queries.ts";

/** The tables whose rows a command may lock, in the order in which every batch locks them. */
export const LOCK_ORDER = [
  "account",
  "wallet",
  "hold",
  "allowance",
  "bankAccount",
  "bankTransfer",
  "moneyRequest",
  "moneyRequestPart",
  "scheduledTransfer",
  "gift",
] as const satisfies TableName[];
export type LockedTable = (typeof LOCK_ORDER)[number];

/** Those of which the books know no rules: their domains read and change whole rows. */
export type DomainTable = Exclude<LockedTable, "account" | "wallet" | "hold">;

/** The unique keys that make a row exist once: the table and the column. */
export const ONCE = {
  transfer: ["transfer", "idempotencyKey"],
  adjustment: ["adjustment", "idempotencyKey"],
  partner: ["partner", "idempotencyKey"],
  payment: ["payment", "idempotencyKey"],
  accountEmail: ["account", "emailKey"],
  accountPhone: ["account", "phoneKey"],
  accountIdentity: ["account", "identityKey"],
  savings: ["savings", "idempotencyKey"],
  savingsMove: ["savingsMove", "idempotencyKey"],
  bankTransfer: ["bankTransfer", "idempotencyKey"],
  bankDraw: ["bankTransfer", "drawKey"],
  moneyRequest: ["moneyRequest", "idempotencyKey"],
  scheduledTransfer: ["scheduledTransfer", "idempotencyKey"],
  gift: ["gift", "idempotencyKey"],
} as const satisfies Record<string, [TableName, string]>;
export type OnceIndex = keyof typeof ONCE;
export type OnceTable = (typeof ONCE)[OnceIndex][0];

/** The tables that commands fill; wallets are opened, postings and the log are written by moving and telling. */
export type InsertTable = Exclude<TableName, "wallet" | "posting" | "ledgerBatch" | "ledgerHead">;

/** What moved the money: an Entry_Cause of the proto and the id of what it names. */
export interface Because {
  cause: number;
  id: bigint;
}

/** What of an account may change; its wallets are counted by opening them. */
export type AccountChange = Omit<Change<"account">, "walletCount">;

/** What an event may carry besides its kind: ids and amounts, texts, small numbers, lists of ids. */
export type EventFields = Record<string, bigint | string | number | bigint[]>;

/** The rows of one batch in memory, as `decide` sees and changes them. */
export interface Books {
  /** The time of the batch. Never before the last change of a wallet in it. */
  readonly now: Date;
  newId: NewId;
  /** A locked row. Throws WALLET_NOT_FOUND when there is none. */
  wallet(id: bigint): WalletRow;
  /** A locked row. Throws HOLD_NOT_FOUND when there is none. */
  holdRow(id: bigint): HoldRow;
  /** A locked row. Throws ACCOUNT_NOT_FOUND when there is none. */
  account(id: bigint): AccountRow;
  /** Changes a locked account. */
  updateAccount(id: bigint, change: AccountChange): AccountRow;
  /** A locked row of a domain, or none. */
  find<T extends DomainTable>(table: T, id: bigint): Row<T> | undefined;
  /** Changes a locked row of a domain. */
  update<T extends DomainTable>(table: T, id: bigint, change: Change<T>): Row<T>;
  /** Money from one wallet to another. A frozen wallet pays only when an operator acts. */
  move(order: { from: bigint; to: bigint; amount: bigint; because: Because; byOperator?: boolean }): PostingRow;
  /** Sets money of a wallet aside. */
  hold(order: { wallet: bigint; amount: bigint; because: Because; expireTime: Date }): HoldRow;
  /** Pays what a hold set aside, all or part. A frozen wallet pays only when an operator acts, or when the money has left already. */
  capture(order: { hold: bigint; to: bigint; amount?: bigint; because: Because; byOperator?: boolean }): PostingRow;
  /** Gives back what a hold still sets aside. */
  release(order: { hold: bigint }): HoldRow;
  /**
   * A new wallet: open, and empty. It belongs to an account or a partner, or else to the house. The account is locked,
   * or made by the same command, so that none is opened while it closes.
   */
  openWallet(wallet: Pick<WalletRow, "id" | "kind"> & { accountId?: bigint; partnerId?: bigint }): WalletRow;
  /** A new row. */
  insert<T extends InsertTable>(table: T, row: Row<T>): Row<T>;
  /** Freezes, opens or closes a wallet. Closed is for good, and only an empty wallet may be. */
  setState(walletId: bigint, state: Wallet_State): WalletRow;
  /** An event for the accounts that it concerns. */
  tell(kind: string, accounts: (bigint | null)[], fields: EventFields): void;
}

/** What a batch writes. */
export interface Writes {
  inserted: Map<TableName, Row<TableName>[]>;
  changed: Map<LockedTable, Set<Row<LockedTable>>>;
  postings: PostingRow[];
  /** Each event as JSON. */
  events: string[];
}

/** Of every wallet, until there are others. */
const CURRENCY = "KRW";
const BALANCE_MAX = 2n ** 63n - 1n;

const isLocked = (table: TableName): table is LockedTable => (LOCK_ORDER as readonly string[]).includes(table);

/** Whether the wallet is the house's. */
export const isSystem = (wallet: Pick<WalletRow, "kind">) => wallet.kind >= Wallet_Kind.BANK_CLEARING;

export type Locked = { [T in LockedTable]: Map<bigint, Row<T>> };

/**
 * The books over the locked rows, with what they have written so far. `undo` takes back all since the
 * last `keep`, so a command that is refused halfway leaves nothing.
 */
export function openBooks(batchId: bigint, now: Date, newId: NewId, locked: Locked) {
  const writes: Writes = { inserted: new Map(), changed: new Map(), postings: [], events: [] };
  const fresh = new Set<unknown>();
  let undos: (() => void)[] = [];

  function rememberBefore<T extends LockedTable>(table: T, row: Row<T>) {
    const before = { ...row };
    undos.push(() => Object.assign(row, before));
    if (fresh.has(row)) return;
    const changed = entry(writes.changed, table, () => new Set());
    if (changed.has(row)) return;
    changed.add(row);
    undos.push(() => changed.delete(row));
  }

  function touchWallet(row: WalletRow) {
    rememberBefore("wallet", row);
    row.version += 1n;
    row.updateTime = now;
  }

  const find = <T extends LockedTable>(table: T, id: bigint) => (locked[table] as Map<bigint, Row<T>>).get(id);

  function wallet(id: bigint): WalletRow {
    const row = find("wallet", id);
    if (!row) throw walletNotFound(id);
    return row;
  }

  function holdRow(id: bigint): HoldRow {
    const row = find("hold", id);
    if (!row) throw holdNotFound(id);
    return row;
  }

  function account(id: bigint): AccountRow {
    const row = find("account", id);
    if (!row) throw accountNotFound(id);
    return row;
  }

  function mayPay(from: WalletRow, byOperator: boolean) {
    if (from.state === Wallet_State.CLOSED) throw walletClosed(from.id);
    if (from.state === Wallet_State.FROZEN && !byOperator) throw walletFrozen(from.id);
  }

  function isCovered(from: WalletRow, amount: bigint) {
    const available = from.balance - from.held;
    if (isSystem(from)) {
      if (from.balance - amount < -BALANCE_MAX) throw balanceOverflow(from.id);
    } else if (available < amount) throw insufficientFunds(from.id, available, amount);
  }

  function mayReceive(to: WalletRow, from: WalletRow, amount: bigint) {
    if (to.id === from.id) throw sameWallet(to.id);
    if (to.state === Wallet_State.CLOSED) throw walletClosed(to.id);
    if (to.currency !== from.currency) throw currencyMismatch(from.currency, to.currency);
    if (to.balance > BALANCE_MAX - amount) throw balanceOverflow(to.id);
  }

  function post(from: WalletRow, to: WalletRow, amount: bigint, because: Because): PostingRow {
    touchWallet(from);
    touchWallet(to);
    from.balance -= amount;
    from.sequence += 1n;
    to.balance += amount;
    to.sequence += 1n;
    const posting = {
      id: newId(),
      batchId,
      debitWalletId: from.id,
      debitSequence: from.sequence,
      debitBalance: from.balance,
      creditWalletId: to.id,
      creditSequence: to.sequence,
      creditBalance: to.balance,
      amount,
      cause: because.cause,
      causeId: because.id,
      createTime: now,
    };
    writes.postings.push(posting);
    undos.push(() => writes.postings.pop());
    return posting;
  }

  function insert<T extends TableName>(table: T, row: Row<T>): Row<T> {
    const rows = entry(writes.inserted, table, () => []);
    rows.push(row);
    undos.push(() => rows.pop());
    if (table !== "wallet" && isLocked(table)) {
      // Later in the batch, it can be changed like a locked one.
      const made = row as Row<LockedTable>;
      const known = locked[table] as Map<bigint, typeof made>;
      known.set(made.id, made);
      fresh.add(made);
      undos.push(() => known.delete(made.id));
    }
    return row;
  }

  const books: Books = {
    now,
    newId,
    wallet,
    holdRow,
    account,

    updateAccount(id, change) {
      const row = account(id);
      rememberBefore("account", row);
      return Object.assign(row, change, { updateTime: now });
    },

    find,

    update(table, id, change) {
      const row = find(table, id);
      if (!row) throw new Error(`${table} ${id} is not locked`);
      rememberBefore(table, row);
      return Object.assign(row, change);
    },

    move({ from, to, amount, because, byOperator = false }) {
      positive(amount);
      const payer = wallet(from);
      const receiver = wallet(to);
      mayPay(payer, byOperator);
      mayReceive(receiver, payer, amount);
      isCovered(payer, amount);
      return post(payer, receiver, amount, because);
    },

    hold({ wallet: id, amount, because, expireTime }) {
      positive(amount);
      const payer = wallet(id);
      if (isSystem(payer)) throw new Error("a system wallet holds nothing back");
      mayPay(payer, false);
      isCovered(payer, amount);
      touchWallet(payer);
      payer.held += amount;
      return insert("hold", {
        id: newId(),
        walletId: id,
        amount,
        remaining: amount,
        cause: because.cause,
        causeId: because.id,
        createTime: now,
        expireTime,
      });
    },

    capture({ hold: id, to, amount, because, byOperator = false }) {
      const held = holdRow(id);
      const captured = amount ?? held.remaining;
      if (held.remaining === 0n || captured > held.remaining) throw holdEnded(id);
      positive(captured);
      const payer = wallet(held.walletId);
      const receiver = wallet(to);
      mayPay(payer, byOperator);
      mayReceive(receiver, payer, captured);
      rememberBefore("hold", held);
      held.remaining -= captured;
      touchWallet(payer);
      payer.held -= captured;
      return post(payer, receiver, captured, because);
    },

    release({ hold: id }) {
      const held = holdRow(id);
      if (held.remaining === 0n) throw holdEnded(id);
      const payer = wallet(held.walletId);
      rememberBefore("hold", held);
      touchWallet(payer);
      payer.held -= held.remaining;
      held.remaining = 0n;
      return held;
    },

    openWallet({ id, kind, accountId = null, partnerId = null }) {
      if (accountId !== null) {
        const owner = account(accountId);
        if (owner.state !== Account_State.OPEN) throw accountNotFound(accountId);
        rememberBefore("account", owner);
        owner.walletCount += 1;
      }
      const state = Wallet_State.OPEN;
      const empty = { currency: CURRENCY, balance: 0n, held: 0n, version: 1n, sequence: 0n };
      return insert("wallet", { id, accountId, partnerId, kind, state, ...empty, createTime: now, updateTime: now });
    },

    insert,

    setState(walletId, state) {
      const row = wallet(walletId);
      if (row.state === Wallet_State.CLOSED) throw walletClosed(walletId);
      if (state === Wallet_State.CLOSED && (row.balance !== 0n || row.held !== 0n))
        throw new Error(`wallet ${walletId} is not empty`);
      touchWallet(row);
      row.state = state;
      return row;
    },

    tell(kind, accounts, fields) {
      writes.events.push(eventText(kind, accounts, fields));
      undos.push(() => writes.events.pop());
    },
  };

  return {
    books,
    writes,
    keep() {
      undos = [];
    },
    undo() {
      for (const undo of undos.reverse()) undo();
      undos = [];
    },
  };
}

function positive(amount: bigint) {
  if (amount <= 0n) throw new Error(`${amount} is no amount to move`);
}

/** The value of a key, made when there is none. */
export function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

/** Large integers as decimal strings, as everywhere in the API. */
function eventText(kind: string, accounts: (bigint | null)[], fields: EventFields): string {
  const named = accounts.filter((id) => id !== null).map((id) => `"${id}"`);
  let text = `{"kind":${JSON.stringify(kind)},"accounts":[${named.join(",")}]`;
  for (const [key, value] of Object.entries(fields)) text += `,${JSON.stringify(key)}:${fieldText(value)}`;
  return `${text}}`;
}

function fieldText(value: EventFields[string]): string {
  if (typeof value === "bigint") return `"${value}"`;
  if (Array.isArray(value)) return `[${value.map(fieldText).join(",")}]`;
  return JSON.stringify(value);
}
