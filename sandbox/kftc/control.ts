import { z } from "zod";
import type { Call, Reply } from "../http.ts";
import { BANKS, bankName } from "./banks.ts";
import type { Centre } from "./centre.ts";
import { seoul } from "./clock.ts";
import { faultSchema } from "./faults.ts";
import type { Account, Citizen, Transfer } from "./ledger.ts";

/** The way of tests and people behind the scenes: all of it is JSON, and won are strings. */

const won = z
  .string()
  .regex(/^-?\d{1,15}$/)
  .transform(BigInt);
const bankCode = z.string().refine((code) => code in BANKS, "no bank has this code");
const number = z.string().regex(/^\d{1,16}$/);
const awayCode = z.string().regex(/^(A\d{4}|\d{3})$/);

const newAccount = z.strictObject({
  bankCode,
  number: number.optional(),
  balance: won.optional(),
  alias: z.string().max(50).optional(),
  productName: z.string().max(100).optional(),
});
const limits = { dayLimit: won.optional(), transferLimit: won.optional() };
const newCitizen = z.strictObject({
  name: z.string().min(1).max(20),
  birthDate: z.string().regex(/^\d{8}$/),
  ci: z.string().length(88).optional(),
  ...limits,
  accounts: z.array(newAccount).optional(),
});
const accountChange = z.strictObject({
  balance: won.optional(),
  held: won.optional(),
  block: z
    .string()
    .regex(/^(\d{3})?$/)
    .optional(),
});
const newMovement = z.strictObject({
  amount: won,
  content: z.string().max(20),
  kind: z.string().max(10).default("이체"),
  branch: z.string().max(20).optional(),
  time: z.iso
    .datetime()
    .transform((text) => new Date(text))
    .optional(),
});
const tokenChange = z.strictObject({ to: z.enum(["expire", "revoke"]), userSeqNo: z.string().optional() });
const consentChange = z.strictObject({ to: z.enum(["expire", "end"]), agreement: z.enum(["inquiry", "transfer"]) });

/**
 * GET, POST /sandbox/citizens · PATCH /sandbox/citizens/<id> · POST /sandbox/citizens/<id>/accounts ·
 * GET, PATCH /sandbox/accounts/<bank>/<number> · POST /sandbox/accounts/<bank>/<number>/movements ·
 * GET /sandbox/books · GET, POST, DELETE /sandbox/faults · GET, POST, DELETE /sandbox/downtime ·
 * POST /sandbox/tokens · POST /sandbox/consents/<fintech number> · POST /sandbox/clock · POST /sandbox/reset
 */
export function control(centre: Centre, call: Call, reset: () => void): Reply | undefined {
  try {
    centre.ledger.settleDue();
    const [, , subject = "", ...rest] = call.url.pathname.split("/");
    const found = route(centre, `${call.method} ${subject}`, rest, () => JSON.parse(call.body || "{}"), reset);
    return found && { json: found };
  } catch (error) {
    const text = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    return { status: 400, json: { error: text } };
  }
}

function route(centre: Centre, what: string, rest: string[], body: () => unknown, reset: () => void) {
  const { ledger, faults, downtime, clock } = centre;
  switch (what) {
    case "GET citizens":
      return ledger.citizens.map((citizen) => shownCitizen(centre, citizen));
    case "POST citizens":
    case "PATCH citizens":
      return putCitizen(centre, what, rest, body());
    case "GET accounts":
    case "PATCH accounts":
    case "POST accounts":
      return putAccount(centre, what, rest, body());
    case "GET books":
      return books(centre);
    case "GET faults":
      return faults.list();
    case "POST faults":
      return faults.add(faultSchema.parse(body()));
    case "DELETE faults":
      faults.clear();
      return [];
    case "GET downtime":
      return Object.fromEntries(downtime);
    case "POST downtime": {
      const away = z.strictObject({ bankCode, code: awayCode.default("A0020") }).parse(body());
      downtime.set(away.bankCode, away.code);
      return Object.fromEntries(downtime);
    }
    case "DELETE downtime":
      downtime.clear();
      return {};
    case "POST tokens":
      return changeTokens(centre, tokenChange.parse(body()));
    case "POST consents":
      return changeConsent(centre, rest[0] ?? "", consentChange.parse(body()));
    case "POST clock": {
      const { offsetMs } = z.strictObject({ offsetMs: z.int() }).parse(body());
      clock.goAhead(offsetMs);
      return { offsetMs, now: clock.now() };
    }
    case "POST reset":
      reset();
      return {};
    default:
      return undefined;
  }
}

