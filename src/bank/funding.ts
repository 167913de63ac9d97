import { BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { Reason } from "../../gen/chatpay/error/v1/error_pb.ts";
import type { App } from "../app.ts";
import type { BankTransferRow } from "../db/schema.ts";
import { reasonOf } from "../errors.ts";
import { ONCE } from "../ledger/books.ts";
import type { Command, Result, Settled } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { intendDraw, type Owner, settle } from "./commands.ts";
import { findPrimary, isAnyThere } from "./queries.ts";
import { type BankTransfers, declinedOf, NOT_NEEDED } from "./transfers.ts";

/** Draws for one call, when what was drawn is gone before its debit gets there. */
const DRAWS_MAX = 3;

/** A command that takes money from the payer's main wallet. */
export interface Debit<T> {
  amount: bigint;
  /** Its idempotency key: it has one draw under way. */
  key: Buffer;
  command: Command<T>;
}

/** Runs debits; what they find missing is drawn from the payer's primary bank account, if its owner agreed to that. */
export type Funding = ReturnType<typeof openFunding>;

/** Without `transfers` there are no banks, and a debit that finds too little is refused. */
export function openFunding(
  { config, db, lane }: Pick<App, "config" | "db" | "lane">,
  transfers: BankTransfers | undefined,
) {
  /** Whether somebody who repeats them was faster since they were found short. Debits of one call are of one kind. */
  async function isAnyDone(debits: Debit<unknown>[]): Promise<boolean> {
    const onces = debits.flatMap(({ command: { once } }) => once ?? []);
    const [first] = onces;
    if (!first) return false;
    const keys = onces.map(({ key }) => key);
    return isAnyThere(db, ONCE[first.by], keys);
  }

  /**
   * Draws what is missing. The answer is the command that settles the draw, to be committed with the debit; or nothing,
   * when the money is there. Throws DRAW_LIMIT_EXCEEDED, BANK_DECLINED, and DEADLINE_EXCEEDED when the bank has not said
   * by then; undefined when nothing may be drawn.
   */
  async function draw(
    payer: Owner,
    debits: Debit<unknown>[],
    untilMs: number,
  ): Promise<{ settling?: Command<BankTransferRow> } | undefined> {
    const [first] = debits;
    const primary = transfers && (await findPrimary(db, payer.accountId));
    if (!primary || !first) return undefined;
    const amount = debits.reduce((sum, debit) => sum + debit.amount, 0n);
    const short = { amount, key: first.key, bankAccountId: primary.id };
    const { value: begun, replayed } = await lane.submit(intendDraw(transfers.rules, payer, short));
    if (!begun) return {};
    if (!replayed) {
      if (await isAnyDone(debits)) {
        await transfers.conclude(begun, NOT_NEEDED);
        return {};
      }
      const outcome = await transfers.ask(begun);
      if (outcome.is === "approved") {
        transfers.count(begun, outcome);
        return { settling: settle(begun, outcome) };
      }
      await transfers.conclude(begun, outcome);
    }
    const ended = await transfers.ended(begun.id, untilMs);
    if (ended.state === BankTransfer_State.FAILED) throw declinedOf(ended);
    return {};
  }

  /**
   * Runs them once more, right behind what settles the draw, so that nobody else's debit comes between. Together where
   * they are one: of many that stand alone, each is answered alone.
   */
  async function runWith<T>(
    settling: Command<BankTransferRow> | undefined,
    commands: Command<T>[],
    together: boolean,
  ): Promise<Settled<T>[]> {
    const run = <U>(some: Command<U>[]) => (together ? lane.submitTogether(some) : lane.submitEach(some));
    if (!settling) return run(commands);
    const [settled, ...outcomes] = await run<unknown>([settling, ...(commands as Command<unknown>[])]);
    // The debit was refused for another reason, and took it along. What the bank has done stays done.
    if (!settled?.result) await lane.submit(settling);
    return outcomes as Settled<T>[];
  }

  /** Draws what debits found missing, and runs those again that did not happen. The outcomes are changed in place. */
  async function drawFor<T>(payer: Owner, debits: Debit<T>[], outcomes: Settled<T>[], atomic: boolean) {
    const untilMs = Date.now() + config.maxTimeoutMs;
    for (let draws = 0; draws < DRAWS_MAX && outcomes.some(isShort); draws += 1) {
      const again = outcomes.flatMap((outcome, i) => {
        const debit = debits[i];
        return debit && !outcome.result && (atomic || isShort(outcome)) ? [{ debit, i }] : [];
      });
      if (again.length === 0) return;
      const commands = again.map(({ debit }) => debit.command);
      const together = atomic || commands.length === 1;
      try {
        const drawn = await draw(
          payer,
          again.map(({ debit }) => debit),
          untilMs,
        );
        if (!drawn) return;
        const results = await runWith(drawn.settling, commands, together);
        again.forEach(({ i }, n) => {
          outcomes[i] = results[n] as Settled<T>;
        });
      } catch (error) {
        // Nobody is refused what somebody who repeats it has done meanwhile.
        const results = await runWith(undefined, commands, together);
        again.forEach(({ i }, n) => {
          const { [n]: outcome } = results;
          if (outcome?.result) outcomes[i] = outcome;
          else if (isShort(outcomes[i])) outcomes[i] = { error };
        });
        return;
      }
    }
  }

  return {
    /**
     * One debit. Goes on when the caller has gone: whoever repeats it finds the outcome. Throws its refusal,
     * DRAW_LIMIT_EXCEEDED, BANK_DECLINED, DEADLINE_EXCEEDED.
     */
    async submit<T>(payer: Owner, debit: Debit<T>, call: Call): Promise<Result<T>> {
      try {
        return await lane.submit(debit.command, call);
      } catch (error) {
        const outcomes: Settled<T>[] = [{ error }];
        await drawFor(payer, [debit], outcomes, false);
        const [outcome] = outcomes;
        if (outcome?.result) return outcome.result;
        throw outcome?.error;
      }
    },

    /** Many debits, each on its own, or all or none. Answers each, in order; goes on as `submit` does. */
    async submitAll<T>(
      payer: Owner,
      debits: Debit<T>[],
      { atomic, call }: { atomic: boolean; call: Call },
    ): Promise<Settled<T>[]> {
      const commands = debits.map(({ command }) => command);
      const outcomes = await (atomic ? lane.submitTogether(commands, call) : lane.submitEach(commands, call));
      await drawFor(payer, debits, outcomes, atomic);
      return outcomes;
    },
  };
}

const isShort = (outcome: Settled<unknown> | undefined) =>
  outcome?.error !== undefined && reasonOf(outcome.error) === Reason.INSUFFICIENT_FUNDS;
