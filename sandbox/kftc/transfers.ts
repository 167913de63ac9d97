import { bankFields, bankName } from "./banks.ts";
import { accountAt, bankHead, bankWord, claimTranId, consentOf, head, type Request, reachBank } from "./calls.ts";
import { type Centre, INSTITUTION } from "./centre.ts";
import { seoul } from "./clock.ts";
import { BankRefusal, centreMessage, Refusal } from "./codes.ts";
import * as schemas from "./fields.ts";
import { readFields } from "./fields.ts";
import { type Account, masked, nobodys, type Plan, type Transfer } from "./ledger.ts";

/** POST /v2.0/transfer/withdraw/fin_num */
export function withdraw(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.withdraw, request.fields);
  claimTranId(centre, fields.bank_tran_id);
  checkContract(fields.cntr_account_num);
  const { account } = consentOf(request, fields.fintech_use_num, "transfer");
  const amount = BigInt(fields.tran_amt);
  checkLimits(centre, account, amount);

  const answer = head(centre);
  const transfer = enter(request, account, {
    kind: "withdraw",
    bankTranId: fields.bank_tran_id,
    apiTranId: answer.api_tran_id,
    amount,
    fintechUseNum: fields.fintech_use_num,
    memberNumber: fields.req_client_num,
    printOurs: fields.dps_print_content,
    printTheirs: fields.wd_print_content || INSTITUTION.holder,
    purpose: fields.transfer_purpose,
  });
  return {
    ...answer,
    ...headOf(request, transfer, "A0002"),
    ...ourSide("dps_", fields.dps_print_content),
    ...bankHead(transfer.bankTranId, transfer.date, account.bankCode, transfer.code),
    ...theirSide(transfer),
    wd_limit_remain_amt: `${remaining(centre, account)}`,
  };
}

/** POST /v2.0/transfer/deposit/fin_num */
export function depositFin(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.depositFin, request.fields);
  const [item] = fields.req_list;
  beginDeposit(centre, fields, item);
  const consent = centre.consents.find(item.fintech_use_num);
  if (!consent || (!consent.inquiryTime && !consent.transferTime)) throw new Refusal("A0323");
  return deposit(request, fields, item, consent.account);
}

/** POST /v2.0/transfer/deposit/acnt_num */
export function depositAccount(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.depositAccount, request.fields);
  const [item] = fields.req_list;
  beginDeposit(centre, fields, item);
  const { bank_code_std, account_num, account_holder_name } = item;
  if (!bankName(bank_code_std)) throw new Refusal("A0004", "bank_code_std");
  const account = centre.ledger.findAccount(bank_code_std, account_num) ?? nobodys(bank_code_std, account_num);
  const isChecked = fields.name_check_option === "on" && account.holderName !== "";
  if (isChecked && account.holderName !== account_holder_name) throw new Refusal("A0312");
  return deposit(request, fields, item, account);
}

type DepositFields = { cntr_account_num: string; wd_pass_phrase: string; wd_print_content: string };
type DepositItem = {
  tran_no: string;
  bank_tran_id: string;
  tran_amt: string;
  print_content: string;
  req_client_num: string;
  transfer_purpose: string;
  fintech_use_num?: string;
  cms_num?: string;
};

function beginDeposit(centre: Centre, fields: DepositFields, item: DepositItem) {
  claimTranId(centre, item.bank_tran_id);
  checkContract(fields.cntr_account_num);
  if (fields.wd_pass_phrase !== INSTITUTION.passPhrase) throw new Refusal("A0307");
}

function deposit(request: Request, fields: DepositFields, item: DepositItem, account: Account) {
  const { centre } = request;
  const amount = BigInt(item.tran_amt);
  if (amount > INSTITUTION.depositMax) throw new Refusal("A0106");

  const answer = head(centre);
  const transfer = enter(request, account, {
    kind: "deposit",
    bankTranId: item.bank_tran_id,
    apiTranId: answer.api_tran_id,
    amount,
    fintechUseNum: item.fintech_use_num ?? "",
    memberNumber: item.req_client_num,
    purpose: item.transfer_purpose,
    printOurs: fields.wd_print_content,
    printTheirs: item.print_content,
  });
  return {
    ...answer,
    ...headOf(request, transfer, "A0000"),
    ...ourSide("wd_", fields.wd_print_content),
    res_cnt: "1",
    res_list: [
      {
        tran_no: item.tran_no,
        ...bankHead(transfer.bankTranId, transfer.date, account.bankCode, transfer.code),
        ...theirSide(transfer),
        account_num: item.fintech_use_num ? "" : account.number,
        cms_num: item.cms_num ?? "",
      },
    ],
  };
}

