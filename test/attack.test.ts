import { fork } from "node:child_process";
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { create, type DescMethod, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { decodeJwt, decodeProtectedHeader, type JWK, type JWTHeaderParameters, SignJWT } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccountService, CodePurpose, SendCodeResponseSchema } from "../gen/chatpay/account/v1/account_pb.ts";
import { EchoService } from "../gen/echo/v1/echo_pb.ts";
import { openEcho } from "./support/echo.ts";
import { openWallet, type Person, proveAddress, signUp } from "./support/people.ts";
import { DOORS, outcomeOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";
import { callOverHttp1, callOverHttp2, exchange, type Lines } from "./support/wire.ts";

/** What strangers try. Each test is also one of what still works beside it. */

const INVALID = "Unauthenticated CREDENTIAL_INVALID";
const MISSING = "Unauthenticated CREDENTIAL_MISSING";
const ACTING_INVALID = "InvalidArgument ACTING_ACCOUNT_INVALID";
const CODE_INVALID = "InvalidArgument CODE_INVALID";

/** Two processes of one deployment, as far as they know. */
let servers: [TestServer, TestServer];
let server: TestServer;
let alice: Awaited<ReturnType<typeof signUp>>;
let bob: Person;

beforeAll(async () => {
  const common = {
    DATABASE_URL: await makeDatabase(),
    CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  };
  servers = [await startServer(common), await startServer(common)];
  [server] = servers;
  alice = await signUp(server);
  bob = await openWallet(server);
});

afterAll(() => Promise.all(servers.map((one) => one.stop())));

// Tokens

const getOwn = (bearer: string, door: (typeof DOORS)[number]) =>
  outcomeOf(server.client(AccountService, { bearer }, door).getAccount({}));

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("A3: no token opens anything but those that were signed with our key, for us, as access tokens", async () => {
  const honest = alice.tokens.accessToken;
  const header = decodeProtectedHeader(honest) as JWTHeaderParameters & { kid: string };
  const claims = decodeJwt(honest);
  const [head, body, signature] = honest.split(".") as [string, string, string];
  const { keys } = (await (await fetch(`${server.baseUrl}/.well-known/jwks.json`)).json()) as { keys: [JWK] };
  const ours = createPublicKey({ key: keys[0], format: "jwk" });
  const theirs = generateKeyPairSync("ed25519");
  const elliptic = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const sign = (key: KeyObject | Buffer, changes: object = {}) =>
    new SignJWT(claims).setProtectedHeader({ ...header, ...changes }).sign(key);

  // Where a token says that its key is found.
  const asked: string[] = [];
  const keyServer = createServer(({ url = "" }, response) => {
    asked.push(url);
    response.end(JSON.stringify({ keys: [theirs.publicKey.export({ format: "jwk" })] }));
  }).listen(0, "127.0.0.1");
  await once(keyServer, "listening");
  const keyUrl = `http://127.0.0.1:${(keyServer.address() as AddressInfo).port}/jwks.json`;

  const publicForms = {
    DER: ours.export({ format: "der", type: "spki" }),
    PEM: Buffer.from(ours.export({ format: "pem", type: "spki" })),
    bytes: Buffer.from(keys[0].x ?? "", "base64url"),
    base64: Buffer.from(keys[0].x ?? ""),
    JWK: Buffer.from(JSON.stringify(keys[0])),
  };
  const forged: Record<string, string> = {};
  for (const alg of ["none", "None", "NONE", "", null]) {
    forged[`alg ${alg}`] = `${part({ ...header, alg })}.${body}.`;
    forged[`alg ${alg} with a signature`] = `${part({ ...header, alg })}.${body}.${signature}`;
  }
  for (const [form, key] of Object.entries(publicForms)) {
    for (const alg of ["HS256", "HS384", "HS512"]) {
      // What is too short for the algorithm, a careless library would still take.
      forged[`${alg} with our public key as ${form}`] = await sign(key, { alg }).catch(() => `${head}.${body}.AAAA`);
    }
  }
  for (const kid of [undefined, "", "theirs", "../../../dev/null", "' or '1'='1", "x".repeat(2_000)]) {
    forged[`another key, with the id ${kid}`] = await sign(theirs.privateKey, { kid });
  }
  Object.assign(forged, {
    "another key, with our id": await sign(theirs.privateKey),
    "another key that comes along": await sign(theirs.privateKey, { jwk: theirs.publicKey.export({ format: "jwk" }) }),
    "another key that lies elsewhere": await sign(theirs.privateKey, { jku: keyUrl, x5u: keyUrl, kid: "theirs" }),
    "an elliptic key": await sign(elliptic.privateKey, { alg: "ES256" }),
    "a header that has to be understood": `${part({ ...header, crit: ["b64"], b64: false })}.${body}.${signature}`,
    "a key id that is no text": `${part({ ...header, kid: [header.kid] })}.${body}.${signature}`,
    "another type": `${part({ ...header, typ: "JWT" })}.${body}.${signature}`,
    "another account": `${head}.${part({ ...claims, sub: String(bob.accountId) })}.${signature}`,
    "another audience": `${head}.${part({ ...claims, aud: "elsewhere" })}.${signature}`,
    "the signature of another token": `${head}.${body}.${(await signUp(server)).tokens.accessToken.split(".")[2]}`,
    "a token in a token": `${honest}.${honest}`,
    "a long one": `${head}.${body}.${"A".repeat(10_000)}`,
    "a refresh token": alice.tokens.refreshToken,
  });
  for (let length = 0; length < honest.length; length += 23) forged[`the first ${length}`] = honest.slice(0, length);

  for (const door of DOORS) {
    expect(await getOwn(honest, door)).toBe("OK");
    for (const [name, token] of Object.entries(forged)) {
      expect([name, await getOwn(token, door)]).toEqual([name, INVALID]);
    }
    expect(await getOwn(honest, door)).toBe("OK");
  }
  expect(asked).toEqual([]);
  keyServer.close();
});

test("A3: an access token refreshes nothing", async () => {
  const refreshed = server.client(AccountService).refreshTokens({ refreshToken: alice.tokens.accessToken });

  expect(await outcomeOf(refreshed)).toMatch(/REFRESH_TOKEN_INVALID|REQUEST_INVALID/);
});

// Races

const serverAt = (i: number) => servers[i % 2] as TestServer;

/** What each of twenty clients gets who use the tokens in turns, at both servers at once. */
async function race(tokens: string[]) {
  const clients = Array.from({ length: 20 }, (_, i) => ({
    refreshToken: tokens[i % tokens.length] ?? "",
    accounts: createClient(AccountService, createGrpcTransport({ baseUrl: serverAt(Math.floor(i / 2)).grpcUrl })),
  }));
  const answers = await Promise.allSettled(
    clients.map(({ accounts, refreshToken }) => accounts.refreshTokens({ refreshToken })),
  );
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? (answer.value.tokens?.refreshToken ?? "") : []));
}

