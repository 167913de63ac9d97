import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { CallerKind } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import { type Key, KeySchema, type KeyService } from "../../gen/chatpay/key/v1/key_pb.ts";
import type { App } from "../app.ts";
import type { ApiKeyRow } from "../db/schema.ts";
import { idOf } from "../id.ts";
import { callerOf } from "../rpc/caller.ts";
import { readPage, splitPage } from "../rpc/page.ts";
import { createKey, type Keeper, keyKindOf, type MadeKey, revokeKey, rotateKey, scopesOf } from "./key.ts";
import { listKeys } from "./queries.ts";

export const keyService = (app: App): ServiceImpl<typeof KeyService> => ({
  async createKey({ kind, partnerId, name, scopes, expireTime }, context) {
    const order = {
      kind: keyKindOf(kind),
      partnerId: partnerId === "" ? undefined : idOf(partnerId),
      name: name.toWellFormed(),
      scopes,
      expireTime: expireTime && timestampDate(expireTime),
    };
    return shown(await createKey(app, order, keeperOf(context)));
  },

  async listKeys(request, context) {
    const keeper = keeperOf(context);
    const own = keeper.kind === "partner" ? keeper.partnerId : undefined;
    const partnerId = request.partnerId === "" ? undefined : idOf(request.partnerId);
    const page = readPage(request, own, partnerId);
    const isOthers = own !== undefined && partnerId !== undefined && partnerId !== own;
    const keys = isOthers
      ? []
      : await listKeys(app.db, { partnerId: own ?? partnerId, before: page.cursor, limit: page.size + 1 });
    const { rows, nextPageToken } = splitPage(keys, page, ({ id }) => id);
    return { keys: rows.map(toKey), nextPageToken };
  },

  async rotateKey({ keyId, overlapSeconds }, context) {
    const order = { keyId: idOf(keyId), overlapMs: overlapSeconds * 1_000 };
    return shown(await rotateKey(app, order, keeperOf(context)));
  },

  async revokeKey({ keyId }, context) {
    return { key: toKey(await revokeKey(app, idOf(keyId), keeperOf(context))) };
  },
});

/** The caller of an RPC whose rule lets in only operators and partners. */
function keeperOf(context: HandlerContext): Keeper {
  const caller = callerOf(context);
  if (caller.kind !== "operator" && caller.kind !== "partner") throw new Error(`${caller.kind} keeps no API keys`);
  return caller;
}

const shown = ({ row, key }: MadeKey) => ({ key: toKey(row), secret: key });

const toKey = (row: ApiKeyRow): Key =>
  create(KeySchema, {
    id: String(row.id),
    kind: row.kind as CallerKind,
    partnerId: row.partnerId === null ? "" : String(row.partnerId),
    name: row.name,
    ending: row.ending,
    scopes: scopesOf(row),
    createTime: timestampFromDate(row.createTime),
    ...(row.expireTime && { expireTime: timestampFromDate(row.expireTime) }),
    ...(row.revokeTime && { revokeTime: timestampFromDate(row.revokeTime) }),
    ...(row.lastUseTime && { lastUseTime: timestampFromDate(row.lastUseTime) }),
  });
