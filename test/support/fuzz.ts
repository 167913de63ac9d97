import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  fromJson,
  type JsonObject,
  type JsonValue,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import * as fc from "fast-check";

/**
 * Requests that no good client sends, made from the descriptors: some nearly right, so that they come far; some of
 * the right types and beyond all bounds; some of no type at all; and bytes that are nothing.
 */

/** What a request may name, its caller's and other people's. */
export interface World {
  ids: string[];
  emails: string[];
  pageTokens: string[];
}

const INT64 = ["0", "-1", "1", "9223372036854775807", "-9223372036854775808", "9007199254740993"];
const INT32 = [0, -1, 1, 200, 201, 2_147_483_647, -2_147_483_648];
const NO_INT64 = ["9223372036854775808", "-9223372036854775809", "1e3", "1e400", "0x10", " 1", "1.5", "", "NaN", "-0"];
const NO_INT64_EITHER = [1.5, 1e308, -1e-7, 2 ** 53, 2 ** 63, Number.MAX_SAFE_INTEGER, -0];
const TIMES = [
  "1969-12-31T23:59:59Z",
  "0001-01-01T00:00:00Z",
  "9999-12-31T23:59:59.999999999Z",
  "2027-01-01T00:00:00Z",
];
const DURATIONS = ["60s", "3600.0000001s", "2592000s", "2592000.000000001s", "59.9s", "0s", "-1s", "315576000000s"];
const NO_TIMES = [
  "",
  "yesterday",
  "2027-02-30T00:00:00Z",
  "2027-01-01",
  "10000-01-01T00:00:00Z",
  "2027-01-01T00:00:00",
];
const HALF_CHARACTERS = ["\ud800", "\udfff\ud800", "a\udc00"];
const TEXTS = [
  "\0",
  "a\0b",
  "\r\nset-cookie: a=b",
  "'; drop table wallet; -- ",
  '\\"\\',
  "%s%n${7*7}{{7*7}}",
  "\u202e\ufeff\u200b",
  "👩‍👩‍👧‍👦".repeat(15),
  "가".repeat(100),
  "a".repeat(5_000),
  "__proto__",
];
/** What a good client puts into the fields of these names. */
const KNOWN_TEXTS: Record<string, string[]> = {
  code: ["000000", "123456"],
  pin: ["290517", "000000"],
  language: ["", "ko", "en"],
  ci: [`${"a".repeat(86)}==`, `${"b".repeat(86)}==`],
  birth_date: ["1990-12-31", "2000-02-29", "1999-02-29"],
};
const NO_VALUES: JsonValue[] = [null, true, 0, -1, 1e308, "", "x", [], [[]], [null], {}, { a: 1 }, { "@type": "x" }];

const text = fc.oneof(
  { weight: 6, arbitrary: fc.string({ minLength: 8, maxLength: 20 }) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 120 }) },
  { weight: 1, arbitrary: fc.constantFrom(...TEXTS) },
);

/** Mostly the first, now and then the second. */
const mostly = <T>(good: fc.Arbitrary<T>, bad: fc.Arbitrary<T>, weight = 12): fc.Arbitrary<T> =>
  fc.oneof({ weight, arbitrary: good }, { weight: 1, arbitrary: bad });

function textOf(name: string, world: World): fc.Arbitrary<string> {
  const id = fc.constantFrom("", ...world.ids, "4242", "9223372036854775807", "9999999999999999999");
  if (name.endsWith("_id"))
    return mostly(id, fc.oneof(fc.constantFrom("0", "-1", "01", "1 ", "１", "1".repeat(20)), text));
  if (name === "idempotency_key") return mostly(fc.oneof(fc.uuid(), fc.constant("the same")), text);
  if (name === "order_key") return mostly(fc.oneof(fc.uuid(), fc.constant("the same")), text);
  if (name === "page_token") return mostly(fc.constantFrom("", "", ...world.pageTokens), text);
  if (name === "email") return mostly(fc.constantFrom(...world.emails), fc.oneof(fc.constant(""), text));
  // An address is one of the two.
  if (name === "phone") return mostly(fc.constant(""), fc.oneof(fc.constantFrom("+821012345678", "+82", "010"), text));
  const known = KNOWN_TEXTS[name];
  return known ? mostly(fc.constantFrom(...known), text) : text;
}