test("A3: of twenty clients with one refresh token, none gets a line of tokens of its own", async () => {
  const { tokens } = await signUp(server);

  const first = await race([tokens.refreshToken]);

  expect(first).toHaveLength(20);
  expect(new Set(first).size).toBe(1);
});

test("A3: twenty clients with a used refresh token and its next leave one line of tokens, or none", async () => {
  for (let round = 0; round < 3; round += 1) {
    const { tokens, accountId } = await signUp(server);
    const [next = ""] = await race([tokens.refreshToken]);

    const given = new Set(await race([tokens.refreshToken, next]));

    // The first may be answered with the next again, which then gets the third; nothing else is ever made.
    given.delete(next);
    expect(given.size).toBeLessThanOrEqual(1);
    const unused = await server.app.db
      .selectFrom("refreshToken")
      .innerJoin("session", "session.id", "refreshToken.sessionId")
      .select("refreshToken.tokenHash")
      .where("session.accountId", "=", accountId)
      .where("refreshToken.useTime", "is", null)
      .execute();
    expect(unused).toHaveLength(1);

    // The thief comes back with the first: whoever holds anything of this session is out.
    await race([tokens.refreshToken]);
    expect(await race([tokens.refreshToken, next, ...given])).toEqual([]);
    for (const one of servers) {
      const own = one.client(AccountService, { bearer: tokens.accessToken }).getAccount({});
      expect(await outcomeOf(own)).toBe(INVALID);
    }
  }
});

