import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { afterAll, expect, test, vi } from "vitest";
import { Account_State, ClosingObstacle_Kind } from "../gen/chatpay/account/v1/account_pb.ts";
import { BankTransfer_State } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { Transfer_State } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { updateProfile } from "../src/account/account.ts";
import { closeAccount, type Obstacle } from "../src/account/closing.ts";
import { intendDraw, intendTopUp, intendWithdrawal, settle } from "../src/bank/commands.ts";
import { type BankTransferRow, type GiftRow, HOUSE, type TransferRow } from "../src/db/schema.ts";
import type { Books } from "../src/ledger/books.ts";
import type { Command } from "../src/ledger/command.ts";
import { onceKeyOf } from "../src/ledger/once.ts";
import { seoulDayNumber } from "../src/seoul.ts";
import { acceptGift, cancelGift, declineGift, expireGift, handOver, sendGift } from "../src/transfer/gift.ts";
import { freezeWallet, unfreezeWallet } from "../src/wallet/wallet.ts";
import { approved, bankAccountRow, bankRules, declined } from "./support/bankbooks.ts";
import { accountRow, answerOf, balancesOf, chooseSeed, makeBooks, openLedger, transferRow } from "./support/load.ts";
import {
  type Answer,
  endBatch,
  type Model,
  type ModelAccount,
  type ModelBank,
  type ModelObstacle,
  type ModelWallet,
  ownGifts,
  runTogether,
  type Step,
} from "./support/model.ts";
import { differencesIn } from "./support/people.ts";

const databaseUrl = await makeBooks();
const ledger = await openLedger(databaseUrl);
afterAll(() => ledger.close());

const RUNS = Number(process.env.CHATPAY_TEST_RUNS ?? 60);

/** The wallets of a run; the system wallets pay the first money to the others. */
const WALLETS: { kind: ModelWallet["kind"]; currency: string; first: bigint; account?: number }[] = [
  { kind: "system", currency: "KRW", first: 0n },
  { kind: "system", currency: "USD", first: 0n },
  { kind: "main", currency: "KRW", first: 1_000n, account: 0 },
  { kind: "main", currency: "KRW", first: 1n, account: 1 },
  { kind: "main", currency: "KRW", first: 2n ** 63n - 2_000n, account: 2 },
  { kind: "partner", currency: "KRW", first: 50n },
  { kind: "main", currency: "USD", first: 500n, account: 0 },
  { kind: "main", currency: "KRW", first: 0n, account: 3 },
  { kind: "main", currency: "KRW", first: 0n, account: 3 },
];
const ACCOUNTS = 4;
/** What the accounts have at banks. */
const BANKS: ModelBank[] = [
  { account: 0, primary: true, canDraw: true, automatic: true, unit: 1n },
  { account: 0, primary: false, canDraw: true, automatic: true, unit: 1n },
  { account: 1, primary: true, canDraw: true, automatic: true, unit: 100n },
  { account: 2, primary: true, canDraw: true, automatic: false, unit: 1n },
  { account: 3, primary: true, canDraw: false, automatic: false, unit: 1n },
];
const DRAW_DAY = 3_000n;
const RULES = bankRules(DRAW_DAY);
/** One more than there are: a wallet that nobody has made. */
const walletIndex = fc.nat({ max: WALLETS.length });
const accountIndex = fc.nat({ max: ACCOUNTS });
/** Mostly one of their own. */
const withBank = fc.oneof(
  { weight: 8, arbitrary: fc.nat({ max: BANKS.length - 1 }).map((bank) => ({ by: BANKS[bank]?.account ?? 0, bank })) },
  { weight: 1, arbitrary: fc.record({ by: accountIndex, bank: fc.nat({ max: BANKS.length }) }) },
);
const KINDS = { main: Wallet_Kind.MAIN, partner: Wallet_Kind.PARTNER, system: Wallet_Kind.BANK_CLEARING };
const STATES = { open: Wallet_State.OPEN, frozen: Wallet_State.FROZEN, closed: Wallet_State.CLOSED };

