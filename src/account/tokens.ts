import { createPrivateKey, createPublicKey, hash, randomBytes } from "node:crypto";
import { errors, jwtVerify, SignJWT } from "jose";
import type { Config } from "../config.ts";
import { credentialInvalid } from "../errors.ts";
import type { Person } from "../rpc/caller.ts";
import { keyedHash } from "./hash.ts";

const ACCESS_MS = 15 * 60_000;
const ALGORITHM = "EdDSA";
const TYPE = "at+jwt";

/** What stands before the 32 bytes of a seed in the PKCS #8 form of an Ed25519 key. */
const ED25519_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");

type TokenSecrets = Pick<Config, "tokenSecret" | "acceptedTokenSecrets">;

function keyOf(seed: Buffer) {
  const privateKey = createPrivateKey({ key: Buffer.concat([ED25519_PREFIX, seed]), format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(privateKey);
  const id = hash("sha256", publicKey.export({ format: "der", type: "spki" }), "base64url").slice(0, 16);
  return { id, privateKey, publicKey };
}

const allKeys = ({ tokenSecret, acceptedTokenSecrets }: TokenSecrets) =>
  [tokenSecret, ...acceptedTokenSecrets].map(keyOf);

/** What others need to verify access tokens: the public keys, as a JSON Web Key Set. */
export const publicKeySet = (secrets: TokenSecrets) => ({
  keys: allKeys(secrets).map(({ id, publicKey }) => ({
    ...publicKey.export({ format: "jwk" }),
    kid: id,
    alg: ALGORITHM,
    use: "sig",
  })),
});

/** Access tokens: what they say is believed without a look into the database, but for an end of their session. */
export function openTokens({ issuer, ...secrets }: TokenSecrets & Pick<Config, "issuer">) {
  const { id: keyId, privateKey } = keyOf(secrets.tokenSecret);
  const publicKeys = new Map(allKeys(secrets).map(({ id, publicKey }) => [id, publicKey]));
  const expected = {
    algorithms: [ALGORITHM],
    typ: TYPE,
    issuer,
    audience: issuer,
    requiredClaims: ["sub", "wid", "sid", "exp"],
  };

  return {
    /** The same person and time give the same token. */
    async sign({ accountId, walletId, sessionId }: Omit<Person, "kind">, time: Date) {
      const issued = Math.floor(time.getTime() / 1000);
      const expires = issued + ACCESS_MS / 1000;
      const token = await new SignJWT({ wid: String(walletId), sid: String(sessionId) })
        .setProtectedHeader({ alg: ALGORITHM, typ: TYPE, kid: keyId })
        .setIssuer(issuer)
        .setAudience(issuer)
        .setSubject(String(accountId))
        .setIssuedAt(issued)
        .setExpirationTime(expires)
        .sign(privateKey);
      return { token, expireTime: new Date(expires * 1000) };
    },

    /** Who is signed in until when; undefined when the token was ours and has expired. Throws CREDENTIAL_INVALID. */
    async verify(token: string): Promise<{ person: Person; expireTime: Date } | undefined> {
      try {
        const { payload } = await jwtVerify<{ wid: string; sid: string }>(token, findKey, expected);
        const [accountId, walletId, sessionId] = [payload.sub ?? "", payload.wid, payload.sid].map(BigInt) as [
          bigint,
          bigint,
          bigint,
        ];
        return {
          person: { kind: "person", accountId, walletId, sessionId },
          expireTime: new Date((payload.exp ?? 0) * 1000),
        };
      } catch (error) {
        // Whether it has is asked last of all.
        if (error instanceof errors.JWTExpired) return undefined;
        throw error instanceof errors.JOSEError ? credentialInvalid() : error;
      }
    },
  };

  function findKey({ kid }: { kid?: string }) {
    const publicKey = publicKeys.get(kid ?? "");
    if (!publicKey) throw new errors.JWKSNoMatchingKey();
    return publicKey;
  }
}

export const newRefreshToken = () => randomBytes(32).toString("base64url");

/** A refresh token has one next, which only this deployment can make: a repeated refresh is answered the same. */
export const nextRefreshToken = (secret: Buffer, token: string) =>
  keyedHash(secret, "refresh-token", token).toString("base64url");

/** What is stored of a refresh token; it is random enough to need no slow hash. */
export const secretHash = (secret: string): Buffer => hash("sha256", secret, "buffer");
