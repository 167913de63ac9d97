import { BankAccount_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Rules } from "../../src/bank/commands.ts";
import type { Approved, Declined } from "../../src/bank/openbanking/contract.ts";
import type { BankAccountRow } from "../../src/db/schema.ts";

/** What the commands about banks need to know, with so much that may be drawn in a day. */
export const bankRules = (drawDay = 3_000_000n): Rules => ({
  tiers: new Map([
    ["standard", { drawDay, sendOnce: undefined, sendDay: undefined, sendStrangersDay: undefined, balance: undefined }],
  ]),
  institutionCode: "M202600001",
  silenceMs: 60_000,
});

/** A linked bank account, the primary one of its owner, that may be drawn from. */
export const bankAccountRow = (
  id: bigint,
  accountId: bigint,
  createTime: Date,
  fields: Partial<BankAccountRow> = {},
): BankAccountRow => ({
  id,
  accountId,
  state: BankAccount_State.LINKED,
  bankCode: "088",
  bankName: "신한은행",
  maskedNumber: "110-123-***",
  numberSealed: null,
  linkKey: null,
  fintechUseNum: String(id),
  holderName: "Somebody",
  alias: "",
  primaryOf: accountId,
  canInquire: 1,
  canDraw: 1,
  automaticTopUp: 1,
  topUpUnit: 1n,
  createTime,
  updateTime: createTime,
  unlinkTime: null,
  revokeDueTime: null,
  revokeTries: 0,
  leaseOwner: "",
  leaseUntil: null,
  apiKeyId: null,
  tellDueTime: null,
  ...fields,
});

export const approved = (amount: bigint): Approved => ({
  is: "approved",
  tranDate: "20261231",
  apiTranId: "x",
  amount,
});

export const declined: Declined = { is: "declined", code: "453", message: "잔액부족", bankCode: "088" };
