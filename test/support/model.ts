/**
 * What the ledger must do, said a second time: a few maps and the rules, without batches, databases or
 * undoing. The test of the ledger compares the two.
 */

export type Kind = "main" | "partner" | "system";
export type State = "open" | "frozen" | "closed";

export interface ModelWallet {
  kind: Kind;
  state: State;
  currency: string;
  balance: bigint;
  held: bigint;
  /** Every movement, from this wallet's side: what changed, and the balance after. */
  entries: { change: bigint; balance: bigint }[];
}

export interface ModelHold {
  wallet: number;
  remaining: bigint;
}

export interface ModelAccount {
  state: "open" | "closed";
  name: string;
  /** The numbers of its wallets. */
  wallets: number[];
}

/** Wallets, holds and accounts go by their numbers in order of making. A key makes a `send` happen once. */
export type Step =
  | { do: "send"; from: number; to: number; amount: bigint; byOperator: boolean; key?: number }
  /** A movement that is followed by another one, or by a mistake in the program. */
  | { do: "sendTwice"; from: number; to: number; onward: number; amount: bigint; mistake: boolean }
  | { do: "hold"; wallet: number; amount: bigint }
  | { do: "capture"; hold: number; to: number; amount?: bigint }
  | { do: "release"; hold: number }
  | { do: "turn"; wallet: number; state: State }
  | { do: "freeze"; wallet: number }
  | { do: "unfreeze"; wallet: number }
  | { do: "rename"; account: number; name: string }
  | { do: "close"; account: number };

/** What stands in the way of closing. */
export interface ModelObstacle {
  kind: "balance" | "hold" | "frozen";
  wallet: number;
  amount: bigint;
}

/** `step` is the number of the step that did it: of the first one, when a key was used again. */
export type Answer =
  | { is: "done"; step: number; obstacles?: ModelObstacle[] }
  | { is: "replayed"; step: number }
  | { is: "refused"; reason: string };

class Refusal extends Error {}

const MAX = 2n ** 63n - 1n;

export interface Model {
  wallets: ModelWallet[];
  holds: ModelHold[];
  accounts: ModelAccount[];
  keys: { [key: number]: { step: number; from: number; to: number; amount: bigint } };
  steps: number;
}

/** Runs steps that happen together or not at all. */
export function runTogether(model: Model, steps: Step[]): Answer[] {
  const before = structuredClone(model);
  const answers = steps.map((step, i): Answer => {
    try {
      return run(model, step, before.steps + i);
    } catch (error) {
      if (error instanceof Refusal) return { is: "refused", reason: error.message };
      throw error;
    }
  });
  const isRefused = answers.some(({ is }) => is === "refused");
  if (isRefused) Object.assign(model, before);
  model.steps = before.steps + steps.length;
  if (!isRefused) return answers;
  return answers.map((answer) =>
    answer.is === "refused" || (answer.is === "replayed" && answer.step < before.steps)
      ? answer
      : { is: "refused", reason: "BATCH_ABORTED" },
  );
}

