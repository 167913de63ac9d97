import { LRUCache } from "lru-cache";
import { CallerKind, type Scope, ScopeSchema } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import type { App } from "../app.ts";
import { type Db, type Trx, transact } from "../db/database.ts";
import type { ApiKeyRow } from "../db/schema.ts";
import {
  credentialInvalid,
  keyEnded,
  keyNotFound,
  keyTooWide,
  partnerNotFound,
  requestInvalid,
  scopeMissing,
  tooManyKeys,
} from "../errors.ts";
import { tellRevoked } from "../revocations.ts";
import type { Operator, Partner, Scopes } from "../rpc/caller.ts";
import {
  countWorkingKeys,
  findKeyByHash,
  findKeyById,
  findUnrevokedKey,
  insertKey,
  lockKey,
  lockPartner,
  markKeyRevoked,
  markKeyUsed,
  setKeyExpireTime,
} from "./queries.ts";
import { KEY_KINDS, type KeyKind, keyHash, newKeyText } from "./text.ts";

// For the command line, which imports no queries.
export { listKeys } from "./queries.ts";

/** So many keys of a partner may work at a time. */
const PARTNER_KEYS_MAX = 100;
const EXPIRE_TIME_MAX = Date.UTC(9999, 11, 31);

const CALLER_KINDS = {
  service: CallerKind.SERVICE,
  partner: CallerKind.PARTNER,
  operator: CallerKind.OPERATOR,
} as const satisfies Record<KeyKind, CallerKind>;

/** The kind of a stored key, by the name that its callers have. */
export function keyKindOf(kind: number): KeyKind {
  const found = KEY_KINDS.find((name) => CALLER_KINDS[name] === kind);
  if (!found) throw new Error(`no API key is of kind ${kind}`);
  return found;
}

/** What a stored key may do; all that its kind may when there are none. */
export const scopesOf = ({ scopes }: Pick<ApiKeyRow, "scopes">): Scope[] =>
  scopes === "" ? [] : scopes.split(",").map((scope) => Number(scope) as Scope);

const SCOPES = ScopeSchema.values.filter(({ number }) => number !== 0);

/** What scopes are called, without the prefix of the proto. */
export const SCOPE_NAMES = SCOPES.map(({ localName }) => localName);

/** The scope of this name, in upper or lower case. */
export const scopeNamed = (name: string): Scope | undefined =>
  SCOPES.find(({ localName }) => localName === name.toUpperCase())?.number as Scope | undefined;

export const scopeNamesOf = (row: Pick<ApiKeyRow, "scopes">): string[] =>
  scopesOf(row).map((scope) => ScopeSchema.value[scope]?.localName ?? String(scope));

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
  const row = await findKeyByHash(db, keyHash(text));
  if (!row) return undefined;
  const scopes = scopesOf(row);
  return { ...row, kind: keyKindOf(row.kind), scopes: scopes.length === 0 ? undefined : new Set(scopes) };
}

/** For how many milliseconds a key works still: for ever, or not any more. */
export async function keyMsLeft(db: Db, id: bigint): Promise<number> {
  const key = await findUnrevokedKey(db, id);
  if (!key) return 0;
  return key.expireTime ? key.expireTime.getTime() - Date.now() : Number.POSITIVE_INFINITY;
}

const NOTE_USE_MS = 60_000;
const NOTED_MAX = 10_000;

/**
 * Notes when a key last got somebody in: the first call of a minute is written down, those after it are not. So what is
 * shown lags behind by up to a minute, and a busy key costs a look into memory.
 */
export function createNoteKeyUse({ db, log }: Pick<App, "db" | "log">): (keyId: bigint) => void {
  const noted = new LRUCache<bigint, true>({ max: NOTED_MAX, ttl: NOTE_USE_MS });
  return (keyId) => {
    if (noted.has(keyId)) return;
    noted.set(keyId, true);
    const now = new Date();
    markKeyUsed(db, keyId, now, new Date(now.getTime() - NOTE_USE_MS)).catch((err: unknown) => {
      log.warn({ err }, "the use of an API key was not noted");
    });
  };
}

/** Who makes, replaces and ends keys over the API. An operator has all of them, a partner its own. */
export type Keeper = Operator | Partner;

/**
 * A key without scopes may do all that its kind may, now and when more is added. So a key with scopes makes and replaces
 * only keys of its own kind that have scopes, each of which it has itself. Its own kind, because the same scope opens
 * other calls to another one: with TRANSFERS_WRITE a chat server sends people's money, and an operator does not. How
 * long a key works does not count: whoever may make keys can make the next.
 */
function refuseWider({ kind, scopes }: Keeper, key: { kind: KeyKind; scopes: Scope[] }) {
  if (!scopes) return;
  if (key.kind !== kind || key.scopes.length === 0) throw keyTooWide();
  const missing = key.scopes.find((scope) => !scopes.has(scope));
  if (missing !== undefined) throw scopeMissing(missing);
}

export interface NewKey {
  kind: KeyKind;
  /** What its owner calls it. */
  name: string;
  /** For keys of partners, and only for them. */
  partnerId?: bigint | undefined;
  /** All that the kind may when there are none. */
  scopes?: Scope[] | undefined;
  expireTime?: Date | undefined;
}

export interface MadeKey {
  row: ApiKeyRow;
  /** Its text, which is known only now. */
  key: string;
}

type KeyApp = Pick<App, "db" | "newId" | "redis" | "log"> & Partial<Pick<App, "revocations">>;

/**
 * Makes a key, for a keeper or for the command line. Throws REQUEST_INVALID, PARTNER_NOT_FOUND, SCOPE_MISSING,
 * TOO_MANY_KEYS.
 */