const enumValue = ({ values }: DescEnum): fc.Arbitrary<JsonValue> =>
  mostly<JsonValue>(fc.constantFrom(...values.map(({ number }) => number)), fc.constantFrom(99, -1, 2_147_483_647));

/** How often of twenty times a good client leaves the field out. */
const oftenLeftOut = (field: DescField) => (field.message?.typeName === "google.protobuf.Timestamp" ? 10 : 1);

/** A value of the field's type, in range or not. */
function typedValue(field: DescField, world: World): fc.Arbitrary<JsonValue> {
  if (field.fieldKind === "list") {
    const item = itemOf(field, world);
    return mostly(
      fc.array<JsonValue>(item, { maxLength: 3 }),
      fc.array<JsonValue>(item, { minLength: 99, maxLength: 102 }),
      20,
    );
  }
  if (field.fieldKind === "message") {
    if (field.message.typeName === "google.protobuf.Timestamp") return fc.constantFrom(...TIMES);
    if (field.message.typeName === "google.protobuf.Duration") return fc.constantFrom(...DURATIONS);
    return typedMessage(field.message, world);
  }
  if (field.fieldKind === "enum") return enumValue(field.enum);
  if (field.fieldKind !== "scalar") throw new Error(`${field} needs values of its own`);
  switch (field.scalar) {
    case ScalarType.STRING:
      return textOf(field.name, world);
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.INT32:
      return mostly<JsonValue>(fc.integer({ min: 0, max: 5 }), fc.constantFrom(...INT32));
    case ScalarType.INT64:
      return mostly<JsonValue>(fc.integer({ min: 1, max: 50 }).map(String), fc.constantFrom(...INT64));
    default:
      throw new Error(`${field} needs values of its own`);
  }
}

function itemOf({ name, listKind, message, enum: known }: DescField & { fieldKind: "list" }, world: World) {
  if (listKind === "message") return typedMessage(message, world);
  return listKind === "enum" ? enumValue(known) : textOf(name.replace(/s$/, ""), world);
}

const typedMessage = (message: DescMessage, world: World): fc.Arbitrary<JsonObject> =>
  fc
    .tuple(
      ...message.fields.map((field) =>
        fc
          .tuple(fc.constant(field.jsonName), typedValue(field, world), fc.integer({ min: 0, max: 19 }))
          .map(([name, value, luck]) => (luck < oftenLeftOut(field) ? [] : [[name, value] as const])),
      ),
    )
    .map((fields) => Object.fromEntries(fields.flat()));

/** Something that the field cannot be. */
function wrongValue(field: DescField): fc.Arbitrary<JsonValue> {
  const half = fc.constantFrom<JsonValue[]>(...HALF_CHARACTERS);
  const number = fc.constantFrom<JsonValue[]>(...NO_INT64, ...NO_INT64_EITHER);
  const time = fc.constantFrom<JsonValue[]>(...NO_TIMES);
  return fc.oneof(
    fc.constantFrom(...NO_VALUES),
    half,
    number,
    field.message ? time : (fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<JsonValue>),
  );
}