function putCitizen(centre: Centre, what: string, [id = "", list]: string[], body: unknown) {
  const { ledger } = centre;
  if (what === "POST citizens" && !id) return shownCitizen(centre, ledger.addCitizen(newCitizen.parse(body)));
  const citizen = ledger.findCitizen(id);
  if (!citizen) return undefined;
  if (what === "POST citizens" && list === "accounts") {
    return shownAccount(centre, ledger.addAccount(citizen, newAccount.parse(body)));
  }
  if (what !== "PATCH citizens") return undefined;
  ledger.changeCitizen(citizen, z.strictObject(limits).parse(body));
  return shownCitizen(centre, citizen);
}

function putAccount(centre: Centre, what: string, [bank = "", digits = "", list]: string[], body: unknown) {
  const { ledger } = centre;
  const account = ledger.findAccount(bank, digits);
  if (!account) return undefined;
  if (what === "POST accounts") {
    return list === "movements" ? shownMovement(ledger.book(account, newMovement.parse(body))) : undefined;
  }
  if (what === "GET accounts" && list === "movements") return account.movements.map(shownMovement);
  if (what === "PATCH accounts") {
    const { balance, ...change } = accountChange.parse(body);
    const missing = (balance ?? account.balance) - account.balance;
    if (missing !== 0n) ledger.book(account, { amount: missing, content: "조정", kind: "조정" });
    ledger.changeAccount(account, change);
  }
  return shownAccount(centre, account);
}

function changeTokens({ tokens }: Centre, { to, userSeqNo }: z.output<typeof tokenChange>) {
  const meant = tokens.listOf(userSeqNo).filter(({ kind }) => kind === "access" || to === "revoke");
  for (const token of meant) {
    if (to === "revoke") tokens.revoke(token);
    else tokens.expire(token);
  }
  return { changed: meant.length };
}

function changeConsent({ consents }: Centre, id: string, { to, agreement }: z.output<typeof consentChange>) {
  const consent = consents.find(id);
  if (!consent) return undefined;
  if (to === "end") consents.end(consent, agreement);
  else consents.expire(consent, agreement);
  return { fintechUseNum: id };
}

/** What the collecting account gained over all transfers, and each transfer that moved won, oldest first. */
function books({ ledger }: Centre) {
  const { collecting, transfers } = ledger;
  const change = collecting.movements
    .filter(({ bankTranId }) => bankTranId)
    .reduce((sum, { amount }) => sum + amount, 0n);
  return {
    collectingBalance: `${collecting.balance}`,
    collectingChange: `${change}`,
    booked: transfers.filter(({ isBooked }) => isBooked).map(shownTransfer),
    processing: transfers.filter(({ code }) => code === "400").map(shownTransfer),
  };
}

const shownTransfer = ({
  kind,
  bankTranId,
  date,
  time,
  amount,
  account,
  fintechUseNum,
  memberNumber,
  purpose,
}: Transfer) => ({
  kind,
  bankTranId,
  date,
  time: time.toISOString(),
  amount: `${amount}`,
  bankCode: account.bankCode,
  accountNumber: account.number,
  fintechUseNum,
  memberNumber,
  purpose,
});

const shownCitizen = (centre: Centre, { id, name, birthDate, ci, dayLimit, transferLimit, accounts }: Citizen) => ({
  id,
  name,
  birthDate,
  ci,
  dayLimit: `${dayLimit}`,
  transferLimit: `${transferLimit}`,
  accounts: accounts.map((account) => shownAccount(centre, account)),
});

const shownAccount = ({ consents }: Centre, account: Account) => ({
  bankCode: account.bankCode,
  bankName: bankName(account.bankCode),
  number: account.number,
  holderName: account.holderName,
  alias: account.alias,
  productName: account.productName,
  balance: `${account.balance}`,
  held: `${account.held}`,
  block: account.block,
  fintechUseNum: consents.findOf(account)?.fintechUseNum ?? "",
});

const shownMovement = (movement: Account["movements"][number]) => ({
  ...movement,
  time: movement.time.toISOString(),
  seoulTime: seoul(movement.time).full,
  amount: `${movement.amount}`,
  balanceAfter: `${movement.balanceAfter}`,
});

/** What the answers are, for those who ask from TypeScript. */
export type ShownCitizen = ReturnType<typeof shownCitizen>;
export type ShownAccount = ReturnType<typeof shownAccount>;
export type Books = ReturnType<typeof books>;
