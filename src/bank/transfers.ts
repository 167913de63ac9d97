import { setTimeout as sleep } from "node:timers/promises";
import { Reason } from "../../gen/chatpay/error/v1/error_pb.ts";
import { BankTransfer_Kind, BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import type { BankTransferRow } from "../db/schema.ts";
import { bankDeclined, deadlineExceeded, reasonOf } from "../errors.ts";
import type { Result } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { seoulDay } from "../seoul.ts";
import type { Bank } from "./bank.ts";
import {
  type BankOrder,
  intendTopUp,
  intendWithdrawal,
  isEnded,
  keyOf,
  MOVEMENTS,
  type Owner,
  type Rules,
  settle,
} from "./commands.ts";
import { BankingError, type Declined, type DepositOrder, NOT_SENT, type Outcome } from "./openbanking/contract.ts";
import { findBankTransfer, findBankTransferByKey, getBankAccount, measureOpen, setUnknown } from "./queries.ts";
import { contexts } from "./vault.ts";

/** What the bank did not say is asked so soon; then with pauses that grow, see jobs.ts. */
const FIRST_INQUIRY_MS = 1_000;
/** How often whoever waits for an outcome looks at it: at first, and at most. */
const LOOK_MS = 50;
const LOOK_MAX_MS = 2_000;
/** A call so shortly before midnight may have reached the centre on the next day. */
const MIDNIGHT_MS = 5 * 60_000;

/** Moves money between wallets and banks, and finds out what became of it. */
export type BankTransfers = ReturnType<typeof openBankTransfers>;

export function openBankTransfers(app: Pick<App, "config" | "db" | "redis" | "lane" | "log" | "metrics">, bank: Bank) {
  const { config, db, lane, log, metrics } = app;
  const { settings, banking, tokens, vault } = bank;
  const pins = openPins(app);
  metrics.watchBankTransfers(() => measureOpen(db));
  /** Nothing that moves money is sent so long after it was intended. */
  const sendMs = 2 * settings.timeoutMs;
  const rules: Rules = {
    tiers: config.tiers,
    institutionCode: settings.institutionCode,
    // What was sent at the last moment has reached the centre by then.
    silenceMs: 2 * sendMs,
  };

  /** Asks the bank, once and never again: it is only inquired about after this. */
  async function ask(transfer: BankTransferRow): Promise<Outcome> {
    const isOut = transfer.kind === BankTransfer_Kind.WITHDRAWAL;
    try {
      return await (isOut ? payOut(transfer) : draw(transfer));
    } catch (error) {
      // All these come before the bank is asked to move anything, or instead. No consent stands behind what goes out.
      if (error instanceof BankingError) return error.kind === "token" && !isOut ? CONSENT_OVER : NOT_REACHED;
      if (reasonOf(error) === Reason.BANK_CONSENT_MISSING) return CONSENT_OVER;
      log.error({ err: error, bankTransfer: String(transfer.id) }, "a bank was not asked, or not understood");
      return { is: "unknown", why: "error" };
    }
  }

  /**
   * Sends what moves money, or nothing when it took so long until here: for a token, or because this process stood still.
   * Somebody may ask about it by now, and must not hear that there is nothing when there is something yet to come.
   */
  const inTime = async ({ createTime }: BankTransferRow, send: () => Promise<Outcome>): Promise<Outcome> =>
    Date.now() - createTime.getTime() > sendMs ? NOT_REACHED : send();

  async function draw(transfer: BankTransferRow): Promise<Outcome> {
    const { accountId, bankAccountId, tranId, amount } = transfer;
    const { fintechUseNum, holderName } = await getBankAccount(db, bankAccountId);
    return tokens.withUserToken(accountId, (token) =>
      inTime(transfer, () =>
        banking.withdraw(token, {
          tranId,
          fintechUseNum,
          amount,
          time: new Date(),
          purpose: "RC",
          memberNumber: String(accountId),
          memberName: holderName,
          memberFintechUseNum: fintechUseNum,
          printOurs: String(accountId),
          printTheirs: PRINTED,
        }),
      ),
    );
  }

  async function payOut(transfer: BankTransferRow): Promise<Outcome> {
    const { accountId, bankAccountId, tranId, amount } = transfer;
    const { id, fintechUseNum, bankCode, numberSealed, holderName } = await getBankAccount(db, bankAccountId);
    let to: DepositOrder["to"] = { fintechUseNum };
    if (fintechUseNum === "") {
      // It was unlinked in the moment since the money was set aside.
      if (!numberSealed) return UNLINKED;
      const accountNumber = vault.open(numberSealed, contexts.number(id));
      if (accountNumber === undefined) return UNREADABLE;
      to = { bankCode, accountNumber, holderName };
    }
    return tokens.withInstitutionToken((token) =>
      inTime(transfer, () =>
        banking.deposit(token, {
          tranId,
          amount,
          time: new Date(),
          memberNumber: String(accountId),
          printOurs: String(accountId),
          printTheirs: PRINTED,
          to,
        }),
      ),
    );
  }

  const count = ({ kind }: BankTransferRow, outcome: Outcome) =>
    metrics.observeBankAnswer(MOVEMENTS[kind] ?? "unspecified", outcome.is);

  /** Writes down what was heard: settles it, or notes that nobody knows. The row as it is then. */
  async function conclude(transfer: BankTransferRow, outcome: Outcome): Promise<BankTransferRow> {
    count(transfer, outcome);
    if (outcome.is !== "unknown") {
      const { value } = await lane.submit(settle(transfer, outcome));
      const fits = (value.state === BankTransfer_State.SUCCEEDED) === (outcome.is === "approved");
      if (!fits) log.error({ bankTransfer: String(transfer.id), outcome: outcome.is }, "the bank has changed its word");
      return value;
    }
    log.warn({ bankTransfer: String(transfer.id), why: outcome.why }, "a bank transfer is not known to have ended");
    await setUnknown(db, transfer.id, new Date(Date.now() + FIRST_INQUIRY_MS));
    return getTransfer(transfer.id);
  }

  async function getTransfer(id: bigint): Promise<BankTransferRow> {
    const row = await findBankTransfer(db, id);
    if (!row) throw new Error(`bank transfer ${id} is not there`);
    return row;
  }

  /** Carries out what was intended just now. */
  const carryOut = async (transfer: BankTransferRow) => conclude(transfer, await ask(transfer));

  /** The row once it is no longer what `isAwaited` says, or as it is when the time is over. */
  async function look(id: bigint, isAwaited: (row: BankTransferRow) => boolean, untilMs: number) {
    for (let pauseMs = LOOK_MS; ; pauseMs = Math.min(2 * pauseMs, LOOK_MAX_MS)) {
      const row = await getTransfer(id);
      if (!isAwaited(row) || Date.now() >= untilMs) return row;
      await sleep(Math.min(pauseMs, Math.max(0, untilMs - Date.now())));
    }
  }

  /** What a command has begun, or had begun before. Throws BANK_DECLINED when the bank has. */
  async function begun({ value, replayed }: Result<BankTransferRow>): Promise<Result<BankTransferRow>> {
    // Whoever asked first may be asking the bank just now.
    const row = replayed
      ? await look(value.id, ({ state }) => state === BankTransfer_State.PENDING, Date.now() + settings.timeoutMs)
      : await carryOut(value);
    if (row.state === BankTransfer_State.FAILED) throw declinedOf(row);
    return { value: row, replayed };
  }

  return {
    rules,
    ask,
    conclude,
    /** Counts what was heard, for whoever settles it with something else. */
    count,

    /** Throws what `intendTopUp` refuses, and BANK_DECLINED. Goes on when the caller has gone. */
    async topUp(owner: Owner, order: BankOrder, call: Call): Promise<Result<BankTransferRow>> {
      return begun(await lane.submit(intendTopUp(rules, owner, order), call));
    },

    /** Throws what `intendWithdrawal` refuses, BANK_DECLINED, PIN_REQUIRED, PIN_WRONG, PIN_LOCKED. Goes on when the caller has gone. */
    async withdraw(owner: Owner, order: BankOrder, pin: string, call: Call): Promise<Result<BankTransferRow>> {
      await pins.check(owner.accountId, pin, {
        amount: order.amount,
        left: async () => ((await findBankTransferByKey(db, keyOf(owner, order))) ? 0n : order.amount),
      });
      return begun(await lane.submit(intendWithdrawal(rules, owner, order), call));
    },

    /** Asks what became of a transfer that nobody knows of, and settles it when the bank says. */
    async inquire(transfer: BankTransferRow): Promise<BankTransferRow> {
      const { kind, tranId, tranDate, amount, createTime } = transfer;
      const nextDate = seoulDay(new Date(createTime.getTime() + MIDNIGHT_MS));
      const dates = nextDate === tranDate ? [tranDate] : [tranDate, nextDate];
      const askedMs = Date.now();
      let outcome: Outcome | { is: "absent" } = { is: "absent" };
      for (const date of dates) {
        outcome = await tokens
          .withInstitutionToken((token) =>
            banking.getResult(token, {
              kind: kind === BankTransfer_Kind.WITHDRAWAL ? "deposit" : "withdraw",
              tranId,
              date,
              amount,
              time: new Date(),
            }),
          )
          .catch((error: unknown) => {
            if (!(error instanceof BankingError)) throw error;
            return { is: "unknown" as const, why: error.code };
          });
        if (outcome.is !== "absent") break;
      }
      if (outcome.is !== "absent") return conclude(transfer, outcome);
      // It may have been on its way to the centre still.
      const isLost = askedMs - createTime.getTime() > Math.max(settings.absentMs, rules.silenceMs);
      return conclude(transfer, isLost ? LOST : { is: "unknown", why: "absent" });
    },

    /** Waits until the bank has said what became of it. Throws DEADLINE_EXCEEDED when that takes too long. */
    async ended(id: bigint, untilMs: number): Promise<BankTransferRow> {
      const row = await look(id, (seen) => !isEnded(seen), untilMs);
      if (!isEnded(row)) throw deadlineExceeded();
      return row;
    },
  };
}

/** The refusal of a transfer that failed. */
export const declinedOf = ({ id, failureBank, failureCode, failureMessage }: BankTransferRow) =>
  bankDeclined(id, { bankCode: failureBank, code: failureCode, message: failureMessage });

const nothingDone = (code: string, message: string): Declined => ({ is: "declined", bankCode: "", code, message });
const NOT_REACHED = nothingDone(NOT_SENT, "the bank could not be reached, and nothing was done; try again later");
const CONSENT_OVER = nothingDone("CONSENT", "the consent to this bank account is over; link it again");
const UNLINKED = nothingDone("UNLINKED", "the bank account is not linked any more; nothing was done");
const UNREADABLE = nothingDone("UNREADABLE", "the number of this bank account is not known any more; link it again");
const LOST = nothingDone("ABSENT", "the request did not reach the bank, and nothing was done; try again");
/** Of a draw whose debit had been done by then. */
export const NOT_NEEDED = nothingDone("NOT_NEEDED", "the money was not needed any more, and nothing was done");

/** What people see in the books of their bank. */
const PRINTED = "ChatPay";
