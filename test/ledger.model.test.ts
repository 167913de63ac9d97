import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { afterAll, expect, test, vi } from "vitest";
import { Account_State, ClosingObstacle_Kind } from "../gen/chatpay/account/v1/account_pb.ts";
import { Entry_Cause, Wallet_Kind, Wallet_State } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { updateProfile } from "../src/account/account.ts";
import { closeAccount, type Obstacle } from "../src/account/closing.ts";
import type { TransferRow } from "../src/db/schema.ts";
import type { Books } from "../src/ledger/books.ts";
import type { Command } from "../src/ledger/command.ts";
import { onceKeyOf } from "../src/ledger/once.ts";
import { freezeWallet, unfreezeWallet } from "../src/wallet/wallet.ts";
import { accountRow, answerOf, chooseSeed, makeBooks, openLedger, transferRow } from "./support/load.ts";
import {
  type Answer,
  type Model,
  type ModelAccount,
  type ModelObstacle,
  type ModelWallet,
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
/** One more than there are: a wallet that nobody has made. */
const walletIndex = fc.nat({ max: WALLETS.length });
const accountIndex = fc.nat({ max: ACCOUNTS });
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
  { weight: 1, arbitrary: fc.record({ do: fc.constant("turn" as const), wallet: walletIndex, state: anyState }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("freeze" as const), wallet: walletIndex }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("unfreeze" as const), wallet: walletIndex }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("close" as const), account: accountIndex }) },
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

test("the lane does what the model does", { timeout: 120_000 }, async () => {
  // The lane looks keys up beforehand only while repeats are likely: in half of the batches it has no reason to.
  let hours = 0;
  const now = performance.now.bind(performance);
  vi.spyOn(performance, "now").mockImplementation(() => now() + hours * 3_600_000);
  let commands = 0;
  const property = fc.asyncProperty(program, async (groups) => {
    const { walletIds, accountIds } = await openWallets();
    const holdIds: bigint[] = [];
    const stepOfTransfer = new Map<bigint, number>();
    const model: Model = { wallets: WALLETS.map(emptyWallet), holds: [], accounts: newAccounts(), keys: {}, steps: 0 };
    const run = randomUUID();

    for (const [number, group] of [FIRST_MONEY, ...groups].entries()) {
      if (number % 2 === 0) hours += 1;
      const units = group.map((steps) => steps.map((each) => onKnownHolds(each, holdIds.length)));
      const submitted = units.map((steps) =>
        ledger.lane.submitTogether(
          steps.map((each) => commandOf(each, { walletIds, accountIds, holdIds, model, run })),
        ),
      );
      const firstStep = model.steps;
      const expected = units.flatMap((steps) => runTogether(model, steps));
      const settled = (await Promise.all(submitted)).flat();

      const answers = settled.map((outcome, i): Answer => {
        if (!outcome.result) return { is: "refused", reason: answerOf(outcome) };
        const { value, replayed } = outcome.result;
        if (replayed) return { is: "replayed", step: stepOfTransfer.get(value.id) ?? -1 };
        stepOfTransfer.set(value.id, firstStep + i);
        if (units.flat()[i]?.do === "hold") holdIds.push(value.id);
        const obstacles = "obstacles" in value ? value.obstacles : undefined;
        return { is: "done", step: firstStep + i, ...(obstacles && { obstacles: inNumbers(obstacles, walletIds) }) };
      });
      expect(answers).toEqual(expected);
      commands += answers.length;
    }
    await expectSameBooks(model, walletIds, holdIds, accountIds);
  });

  await fc.assert(property, { numRuns: RUNS, seed: chooseSeed("ledger.model") });

  console.log(`ledger.model: ${commands} commands`);
  expect(commands).toBeGreaterThan(RUNS * 20);
  expect(await differencesIn(databaseUrl)).toEqual([]);
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

async function openWallets(): Promise<{ walletIds: bigint[]; accountIds: bigint[] }> {
  const walletIds = WALLETS.map(() => ledger.newId());
  const accountIds = Array.from({ length: ACCOUNTS }, () => ledger.newId());
  await ledger.lane.submit({
    touches: {},
    decide(books) {
      for (const id of accountIds) books.insert("account", accountRow(id, id, books.now));
      WALLETS.forEach(({ kind, currency, account = -1 }, i) => {
        const wallet = { id: walletIds[i] as bigint, kind: KINDS[kind], accountId: accountIds[account] };
        Object.assign(books.openWallet(wallet), { currency });
      });
    },
  });
  return { walletIds, accountIds };
}

const OBSTACLES: Record<number, ModelObstacle["kind"]> = {
  [ClosingObstacle_Kind.BALANCE]: "balance",
  [ClosingObstacle_Kind.HOLD]: "hold",
  [ClosingObstacle_Kind.FROZEN]: "frozen",
};

const inNumbers = (obstacles: Obstacle[], walletIds: bigint[]) =>
  obstacles.map(({ kind, walletId, amount }) => ({
    kind: OBSTACLES[kind] as ModelObstacle["kind"],
    wallet: walletIds.indexOf(walletId),
    amount,
  }));

/** The id of a hold is known when its batch has been answered; another batch may use it then. */
const onKnownHolds = (each: Step, known: number): Step =>
  (each.do === "capture" || each.do === "release") && each.hold >= known ? { ...each, hold: -1 } : each;

interface Run {
  walletIds: bigint[];
  accountIds: bigint[];
  holdIds: bigint[];
  model: Model;
  run: string;
}

/** What a command made or changed, or why it did not. */
type Made = { id: bigint; obstacles?: Obstacle[] };

/** The step as a command of the lane. */
function commandOf(each: Step, { walletIds, accountIds, holdIds, model, run }: Run): Command<Made> {
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
    case "rename":
      return updateProfile(accountId(each.account), { displayName: each.name });
    case "close": {
      const own = (model.accounts[each.account]?.wallets ?? []).map(walletId);
      const { touches, decide } = closeAccount(accountId(each.account), { walletIds: own, bankAccountIds: [] });
      return { touches, decide: (books) => ({ id: accountId(each.account), ...decide(books) }) };
    }
  }
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

  const holds = await db.selectFrom("hold").selectAll().where("walletId", "in", walletIds).execute();
  const remaining = new Map(holds.map((hold) => [hold.id, hold.remaining]));
  expect(holdIds.map((id) => remaining.get(id))).toEqual(model.holds.map((hold) => hold.remaining));
  expect(holds.length).toBe(model.holds.length);
}
