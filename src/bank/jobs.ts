import type { App } from "../app.ts";
import type { BankAccountRow, BankTransferRow } from "../db/schema.ts";
import { periodic, sweep } from "../job/periodic.ts";
import type { Item, Job } from "../job/runner.ts";
import { seoulDayNumber } from "../seoul.ts";
import type { Bank } from "./bank.ts";
import { isEnded } from "./commands.ts";
import { tellLinks } from "./links.ts";
import {
  claimRevocations,
  claimUnknown,
  claimUntold,
  deleteConsents,
  deleteTranClaims,
  endLease,
  measureRevocations,
  measureUnknown,
  measureUntold,
  putOffRevocation,
  putOffUnknown,
  putOffUntold,
} from "./queries.ts";
import { BankingError } from "./openbanking/contract.ts";
import { openResealing } from "./reseal.ts";
import { openRevocations } from "./revoke.ts";
import type { BankTransfers } from "./transfers.ts";

const HOUR_MS = 60 * 60_000;
const DAY_MS = 24 * HOUR_MS;
/** Ids of calls are new in a day; those of a few days tell what was asked when something has gone wrong. */
const CLAIMS_DAYS = 7;

/** What is done for banks in the background; nothing where open banking is not configured. */
export function bankJobs(app: App): Job[] {
  const { db, bank, bankTransfers } = app;
  if (!bank || !bankTransfers) return [];
  return [
    tell(app),
    revoke(app, bank),
    inquire(app, bankTransfers),
    periodic(db, {
      name: "bank.consents",
      everyMs: HOUR_MS,
      run: sweep((limit) => deleteConsents(db, new Date(Date.now() - DAY_MS), limit)),
    }),
    periodic(db, {
      name: "bank.tran_ids",
      everyMs: HOUR_MS,
      run: sweep((limit) => deleteTranClaims(db, seoulDayNumber(new Date(Date.now() - CLAIMS_DAYS * DAY_MS)), limit)),
    }),
    ...(app.config.acceptedBankSecrets.length === 0
      ? []
      : [periodic(db, { name: "bank.reseal", everyMs: HOUR_MS, run: openResealing(app, bank) })]),
  ];
}

/** Tells the log of links that were made by a process that died, or while the lane had no room. */
function tell({ db, lane }: App): Job<BankAccountRow & Item> {
  return {
    name: "bank.tell",
    claim: async (claim) => (await claimUntold(db, claim)).map((row) => ({ ...row, tries: 1 })),
    async run(row) {
      await lane.submit(tellLinks([row.id]));
      await endLease(db, row);
      return "done";
    },
    putOff: (row, dueTime) => putOffUntold(db, row, dueTime),
    measure: () => measureUntold(db),
    runsMax: 5,
    timeoutMs: 30_000,
    idleMs: 5_000,
    pauses: { firstMs: 5_000, maxMs: 5_000 },
  };
}

/** Tells KFTC of what is not linked any more, until it has heard. */
function revoke(app: App, bank: Bank): Job<BankAccountRow & Item> {
  const { db } = app;
  const revocations = openRevocations(app, bank);
  return {
    name: "bank.revoke",
    claim: async (claim) => (await claimRevocations(db, claim)).map((row) => ({ ...row, tries: row.revokeTries })),
    async run(row) {
      try {
        await revocations.tell(row);
        return "done";
      } catch (error) {
        // That KFTC or a bank is away is nothing to report.
        if (error instanceof BankingError && error.kind === "unavailable") return "later";
        throw error;
      }
    },
    putOff: (row, dueTime) => putOffRevocation(db, row, dueTime),
    measure: () => measureRevocations(db),
    runsMax: 5,
    timeoutMs: 2 * 60_000,
    idleMs: 5_000,
    pauses: { firstMs: 2_000, maxMs: 6 * HOUR_MS },
  };
}

/** Asks banks what became of the transfers that nobody knows of. */
function inquire({ db }: App, transfers: BankTransfers): Job<BankTransferRow & Item> {
  return {
    name: "bank.inquire",
    claim: async (claim) => (await claimUnknown(db, claim)).map((row) => ({ ...row, tries: row.inquiries })),
    run: async (row) => (isEnded(await transfers.inquire(row)) ? "done" : "later"),
    putOff: (row, dueTime) => putOffUnknown(db, row, dueTime),
    measure: () => measureUnknown(db),
    runsMax: 20,
    timeoutMs: 2 * 60_000,
    idleMs: 1_000,
    pauses: { firstMs: 1_000, maxMs: 6 * HOUR_MS },
  };
}