const anyAmount = fc.oneof(
  { weight: 12, arbitrary: fc.bigInt({ min: 1n, max: 100n }) },
  { weight: 6, arbitrary: fc.bigInt({ min: 1n, max: 2_000n }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 2n ** 63n - 3_000n, max: 2n ** 63n - 1n }) },
  { weight: 1, arbitrary: fc.constantFrom(0n, -1n) },
);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const holdIndex = fc.nat({ max: 12 });
const bankAmount = fc.oneof(fc.bigInt({ min: 1n, max: 100n }), fc.bigInt({ min: 1n, max: 2_000n }));
const anyKey = optional(fc.nat({ max: 15 }));
const giftIndex = fc.nat({ max: 12 });
const anyState = fc.constantFrom("open" as const, "open" as const, "frozen" as const, "closed" as const);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      from: walletIndex,
      to: walletIndex,
      amount: anyAmount,
      byOperator: fc.boolean(),
      key: optional(fc.nat({ max: 15 })),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("hold" as const), wallet: walletIndex, amount: anyAmount }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("capture" as const),
      hold: holdIndex,
      to: walletIndex,
      amount: optional(anyAmount),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("release" as const), hold: holdIndex }) },
  ...(["topUp", "withdraw"] as const).map((what) => ({
    weight: 3,
    arbitrary: fc
      .record({ which: withBank, amount: bankAmount, key: anyKey })
      .map(({ which, ...each }): Step => ({ do: what, ...which, ...each })),
  })),
  {
    weight: 4,
    arbitrary: fc
      .record({ which: withBank, amount: bankAmount, key: fc.nat({ max: 9 }) })
      .map(({ which, ...each }): Step => ({ do: "draw", ...which, ...each })),
  },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant("settle" as const),
      transfer: fc.nat({ max: 20 }),
      outcome: fc.constantFrom("approved" as const, "declined" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("turn" as const), wallet: walletIndex, state: anyState }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("freeze" as const), wallet: walletIndex }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("unfreeze" as const), wallet: walletIndex }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("give" as const),
      from: walletIndex,
      to: walletIndex,
      amount: anyAmount,
      hours: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("end" as const),
      gift: giftIndex,
      how: fc.constantFrom("accept" as const, "decline" as const, "cancel" as const, "expire" as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("close" as const), account: accountIndex, handOver: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("rename" as const),
      account: accountIndex,
      name: fc.constantFrom("Alice", "Bob", "점심"),
    }),
  },
);
const sendTwice: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("sendTwice" as const),
  from: walletIndex,
  to: walletIndex,
  onward: walletIndex,
  amount: anyAmount,
  mistake: fc.boolean(),
});
/** Mostly alone, now and then together with others. */
const unit = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.oneof({ weight: 9, arbitrary: step }, { weight: 1, arbitrary: sendTwice })) },
  { weight: 1, arbitrary: fc.array(step, { minLength: 2, maxLength: 4 }) },
);
/** Groups of units; those of a group are submitted at once and so become a batch. */
const program = fc.array(fc.array(unit, { minLength: 1, maxLength: 16, size: "max" }), {
  minLength: 2,
  maxLength: 16,
  size: "max",
});