/** A request as JSON: typed, with a wrong value in one of its fields, with fields that nobody knows, or cut short. */
function jsonText(message: DescMessage, world: World): fc.Arbitrary<string> {
  const typed = typedMessage(message, world);
  const wrong =
    message.fields.length === 0
      ? typed
      : fc
          .tuple(typed, fc.constantFrom(...message.fields))
          .chain(([fields, field]) => wrongValue(field).map((value) => ({ ...fields, [field.jsonName]: value })));
  const unknown = fc.tuple(typed, text, fc.jsonValue()).map(([fields, name, value]) => ({ ...fields, [name]: value }));
  const whole = fc
    .oneof({ weight: 6, arbitrary: typed }, { weight: 2, arbitrary: wrong }, unknown)
    .map((value) => JSON.stringify(value));
  const cut = fc.tuple(whole, fc.nat(40)).map(([body, less]) => body.slice(0, -less));
  const twice = whole.map((body) => `${body.slice(0, -1)}${body.length > 2 ? "," : ""}${body.slice(1)}`);
  const deep = fc.constantFrom(100, 20_000).map((depth) => `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`);
  const nothing = fc.constantFrom(
    "",
    " ",
    "null",
    "[]",
    '"x"',
    "7",
    "{",
    '{"a":}',
    "\ufeff{}",
    "NaN",
    '{"__proto__":{"a":1}}',
  );
  return fc.oneof({ weight: 12, arbitrary: whole }, cut, twice, deep, nothing);
}

/** Tags and values as no encoder writes them. */
const field: fc.Arbitrary<Uint8Array> = fc
  .tuple(
    fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constant(2 ** 29 - 1)),
    fc.integer({ min: 0, max: 7 }),
    fc.uint8Array({ maxLength: 24 }),
  )
  .map(([number, wireType, bytes]) =>
    new BinaryWriter()
      .uint32(number * 8 + wireType)
      .raw(bytes)
      .finish(),
  );

const nestedGroups = fc.constantFrom(50, 50_000).map((depth) => Buffer.alloc(depth, 0x7b));

const typedBinary = (message: DescMessage, world: World) =>
  typedMessage(message, world).map((fields) => Buffer.from(toBinary(message, fromJson(message, fields))));

/** A request in binary: typed, typed with something appended, cut out or turned over, or nothing like it. */
function binary(message: DescMessage, world: World): fc.Arbitrary<Buffer> {
  const typed = typedBinary(message, world);
  const appended = fc
    .tuple(typed, fc.array(field, { minLength: 1, maxLength: 4 }))
    .map(([body, more]) => Buffer.concat([body, ...more]));
  const cut = fc
    .tuple(typed, fc.nat(60), fc.nat(20))
    .map(([body, at, less]) => Buffer.concat([body.subarray(0, at), body.subarray(at + less)]));
  const turned = fc.tuple(typed, fc.nat(200), fc.integer({ min: 1, max: 255 })).map(([body, at, mask]) => {
    const copy = Buffer.from(body);
    if (copy.length > 0) copy[at % copy.length] = (copy[at % copy.length] ?? 0) ^ mask;
    return copy;
  });
  const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof(
    { weight: 8, arbitrary: typed },
    appended,
    cut,
    { weight: 2, arbitrary: turned },
    noise,
    nestedGroups,
  );
}

export type HeaderLine = [name: string, value: string];

/** No deadline that could end a call whose money has moved. */
const headerLine = (world: World): fc.Arbitrary<HeaderLine> =>
  fc.oneof(
    ...Object.entries({
      authorization: ["", "Basic eDp5", "Bearer", "bearer  x", "Bearer \t", "Bearer " + "x".repeat(4_000), "\xff\xfe"],
      "chatpay-account-id": [...world.ids, "", "0", "-1", "abc", "1,2", "9".repeat(30), "\xe9"],
      "idempotency-key": ["the same", "x".repeat(65), "\xe9\xff", ""],
      "x-request-id": ["x".repeat(2_000), "\xff", "a b", ""],
      "content-encoding": ["gzip", "br", "zstd", "identity", "", "gzip, gzip"],
      "connect-content-encoding": ["gzip", "nope"],
      "grpc-encoding": ["gzip", "nope"],
      "connect-timeout-ms": ["-1", "abc", "99999999999", "1e9", "", "60000"],
      "grpc-timeout": ["-1S", "99999999H", "123456789S", "x", ""],
      "connect-protocol-version": ["0", "2", "one"],
      "accept-encoding": ["nope", "*;q=0"],
      accept: ["text/html", "*/*"],
      origin: ["null", "https://evil.example", "\xff"],
      te: ["trailers", "chunked"],
      "x-http-method-override": ["DELETE"],
    }).map(([name, values]) => fc.constantFrom(...values).map((value): HeaderLine => [name, value])),
  );

