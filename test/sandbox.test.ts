import { once } from "node:events";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { createTransport } from "nodemailer";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Mail, startMailInbox } from "../sandbox/mail.ts";
import { smsSettings, startSmsInbox, type Text } from "../sandbox/sms.ts";
import { readConfig } from "../src/config.ts";
import { openTexter } from "../src/sms.ts";

let inbox: Awaited<ReturnType<typeof startMailInbox>>;
let phones: Awaited<ReturnType<typeof startSmsInbox>>;

beforeAll(async () => {
  inbox = await startMailInbox({ smtpPort: 0, httpPort: 0 });
  phones = await startSmsInbox({ port: 0 });
});

afterAll(async () => {
  await inbox.stop();
  await phones.stop();
});

beforeEach(async () => {
  await get("/mail", "DELETE");
  await fetch(`${phones.url}/sms`, { method: "DELETE" });
});

test("a mail that was sent can be read by whom it was sent to", async () => {
  await send({ to: "alice@example.com", subject: "가입 코드", text: "Your code is 123456." });
  await send({ to: "bob@example.com", subject: "other", text: "not for Alice" });

  const mail = await read<Mail>("/mail/latest?to=Alice@Example.com");

  expect(mail).toMatchObject({
    from: "chatpay@example.com",
    to: ["alice@example.com"],
    subject: "가입 코드",
    text: "Your code is 123456.\n",
  });
  expect(await read(`/mail/${mail.id}`)).toEqual(mail);
});

test("the list shows the newest first, and can be emptied", async () => {
  for (const subject of ["first", "second"]) await send({ to: "alice@example.com", subject, text: "" });

  expect((await list()).map(({ subject }) => subject)).toEqual(["second", "first"]);

  await get("/mail", "DELETE");
  expect(await list()).toEqual([]);
  expect((await get("/mail/latest?to=alice@example.com")).status).toBe(404);
});

test("only the newest thousand are kept", async () => {
  const sender = transport({ pool: true, maxMessages: Number.POSITIVE_INFINITY });
  for (let number = 1; number <= 1_001; number += 1) await sender.sendMail(message({ subject: `${number}` }));
  sender.close();

  const mails = await list();

  expect(mails).toHaveLength(1_000);
  expect(mails.at(-1)?.subject).toBe("2");
});

test("a mail that is too large is refused", async () => {
  const sending = send({ text: "x".repeat(2 * 1024 * 1024) });

  await expect(sending).rejects.toThrow(/552|size/i);
  expect(await list()).toEqual([]);
});

test("an address that is none is not found", async () => {
  expect((await get("//")).status).toBe(404);
  expect((await get("/mail/99999")).status).toBe(404);
});

test("the page for people shows what was sent and runs none of it", async () => {
  await send({ subject: "<script>alert(1)</script>", text: '"><img src=x onerror=alert(1)>' });

  const page = await (await get("/")).text();

  expect(page).toContain("&#60;script&#62;alert(1)");
  expect(page).not.toMatch(/<script|<img/);
});

test("the page of a mail is shown as it came, and runs nothing", async () => {
  await send({ text: "plain", html: "<p>rich</p><script>alert(1)</script>" });
  const { id } = await read<Mail>("/mail/latest");

  const answer = await get(`/mail/${id}/html`);

  expect(await answer.text()).toContain("<p>rich</p>");
  expect(answer.headers.get("content-security-policy")).toMatch(/^default-src 'none'; style-src 'unsafe-inline'$/);
});

// Text messages

test("a text message that was sent can be read by whom it was sent to", async () => {
  await texter().send({ to: "+821012345678", text: "가입 코드 123456" });
  await texter().send({ to: "+821087654321", text: "not for them" });

  const latest = (await (await fetch(`${phones.url}/sms/latest?to=01012345678`)).json()) as Text;

  expect(latest).toMatchObject({ type: "SMS", from: "0200000000", to: ["01012345678"], text: "가입 코드 123456" });
  expect(await (await fetch(`${phones.url}/sms/${latest.id}`)).json()).toEqual(latest);
  expect((await texts()).map(({ to }) => to)).toEqual([["01087654321"], ["01012345678"]]);
  expect((await fetch(`${phones.url}/sms/latest?to=01000000000`)).status).toBe(404);
});

