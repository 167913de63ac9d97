import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { ConfigError, readConfig } from "../src/config.ts";
import { makeMmdb } from "./support/mmdb.ts";
import { signUp } from "./support/people.ts";
import { DOORS, errorOf, outcomeOf } from "./support/rpcs.ts";
import { type Door, makeDatabase, startServer, type TestServer, testEnvironment } from "./support/server.ts";

const SEOUL = "203.0.113.7";
const SEOUL_6 = "2001:db8:82::7";
const TOKYO = "198.51.100.7";
const AT_SEA = "192.0.2.7";
const REFUSED = "PermissionDenied COUNTRY_NOT_ALLOWED";
const ENTRIES: [string, string][] = [
  ["203.0.113.0/24", "KR"],
  ["2001:db8:82::/48", "KR"],
  ["198.51.100.0/24", "JP"],
  // What a file says of addresses that everybody has counts for nothing.
  ["10.0.0.0/8", "KR"],
  ["127.0.0.0/8", "KR"],
];

let dir: string;
let file: string;
/** Only from Korea, behind a proxy on 127.0.0.1. */
let server: TestServer;
/** Over the same database, with no gate. */
let open: TestServer;
let shared: NodeJS.ProcessEnv;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "chatpay-country-"));
  file = join(dir, "country.mmdb");
  await writeFile(file, makeMmdb(ENTRIES));
  shared = {
    DATABASE_URL: await makeDatabase(),
    CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  };
  server = await startGated();
  open = await startServer(shared);
});
afterAll(async () => {
  await Promise.all([server.stop(), open.stop()]);
  await rm(dir, { recursive: true });
});

const startGated = (environment: NodeJS.ProcessEnv = {}) =>
  startServer({
    ...shared,
    CHATPAY_TRUSTED_PROXIES: "127.0.0.1, 10.0.0.0/8",
    CHATPAY_COUNTRIES_SIGN_UP: "KR",
    CHATPAY_COUNTRIES_SIGN_IN: "KR",
    CHATPAY_COUNTRY_DB_FILE: file,
    CHATPAY_COUNTRY_HEADER: "cf-ipcountry",
    ...environment,
  });

const from = (ip: string, more: Record<string, string> = {}) => ({ headers: { "x-forwarded-for": ip, ...more } });
const newEmail = () => `${randomUUID()}@example.com`;

/** How a sign-in with a password that is wrong ends: only who may come in is told that it is. */
const signInFrom = (ip: string, at = server, door?: Door, more: Record<string, string> = {}) =>
  outcomeOf(at.client(AccountService, {}, door).signIn({ email: newEmail(), password: "wrong-pass" }, from(ip, more)));
const MAY = "Unauthenticated SIGN_IN_FAILED";

/** Every way in. */
const ways = (accounts: ReturnType<typeof server.client<typeof AccountService>>, ip: string) => ({
  code: () => outcomeOf(accounts.sendCode({ email: newEmail(), purpose: CodePurpose.SIGN_UP }, from(ip))),
  codeToSignIn: () => outcomeOf(accounts.sendCode({ email: newEmail(), purpose: CodePurpose.SIGN_IN }, from(ip))),
  signUp: () =>
    outcomeOf(
      accounts.signUp({ email: newEmail(), code: "000000", password: "some-pass-1", displayName: "A" }, from(ip)),
    ),
  signIn: () => outcomeOf(accounts.signIn({ email: newEmail(), password: "some-pass-1" }, from(ip))),
  signInWithCode: () => outcomeOf(accounts.signInWithCode({ email: newEmail(), code: "000000" }, from(ip))),
});

test("A8: from an allowed country people come in, from others nobody does, at both doors and by every way", async () => {
  for (const door of DOORS) {
    const accounts = server.client(AccountService, {}, door);
    const allowed = ways(accounts, SEOUL);
    const others = ways(accounts, TOKYO);

    expect(await allowed.code()).toBe("OK");
    expect(await allowed.codeToSignIn()).toBe("OK");
    expect(await allowed.signUp()).toBe("InvalidArgument CODE_INVALID");
    expect(await allowed.signIn()).toBe(MAY);
    expect(await allowed.signInWithCode()).toBe("InvalidArgument CODE_INVALID");
    for (const [name, enter] of Object.entries(others)) expect(await enter(), name).toBe(REFUSED);
  }
});

test("A8: a refusal names the country, and one that nobody knows is unknown", async () => {
  const countryIn = async (ip: string) => {
    const call = server.client(AccountService).signIn({ email: newEmail(), password: "wrong-pass" }, from(ip));
    const [info] = (await errorOf(call)).findDetails(ErrorInfoSchema);
    expect(info?.reason).toBe(Reason.COUNTRY_NOT_ALLOWED);
    return info?.metadata.country;
  };

  expect(await countryIn(TOKYO)).toBe("JP");
  expect(await countryIn(AT_SEA)).toBe("unknown");
});

