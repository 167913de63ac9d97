import { expect } from "vitest";
import { BankTransfer_Kind, BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Db } from "../../src/db/database.ts";
import { BANK_CLEARING, type BankTransferRow } from "../../src/db/schema.ts";
import { onceKeyOf } from "../../src/ledger/once.ts";
import { unpackEvents } from "../../src/ledger/queries.ts";
import { seoulDayNumber } from "../../src/seoul.ts";
import type { Kind, Order } from "./orders.ts";
import type { Town } from "./town.ts";

/** What must be true when everything has come to its end: in the books, at the banks, and in what people were told. */

const isOut = ({ kind }: BankTransferRow) => kind === BankTransfer_Kind.WITHDRAWAL;
const hasSucceeded = ({ state }: BankTransferRow) => state === BankTransfer_State.SUCCEEDED;
const sumOf = <T>(rows: T[], amountOf: (row: T) => bigint) => rows.reduce((sum, row) => sum + amountOf(row), 0n);
const ordered = <T>(rows: T[]) => rows.map((row) => JSON.stringify(row)).toSorted();

const listTransfers = (db: Db) => db.selectFrom("bankTransfer").selectAll().execute();

/** The same movements of money stand in the books and at the banks, each of them once, and nothing is under way. */
export async function expectSameAtBanks(db: Db, { land: { kftc }, people }: Town) {
  const rows = await listTransfers(db);
  const { booked, processing, collectingChange } = await kftc.books();

  expect(
    rows.filter((row) => row.dueTime !== null || (!hasSucceeded(row) && row.state !== BankTransfer_State.FAILED)),
  ).toEqual([]);
  expect(processing).toEqual([]);
  const numbers = new Map(people.flatMap(({ banks }) => banks.map(({ id, where }) => [id, where.number])));
  expect(
    ordered(
      rows.filter(hasSucceeded).map((row) => ({
        bankTranId: row.tranId,
        kind: isOut(row) ? "deposit" : "withdraw",
        amount: String(row.amount),
        accountNumber: numbers.get(String(row.bankAccountId)),
      })),
    ),
  ).toEqual(
    ordered(booked.map(({ bankTranId, kind, amount, accountNumber }) => ({ bankTranId, kind, amount, accountNumber }))),
  );

  const clearing = await db
    .selectFrom("wallet")
    .select("balance")
    .where("id", "=", BANK_CLEARING)
    .executeTakeFirstOrThrow();
  expect(-clearing.balance).toBe(BigInt(collectingChange));
  for (const { id, where, first } of people.flatMap(({ banks }) => banks)) {
    const own = rows.filter((row) => hasSucceeded(row) && String(row.bankAccountId) === id);
    const moved = sumOf(own, (row) => (isOut(row) ? row.amount : -row.amount));
    expect(BigInt((await kftc.getAccount(where)).balance)).toBe(first + moved);
  }
}

/** Nothing is set aside any more, and the counters of the limits have counted what happened, and not too much. */
export async function expectWithinLimits(db: Db, { people }: Town) {
  const held = await db.selectFrom("wallet").select(["id", "held"]).where("held", "!=", 0n).execute();
  const holds = await db.selectFrom("hold").select("id").where("remaining", "!=", 0n).execute();
  expect([...held, ...holds]).toEqual([]);

  const rows = await listTransfers(db);
  const sends = await db.selectFrom("transfer").selectAll().execute();
  const allowances = await db.selectFrom("allowance").selectAll().execute();
  expect(allowances.filter(({ bankTransfers, incoming }) => bankTransfers !== 0 || incoming !== 0n)).toEqual([]);
  for (const { person, limits } of people) {
    const walletId = BigInt(person.walletId);
    const draws = rows.filter((row) => row.walletId === walletId && hasSucceeded(row) && !isOut(row));
    const drawn = byDay(draws, ({ day }) => day);
    const sent = byDay(
      sends.filter(({ senderWalletId }) => senderWalletId === walletId),
      ({ createTime }) => seoulDayNumber(createTime),
    );
    for (const amount of drawn.values()) expect(amount).toBeLessThanOrEqual(limits.drawDay);
    for (const amount of sent.values()) expect(amount).toBeLessThanOrEqual(limits.sendDay ?? amount);

    const counted = allowances.find(({ id }) => id === walletId);
    const day = counted?.day ?? 0;
    expect([counted?.drawn ?? 0n, counted?.sent ?? 0n]).toEqual([drawn.get(day) ?? 0n, sent.get(day) ?? 0n]);
  }
}

function byDay<T extends { amount: bigint }>(rows: T[], dayOf: (row: T) => number): Map<number, bigint> {
  const days = new Map<number, bigint>();
  for (const row of rows) days.set(dayOf(row), (days.get(dayOf(row)) ?? 0n) + row.amount);
  return days;
}

