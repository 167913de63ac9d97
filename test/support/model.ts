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

/** Its money is held by nothing else. `handed` is it when its sender has left and the house has the money. */
export interface ModelGift {
  from: number;
  to: number;
  amount: bigint;
  state: "pending" | "completed" | "declined" | "canceled" | "expired";
  expireHour: number;
  handed: boolean;
}

export interface ModelAccount {
  state: "open" | "closed";
  name: string;
  /** The numbers of its wallets. */
  wallets: number[];
}

/** An account at a bank, as its owner has linked it. */
export interface ModelBank {
  account: number;
  primary: boolean;
  canDraw: boolean;
  automatic: boolean;
  unit: bigint;
}

/** Money that comes from a bank or goes to one. It is open until the bank has said what became of it. */
export interface ModelBankTransfer {
  kind: "topUp" | "withdraw" | "draw";
  wallet: number;
  amount: bigint;
  /** What is set aside for it. */
  held: bigint;
  state: "open" | "approved" | "declined";
}

/** Whose main wallet it is about, and which bank account. */
interface WithBank {
  by: number;
  bank: number;
  amount: bigint;
  key?: number;
}

/** Wallets, holds, gifts, accounts and all of banks go by their numbers in order of making. A key makes a `send` happen once. */
export type Step =
  | ({ do: "topUp" | "withdraw" } & WithBank)
  /** Of what a debit of the amount finds missing. Its key has one draw under way. */
  | ({ do: "draw" } & WithBank & { key: number })
  /** The bank has said what became of it. */
  | { do: "settle"; transfer: number; outcome: "approved" | "declined" }
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
  | { do: "give"; from: number; to: number; amount: bigint; hours: number }
  /** `seenHanded` is what was known of the gift when the step was submitted. */
  | { do: "end"; gift: number; how: Ending; seenHanded?: boolean }
  /** With what was known of the gifts that the account's wallets gave and were given. */
  | { do: "close"; account: number; handOver: boolean; seenSent?: number[]; seenReceived?: number[] };

export type Ending = "accept" | "decline" | "cancel" | "expire";

const STATE_AFTER = { accept: "completed", decline: "declined", cancel: "canceled", expire: "expired" } as const;

/** What stands in the way of closing. */
export interface ModelObstacle {
  kind: "balance" | "hold" | "frozen" | "bankTransfer" | "gift";
  /** Of a gift none: that is its account's main wallet, which these wallets are not. */
  wallet: number;
  amount: bigint;
  gift?: number;
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
  gifts: ModelGift[];
  /** The wallet of the house, in won. */
  house: ModelWallet;
  /** Time stands still while a batch of steps runs. */
  hour: number;
  accounts: ModelAccount[];
  keys: { [key: number]: { step: number; from: number; to: number; amount: bigint } };
  /** Those that were linked, in order; the linked ones. */
  banks: ModelBank[];
  linked: boolean[];
  bankTransfers: ModelBankTransfer[];
  /** What may be drawn in a day, which does not end, and what was, by wallet. */
  drawDay: bigint;
  drawn: { [wallet: number]: bigint };
  /** By owner and key. */
  bankKeys: { [key: string]: { step: number; kind: string; bank: number; amount: bigint } };
  drawKeys: { [key: number]: { step: number; transfer: number } };
  steps: number;
}

