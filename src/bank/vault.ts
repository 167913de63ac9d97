import { createCipheriv, createDecipheriv, hash, randomBytes } from "node:crypto";

export type Vault = ReturnType<typeof openVault>;

const CIPHER = "aes-256-gcm";
const KEY_ID_BYTES = 4;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES;

/** Where something belongs that is sealed. */
export const contexts = {
  number: (bankAccountId: bigint) => `bank_account:${bankAccountId}`,
  grant: (accountId: bigint) => `bank_grant:${accountId}`,
  institutionToken: (scope: string) => `bank_institution_token:${scope}`,
};

/**
 * Encrypts what must not lie about in the open: the id of the key, a nonce, a tag, and the text. The context says where it
 * belongs, so that it is of no use anywhere else.
 */
export function openVault({ secret, acceptedSecrets }: { secret: Buffer; acceptedSecrets: Buffer[] }) {
  const keys = new Map([...acceptedSecrets, secret].map((key) => [keyIdOf(key).toString("hex"), key]));
  const current = keyIdOf(secret);
  return {
    /** What all begins with that the present secret seals. */
    keyId: current,

    seal(text: string, context: string): Buffer {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(CIPHER, secret, nonce).setAAD(Buffer.from(context));
      const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return Buffer.concat([current, nonce, cipher.getAuthTag(), body]);
    },

    /** Undefined when no secret of ours has sealed it, or it was changed, or belongs elsewhere. */
    open(sealed: Buffer, context: string): string | undefined {
      const key = keys.get(sealed.subarray(0, KEY_ID_BYTES).toString("hex"));
      if (!key || sealed.length < HEAD_BYTES) return undefined;
      const nonce = sealed.subarray(KEY_ID_BYTES, KEY_ID_BYTES + NONCE_BYTES);
      const cipher = createDecipheriv(CIPHER, key, nonce)
        .setAAD(Buffer.from(context))
        .setAuthTag(sealed.subarray(KEY_ID_BYTES + NONCE_BYTES, HEAD_BYTES));
      const text = cipher.update(sealed.subarray(HEAD_BYTES));
      try {
        return Buffer.concat([text, cipher.final()]).toString();
      } catch {
        // The tag is of something else.
        return undefined;
      }
    },
  };
}

const keyIdOf = (secret: Buffer) => hash("sha256", secret, "buffer").subarray(0, KEY_ID_BYTES);
