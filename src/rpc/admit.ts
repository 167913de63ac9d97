import { type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { allow, CallerKind, Scope } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import { callerNotAllowed, credentialMissing, scopeMissing } from "../errors.ts";
import { type Authenticate, type Caller, setCaller } from "./caller.ts";
import { originOf } from "./origin.ts";
import type { Route } from "./route.ts";

const KINDS: Record<string, Caller["kind"]> = {
  [CallerKind.ANYONE]: "anyone",
  [CallerKind.PERSON]: "person",
  [CallerKind.SERVICE]: "service",
  [CallerKind.PARTNER]: "partner",
  [CallerKind.OPERATOR]: "operator",
};

/** The kinds whose credential is an API key. */
const KEY_KINDS = ["service", "partner", "operator"] as const satisfies Caller["kind"][];

/** Who may call an RPC, and the scope that an API key needs for it if it has any. */
interface Rule {
  kinds: Caller["kind"][];
  scope: Scope;
}

/**
 * Lets in the callers that the RPC's own option names, and tells which API key got somebody in. Throws when an RPC has
 * no such option, or one that names no scope for API keys.
 */
export function admit(routes: Route[], authenticate: Authenticate, noteKeyUse: (keyId: bigint) => void): Interceptor {
  const rules = readRules(routes);
  return (next) => async (request) => {
    const rule = rules.get(request.method) ?? { kinds: [], scope: Scope.UNSPECIFIED };
    const { ip } = originOf({ values: request.contextValues });
    if (rule.kinds.includes("anyone")) {
      // A credential that has ended must not keep its holder from asking for a new one. A forged word of the gateway may.
      if (request.header.has("chatpay-caller")) await authenticate(request.header, ip);
      return next(request);
    }
    const caller = await authenticate(request.header, ip);
    // Before the refusal, so that whoever looks on sees who was refused.
    setCaller(request.contextValues, caller);
    refuseOthers(rule, caller);
    if ("keyId" in caller) noteKeyUse(caller.keyId);
    return next(request);
  };
}

function refuseOthers({ kinds, scope }: Rule, caller: Caller) {
  if (!kinds.includes(caller.kind))
    throw caller.kind === "anyone" ? credentialMissing() : callerNotAllowed(caller.kind);
  if ("keyId" in caller && caller.scopes && !caller.scopes.has(scope)) throw scopeMissing(scope);
}

function readRules(routes: Route[]): Map<DescMethod, Rule> {
  const methods = routes.flatMap(({ service }) => service.methods);
  const rules = new Map(methods.map((method) => [method, ruleOf(method)]));
  const namesWhere = (isWrong: (rule: Rule) => boolean) =>
    [...rules].flatMap(([{ parent, name }, rule]) => (isWrong(rule) ? [`${parent.typeName}/${name}`] : [])).join(", ");

  const undeclared = namesWhere(({ kinds }) => kinds.length === 0);
  if (undeclared !== "") throw new Error(`no (chatpay.auth.v1.allow) option says who may call: ${undeclared}`);
  const unscoped = namesWhere(
    ({ kinds, scope }) => scope === Scope.UNSPECIFIED && KEY_KINDS.some((kind) => kinds.includes(kind)),
  );
  if (unscoped !== "") throw new Error(`no scope says which API keys may call: ${unscoped}`);
  return rules;
}

function ruleOf(method: DescMethod): Rule {
  if (!hasOption(method, allow)) return { kinds: [], scope: Scope.UNSPECIFIED };
  const { callers, scope } = getOption(method, allow);
  return { kinds: callers.flatMap((kind) => KINDS[kind] ?? []), scope };
}
