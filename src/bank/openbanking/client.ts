import type { z } from "zod";
import { seoulTime } from "../../seoul.ts";
import {
  BANK_DONE,
  DONE,
  isBankRefusal,
  isByBank,
  isEnded,
  isPassing,
  isRefusal,
  isToken,
  NO_TRANSACTIONS,
  wordsOf,
} from "./codes.ts";
import {
  BankingError,
  type BankingSettings,
  type DepositOrder,
  type OpenBanking,
  type UserGrant,
  type WithdrawOrder,
} from "./contract.ts";
import {
  AccountsAnswer,
  BalanceAnswer,
  GrantAnswer,
  Head,
  InstitutionAnswer,
  NoTransactionsAnswer,
  RealNameAnswer,
  TransactionsAnswer,
  UserAnswer,
} from "./messages.ts";
import { judgeResult, judgeTransfer } from "./outcome.ts";
import { holderName, printable } from "./text.ts";
import { type Answer, openWire, type Request } from "./wire.ts";

const SCOPE = "login inquiry transfer";
/** The first time that a person is identified by the centre. */
const FIRST_TIME = "0";
const STATE_LENGTH = 32;
const AMOUNT_MAX = 999_999_999_999n;
const BANK_ACCOUNT = "N";
const CHECK_TYPES = { withdraw: "1", deposit: "2" };
const DIRECTIONS = { all: "A", in: "I", out: "O" };
/** The holder's birth date, and no business number. */
const BY_BIRTH_DATE = " ";

