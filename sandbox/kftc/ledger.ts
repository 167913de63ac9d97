import { createHash, randomInt } from "node:crypto";
import { BANKS } from "./banks.ts";
import { type Clock, seoul } from "./clock.ts";
import type { Store } from "./store.ts";

/** Someone with accounts at banks. */
export interface Citizen {
  id: string;
  name: string;
  /** yyyyMMdd */
  birthDate: string;
  /** 88 characters by which every institution knows the same person. */
  ci: string;
  /** Won that may be drawn in a day, and at once, over all banks. */
  dayLimit: bigint;
  transferLimit: bigint;
  accounts: Account[];
}

export interface Account {
  bankCode: string;
  number: string;
  holderName: string;
  /** Whose it is; undefined for the one that collects. */
  citizen: Citizen | undefined;
  alias: string;
  productName: string;
  openDate: string;
  balance: bigint;
  /** Part of the balance that nobody may draw. */
  held: bigint;
  /** The bank code that every transfer is refused with, "" for none: 416 is closed, 490 blocked by its owner, … */
  block: string;
  movements: Movement[];
}

/** One line of an account. */
export interface Movement {
  id: number;
  time: Date;
  bankCode: string;
  number: string;
  /** Won, negative when they left. */
  amount: bigint;
  balanceAfter: bigint;
  content: string;
  kind: string;
  branch: string;
  /** Of the transfer that it is one side of, or "". */
  bankTranId: string;
}

/** What an institution ordered and a bank has decided, or is about to. */
export interface Transfer {
  kind: "withdraw" | "deposit";
  bankTranId: string;
  /** yyyyMMdd in Seoul */
  date: string;
  time: Date;
  apiTranId: string;
  amount: bigint;
  account: Account;
  fintechUseNum: string;
  /** What stands on our account, and on theirs. */
  printOurs: string;
  printTheirs: string;
  memberNumber: string;
  purpose: string;
  /** The bank's word so far: 000 done, 400 in process, or a refusal. */
  code: string;
  /** Whether the won have moved, whatever the bank says of it so far. */
  isBooked: boolean;
  /** How what is in process ends. */
  plan: Plan | undefined;
}

/** The end of what a bank takes its time for: after so many result inquiries or at a time, whichever comes first. */
export interface Plan {
  /** 000, or the refusal. */
  code: string;
  inquiriesLeft: number;
  dueTime: number;
  /** The won move at once, only the word comes late. */
  isBookedAtOnce: boolean;
}

/** What a new account may say of itself. */
export interface NewAccount {
  bankCode: string;
  number?: string;
  balance?: bigint;
  alias?: string;
  productName?: string;
}

export interface NewCitizen {
  name: string;
  birthDate: string;
  ci?: string;
  dayLimit?: bigint;
  transferLimit?: bigint;
  accounts?: NewAccount[];
}

const DAY_LIMIT = 10_000_000n;
const NUMBER_LENGTH = 12;

/** As the store has them: by names in the place of each other. */
type KeptCitizen = Omit<Citizen, "accounts">;
type KeptAccount = Omit<Account, "citizen" | "movements"> & { citizenId: string | undefined };
type KeptTransfer = Omit<Transfer, "account"> & Pick<Account, "bankCode" | "number">;

