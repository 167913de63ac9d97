import {
  BANK_DONE,
  DONE,
  isBankRefusal,
  isByBank,
  isRefusal,
  isToken,
  NO_TRANSFER,
  NOT_SENT_WORDS,
  wordsOf,
} from "./codes.ts";
import { BankingError, type Declined, NOT_SENT, type Outcome, type Unknown } from "./contract.ts";
import { TransferList, type TransferPart, WithdrawAnswer } from "./messages.ts";
import type { Answer } from "./wire.ts";

/**
 * What became of money, judged by an answer. Money moved when everything says so, and did not when something says so
 * and nothing contradicts it; anything else is unknown.
 */

/** What an answer must be about. */
interface Asked {
  tranId: string;
  amount: bigint;
}

type Said = ReturnType<typeof WithdrawAnswer.parse>;

/** What the answer to a withdrawal says, or to a deposit. Throws a BankingError of kind "token". */
export function judgeTransfer(kind: "withdraw" | "deposit", asked: Asked, answer: Answer): Outcome {
  if (answer.is === "silence" && !answer.mayHaveArrived) return notSent;
  const body = bodyOf(answer);
  if (typeof body === "string") return unknown(body);
  if (kind === "withdraw") {
    const said = WithdrawAnswer.safeParse(body);
    return said.success ? judge(asked, said.data, said.data) : unknown("malformed");
  }
  const said = TransferList.safeParse(body);
  return said.success ? judge(asked, said.data, said.data.res_list?.[0]) : unknown("malformed");
}

/** What the answer says to the question what became of a transfer. Throws a BankingError of kind "token". */
export function judgeResult(asked: Asked, date: string, answer: Answer): Outcome | { is: "absent" } {
  const body = bodyOf(answer);
  if (typeof body === "string") return unknown(body);
  const parsed = TransferList.safeParse(body);
  if (!parsed.success) return unknown("malformed");
  const { data: said } = parsed;
  checkToken(said);
  if (said.rsp_code === NO_TRANSFER) return { is: "absent" };
  // Any other code is about the question, and not about the transfer.
  if (said.rsp_code !== DONE && said.rsp_code !== "A0009") return unknown(`code ${said.rsp_code}`);
  const [part] = said.res_list ?? [];
  // It need not repeat what it was asked.
  return judgeBank(asked, said, part && { ...part, ...defaults(part, asked, date) });
}

const defaults = (part: TransferPart, { tranId }: Asked, date: string) => ({
  bank_tran_id: part.bank_tran_id || tranId,
  bank_tran_date: part.bank_tran_date || date,
});

function judge(asked: Asked, said: Said, part: TransferPart | undefined): Outcome {
  checkToken(said);
  if (isByBank(said.rsp_code)) return judgeBank(asked, said, part);
  if (!isRefusal(said.rsp_code)) return unknown(`code ${said.rsp_code}`);
  if (isOthers(asked, part)) return unknown("another transfer");
  const bankCode = part?.bank_rsp_code ?? "";
  if (bankCode !== "" && !isBankRefusal(bankCode)) return unknown(`code ${said.rsp_code} and ${wordFor(bankCode)}`);
  return declined(said.rsp_code, said.rsp_message, "");
}

/** The bank has the last word. */
function judgeBank(asked: Asked, said: Said, part: TransferPart | undefined): Outcome {
  if (!part) return unknown(`code ${said.rsp_code} without a transfer`);
  if (isOthers(asked, part)) return unknown("another transfer");
  const { bank_rsp_code: code } = part;
  if (isBankRefusal(code)) return declined(code, part.bank_rsp_message, part.bank_code_tran);
  if (said.rsp_code !== DONE || code !== BANK_DONE) return unknown(`code ${said.rsp_code} and ${wordFor(code)}`);
  if (part.bank_tran_id !== asked.tranId || !DAY.test(part.bank_tran_date)) return unknown("malformed");
  if (!AMOUNT.test(part.tran_amt) || BigInt(part.tran_amt) !== asked.amount) return unknown("amount");
  return {
    is: "approved",
    tranDate: part.bank_tran_date,
    apiTranId: said.api_tran_id,
    amount: asked.amount,
  };
}

const DAY = /^[0-9]{8}$/;
const AMOUNT = /^[0-9]{1,12}$/;

/** It names a transfer, and not the one that was asked about. */
const isOthers = ({ tranId }: Asked, part: TransferPart | undefined) =>
  part !== undefined && part.bank_tran_id !== "" && part.bank_tran_id !== tranId;

/** The body of a good answer, or why there is none, as the reason that nothing is known. */
function bodyOf(answer: Answer): object | string {
  if (answer.is === "silence") return answer.why;
  if (answer.status === 401) throw new BankingError("token", "HTTP_401");
  if (answer.status !== 200) return `HTTP ${answer.status}`;
  return typeof answer.body === "object" && answer.body !== null ? answer.body : "malformed";
}

function checkToken({ rsp_code: code }: { rsp_code: string }) {
  if (isToken(code)) throw new BankingError("token", code);
}

/** For the log: a code, if it is one. */
const wordFor = (code: string) =>
  code === "" ? "no bank code" : /^[A-Z0-9]{1,5}$/.test(code) ? `bank code ${code}` : "a bank code unread";

const unknown = (why: string): Unknown => ({ is: "unknown", why });

const declined = (code: string, words: string, bankCode: string): Declined => ({
  is: "declined",
  code,
  message: wordsOf(code, words),
  bankCode,
});

const notSent = { is: "declined", code: NOT_SENT, message: NOT_SENT_WORDS, bankCode: "" } satisfies Declined;