test("the lane does what the model does", { timeout: Math.max(300_000, 3_000 * RUNS) }, async () => {
  // The lane looks keys up beforehand only while repeats are likely: in half of the batches it has no reason to.
  let hours = 0;
  const now = performance.now.bind(performance);
  vi.spyOn(performance, "now").mockImplementation(() => now() + hours * 3_600_000);
  let commands = 0;
  const property = fc.asyncProperty(program, async (groups) => {
    await passMidnight();
    const { walletIds, accountIds, bankIds } = await openWallets();
    const holdIds: bigint[] = [];
    const giftIds: bigint[] = [];
    const bankTransfers: BankTransferRow[] = [];
    const stepOfTransfer = new Map<bigint, number>();
    const model = newModel();
    const run = randomUUID();
    const [houseBefore = 0n] = await balancesOf(ledger, [HOUSE]);

    for (const [number, group] of [FIRST_MONEY, ...groups].entries()) {
      if (number % 2 === 0) hours += 1;
      model.hour += 1;
      const { hour } = model;
      const known = { hold: holdIds.length, settle: bankTransfers.length };
      const units = group.map((steps) => steps.map((each) => onKnown(each, known, model)));
      const gifts = await readGifts(giftIds);
      const all = { walletIds, accountIds, bankIds, holdIds, bankTransfers, gifts, model, run };
      const submitted = units.map((steps) =>
        ledger.lane.submitTogether(
          steps.map((each) => (isTimed(each) ? atHour(hour, commandOf(each, all)) : commandOf(each, all))),
        ),
      );
      const firstStep = model.steps;
      const expected = units.flatMap((steps) => runTogether(model, steps));
      endBatch(model);
      const settled = (await Promise.all(submitted)).flat();

      const answers = settled.map((outcome, i): Answer => {
        if (!outcome.result) return { is: "refused", reason: answerOf(outcome) };
        const { value, replayed } = outcome.result;
        // A debit that misses nothing draws nothing.
        if (!value) return { is: "done", step: firstStep + i };
        if (replayed) return { is: "replayed", step: stepOfTransfer.get(value.id) ?? -1 };
        const did = units.flat()[i]?.do;
        if (did !== "settle") stepOfTransfer.set(value.id, firstStep + i);
        if (did === "hold") holdIds.push(value.id);
        if (did === "give") giftIds.push(value.id);
        if (did === "topUp" || did === "withdraw" || did === "draw") bankTransfers.push(value as BankTransferRow);
        const obstacles = "obstacles" in value && value.obstacles && inNumbers(value.obstacles, walletIds, giftIds);
        return { is: "done", step: firstStep + i, ...(obstacles && { obstacles }) };
      });
      expect(answers).toEqual(expected);
      commands += answers.length;
    }
    await expectSameBooks(model, walletIds, holdIds, accountIds);
    await expectSameBanks(model, walletIds, bankTransfers);
    await expectSameGifts(model, giftIds);
    expect(await balancesOf(ledger, [HOUSE])).toEqual([houseBefore + model.house.balance]);
  });

  await fc.assert(property, { numRuns: RUNS, seed: chooseSeed("ledger.model") });

  console.log(`ledger.model: ${commands} commands`);
  expect(commands).toBeGreaterThan(RUNS * 20);
  expect(await differencesIn(databaseUrl)).toEqual([]);
});

/** In a minute the day may end, and with it what was drawn of it: then the run begins on the next one. */
const MINUTE_MS = 60_000;
const passMidnight = () =>
  vi.waitUntil(() => seoulDayNumber(new Date()) === seoulDayNumber(new Date(Date.now() + MINUTE_MS)), {
    timeout: 2 * MINUTE_MS,
  });

const MISSING = 2n ** 62n;
const FIRST_MONEY: Step[][] = WALLETS.map(({ currency, first: amount }, to): Step[] => [
  { do: "send", from: currency === "KRW" ? 0 : 1, to, amount, byOperator: true },
]);

const emptyWallet = ({ kind, currency }: (typeof WALLETS)[number]): ModelWallet => ({
  kind,
  state: "open",
  currency,
  balance: 0n,
  held: 0n,
  entries: [],
});

const newAccounts = (): ModelAccount[] =>
  Array.from({ length: ACCOUNTS }, (_, account) => ({
    state: "open",
    name: "Somebody",
    wallets: WALLETS.flatMap((wallet, index) => (wallet.account === account ? [index] : [])),
  }));

const newModel = (): Model => ({
  wallets: WALLETS.map(emptyWallet),
  holds: [],
  gifts: [],
  house: emptyWallet({ kind: "system", currency: "KRW", first: 0n }),
  hour: 0,
  accounts: newAccounts(),
  keys: {},
  banks: BANKS,
  linked: BANKS.map(() => true),
  bankTransfers: [],
  drawDay: DRAW_DAY,
  drawn: {},
  bankKeys: {},
  drawKeys: {},
  steps: 0,
});

