import { type ContextValues, createContextKey } from "@connectrpc/connect";
import type { Scope } from "../../gen/chatpay/auth/v1/auth_pb.ts";

/** Who is calling, as their credential says; never as the request says. */
export type Caller = Anyone | Person | ChatServer | Partner | Operator;

export interface Anyone {
  kind: "anyone";
}

/** A person with an access token. */
export interface Person {
  kind: "person";
  accountId: bigint;
  /** The account's main wallet. */
  walletId: bigint;
  sessionId: bigint;
}

/** Who holds an API key. */
interface KeyHolder {
  keyId: bigint;
  /** What the key may do; all that its kind may when there are none. */
  scopes?: Scopes | undefined;
}

export type Scopes = ReadonlySet<Scope>;

/** A chat server, acting for an account that it names. */
export interface ChatServer extends KeyHolder {
  kind: "service";
  accountId: bigint;
  /** The account's main wallet. */
  walletId: bigint;
}

export interface Partner extends KeyHolder {
  kind: "partner";
  partnerId: bigint;
  walletId: bigint;
}

export interface Operator extends KeyHolder {
  kind: "operator";
}

/**
 * Finds out who holds the credential in these headers. Throws a refusal when it is not valid, or when too many that came
 * from the IP address were not.
 */
export type Authenticate = (header: Headers, ip?: string) => Caller | Promise<Caller>;

const callerKey = createContextKey<Caller>({ kind: "anyone" }, { description: "caller" });

export const setCaller = (values: ContextValues, caller: Caller) => values.set(callerKey, caller);

type HasValues = { values: ContextValues };

/** The caller of this call. */
export const callerOf = (context: HasValues): Caller => context.values.get(callerKey);

/** Whom a call without a credential turned out to be about: it goes into the audit trail, and opens nothing. */
export type Subject = Pick<Person, "accountId"> & Partial<Pick<Person, "sessionId">>;

const subjectKey = createContextKey<Subject | undefined>(undefined, { description: "subject" });

export const setSubject = (context: HasValues, subject: Subject) => context.values.set(subjectKey, subject);

export const subjectOf = (context: HasValues): Subject | undefined => context.values.get(subjectKey);

/** The account whose money moves: the person's own, or the one that the chat server acts for. */
export type Payer = Person | ChatServer;

/** The caller of an RPC whose rule lets in only those who act for an account. */
export function payerOf(context: HasValues): Payer {
  const caller = callerOf(context);
  if (caller.kind !== "person" && caller.kind !== "service") throw new Error(`${caller.kind} acts for no account`);
  return caller;
}

/** The caller of an RPC whose rule lets in only people. */
export function personOf(context: HasValues): Person {
  const caller = callerOf(context);
  if (caller.kind !== "person") throw new Error(`${caller.kind} has no session`);
  return caller;
}

/** The caller of an RPC whose rule lets in only operators. */
export function operatorOf(context: HasValues): Operator {
  const caller = callerOf(context);
  if (caller.kind !== "operator") throw new Error(`${caller.kind} is no operator`);
  return caller;
}