/** A debit may draw again once its draw has ended and the batch is over in which it did. */
export function endBatch(model: Model) {
  for (const [key, { transfer }] of Object.entries(model.drawKeys)) {
    if (model.bankTransfers[transfer]?.state !== "open") delete model.drawKeys[Number(key)];
  }
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
    case "topUp":
    case "withdraw": {
      const { do: kind, by, bank, amount, key } = step;
      const scoped = `${by} ${key}`;
      const first = key === undefined ? undefined : model.bankKeys[scoped];
      if (first) {
        const isSame = first.kind === kind && first.bank === bank && first.amount === amount;
        return isSame ? { is: "replayed", step: first.step } : refuse("IDEMPOTENCY_KEY_REUSED");
      }
      const begin = kind === "topUp" ? topUp : withdraw;
      model.bankTransfers.push({ kind, ...begin(model, step), state: "open" });
      if (key !== undefined) model.bankKeys[scoped] = { step: number, kind, bank, amount };
      break;
    }
    case "draw": {
      const first = model.drawKeys[step.key];
      if (first) return { is: "replayed", step: first.step };
      const drawn = draw(model, step);
      if (!drawn) break;
      model.bankTransfers.push({ kind: "draw", ...drawn, state: "open" });
      model.drawKeys[step.key] = { step: number, transfer: model.bankTransfers.length - 1 };
      break;
    }
    case "settle": {
      const transfer = model.bankTransfers[step.transfer] ?? refuse("error");
      if (transfer.state !== "open") break;
      const { kind, amount, held } = transfer;
      const owner = wallet(transfer.wallet);
      const isPaid = step.outcome === "approved";
      if (isPaid && kind !== "withdraw") {
        if (owner.state === "closed") refuse("WALLET_CLOSED");
        if (owner.balance + amount > MAX) refuse("BALANCE_OVERFLOW");
      }
      owner.held -= held;
      if (isPaid) book(owner, kind === "withdraw" ? -amount : amount);
      if (!isPaid && kind !== "withdraw") model.drawn[transfer.wallet] = drawnBy(model, transfer.wallet) - amount;
      transfer.held = 0n;
      transfer.state = step.outcome;
      break;
    }
    case "rename":
      openAccount(model, step.account).name = step.name;
      break;
    case "give": {
      const { from, to, amount, hours } = step;
      if (from === to) refuse("SAME_WALLET");
      const receiver = wallet(to);
      if (receiver.kind !== "main") refuse("WALLET_NOT_FOUND");
      if (receiver.state === "closed") refuse("WALLET_CLOSED");
      const giver = wallet(from);
      if (receiver.currency !== giver.currency) refuse("CURRENCY_MISMATCH");
      isAmount(amount);
      if (giver.kind === "system") refuse("error");
      mayPay(giver, false);
      isCovered(giver, amount);
      giver.held += amount;
      model.gifts.push({ from, to, amount, state: "pending", expireHour: model.hour + hours, handed: false });
      break;
    }
    case "end": {
      const gift = model.gifts[step.gift] ?? refuse("error");
      const { from, to, amount, handed } = gift;
      // Who knew of another owner of the money cannot accept it from them; the first owner has no part in it any more.
      if (handed && step.how === "accept" && !step.seenHanded) refuse("error");
      if (handed && step.how === "cancel") refuse("TRANSFER_NOT_FOUND");
      const isOver = model.hour >= gift.expireHour;
      const after = STATE_AFTER[step.how];
      const isNothingToDo = step.how === "expire" ? gift.state !== "pending" || !isOver : gift.state === after;
      if (isNothingToDo) break;
      if (step.how !== "expire" && (gift.state !== "pending" || isOver)) refuse("TRANSFER_ENDED");
      const giver = handed ? model.house : wallet(from);
      if (step.how === "accept") {
        mayPay(giver, false);
        mayReceive(wallet(to), giver, amount);
        post(giver, wallet(to), amount);
      }
      if (!handed) giver.held -= amount;
      gift.state = after;
      break;
    }
    case "close": {
      const account = openAccount(model, step.account);
      const sent = ownGifts(model, account, "from");
      const received = ownGifts(model, account, "to");
      // Whoever knew of fewer gifts has to look again, as when the time of one is over.
      const isKnown =
        sent.length === known(sent, step.seenSent) && received.length === known(received, step.seenReceived);
      if (!isKnown || [...sent, ...received].some(({ expireHour }) => model.hour >= expireHour)) refuse("error");
      const left = step.handOver ? received : [...sent, ...received];
      const obstacles = obstaclesOf(model, account, sent, left);
      if (obstacles.length > 0) return { is: "done", step: number, obstacles };
      for (const gift of sent) {
        const giver = wallet(gift.from);
        giver.held -= gift.amount;
        post(giver, model.house, gift.amount);
        (model.gifts[gift.gift] as ModelGift).handed = true;
      }
      for (const index of account.wallets) wallet(index).state = "closed";
      model.linked = model.linked.map((isLinked, bank) => isLinked && model.banks[bank]?.account !== step.account);
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

type OwnGift = ModelGift & { gift: number };

/** Gifts of an account's wallets that wait: those that they gave and that are theirs still, or those that they were given. */
export function ownGifts({ gifts }: Pick<Model, "gifts">, { wallets }: ModelAccount, side: "from" | "to"): OwnGift[] {
  return gifts
    .map((gift, index) => ({ ...gift, gift: index }))
    .filter((gift) => gift.state === "pending" && wallets.includes(gift[side]) && (side === "to" || !gift.handed));
}

const known = (gifts: OwnGift[], seen: number[] = []) => gifts.filter(({ gift }) => seen.includes(gift)).length;

/** By kind, and within a kind by wallet; the money of gifts is listed by gift. */
function obstaclesOf(
  { wallets, bankTransfers }: Model,
  account: ModelAccount,
  sent: OwnGift[],
  left: OwnGift[],
): ModelObstacle[] {
  const isUnderWay = (index: number) => bankTransfers.some(({ wallet, state }) => wallet === index && state === "open");
  const own = account.wallets.map((index) => {
    const wallet = wallets[index] as ModelWallet;
    const given = sent.filter(({ from }) => from === index).reduce((sum, { amount }) => sum + amount, 0n);
    return { index, ...wallet, balance: wallet.balance - given, held: wallet.held - given };
  });
  return [
    ...own.filter(({ balance }) => balance > 0n).map(({ index, balance }) => obstacle("balance", index, balance)),
    ...own.filter(({ held }) => held > 0n).map(({ index, held }) => obstacle("hold", index, held)),
    ...own.filter(({ state }) => state === "frozen").map(({ index }) => obstacle("frozen", index, 0n)),
    ...own.filter(({ index }) => isUnderWay(index)).map(({ index }) => obstacle("bankTransfer", index, 0n)),
    ...left.map(({ gift, amount }) => ({ ...obstacle("gift", -1, amount), gift })),
  ];
}

const obstacle = (kind: ModelObstacle["kind"], wallet: number, amount: bigint) => ({ kind, wallet, amount });

type Begun = Pick<ModelBankTransfer, "wallet" | "amount" | "held">;

function topUp(model: Model, { by, bank, amount }: WithBank): Begun {
  const wallet = mainWallet(model, by);
  if (walletOf(model, wallet).state === "closed") refuse("WALLET_CLOSED");
  drawable(model, by, bank);
  countDraw(model, wallet, amount);
  return { wallet, amount, held: 0n };
}

function withdraw(model: Model, { by, bank, amount }: WithBank): Begun {
  linkedBank(model, by, bank);
  const wallet = mainWallet(model, by);
  const payer = walletOf(model, wallet);
  mayPay(payer, false);
  isCovered(payer, amount);
  payer.held += amount;
  return { wallet, amount, held: amount };
}

function draw(model: Model, { by, bank, amount: debit }: WithBank): Begun | undefined {
  const wallet = mainWallet(model, by);
  const payer = walletOf(model, wallet);
  mayPay(payer, false);
  const { primary, automatic, unit } = drawable(model, by, bank);
  if (!primary || !automatic) refuse("BANK_CONSENT_MISSING");
  const held = payer.balance - payer.held;
  const missing = debit - held;
  if (missing <= 0n) return undefined;
  const rounded = missing % unit === 0n ? missing : missing + unit - (missing % unit);
  const amount = drawnBy(model, wallet) + rounded <= model.drawDay ? rounded : missing;
  countDraw(model, wallet, amount);
  payer.held += held;
  return { wallet, amount, held };
}

const mainWallet = (model: Model, account: number): number =>
  model.accounts[account]?.wallets[0] ?? model.wallets.length;

const walletOf = (model: Model, index: number): ModelWallet => model.wallets[index] ?? refuse("WALLET_NOT_FOUND");

function linkedBank(model: Model, account: number, index: number): ModelBank {
  const bank = model.banks[index];
  return bank && bank.account === account && model.linked[index] ? bank : refuse("BANK_ACCOUNT_NOT_FOUND");
}

function drawable(model: Model, account: number, index: number): ModelBank {
  const bank = linkedBank(model, account, index);
  return bank.canDraw ? bank : refuse("BANK_CONSENT_MISSING");
}

const drawnBy = (model: Model, wallet: number): bigint => model.drawn[wallet] ?? 0n;

function countDraw(model: Model, wallet: number, amount: bigint) {
  const drawn = drawnBy(model, wallet) + amount;
  if (drawn > model.drawDay) refuse("DRAW_LIMIT_EXCEEDED");
  model.drawn[wallet] = drawn;
}

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
  ] as const)
    book(wallet, change);
}

function book(wallet: ModelWallet, change: bigint) {
  wallet.balance += change;
  wallet.entries.push({ change, balance: wallet.balance });
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
