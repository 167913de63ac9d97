import { z } from "zod";
import { isDate, isDateTime } from "./clock.ts";
import { Refusal } from "./codes.ts";

/** The fields of calls, as the centre's own notation has them: N digits, A capitals, a small letters, H Hangul, S signs. */

/** What a bank can print. */
const PRINTABLE = /^[\p{Script=Hangul}A-Za-z0-9 ()[\],.\-_&*:/#+]*$/u;

const text = (max: number) => z.string().max(max).regex(PRINTABLE);
const some = (max: number) => text(max).min(1);
const capitals = (max: number) => z.string().regex(new RegExp(`^[A-Z0-9]{1,${max}}$`));

const digits = (count: number) => z.string().regex(new RegExp(`^\\d{${count}}$`));

const bankTranId = z.string().regex(/^[A-Z0-9]{10}U[A-Z0-9]{9}$/);
const fintechUseNum = digits(24);
const bankCode = digits(3);
const accountNumber = z.string().regex(/^\d{1,16}$/);
const won = z.string().regex(/^[1-9]\d{0,11}$/);
const date = z.string().refine(isDate);
const dateTime = z.string().refine(isDateTime);
const time = z.string().regex(/^([01]\d|2[0-3])[0-5]\d[0-5]\d$/);
const purpose = z.enum(["TR", "ST", "RC", "AU", "WD", "EX"]);

/** The one who asks for the money: an account, or a fintech number, and never both. */
const client = {
  req_client_name: some(20),
  req_client_bank_code: bankCode.optional(),
  req_client_account_num: accountNumber.optional(),
  req_client_fintech_use_num: fintechUseNum.optional(),
  req_client_num: capitals(20),
  transfer_purpose: purpose,
};
type Client = { req_client_bank_code?: string; req_client_account_num?: string; req_client_fintech_use_num?: string };
const isOneClient = (from: Client) =>
  Boolean(from.req_client_bank_code) === Boolean(from.req_client_account_num) &&
  Boolean(from.req_client_bank_code) !== Boolean(from.req_client_fintech_use_num);

const contract = { cntr_account_type: z.enum(["N", "C"]), cntr_account_num: accountNumber };
const franchise = {
  sub_frnc_name: text(40).optional(),
  sub_frnc_num: z.string().max(20).optional(),
  sub_frnc_business_num: z.string().max(10).optional(),
};

export const me = z.object({ user_seq_no: digits(10) });
export const accounts = me.extend({ include_cancel_yn: z.enum(["Y", "N"]), sort_order: z.enum(["D", "A"]) });

export const balance = z.object({ bank_tran_id: bankTranId, fintech_use_num: fintechUseNum, tran_dtime: dateTime });

export const history = balance
  .extend({
    inquiry_type: z.enum(["A", "I", "O"]),
    inquiry_base: z.enum(["D", "T"]),
    from_date: date,
    to_date: date,
    from_time: time.optional(),
    to_time: time.optional(),
    sort_order: z.enum(["D", "A"]),
    befor_inquiry_trace_info: z.string().max(20).default(""),
  })
  .refine(({ inquiry_base, from_time, to_time }) => inquiry_base === "D" || Boolean(from_time && to_time))
  .refine(({ from_date, to_date }) => from_date <= to_date);

export const realName = z.object({
  bank_tran_id: bankTranId,
  bank_code_std: bankCode,
  account_num: accountNumber,
  account_seq: z.string().max(3).optional(),
  account_holder_info_type: z.enum([" ", "6"]),
  account_holder_info: z.string().min(1).max(13),
  tran_dtime: dateTime,
});

export const receive = z
  .object({
    ...contract,
    bank_tran_id: bankTranId,
    bank_code_std: bankCode.optional(),
    account_num: accountNumber.optional(),
    fintech_use_num: fintechUseNum.optional(),
    print_content: some(20),
    tran_amt: won,
    ...client,
    cms_num: z.string().max(32).optional(),
  })
  .refine(isOneClient)
  .refine((one) => Boolean(one.bank_code_std && one.account_num) !== Boolean(one.fintech_use_num));

export const withdraw = z
  .object({
    ...contract,
    bank_tran_id: bankTranId,
    dps_print_content: some(20),
    fintech_use_num: fintechUseNum,
    wd_print_content: text(20).optional(),
    tran_amt: won,
    tran_dtime: dateTime,
    ...client,
    ...franchise,
    recv_client_name: text(20).optional(),
    recv_client_bank_code: bankCode.optional(),
    recv_client_account_num: accountNumber.optional(),
  })
  .refine(isOneClient);

const depositHead = {
  ...contract,
  ...franchise,
  wd_pass_phrase: z.string().min(1).max(128),
  wd_print_content: some(20),
  name_check_option: z.enum(["on", "off"]).default("on"),
  tran_dtime: dateTime,
  req_cnt: z.literal("1"),
};
const depositItem = {
  tran_no: z.string().regex(/^\d{1,5}$/),
  bank_tran_id: bankTranId,
  print_content: some(20),
  tran_amt: won,
  ...client,
  recv_bank_tran_id: bankTranId.optional(),
  cms_num: z.string().max(32).optional(),
  withdraw_bank_tran_id: bankTranId.optional(),
};

/** To a fintech number, and to any account. */
export const depositFin = z.object({
  ...depositHead,
  req_list: z.tuple([z.object({ ...depositItem, fintech_use_num: fintechUseNum }).refine(isOneClient)]),
});
export const depositAccount = z.object({
  ...depositHead,
  req_list: z.tuple([
    z
      .object({
        ...depositItem,
        bank_code_std: bankCode,
        account_num: accountNumber,
        account_holder_name: some(20).optional(),
      })
      .refine(isOneClient),
  ]),
});

export const result = z.object({
  check_type: z.enum(["1", "2"]),
  tran_dtime: dateTime,
  req_cnt: z.literal("1"),
  req_list: z.tuple([
    z.object({
      tran_no: z.string().regex(/^\d{1,5}$/),
      org_bank_tran_id: bankTranId,
      org_bank_tran_date: date,
      org_tran_amt: won,
    }),
  ]),
});

export const cancel = z.object({
  bank_tran_id: bankTranId,
  scope: z.enum(["inquiry", "transfer"]),
  fintech_use_num: fintechUseNum,
});
export const close = z.object({ client_use_code: z.string().length(10), user_seq_no: digits(10) });

/** Reads what came, or refuses it by the name of the first field that is wrong. */
export function readFields<S extends z.ZodType>(schema: S, fields: unknown): z.output<S> {
  const read = schema.safeParse(fields);
  if (read.success) return read.data;
  throw new Refusal("A0004", read.error.issues[0]?.path.join(".") || "body");
}