// Codes

/** Guesses that are not the code. */
const guesses = (code: string, count: number) =>
  Array.from({ length: count }, (_, i) => String((Number(code) + 1 + i) % 1_000_000).padStart(6, "0"));

const outcomesOf = (calls: Promise<unknown>[]) => Promise.all(calls.map(outcomeOf));

test("A1: a code stands five tries that come at once, at two servers", async () => {
  const attempts: [purpose: CodePurpose, prove: (one: TestServer, email: string, code: string) => Promise<unknown>][] =
    [
      [CodePurpose.SIGN_IN, (one, email, code) => one.client(AccountService).signInWithCode({ email, code })],
      [
        CodePurpose.RESET_PASSWORD,
        (one, email, code) =>
          one.client(AccountService).resetPassword({ email, code, newPassword: `pw-${randomUUID()}` }),
      ],
    ];
  for (const [purpose, prove] of attempts) {
    const [brave, unlucky] = [await signUp(server), await signUp(server)];
    const codes = [
      await proveAddress(server, brave.email, purpose),
      await proveAddress(server, unlucky.email, purpose),
    ];

    // Four wrong ones at once leave the fifth try to the owner.
    const four = guesses(codes[0] ?? "", 4).map((code, i) => prove(serverAt(i), brave.email, code));
    expect(new Set(await outcomesOf(four))).toEqual(new Set([CODE_INVALID]));
    expect(await outcomeOf(prove(serverAt(1), brave.email, codes[0] ?? ""))).toBe("OK");

    // Five leave none: the right one opens nothing any more.
    const five = guesses(codes[1] ?? "", 5).map((code, i) => prove(serverAt(i), unlucky.email, code));
    expect(new Set(await outcomesOf(five))).toEqual(new Set([CODE_INVALID]));
    expect(await outcomeOf(prove(server, unlucky.email, codes[1] ?? ""))).toBe(CODE_INVALID);
  }
});

test("A1: of a hundred guesses at once five are judged, and the right one behind them opens nothing", async () => {
  const { email } = await signUp(server);
  const code = await proveAddress(server, email, CodePurpose.SIGN_IN);
  const many = guesses(code, 100);
  many.splice(50, 1, code);

  // At one server they are judged in the order in which they come.
  const outcomes = await outcomesOf(
    many.map((guess) => server.client(AccountService).signInWithCode({ email, code: guess })),
  );

  expect(new Set(outcomes)).toEqual(new Set([CODE_INVALID]));
});

// Who has an account

const METHODS = AccountService.method;

/** All that is answered, but for ids and times. */
const PER_CALL = [
  [/(x-request-id: ).*/gi, "$1…"],
  [/(date: ).*/gi, "$1…"],
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "…"],
] as const;

const withoutIds = (text: string) => PER_CALL.reduce((rest, [what, instead]) => rest.replaceAll(what, instead), text);

async function answerOverHttp1(method: DescMethod, request: object): Promise<string> {
  const json = toJsonString(method.input, create(method.input, request as never));
  const { port, hostname } = new URL(server.baseUrl);
  const head = [`POST /${method.parent.typeName}/${method.name} HTTP/1.1`, `host: ${hostname}`, "connection: close"];
  const body = ["content-type: application/json", `content-length: ${Buffer.byteLength(json)}`, "", json];
  const answer = await exchange(Number(port), hostname, [...head, ...body].join("\r\n"));
  // Times have as many digits as they need.
  return withoutIds(answer).replace(/content-length: \d+/i, answer.includes("200 OK") ? "content-length: …" : "$&");
}

