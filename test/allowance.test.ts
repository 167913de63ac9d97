import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ReasonSchema } from "../gen/chatpay/error/v1/error_pb.ts";
import { Wallet_Kind, Wallet_State } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { readConfig } from "../src/config.ts";
import type { AllowanceRow, WalletRow } from "../src/db/schema.ts";
import { reasonOf } from "../src/errors.ts";
import { type Books, type Locked, openBooks } from "../src/ledger/books.ts";
import { seoulDayNumber } from "../src/seoul.ts";
import {
  checkBalance,
  countDraw,
  countSend,
  countWithdrawal,
  drawLeft,
  endBankTransfer,
  giveBackDraw,
  type Tiers,
} from "../src/wallet/limits.ts";

/** Half past one on 31 December in Seoul, and the two seconds at whose seam that day ends. */
const NOON = new Date("2026-12-31T04:30:00Z");
const LAST = new Date("2026-12-31T14:59:59.999Z");
const NEXT = new Date("2026-12-31T15:00:00.000Z");
const WALLET = 7n;
const STANDARD = 3_000_000n;

const tiersOf = (named: object): Tiers =>
  readConfig({
    CHATPAY_MODE: "development",
    DATABASE_URL: "mysql://localhost/x",
    REDIS_URL: "redis://localhost",
    CHATPAY_SMTP_URL: "smtp://localhost",
    CHATPAY_TIERS: JSON.stringify(named),
  }).tiers;
const standard = tiersOf({ standard: {} });

/** The rows that batch after batch finds, in the test's own memory. */
interface Store {
  allowances: Map<bigint, AllowanceRow>;
  balance: bigint;
}

const store = (balance = 0n): Store => ({ allowances: new Map(), balance });

const allowanceIn = ({ allowances }: Store) => allowances.get(WALLET);

const walletRow = (balance: bigint): WalletRow => ({
  id: WALLET,
  accountId: 1n,
  partnerId: null,
  kind: Wallet_Kind.MAIN,
  state: Wallet_State.OPEN,
  currency: "KRW",
  balance,
  held: 0n,
  version: 1n,
  sequence: 0n,
  createTime: NOON,
  updateTime: NOON,
});

/** Decides in a batch of that time; what is refused leaves nothing. */
function at<T>({ allowances, balance }: Store, now: Date, decide: (books: Books) => T): T {
  const locked: Locked = {
    account: new Map(),
    wallet: new Map([[WALLET, walletRow(balance)]]),
    hold: new Map(),
    allowance: allowances,
    gift: new Map(),
    bankAccount: new Map(),
    bankTransfer: new Map(),
    moneyRequest: new Map(),
    moneyRequestPart: new Map(),
    scheduledTransfer: new Map(),
  };
  const open = openBooks(1n, now, () => 1n, locked);
  try {
    const value = decide(open.books);
    open.keep();
    return value;
  } catch (error) {
    open.undo();
    throw error;
  }
}

/** Why it was refused, and what the refusal tells; undefined when it was not. */
function refusalOf(work: () => unknown): { [key: string]: string | undefined } | undefined {
  try {
    work();
  } catch (error) {
    const reason = reasonOf(error);
    if (reason === undefined) throw error;
    const [detail] = (error as { details: { value: { metadata: Record<string, string> } }[] }).details;
    return { reason: ReasonSchema.value[reason]?.localName, ...detail?.value.metadata };
  }
  return undefined;
}

const draw = (rows: Store, now: Date, amount: bigint, tiers = standard) =>
  at(rows, now, (books) => countDraw(books, tiers, WALLET, amount));

test("W5: a draw is counted with its amount: the last won may be drawn, and not one more", () => {
  const rows = store();

  expect(draw(rows, NOON, STANDARD - 1n)).toBe(20261231);
  expect(refusalOf(() => draw(rows, NOON, 2n))).toEqual({
    reason: "DRAW_LIMIT_EXCEEDED",
    limit: "3000000",
    left: "1",
  });
  expect(draw(rows, NOON, 1n)).toBe(20261231);

  expect(refusalOf(() => draw(rows, NOON, 1n))).toMatchObject({ left: "0" });
  expect(allowanceIn(rows)).toMatchObject({ drawn: STANDARD, bankTransfers: 2 });
});

test("W5: the day ends at midnight in Seoul, to the millisecond", () => {
  const rows = store();
  draw(rows, NOON, STANDARD);

  expect(refusalOf(() => draw(rows, LAST, 1n))).toMatchObject({ reason: "DRAW_LIMIT_EXCEEDED" });
  expect(at(rows, LAST, (books) => drawLeft(books, standard, WALLET))).toBe(0n);
  expect(at(rows, NEXT, (books) => drawLeft(books, standard, WALLET))).toBe(STANDARD);
  expect(draw(rows, NEXT, STANDARD)).toBe(20270101);

  expect(allowanceIn(rows)).toMatchObject({ day: 20270101, drawn: STANDARD, bankTransfers: 2 });
});

test("W5: a clock that is behind counts against the day that has begun already", () => {
  const rows = store();
  draw(rows, LAST, STANDARD);
  draw(rows, NEXT, STANDARD);

  expect(refusalOf(() => draw(rows, LAST, 1n))).toMatchObject({ reason: "DRAW_LIMIT_EXCEEDED" });
  expect(refusalOf(() => draw(rows, NEXT, 1n))).toMatchObject({ reason: "DRAW_LIMIT_EXCEEDED" });
});

