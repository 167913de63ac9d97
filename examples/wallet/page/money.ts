import type { BankTransfer } from "../../../gen/chatpay/bank/v1/bank_pb.ts";
import { carryOut, isOutcome, type Order, waiting } from "./outbox.ts";
import { CallError, call, type Json } from "./rpc.ts";
import { change, fail, isUnderWay, loadBanks, otherTabs, reload, state, tell } from "./state.ts";
import { done, t, underWay } from "./text.ts";
import { textOf } from "./ui.ts";

/** Orders to move money: made, sent, and sent again. */

const RPCS: Record<Order["what"], string> = {
  topUp: "chatpay.bank.v1.BankService/TopUp",
  withdraw: "chatpay.bank.v1.BankService/Withdraw",
  send: "chatpay.transfer.v1.TransferService/SendTransfer",
  pay: "chatpay.payment.v1.PaymentService/ApprovePayment",
  save: "chatpay.wallet.v1.WalletService/DepositSavings",
  unsave: "chatpay.wallet.v1.WalletService/WithdrawSavings",
};

/** Does what the sheet asks for, with the PIN if the sheet has asked for one. */
export async function move(what: Order["what"], amount: string, request: object, fields: FormData) {
  const pin = await pinIn(fields);
  const key = crypto.randomUUID();
  const { id: accountId = "" } = state.account;
  // A payment happens once by the key of its order, which is the shop's to choose; here the page is the shop.
  const order = {
    key,
    accountId,
    what,
    rpc: RPCS[what],
    amount,
    request: { amount, ...request, ...(what === "pay" && { orderKey: key }) },
  };
  try {
    await settle(order, pin);
    change({ sheet: undefined });
  } catch (error) {
    if (!isOutcome(error)) change({ sheet: undefined });
    if (state.sheet && error instanceof CallError && /^PIN_(REQUIRED|LOCKED)$/.test(error.reason)) {
      const isUsable = state.account.hasPin && error.reason === "PIN_REQUIRED";
      change({ sheet: { ...state.sheet, pin: isUsable ? "ask" : "set" } });
    }
    throw error;
  } finally {
    await look();
  }
}

/** Sends everything again whose outcome is not known. */
export async function carryOutAgain() {
  const orders = waiting(state.account.id);
  if (orders.length === 0) return;
  let unknown: unknown;
  for (const order of orders) {
    await settle(order, "").catch((error: unknown) => {
      if (isOutcome(error)) fail(error);
      else unknown = error;
    });
  }
  await look();
  if (unknown) throw unknown;
}

interface Moved {
  bankTransfer?: BankTransfer;
}

async function settle(order: Order, pin: string) {
  const answer = await carryOut<Moved>(order, pin).catch((error: unknown): Json<Moved> => {
    // The order was paid, and its key is known to nobody else.
    if (error instanceof CallError && error.reason === "PAYMENT_EXISTS") return {};
    throw error;
  });
  if (!answer) return;
  const isWaiting = answer.bankTransfer && isUnderWay(answer.bankTransfer);
  tell(isWaiting ? underWay(order) : done(order));
}

async function look() {
  otherTabs.postMessage("moved");
  await reload().catch(fail);
  void loadBanks().catch(fail);
}

/** The PIN, which is set first where there is none, or none that works. */
async function pinIn(fields: FormData): Promise<string> {
  const pin = textOf(fields, "pin");
  if (state.sheet?.pin !== "set") return pin;
  const { email } = state.account;
  await call("chatpay.account.v1.AccountService/SetPin", { email, code: textOf(fields, "code"), pin });
  change({ account: { ...state.account, hasPin: true }, sheet: { ...state.sheet, pin: "ask" } });
  return pin;
}

/** A code with which the PIN is set. */
export async function sendPinCode() {
  const { email } = state.account;
  await call("chatpay.account.v1.AccountService/SendCode", { email, purpose: "CODE_PURPOSE_SET_PIN" });
  if (state.sheet) change({ sheet: { ...state.sheet, told: t.codeSent(email ?? "") } });
}