/** Usually none; some twice. */
const headerLines = (world: World) =>
  mostly(
    fc.constant<HeaderLine[]>([]),
    fc
      .array(headerLine(world), { minLength: 1, maxLength: 3 })
      .chain((lines) => fc.constantFrom(lines, [...lines, ...lines])),
    4,
  );

/** An HTTP request to an RPC's path. */
export interface HttpRequest {
  method: string;
  query: string;
  contentType: string;
  lines: HeaderLine[];
  body: Buffer;
}

/**
 * The frame of a streaming or gRPC message, honest or not. None says that it is compressed: where no header says how,
 * gRPC itself wants INTERNAL for an answer.
 */
const framed = (body: Buffer, [flags, lie]: [number, number]) => {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE((body.length + lie) >>> 0, 1);
  return Buffer.concat([head, body]);
};

export function httpRequest({ input: message }: DescMethod, world: World): fc.Arbitrary<HttpRequest> {
  const json = jsonText(message, world).map((body) => Buffer.from(body));
  const bytes = binary(message, world);
  const frame = mostly(
    fc.constant<[number, number]>([0, 0]),
    fc.tuple(fc.constantFrom(0, 2, 128, 254), fc.constantFrom(0, 1, -1, 2 ** 31)),
    1,
  );
  const inFrame = (body: fc.Arbitrary<Buffer>) =>
    mostly(
      fc.tuple(body, frame).map(([inner, how]) => framed(inner, how)),
      body,
    );
  const post = (weight: number, body: fc.Arbitrary<Buffer>, ...contentTypes: string[]) => ({
    weight,
    arbitrary: fc.record<HttpRequest>({
      method:
        weight > 1 ? fc.constant("POST") : fc.constantFrom("POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"),
      query: fc.constantFrom("", "", "", "?connect=v1", "?%ff&&=="),
      contentType: fc.constantFrom(...contentTypes),
      lines: headerLines(world),
      body,
    }),
  });
  const get = fc
    .tuple(
      fc.constantFrom("json", "proto", "xml", ""),
      fc.oneof(json, bytes),
      fc.constantFrom("0", "1", "x"),
      headerLines(world),
    )
    .map(([encoding, body, base64, lines]): HttpRequest => {
      const value =
        base64 === "1" ? body.toString("base64url") : encodeURIComponent(body.toString("latin1")).slice(0, 8_000);
      const query = `?connect=v1&encoding=${encoding}&base64=${base64}&message=${value.slice(0, 8_000)}`;
      return { method: "GET", query, contentType: "", lines, body: Buffer.alloc(0) };
    });
  return fc.oneof(
    post(10, json, "application/json"),
    post(6, bytes, "application/proto"),
    post(
      2,
      inFrame(bytes),
      "application/grpc",
      "application/grpc+proto",
      "application/grpc-web+proto",
      "application/connect+proto",
    ),
    post(2, inFrame(json), "application/grpc+json", "application/grpc-web+json", "application/connect+json"),
    post(
      1,
      json,
      "text/plain",
      "application/json; charset=utf-16",
      "application/json;;;",
      "application/",
      "a/b; c",
      "multipart/form-data",
    ),
    { weight: 2, arbitrary: get },
  );
}

/** A call of a gRPC client that puts any bytes where its message belongs. */
export interface GrpcRequest {
  lines: HeaderLine[];
  body: Buffer;
}

export const grpcRequest = ({ input }: DescMethod, world: World): fc.Arbitrary<GrpcRequest> =>
  fc.record({ lines: headerLines(world), body: binary(input, world) });