async function openWallets(): Promise<{ walletIds: bigint[]; accountIds: bigint[]; bankIds: bigint[] }> {
  const walletIds = WALLETS.map(() => ledger.newId());
  const bankIds = BANKS.map(() => ledger.newId());
  const accountIds = Array.from({ length: ACCOUNTS }, () => ledger.newId());
  await ledger.lane.submit({
    touches: {},
    decide(books) {
      accountIds.forEach((id, account) => {
        const bankAccountCount = BANKS.filter((bank) => bank.account === account).length;
        books.insert("account", { ...accountRow(id, id, books.now), bankAccountCount });
      });
      BANKS.forEach(({ account, primary, canDraw, automatic, unit: topUpUnit }, i) => {
        const accountId = accountIds[account] ?? MISSING;
        const fields = {
          primaryOf: primary ? accountId : null,
          canDraw: Number(canDraw),
          automaticTopUp: Number(automatic),
          topUpUnit,
        };
        books.insert("bankAccount", bankAccountRow(bankIds[i] ?? MISSING, accountId, books.now, fields));
      });
      WALLETS.forEach(({ kind, currency, account = -1 }, i) => {
        const wallet = { id: walletIds[i] as bigint, kind: KINDS[kind], accountId: accountIds[account] };
        Object.assign(books.openWallet(wallet), { currency });
      });
    },
  });
  return { walletIds, accountIds, bankIds };
}

const OBSTACLES: Record<number, ModelObstacle["kind"]> = {
  [ClosingObstacle_Kind.BALANCE]: "balance",
  [ClosingObstacle_Kind.HOLD]: "hold",
  [ClosingObstacle_Kind.FROZEN]: "frozen",
  [ClosingObstacle_Kind.BANK_TRANSFER]: "bankTransfer",
  [ClosingObstacle_Kind.PENDING_TRANSFER]: "gift",
};

const inNumbers = (obstacles: Obstacle[], walletIds: bigint[], giftIds: bigint[]) =>
  obstacles.map(({ kind, walletId, amount, transferId }) => ({
    kind: OBSTACLES[kind] as ModelObstacle["kind"],
    wallet: walletIds.indexOf(walletId),
    amount,
    ...(transferId !== undefined && { gift: giftIds.indexOf(transferId) }),
  }));

const GIFT_STATES = {
  pending: Transfer_State.PENDING,
  completed: Transfer_State.COMPLETED,
  declined: Transfer_State.DECLINED,
  canceled: Transfer_State.CANCELED,
  expired: Transfer_State.EXPIRED,
};

/** The gifts as a process reads them before it submits commands, in the order of their numbers. */
async function readGifts(ids: bigint[]): Promise<GiftRow[]> {
  if (ids.length === 0) return [];
  const rows = await ledger.db.selectFrom("gift").selectAll().where("id", "in", ids).execute();
  return ids.map((id) => rows.find((row) => row.id === id) as GiftRow);
}

/** The id of a hold, a gift or a bank transfer is known when its batch has been answered; another batch may use it then. */
function onKnown(each: Step, known: { hold: number; settle: number }, model: Model): Step {
  switch (each.do) {
    case "capture":
    case "release":
      return each.hold >= known.hold ? { ...each, hold: -1 } : each;
    case "settle":
      return each.transfer >= known.settle ? { ...each, transfer: -1 } : each;
    case "end": {
      const gift = model.gifts[each.gift];
      return { ...each, ...(gift ? { seenHanded: gift.handed } : { gift: -1 }) };
    }
    case "close": {
      const account = model.accounts[each.account];
      const seen = (side: "from" | "to") => (account ? ownGifts(model, account, side).map(({ gift }) => gift) : []);
      return { ...each, seenSent: seen("from"), seenReceived: seen("to") };
    }
    default:
      return each;
  }
}

