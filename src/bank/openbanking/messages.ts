import { z } from "zod";
import { fromSeoul } from "../../seoul.ts";
import { readable } from "./text.ts";

/**
 * What the centre answers, as far as it is looked at. Every value is a string. Lengths are KFTC's, or shorter where we
 * store less.
 */

/** What may be left out is empty then; some leave it out by null. */
const optional = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
const text = (max: number) => optional.transform((value) => readable(value, max));
/** Anything but what we expect is as good as nothing. */
const optionalMatch = (pattern: RegExp) => optional.transform((value) => (pattern.test(value) ? value : ""));
const won = z
  .string()
  .regex(/^[0-9]{1,12}$/)
  .transform(BigInt);
const signedWon = z
  .string()
  .regex(/^-?[0-9]{1,13}$/)
  .transform(BigInt);
const day = z.string().regex(/^[0-9]{8}$/);
const yes = optional.transform((value) => value === "Y");

/** Who says what, in every answer. */
const head = {
  rsp_code: z.string().regex(/^[A-Z0-9]{1,5}$/),
  rsp_message: text(200),
};
/** What the bank says, when one took part. */
const bankHead = {
  bank_code_tran: optionalMatch(/^[0-9]{3}$/),
  bank_rsp_code: optional.transform((value) => value.trim()),
  bank_rsp_message: text(100),
};

export const Head = z.object({ ...head, ...bankHead });
export type Head = z.infer<typeof Head>;

/** A transfer, or what became of one. Whoever looks at it decides what must be there. */
const transfer = z.object({
  ...bankHead,
  bank_tran_id: optional,
  bank_tran_date: optional,
  tran_amt: optional,
});
export type TransferPart = z.infer<typeof transfer>;

const transferHead = { ...head, api_tran_id: optionalMatch(/^[\x21-\x7e]{1,40}$/) };
export const WithdrawAnswer = transfer.extend(transferHead);
/** One transfer is asked for at a time. */
export const TransferList = transfer.extend({ ...transferHead, res_list: z.array(transfer).max(1).nullish() });

/** It goes into a header and into a column. */
const token = z.string().regex(/^[\x21-\x7e]{1,3000}$/);
/** Seconds; also seen as a number. */
const seconds = z.union([z.string().regex(/^[0-9]{1,9}$/), z.int().positive().max(999_999_999)]).transform(Number);

export const InstitutionAnswer = z.object({ access_token: token, expires_in: seconds });
export const GrantAnswer = InstitutionAnswer.extend({
  refresh_token: token,
  user_seq_no: z.string().regex(/^[0-9]{1,10}$/),
  scope: z.string().regex(/^[a-z ]{0,100}$/),
});

const consented = z
  .object({
    fintech_use_num: z.string().regex(/^[0-9A-Z]{1,24}$/),
    bank_code_std: z.string().regex(/^[0-9]{3}$/),
    bank_name: text(20),
    /** One of the savings banks, which share a code. */
    savings_bank_name: text(20),
    account_num: optionalMatch(/^[0-9]{1,16}$/),
    account_num_masked: text(20),
    account_holder_name: text(20),
    account_alias: text(50),
    inquiry_agree_yn: yes,
    transfer_agree_yn: yes,
    account_state: optional,
  })
  .transform((account) => ({
    fintechUseNum: account.fintech_use_num,
    bankCode: account.bank_code_std,
    bankName: account.savings_bank_name || account.bank_name,
    maskedNumber: account.account_num_masked,
    ...(account.account_num && { number: account.account_num }),
    holderName: account.account_holder_name,
    alias: account.account_alias,
    inquiryAgreed: account.inquiry_agree_yn,
    transferAgreed: account.transfer_agree_yn,
    isOpen: account.account_state !== "09",
  }));

export const AccountsAnswer = z.object({
  res_list: z
    .array(consented)
    .nullish()
    .transform((list) => list ?? []),
});
export const UserAnswer = AccountsAnswer.extend({
  user_name: text(20),
  user_ci: optionalMatch(/^[A-Za-z0-9+/=]{1,100}$/),
  user_info: optionalMatch(/^[0-9]{8}$/).transform((birth) => birth.replace(/^(....)(..)(..)$/, "$1-$2-$3")),
});

export const BalanceAnswer = z.object({ balance_amt: signedWon, available_amt: signedWon, product_name: text(100) });

const entry = z
  .object({
    tran_date: day,
    tran_time: z.string().regex(/^[0-9]{6}$/),
    inout_type: z.enum(["입금", "출금"]),
    tran_type: text(20),
    printed_content: text(40),
    /** What it was called in the first version. */
    print_content: text(40),
    tran_amt: won,
    after_balance_amt: signedWon,
    branch_name: text(40),
  })
  .transform((one, { addIssue }) => {
    const time = fromSeoul(one.tran_date + one.tran_time);
    if (!time) addIssue("no time");
    return {
      time: time ?? new Date(0),
      direction: one.inout_type === "입금" ? ("in" as const) : ("out" as const),
      amount: one.tran_amt,
      balanceAfter: one.after_balance_amt,
      content: one.printed_content || one.print_content,
      kind: one.tran_type,
      branch: one.branch_name,
    };
  });

export const TransactionsAnswer = z.object({
  balance_amt: signedWon,
  next_page_yn: yes,
  /** Spelled so. */
  befor_inquiry_trace_info: optionalMatch(/^[\x20-\x7e]{1,40}$/),
  res_list: z
    .array(entry)
    .nullish()
    .transform((list) => list ?? []),
});
/** Of an account in which nothing happened on these days. */
export const NoTransactionsAnswer = z.object({ balance_amt: signedWon.optional().catch(undefined) });

export const RealNameAnswer = z.object({ account_holder_name: text(20), bank_name: text(20) });
