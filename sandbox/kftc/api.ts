import { setTimeout as sleep } from "node:timers/promises";
import type { Call, Reply } from "../http.ts";
import {
  cancelAccount,
  closeUser,
  getBalance,
  getRealName,
  getUser,
  listAccounts,
  listTransactions,
} from "./accounts.ts";
import { bankHead, head, type Request } from "./calls.ts";
import type { Centre } from "./centre.ts";
import { isDate, seoul } from "./clock.ts";
import { BankRefusal, isBankCode, Refusal } from "./codes.ts";
import type { Fault, Subject } from "./faults.ts";
import { token as answerToken } from "./oauth.ts";
import type { Token } from "./tokens.ts";
import { depositAccount, depositFin, getResult, inquireReceiver, withdraw } from "./transfers.ts";

interface Api {
  method: "GET" | "POST";
  call: Subject["call"];
  scopes: string[];
  answer(request: Request): object;
}

const PERSON = ["login", "inquiry", "transfer"];
const OWN = ["oob"];

const APIS: Record<string, Api> = {
  "/v2.0/user/me": { method: "GET", call: "me", scopes: PERSON, answer: getUser },
  "/v2.0/user/close": { method: "POST", call: "close", scopes: [...PERSON, ...OWN], answer: closeUser },
  "/v2.0/account/list": { method: "GET", call: "accounts", scopes: PERSON, answer: listAccounts },
  "/v2.0/account/cancel": { method: "POST", call: "cancel", scopes: [...PERSON, ...OWN], answer: cancelAccount },
  "/v2.0/account/balance/fin_num": { method: "GET", call: "balance", scopes: ["inquiry"], answer: getBalance },
  "/v2.0/account/transaction_list/fin_num": {
    method: "GET",
    call: "history",
    scopes: ["inquiry"],
    answer: listTransactions,
  },
  "/v2.0/inquiry/real_name": { method: "POST", call: "real_name", scopes: OWN, answer: getRealName },
  "/v2.0/inquiry/receive": { method: "POST", call: "receive", scopes: OWN, answer: inquireReceiver },
  "/v2.0/transfer/withdraw/fin_num": { method: "POST", call: "withdraw", scopes: ["transfer"], answer: withdraw },
  "/v2.0/transfer/deposit/fin_num": { method: "POST", call: "deposit", scopes: OWN, answer: depositFin },
  "/v2.0/transfer/deposit/acnt_num": { method: "POST", call: "deposit", scopes: OWN, answer: depositAccount },
  "/v2.0/transfer/result": { method: "POST", call: "result", scopes: OWN, answer: getResult },
};

/** Answers a call of the centre's API, and goes wrong when a script wants it. All refusals are HTTP 200. */
export async function callApi(centre: Centre, call: Call, stopping: AbortSignal): Promise<Reply | undefined> {
  const isToken = call.url.pathname === "/oauth/2.0/token";
  const api = APIS[call.url.pathname];
  if (!api && !isToken) {
    return call.url.pathname.startsWith("/v2.0/") ? { json: head(centre, "A0012") } : undefined;
  }
  const fields = api ? fieldsOf(call) : {};
  const fault = centre.faults.take({ call: api?.call ?? "token", ...subjectOf(centre, fields) });
  const carryOut = () => {
    centre.ledger.settleDue();
    return { json: api ? answer(api, { centre, call, fields, fault }) : answerToken(centre, call) };
  };
  return faulty(centre, fault, fields, carryOut, (ms) => sleep(ms, undefined, { signal: stopping, ref: false }));
}

function answer(api: Api, { centre, call, fields, fault }: Omit<Request, "token"> & { call: Call }): object {
  try {
    if (call.method !== api.method) throw new Refusal("O0010");
    const token = tokenOf(centre, call, api.scopes);
    return api.answer({ centre, token, fields, fault });
  } catch (error) {
    if (error instanceof Refusal) return head(centre, error.code, error.message);
    if (!(error instanceof BankRefusal)) throw error;
    return { ...head(centre, "A0002"), ...bankHeadOf(centre, fields, error.code, error.bankCode) };
  }
}

