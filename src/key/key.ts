import { hash, randomInt } from "node:crypto";
import { crc32 } from "node:zlib";
import { CallerKind, type Scope } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import type { App } from "../app.ts";
import type { Db } from "../db/database.ts";
import type { ApiKeyRow } from "../db/schema.ts";
import { partnerNotFound } from "../errors.ts";
import { tellRevoked } from "../revocations.ts";
import type { Scopes } from "../rpc/caller.ts";
import { findKeyByHash, findUnrevokedKey, insertKey, isPartner, markKeyRevoked } from "./queries.ts";

// For the command line, which imports no queries.
export { listKeys } from "./queries.ts";

/**
 * API keys look like `cp_svc_…`: a prefix that scanners of leaked secrets find, 30 random characters, and
 * their checksum, so that a mistyped key is told from a real one without a look into the database.
 */

const KINDS = {
  service: { kind: CallerKind.SERVICE, prefix: "cp_svc_" },
  partner: { kind: CallerKind.PARTNER, prefix: "cp_ptn_" },
  operator: { kind: CallerKind.OPERATOR, prefix: "cp_opr_" },
} as const;

export type KeyKind = keyof typeof KINDS;

export const KEY_KINDS = Object.keys(KINDS) as KeyKind[];

/** The kind of a stored key, by the name that its callers have. */
export function keyKindOf({ id, kind }: Pick<ApiKeyRow, "id" | "kind">): KeyKind {
  const found = KEY_KINDS.find((name) => KINDS[name].kind === kind);
  if (!found) throw new Error(`API key ${id} is of kind ${kind}`);
  return found;
}

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LENGTH = 30;
const CHECKSUM_LENGTH = 6;
const KEY = /^cp_(?:svc|ptn|opr)_([0-9A-Za-z]{30})([0-9A-Za-z]{6})$/;

function checksum(random: string): string {
  let rest = crc32(random);
  let text = "";
  for (let i = 0; i < CHECKSUM_LENGTH; i += 1) {
    text = DIGITS.charAt(rest % DIGITS.length) + text;
    rest = Math.floor(rest / DIGITS.length);
  }
  return text;
}

/** Whether the text has the form of an API key, its checksum included. */
export function isKeyText(text: string): boolean {
  const [, random, check] = KEY.exec(text) ?? [];
  return random !== undefined && check === checksum(random);
}

/** What is stored of a key; it is random enough to need no slow hash. */
const hashOf = (text: string): Buffer => hash("sha256", text, "buffer");

/** A key with the wallet of its partner, if it is a partner's. */
export interface KnownKey {
  id: bigint;
  kind: KeyKind;
  scopes: Scopes | undefined;
  partnerId: bigint | null;
  walletId: bigint | null;
  expireTime: Date | null;
}

/** The key of this text, which may have ended. */
export async function findKey(db: Db, text: string): Promise<KnownKey | undefined> {
  const row = await findKeyByHash(db, hashOf(text));
  return row && { ...row, kind: keyKindOf(row), scopes: scopesOf(row) };
}

function scopesOf({ scopes }: Pick<ApiKeyRow, "scopes">): Scopes | undefined {
  return scopes === "" ? undefined : new Set(scopes.split(",").map((scope): Scope => Number(scope)));
}

/** For how many milliseconds a key works still: for ever, or not any more. */
export async function keyMsLeft(db: Db, id: bigint): Promise<number> {
  const key = await findUnrevokedKey(db, id);
  if (!key) return 0;
  return key.expireTime ? key.expireTime.getTime() - Date.now() : Number.POSITIVE_INFINITY;
}

export interface NewKey {
  kind: KeyKind;
  /** What its owner calls it. */
  name: string;
  /** For keys of partners, and only for them. */
  partnerId?: bigint;
  expireTime?: Date;
}

/** Makes a key. Its text is known only now. Throws PARTNER_NOT_FOUND. */
export async function createKey(
  { db, newId }: Pick<App, "db" | "newId">,
  { kind, name, partnerId, expireTime }: NewKey,
): Promise<{ row: ApiKeyRow; key: string }> {
  if ((kind === "partner") !== (partnerId !== undefined)) throw new Error("keys of partners, and only they, name one");
  if (partnerId !== undefined && !(await isPartner(db, partnerId))) throw partnerNotFound(partnerId);
  const random = Array.from({ length: RANDOM_LENGTH }, () => DIGITS.charAt(randomInt(DIGITS.length))).join("");
  const key = `${KINDS[kind].prefix}${random}${checksum(random)}`;
  const row = {
    id: newId(),
    kind: KINDS[kind].kind,
    partnerId: partnerId ?? null,
    name,
    keyHash: hashOf(key),
    ending: key.slice(-4),
    createTime: new Date(),
    expireTime: expireTime ?? null,
    revokeTime: null,
    lastUseTime: null,
    scopes: "",
  };
  await insertKey(db, row);
  return { row, key };
}

/** Whether there was such a key that was not revoked before. It stops working in every process. */
export async function revokeKey(app: Pick<App, "db" | "redis" | "log">, id: bigint): Promise<boolean> {
  const wasOpen = await markKeyRevoked(app.db, id, new Date());
  if (wasOpen) await tellRevoked(app, id);
  return wasOpen;
}
