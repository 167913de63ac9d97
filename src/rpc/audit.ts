import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError, type Interceptor, type UnaryRequest } from "@connectrpc/connect";
import { CallerKind } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import { BankService } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { ErrorInfoSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import { PaymentService } from "../../gen/chatpay/payment/v1/payment_pb.ts";
import { RequestService } from "../../gen/chatpay/transfer/v1/request_pb.ts";
import { TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { AuditRow } from "../db/schema.ts";
import { idOf } from "../id.ts";
import { type Caller, callerOf, subjectOf } from "./caller.ts";
import { answerTo, requestIdOf } from "./observe.ts";
import { originOf } from "./origin.ts";
import type { Route } from "./route.ts";
import { ending } from "./stream.ts";

/** What a call says of itself; the trail adds an id and the time. */
export type AuditEntry = Omit<AuditRow, "id" | "createTime">;

/** Where records are kept. Neither way of writing ever fails: what the call did cannot be taken back. */
export interface Trail {
  /** Resolves when the record is committed, or given up. */
  write(entry: AuditEntry): Promise<void>;
  /** The record follows within moments; when too many wait, it is dropped. */
  writeLater(entry: AuditEntry): void;
}

/**
 * The hash-chained log says in the same commit who moved money, so nobody waits for this record too. What all the
 * others change is told only here: they wait, so that no change is answered of which nobody knows who made it.
 */
const MOVES_MONEY = new Set<DescMethod>([
  TransferService.method.sendTransfer,
  TransferService.method.batchSendTransfers,
  RequestService.method.payRequest,
  TransferService.method.sendGift,
  TransferService.method.acceptGift,
  TransferService.method.declineGift,
  TransferService.method.cancelGift,
  PaymentService.method.approvePayment,
  WalletService.method.creditWallet,
  WalletService.method.debitWallet,
  WalletService.method.depositSavings,
  WalletService.method.withdrawSavings,
  BankService.method.topUp,
  BankService.method.withdraw,
]);

/** What is known of a method before anybody calls it. */
interface Plan {
  rpc: string;
  changes: boolean;
  waits: boolean;
  /** The field of the request that names one of what the answer holds, as key_id where it holds a key. */
  changed: string | undefined;
  /** The field of the answer that holds what the call made or changed. */
  made: string | undefined;
  /** The first field of the request that names something. */
  named: string | undefined;
}

/**
 * Writes a record of every call that changes something, and of every credential that opened nothing. What was shed or
 * limited leaves none: a flood of calls must not become a flood of rows.
 */
export function audit(routes: Route[], trail: Trail): Interceptor {
  const plans = new Map(routes.flatMap(({ service }) => service.methods).map((method) => [method, planOf(method)]));

  return (next) => async (request) => {
    const plan = plans.get(request.method) ?? planOf(request.method);
    const asked = request.stream ? undefined : request.message;
    const settle = (failure?: unknown, answer?: Message) => {
      const error = failure === undefined ? undefined : answerTo(failure, request.signal);
      if (!isRecorded(plan, error)) return;
      const entry = entryOf(plan, request, { error, asked, answer });
      if (plan.waits) return trail.write(entry);
      trail.writeLater(entry);
    };

    try {
      const response = await next(request);
      // Nobody can hold back what a stream has said, so its record follows when it ends.
      if (response.stream) return { ...response, message: ending(response.message, (failure) => void settle(failure)) };
      const written = settle(undefined, response.message);
      if (written) await written;
      return response;
    } catch (failure) {
      await settle(failure);
      throw failure;
    }
  };
}

const isRecorded = ({ changes }: Plan, error: ConnectError | undefined) => {
  if (error?.code === Code.ResourceExhausted) return false;
  return changes || error?.code === Code.Unauthenticated || error?.code === Code.PermissionDenied;
};

interface Outcome {
  error: ConnectError | undefined;
  asked: Message | undefined;
  answer: Message | undefined;
}

type Context = Pick<UnaryRequest, "contextValues">;

/** Ids, codes and an address of the network: nothing else of a request ever gets here. */
function entryOf(plan: Plan, { contextValues: values }: Context, { error, asked, answer }: Outcome): AuditEntry {
  const caller = callerOf({ values });
  // A call that ends one and makes another, as RotateKey, is found where somebody asks what became of the one.
  const changed = idIn(asked, plan.changed);
  const made = idIn(answer && plan.made && fieldOf(answer, plan.made), "id");
  const subject = subjectOf({ values });
  return {
    rpc: plan.rpc,
    code: error?.code ?? 0,
    reason: error?.findDetails(ErrorInfoSchema)[0]?.reason ?? 0,
    caller: KINDS[caller.kind],
    accountId: "accountId" in caller ? caller.accountId : (subject?.accountId ?? null),
    partnerId: "partnerId" in caller ? caller.partnerId : null,
    keyId: "keyId" in caller ? caller.keyId : null,
    sessionId: "sessionId" in caller ? caller.sessionId : (subject?.sessionId ?? null),
    objectId: changed ?? made ?? idIn(asked, plan.named),
    ip: originOf({ values }).ip,
    requestId: requestIdOf({ values }),
  };
}

const KINDS: Record<Caller["kind"], CallerKind> = {
  anyone: CallerKind.ANYONE,
  person: CallerKind.PERSON,
  service: CallerKind.SERVICE,
  partner: CallerKind.PARTNER,
  operator: CallerKind.OPERATOR,
};

function planOf(method: DescMethod): Plan {
  const made = method.output.fields.find((field) => field.fieldKind === "message" && hasId(field.message));
  const changed = method.input.fields.find(
    ({ name, fieldKind }) => fieldKind === "scalar" && name === `${made?.name}_id`,
  );
  const named = method.input.fields.find(({ name, fieldKind }) => fieldKind === "scalar" && name.endsWith("_id"));
  return {
    rpc: `${method.parent.typeName}/${method.name}`,
    changes: method.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
    waits: !MOVES_MONEY.has(method),
    changed: changed?.localName,
    made: made?.localName,
    named: named?.localName,
  };
}

const hasId = ({ fields }: DescMessage) => fields.some(({ name }) => name === "id");

const fieldOf = (message: unknown, name: string) => (message as Record<string, unknown>)[name];

const ID = /^[1-9][0-9]{0,18}$/;

/** The id in that field. A request that was refused may have anything there. */
function idIn(message: unknown, field: string | undefined): bigint | null {
  if (typeof message !== "object" || message === null || field === undefined) return null;
  const text = fieldOf(message, field);
  // 0 is the id of nothing.
  return typeof text === "string" && ID.test(text) ? idOf(text) || null : null;
}
