import { randomBytes, randomInt } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { outcomeOf } from "./support/rpcs.ts";
import { type Door, startServer, type TestServer } from "./support/server.ts";

// Text messages cost money: to whom, and how many.

const LIMIT = 4;
const NOT_SERVED = "InvalidArgument PHONE_NOT_SERVED";
const LIMITED = "ResourceExhausted RATE_LIMITED";

const secrets = {
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
};
const server = await startServer({
  ...secrets,
  CHATPAY_TRUSTED_PROXIES: "127.0.0.1",
  CHATPAY_LIMIT_TEXTS: String(LIMIT),
});
const abroad = await startServer({
  ...secrets,
  DATABASE_URL: server.app.config.databaseUrl,
  CHATPAY_SMS_URL: server.app.config.sms?.baseUrl,
  CHATPAY_SMS_COUNTRIES: "1,852",
});
const anywhere = await startServer({ CHATPAY_SMS_COUNTRIES: "*" });
afterAll(async () => {
  for (const one of [anywhere, abroad, server]) await one.stop();
});

const KOREA = "+8210";
const HONG_KONG = "+8526";
const GERMANY = "+49151";
const newPhone = (begin: string) => ({ phone: `${begin}${randomInt(10_000_000, 100_000_000)}` });

/** Nobody else's network: Redis counts for all tests of the run. */
const newNetwork = () => `2001:db8:${randomBytes(2).toString("hex")}:${randomBytes(2).toString("hex")}`;

interface Asking {
  purpose?: CodePurpose;
  ip?: string;
  at?: TestServer;
  door?: Door;
}
const ask = (
  address: { phone: string } | { email: string },
  { purpose = CodePurpose.SIGN_UP, ip = `${newNetwork()}::1`, at = server, door }: Asking = {},
) =>
  outcomeOf(
    at.client(AccountService, {}, door).sendCode({ ...address, purpose }, { headers: { "x-forwarded-for": ip } }),
  );

/** The texts that came to a number, newest first. */
async function textsTo(phone: string, { smsInbox } = server): Promise<string[]> {
  const answer = await fetch(`${smsInbox.url}/sms?to=${encodeURIComponent(phone.replace("+82", "0"))}`);
  return ((await answer.json()) as { text: string }[]).map(({ text }) => text);
}

test("A1: a number of a country that is not served gets no code, whoever has it", async () => {
  const known = newPhone(HONG_KONG);
  expect(await ask(known, { at: abroad })).toBe("OK");
  await expect.poll(() => textsTo(known.phone)).toHaveLength(1);
  const code = /\d{6}/.exec((await textsTo(known.phone))[0] ?? "")?.[0] ?? "";
  await abroad.client(AccountService).signUp({ ...known, code, displayName: "Alice" });

  for (const purpose of [CodePurpose.SIGN_UP, CodePurpose.SIGN_IN, CodePurpose.RESET_PASSWORD])
    for (const phone of [known, newPhone(HONG_KONG), newPhone(GERMANY)])
      expect(await ask(phone, { purpose })).toBe(NOT_SERVED);

  expect(await ask(newPhone(KOREA))).toBe("OK");
  expect(await ask(newPhone(KOREA), { at: abroad })).toBe(NOT_SERVED);
  expect(await ask(newPhone(GERMANY), { at: abroad })).toBe(NOT_SERVED);
  expect(await ask(newPhone("+1202"), { at: abroad })).toBe("OK");
  expect(await ask(newPhone(GERMANY), { at: anywhere })).toBe("OK");
  expect(await textsTo(known.phone)).toHaveLength(1);
});

test("A1: from one network so many codes are texted in an hour; mail and others are not concerned", async () => {
  const network = newNetwork();
  const askFrom = (i: number) => ask(newPhone(KOREA), { ip: `${network}::${i + 1}`, door: i % 2 ? "grpc" : "connect" });

  const outcomes = await Promise.all(Array.from({ length: 2 * LIMIT }, (_, i) => askFrom(i)));

  expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(LIMIT);
  expect(outcomes.filter((outcome) => outcome === LIMITED)).toHaveLength(LIMIT);
  // A number that is not served is told so first, and costs nobody a text.
  expect(await ask(newPhone(GERMANY), { ip: `${network}::9` })).toBe(NOT_SERVED);
  expect(await ask({ email: `${randomInt(1e9)}@example.com` }, { ip: `${network}::9` })).toBe("OK");
  expect(await ask(newPhone(KOREA))).toBe("OK");
});

test("A1: a number that is not served counts for nobody's limit", async () => {
  const ip = `${newNetwork()}::1`;

  for (let i = 0; i < 2 * LIMIT; i += 1) expect(await ask(newPhone(GERMANY), { ip })).toBe(NOT_SERVED);

  expect(await ask(newPhone(KOREA), { ip })).toBe("OK");
});