test("W5: what the bank declined may be drawn again, on its own day only", () => {
  const rows = store();
  const giveBack = (now: Date, day: number, amount: bigint) =>
    at(rows, now, (books) => {
      endBankTransfer(books, WALLET);
      giveBackDraw(books, WALLET, day, amount);
    });
  const day = draw(rows, NOON, STANDARD);
  giveBack(NOON, day, STANDARD);
  expect(draw(rows, NOON, STANDARD)).toBe(day);

  draw(rows, NEXT, 10n);
  giveBack(NEXT, day, STANDARD);

  expect(allowanceIn(rows)).toMatchObject({ day: 20270101, drawn: 10n, bankTransfers: 1 });
});

test("W5: whatever is drawn and declined in whatever order, no day has more than its limit", () => {
  const limit = 100n;
  const tiers = tiersOf({ standard: { drawDay: Number(limit) } });
  const step = fc.record({
    amount: fc.bigInt({ min: 1n, max: 70n }),
    /** How far the clock moves; it may be behind that of the batch before. */
    hours: fc.integer({ min: -2, max: 9 }),
    end: fc.constantFrom("drawn" as const, "declined" as const, "waits" as const),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const rows = store();
      const drawnOn = new Map<number, bigint>();
      let underWay = 0;
      let time = NOON.getTime();
      for (const { amount, hours, end } of steps) {
        time += hours * 3_600_000;
        const now = new Date(time);
        const left = at(rows, now, (books) => drawLeft(books, tiers, WALLET));
        const refused = refusalOf(() => draw(rows, now, amount, tiers));
        expect(refused?.left).toBe(amount > left ? String(left) : undefined);
        if (refused) continue;
        const day = allowanceIn(rows)?.day ?? 0;
        expect(day).toBeGreaterThanOrEqual(seoulDayNumber(now));
        underWay += 1;
        if (end !== "declined") drawnOn.set(day, (drawnOn.get(day) ?? 0n) + amount);
        if (end === "waits") continue;
        at(rows, now, (books) => {
          endBankTransfer(books, WALLET);
          if (end === "declined") giveBackDraw(books, WALLET, day, amount);
        });
        underWay -= 1;
      }
      for (const drawn of drawnOn.values()) expect(drawn).toBeLessThanOrEqual(limit);
      expect(allowanceIn(rows)?.bankTransfers ?? 0).toBe(underWay);
    }),
  );
});

test("W5: transfers to banks are counted while they are under way, over midnight too", () => {
  const rows = store();
  at(rows, LAST, (books) => countWithdrawal(books, WALLET));
  at(rows, NEXT, (books) => countWithdrawal(books, WALLET));
  expect(allowanceIn(rows)).toMatchObject({ bankTransfers: 2, drawn: 0n });

  at(rows, NEXT, (books) => endBankTransfer(books, WALLET));
  at(rows, NEXT, (books) => endBankTransfer(books, WALLET));

  expect(allowanceIn(rows)?.bankTransfers).toBe(0);
  expect(() => at(rows, NEXT, (books) => endBankTransfer(books, WALLET))).toThrow("no bank transfer under way");
});

test("W6: a transfer is refused by the limit that it passes, which tells what is left", () => {
  const tiers = tiersOf({ standard: { sendOnce: 50, sendDay: 120, sendStrangersDay: 60 } });
  const rows = store();
  const send = (amount: bigint, toStranger: boolean, now = NOON) =>
    refusalOf(() => at(rows, now, (books) => countSend(books, tiers, { senderWalletId: WALLET, amount, toStranger })));
  const refused = (which: string, limit: string, left: string) => ({
    reason: "SEND_LIMIT_EXCEEDED",
    which,
    limit,
    left,
  });

  expect(send(51n, false)).toEqual(refused("transfer", "50", "50"));
  expect(send(50n, true)).toBeUndefined();
  expect(send(11n, true)).toEqual(refused("strangers", "60", "10"));
  expect(send(11n, false)).toBeUndefined();
  expect(send(10n, true)).toBeUndefined();
  expect(send(50n, false)).toEqual(refused("day", "120", "49"));
  expect(send(49n, false)).toBeUndefined();
  expect(send(1n, false, LAST)).toEqual(refused("day", "120", "0"));

  expect(send(50n, true, NEXT)).toBeUndefined();
  expect(allowanceIn(rows)).toMatchObject({ day: 20270101, sent: 50n, sentToStrangers: 50n });
});

test("W6: a wallet may hold its limit, and nothing above it, be it there or coming", () => {
  const tiers = tiersOf({ standard: { balance: 100 }, plus: {} });
  const check = (rows: Store, coming?: bigint) =>
    refusalOf(() => at(rows, NOON, (books) => checkBalance(books, tiers, WALLET, coming)));
  const refused = { reason: "BALANCE_LIMIT_EXCEEDED", wallet_id: "7" };

  expect(check(store(100n))).toBeUndefined();
  expect(check(store(101n))).toEqual(refused);
  expect(check(store(40n), 60n)).toBeUndefined();
  expect(check(store(40n), 61n)).toEqual(refused);

  const rows = store(1_000n);
  at(rows, NOON, (books) => countWithdrawal(books, WALLET));
  Object.assign(allowanceIn(rows) ?? {}, { tier: "plus" });
  expect(check(rows)).toBeUndefined();
  Object.assign(allowanceIn(rows) ?? {}, { tier: "no more" });
  expect(check(rows)).toEqual(refused);
});

test("W6: what is refused is not counted, nor is what is refused after it was counted", () => {
  const rows = store();
  const mistake = () =>
    at(rows, NOON, (books) => {
      countDraw(books, standard, WALLET, 5n);
      throw new Error("the rest of the command was refused");
    });

  expect(mistake).toThrow("refused");
  expect(allowanceIn(rows)).toBeUndefined();
  draw(rows, NOON, 1n);
  expect(mistake).toThrow("refused");

  expect(allowanceIn(rows)).toMatchObject({ drawn: 1n, bankTransfers: 1 });
});
