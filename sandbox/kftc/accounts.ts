import { bankFields, bankName } from "./banks.ts";
import { accountAt, bankHead, claimTranId, consentOf, head, type Request, reachBank } from "./calls.ts";
import { type Centre, INSTITUTION } from "./centre.ts";
import { seoul } from "./clock.ts";
import { BankRefusal, Refusal } from "./codes.ts";
import type { Consent, User } from "./consent.ts";
import * as schemas from "./fields.ts";
import { readFields } from "./fields.ts";
import { type Account, type Movement, masked } from "./ledger.ts";

const PAGE_ROWS = 25;
const CLOSED = "416";

/** GET /v2.0/user/me */
export function getUser(request: Request) {
  const { centre } = request;
  const { user_seq_no } = readFields(schemas.me, request.fields);
  const user = userOf(request, user_seq_no);
  const { name, ci, birthDate } = user.citizen;
  const list = centre.consents.listOf(user).filter(isLive);
  return {
    ...head(centre),
    user_seq_no,
    user_ci: ci,
    user_name: name,
    user_info: birthDate,
    user_gender: "",
    user_cell_no: "",
    user_email: "",
    res_cnt: `${list.length}`,
    res_list: list.map((consent) => ({ ...consentFields(consent), payer_num: "" })),
  };
}

/** GET /v2.0/account/list */
export function listAccounts(request: Request) {
  const { centre } = request;
  const { user_seq_no, include_cancel_yn, sort_order } = readFields(schemas.accounts, request.fields);
  const user = userOf(request, user_seq_no);
  const consents = centre.consents.listOf(user).filter((consent) => include_cancel_yn === "Y" || isLive(consent));
  const list = sort_order === "A" ? consents : consents.toReversed();
  return {
    ...head(centre),
    user_name: user.citizen.name,
    res_cnt: `${list.length}`,
    res_list: list.map((consent) => ({
      ...consentFields(consent),
      account_num: consent.account.number,
      account_state: consent.account.block === CLOSED ? "09" : "01",
    })),
  };
}

/** GET /v2.0/account/balance/fin_num */
export function getBalance(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.balance, request.fields);
  const account = open(request, fields);
  const last = account.movements.at(-1);
  return {
    ...head(centre),
    ...bankHead(fields.bank_tran_id, today(centre), account.bankCode),
    bank_name: bankName(account.bankCode),
    savings_bank_name: "",
    fintech_use_num: fields.fintech_use_num,
    balance_amt: `${account.balance}`,
    available_amt: `${account.balance > account.held ? account.balance - account.held : 0n}`,
    account_type: "1",
    product_name: account.productName,
    account_issue_date: account.openDate,
    maturity_date: "00000000",
    last_tran_date: last ? seoul(last.time).date : "00000000",
  };
}

/** GET /v2.0/account/transaction_list/fin_num */
export function listTransactions(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.history, request.fields);
  const account = open(request, fields);
  const found = account.movements.filter((movement) => isAskedFor(movement, fields));
  const sorted = fields.sort_order === "A" ? found : found.toReversed();
  const trace = fields.befor_inquiry_trace_info;
  const start = trace ? sorted.findIndex(({ id }) => `${id}` === trace) + 1 : 0;
  if (trace && start === 0) throw new Refusal("A0004", "befor_inquiry_trace_info");
  const rows = sorted.slice(start, start + PAGE_ROWS);
  if (rows.length === 0) throw new Refusal("A0018");
  const hasMore = sorted.length > start + PAGE_ROWS;
  return {
    ...head(centre),
    ...bankHead(fields.bank_tran_id, today(centre), account.bankCode),
    bank_name: bankName(account.bankCode),
    savings_bank_name: "",
    fintech_use_num: fields.fintech_use_num,
    balance_amt: `${account.balance}`,
    page_record_cnt: `${rows.length}`,
    next_page_yn: hasMore ? "Y" : "N",
    befor_inquiry_trace_info: hasMore ? `${rows.at(-1)?.id}` : "",
    res_list: rows.map(movementFields),
  };
}

/** POST /v2.0/inquiry/real_name */
export function getRealName(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.realName, request.fields);
  claimTranId(centre, fields.bank_tran_id);
  const { account_holder_info_type: type, account_holder_info: info } = fields;
  if (!(type === " " ? /^\d{6}$/ : /^\d{10}$/).test(info)) throw new Refusal("A0321");
  const account = accountAt(request, fields.bank_code_std, fields.account_num);
  if (account.block) throw new BankRefusal(account.block, account.bankCode);
  const isTheirs = type === " " && account.citizen?.birthDate.slice(2) === info;
  if (!isTheirs) throw new BankRefusal("463", account.bankCode);
  return {
    ...head(centre),
    ...bankHead(fields.bank_tran_id, today(centre), account.bankCode),
    ...bankFields("", account.bankCode),
    savings_bank_name: "",
    account_num: account.number,
    account_seq: fields.account_seq ?? "",
    account_holder_info_type: type,
    account_holder_info: info,
    account_holder_name: account.holderName,
    account_type: "1",
  };
}