/** Open banking 2.0 of KFTC: https://developers.kftc.or.kr */
export function openBanking(settings: BankingSettings): OpenBanking {
  const { clientId, clientSecret, redirectUrl } = settings;
  const client = { client_id: clientId, client_secret: clientSecret };
  // Banks that are slow to tell a balance take no connection from money.
  const wire = openWire(settings);
  const moneyWire = openWire(settings);

  /** What a call answers that moves no money. */
  const ask = async <T>(request: Request, schema: z.ZodType<T>) => read(await wire.send(request), schema);

  const tokens = async <T>(form: Record<string, string>, schema: z.ZodType<T>) => {
    const request = { method: "POST", path: "/oauth/2.0/token", form: { ...form, ...client } } as const;
    return readToken(await moneyWire.send(request), schema);
  };

  const grant = async (form: Record<string, string>): Promise<UserGrant> => {
    const now = Date.now();
    const answer = await tokens(form, GrantAnswer);
    return {
      accessToken: answer.access_token,
      refreshToken: answer.refresh_token,
      userSeqNo: answer.user_seq_no,
      scope: answer.scope.split(" ").filter(Boolean),
      expireTime: new Date(now + answer.expires_in * 1_000),
    };
  };

  return {
    consentUrl(state) {
      if (state.length !== STATE_LENGTH) throw new Error("a state has 32 characters");
      const query = new URLSearchParams({
        response_type: "code",
        client_id: clientId,
        redirect_uri: redirectUrl,
        scope: SCOPE,
        state,
        auth_type: FIRST_TIME,
      });
      return `${settings.baseUrl.replace(/\/$/, "")}/oauth/2.0/authorize?${String(query).replaceAll("+", "%20")}`;
    },

    exchangeCode: (code) => grant({ grant_type: "authorization_code", code, redirect_uri: redirectUrl }),

    refreshGrant: (refreshToken, scope) =>
      grant({ grant_type: "refresh_token", refresh_token: refreshToken, scope: scope.join(" ") }),

    async institutionToken() {
      const now = Date.now();
      const answer = await tokens({ grant_type: "client_credentials", scope: "oob" }, InstitutionAnswer);
      return { accessToken: answer.access_token, expireTime: new Date(now + answer.expires_in * 1_000) };
    },

    async getUser(token, userSeqNo) {
      const user = await ask(
        { method: "GET", path: "/v2.0/user/me", token, query: { user_seq_no: userSeqNo } },
        UserAnswer,
      );
      return {
        name: user.user_name,
        ci: user.user_ci,
        ...(user.user_info && { birthDate: user.user_info }),
        accounts: user.res_list,
      };
    },

    async listAccounts(token, userSeqNo) {
      const query = { user_seq_no: userSeqNo, include_cancel_yn: "Y", sort_order: "D" };
      const { res_list: accounts } = await ask(
        { method: "GET", path: "/v2.0/account/list", token, query },
        AccountsAnswer,
      );
      return accounts;
    },

    async getBalance(token, { tranId, fintechUseNum, time }) {
      const query = { bank_tran_id: tranId, fintech_use_num: fintechUseNum, tran_dtime: seoulTime(time) };
      const answer = await ask({ method: "GET", path: "/v2.0/account/balance/fin_num", token, query }, BalanceAnswer);
      return { balance: answer.balance_amt, available: answer.available_amt, productName: answer.product_name };
    },

    async listTransactions(token, { tranId, fintechUseNum, fromDate, toDate, time, direction, trace }) {
      const query = {
        bank_tran_id: tranId,
        fintech_use_num: fintechUseNum,
        inquiry_type: DIRECTIONS[direction],
        inquiry_base: "D",
        from_date: fromDate,
        to_date: toDate,
        sort_order: "D",
        tran_dtime: seoulTime(time),
        befor_inquiry_trace_info: trace,
      };
      const answer = await wire.send({ method: "GET", path: "/v2.0/account/transaction_list/fin_num", token, query });
      if (codeOf(answer) === NO_TRANSACTIONS) {
        const { balance_amt: balance } = parse(answer, NoTransactionsAnswer);
        return { balance, entries: [], nextTrace: undefined };
      }
      const page = read(answer, TransactionsAnswer);
      const nextTrace = page.next_page_yn ? page.befor_inquiry_trace_info : undefined;
      // A listing that comes back to where it was would never end.
      if (nextTrace === "" || nextTrace === trace) throw malformed();
      return { balance: page.balance_amt, entries: page.res_list, nextTrace };
    },

    async getRealName(token, { tranId, bankCode, accountNumber, birthDate, time }) {
      const json = {
        bank_tran_id: tranId,
        bank_code_std: bankCode,
        account_num: accountNumber,
        account_holder_info_type: BY_BIRTH_DATE,
        account_holder_info: birthDate,
        tran_dtime: seoulTime(time),
      };
      const answer = await ask({ method: "POST", path: "/v2.0/inquiry/real_name", token, json }, RealNameAnswer);
      return { holderName: answer.account_holder_name, bankName: answer.bank_name };
    },

    async withdraw(token, order) {
      const json = withdrawal(settings, order);
      const request = { method: "POST", path: "/v2.0/transfer/withdraw/fin_num", token, json } as const;
      return judgeTransfer("withdraw", order, await transfer(order.amount, request));
    },

    async deposit(token, order) {
      const path = `/v2.0/transfer/deposit/${"fintechUseNum" in order.to ? "fin_num" : "acnt_num"}`;
      const request = { method: "POST", path, token, json: payout(settings, order) } as const;
      return judgeTransfer("deposit", order, await transfer(order.amount, request));
    },

    async getResult(token, { kind, tranId, date, amount, time }) {
      const original = {
        tran_no: "1",
        org_bank_tran_id: tranId,
        org_bank_tran_date: date,
        org_tran_amt: String(amount),
      };
      const json = {
        check_type: CHECK_TYPES[kind],
        tran_dtime: seoulTime(time),
        req_cnt: "1",
        req_list: [original],
      };
      const answer = await wire.send({ method: "POST", path: "/v2.0/transfer/result", token, json });
      return judgeResult({ tranId, amount }, date, answer);
    },

    async cancelAccount(token, { tranId, fintechUseNum, scope }) {
      const json = { bank_tran_id: tranId, scope, fintech_use_num: fintechUseNum };
      try {
        await ask({ method: "POST", path: "/v2.0/account/cancel", token, json }, Head);
      } catch (error) {
        if (!(error instanceof BankingError && error.kind === "refused" && isEnded(error.code))) throw error;
      }
    },

    async close() {
      await Promise.all([wire.close(), moneyWire.close()]);
    },
  };

  /** An amount that the centre cannot read is not sent. */
  async function transfer(amount: bigint, request: Request): Promise<Answer> {
    const isReadable = amount > 0n && amount <= AMOUNT_MAX;
    return isReadable ? moneyWire.send(request) : { is: "silence", mayHaveArrived: false, why: "amount" };
  }
}

