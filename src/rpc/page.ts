import { hash } from "node:crypto";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { pageTokenInvalid, requestInvalid } from "../errors.ts";

const SIZE_STANDARD = 50;
const FILTER_CHARACTERS = 8;

/** What a listing asks for besides page size and token; a token is good only for the same. */
export type Filter = (bigint | number | string | undefined)[];

export interface Page {
  size: number;
  /** Where the page before ended; undefined on the first. */
  cursor: bigint | undefined;
  /** The token for the page after the row with this cursor. */
  tokenAfter(cursor: bigint): string;
}

const markOf = (filter: Filter) => hash("sha256", filter.join("\n"), "base64url").slice(0, FILTER_CHARACTERS);

/** Reads size and token of a listing. */
export function readPage(request: { pageSize: number; pageToken: string }, ...filter: Filter): Page {
  const mark = markOf(filter);
  return {
    size: request.pageSize || SIZE_STANDARD,
    cursor: request.pageToken === "" ? undefined : readToken(request.pageToken, mark),
    tokenAfter: (cursor) => Buffer.from(`${cursor}.${mark}`).toString("base64url"),
  };
}

function readToken(token: string, mark: string): bigint {
  const [cursor, ...more] = readTokenOf(token, mark);
  if (cursor === undefined || more.length > 0) throw pageTokenInvalid();
  return cursor;
}

function readTokenOf(token: string, mark: string): bigint[] {
  const text = Buffer.from(token, "base64url").toString();
  const [, cursors, tokenMark] = /^([0-9]{1,19}(?:-[0-9]{1,19})*)\.(.*)$/.exec(text) ?? [];
  if (cursors === undefined || tokenMark !== mark) throw pageTokenInvalid();
  return cursors.split("-").map(BigInt);
}

/** A listing that is put together of two: a token says where the page before ended in each of them. */
export function readMergedPage(request: { pageSize: number; pageToken: string }, ...filter: Filter) {
  const mark = markOf(filter);
  const [one, other, ...more] = request.pageToken === "" ? [] : readTokenOf(request.pageToken, mark);
  const isOdd = request.pageToken !== "" && other === undefined;
  if (isOdd || more.length > 0) throw pageTokenInvalid();
  return {
    size: request.pageSize || SIZE_STANDARD,
    /** Undefined on the first page. */
    cursors: one === undefined || other === undefined ? undefined : ([one, other] as const),
    tokenAfter: (cursors: [bigint, bigint]) => Buffer.from(`${cursors.join("-")}.${mark}`).toString("base64url"),
  };
}

/** A listing that somebody else pages: a token is what they say comes next. */
export function readForeignPage({ pageToken }: { pageToken: string }, ...filter: Filter) {
  const mark = markOf(filter);
  const [, tokenMark, trace] = /^([^.]*)\.([\x20-\x7e]+)$/.exec(Buffer.from(pageToken, "base64url").toString()) ?? [];
  if (pageToken !== "" && tokenMark !== mark) throw pageTokenInvalid();
  return {
    /** What they said on the page before; empty on the first. */
    trace: trace ?? "",
    tokenFor: (next: string | undefined) => (next ? Buffer.from(`${mark}.${next}`).toString("base64url") : ""),
  };
}

/** How many entries of a wallet one page looks through for those that its filters let pass. */
const SCAN_MAX = 10_000n;

/** The sequences, before this one, that one page looks at. */
export const scanSpan = (before: bigint) => ({ from: before > SCAN_MAX ? before - SCAN_MAX : 1n, before });

/** The sequences of a wallet that one page looks at: newest first, bounded, whatever the filters leave of them. */
export function scanWindow(page: Page, lastSequence: bigint) {
  const { from, before } = scanSpan(page.cursor ?? lastSequence + 1n);
  return {
    from,
    before,
    /** A full page goes on after its last row, another one where the look ended. */
    tokenAfter(rows: { sequence: bigint }[]): string {
      const next = (rows.length === page.size ? rows.at(-1)?.sequence : undefined) ?? from;
      return next > 1n ? page.tokenAfter(next) : "";
    },
  };
}

/** Of `size + 1` rows the page, and the token for the next if there is one. */
export function splitPage<R>(
  rows: R[],
  page: Page,
  cursorOf: (row: R) => bigint,
): { rows: R[]; nextPageToken: string } {
  const last = rows[page.size - 1];
  const more = rows.length > page.size && last !== undefined;
  return { rows: rows.slice(0, page.size), nextPageToken: more ? page.tokenAfter(cursorOf(last)) : "" };
}

const TIME_MIN = Date.UTC(1970);
const TIME_MAX = Date.UTC(9999, 11, 31);

export interface Span {
  startTime: Date | undefined;
  endTime: Date | undefined;
}

/** The span of time that a listing is limited to. */
export const readSpan = (request: { startTime?: Timestamp; endTime?: Timestamp }): Span => ({
  startTime: readTime("start_time", request.startTime),
  endTime: readTime("end_time", request.endTime),
});

/** A span as part of a listing's filter. */
export const marksOf = ({ startTime, endTime }: Span): Filter => [startTime?.getTime(), endTime?.getTime()];

/** The moment that a field names, to the millisecond. */
export function readTime(field: string, timestamp: Timestamp | undefined): Date | undefined {
  if (!timestamp) return undefined;
  const time = timestampDate(timestamp);
  const inRange = time.getTime() >= TIME_MIN && time.getTime() <= TIME_MAX;
  if (!inRange) throw requestInvalid(`${field}: must lie between the years 1970 and 9999`);
  return time;
}