/** Whether a step looks at the time of gifts. */
const isTimed = (each: Step) => each.do === "give" || each.do === "end" || each.do === "close";

/** Gifts live for hours, so the time that commands see is the model's. It is far off: nothing is late in earnest. */
const atHour = <T>(hour: number, { decide, ...command }: Command<T>): Command<T> => ({
  ...command,
  decide: (books) => decide({ ...books, now: new Date(Date.UTC(2100, 0, 1, hour)) }),
});

interface Run {
  walletIds: bigint[];
  accountIds: bigint[];
  bankIds: bigint[];
  holdIds: bigint[];
  bankTransfers: BankTransferRow[];
  gifts: GiftRow[];
  model: Model;
  run: string;
}

/** What a command made or changed, or why it did not. */
type Made = { id: bigint; obstacles?: Obstacle[] };

/** The step as a command of the lane. */
function commandOf(each: Step, all: Run): Command<Made | undefined> {
  const { walletIds, accountIds, bankIds, holdIds, bankTransfers, gifts, model, run } = all;
  const walletId = (index: number) => walletIds[index] ?? MISSING;
  const accountId = (index: number) => accountIds[index] ?? MISSING;
  const holdId = (index: number) => holdIds[index] ?? MISSING;
  switch (each.do) {
    case "send":
      return send(walletId(each.from), walletId(each.to), each, `${run} ${each.key}`);
    case "sendTwice": {
      const [from, to, onward] = [walletId(each.from), walletId(each.to), walletId(each.onward)];
      return {
        touches: { wallet: [from, to, onward] },
        decide(books) {
          const first = move(books, from, to, each.amount);
          if (each.mistake) throw new Error("a mistake");
          move(books, to, onward, each.amount);
          return first;
        },
      };
    }
    case "hold": {
      const wallet = walletId(each.wallet);
      return {
        touches: { wallet: [wallet] },
        decide(books) {
          const because = { cause: Entry_Cause.TRANSFER, id: books.newId() };
          const { id } = books.hold({ wallet, amount: each.amount, because, expireTime: books.now });
          return { id };
        },
      };
    }
    case "capture": {
      const payer = walletId(model.holds[each.hold]?.wallet ?? -1);
      const to = walletId(each.to);
      return {
        touches: { hold: [holdId(each.hold)], wallet: [payer, to] },
        decide(books) {
          const hold = books.holdRow(holdId(each.hold));
          const amount = each.amount ?? hold.remaining;
          const transfer = transferRow(books.newId(), { from: payer, to, amount }, books.now);
          const because = { cause: Entry_Cause.TRANSFER, id: transfer.id };
          books.insert("transfer", transfer);
          books.capture({ hold: hold.id, to, amount: each.amount, because });
          return { id: transfer.id };
        },
      };
    }
    case "release": {
      const payer = walletId(model.holds[each.hold]?.wallet ?? -1);
      return {
        touches: { hold: [holdId(each.hold)], wallet: [payer] },
        decide: (books) => ({ id: books.release({ hold: holdId(each.hold) }).id }),
      };
    }
    case "turn": {
      const id = walletId(each.wallet);
      return {
        touches: { wallet: [id] },
        decide: (books) => books.setState(id, STATES[each.state]),
      };
    }
    case "freeze":
    case "unfreeze": {
      const order = { walletId: walletId(each.wallet), reason: "for a test", apiKeyId: 1n };
      return each.do === "freeze" ? freezeWallet(order) : unfreezeWallet(order);
    }
    case "topUp":
    case "withdraw":
    case "draw": {
      const bankAccountId = bankIds[each.bank] ?? MISSING;
      const main = walletId(model.accounts[each.by]?.wallets[0] ?? WALLETS.length);
      const owner = { accountId: accountId(each.by), walletId: main };
      const { amount } = each;
      if (each.do === "draw") {
        return intendDraw(RULES, owner, { amount, key: onceKeyOf("model draw", `${run} ${each.key}`), bankAccountId });
      }
      const idempotencyKey = each.key === undefined ? randomUUID() : `${run} ${each.key}`;
      const intend = each.do === "topUp" ? intendTopUp : intendWithdrawal;
      return intend(RULES, owner, { idempotencyKey, bankAccountId, amount });
    }
    case "settle": {
      const missing = { id: MISSING, walletId: MISSING, holdId: null, amount: 1n } as BankTransferRow;
      const transfer = bankTransfers[each.transfer] ?? missing;
      return settle(transfer, each.outcome === "approved" ? approved(transfer.amount) : declined);
    }
    case "rename":
      return updateProfile(accountId(each.account), { displayName: each.name });
    case "give": {
      const sender = { accountId: accountId(0), walletId: walletId(each.from) };
      const order = {
        idempotencyKey: randomUUID(),
        recipientWalletId: walletId(each.to),
        amount: each.amount,
        memo: "",
      };
      const rules = { limits: undefined, remindBeforeMs: 0 };
      return sendGift(sender, { ...order, expireAfterMs: each.hours * 3_600_000 }, rules);
    }
    case "end": {
      const gift = gifts[each.gift];
      if (!gift) return { touches: {}, decide: noGift };
      if (each.how === "accept") return acceptGift(gift, {});
      if (each.how === "decline") return declineGift(gift, {});
      return each.how === "cancel" ? cancelGift(gift, {}) : expireGift(gift);
    }
    case "close": {
      const own = (model.accounts[each.account]?.wallets ?? []).map(walletId);
      const bankAccountIds = bankIds.filter((_, bank) => BANKS[bank]?.account === each.account);
      const read = (numbers: number[] = []) => numbers.map((number) => gifts[number] as GiftRow);
      const waiting = { sent: read(each.seenSent), received: read(each.seenReceived), more: false };
      const { touches, decide } = closeAccount(
        accountId(each.account),
        { walletIds: own, bankAccountIds, gifts: waiting },
        { handOver: each.handOver ? handOver : undefined },
      );
      return { touches, decide: (books) => ({ id: accountId(each.account), ...decide(books) }) };
    }
  }
}