test("A8: who comes from nowhere is refused or let in, as the operator says", async () => {
  const lenient = await startGated({ CHATPAY_COUNTRY_UNKNOWN: "allow" });

  // The last is no address; then the call comes from the proxy.
  for (const ip of [AT_SEA, "10.1.2.3", "127.0.0.1", "fd00::1", "someone"]) {
    expect(await signInFrom(ip), ip).toBe(REFUSED);
    expect(await signInFrom(ip, lenient), ip).toBe(MAY);
  }
  expect(await signInFrom(TOKYO, lenient)).toBe(REFUSED);
  await lenient.stop();
});

test("A8: each purpose has its own countries, and other purposes none", async () => {
  const mixed = await startGated({ CHATPAY_COUNTRIES_SIGN_UP: "KR,jp", CHATPAY_COUNTRIES_SIGN_IN: "" });
  const accounts = mixed.client(AccountService);
  const reset = { email: newEmail(), purpose: CodePurpose.RESET_PASSWORD };

  expect(await ways(accounts, TOKYO).code()).toBe("OK");
  expect(await ways(accounts, AT_SEA).code()).toBe(REFUSED);
  expect(await signInFrom(AT_SEA, mixed)).toBe(MAY);
  expect(await outcomeOf(server.client(AccountService).sendCode(reset, from(TOKYO)))).toBe("OK");
  await mixed.stop();
});

test("A8: an IPv6 address has a country too, and none in a file of IPv4", async () => {
  const old = join(dir, "ipv4.mmdb");
  await writeFile(old, makeMmdb([["32.0.0.0/4", "KR"]], { ipVersion: 4 }));
  const ipv4 = await startGated({ CHATPAY_COUNTRY_DB_FILE: old });

  expect(await signInFrom(SEOUL_6)).toBe(MAY);
  expect(await signInFrom("2001:db8:81::7")).toBe(REFUSED);
  // Its first four bits are those of 32.0.0.0.
  expect(await signInFrom(SEOUL_6, ipv4)).toBe(REFUSED);
  expect(await signInFrom("33.0.0.1", ipv4)).toBe(MAY);
  await ipv4.stop();
});

test("A8: forged headers change nothing", async () => {
  const exposed = await startGated({ CHATPAY_TRUSTED_PROXIES: "10.0.0.0/8", CHATPAY_COUNTRY_UNKNOWN: "allow" });
  const far = await startGated({ CHATPAY_TRUSTED_PROXIES: "10.0.0.0/8" });

  for (const door of DOORS) {
    // Nobody trusts the other end, so it is 127.0.0.1 whatever it writes.
    expect(await signInFrom(TOKYO, exposed, door, { "cf-ipcountry": "JP" })).toBe(MAY);
    expect(await signInFrom(SEOUL, far, door, { "cf-ipcountry": "KR" })).toBe(REFUSED);
    // The proxy is trusted; what the client wrote before it is not.
    expect(await signInFrom(`${SEOUL}, ${TOKYO}`, server, door)).toBe(REFUSED);
    expect(await signInFrom(`${SEOUL}, 10.0.0.1, ${TOKYO}, 10.0.0.2`, server, door)).toBe(REFUSED);
  }
  await Promise.all([exposed.stop(), far.stop()]);
});

test("A8: behind several proxies the first address that is not theirs counts, from the right", async () => {
  expect(await signInFrom(`${TOKYO}, ${SEOUL}, 10.0.0.1, 10.0.0.2`)).toBe(MAY);
});

test("A8: what a trusted proxy says of the country counts more than the file", async () => {
  const said = (country: string, ip: string) => signInFrom(ip, server, "grpc", { "cf-ipcountry": country });

  expect(await said("KR", TOKYO)).toBe(MAY);
  expect(await said("kr", TOKYO)).toBe(MAY);
  expect(await said("JP", SEOUL)).toBe(REFUSED);
  // Not known, Tor, and two headers that became one.
  for (const country of ["XX", "T1", "KR, JP"]) expect(await said(country, SEOUL), country).toBe(REFUSED);
});

test("A8: a refusal comes before the password, so it tells nothing and costs no attempt", async () => {
  const person = await signUp(open);
  const accounts = server.client(AccountService);
  const signIn = (email: string, password: string, ip: string) =>
    outcomeOf(accounts.signIn({ email, password }, from(ip)));

  expect(await signIn(person.email, person.password, TOKYO)).toBe(REFUSED);
  for (let i = 0; i < 12; i += 1) expect(await signIn(person.email, "wrong-pass", TOKYO)).toBe(REFUSED);

  expect(await signIn(person.email, person.password, SEOUL)).toBe("OK");
});