async function answerOverGrpc(method: DescMethod, request: object): Promise<string> {
  const session = connectHttp2(server.grpcUrl);
  const stream = session.request({
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": "application/grpc",
    te: "trailers",
  });
  const lines: string[] = [];
  const note = (headers: object) => {
    for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${String(value)}`);
  };
  stream.on("response", note).on("trailers", note);
  const message = toBinary(method.input, create(method.input, request as never));
  const length = Buffer.alloc(5);
  length.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([length, message]));
  const bytes = await buffer(stream);
  session.destroy();
  const said = method === METHODS.sendCode && bytes.length > 5 ? toldBy(bytes.subarray(5)) : bytes.toString("hex");
  return withoutIds([...lines, said].join("\n"));
}

/** Times are of other lengths as bytes. */
const toldBy = (bytes: Buffer) => toJsonString(SendCodeResponseSchema, fromBinary(SendCodeResponseSchema, bytes));

const PURPOSES = Object.entries(CodePurpose).filter(([, purpose]) => purpose !== CodePurpose.UNSPECIFIED);

/** Of an account, and as if its last code were long ago. */
async function knownAddress(): Promise<string> {
  const { app } = server;
  const { email, accountId } = await signUp(server);
  const row = app.db.selectFrom("account").select("emailKey").where("id", "=", accountId);
  const key = (await row.executeTakeFirstOrThrow()).emailKey?.toString("hex");
  await app.redis.del(`chatpay:code:${CodePurpose.SIGN_UP}:${key}`);
  return email;
}

test("A1: no answer tells whether an address has an account, in any byte", async () => {
  const wrong = { code: "000000", newPassword: `pw-${randomUUID()}` };
  const calls: [name: string, method: DescMethod, request: object][] = [
    ...PURPOSES.map(
      ([name, purpose]) => [`SendCode ${name}`, METHODS.sendCode, { purpose }] as [string, DescMethod, object],
    ),
    ["SignIn", METHODS.signIn, { password: "not the password" }],
    ["SignInWithCode", METHODS.signInWithCode, wrong],
    ["ResetPassword", METHODS.resetPassword, wrong],
    ["SignUp", METHODS.signUp, { code: "000000", displayName: "Mallory", password: wrong.newPassword }],
  ];
  for (const answerTo of [answerOverHttp1, answerOverGrpc]) {
    // Each door has its own people, because an address may ask for a code once a minute.
    const known = await knownAddress();
    const unknown = `${randomUUID()}@example.com`;
    for (const [name, method, request] of calls) {
      const told = await answerTo(method, { ...request, email: known });
      expect([name, await answerTo(method, { ...request, email: unknown })]).toEqual([name, told]);
      // It is an answer of this RPC, and not one that any call would get.
      expect(told).not.toMatch(/REQUEST_INVALID|unimplemented|grpc-status: 12/i);
    }
  }
});

// What is smuggled in headers

const GET_ACCOUNT = "chatpay.account.v1.AccountService/GetAccount";

/** At each door, in each protocol. */
async function outcomesAt(lines: Lines) {
  return {
    grpc: await callOverHttp2(server.grpcUrl, GET_ACCOUNT, lines),
    connect: await callOverHttp2(server.baseUrl, GET_ACCOUNT, lines),
    http1: await callOverHttp1(server.baseUrl, GET_ACCOUNT, lines),
  };
}

const everywhere = (outcome: string) => ({ grpc: outcome, connect: outcome, http1: outcome });

test("A11: a chat server acts for the one account that it names in plain digits, at both doors", async () => {
  const key: Lines = [["authorization", `Bearer ${server.keys.service}`]];
  const id = String(bob.accountId);
  const other = String(alice.accountId);
  const named = (...values: string[]): Lines => [
    ...key,
    ...values.map((value): [string, string] => ["chatpay-account-id", value]),
  ];
  const cases: Record<string, [lines: Lines, outcome: string]> = {
    once: [named(id), "OK"],
    "not at all": [key, ACTING_INVALID],
    empty: [named(""), ACTING_INVALID],
    twice: [named(id, id), ACTING_INVALID],
    "two of them": [named(id, other), ACTING_INVALID],
    "one and nothing": [named(id, ""), ACTING_INVALID],
    "with a comma": [named(`${id},${other}`), ACTING_INVALID],
    "with a comma at the end": [named(`${id},`), ACTING_INVALID],
    "with a zero before it": [named(`0${id}`), ACTING_INVALID],
    "with a sign": [named(`+${id}`), ACTING_INVALID],
    "as a negative": [named(`-${id}`), ACTING_INVALID],
    "as hexadecimal": [named(`0x${bob.accountId.toString(16)}`), ACTING_INVALID],
    "in Arabic digits": [named(Buffer.from("١٢٣").toString("latin1")), ACTING_INVALID],
    "in wide digits": [named(Buffer.from("１２３").toString("latin1")), ACTING_INVALID],
    "with a letter of Latin-1": [named(`${id}\u00a0`), ACTING_INVALID],
    "with a semicolon": [named(`${id}; admin`), ACTING_INVALID],
    "as SQL": [named(`${id} or 1=1`), ACTING_INVALID],
    "beyond 64 bits": [named("9999999999999999999"), "NotFound ACCOUNT_NOT_FOUND"],
    "with many digits": [named("1".repeat(5_000)), ACTING_INVALID],
    "as bytes": [[...key, ["chatpay-account-id-bin", Buffer.from(id).toString("base64")]], ACTING_INVALID],
    "under another name": [[...key, ["x-chatpay-account-id", id], ["chatpay_account_id", id]], ACTING_INVALID],
    "beside bytes that say another": [
      [...named(id), ["chatpay-account-id-bin", Buffer.from(other).toString("base64")]],
      "OK",
    ],
  };
  for (const [name, [lines, outcome]] of Object.entries(cases)) {
    expect([name, await outcomesAt(lines)]).toEqual([name, everywhere(outcome)]);
  }
  const capitals: Lines = [
    ["AUTHORIZATION", `Bearer ${server.keys.service}`],
    ["CHATPAY-ACCOUNT-ID", id],
  ];
  expect(await callOverHttp1(server.baseUrl, GET_ACCOUNT, capitals)).toBe("OK");
  expect(await callOverHttp1(server.baseUrl, GET_ACCOUNT, [...capitals, ["Chatpay-Account-Id", other]])).toBe(
    ACTING_INVALID,
  );
});

test("A5: a call has one credential, which comes in one header, at both doors", async () => {
  const token = `Bearer ${alice.tokens.accessToken}`;
  const operator = `Bearer ${server.keys.operator}`;
  const sent = (...values: string[]): Lines => values.map((value) => ["authorization", value]);
  const cases: Record<string, [lines: Lines, outcome: string]> = {
    once: [sent(token), "OK"],
    "in other letters": [sent(token.replace("Bearer", "bEARER")), "OK"],
    "not at all": [[], MISSING],
    empty: [sent(""), INVALID],
    twice: [sent(token, token), INVALID],
    "two of them": [sent(token, operator), INVALID],
    "a bad one first": [sent("Bearer nobody", token), INVALID],
    "a bad one last": [sent(token, "Bearer nobody"), INVALID],
    "an empty one last": [sent(token, ""), INVALID],
    "two in one": [sent(`${token}, ${operator}`), INVALID],
    "another scheme": [sent(token.replace("Bearer", "Basic")), INVALID],
    "without a scheme": [sent(alice.tokens.accessToken), INVALID],
    "with a scheme too many": [sent(`Bearer ${token}`), INVALID],
    "with a tab": [sent(token.replace(" ", "\t")), INVALID],
    "with a letter of Latin-1": [sent(`${token}\u00e9`), INVALID],
    "as bytes": [[["authorization-bin", Buffer.from(token).toString("base64")]], MISSING],
    "for a proxy": [
      [
        ["proxy-authorization", token],
        ["x-authorization", token],
      ],
      MISSING,
    ],
    "beside bytes that say another": [
      [...sent(token), ["authorization-bin", Buffer.from(operator).toString("base64")]],
      "OK",
    ],
  };
  for (const [name, [lines, outcome]] of Object.entries(cases)) {
    expect([name, await outcomesAt(lines)]).toEqual([name, everywhere(outcome)]);
  }
  expect(server.logs.join("")).not.toContain(alice.tokens.accessToken);
});

test("A5: no credential comes in an address, after the body, or in lines that HTTP does not know", async () => {
  const token = `Bearer ${alice.tokens.accessToken}`;
  const asked = new URLSearchParams({ connect: "v1", encoding: "json", message: "{}" });
  const sly = new URLSearchParams([
    ...asked,
    ["authorization", token],
    ["access_token", alice.tokens.accessToken],
    ["header.authorization", token],
  ]);
  const { port, hostname, host } = new URL(server.baseUrl);
  const send = (...lines: string[]) =>
    exchange(
      Number(port),
      hostname,
      [
        `POST /${GET_ACCOUNT} HTTP/1.1`,
        `host: ${host}`,
        "connection: close",
        "content-type: application/json",
        ...lines,
      ].join("\r\n"),
    );
  const chunks = ["", "2", "{}", "0"];

  expect(await callOverHttp1(server.baseUrl, GET_ACCOUNT, [["authorization", token]], String(asked))).toBe("OK");
  expect(await callOverHttp1(server.baseUrl, GET_ACCOUNT, [], String(sly))).toBe(MISSING);
  const trailers = [
    "transfer-encoding: chunked",
    "trailer: authorization",
    ...chunks,
    `authorization: ${token}`,
    "",
    "",
  ];
  expect(await send(...trailers)).toMatch(/^HTTP\/1.1 401 .*REASON_CREDENTIAL_MISSING/s);
  for (const broken of [
    ["content-length: 2", `authorization:\r\n ${token}`, "", "{}"],
    ["content-length: 2", `authorization : ${token}`, "", "{}"],
    ["content-length: 2", `x: y\0authorization: ${token}`, "", "{}"],
    ["content-length: 2", "transfer-encoding: chunked", `authorization: ${token}`, ...chunks, "", ""],
    ["content-length: 2", "content-length: 40", `authorization: ${token}`, "", "{}"],
  ]) {
    expect(await send(...broken)).toMatch(/^HTTP\/1.1 400 /);
  }
});

/** A name and a value as HTTP/2 sends them when it knows neither. */
function literal(name: string, value: string) {
  const lengthOf = (text: string) => {
    if (text.length < 127) return [text.length];
    const rest = text.length - 127;
    return [127, (rest & 127) | 128, rest >> 7];
  };
  return [0, ...lengthOf(name), ...Buffer.from(name, "latin1"), ...lengthOf(value), ...Buffer.from(value, "latin1")];
}

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const SETTINGS = frame(4, 0, 0, []);
const [DATA, HEADERS, RST_STREAM, GOAWAY] = [0, 1, 3, 7];
const [END_STREAM, END_HEADERS] = [1, 4];

function frame(type: number, flags: number, stream: number, payload: number[]) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.set([type, flags], 3);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, Buffer.from(payload)]);
}

/** The first frame that is about the call, whose head is made of these lines as they are. */
async function frameAbout(url: string, lines: Lines): Promise<number> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1").on("error", () => {});
  const call = lines.flatMap(([name, value]) => literal(name, value));
  socket.write(PREFACE);
  socket.write(SETTINGS);
  socket.write(frame(HEADERS, END_HEADERS, 1, call));
  socket.write(frame(DATA, END_STREAM, 1, [0, 0, 0, 0, 0]));
  let bytes = Buffer.alloc(0);
  try {
    for await (const more of socket) {
      bytes = Buffer.concat([bytes, more as Buffer]);
      while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
        const type = bytes[3] ?? -1;
        if (type === HEADERS || type === RST_STREAM || type === GOAWAY) return type;
        bytes = bytes.subarray(9 + bytes.readUIntBE(0, 3));
      }
    }
    return -1;
  } finally {
    socket.destroy();
  }
}

test("A11: over HTTP/2 a header in capitals ends its call unheard, at both doors", async () => {
  const head: Lines = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", `/${GET_ACCOUNT}`],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ["authorization", `Bearer ${server.keys.service}`],
  ];
  const id = String(bob.accountId);

  for (const url of [server.grpcUrl, server.baseUrl]) {
    expect(await frameAbout(url, [...head, ["chatpay-account-id", id]])).toBe(HEADERS);
    for (const name of ["CHATPAY-ACCOUNT-ID", "Chatpay-Account-Id"]) {
      expect([RST_STREAM, GOAWAY]).toContain(await frameAbout(url, [...head, [name, id]]));
    }
  }
});

// Too much

const clientsOf = ({ connectPort, grpcPort }: { connectPort: number; grpcPort: number }) => [
  createClient(EchoService, createConnectTransport({ baseUrl: `http://127.0.0.1:${connectPort}`, httpVersion: "1.1" })),
  createClient(EchoService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpcPort}` })),
];

const SAY = "/echo.v1.EchoService/Say";

/** How a call with this much of a head ends: `answered`, or not. */
async function endOf(port: number, headers: [string, string][]): Promise<string> {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { maxSendHeaderBlockLength: 10_000_000 });
  session.on("error", () => {});
  const head = [":method", "POST", ":path", SAY, "content-type", "application/grpc", "te", "trailers"];
  const stream = session.request([...head, ...headers.flat()]);
  let status: unknown;
  stream.on("response", (answer) => (status = answer[":status"])).on("error", () => {});
  stream.resume().end(Buffer.alloc(5));
  await new Promise((resolve) => stream.once("close", resolve));
  session.destroy();
  return status === 200 ? "answered" : "refused";
}

test("a head of a call that is too large is refused, and costs nobody else anything", async () => {
  await using echo = await openEcho();
  const clients = clientsOf(echo);
  const many = (count: number): [string, string][] => Array.from({ length: count }, (_, i) => [`x-${i}`, "y"]);
  const large = (bytes: number): [string, string][] => [["authorization", `Bearer ${"x".repeat(bytes)}`]];

  for (const port of [echo.connectPort, echo.grpcPort]) {
    expect(await endOf(port, large(1_000))).toBe("answered");
    for (const size of [100_000, 1_000_000]) expect(await endOf(port, large(size))).toBe("refused");
    expect(await endOf(port, many(50))).toBe("answered");
    for (const count of [500, 5_000]) expect(await endOf(port, many(count))).toBe("refused");
    for (const client of clients) expect(await client.say({ text: "hi" })).toMatchObject({ text: "hi" });
  }
  for (const head of [`x: ${"y".repeat(100_000)}\r\n`, "x: y\r\n".repeat(20_000)]) {
    const request = `POST ${SAY} HTTP/1.1\r\nhost: x\r\n${head}content-length: 2\r\n\r\n{}`;
    expect(await exchange(echo.connectPort, "127.0.0.1", request)).toMatch(/^(HTTP\/1.1 431 |$)/);
  }
  for (const client of clients) expect(await client.say({ text: "hi" })).toMatchObject({ text: "hi" });
});

const LORISES = 100;
const IMPATIENT = { greetingMs: 300, headersMs: 300, requestMs: 600, idleMs: 300 };
const HALF_HEAD = frame(HEADERS, 0, 1, literal(":method", "POST"));
const HALF_BODY = Buffer.concat([
  frame(
    HEADERS,
    END_HEADERS,
    1,
    [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", SAY],
      [":authority", "x"],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
    ].flatMap(([name = "", value = ""]) => literal(name, value)),
  ),
  frame(DATA, 0, 1, [0, 0, 0]),
]);

/** What is sent and then not finished; over HTTP/2 the connection may go on where the call is ended. */
const SLOW: [name: string, door: "connectPort" | "grpcPort", bytes: Buffer][] = [
  ["half a head over HTTP/1.1", "connectPort", Buffer.from(`POST ${SAY} HTTP/1.1\r\nhost: x\r\n`)],
  [
    "half a body over HTTP/1.1",
    "connectPort",
    Buffer.from(`POST ${SAY} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{`),
  ],
  ["half a head over HTTP/2", "connectPort", Buffer.concat([PREFACE, SETTINGS, HALF_HEAD])],
  ["half a body over HTTP/2", "connectPort", Buffer.concat([PREFACE, SETTINGS, HALF_BODY])],
  ["silence at the gRPC door", "grpcPort", Buffer.alloc(0)],
  ["half a greeting at the gRPC door", "grpcPort", PREFACE.subarray(0, 9)],
  ["a greeting without settings at the gRPC door", "grpcPort", PREFACE],
  ["half a head at the gRPC door", "grpcPort", Buffer.concat([PREFACE, SETTINGS, HALF_HEAD])],
  ["half a body at the gRPC door", "grpcPort", Buffer.concat([PREFACE, SETTINGS, HALF_BODY])],
];

/** Until the other side hangs up, or resets the call. */
async function isCut(socket: Socket) {
  let bytes = Buffer.alloc(0);
  for await (const more of socket) {
    bytes = Buffer.concat([bytes, more as Buffer]);
    if (hasReset(bytes)) break;
  }
  socket.destroy();
}

function hasReset(bytes: Buffer) {
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    if (bytes[at + 3] === RST_STREAM) return true;
  return false;
}

test.for(SLOW)(
  "%s, a hundred times: cut in the end, and a good client is served meanwhile",
  async ([name, door, bytes]) => {
    // Nobody who owes half a head can answer a ping; all others are cut without being asked.
    const keepaliveMs = name === "half a head at the gRPC door" ? 500 : 60_000;
    await using echo = await openEcho({ limits: { ...IMPATIENT, keepaliveMs, keepaliveTimeoutMs: 500 } });
    const slow = Array.from({ length: LORISES }, () => connect(echo[door], "127.0.0.1").on("error", () => {}));
    for (const socket of slow) socket.write(bytes);

    const cut = Promise.all(slow.map(isCut));
    for (const client of clientsOf(echo)) expect(await client.say({ text: "hi" })).toMatchObject({ text: "hi" });
    await cut;

    for (const client of clientsOf(echo)) expect(await client.say({ text: "after" })).toMatchObject({ text: "after" });
    expect(echo.seen.running).toBe(0);
  },
);

/** As many connections as this process may have open besides its own files, and 10,000 at most. */
function affordable() {
  const limit = Number(/Max open files\s+(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? 1_000);
  return Math.min(10_000, Math.floor((limit - 500) / 500) * 500);
}

const connectionsHere = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCPSocket")).length;

/** A process whose connections are left open until it goes away. */
async function gatherCrowd() {
  const child = fork(join(import.meta.dirname, "support/crowd.ts"));
  return {
    async open(port: number, count: number) {
      child.send({ port, count });
      const [open] = (await once(child, "message")) as [number];
      return open;
    },
    async [Symbol.asyncDispose]() {
      const gone = once(child, "exit");
      child.disconnect();
      await gone;
    },
  };
}

const STEP = 500;
const BYTES_PER_CONNECTION_MAX = 100_000;

test.for(["connectPort", "grpcPort"] as const)(
  "%s: ten thousand connections are opened and left",
  { timeout: 60_000 },
  async (door) => {
    const total = affordable();
    await using echo = await openEcho({
      limits: { connectionsMax: 11_000, greetingMs: 120_000, keepaliveMs: 120_000 },
    });
    const clients = clientsOf(echo);
    for (const client of clients) await client.say({ text: "hi" });
    const before = { connections: connectionsHere(), bytes: process.memoryUsage.rss() };
    {
      await using crowd = await gatherCrowd();
      for (let count = STEP; count <= total; count += STEP) {
        expect(await crowd.open(echo[door], STEP)).toBe(count);
        for (const client of clients) expect(await client.say({ text: "hi" })).toMatchObject({ text: "hi" });
      }
      await expect.poll(connectionsHere, { timeout: 10_000 }).toBeGreaterThanOrEqual(total);
      const bytes = (process.memoryUsage.rss() - before.bytes) / total;
      console.log(`${door}: ${total} connections, ${Math.round(bytes / 1000)} kB each`);
      expect(bytes).toBeLessThan(BYTES_PER_CONNECTION_MAX);
      for (const client of clientsOf(echo)) expect(await client.say({ text: "new" })).toMatchObject({ text: "new" });
    }
    await expect.poll(connectionsHere, { timeout: 10_000 }).toBeLessThan(before.connections + 20);
    for (const client of clients) expect(await client.say({ text: "after" })).toMatchObject({ text: "after" });
  },
);

test.for(["connectPort", "grpcPort"] as const)("%s: no more connections are taken than are allowed", async (door) => {
  await using echo = await openEcho({ limits: { connectionsMax: 50 } });
  {
    await using crowd = await gatherCrowd();
    await crowd.open(echo[door], 80);
    await expect.poll(() => crowd.open(echo[door], 0)).toBe(50);
    await pause(50);
    expect(await crowd.open(echo[door], 10)).toBeLessThanOrEqual(60);
    await expect.poll(() => crowd.open(echo[door], 0)).toBe(50);
  }
  for (const client of clientsOf(echo)) {
    await expect.poll(() => outcomeOf(client.say({ text: "hi" }))).toBe("OK");
  }
});
