import { createTransport } from "nodemailer";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Mail, startMailInbox } from "../sandbox/mail.ts";

let inbox: Awaited<ReturnType<typeof startMailInbox>>;

beforeAll(async () => {
  inbox = await startMailInbox({ smtpPort: 0, httpPort: 0 });
});

afterAll(() => inbox.stop());

beforeEach(async () => {
  await get("/mail", "DELETE");
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

const transport = (options = {}) => createTransport({ host: "127.0.0.1", port: inbox.smtpPort, ...options });

const message = (fields: object) => ({ from: "chatpay@example.com", to: "alice@example.com", ...fields });

const send = (fields: object) => transport().sendMail(message(fields));

const get = (path: string, method = "GET") => fetch(`http://127.0.0.1:${inbox.httpPort}${path}`, { method });

const read = async <T>(path: string) => (await (await get(path)).json()) as T;

const list = () => read<Mail[]>("/mail");
