import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { type AuditService, type Record, RecordSchema } from "../../gen/chatpay/audit/v1/audit_pb.ts";
import type { CallerKind } from "../../gen/chatpay/auth/v1/auth_pb.ts";
import { type Reason, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import type { App } from "../app.ts";
import type { AuditRow } from "../db/schema.ts";
import { idAround, idOf } from "../id.ts";
import { marksOf, readPage, readSpan, splitPage } from "../rpc/page.ts";
import { listRecords } from "./queries.ts";

export const auditService = ({ db }: App): ServiceImpl<typeof AuditService> => ({
  async listRecords(request) {
    const { accountId, objectId, keyId, rpc, refused } = request;
    const span = readSpan(request);
    const page = readPage(request, accountId, objectId, keyId, rpc, Number(refused), ...marksOf(span));
    const filter = {
      objectId: given(objectId),
      accountId: given(accountId),
      keyId: given(keyId),
      rpc,
      refused,
      ...span,
    };
    // The times bound the ids as well: most of the trail is never looked at.
    const after = span.startTime && idAround(span.startTime, -1);
    const before = page.cursor ?? (span.endTime && idAround(span.endTime, 1));
    const found = await listRecords(db, filter, { after, before }, page.size + 1);
    const { rows, nextPageToken } = splitPage(found.rows, page, ({ id }) => id);
    const onward = found.rest === undefined ? "" : page.tokenAfter(found.rest + 1n);
    return { records: rows.map(toRecord), nextPageToken: nextPageToken || onward };
  },
});

/** The codes by their numbers, as Connect writes them. */
const CODES = new Map<number, string>(
  Object.values(Code).flatMap((code) => (typeof code === "number" ? [[code, codeToString(code)] as const] : [])),
);

const given = (id: string) => (id === "" ? undefined : idOf(id));
const textOf = (id: bigint | null) => (id === null ? "" : String(id));

const toRecord = (row: AuditRow): Record =>
  create(RecordSchema, {
    id: String(row.id),
    createTime: timestampFromDate(row.createTime),
    rpc: row.rpc,
    code: row.code === 0 ? "ok" : (CODES.get(row.code) ?? ""),
    reason: row.reason === 0 ? "" : (ReasonSchema.value[row.reason as Reason]?.name ?? ""),
    caller: row.caller as CallerKind,
    accountId: textOf(row.accountId),
    partnerId: textOf(row.partnerId),
    keyId: textOf(row.keyId),
    sessionId: textOf(row.sessionId),
    objectId: textOf(row.objectId),
    ip: row.ip,
    requestId: row.requestId,
  });