function noGift(): never {
  throw new Error("there is no such gift");
}

function send(from: bigint, to: bigint, { amount, byOperator, key }: Step & { do: "send" }, scopedKey: string) {
  const idempotencyKey = onceKeyOf("model", scopedKey);
  const command: Command<TransferRow> = {
    touches: { wallet: [from, to] },
    decide: (books) => move(books, from, to, amount, { byOperator, ...(key !== undefined && { idempotencyKey }) }),
  };
  if (key === undefined) return command;
  const isRepeat = (first: TransferRow) =>
    first.senderWalletId === from && first.recipientWalletId === to && first.amount === amount;
  return { ...command, once: { by: "transfer" as const, key: idempotencyKey, isRepeat } };
}

function move(
  books: Books,
  from: bigint,
  to: bigint,
  amount: bigint,
  { byOperator, ...fields }: { byOperator?: boolean; idempotencyKey?: Buffer } = {},
): TransferRow {
  const transfer = { ...transferRow(books.newId(), { from, to, amount }, books.now), ...fields };
  books.move({ from, to, amount, because: { cause: Entry_Cause.TRANSFER, id: transfer.id }, byOperator });
  books.tell("transfer.completed", [from, to], { transferId: transfer.id, amount });
  return books.insert("transfer", transfer);
}

/** How each gift ended, or that it waits, and who has its money. */
async function expectSameGifts(model: Model, giftIds: bigint[]) {
  const stored = (await readGifts(giftIds)).map((gift) => ({ state: gift.state, handed: gift.handOverTime !== null }));
  expect(stored).toEqual(model.gifts.map(({ state, handed }) => ({ state: GIFT_STATES[state], handed })));
}

