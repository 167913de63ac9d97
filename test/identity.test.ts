import { randomBytes } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { differencesIn, eventsOf, openWallet, openWallets, type Person, personAt, signUp } from "./support/people.ts";
import { outcomeOf, refusalOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";

// Two servers, as two processes would be.

const databaseUrl = await makeDatabase();
const settings = { DATABASE_URL: databaseUrl, CHATPAY_HASH_SECRET: randomBytes(32).toString("hex") };
let server: TestServer;
let other: TestServer;

beforeAll(async () => {
  server = await startServer(settings);
  other = await startServer(settings);
});

afterAll(async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
  await Promise.all([server.stop(), other.stop()]);
});

const BIRTH_DATE = "1990-12-31";
const newCi = () => randomBytes(64).toString("base64");

const TAKEN = { code: Code.AlreadyExists, reason: Reason.IDENTITY_TAKEN };
const FIXED = { code: Code.FailedPrecondition, reason: Reason.IDENTITY_FIXED };
const MISMATCH = { code: Code.FailedPrecondition, reason: Reason.IDENTITY_MISMATCH };

const identify = ({ accounts }: Pick<Person, "accounts">, ci: string, birthDate = BIRTH_DATE) =>
  accounts.setIdentity({ ci, birthDate });

const accountRow = ({ accountId }: Pick<Person, "accountId">) =>
  server.app.db.selectFrom("account").selectAll().where("id", "=", accountId).executeTakeFirstOrThrow();

const identityOf = async (person: Pick<Person, "accountId">) => {
  const { identityId } = await accountRow(person);
  const { db } = server.app;
  return db
    .selectFrom("identity")
    .selectAll()
    .where("id", "=", identityId ?? 0n)
    .executeTakeFirst();
};

const close = ({ accounts }: Pick<Person, "accounts">) => accounts.closeAccount({});

test("A6: an identity is set once; the same again changes nothing and is told once", async () => {
  const alice = await openWallet(server);
  const ci = newCi();

  const { account } = await identify(alice, ci);
  const first = await accountRow(alice);
  for (let i = 0; i < 3; i += 1) await identify(personAt(i % 2 === 0 ? other : server, alice), ci);

  expect(account).toMatchObject({ id: String(alice.accountId), identified: true });
  expect(await accountRow(alice)).toEqual(first);
  const id = String(alice.accountId);
  const told = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind === "account.identified");
  expect(told).toEqual([
    { kind: "account.identified", accounts: [id], accountId: id, apiKeyId: expect.stringMatching(/^[0-9]+$/) },
  ]);
});