export async function createKey(
  { db, newId }: Pick<App, "db" | "newId">,
  order: NewKey,
  keeper?: Keeper,
): Promise<MadeKey> {
  const { kind, scopes = [], expireTime } = order;
  const partnerId = keeper?.kind === "partner" ? ownPartner(keeper, order) : order.partnerId;
  if ((kind === "partner") !== (partnerId !== undefined))
    throw requestInvalid("partner_id: keys of kind PARTNER, and only they, name a partner");
  const now = new Date();
  if (expireTime && !(expireTime > now && expireTime.getTime() <= EXPIRE_TIME_MAX))
    throw requestInvalid("expire_time: must lie in the future, before the year 10000");
  if (keeper) refuseWider(keeper, { kind, scopes });

  return transact(db, async (trx) => {
    if (keeper) await mustStillWork(trx, keeper);
    if (partnerId !== undefined) {
      await mustLockPartner(trx, partnerId);
      await mustHaveRoom(trx, partnerId, now);
    }
    return insertNewKey(trx, newId(), { ...order, partnerId }, now);
  });
}

function ownPartner(keeper: Partner, { kind, partnerId }: NewKey): bigint {
  if (kind !== "partner") throw requestInvalid("kind: a partner makes keys of kind PARTNER");
  if (partnerId !== undefined && partnerId !== keeper.partnerId) throw partnerNotFound(partnerId);
  return keeper.partnerId;
}

const works = ({ revokeTime, expireTime }: ApiKeyRow, now: Date) =>
  revokeTime === null && (expireTime === null || expireTime > now);

/** A key that ended since its call was let in leaves no other behind, and none ends before the commit. */
async function mustStillWork(trx: Trx, { keyId }: Keeper) {
  if (!works(await lockKey(trx, keyId), new Date())) throw credentialInvalid();
}

/** Until the commit nobody else makes keys for the partner, so that two do not both make the last. */
async function mustLockPartner(trx: Trx, partnerId: bigint) {
  if (!(await lockPartner(trx, partnerId))) throw partnerNotFound(partnerId);
}

async function mustHaveRoom(trx: Trx, partnerId: bigint, now: Date) {
  if ((await countWorkingKeys(trx, partnerId, now)) >= PARTNER_KEYS_MAX) throw tooManyKeys(PARTNER_KEYS_MAX);
}

async function insertNewKey(trx: Trx, id: bigint, order: NewKey, now: Date): Promise<MadeKey> {
  const key = newKeyText(order.kind);
  const row: ApiKeyRow = {
    id,
    kind: CALLER_KINDS[order.kind],
    partnerId: order.partnerId ?? null,
    name: order.name,
    keyHash: keyHash(key),
    ending: key.slice(-4),
    createTime: now,
    expireTime: order.expireTime ?? null,
    revokeTime: null,
    lastUseTime: null,
    scopes: (order.scopes ?? []).toSorted((a, b) => a - b).join(),
  };
  await insertKey(trx, row);
  return { row, key };
}

/**
 * Makes a key like another, which ends after the overlap if it does not end before. A key that expires is followed by
 * one that works for as long as the first was made to. Throws KEY_NOT_FOUND, KEY_ENDED, and what createKey throws.
 */
export async function rotateKey(
  app: KeyApp,
  { keyId, overlapMs }: { keyId: bigint; overlapMs: number },
  keeper?: Keeper,
): Promise<MadeKey> {
  const { partnerId } = await getKey(app.db, keyId, keeper);
  const made = await transact(app.db, async (trx) => {
    if (keeper) await mustStillWork(trx, keeper);
    if (partnerId !== null) await mustLockPartner(trx, partnerId);
    const old = await lockKey(trx, keyId);
    const now = new Date();
    if (!works(old, now)) throw keyEnded(String(keyId));
    const kind = keyKindOf(old.kind);
    const scopes = scopesOf(old);
    if (keeper) refuseWider(keeper, { kind, scopes });

    const endTime = new Date(now.getTime() + overlapMs);
    if (!old.expireTime || endTime < old.expireTime) await setKeyExpireTime(trx, keyId, endTime);
    if (partnerId !== null) await mustHaveRoom(trx, partnerId, now);
    const expireTime = nextExpireTime(old, now);
    const order = { kind, name: old.name, partnerId: partnerId ?? undefined, scopes, expireTime };
    return insertNewKey(trx, app.newId(), order, now);
  });
  // What others remember of the old key may say that it works longer.
  await tellRevoked(app, keyId);
  return made;
}

function nextExpireTime({ createTime, expireTime }: ApiKeyRow, now: Date): Date | undefined {
  if (!expireTime) return undefined;
  return new Date(Math.min(now.getTime() + expireTime.getTime() - createTime.getTime(), EXPIRE_TIME_MAX));
}

/** Ends a key at once, in every process. A key that was revoked before stays as it is. Throws KEY_NOT_FOUND. */
export async function revokeKey(app: Omit<KeyApp, "newId">, id: bigint, keeper?: Keeper): Promise<ApiKeyRow> {
  await getKey(app.db, id, keeper);
  if (await markKeyRevoked(app.db, id, new Date())) await tellRevoked(app, id);
  return getKey(app.db, id, keeper);
}

/** The key, if it is one of the keeper's. */
async function getKey(db: Db, id: bigint, keeper: Keeper | undefined): Promise<ApiKeyRow> {
  const key = await findKeyById(db, id);
  if (!key || (keeper?.kind === "partner" && key.partnerId !== keeper.partnerId)) throw keyNotFound(String(id));
  return key;
}
