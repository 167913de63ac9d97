import { type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { allow, CallerKind } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import { callerNotAllowed, credentialMissing } from "../errors.ts";
import { type Authenticate, type Caller, setCaller } from "./caller.ts";
import type { Route } from "./route.ts";

const KINDS: Record<string, Caller["kind"]> = {
  [CallerKind.ANYONE]: "anyone",
  [CallerKind.PERSON]: "person",
  [CallerKind.SERVICE]: "service",
  [CallerKind.PARTNER]: "partner",
  [CallerKind.OPERATOR]: "operator",
};

/** Lets in the callers that the RPC's own option names. Throws when an RPC has no such option. */
export function admit(routes: Route[], authenticate: Authenticate): Interceptor {
  const rules = readRules(routes);
  return (next) => async (request) => {
    const kinds = rules.get(request.method) ?? [];
    // A credential that has ended must not keep its holder from asking for a new one.
    if (!kinds.includes("anyone")) {
      const caller = await authenticate(request.header);
      if (!kinds.includes(caller.kind))
        throw caller.kind === "anyone" ? credentialMissing() : callerNotAllowed(caller.kind);
      setCaller(request.contextValues, caller);
    }
    return next(request);
  };
}

function readRules(routes: Route[]) {
  const methods = routes.flatMap(({ service }) => service.methods);
  const undeclared = methods.filter((method) => !hasOption(method, allow) || kindsOf(method).length === 0);
  if (undeclared.length > 0) {
    const names = undeclared.map(({ parent, name }) => `${parent.typeName}/${name}`);
    throw new Error(`no (chatpay.auth.v1.allow) option says who may call: ${names.join(", ")}`);
  }
  return new Map(methods.map((method) => [method, kindsOf(method)]));
}

const kindsOf = (method: DescMethod) => getOption(method, allow).callers.flatMap((kind) => KINDS[kind] ?? []);
