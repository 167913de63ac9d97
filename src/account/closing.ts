import { Account_State, ClosingObstacle_Kind } from "../../gen/chatpay/account/v1/account_pb.ts";
import { BankAccount_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { App } from "../app.ts";
import {
  type AccountRow,
  type AllowanceRow,
  type BankAccountRow,
  type GiftRow,
  HOUSE,
  type WalletRow,
} from "../db/schema.ts";
import { accountNotFound } from "../errors.ts";
import type { AccountChange, Books } from "../ledger/books.ts";
import type { Command } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { tellRevoked } from "../revocations.ts";
import type { Waiting, WaitingGifts } from "../transfer/waiting.ts";
import type { Recipient } from "./messenger.ts";
import { deleteCleanup, eraseSessions, listBankAccountIds, listWalletIds } from "./queries.ts";
import type { openSessions } from "./sessions.ts";

/** One thing to settle before the account closes. */
export interface Obstacle {
  kind: ClosingObstacle_Kind;
  walletId: bigint;
  /** 0 where it is not about money. */
  amount: bigint;
  /** The gift that waits, where it is one. */
  transferId?: bigint;
}

/** What there is of an account that wants to close. */
interface Leaving {
  account: AccountRow;
  /** Without the money of gifts that wait. */
  wallets: WalletRow[];
  /** What is counted of them. */
  allowances: AllowanceRow[];
  /** Those that wait and stay with the account. */
  gifts: GiftRow[];
}

type Rule = (leaving: Leaving) => Obstacle[];

const withMoney: Rule = ({ wallets }) =>
  wallets
    .filter(({ balance }) => balance !== 0n)
    .map(({ id: walletId, balance: amount }) => ({ kind: ClosingObstacle_Kind.BALANCE, walletId, amount }));

const withHolds: Rule = ({ wallets }) =>
  wallets
    .filter(({ held }) => held !== 0n)
    .map(({ id: walletId, held: amount }) => ({ kind: ClosingObstacle_Kind.HOLD, walletId, amount }));

const frozen: Rule = ({ wallets }) =>
  wallets
    .filter(({ state }) => state === Wallet_State.FROZEN)
    .map(({ id: walletId }) => ({ kind: ClosingObstacle_Kind.FROZEN, walletId, amount: 0n }));

const withBankTransfers: Rule = ({ allowances }) =>
  allowances
    .filter(({ bankTransfers }) => bankTransfers > 0)
    .map(({ id: walletId }) => ({ kind: ClosingObstacle_Kind.BANK_TRANSFER, walletId, amount: 0n }));

const withGifts: Rule = ({ account, gifts }) =>
  gifts.map(({ id: transferId, amount }) => ({
    kind: ClosingObstacle_Kind.PENDING_TRANSFER,
    walletId: account.mainWalletId,
    amount,
    transferId,
  }));

/** All that may stand in the way. What else can be open of an account is another rule, on rows that the command locks. */
const RULES: Rule[] = [withMoney, withHolds, frozen, withBankTransfers, withGifts];

/** What must not outlive the account. Its identity stays: whoever comes back is the same person. */
const ERASED: AccountChange = {
  email: "",
  emailKey: null,
  phone: "",
  phoneKey: null,
  passwordHash: "",
  displayName: "",
  identityKey: null,
  pinHash: "",
  pinTries: 0,
};

/** The account as it is now, and whom to tell; or all that stands in the way. */
export type Closing = { account: AccountRow; owner: Recipient } | { obstacles: Obstacle[] };

/**
 * Between reading what an account has and locking it, a wallet was opened, a bank account linked or unlinked, or a gift
 * given, or its time was over.
 */
class RowsMissed extends Error {}

/** What an account has, as it was read. */
export interface Belongings {
  walletIds: bigint[];
  /** Those that are linked. */
  bankAccountIds: bigint[];
  gifts: Waiting;
}

/** How an account closes. */
export interface Leave {
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint | undefined;
  /** What hands gifts of the account over to the house; without it they stand in the way. */
  handOver?: WaitingGifts["handOver"] | undefined;
}

/**
 * The account and all its wallets close, its bank accounts are linked no more, its gifts are handed over, and what says
 * who it was is erased: all of it at once, or nothing.
 */
export const closeAccount = (
  accountId: bigint,
  { walletIds, bankAccountIds, gifts }: Belongings,
  { keyId, handOver }: Leave = {},
): Command<Closing> => ({
  touches: {
    account: [accountId],
    wallet: handOver && gifts.sent.length > 0 ? [...walletIds, HOUSE] : walletIds,
    hold: handOver ? gifts.sent.map(({ holdId }) => holdId) : [],
    allowance: walletIds,
    bankAccount: bankAccountIds,
    gift: [...gifts.sent, ...gifts.received].map(({ id }) => id),
  },
  decide(books) {
    const account = books.account(accountId);
    if (account.state !== Account_State.OPEN) throw accountNotFound(accountId);
    if (account.walletCount !== walletIds.length) throw new RowsMissed();
    const links = bankAccountIds.map((id) => books.find("bankAccount", id)).filter(isLinked);
    if (account.bankAccountCount !== links.length) throw new RowsMissed();
    const wallets = walletIds.map((id) => books.wallet(id));
    const allowances = walletIds.map((id) => books.find("allowance", id)).filter((row) => row !== undefined);
    const { sent, received } = lockedGifts(books, gifts, allowances);
    const obstacles = RULES.flatMap((rule) =>
      rule({
        account,
        wallets: wallets.map((wallet) => withoutGifts(wallet, sent)),
        allowances,
        gifts: handOver ? received : [...sent, ...received],
      }),
    );
    if (obstacles.length > 0) return { obstacles };

    for (const gift of sent) handOver?.(books, gift, { keyId });
    const { email, phone, language, mainWalletId } = account;
    for (const { id, state } of wallets) if (state !== Wallet_State.CLOSED) books.setState(id, Wallet_State.CLOSED);
    for (const link of links) endLink(books, link, keyId);
    books.tell("account.closed", [accountId], {
      accountId,
      mainWalletId,
      ...(keyId !== undefined && { apiKeyId: keyId }),
    });
    // In the same commit, so that it is found if this process dies before it has cleaned up.
    const dueTime = new Date(books.now.getTime() + CLEANUP_MS);
    books.insert("accountCleanup", { id: accountId, dueTime, leaseOwner: "", leaseUntil: null, tries: 0 });
    const closed = books.updateAccount(accountId, { ...ERASED, state: Account_State.CLOSED });
    return { account: closed, owner: { email, phone, language } };
  },
});

/** The gifts that wait, with none missing. */
function lockedGifts(books: Books, gifts: Waiting, allowances: AllowanceRow[]) {
  const waiting = (read: { id: bigint }[]) =>
    read.map(({ id }) => books.find("gift", id)).filter((row) => row?.state === Transfer_State.PENDING) as GiftRow[];
  const sent = waiting(gifts.sent);
  const received = waiting(gifts.received);
  const counted = (of: "giftsSent" | "giftsReceived") => allowances.reduce((sum, row) => sum + row[of], 0);
  const isAll = sent.length === counted("giftsSent") && (gifts.more || received.length === counted("giftsReceived"));
  const isLate = [...sent, ...received].some(({ expireTime }) => expireTime <= books.now);
  if (!isAll || isLate) throw new RowsMissed();
  return { sent, received };
}

function withoutGifts(wallet: WalletRow, sent: GiftRow[]): WalletRow {
  const own = sent.filter(({ senderWalletId }) => senderWalletId === wallet.id);
  const amount = own.reduce((sum, gift) => sum + gift.amount, 0n);
  return { ...wallet, balance: wallet.balance - amount, held: wallet.held - amount };
}

const isLinked = (row: BankAccountRow | undefined): row is BankAccountRow => row?.state === BankAccount_State.LINKED;

/** Tells that a locked bank account was linked, unless that was told before. */
export function tellLink(books: Books, { id, accountId, apiKeyId, tellDueTime }: BankAccountRow) {
  if (tellDueTime === null) return;
  books.tell("bank.linked", [accountId], { accountId, bankAccountId: id, ...(apiKeyId !== null && { apiKeyId }) });
  books.update("bankAccount", id, { tellDueTime: null });
}

/**
 * Ends the link of a locked bank account, whose owner's account is locked too. What stays is which one it was, as others
 * may see it, for the statement; and what KFTC calls it, which a job tells that the consent has ended.
 */
export function endLink(books: Books, row: BankAccountRow, keyId?: bigint): BankAccountRow {
  const { id, accountId, fintechUseNum } = row;
  tellLink(books, row);
  books.tell("bank.unlinked", [accountId], {
    accountId,
    bankAccountId: id,
    ...(keyId !== undefined && { apiKeyId: keyId }),
  });
  books.updateAccount(accountId, { bankAccountCount: books.account(accountId).bankAccountCount - 1 });
  return books.update("bankAccount", id, {
    state: BankAccount_State.UNLINKED,
    numberSealed: null,
    linkKey: null,
    holderName: "",
    alias: "",
    primaryOf: null,
    automaticTopUp: 0,
    updateTime: books.now,
    unlinkTime: books.now,
    revokeDueTime: fintechUseNum === "" ? null : books.now,
  });
}

/** Whoever closes an account cleans up at once; a job does what was not done by then. */
const CLEANUP_MS = 60_000;

/** Wallets are opened, bank accounts linked, and gifts given, by hand, not hundreds a second. */
const TRIES_MAX = 5;

/** Whose account closes. */
interface Leaver {
  accountId: bigint;
  /** The account's main wallet. */
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

/** What becomes of gifts that wait. */
interface Wishes {
  handOverGifts: boolean;
  returnReceipts: boolean;
}

/** Whether an obstacle is a gift that waits for whoever leaves. */
const isReceiptOf = ({ received }: Waiting) => {
  const ids = new Set(received.map(({ id }) => id));
  return ({ transferId }: Obstacle) => transferId !== undefined && ids.has(transferId);
};

/** Closes accounts, and sees to what the books do not know. */
export function openClosing(app: App, sessions: Pick<ReturnType<typeof openSessions>, "endAll">) {
  const { db, lane, log, messenger, gifts } = app;

  async function decide({ accountId, walletId, keyId }: Leaver, wishes: Wishes, call: Call): Promise<Closing> {
    const handOver = wishes.handOverGifts ? gifts.handOver : undefined;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await gifts.endLate(walletId);
        const belongings = {
          walletIds: await listWalletIds(db, accountId),
          bankAccountIds: await listBankAccountIds(db, accountId),
          gifts: await gifts.list(walletId),
        };
        const { value } = await lane.submit(closeAccount(accountId, belongings, { keyId, handOver }), call);
        const mayReturn = wishes.returnReceipts && attempt < TRIES_MAX && "obstacles" in value;
        if (!mayReturn || !value.obstacles.every(isReceiptOf(belongings.gifts))) return value;
        await gifts.returnReceipts({ walletId, ...(keyId !== undefined && { keyId }) }, call);
      } catch (error) {
        if (attempt === TRIES_MAX || !(error instanceof RowsMissed)) throw error;
      }
    }
  }

  /** Tells the other processes, ends and erases the sessions, and ends what the account had open. */
  async function cleanUp(accountId: bigint) {
    await tellRevoked(app, accountId);
    await sessions.endAll(accountId);
    await eraseSessions(db, accountId);
    await app.endPending(accountId);
    await deleteCleanup(db, accountId);
  }

  return {
    cleanUp,

    /** Closes the account for good, or says what stands in the way. Throws ACCOUNT_NOT_FOUND when it is closed already. */
    async close(leaver: Leaver, wishes: Wishes, call: Call): Promise<Closing> {
      const { accountId } = leaver;
      const closing = await decide(leaver, wishes, call);
      if ("obstacles" in closing) return closing;
      // The closed account keeps everybody out by itself. Whatever fails from here on leaves nobody in, so the answer
      // is that it is closed.
      await cleanUp(accountId).catch((err: unknown) =>
        log.warn({ err, account: String(accountId) }, "what is left of a closed account is ended later"),
      );
      messenger.tell(closing.owner, { is: "account_closed" });
      return closing;
    },
  };
}