test("A8: the owner of the address is told, once an hour, and nobody else", async () => {
  const person = await signUp(open);
  const stranger = newEmail();
  const accounts = server.client(AccountService);
  for (const email of [stranger, person.email, person.email]) {
    await outcomeOf(accounts.signIn({ email, password: "wrong-pass" }, from(TOKYO)));
  }

  const [mail] = await vi.waitFor(async () => {
    const mails = await mailsTo(person.email);
    expect(mails).toHaveLength(1);
    return mails;
  });
  expect(`${mail?.subject} ${mail?.text}`).toMatch(/Japan|일본/);
  await outcomeOf(accounts.signIn({ email: person.email, password: "wrong-pass" }, from(AT_SEA)));
  await outcomeOf(accounts.sendCode({ email: person.email, purpose: CodePurpose.SIGN_UP }, from(TOKYO)));
  // A mail that comes later shows that no other is on its way.
  const last = await signUp(open);
  await outcomeOf(accounts.signIn({ email: last.email, password: "wrong-pass" }, from(TOKYO)));
  await vi.waitFor(async () => expect(await mailsTo(last.email)).toHaveLength(1));
  expect(await mailsTo(person.email)).toHaveLength(1);
  expect(await mailsTo(stranger)).toEqual([]);
});

test("A8: a file that changes is read again, and one that is broken or gone is not", async () => {
  const changing = join(dir, "changing.mmdb");
  const put = async (bytes: Buffer) => {
    await writeFile(`${changing}.new`, bytes);
    await rename(`${changing}.new`, changing);
  };
  await put(makeMmdb(ENTRIES));
  const reading = await startGated({ CHATPAY_COUNTRY_DB_FILE: changing });
  const warnings = () => reading.logs.filter((line) => line.includes("the country file cannot be read")).length;
  expect(await signInFrom(AT_SEA, reading)).toBe(REFUSED);

  await put(makeMmdb([...ENTRIES, ["192.0.2.0/24", "KR"]]));
  await vi.waitFor(async () => expect(await signInFrom(AT_SEA, reading)).toBe(MAY), { timeout: 10_000 });

  await put(makeMmdb(ENTRIES).subarray(0, 200));
  await vi.waitFor(
    async () => {
      expect(await signInFrom(AT_SEA, reading)).toBe(MAY);
      expect(warnings()).toBe(1);
    },
    { timeout: 10_000 },
  );

  await rm(changing);
  await vi.waitFor(
    async () => {
      expect(await signInFrom(AT_SEA, reading)).toBe(MAY);
      expect(warnings()).toBe(2);
    },
    { timeout: 10_000 },
  );
  await reading.stop();
});

test("A8: countries without a source, and a header without a proxy, are refused at the start", async () => {
  const problemsOf = (environment: NodeJS.ProcessEnv) => {
    try {
      readConfig({ ...testEnvironment("mysql://localhost/any", 25), ...environment });
      return "";
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return error.message;
    }
  };

  expect(problemsOf({ CHATPAY_COUNTRIES_SIGN_UP: "KR" })).toMatch(/^CHATPAY_COUNTRIES_SIGN_UP: needs/);
  expect(problemsOf({ CHATPAY_COUNTRIES_SIGN_IN: "KR" })).toMatch(/^CHATPAY_COUNTRIES_SIGN_IN: needs/);
  expect(problemsOf({ CHATPAY_COUNTRY_HEADER: "cf-ipcountry" })).toMatch(/^CHATPAY_TRUSTED_PROXIES: required/);
  expect(problemsOf({ CHATPAY_COUNTRY_DB_FILE: file, CHATPAY_COUNTRIES_SIGN_IN: "KR, jp" })).toBe("");
  for (const wrong of ["Korea", "UK", "AB", "K", "410"]) {
    const given = { CHATPAY_COUNTRY_DB_FILE: file, CHATPAY_COUNTRIES_SIGN_IN: `KR,${wrong}` };
    expect(problemsOf(given), wrong).toMatch(/^CHATPAY_COUNTRIES_SIGN_IN: .* is no country/);
  }
  const broken = join(dir, "broken.mmdb");
  await writeFile(broken, "no countries here");
  for (const path of [broken, join(dir, "none.mmdb")]) {
    await expect(startGated({ CHATPAY_COUNTRY_DB_FILE: path })).rejects.toThrow("CHATPAY_COUNTRY_DB_FILE: ");
  }
});

/** Mail to the address that tells of a refused country. */
async function mailsTo(email: string): Promise<{ subject: string; text: string }[]> {
  const answer = await fetch(`http://127.0.0.1:${server.inbox.httpPort}/mail?to=${encodeURIComponent(email)}`);
  return (await answer.json()) as { subject: string; text: string }[];
}
