import { randomUUID } from "node:crypto";
import { bankName } from "./banks.ts";
import { type Centre, INSTITUTION } from "./centre.ts";
import { seoul } from "./clock.ts";
import { BankRefusal, bankMessage, centreMessage, isBankCode, Refusal } from "./codes.ts";
import type { Consent } from "./consent.ts";
import type { Fault } from "./faults.ts";
import type { Account } from "./ledger.ts";
import type { Token } from "./tokens.ts";

/** What every business call is made of. */
export interface Request {
  centre: Centre;
  token: Token;
  /** As they came; nobody has looked at them yet. */
  fields: unknown;
  fault: Fault | undefined;
}

/** The head of every answer. */
export function head(centre: Centre, code = "A0000", message = centreMessage(code)) {
  return {
    api_tran_id: randomUUID(),
    api_tran_dtm: seoul(centre.clock.now()).full,
    rsp_code: code,
    rsp_message: message,
  };
}

/** What a bank that took part says. */
export const bankHead = (bankTranId: string, date: string, bankCode: string, code = "000") => ({
  bank_tran_id: bankTranId,
  bank_tran_date: date,
  bank_code_tran: bankCode,
  bank_rsp_code: code,
  bank_rsp_message: bankMessage(code),
});

/** An id is ours, and new today. */
export function claimTranId(centre: Centre, bankTranId: string) {
  if (!bankTranId.startsWith(INSTITUTION.code)) throw new Refusal("A0004", "bank_tran_id의 이용기관코드 불일치");
  if (!centre.claimTranId(bankTranId)) throw new Refusal("A0326");
}

/** The account that a person has put into our hands, if they still have. */
export function consentOf({ centre, token }: Request, fintechUseNum: string, scope: "inquiry" | "transfer"): Consent {
  const consent = centre.consents.find(fintechUseNum);
  if (!consent) throw new Refusal("A0323");
  if (consent.user.userSeqNo !== token.userSeqNo) throw new Refusal("A0304");
  const time = scope === "inquiry" ? consent.inquiryTime : consent.transferTime;
  if (!time) throw new Refusal(scope === "inquiry" ? "A0305" : "A0306");
  if (centre.consents.isExpired(time)) throw new Refusal(scope === "inquiry" ? "A0316" : "A0319");
  return consent;
}

/** What a bank says before it looks at the account: nothing (""), or why not. The centre may say no itself. */
export function bankWord({ centre, fault }: Request, bankCode: string): string {
  const code = centre.downtime.get(bankCode) ?? (fault?.kind === "decline" ? fault.code : "");
  if (code && !isBankCode(code)) throw new Refusal(code);
  return code;
}

/** The bank is there, and has nothing against the call. */
export function reachBank(request: Request, bankCode: string) {
  const code = bankWord(request, bankCode);
  if (code) throw new BankRefusal(code, bankCode);
}

/** The account at a bank that is there. */
export function accountAt(request: Request, bankCode: string, number: string): Account {
  if (!bankName(bankCode)) throw new Refusal("A0004", "bank_code_std");
  reachBank(request, bankCode);
  const account = request.centre.ledger.findAccount(bankCode, number);
  if (!account) throw new BankRefusal("412", bankCode);
  return account;
}