function run(model: Model, step: Step, number: number): Answer {
  const wallet = (index: number): ModelWallet => model.wallets[index] ?? refuse("WALLET_NOT_FOUND");
  const hold = (index: number): ModelHold => model.holds[index] ?? refuse("HOLD_NOT_FOUND");
  switch (step.do) {
    case "send": {
      const { from, to, amount, byOperator, key } = step;
      const first = key === undefined ? undefined : model.keys[key];
      if (first) {
        const isSame = first.from === from && first.to === to && first.amount === amount;
        return isSame ? { is: "replayed", step: first.step } : refuse("IDEMPOTENCY_KEY_REUSED");
      }
      isAmount(amount);
      move(wallet(from), wallet(to), amount, byOperator);
      if (key !== undefined) model.keys[key] = { step: number, from, to, amount };
      break;
    }
    case "sendTwice": {
      isAmount(step.amount);
      const before = structuredClone(model.wallets);
      try {
        move(wallet(step.from), wallet(step.to), step.amount, false);
        if (step.mistake) refuse("error");
        move(wallet(step.to), wallet(step.onward), step.amount, false);
      } catch (error) {
        model.wallets = before;
        throw error;
      }
      break;
    }
    case "hold": {
      isAmount(step.amount);
      const payer = wallet(step.wallet);
      if (payer.kind === "system") refuse("error");
      mayPay(payer, false);
      isCovered(payer, step.amount);
      payer.held += step.amount;
      model.holds.push({ wallet: step.wallet, remaining: step.amount });
      break;
    }
    case "capture": {
      const held = hold(step.hold);
      const amount = step.amount ?? held.remaining;
      if (held.remaining === 0n || amount > held.remaining) refuse("HOLD_ENDED");
      isAmount(amount);
      const payer = wallet(held.wallet);
      const receiver = wallet(step.to);
      mayPay(payer, false);
      mayReceive(receiver, payer, amount);
      held.remaining -= amount;
      payer.held -= amount;
      post(payer, receiver, amount);
      break;
    }
    case "release": {
      const held = hold(step.hold);
      if (held.remaining === 0n) refuse("HOLD_ENDED");
      wallet(held.wallet).held -= held.remaining;
      held.remaining = 0n;
      break;
    }
    case "turn": {
      const turned = wallet(step.wallet);
      if (turned.state === "closed") refuse("WALLET_CLOSED");
      if (step.state === "closed" && (turned.balance !== 0n || turned.held !== 0n)) refuse("error");
      turned.state = step.state;
      break;
    }
    case "freeze":
    case "unfreeze": {
      const turned = wallet(step.wallet);
      if (turned.kind === "system") refuse("SYSTEM_WALLET");
      if (turned.state === "closed") refuse("WALLET_CLOSED");
      turned.state = step.do === "freeze" ? "frozen" : "open";
      break;
    }
    case "rename":
      openAccount(model, step.account).name = step.name;
      break;
    case "close": {
      const account = openAccount(model, step.account);
      const obstacles = obstaclesOf(model, account);
      if (obstacles.length > 0) return { is: "done", step: number, obstacles };
      for (const index of account.wallets) wallet(index).state = "closed";
      account.state = "closed";
      account.name = "";
      break;
    }
  }
  return { is: "done", step: number };
}

function openAccount(model: Model, index: number): ModelAccount {
  const account = model.accounts[index];
  return account?.state === "open" ? account : refuse("ACCOUNT_NOT_FOUND");
}

/** By kind, and within a kind by wallet. */
function obstaclesOf({ wallets }: Model, account: ModelAccount): ModelObstacle[] {
  const own = account.wallets.map((index) => ({ index, ...(wallets[index] as ModelWallet) }));
  return [
    ...own.filter(({ balance }) => balance > 0n).map(({ index, balance }) => obstacle("balance", index, balance)),
    ...own.filter(({ held }) => held > 0n).map(({ index, held }) => obstacle("hold", index, held)),
    ...own.filter(({ state }) => state === "frozen").map(({ index }) => obstacle("frozen", index, 0n)),
  ];
}

const obstacle = (kind: ModelObstacle["kind"], wallet: number, amount: bigint) => ({ kind, wallet, amount });

function move(from: ModelWallet, to: ModelWallet, amount: bigint, byOperator: boolean) {
  mayPay(from, byOperator);
  mayReceive(to, from, amount);
  isCovered(from, amount);
  post(from, to, amount);
}

function post(from: ModelWallet, to: ModelWallet, amount: bigint) {
  for (const [wallet, change] of [
    [from, -amount],
    [to, amount],
  ] as const) {
    wallet.balance += change;
    wallet.entries.push({ change, balance: wallet.balance });
  }
}

function mayPay(from: ModelWallet, byOperator: boolean) {
  if (from.state === "closed") refuse("WALLET_CLOSED");
  if (from.state === "frozen" && !byOperator) refuse("WALLET_FROZEN");
}

function mayReceive(to: ModelWallet, from: ModelWallet, amount: bigint) {
  if (to === from) refuse("SAME_WALLET");
  if (to.state === "closed") refuse("WALLET_CLOSED");
  if (to.currency !== from.currency) refuse("CURRENCY_MISMATCH");
  if (to.balance + amount > MAX) refuse("BALANCE_OVERFLOW");
}

function isCovered(from: ModelWallet, amount: bigint) {
  if (from.kind === "system") {
    if (from.balance - amount < -MAX) refuse("BALANCE_OVERFLOW");
  } else if (from.balance - from.held < amount) refuse("INSUFFICIENT_FUNDS");
}

/** An amount that is none is a mistake in the program, not a refusal that a client can act on. */
function isAmount(amount: bigint) {
  if (amount <= 0n) refuse("error");
}

function refuse(reason: string): never {
  throw new Refusal(reason);
}
