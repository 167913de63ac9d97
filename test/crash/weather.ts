import { setTimeout as sleep } from "node:timers/promises";
import type { NewFault } from "../../sandbox/kftc/faults.ts";
import type { startKftc } from "../../sandbox/kftc/server.ts";
import { type Chance, oneOf, upTo } from "./chance.ts";

/** What goes wrong at banks and at their centre, at random. Nothing of it is a lie: a bank that says no has not done it. */

export type Kftc = Awaited<ReturnType<typeof startKftc>>;
/** What is wrong, without whose call it is. */
type Wrong = NewFault extends infer F ? (F extends NewFault ? Omit<F, "call" | "accountNumber"> : never) : never;

/** How long a call may take; so some answers come in time and others do not. */
export const TIMEOUT_MS = 500;
/** Much longer than anything takes that has reached the centre, also on a machine that has other things to do. */
export const ABSENT_MS = 8_000;
const DELAY_MAX_MS = 3 * TIMEOUT_MS;
const PROCESSING_MAX_MS = 4_000;
const INQUIRIES_MAX = 3;
/** Codes that leave open what became of the money. */
const UNCLEAR = ["A0000", "A0003", "A0007", "A0017", "A0326", "A9999", "000", "400", "803", "804", "819", "822"];
const GARBAGE = ["<html>", "", "{}", '{"rsp_code":', "[]"];
const REFUSED_BY_BANK = ["413", "416", "453", "456", "490"];
const REFUSED = [...REFUSED_BY_BANK, "A0020", "A0111", "A0112"];

/** All the ways that the sandbox knows. */
const WRONGS: Record<NewFault["kind"], (chance: Chance) => Wrong> = {
  delay: (chance) => ({ kind: "delay", at: when(chance), ms: upTo(chance, DELAY_MAX_MS) }),
  drop: (chance) => ({ kind: "drop", at: when(chance) }),
  cut: () => ({ kind: "cut" }),
  garbage: (chance) => ({ kind: "garbage", at: when(chance), body: oneOf(chance, GARBAGE) }),
  status: (chance) =>
    // Whoever is not let in has done nothing.
    chance() < 0.2
      ? { kind: "status", at: "before", status: 401 }
      : { kind: "status", at: when(chance), status: oneOf(chance, [400, 404, 429, 500, 502, 503, 504]) },
  answer: (chance) =>
    chance() < 0.3
      ? { kind: "answer", at: "before", code: oneOf(chance, REFUSED) }
      : { kind: "answer", at: when(chance), code: oneOf(chance, UNCLEAR) },
  token: (chance) => ({ kind: "token", code: oneOf(chance, ["O0002", "O0003"] as const) }),
  amount: (chance) => ({ kind: "amount", amount: String(upTo(chance, 10)) }),
  twice: () => ({ kind: "twice" }),
  decline: (chance) => ({ kind: "decline", code: oneOf(chance, REFUSED_BY_BANK), head: headOf(chance) }),
  processing: (chance) =>
    chance() < 0.5
      ? { kind: "processing", code: "000", isBookedAtOnce: chance() < 0.5, ...processing(chance) }
      : { kind: "processing", code: oneOf(chance, REFUSED_BY_BANK), ...processing(chance) },
};
const KINDS = Object.values(WRONGS);

/** A question is not refused, and a result that is refused would be a word on the money. */
const isForQuestions = (wrong: Wrong) =>
  wrong.kind !== "decline" && wrong.kind !== "processing" && !("code" in wrong && REFUSED.includes(wrong.code ?? ""));

const when = (chance: Chance) => oneOf(chance, ["before", "after"] as const);
const headOf = (chance: Chance) => oneOf(chance, ["A0000", "A0002", "A0009"] as const);
const processing = (chance: Chance) => ({
  head: oneOf(chance, ["A0000", "A0001", "A0002"] as const),
  ...(chance() < 0.5 ? { inquiries: upTo(chance, INQUIRIES_MAX) - 1 } : { ms: upTo(chance, PROCESSING_MAX_MS) }),
});

function wrongFor(chance: Chance, call: "money" | "question"): Wrong {
  for (;;) {
    const wrong = oneOf(chance, KINDS)(chance);
    if (call === "money" || isForQuestions(wrong)) return wrong;
  }
}

/** Makes the next call about an account go wrong, and perhaps the questions what became of it. */
export async function spoil(kftc: Kftc, chance: Chance, accountNumber: string, call: "withdraw" | "deposit") {
  await kftc.script({ ...wrongFor(chance, "money"), call, accountNumber });
  for (let more = chance(); more < 0.4; more += 0.2) {
    await kftc.script({ ...wrongFor(chance, "question"), call: "result", accountNumber });
  }
}

/** Where it storms. */
export interface Land {
  kftc: Kftc;
  bankCodes: string[];
  accounts: { where: { bankCode: string; number: string }; fintechUseNum: string; userSeqNo: string }[];
}

const CALM_MS = 1_500;

const EVENTS: ((land: Land, chance: Chance) => Promise<unknown>)[] = [
  async ({ kftc, bankCodes }, chance) => {
    await kftc.setDown(oneOf(chance, bankCodes), oneOf(chance, ["A0020", "A0017", "A0007"]));
    await sleep(chance() * CALM_MS);
    await kftc.clearDowntime();
  },
  async ({ kftc, accounts }, chance) => {
    const { where } = oneOf(chance, accounts);
    await kftc.changeAccount(where, { block: oneOf(chance, ["413", "416", "490"]) });
    await sleep(chance() * CALM_MS);
    await kftc.changeAccount(where, { block: "" });
  },
  // Of everybody, of the institution, of one person.
  ({ kftc }) => kftc.changeTokens("expire"),
  ({ kftc }, chance) => kftc.changeTokens(oneOf(chance, ["expire", "revoke"] as const), ""),
  ({ kftc, accounts }, chance) =>
    kftc.changeTokens(oneOf(chance, ["expire", "revoke"] as const), oneOf(chance, accounts).userSeqNo),
  ({ kftc, accounts }, chance) =>
    kftc.changeConsent(oneOf(chance, accounts).fintechUseNum, oneOf(chance, ["end", "expire"] as const), "transfer"),
  // Somebody needs another token, and whoever asks for one next does not get it as they should.
  async ({ kftc, accounts }, chance) => {
    await kftc.script({ ...wrongFor(chance, "question"), call: "token" });
    await kftc.changeTokens("expire", oneOf(chance, ["", oneOf(chance, accounts).userSeqNo]));
  },
];

/** One thing after the other goes wrong, until `isOver`; then nothing is wrong any more. */
export async function storm(land: Land, chance: Chance, isOver: () => boolean) {
  while (!isOver()) {
    await sleep(chance() * CALM_MS);
    await oneOf(chance, EVENTS)(land, chance);
  }
  await land.kftc.clearFaults();
}
