import { Code, ConnectError } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import type { App } from "../app.ts";
import { accountNotFound, actingAccountInvalid, credentialInvalid } from "../errors.ts";
import { findKey, type KnownKey } from "../key/key.ts";
import { isKeyText } from "../key/text.ts";
import type { Authenticate, Caller, ChatServer, Operator, Partner, Person } from "../rpc/caller.ts";
import { openMemory } from "./credentials.ts";
import { openCallerTokens } from "./gateway.ts";
import { openTokens } from "./tokens.ts";

/** Who holds a credential. A chat server's does not say for which account it acts. */
type Holder = Person | Partner | Operator | Pick<ChatServer, "kind" | "keyId" | "scopes">;

interface Credential {
  /** Of the session or the key. */
  id: string;
  holder: Holder;
  expireTime: Date | null;
}

const CREDENTIALS_MAX = 20_000;

/**
 * Finds out who calls. A credential is verified once and then known by its text until it expires; that its
 * session or key is still open is looked up again and again. What is known costs no promise.
 */
export function createAuthenticate(app: App): Authenticate {
  const {
    db,
    rates: { guesses },
  } = app;
  const tokens = openTokens(app.config);
  const callerTokens = openCallerTokens(app.config);
  const { openIds, accounts } = openMemory(app);
  const credentials = new LRUCache<string, Credential, string>({
    max: CREDENTIALS_MAX,
    // Many first calls with one credential wait for one look-up.
    async fetchMethod(authorization, _stale, { options, context: ip }) {
      const credential = await verify(authorization, ip);
      if (credential?.expireTime) options.ttl = Math.max(1, credential.expireTime.getTime() - Date.now());
      return credential;
    },
  });

  async function lookUp(authorization: string, acting: string | null, ip: string): Promise<Caller> {
    const credential = await credentials.fetch(authorization, { context: ip });
    if (!credential || (credential.expireTime && credential.expireTime.getTime() <= Date.now()))
      throw credentialInvalid();
    const { id, holder } = credential;
    if (!(await openIds.fetch(id, { context: holder.kind }))) throw credentialInvalid();
    return act(holder, acting);
  }

  /** Wrong ones are counted, and those that came before are not looked at again. */
  async function verify(authorization: string, ip: string): Promise<Credential | undefined> {
    guesses.recall(authorization);
    try {
      return await judge(authorization, ip);
    } catch (error) {
      if (error instanceof ConnectError && error.code === Code.Unauthenticated) await guesses.count(ip, authorization);
      throw error;
    }
  }

  /** Undefined for a token that has expired: whoever has it did not guess it. Behind one address many people come back. */
  async function judge(authorization: string, ip: string): Promise<Credential | undefined> {
    const [, text] = /^Bearer ([\w.-]+)$/i.exec(authorization) ?? [];
    if (text === undefined) throw credentialInvalid();
    if (isKeyText(text)) return verifyKey(text, ip);
    const verified = await tokens.verify(text);
    if (!verified) return undefined;
    const { person, expireTime } = verified;
    return { id: String(person.sessionId), holder: person, expireTime };
  }

  async function verifyKey(text: string, ip: string): Promise<Credential> {
    guesses.check(ip);
    const key = await findKey(db, text);
    if (!key) throw credentialInvalid();
    return { id: String(key.id), holder: holderOf(key), expireTime: key.expireTime };
  }

  function act(holder: Holder, acting: string | null): Caller | Promise<Caller> {
    if (holder.kind !== "service") {
      if (acting !== null) throw actingAccountInvalid("only the key of a chat server names an account to act for");
      return holder;
    }
    if (acting === null) throw actingAccountInvalid("name the account to act for: chatpay-account-id: <account id>");
    const account = accounts.get(acting);
    return account ? { ...holder, ...account } : actFor(holder, acting);
  }

  async function actFor(holder: Holder & { kind: "service" }, acting: string): Promise<Caller> {
    // Two headers of the name arrive as one with a comma.
    if (!/^[1-9][0-9]{0,18}$/.test(acting)) throw actingAccountInvalid("chatpay-account-id takes one account id");
    const account = await accounts.fetch(acting);
    if (!account) throw accountNotFound(acting);
    return { ...holder, ...account };
  }

  /** Whom the gateway found. That the session or key is still open, and the account, is looked up here as well. */
  async function readToken(token: string, header: Headers): Promise<Caller> {
    if (header.has("authorization")) throw credentialInvalid();
    const caller = await callerTokens.read(token);
    const id = caller.kind === "person" ? caller.sessionId : caller.keyId;
    if (!(await openIds.fetch(String(id), { context: caller.kind }))) throw credentialInvalid();
    const acting = header.get("chatpay-account-id");
    if (caller.kind !== "service") return act(caller, acting);
    const found = String(caller.accountId);
    if (acting !== null && acting !== found) throw actingAccountInvalid("the gateway found another account");
    return act(caller, found);
  }

  return (header, ip = "") => {
    const token = header.get("chatpay-caller");
    if (token !== null) return readToken(token, header);
    const authorization = header.get("authorization");
    if (authorization === null) return { kind: "anyone" };
    const acting = header.get("chatpay-account-id");
    const credential = credentials.get(authorization);
    if (!credential || !openIds.get(credential.id)) return lookUp(authorization, acting, ip);
    return act(credential.holder, acting);
  };
}

function holderOf({ id: keyId, kind, scopes, partnerId, walletId }: KnownKey): Holder {
  if (kind !== "partner") return { kind, keyId, scopes };
  if (partnerId === null || walletId === null) throw new Error(`API key ${keyId} belongs to no partner`);
  return { kind, keyId, scopes, partnerId, walletId };
}