/** Balances, what is held, and every entry with the balance after it, wallet by wallet. */
async function expectSameBooks(model: Model, walletIds: bigint[], holdIds: bigint[], accountIds: bigint[]) {
  const { db } = ledger;
  const wallets = await db.selectFrom("wallet").selectAll().where("id", "in", walletIds).orderBy("id").execute();
  const postings = await db
    .selectFrom("posting")
    .selectAll()
    .where((on) => on.or([on("debitWalletId", "in", walletIds), on("creditWalletId", "in", walletIds)]))
    .execute();
  const stored = wallets.map(({ id, state, balance, held, sequence }) => ({
    state,
    balance,
    held,
    sequence,
    entries: postings
      .flatMap((posting) => [
        {
          wallet: posting.debitWalletId,
          sequence: posting.debitSequence,
          change: -posting.amount,
          balance: posting.debitBalance,
        },
        {
          wallet: posting.creditWalletId,
          sequence: posting.creditSequence,
          change: posting.amount,
          balance: posting.creditBalance,
        },
      ])
      .filter(({ wallet }) => wallet === id)
      .sort((a, b) => Number(a.sequence - b.sequence))
      .map((entry, i) => ({ number: entry.sequence - BigInt(i), change: entry.change, balance: entry.balance })),
  }));
  expect(stored).toEqual(
    model.wallets.map(({ state, balance, held, entries }) => ({
      state: STATES[state],
      balance,
      held,
      sequence: BigInt(entries.length),
      entries: entries.map((entry) => ({ number: 1n, ...entry })),
    })),
  );

  const accounts = await db.selectFrom("account").selectAll().where("id", "in", accountIds).orderBy("id").execute();
  expect(accounts.map(({ state, displayName, walletCount }) => ({ state, displayName, walletCount }))).toEqual(
    model.accounts.map(({ state, name, wallets: own }) => ({
      state: state === "open" ? Account_State.OPEN : Account_State.CLOSED,
      displayName: name,
      walletCount: own.length,
    })),
  );

  const holds = await db
    .selectFrom("hold")
    .selectAll()
    .where("walletId", "in", walletIds)
    .where("cause", "=", Entry_Cause.TRANSFER)
    .execute();
  const remaining = new Map(holds.map((hold) => [hold.id, hold.remaining]));
  expect(holdIds.map((id) => remaining.get(id))).toEqual(model.holds.map((hold) => hold.remaining));
  expect(holds.length).toBe(model.holds.length);
}

const OUTCOMES: Record<number, string> = {
  [BankTransfer_State.PENDING]: "open",
  [BankTransfer_State.SUCCEEDED]: "approved",
  [BankTransfer_State.FAILED]: "declined",
};

/** What became of all that was begun with banks, what is set aside for it, and what counts. */
async function expectSameBanks(model: Model, walletIds: bigint[], begun: BankTransferRow[]) {
  const { db } = ledger;
  const rows = await db
    .selectFrom("bankTransfer")
    .leftJoin("hold", "hold.id", "bankTransfer.holdId")
    .select(["bankTransfer.id", "bankTransfer.amount", "bankTransfer.state", "bankTransfer.walletId", "hold.remaining"])
    .where("bankTransfer.walletId", "in", walletIds)
    .execute();
  const stored = begun.map((one) => rows.find(({ id }) => id === one.id));
  expect(
    stored.map((row) => ({
      wallet: walletIds.indexOf(row?.walletId ?? 0n),
      amount: row?.amount,
      held: row?.remaining ?? 0n,
      state: OUTCOMES[row?.state ?? 0],
    })),
  ).toEqual(model.bankTransfers.map(({ wallet, amount, held, state }) => ({ wallet, amount, held, state })));
  expect(rows).toHaveLength(begun.length);

  const allowances = await db.selectFrom("allowance").selectAll().where("id", "in", walletIds).execute();
  const counted = walletIds.map((id) => allowances.find((row) => row.id === id));
  expect(counted.map((row) => [row?.drawn ?? 0n, row?.bankTransfers ?? 0])).toEqual(
    walletIds.map((_, wallet) => [
      model.drawn[wallet] ?? 0n,
      model.bankTransfers.filter((transfer) => transfer.wallet === wallet && transfer.state === "open").length,
    ]),
  );
}
