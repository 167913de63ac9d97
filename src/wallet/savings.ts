import { randomUUID } from "node:crypto";
import { Entry_Cause, Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { App } from "../app.ts";
import type { Row, SavingsMoveRow, WalletRow } from "../db/schema.ts";
import { accountNotFound, tooMany, walletClosed, walletFrozen, walletNotEmpty, walletNotFound } from "../errors.ts";
import type { Books, EventFields } from "../ledger/books.ts";
import type { Command, Result } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { onceKeyOf, scopeOf } from "../ledger/once.ts";
import {
  countSavings,
  findWallet,
  listWallets,
  type NamedWallet,
  renameSavings,
  type SavingsCount,
} from "./queries.ts";

/** Whose savings they are. */
export interface Saver {
  accountId: bigint;
  /** The account's main wallet. */
  walletId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint;
}

export interface SavingsOrder {
  idempotencyKey: string;
  savingsWalletId: bigint;
  amount: bigint;
}

type SavingsRow = Row<"savings">;

/** Open ones at a time. */
const SAVINGS_MAX = 20;
/** Closed ones included: closing the account locks all of its wallets. */
const SAVINGS_EVER_MAX = 500;

export function openSavings({ db, lane, funding }: Pick<App, "db" | "lane" | "funding">) {
  /** The saver's own savings wallet. Throws WALLET_NOT_FOUND. */
  async function getSavings(saver: Saver, walletId: bigint): Promise<NamedWallet> {
    const wallet = await findWallet(db, { accountId: saver.accountId }, walletId);
    if (wallet?.kind !== Wallet_Kind.SAVINGS) throw walletNotFound(walletId);
    return wallet;
  }

  return {
    /** Throws TOO_MANY, ACCOUNT_NOT_FOUND. */
    async create(
      saver: Saver,
      order: { idempotencyKey: string; name: string },
      call: Call,
    ): Promise<Result<NamedWallet>> {
      const count = await countSavings(db, saver.accountId);
      if (!count) throw accountNotFound(saver.accountId);
      const { value, replayed } = await lane.submit(createSavings(saver, order, count), call);
      return { value: await getSavings(saver, value.walletId), replayed };
    },

    /** Throws WALLET_NOT_FOUND, WALLET_CLOSED. */
    async rename(saver: Saver, walletId: bigint, name: string): Promise<NamedWallet> {
      const wallet = await getSavings(saver, walletId);
      if (wallet.state === Wallet_State.CLOSED) throw walletClosed(walletId);
      await renameSavings(db, walletId, name);
      return { ...wallet, name };
    },

    /** Throws WALLET_NOT_FOUND, WALLET_NOT_EMPTY, WALLET_FROZEN. */
    async close(saver: Saver, walletId: bigint, call: Call): Promise<NamedWallet> {
      await lane.submit(closeSavings(saver, walletId), call);
      return getSavings(saver, walletId);
    },

    /** Throws what `depositSavings` refuses, and what drawing the rest does. */
    deposit(saver: Saver, order: SavingsOrder, call: Call): Promise<Result<SavingsMoveRow>> {
      const debit = { amount: order.amount, key: savingsKeyOf(saver, order), command: depositSavings(saver, order) };
      return funding.submit(saver, debit, call);
    },

    /** What `collect` would answer. */
    async total({ accountId }: Saver): Promise<bigint> {
      const wallets = await listWallets(db, { accountId }, 0n, SAVINGS_EVER_MAX + 1);
      return wallets.reduce((sum, { balance, held }) => sum + balance - held, 0n);
    },

    /** Takes all out of all savings. Answers with what the main wallet has to spend then. */
    async collect(saver: Saver, call: Call): Promise<bigint> {
      const owner = { accountId: saver.accountId };
      for (const { id, kind, balance } of await listWallets(db, owner, 0n, SAVINGS_EVER_MAX + 1)) {
        if (kind !== Wallet_Kind.SAVINGS || balance === 0n) continue;
        const order = { idempotencyKey: randomUUID(), savingsWalletId: id, amount: balance };
        await lane.submit(withdrawSavings(saver, order), call);
      }
      const main = await findWallet(db, owner, saver.walletId);
      return main ? main.balance - main.held : 0n;
    },

    /** Throws what `withdrawSavings` refuses. */
    withdraw: (saver: Saver, order: SavingsOrder, call: Call) => lane.submit(withdrawSavings(saver, order), call),
  };
}

/** Who opens savings twice at once counts those that the other one opened: the account knows how many wallets it has. */
function createSavings(
  saver: Saver,
  order: { idempotencyKey: string; name: string },
  count: SavingsCount,
): Command<SavingsRow> {
  const { accountId } = saver;
  const idempotencyKey = onceKeyOf(scopeOf(saver), order.idempotencyKey);
  return {
    touches: { account: [accountId] },
    // A repeat is not told by the name, which may be another one since.
    once: { by: "savings", key: idempotencyKey },
    decide(books) {
      const since = books.account(accountId).walletCount - count.walletCount;
      if (count.open + since >= SAVINGS_MAX) throw tooMany("savings wallets", SAVINGS_MAX);
      if (count.ever + since >= SAVINGS_EVER_MAX) {
        throw tooMany("savings wallets, closed ones included,", SAVINGS_EVER_MAX);
      }
      const walletId = books.newId();
      books.openWallet({ id: walletId, kind: Wallet_Kind.SAVINGS, accountId });
      books.tell("savings.opened", [accountId], { savingsWalletId: walletId, ...actorOf(saver) });
      return books.insert("savings", {
        walletId,
        accountId,
        name: order.name,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}

/** A closed wallet stays as it is, and nothing is told: a repeat does no harm and needs no key. */
const closeSavings = (saver: Saver, walletId: bigint): Command<WalletRow> => ({
  touches: { wallet: [walletId] },
  decide(books) {
    const wallet = savingsOf(books, saver, walletId);
    if (wallet.state === Wallet_State.CLOSED) return wallet;
    if (wallet.state === Wallet_State.FROZEN) throw walletFrozen(walletId);
    if (wallet.balance !== 0n || wallet.held !== 0n) throw walletNotEmpty(walletId, wallet.balance);
    books.tell("savings.closed", [saver.accountId], { savingsWalletId: walletId, ...actorOf(saver) });
    return books.setState(walletId, Wallet_State.CLOSED);
  },
});

/** Money from the main wallet into savings. A debit of the main wallet, which may be drawn for. */
const depositSavings = (saver: Saver, order: SavingsOrder) => moveSavings(saver, order, order.amount);

/** Money out of savings, back into the main wallet. */
const withdrawSavings = (saver: Saver, order: SavingsOrder) => moveSavings(saver, order, -order.amount);

/** The key of a move: no transfer has the same, so that each has a draw of its own. */
const savingsKeyOf = (saver: Saver, { idempotencyKey }: Pick<SavingsOrder, "idempotencyKey">): Buffer =>
  onceKeyOf(`savings:${scopeOf(saver)}`, idempotencyKey);

function moveSavings(saver: Saver, order: SavingsOrder, signed: bigint): Command<SavingsMoveRow> {
  const { accountId, walletId: mainWalletId } = saver;
  const { savingsWalletId, amount } = order;
  const idempotencyKey = savingsKeyOf(saver, order);
  const isDeposit = signed > 0n;
  const [from, to] = isDeposit ? [mainWalletId, savingsWalletId] : [savingsWalletId, mainWalletId];
  return {
    touches: { wallet: [mainWalletId, savingsWalletId] },
    once: {
      by: "savingsMove",
      key: idempotencyKey,
      isRepeat: (first) => first.savingsWalletId === savingsWalletId && first.amount === signed,
    },
    decide(books) {
      const { currency } = savingsOf(books, saver, savingsWalletId);
      const id = books.newId();
      books.move({ from, to, amount, because: { cause: Entry_Cause.SAVINGS, id } });
      books.tell(isDeposit ? "savings.deposited" : "savings.withdrawn", [accountId], {
        savingsMoveId: id,
        savingsWalletId,
        mainWalletId,
        amount,
        currency,
        ...actorOf(saver),
      });
      return books.insert("savingsMove", {
        id,
        accountId,
        mainWalletId,
        savingsWalletId,
        amount: signed,
        currency,
        idempotencyKey,
        createTime: books.now,
      });
    },
  };
}

/** Somebody else's wallet, or one for another purpose, is none. */
function savingsOf(books: Books, { accountId }: Saver, walletId: bigint): WalletRow {
  const wallet = books.wallet(walletId);
  if (wallet.kind !== Wallet_Kind.SAVINGS || wallet.accountId !== accountId) throw walletNotFound(walletId);
  return wallet;
}

const actorOf = ({ keyId }: Saver): EventFields => (keyId === undefined ? {} : { apiKeyId: keyId });
