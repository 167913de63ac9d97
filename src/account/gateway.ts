import { createSecretKey } from "node:crypto";
import { errors, jwtVerify, SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { Scope } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import type { Config } from "../config.ts";
import { credentialInvalid, credentialMissing } from "../errors.ts";
import type { Anyone, Authenticate, Caller } from "../rpc/caller.ts";

/**
 * A gateway asks once who calls, and hands the answer to the servers behind it as a caller token, in the
 * header `chatpay-caller`. Anybody could send a header of that name, so the token is signed with a secret that only the servers have.
 */

/** So long a credential may be believed after its time; one that was revoked is not believed at all. */
const TOKEN_S = 30;
/** Callers get the same token again for so long, so that servers check its signature once and not with each call. */
const SAME_S = 10;
const TOKENS_MAX = 20_000;
const ALGORITHM = "HS256";
const TYPE = "chatpay-caller+jwt";

const id = z.codec(z.string().regex(/^[1-9][0-9]{0,18}$/), z.bigint(), { decode: BigInt, encode: String });
const scopes = z
  .codec(z.array(z.enum(Scope)), z.set(z.enum(Scope)), {
    decode: (list) => new Set(list),
    encode: (set) => [...set],
  })
  .optional();

/** All that a token says of each kind of caller: ids and scopes. */
const claim = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("person"), accountId: id, walletId: id, sessionId: id }),
  z.object({ kind: z.literal("service"), keyId: id, scopes, accountId: id, walletId: id }),
  z.object({ kind: z.literal("partner"), keyId: id, scopes, partnerId: id, walletId: id }),
  z.object({ kind: z.literal("operator"), keyId: id, scopes }),
]);

/** Somebody who showed a credential. */
export type KnownCaller = Exclude<Caller, Anyone>;

/** Makes and reads caller tokens. Without a secret none is made, and none is believed. */
export function openCallerTokens({ gatewaySecret, issuer }: Pick<Config, "gatewaySecret" | "issuer">) {
  const key = gatewaySecret && createSecretKey(gatewaySecret);
  const parties = { issuer: `${issuer}/gateway`, audience: `${issuer}/servers` };
  const known = new LRUCache<string, KnownCaller>({
    max: TOKENS_MAX,
    async fetchMethod(token, _stale, { options }) {
      const { caller, expireTime } = await verify(token);
      options.ttl = Math.max(1, expireTime.getTime() - Date.now());
      return caller;
    },
  });

  async function verify(token: string) {
    if (!key) throw credentialInvalid();
    try {
      const expected = { ...parties, algorithms: [ALGORITHM], typ: TYPE, requiredClaims: ["exp", "caller"] };
      const { payload } = await jwtVerify(token, key, expected);
      return { caller: claim.parse(payload.caller), expireTime: new Date((payload.exp ?? 0) * 1000) };
    } catch (error) {
      throw error instanceof errors.JOSEError || error instanceof z.ZodError ? credentialInvalid() : error;
    }
  }

  return {
    async make(caller: KnownCaller): Promise<string> {
      if (!key) throw new Error("caller tokens need a secret");
      const issued = Math.floor(Date.now() / 1000 / SAME_S) * SAME_S;
      return new SignJWT({ caller: z.encode(claim, caller as z.output<typeof claim>) })
        .setProtectedHeader({ alg: ALGORITHM, typ: TYPE })
        .setIssuer(parties.issuer)
        .setAudience(parties.audience)
        .setIssuedAt(issued)
        .setExpirationTime(issued + TOKEN_S)
        .sign(key);
    },

    /** Throws CREDENTIAL_INVALID. */
    async read(token: string): Promise<KnownCaller> {
      const caller = await known.fetch(token);
      if (!caller) throw credentialInvalid();
      return caller;
    },
  };
}

/** Finds out who calls, for a gateway that asks with the caller's headers, and returns a token that says so. */
export function createResolve(config: Config, authenticate: Authenticate): (header: Headers) => Promise<string> {
  const tokens = openCallerTokens(config);
  return async (header) => {
    // A token is the answer and never the question: otherwise it could be renewed for ever.
    if (header.has("chatpay-caller")) throw credentialInvalid();
    const caller = await authenticate(header);
    if (caller.kind === "anyone") throw credentialMissing();
    return tokens.make(caller);
  };
}
