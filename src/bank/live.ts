import { LiveBalance_Status } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { Reason } from "../../gen/chatpay/error/v1/error_pb.ts";
import type { App } from "../app.ts";
import type { BankAccountRow } from "../db/schema.ts";
import { bankAccountNotFound, bankConsentMissing, reasonOf, requestInvalid } from "../errors.ts";
import { fromSeoul } from "../seoul.ts";
import type { Bank } from "./bank.ts";
import { BankingError, type TransactionPage } from "./openbanking/contract.ts";
import { findLinked } from "./queries.ts";
import { isConsentMissing, refusalFor } from "./refusals.ts";
import { claimTranId } from "./tranid.ts";

/** All banks together get so long to tell their balances. */
const BALANCES_MS = 5_000;
/** Between a day and the same of the next year, as 20261231. */
const YEAR = 10_000;

/** What a bank said of an account just now. */
export interface Live {
  status: LiveBalance_Status;
  balance: bigint;
  available: bigint;
  /** In the bank's words. */
  message: string;
}

/** A part of the bank's own statement: days as 2026-12-31, and where the page before ended; empty for the first. */
export interface Pages {
  startDate: string;
  endDate: string;
  trace: string;
}

/** Asks banks what they know of linked accounts, as of now. Nothing of it is kept. */
export function openLive({ db, log }: App, { settings, banking, tokens }: Bank) {
  /** Makes a call with the owner's token and an id of its own. */
  const ask = <T>(
    { accountId, fintechUseNum }: BankAccountRow,
    call: (token: string, query: { tranId: string; fintechUseNum: string; time: Date }) => Promise<T>,
  ) =>
    tokens.withUserToken(accountId, async (token) => {
      const time = new Date();
      return call(token, { tranId: await claimTranId(db, settings.institutionCode, time), fintechUseNum, time });
    });

  async function getBalance(row: BankAccountRow): Promise<Live> {
    if (row.canInquire === 0) return without(LiveBalance_Status.CONSENT_MISSING);
    try {
      const { balance, available } = await ask(row, banking.getBalance);
      return { status: LiveBalance_Status.OK, balance, available, message: "" };
    } catch (error) {
      if (reasonOf(error) === Reason.BANK_CONSENT_MISSING) return without(LiveBalance_Status.CONSENT_MISSING);
      if (!(error instanceof BankingError)) {
        log.error({ err: error, bankAccount: String(row.id) }, "a balance was not asked for");
        return without(LiveBalance_Status.UNAVAILABLE);
      }
      if (isConsentMissing(error)) return without(LiveBalance_Status.CONSENT_MISSING);
      if (error.kind !== "refused") return without(LiveBalance_Status.UNAVAILABLE);
      return without(LiveBalance_Status.REFUSED, error.bankMessage);
    }
  }

  return {
    /** What the bank of each says; none waits for another. */
    async balancesOf(rows: BankAccountRow[]): Promise<Live[]> {
      const late = Promise.withResolvers<Live>();
      const timer = setTimeout(() => late.resolve(without(LiveBalance_Status.UNAVAILABLE)), BALANCES_MS);
      const balances = await Promise.all(rows.map((row) => Promise.race([getBalance(row), late.promise])));
      clearTimeout(timer);
      return balances;
    },

    /** Throws BANK_ACCOUNT_NOT_FOUND, BANK_CONSENT_MISSING, BANK_REFUSED, DEPENDENCY_UNAVAILABLE, REQUEST_INVALID. */
    async listEntries(accountId: bigint, id: bigint, { startDate, endDate, trace }: Pages): Promise<TransactionPage> {
      const days = readDays(startDate, endDate);
      const row = await findLinked(db, accountId, id);
      if (!row) throw bankAccountNotFound(id);
      if (row.canInquire === 0) throw bankConsentMissing(id);
      try {
        return await ask(row, (token, query) =>
          banking.listTransactions(token, { ...query, ...days, direction: "all", trace }),
        );
      } catch (error) {
        throw refusalFor(row, error);
      }
    },
  };
}

const without = (status: LiveBalance_Status, message = ""): Live => ({ status, balance: 0n, available: 0n, message });

/** Days as KFTC writes them. */
function readDays(startDate: string, endDate: string) {
  const [fromDate, toDate] = [dayOf("start_date", startDate), dayOf("end_date", endDate)];
  if (toDate < fromDate) throw requestInvalid("end_date: must not be before start_date");
  if (Number(toDate) > Number(fromDate) + YEAR) throw requestInvalid("end_date: must be within a year of start_date");
  return { fromDate, toDate };
}

/** As 20261231. */
function dayOf(field: string, text: string): string {
  const day = text.replaceAll("-", "");
  if (!fromSeoul(`${day}000000`)) throw requestInvalid(`${field}: must be a day of the calendar`);
  return day;
}