/** All banks: whose the accounts are, what is on them, and every won that moved. */
export function openLedger(
  clock: Clock,
  store: Store,
  ours: { bankCode: string; number: string; holder: string; balance: bigint },
) {
  const citizens: Citizen[] = [];
  const accounts = new Map<string, Account>();
  const movements: Movement[] = [];
  const transfers: Transfer[] = [];
  const byTranId = new Map<string, Transfer[]>();
  /** By citizen and day. */
  const draws = new Map<string, Transfer[]>();
  const waiting = new Set<Transfer>();

  for (const citizen of store.list<KeptCitizen>("citizen")) citizens.push({ ...citizen, accounts: [] });
  for (const { citizenId, ...kept } of store.list<KeptAccount>("account")) {
    const citizen = citizens.find(({ id }) => id === citizenId);
    const account = { ...kept, citizen, movements: [] };
    accounts.set(nameOf(account), account);
    citizen?.accounts.push(account);
  }
  for (const movement of store.list<Movement>("movement")) {
    movements.push(movement);
    accounts.get(nameOf(movement))?.movements.push(movement);
  }
  for (const { bankCode, number, ...transfer } of store.list<KeptTransfer>("transfer")) {
    remember({ ...transfer, account: accounts.get(nameOf({ bankCode, number })) ?? nobodys(bankCode, number) });
  }

  const collecting =
    accounts.get(nameOf(ours)) ??
    openAccount(
      {
        bankCode: ours.bankCode,
        number: ours.number,
        balance: ours.balance,
        alias: "모계좌",
        productName: "기업자유예금",
      },
      ours.holder,
      undefined,
    );

  function keepCitizen(whole: Citizen) {
    const { accounts: _, ...citizen } = whole;
    store.put("citizen", citizen.id, citizen satisfies KeptCitizen);
  }

  function keepAccount(whole: Account) {
    const { citizen, movements: _, ...account } = whole;
    store.put("account", nameOf(account), { ...account, citizenId: citizen?.id } satisfies KeptAccount);
  }

  function keepTransfer({ account: { bankCode, number }, ...transfer }: Transfer) {
    store.put("transfer", transfer.apiTranId, { ...transfer, bankCode, number } satisfies KeptTransfer);
  }

  /** Where it is found by what is asked about it. */
  function remember(transfer: Transfer) {
    const { kind, bankTranId, account, date, plan } = transfer;
    transfers.push(transfer);
    append(byTranId, bankTranId, transfer);
    if (kind === "withdraw") append(draws, `${account.citizen?.id} ${date}`, transfer);
    if (plan) waiting.add(transfer);
  }

  function openAccount(account: NewAccount, holderName: string, citizen: Citizen | undefined): Account {
    const { bankCode, balance = 0n, alias = "", productName = "입출금자유예금" } = account;
    const number = account.number ?? freeNumber(bankCode);
    if (accounts.has(nameOf({ bankCode, number }))) throw new Error(`${bankCode} has an account ${number} already`);
    const openDate = seoul(clock.now()).date;
    const opened: Account = {
      bankCode,
      number,
      holderName,
      citizen,
      alias,
      productName,
      openDate,
      balance: 0n,
      held: 0n,
      block: "",
      movements: [],
    };
    accounts.set(nameOf(opened), opened);
    keepAccount(opened);
    if (balance !== 0n) book(opened, { amount: balance, content: "신규", kind: "현금" });
    return opened;
  }

  function freeNumber(bankCode: string): string {
    for (;;) {
      const tail = `${randomInt(10 ** (NUMBER_LENGTH - 3))}`.padStart(NUMBER_LENGTH - 3, "0");
      const number = `${bankCode}${tail}`;
      if (!accounts.has(nameOf({ bankCode, number }))) return number;
    }
  }

  /** Writes a line. A transfer writes two that add up to nothing; only cash and salaries come from outside. */
  function book(
    account: Account,
    line: { amount: bigint; content: string; kind: string; branch?: string; bankTranId?: string; time?: Date },
  ): Movement {
    account.balance += line.amount;
    const movement = {
      id: movements.length + 1,
      bankCode: account.bankCode,
      number: account.number,
      time: clock.now(),
      branch: "",
      bankTranId: "",
      ...line,
      balanceAfter: account.balance,
    };
    movements.push(movement);
    account.movements.push(movement);
    store.put("movement", `${movement.id}`, movement);
    keepAccount(account);
    return movement;
  }

  function bookTransfer(transfer: Transfer) {
    const { kind, amount, account, printOurs, printTheirs, bankTranId } = transfer;
    const theirs = kind === "withdraw" ? -amount : amount;
    book(account, { amount: theirs, content: printTheirs, kind: "오픈뱅킹", bankTranId });
    book(collecting, { amount: -theirs, content: printOurs, kind: "오픈뱅킹", bankTranId });
    transfer.isBooked = true;
  }

  /** What the bank says of a transfer that would be booked now: 000, or why not. */
  function judge({ kind, amount, account }: Transfer): string {
    if (account.block) return account.block;
    const payer = kind === "withdraw" ? account : collecting;
    if (payer.balance < amount) return "453";
    return payer.balance - payer.held < amount ? "454" : "000";
  }

  function settle(transfer: Transfer) {
    const { plan, isBooked } = transfer;
    if (!plan) return;
    waiting.delete(transfer);
    transfer.plan = undefined;
    transfer.code = plan.code === "000" && !isBooked ? judge(transfer) : plan.code;
    if (transfer.code === "000" && !isBooked) bookTransfer(transfer);
    keepTransfer(transfer);
  }

  return {
    citizens,
    collecting,
    transfers,
    movements,

    addCitizen(person: NewCitizen): Citizen {
      const id = `${citizens.length + 1}`;
      const { name, birthDate, ci = makeCi(`${name}${birthDate}${id}`) } = person;
      const { dayLimit = DAY_LIMIT, transferLimit = DAY_LIMIT } = person;
      const citizen: Citizen = { id, name, birthDate, ci, dayLimit, transferLimit, accounts: [] };
      citizens.push(citizen);
      keepCitizen(citizen);
      for (const account of person.accounts ?? []) this.addAccount(citizen, account);
      return citizen;
    },

    addAccount(citizen: Citizen, account: NewAccount): Account {
      const opened = openAccount(account, citizen.name, citizen);
      citizen.accounts.push(opened);
      return opened;
    },

    findCitizen: (id: string) => citizens.find((citizen) => citizen.id === id),
    findAccount: (bankCode: string, number: string) => accounts.get(nameOf({ bankCode, number })),

    changeCitizen(citizen: Citizen, limits: Partial<Pick<Citizen, "dayLimit" | "transferLimit">>) {
      Object.assign(citizen, limits);
      keepCitizen(citizen);
    },

    changeAccount(account: Account, change: Partial<Pick<Account, "held" | "block">>) {
      Object.assign(account, change);
      keepAccount(account);
    },

    isBank: (code: string) => code in BANKS,
    book,

    /** Takes an order. The bank decides at once: by `word` when it has one already, by what is there otherwise. */
    enter(order: Omit<Transfer, "code" | "isBooked">, word = ""): Transfer {
      const transfer: Transfer = { ...order, code: "", isBooked: false };
      const { plan } = transfer;
      const code = word || (plan && !plan.isBookedAtOnce ? "400" : judge(transfer));
      if (code === "000") bookTransfer(transfer);
      if (code !== "000" && code !== "400") transfer.plan = undefined;
      transfer.code = transfer.plan ? "400" : code;
      remember(transfer);
      keepTransfer(transfer);
      return transfer;
    },

    /** An order as it stands, which it is one inquiry later. */
    inquire(kind: Transfer["kind"], bankTranId: string, date: string, amount: bigint): Transfer | undefined {
      const found = byTranId
        .get(bankTranId)
        ?.find((one) => one.kind === kind && one.date === date && one.amount === amount);
      if (found?.plan) {
        if (found.plan.inquiriesLeft <= 0) settle(found);
        else {
          found.plan.inquiriesLeft -= 1;
          keepTransfer(found);
        }
      }
      return found;
    },

    /** Ends what is due by now. Every call begins with it, so nobody sees what should have ended. */
    settleDue() {
      const now = clock.now().getTime();
      for (const transfer of waiting) if (transfer.plan && transfer.plan.dueTime <= now) settle(transfer);
    },

    /** What was drawn from somebody on a day, and what is about to be. */
    drawnOn(citizen: Citizen, date: string): bigint {
      const counted = (draws.get(`${citizen.id} ${date}`) ?? []).filter(
        ({ code, isBooked }) => isBooked || code === "400",
      );
      return counted.reduce((sum, { amount }) => sum + amount, 0n);
    },
  };
}

const nameOf = ({ bankCode, number }: Pick<Account, "bankCode" | "number">) => `${bankCode}/${number}`;

/** An account that is not there: its bank says so. */
export const nobodys = (bankCode: string, number: string): Account => ({
  bankCode,
  number,
  holderName: "",
  citizen: undefined,
  alias: "",
  productName: "",
  openDate: "",
  balance: 0n,
  held: 0n,
  block: "412",
  movements: [],
});

function append<V>(map: Map<string, V[]>, key: string, value: V) {
  const values = map.get(key);
  if (values) values.push(value);
  else map.set(key, [value]);
}

export type Ledger = ReturnType<typeof openLedger>;

const makeCi = (text: string) => createHash("sha512").update(text).digest("base64");

/** The last three digits are for nobody else. */
export const masked = (number: string) => `${number.slice(0, -3)}***`;