/** What the books have of an order: the id of what it made, unless the bank has declined it. */
async function listMade(db: Db): Promise<Map<string, { id: string; amount: bigint }>> {
  const made = new Map<string, { id: string; amount: bigint }>();
  const put = (idempotencyKey: Buffer, id: bigint, amount: bigint) =>
    made.set(idempotencyKey.toString("hex"), { id: String(id), amount });
  for (const row of await listTransfers(db)) {
    if (row.kind !== BankTransfer_Kind.AUTOMATIC_TOP_UP && hasSucceeded(row))
      put(row.idempotencyKey, row.id, row.amount);
  }
  for (const table of ["transfer", "payment", "savingsMove"] as const) {
    const rows = await db.selectFrom(table).select(["id", "idempotencyKey", "amount"]).execute();
    for (const { id, idempotencyKey, amount } of rows) put(idempotencyKey, id, amount < 0n ? -amount : amount);
  }
  return made;
}

const SCOPES: Record<Kind, (order: Order) => string> = {
  topUp: ({ by }) => `bank:account:${by.accountId}`,
  withdraw: ({ by }) => `bank:account:${by.accountId}`,
  send: ({ by }) => `account:${by.accountId}`,
  pay: ({ about }) => `partner:${about}`,
  save: ({ by }) => `savings:account:${by.accountId}`,
  takeOut: ({ by }) => `savings:account:${by.accountId}`,
};

const keyIn = (order: Order) => onceKeyOf(SCOPES[order.kind](order), order.key).toString("hex");

/** What people were told was done is there, and what every single call of theirs was told is refused is not. */
export async function expectAsTold(db: Db, orders: Order[]) {
  const made = await listMade(db);
  const told = orders.filter(
    ({ done, declined, refused, open }) => done !== undefined || declined || (refused && open === 0),
  );
  expect(told.filter((order) => made.get(keyIn(order))?.id !== order.done).map(shown)).toEqual([]);
}

/** Everybody knows what became of everything: what was done is there once, as it was ordered, and there is nothing else. */
export async function expectAllTold(db: Db, orders: Order[]) {
  const done = orders.flatMap((order) =>
    order.done === undefined ? [] : [[keyIn(order), { id: order.done, amount: order.amount }] as const],
  );
  expect(await listMade(db)).toEqual(new Map(done));
}

const shown = ({ kind, key, done, refused, open }: Order) => ({ kind, key, done, refused, open });

/** Every wallet has what came in less what went out, by what people were told and by what was drawn for it. */
export async function expectBalances(db: Db, { people, shops }: Town, orders: Order[]) {
  const balances = new Map<string, bigint>();
  const add = (walletId: string, amount: bigint) => balances.set(walletId, (balances.get(walletId) ?? 0n) + amount);
  const mainOf = new Map(people.map(({ person }) => [person.accountId, person.walletId]));
  const shopOf = new Map(shops.map(({ partnerId, walletId }) => [partnerId, walletId]));
  for (const { person, savings } of people) for (const id of [person.walletId, ...savings]) add(id, 0n);
  for (const { walletId } of shops) add(walletId, 0n);
  for (const row of await listTransfers(db)) {
    if (row.kind === BankTransfer_Kind.AUTOMATIC_TOP_UP && hasSucceeded(row)) add(String(row.walletId), row.amount);
  }
  for (const { kind, by, about, amount, done } of orders) {
    if (done === undefined) continue;
    const main = mainOf.get(by.accountId) ?? "";
    const isGain = kind === "topUp" || kind === "takeOut";
    add(main, isGain ? amount : -amount);
    if (kind === "send") add(about, amount);
    if (kind === "pay") add(shopOf.get(about) ?? "", amount);
    if (kind === "save") add(about, amount);
    if (kind === "takeOut") add(about, -amount);
  }
  const rows = await db.selectFrom("wallet").select(["id", "balance"]).where("id", "!=", BANK_CLEARING).execute();
  const stored = rows
    .filter(({ id }) => balances.has(String(id)))
    .map(({ id, balance }) => [String(id), balance] as const);
  expect(new Map(stored)).toEqual(balances);
}

/** The log tells once of each transfer how it ended. */
export async function expectEvents(db: Db) {
  const batches = await db.selectFrom("ledgerBatch").select("events").where("number", "is not", null).execute();
  const told = batches
    .flatMap(({ events }) => JSON.parse(unpackEvents(events)) as { kind: string; bankTransferId?: string }[])
    .filter(({ kind }) => kind === "bank_transfer.succeeded" || kind === "bank_transfer.failed")
    .map(({ kind, bankTransferId }) => `${bankTransferId} ${kind}`);
  const ends = (await listTransfers(db)).map(
    (row) => `${row.id} bank_transfer.${hasSucceeded(row) ? "succeeded" : "failed"}`,
  );
  expect(told.toSorted()).toEqual(ends.toSorted());
}