function tokenOf(centre: Centre, { headers }: Call, scopes: string[]): Token {
  const [, value] = /^Bearer (\S+)$/.exec(headers.get("authorization") ?? "") ?? [];
  if (!value) throw new Refusal("O0001", "[992]");
  const token = centre.tokens.find(value, "access");
  if (!token) throw new Refusal("O0002");
  if (centre.tokens.isExpired(token)) throw new Refusal("O0003");
  if (!token.scopes.some((scope) => scopes.includes(scope))) throw new Refusal("O0011");
  return token;
}

/** Undefined, which no schema takes, when it is not what it says it is. */
function fieldsOf({ method, url, headers, body }: Call): unknown {
  if (method === "GET") return Object.fromEntries(url.searchParams);
  if (!headers.get("content-type")?.startsWith("application/json")) return undefined;
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

async function faulty(
  centre: Centre,
  fault: Fault | undefined,
  fields: unknown,
  carryOut: () => { json: object },
  wait: (ms: number) => Promise<unknown>,
): Promise<Reply> {
  if (fault && "at" in fault && fault.kind !== "delay" && fault.at === "after") carryOut();
  switch (fault?.kind) {
    case "delay": {
      if (fault.at === "before") await wait(fault.ms);
      const reply = carryOut();
      if (fault.at === "after") await wait(fault.ms);
      return reply;
    }
    case "drop":
      return { drop: "at once" };
    case "cut":
      return { drop: "half way", of: carryOut() };
    case "garbage":
      return { raw: fault.body, type: "text/html" };
    case "status":
      return { raw: "", status: fault.status };
    case "answer":
      return { json: said(centre, fields, fault.code) };
    case "token":
      return { json: head(centre, fault.code) };
    case "amount":
      return {
        json: JSON.parse(
          JSON.stringify(carryOut().json, (name, value) => (name === "tran_amt" ? fault.amount : value)),
        ),
      };
    case "twice":
      carryOut();
      return carryOut();
    case "decline":
    case "processing":
    case undefined:
      return carryOut();
  }
}

/** The answer that is nothing but a code. */
function said(centre: Centre, fields: unknown, code: string): object {
  if (!isBankCode(code)) return head(centre, code);
  const bank = bankHeadOf(centre, fields, code, subjectOf(centre, fields).bankCode);
  const isList = typeof fields === "object" && fields !== null && "req_list" in fields;
  return { ...head(centre, "A0002"), ...(isList ? { res_cnt: "1", res_list: [{ tran_no: "1", ...bank }] } : bank) };
}

/** A bank's word on an order is about its day. */
function bankHeadOf(centre: Centre, fields: unknown, code: string, bankCode: string) {
  const id = first(fields, "bank_tran_id") || first(fields, "org_bank_tran_id");
  const date = first(fields, "org_bank_tran_date");
  return bankHead(id, isDate(date) ? date : seoul(centre.clock.now()).date, bankCode, code);
}

/** Whose account a call is about, as far as it says so itself. */
function subjectOf(centre: Centre, fields: unknown): Omit<Subject, "call"> {
  const fintechUseNum = first(fields, "fintech_use_num");
  const tranId = first(fields, "org_bank_tran_id");
  const account =
    centre.consents.find(fintechUseNum)?.account ??
    (tranId ? centre.ledger.transfers.findLast(({ bankTranId }) => bankTranId === tranId)?.account : undefined);
  return {
    fintechUseNum,
    bankCode: account?.bankCode ?? first(fields, "bank_code_std"),
    accountNumber: account?.number ?? first(fields, "account_num"),
  };
}

/** A field of the call, or of the one item of its list. */
function first(fields: unknown, name: string): string {
  const outer = fields as Record<string, unknown> | null | undefined;
  const [item] = Array.isArray(outer?.req_list) ? (outer.req_list as Record<string, unknown>[]) : [];
  const value = outer?.[name] ?? item?.[name];
  return typeof value === "string" ? value : "";
}