test("A6: the CI is stored as a keyed hash, and neither it nor the birth date is told or logged", async () => {
  const alice = await openWallet(server);
  const ci = newCi();

  await identify(alice, ci, "1987-06-05");

  const identity = await identityOf(alice);
  expect(identity).toMatchObject({ birthDate: "1987-06-05", identityKey: expect.any(Buffer) });
  expect(identity?.identityKey).toHaveLength(32);
  const rows = JSON.stringify([identity, await accountRow(alice)], (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  const events = JSON.stringify(await eventsOf(server, alice.accountId));
  const said = [rows, events, server.logs.join("")].join("");
  expect(said).not.toContain(ci);
  expect(said).not.toContain(Buffer.from(ci, "base64").toString("hex"));
  expect([events, server.logs.join("")].join("")).not.toContain("1987-06-05");
});

test("A6: a CI says the same person in each way to write its bytes", async () => {
  const [alice, bob] = (await openWallets(server, 2)) as [Person, Person];
  const ci = Buffer.alloc(64, 7).toString("base64");
  // The last letter has bits to spare.
  const sameBytes = `${ci.slice(0, 85)}${ci[85] === "w" ? "x" : "B"}==`;
  expect(Buffer.from(sameBytes, "base64")).toEqual(Buffer.from(ci, "base64"));
  await identify(alice, ci);

  expect(await refusalOf(identify(bob, sameBytes))).toEqual(TAKEN);
  await identify(alice, sameBytes);
});

test("A6: an account that has an identity keeps it", async () => {
  const alice = await openWallet(server);
  await identify(alice, newCi());
  const before = await accountRow(alice);

  expect(await refusalOf(identify(alice, newCi()))).toEqual(FIXED);
  expect(await refusalOf(identify(alice, newCi(), "2001-01-01"))).toEqual(FIXED);

  expect(await accountRow(alice)).toEqual(before);
});

test("A6: a person has one open account", async () => {
  const [alice, again] = (await openWallets(server, 2)) as [Person, Person];
  const ci = newCi();
  await identify(alice, ci);

  expect(await refusalOf(identify(again, ci))).toEqual(TAKEN);
  expect(await refusalOf(identify(again, ci, "2001-01-01"))).toEqual(TAKEN);

  expect((await again.accounts.getAccount({})).account?.identified).toBe(false);
});

test("A6: the birth date of a person is said once", async () => {
  const alice = await openWallet(server);
  const ci = newCi();
  await identify(alice, ci);

  expect(await refusalOf(identify(alice, ci, "1990-12-30"))).toEqual(MISMATCH);

  expect((await identityOf(alice))?.birthDate).toBe(BIRTH_DATE);
});

test("A6: a birth date is a day of the calendar that has passed in Seoul", async () => {
  const alice = await openWallet(server);
  const inDays = (days: number) =>
    new Date(Date.now() + 9 * 3_600_000 + days * 86_400_000).toISOString().slice(0, "1990-12-31".length);
  const invalid = { code: Code.InvalidArgument, reason: Reason.REQUEST_INVALID };

  const noDays = ["2001-02-29", "1900-02-29", "2001-04-31", "2001-13-01", "2001-00-10", "1899-12-31", "19901231", ""];
  for (const birthDate of [...noDays, inDays(0), inDays(1), inDays(400)]) {
    expect(await refusalOf(identify(alice, newCi(), birthDate)), birthDate).toEqual(invalid);
  }
  for (const ci of ["", "A".repeat(88), newCi().slice(1), `${newCi()}A`, newCi().replace("=", "-")]) {
    expect(await refusalOf(identify(alice, ci)), ci).toEqual(invalid);
  }
  await identify(alice, newCi(), "2000-02-29");
});

test("A6: a chat server says who somebody is, and they do not say it themselves", async () => {
  const alice = await signUp(server);

  expect(await refusalOf(identify(alice, newCi()))).toEqual({
    code: Code.PermissionDenied,
    reason: Reason.CALLER_NOT_ALLOWED,
  });
});

test("A6: of twenty accounts that claim one person at once, at two servers, one gets it", async () => {
  for (let round = 0; round < 5; round += 1) {
    const people = await openWallets(server, 20);
    const ci = newCi();

    const outcomes = await Promise.all(
      people.map((person, i) => outcomeOf(identify(personAt(i % 2 === 0 ? server : other, person), ci))),
    );

    expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === "AlreadyExists IDENTITY_TAKEN")).toHaveLength(19);
    const winner = people[outcomes.indexOf("OK")] as Person;
    const linked = await server.app.db
      .selectFrom("account")
      .select("id")
      .where("identityId", "=", (await identityOf(winner))?.id ?? 0n)
      .execute();
    expect(linked).toEqual([{ id: winner.accountId }]);
  }
});

test("A6: of twenty people that one account claims to be at once, it is one", async () => {
  const alice = await openWallet(server);

  const outcomes = await Promise.all(
    Array.from({ length: 20 }, (_, i) => outcomeOf(identify(personAt(i % 2 === 0 ? server : other, alice), newCi()))),
  );

  expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === "FailedPrecondition IDENTITY_FIXED")).toHaveLength(19);
});

test("A6: the same said twenty times at once is said once", async () => {
  const alice = await openWallet(server);
  const ci = newCi();

  await Promise.all(Array.from({ length: 20 }, (_, i) => identify(personAt(i % 2 === 0 ? server : other, alice), ci)));

  const told = (await eventsOf(server, alice.accountId)).filter(({ kind }) => kind === "account.identified");
  expect(told).toHaveLength(1);
});

test("A6: who comes back after closing is the same identity, with the birth date of before", async () => {
  const [alice, back, late] = (await openWallets(server, 3)) as [Person, Person, Person];
  const ci = newCi();
  await identify(alice, ci);
  await close(alice);

  expect(await refusalOf(identify(back, ci, "1991-01-01"))).toEqual(MISMATCH);
  await identify(back, ci);
  expect(await refusalOf(identify(late, ci))).toEqual(TAKEN);

  const [before, after] = await Promise.all([alice, back].map(accountRow));
  expect(before?.identityId).not.toBeNull();
  expect(after?.identityId).toBe(before?.identityId);
  expect((await accountRow(late)).identityId).toBeNull();
});

test("A6: while one account closes, another one of the person gets the identity or does not, and never both", async () => {
  for (let round = 0; round < 10; round += 1) {
    const [alice, back] = (await openWallets(server, 2)) as [Person, Person];
    const ci = newCi();
    await identify(alice, ci);

    const [closed, claimed] = await Promise.all([
      outcomeOf(close(alice)),
      outcomeOf(identify(personAt(other, back), ci)),
    ]);

    expect(closed).toBe("OK");
    expect(["OK", "AlreadyExists IDENTITY_TAKEN"]).toContain(claimed);
    await identify(back, ci);
    expect((await accountRow(back)).identityId).toBe((await accountRow(alice)).identityId);
  }
});