/** POST /v2.0/account/cancel */
export function cancelAccount(request: Request) {
  const { centre, token } = request;
  const fields = readFields(schemas.cancel, request.fields);
  claimTranId(centre, fields.bank_tran_id);
  const consent = centre.consents.find(fields.fintech_use_num);
  if (!consent) throw new Refusal("A0323");
  if (token.userSeqNo && token.userSeqNo !== consent.user.userSeqNo) throw new Refusal("A0304");
  const time = fields.scope === "inquiry" ? consent.inquiryTime : consent.transferTime;
  if (!time) throw new Refusal(fields.scope === "inquiry" ? "A0305" : "A0306");
  centre.consents.end(consent, fields.scope);
  return { ...head(centre), ...bankHead(fields.bank_tran_id, today(centre), consent.account.bankCode) };
}

/** POST /v2.0/user/close */
export function closeUser(request: Request) {
  const { centre } = request;
  const { client_use_code, user_seq_no } = readFields(schemas.close, request.fields);
  if (client_use_code !== INSTITUTION.code) throw new Refusal("A0004", "client_use_code");
  const user = userOf(request, user_seq_no);
  centre.consents.close(user);
  for (const token of centre.tokens.listOf(user_seq_no)) centre.tokens.revoke(token);
  return head(centre);
}

/** The user that is meant. A person's token is for themselves. */
function userOf({ centre, token }: Request, userSeqNo: string): User {
  if (token.userSeqNo && token.userSeqNo !== userSeqNo) throw new Refusal("A0313");
  const user = centre.consents.findUser(userSeqNo);
  if (!user) throw new Refusal("A0337");
  if (user.isClosed) throw new Refusal("A0014");
  return user;
}

/** The account that may be looked into. */
function open(request: Request, fields: { bank_tran_id: string; fintech_use_num: string }): Account {
  claimTranId(request.centre, fields.bank_tran_id);
  const { account } = consentOf(request, fields.fintech_use_num, "inquiry");
  reachBank(request, account.bankCode);
  if (account.block === CLOSED) throw new BankRefusal(CLOSED, account.bankCode);
  return account;
}

const isLive = ({ inquiryTime, transferTime }: Consent) => Boolean(inquiryTime ?? transferTime);

const today = ({ clock }: Centre) => seoul(clock.now()).date;

const consentFields = ({ fintechUseNum, account, inquiryTime, transferTime }: Consent) => ({
  fintech_use_num: fintechUseNum,
  account_alias: account.alias || account.productName,
  ...bankFields("", account.bankCode),
  savings_bank_name: "",
  account_num_masked: masked(account.number),
  account_seq: "",
  account_holder_name: account.holderName,
  account_holder_type: "P",
  account_type: "1",
  inquiry_agree_yn: inquiryTime ? "Y" : "N",
  inquiry_agree_dtime: agreedAt(inquiryTime),
  transfer_agree_yn: transferTime ? "Y" : "N",
  transfer_agree_dtime: agreedAt(transferTime),
});

const agreedAt = (time: Date | undefined) => (time ? seoul(time).full.slice(0, 14) : "");

function isAskedFor({ time, amount }: Movement, asked: ReturnType<typeof readHistory>): boolean {
  const at = seoul(time);
  const moment = `${at.date}${at.time}`;
  const [from, to] =
    asked.inquiry_base === "T"
      ? [`${asked.from_date}${asked.from_time}`, `${asked.to_date}${asked.to_time}`]
      : [`${asked.from_date}000000`, `${asked.to_date}235959`];
  if (moment < from || moment > to) return false;
  return asked.inquiry_type === "A" || (asked.inquiry_type === "I") === amount > 0n;
}
const readHistory = (fields: unknown) => readFields(schemas.history, fields);

const movementFields = ({ time, amount, content, kind, branch, balanceAfter }: Movement) => ({
  tran_date: seoul(time).date,
  tran_time: seoul(time).time,
  inout_type: amount > 0n ? "입금" : "출금",
  tran_type: kind,
  printed_content: content,
  tran_amt: `${amount > 0n ? amount : -amount}`,
  after_balance_amt: `${balanceAfter}`,
  branch_name: branch,
});
