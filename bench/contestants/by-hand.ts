import mysql, { type Connection, type RowDataPacket } from "mysql2/promise";
import { Transfer_State } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { connectionOptions, isDuplicateKey, isRetryable, SESSION_SETUP } from "../../src/db/database.ts";
import {
  currencyMismatch,
  idempotencyKeyReused,
  insufficientFunds,
  sameWallet,
  walletClosed,
  walletFrozen,
  walletNotFound,
} from "../../src/errors.ts";
import { type Ids, leaseIds } from "../../src/id.ts";
import { onceKeyOf, scopeOf } from "../../src/ledger/once.ts";
import { chainHash, contentHash, digestOf, packEvents, postingText } from "../../src/ledger/queries.ts";
import type { Order, Sender } from "../../src/transfer/transfer.ts";
import { type Arena, log } from "../arena.ts";

/**
 * A transfer in a transaction of its own, as one writes it by hand: prepared statements, one after the
 * other. It checks what the lane checks and writes the rows that the lane writes.
 */

/** A connection, and ids that are its own: VerifyBooks knows by them whose batches follow each other. */
export interface Hand {
  connection: Connection;
  ids: Ids;
}

export async function openHand({ databaseUrl, db }: Arena): Promise<Hand> {
  const connection = await mysql.createConnection(connectionOptions(databaseUrl));
  await connection.query(SESSION_SETUP);
  return { connection, ids: await leaseIds(db, (err) => log.error({ err }, "the process slot was not renewed")) };
}

export async function closeHand({ connection, ids }: Hand) {
  ids.close();
  await connection.end();
}

const ATTEMPTS_MAX = 10;

/** Returns the id of the transfer: the one made now, or the one that the key made before. */
export async function transferByHand(
  hand: Hand,
  sender: Sender,
  order: Order,
  lock: "for update" | "",
): Promise<bigint> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await transferOnce(hand, sender, order, lock);
    } catch (error) {
      await hand.connection.query("rollback");
      if (isDuplicateKey(error)) return findFirst(hand, sender, order);
      if (!isRetryable(error) || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

async function transferOnce({ connection, ids }: Hand, sender: Sender, order: Order, lock: "for update" | "") {
  const { newId } = ids;
  const { walletId, accountId } = sender;
  const { recipientWalletId, amount, memo } = order;
  if (recipientWalletId === walletId) throw sameWallet(walletId);

  await connection.query("start transaction");
  const [wallets] = await connection.execute<RowDataPacket[]>(
    `select id, account_id, kind, state, currency, balance, held, sequence, update_time
     from wallet where id in (?, ?) order by id ${lock}`,
    [walletId, recipientWalletId],
  );
  const from = walletIn(wallets, walletId);
  const to = walletIn(wallets, recipientWalletId);
  check(from, to, amount);

  const batchId = newId();
  const transferId = newId();
  const now = new Date(Math.max(Date.now(), from.updateTime.getTime(), to.updateTime.getTime()));
  await connection.execute(
    `insert into transfer (id, sender_wallet_id, recipient_wallet_id, amount, currency, memo, state,
       idempotency_key, create_time) values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    [transferId, from.id, to.id, amount, to.currency, memo, Transfer_State.COMPLETED, keyOf(sender, order), now],
  );
  const posting = {
    id: newId(),
    batchId,
    debitWalletId: from.id,
    debitSequence: from.sequence + 1n,
    debitBalance: from.balance - amount,
    creditWalletId: to.id,
    creditSequence: to.sequence + 1n,
    creditBalance: to.balance + amount,
    amount,
    cause: Entry_Cause.TRANSFER,
    causeId: transferId,
    createTime: now,
  };
  await connection.execute(
    `insert into posting (id, batch_id, debit_wallet_id, debit_sequence, debit_balance, credit_wallet_id,
       credit_sequence, credit_balance, amount, cause, cause_id, create_time)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    Object.values(posting),
  );
  const update = "update wallet set balance = ?, sequence = ?, version = version + 1, update_time = ? where id = ?";
  await connection.execute(update, [posting.debitBalance, posting.debitSequence, now, from.id]);
  await connection.execute(update, [posting.creditBalance, posting.creditSequence, now, to.id]);

  const event = {
    kind: "transfer.completed",
    accounts: [`${accountId}`, `${to.accountId}`],
    transferId: `${transferId}`,
    senderWalletId: `${from.id}`,
    recipientWalletId: `${to.id}`,
    amount: `${amount}`,
    currency: to.currency,
    memo,
  };
  const events = JSON.stringify([event]);
  // Everybody needs the end of the log: it is locked last, for the shortest time.
  const [[head]] = await connection.execute<RowDataPacket[]>(
    "select number, position, hash from ledger_head where id = 1 for update",
  );
  const batch = {
    id: batchId,
    number: BigInt(head?.number) + 1n,
    lastPosition: BigInt(head?.position) + 1n,
    eventCount: 1,
    postingCount: 1,
    createTime: now,
  };
  const hash = chainHash(head?.hash, contentHash(batch, digestOf([postingText(posting)]), events));
  await connection.execute(
    `insert into ledger_batch (id, number, last_position, event_count, posting_count, events, hash, create_time)
     values (?, ?, ?, 1, 1, ?, ?, ?)`,
    [batchId, batch.number, batch.lastPosition, packEvents(events), hash, now],
  );
  await connection.execute("update ledger_head set number = ?, position = ?, hash = ? where id = 1", [
    batch.number,
    batch.lastPosition,
    hash,
  ]);
  await connection.query("commit");
  return transferId;
}

const keyOf = (sender: Sender, order: Order) => onceKeyOf(scopeOf(sender), order.idempotencyKey);

type Wallet = ReturnType<typeof walletIn>;

function walletIn(rows: RowDataPacket[], id: bigint) {
  const row = rows.find((one) => BigInt(one.id) === id);
  if (!row) throw walletNotFound(id);
  return {
    id,
    accountId: BigInt(row.account_id ?? 0),
    kind: row.kind as number,
    state: row.state as number,
    currency: row.currency as string,
    balance: BigInt(row.balance),
    held: BigInt(row.held),
    sequence: BigInt(row.sequence),
    updateTime: row.update_time as Date,
  };
}

function check(from: Wallet, to: Wallet, amount: bigint) {
  if (to.kind !== Wallet_Kind.MAIN) throw walletNotFound(to.id);
  if (from.state === Wallet_State.FROZEN) throw walletFrozen(from.id);
  if (from.state === Wallet_State.CLOSED) throw walletClosed(from.id);
  if (to.state === Wallet_State.CLOSED) throw walletClosed(to.id);
  if (from.currency !== to.currency) throw currencyMismatch(from.currency, to.currency);
  if (from.balance - from.held < amount) throw insufficientFunds(from.id, from.balance - from.held, amount);
}

async function findFirst({ connection }: Hand, sender: Sender, order: Order): Promise<bigint> {
  const [[first]] = await connection.execute<RowDataPacket[]>(
    "select id, recipient_wallet_id, amount, memo from transfer where idempotency_key = ?",
    [keyOf(sender, order)],
  );
  const isRepeat =
    BigInt(first?.recipient_wallet_id) === order.recipientWalletId &&
    BigInt(first?.amount) === order.amount &&
    first?.memo === order.memo;
  if (!isRepeat) throw idempotencyKeyReused();
  return BigInt(first?.id);
}
