import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type BankTransfer, BankService, BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { ErrorInfoSchema, Reason, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import { PaymentSchema, PaymentService } from "../../gen/chatpay/payment/v1/payment_pb.ts";
import { TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { type Credential, sendCredential } from "../support/server.ts";
import { type Chance, oneOf } from "./chance.ts";

/** What people order, as a chat server does it for them: again with the same key until it knows what became of it. */

export type Kind = "topUp" | "withdraw" | "send" | "pay" | "save" | "takeOut";

export interface Order {
  kind: Kind;
  /** Whose money it is. */
  by: { accountId: bigint; clients: Clients[] };
  key: string;
  amount: bigint;
  /** The bank account, wallet, partner or savings wallet that it is about. */
  about: string;
  /** The id of what was done, once that is known. */
  done?: string;
  /** The bank has declined it, which stays so. */
  declined?: boolean;
  /** Why it was refused when it was last answered. */
  refused?: Refused | undefined;
  /** Calls that nobody answered, or not with an outcome: they may be at it still. */
  open: number;
}

interface Refused {
  reason: string;
  metadata: Record<string, string>;
}

/** What an attempt came to; none of it when nobody knows yet. */
interface Answer {
  done?: string;
  refused?: Refused;
  /** The server has answered, that the bank has not. */
  isWaiting?: boolean;
}

export type Clients = ReturnType<typeof clientsAt>;

/** The calls of somebody at one server, which may be another process each time. */
export function clientsAt(grpcPort: number, credential: Credential) {
  const transport = createGrpcTransport({
    baseUrl: `http://127.0.0.1:${grpcPort}`,
    interceptors: [sendCredential(credential)],
  });
  return {
    banks: createClient(BankService, transport),
    transfers: createClient(TransferService, transport),
    payments: createClient(PaymentService, transport),
    wallets: createClient(WalletService, transport),
  };
}

type Timing = { timeoutMs: number };

const CALLS: Record<Kind, (clients: Clients, order: Order, timing: Timing) => Promise<Answer>> = {
  topUp: async ({ banks }, { key: idempotencyKey, about: bankAccountId, amount }, timing) =>
    asTold((await banks.topUp({ idempotencyKey, bankAccountId, amount }, timing)).bankTransfer),
  withdraw: async ({ banks }, { key: idempotencyKey, about: bankAccountId, amount }, timing) =>
    asTold((await banks.withdraw({ idempotencyKey, bankAccountId, amount }, timing)).bankTransfer),
  send: async ({ transfers }, { key: idempotencyKey, about: recipientWalletId, amount }, timing) =>
    made((await transfers.sendTransfer({ idempotencyKey, recipientWalletId, amount }, timing)).transfer),
  pay: async ({ payments }, { key: orderKey, about: partnerId, amount }, timing) =>
    made((await payments.approvePayment({ orderKey, partnerId, amount }, timing)).payment),
  save: async ({ wallets }, { key: idempotencyKey, about: savingsWalletId, amount }, timing) =>
    made((await wallets.depositSavings({ idempotencyKey, savingsWalletId, amount }, timing)).move),
  takeOut: async ({ wallets }, { key: idempotencyKey, about: savingsWalletId, amount }, timing) =>
    made((await wallets.withdrawSavings({ idempotencyKey, savingsWalletId, amount }, timing)).move),
};

const made = (what: { id: string } | undefined): Answer => (what ? { done: what.id } : {});

const asTold = (transfer: BankTransfer | undefined): Answer =>
  transfer?.state === BankTransfer_State.SUCCEEDED ? made(transfer) : { isWaiting: true };

/** What a refusal says for good; all other failures say nothing. */
const DECIDING = new Set([
  Code.FailedPrecondition,
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.OutOfRange,
]);

function answerIn(failure: unknown): Answer {
  const error = ConnectError.from(failure);
  const [info] = error.findDetails(ErrorInfoSchema);
  if (!info || !DECIDING.has(error.code)) return {};
  // Somebody else's would come without the payment.
  const [payment] = error.findDetails(PaymentSchema);
  if (info.reason === Reason.PAYMENT_EXISTS && payment) return made(payment);
  const { [info.reason]: reason } = ReasonSchema.value;
  return { refused: { reason: reason?.localName ?? "", metadata: info.metadata } };
}

const CALL_MS = 4_000;
/** Some callers leave early. */
const HASTY_MS = 200;
const HASTY_SHARE = 0.15;
const PAUSE_MS = 100;

export interface Desk {
  orders: Order[];
  /** What contradicts what was known before. */
  contradictions: string[];
  /** How many calls ended so: by reason, or by code. */
  counts: Map<string, number>;
}

export const openDesk = (): Desk => ({ orders: [], contradictions: [], counts: new Map() });

export function place(desk: Desk, order: Omit<Order, "key" | "open">): Order {
  const placed = { ...order, key: randomUUID(), open: 0 };
  desk.orders.push(placed);
  return placed;
}

/** Calls until it is known what became of the order, or for so long; at any server, so perhaps at several at once. */
export async function pursue(desk: Desk, chance: Chance, order: Order, patienceMs: number): Promise<boolean> {
  for (const endMs = Date.now() + patienceMs; ; ) {
    const answer = await attempt(desk, chance, order);
    if (answer.done !== undefined || answer.refused) return true;
    if (Date.now() > endMs) return false;
    await sleep(PAUSE_MS);
  }
}

async function attempt(desk: Desk, chance: Chance, order: Order): Promise<Answer> {
  const before = { ...order };
  const timing = { timeoutMs: chance() < HASTY_SHARE ? HASTY_MS : CALL_MS };
  let answer: Answer;
  try {
    answer = await CALLS[order.kind](oneOf(chance, order.by.clients), order, timing);
    count(desk, answer.isWaiting ? "waiting" : "done");
  } catch (failure) {
    answer = answerIn(failure);
    count(desk, answer.refused?.reason ?? Code[ConnectError.from(failure).code]);
  }
  if (answer.done === undefined && !answer.refused) order.open += 1;
  const contradiction = contradictionIn(before, answer);
  if (contradiction) desk.contradictions.push(`${order.kind} ${order.key}: ${contradiction}`);
  if (answer.done !== undefined) order.done = answer.done;
  if (answer.refused) order.refused = answer.refused;
  if (isDeclined(order, answer)) order.declined = true;
  return answer;
}

/** A top-up or withdrawal whose bank has said no; whatever draws may try another time. */
const isDeclined = ({ kind }: Order, { refused }: Answer) =>
  (kind === "topUp" || kind === "withdraw") && refused?.reason === "BANK_DECLINED";

/** An answer must fit what was known when it was asked for. */
function contradictionIn(before: Order, answer: Answer): string | undefined {
  const { done, declined } = before;
  if (done !== undefined && answer.done !== undefined && answer.done !== done) return `was ${done}, is ${answer.done}`;
  if (done !== undefined && answer.refused) return `was done, is refused: ${answer.refused.reason}`;
  if (declined && answer.done !== undefined) return "was declined, is done";
  if (declined && answer.refused && !isDeclined(before, answer)) return `was declined, is ${answer.refused.reason}`;
  return undefined;
}

const count = ({ counts }: Desk, what = "") => counts.set(what, (counts.get(what) ?? 0) + 1);

/** Whether only a new consent lets money be drawn. */
export const needsConsent = ({ refused }: Order) =>
  refused?.reason === "BANK_CONSENT_MISSING" ||
  (refused?.reason === "BANK_DECLINED" && ["CONSENT", "A0306", "A0319"].includes(refused.metadata.code ?? ""));