test("the country of a number is told apart from the number", async () => {
  const numbers = { "+12025550123": "1", "+4915112345678": "49", "+79991234567": "7", "+85291234567": "852" };
  for (const to of Object.keys(numbers)) await texter().send({ to, text: "hello" });

  // The sandbox puts together what came apart; it would take +1 and +12 alike, so the parts are looked at as well.
  expect((await texts()).map(({ to }) => to[0]).toReversed()).toEqual(Object.keys(numbers));
  expect(await Promise.all(Object.keys(numbers).map(countryCodeOf))).toEqual(Object.values(numbers));
});

test("text that is too long for a short message goes as a long one", async () => {
  await texter().send({ to: "+821012345678", text: "가".repeat(45) });
  await texter().send({ to: "+821012345678", text: `${"가".repeat(45)}.` });

  expect((await texts()).map(({ type, text }) => [type, text.length])).toEqual([
    ["LMS", 46],
    ["SMS", 45],
  ]);
});

test("a text message is refused without the right signature, sender and text, and not tried again", async () => {
  const to = "+821012345678";

  const trySend = (changed: NodeJS.ProcessEnv, text = "x") =>
    texter(changed)
      .send({ to, text })
      .catch(({ code }: { code: number }) => code);
  expect(await trySend({ CHATPAY_SMS_SECRET_KEY: "another" })).toBe(401);
  expect(await trySend({ CHATPAY_SMS_ACCESS_KEY: "another" })).toBe(401);
  expect(await trySend({ CHATPAY_SMS_SERVICE_ID: "another" })).toBe(404);
  expect(await trySend({ CHATPAY_SMS_FROM: "0211111111" })).toBe(400);
  expect(await trySend({}, "🎉")).toBe(400);
  for (const body of ["", "null", "{}", "[]"]) expect(await refusalOf(body)).toBe(401);

  expect(await texts()).toEqual([]);
});

test("a text message service that is silent is given up", { timeout: 20_000 }, async () => {
  let calls = 0;
  const silent = createServer(() => {
    calls += 1;
  }).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as { port: number };

  const sending = texter({ CHATPAY_SMS_URL: `http://127.0.0.1:${port}` }).send({ to: "+821012345678", text: "x" });
  await expect(sending).rejects.toThrow(/timeout/);

  expect(calls).toBe(1);
  silent.closeAllConnections();
  silent.close();
});

test("the page for people shows text messages and runs nothing of them", async () => {
  await texter().send({ to: "+821012345678", text: "<script>alert(1)</script>" });

  const page = await (await fetch(phones.url)).text();

  expect(page).toContain("&#60;script&#62;alert(1)");
  expect(page).toContain("01012345678");
  expect(page).not.toContain("<script");
});

/** Sends as the server does that is configured for the inbox. */
function texter(changed: NodeJS.ProcessEnv = {}) {
  const { sms } = readConfig({
    CHATPAY_MODE: "development",
    DATABASE_URL: "mysql://127.0.0.1/none",
    REDIS_URL: "redis://127.0.0.1",
    CHATPAY_SMTP_URL: "smtp://127.0.0.1",
    ...smsSettings(phones.url),
    ...changed,
  });
  if (!sms) throw new Error("text messages are not configured");
  return openTexter(sms);
}

const texts = async () => (await (await fetch(`${phones.url}/sms`)).json()) as Text[];

async function refusalOf(body: string): Promise<number> {
  const path = `/sms/v2/services/${smsSettings("").CHATPAY_SMS_SERVICE_ID}/messages`;
  return (await fetch(`${phones.url}${path}`, { method: "POST", body })).status;
}

/** What is sent as the country of a number. */
async function countryCodeOf(to: string): Promise<string> {
  const taken = Promise.withResolvers<unknown>();
  const server = createServer((request, response) => {
    response.writeHead(202).end();
    taken.resolve(json(request));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  await texter({ CHATPAY_SMS_URL: `http://127.0.0.1:${port}` }).send({ to, text: "hello" });
  server.close();
  return ((await taken.promise) as { countryCode: string }).countryCode;
}

const transport = (options = {}) => createTransport({ host: "127.0.0.1", port: inbox.smtpPort, ...options });

const message = (fields: object) => ({ from: "chatpay@example.com", to: "alice@example.com", ...fields });

const send = (fields: object) => transport().sendMail(message(fields));

const get = (path: string, method = "GET") => fetch(`http://127.0.0.1:${inbox.httpPort}${path}`, { method });

const read = async <T>(path: string) => (await (await get(path)).json()) as T;

const list = () => read<Mail[]>("/mail");