/** POST /v2.0/transfer/result: what became of one order, found by its id, its day and its amount. */
export function getResult(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.result, request.fields);
  const [{ tran_no, org_bank_tran_id, org_bank_tran_date, org_tran_amt }] = fields.req_list;
  const kind = fields.check_type === "1" ? "withdraw" : "deposit";
  const found = centre.ledger.inquire(kind, org_bank_tran_id, org_bank_tran_date, BigInt(org_tran_amt));
  if (!found) throw new Refusal("A0310");
  const { account, fintechUseNum, printOurs, printTheirs } = found;
  const [us, them] = kind === "withdraw" ? (["dps_", "wd_"] as const) : (["wd_", "dps_"] as const);
  return {
    ...head(centre),
    res_cnt: "1",
    res_list: [
      {
        tran_no,
        ...bankHead(found.bankTranId, found.date, account.bankCode, found.code),
        ...ourSide(us, printOurs),
        ...bankFields(them, account.bankCode),
        [`${them}fintech_use_num`]: fintechUseNum,
        [`${them}account_num_masked`]: masked(account.number),
        [`${them}print_content`]: printTheirs,
        [`${them}account_holder_name`]: account.holderName,
        tran_amt: `${found.amount}`,
      },
    ],
  };
}

/** POST /v2.0/inquiry/receive: whom a deposit would reach. */
export function inquireReceiver(request: Request) {
  const { centre } = request;
  const fields = readFields(schemas.receive, request.fields);
  claimTranId(centre, fields.bank_tran_id);
  checkContract(fields.cntr_account_num);
  const consent = centre.consents.find(fields.fintech_use_num ?? "");
  if (fields.fintech_use_num && !consent) throw new Refusal("A0323");
  const { bank_code_std = "", account_num = "" } = fields;
  const account = consent?.account ?? accountAt(request, bank_code_std, account_num);
  reachBank(request, account.bankCode);
  if (account.block) throw new BankRefusal(account.block, account.bankCode);
  return {
    ...head(centre),
    ...bankHead(fields.bank_tran_id, seoul(centre.clock.now()).date, account.bankCode),
    ...bankFields("", account.bankCode),
    savings_bank_name: "",
    fintech_use_num: fields.fintech_use_num ?? "",
    account_num: account.number,
    account_num_masked: masked(account.number),
    account_seq: "",
    print_content: fields.print_content,
    account_holder_name: account.holderName,
    ...bankFields("wd_", INSTITUTION.bankCode),
    wd_account_num: INSTITUTION.account,
    tran_amt: fields.tran_amt,
    cms_num: fields.cms_num ?? "",
  };
}

type Order = Omit<Transfer, "account" | "date" | "time" | "plan" | "code" | "isBooked">;

/** The order has passed the centre, and reaches the bank. */
function enter(request: Request, account: Account, order: Order): Transfer {
  const word = bankWord(request, account.bankCode);
  const time = request.centre.clock.now();
  return request.centre.ledger.enter({ ...order, account, time, date: seoul(time).date, plan: planOf(request) }, word);
}

/** How a bank that takes its time will end it. Without a number it waits for one look. */
function planOf({ centre, fault }: Request): Plan | undefined {
  if (fault?.kind !== "processing") return undefined;
  const { code, isBookedAtOnce, inquiries, ms, isNever } = fault;
  const never = Number.POSITIVE_INFINITY;
  return {
    code,
    isBookedAtOnce,
    inquiriesLeft: isNever ? never : (inquiries ?? (ms === undefined ? 0 : never)),
    dueTime: isNever || ms === undefined ? never : centre.clock.now().getTime() + ms,
  };
}

/** The head of an order that a bank did not carry out: nobody has settled which, so a script may choose. */
function headOf({ fault }: Request, { code }: Transfer, declined: string) {
  if (code === "000") return {};
  const scripted = fault?.kind === "processing" || fault?.kind === "decline" ? fault.head : undefined;
  const chosen = scripted ?? declined;
  return { rsp_code: chosen, rsp_message: centreMessage(chosen) };
}

function checkContract(number: string) {
  if (number !== INSTITUTION.account) throw new Refusal("A0322");
}

function checkLimits(centre: Centre, { citizen }: Account, amount: bigint) {
  if (amount > INSTITUTION.withdrawMax) throw new Refusal("A0105");
  if (!citizen) return;
  if (amount > citizen.transferLimit) throw new Refusal("A0111");
  const drawn = centre.ledger.drawnOn(citizen, seoul(centre.clock.now()).date);
  if (drawn + amount > citizen.dayLimit) throw new Refusal("A0112");
}

function remaining(centre: Centre, { citizen }: Account): bigint {
  if (!citizen) return 0n;
  const left = citizen.dayLimit - centre.ledger.drawnOn(citizen, seoul(centre.clock.now()).date);
  return left > 0n ? left : 0n;
}

const ourSide = (prefix: "dps_" | "wd_", print: string) => ({
  ...bankFields(prefix, INSTITUTION.bankCode),
  [`${prefix}account_num_masked`]: masked(INSTITUTION.account),
  [`${prefix}print_content`]: print,
  [`${prefix}account_holder_name`]: INSTITUTION.holder,
});

const theirSide = ({ account, fintechUseNum, printTheirs, amount }: Transfer) => ({
  fintech_use_num: fintechUseNum,
  account_alias: account.alias || account.productName,
  ...bankFields("", account.bankCode),
  savings_bank_name: "",
  account_num_masked: masked(account.number),
  print_content: printTheirs,
  account_holder_name: account.holderName,
  tran_amt: `${amount}`,
});