const withdrawal = ({ accountNumber, accountHolder }: BankingSettings, order: WithdrawOrder) => ({
  bank_tran_id: order.tranId,
  cntr_account_type: BANK_ACCOUNT,
  cntr_account_num: accountNumber,
  dps_print_content: printable(order.printOurs, accountHolder),
  fintech_use_num: order.fintechUseNum,
  wd_print_content: printable(order.printTheirs, accountHolder),
  tran_amt: String(order.amount),
  tran_dtime: seoulTime(order.time),
  req_client_name: printable(order.memberName, accountHolder),
  req_client_fintech_use_num: order.memberFintechUseNum,
  req_client_num: order.memberNumber,
  transfer_purpose: order.purpose,
});

/** A list of one. */
const payout = ({ accountNumber, accountHolder, bankCode, passPhrase }: BankingSettings, order: DepositOrder) => ({
  cntr_account_type: BANK_ACCOUNT,
  cntr_account_num: accountNumber,
  wd_pass_phrase: passPhrase,
  wd_print_content: printable(order.printOurs, accountHolder),
  name_check_option: "on",
  tran_dtime: seoulTime(order.time),
  req_cnt: "1",
  req_list: [
    {
      tran_no: "1",
      bank_tran_id: order.tranId,
      ...payeeOf(order),
      print_content: printable(order.printTheirs, accountHolder),
      tran_amt: String(order.amount),
      req_client_name: printable(accountHolder, ""),
      req_client_bank_code: bankCode,
      req_client_account_num: accountNumber,
      req_client_num: order.memberNumber,
      transfer_purpose: "TR",
    },
  ],
});

const payeeOf = ({ to }: DepositOrder) =>
  "fintechUseNum" in to
    ? { fintech_use_num: to.fintechUseNum }
    : {
        bank_code_std: to.bankCode,
        account_num: to.accountNumber,
        account_holder_name: holderName(to.holderName),
      };

/** What a good answer says. Throws a BankingError for any other. */
function read<T>(answer: Answer, schema: z.ZodType<T>): T {
  const head = parse(answer, Head);
  if (isToken(head.rsp_code)) throw new BankingError("token", head.rsp_code);
  const { rsp_code: code, bank_rsp_code: bankCode } = head;
  if (code === DONE && (bankCode === "" || bankCode === BANK_DONE)) return parse(answer, schema);
  if (isByBank(code)) throw failure(bankCode, head.bank_rsp_message, isBankRefusal(bankCode));
  throw failure(code, head.rsp_message, isRefusal(code) && !isPassing(code));
}

/** At the desk for tokens there is none yet that could be refused. */
function readToken<T>(answer: Answer, schema: z.ZodType<T>): T {
  const isUnknownClient = answer.is === "answer" && answer.status === 401;
  if (isUnknownClient) throw new BankingError("refused", "HTTP_401");
  const code = codeOf(answer);
  if (code !== undefined && code !== DONE) {
    throw failure(code, "", isToken(code) || (isRefusal(code) && !isPassing(code)));
  }
  return parse(answer, schema);
}

function failure(code: string, words: string, isRefused: boolean) {
  if (!/^[A-Z0-9]{1,5}$/.test(code)) return malformed();
  return new BankingError(isRefused ? "refused" : "unavailable", code, isRefused ? wordsOf(code, words) : "");
}

const malformed = () => new BankingError("unavailable", "MALFORMED");

/** The centre's code, if there is one. */
function codeOf(answer: Answer): string | undefined {
  const head = answer.is === "answer" && answer.status === 200 ? Head.safeParse(answer.body) : undefined;
  return head?.data?.rsp_code;
}

function parse<T>(answer: Answer, schema: z.ZodType<T>): T {
  if (answer.is === "silence") throw new BankingError("unavailable", answer.why.toUpperCase().replaceAll(" ", "_"));
  if (answer.status === 401) throw new BankingError("token", "HTTP_401");
  if (answer.status !== 200) throw new BankingError("unavailable", `HTTP_${answer.status}`);
  const parsed = schema.safeParse(answer.body);
  if (!parsed.success) throw malformed();
  return parsed.data;
}
