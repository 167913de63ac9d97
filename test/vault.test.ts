import { randomBytes, randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { LiveBalance_Status } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { kftcSettings } from "../sandbox/kftc/server.ts";
import { contexts, openVault } from "../src/bank/vault.ts";
import type { App } from "../src/app.ts";
import type { Job } from "../src/job/runner.ts";
import { jobs } from "../src/jobs.ts";
import { addCitizen, type Citizen, linkBank } from "./support/banks.ts";
import { openWallet, type Person, personAt } from "./support/people.ts";
import { errorOf } from "./support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "./support/server.ts";

const [first, second, third] = [randomBytes(32), randomBytes(32), randomBytes(32)];
const vaultOf = (secret: Buffer, ...acceptedSecrets: Buffer[]) => openVault({ secret, acceptedSecrets });

test("what was sealed is opened where it belongs, and nowhere else", () => {
  const vault = vaultOf(first);

  for (const text of ["", "110123456789", "김하나 🎉", "x".repeat(3_000)]) {
    const sealed = vault.seal(text, contexts.number(1n));
    expect(vault.open(sealed, contexts.number(1n))).toBe(text);
    expect(vault.open(sealed, contexts.number(2n))).toBeUndefined();
    expect(vault.open(sealed, contexts.grant(1n))).toBeUndefined();
    expect(text !== "" && sealed.includes(text)).toBe(false);
    expect(vault.seal(text, contexts.number(1n))).not.toEqual(sealed);
  }
});

test("what is cut, longer or changed in any place is not opened", () => {
  const vault = vaultOf(first);
  const sealed = vault.seal("110123456789", contexts.number(1n));
  const open = (bytes: Buffer) => vault.open(bytes, contexts.number(1n));

  for (let length = 0; length < sealed.length; length += 1) expect(open(sealed.subarray(0, length))).toBeUndefined();
  expect(open(Buffer.concat([sealed, Buffer.alloc(1)]))).toBeUndefined();
  for (let at = 0; at < sealed.length; at += 1) {
    for (let bit = 0; bit < 8; bit += 1) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ (1 << bit);
      expect(open(changed), `${at}.${bit}`).toBeUndefined();
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => open(Buffer.from(bytes)) === undefined));
});

test("a new secret seals, and those that are accepted are read", () => {
  const sealed = [first, second, third].map((secret) => vaultOf(secret).seal("text", "here"));
  const opened = (vault: ReturnType<typeof vaultOf>) => sealed.map((one) => vault.open(one, "here"));

  expect(opened(vaultOf(second, first))).toEqual(["text", "text", undefined]);
  expect(opened(vaultOf(third, first, second))).toEqual(["text", "text", "text"]);
  expect(opened(vaultOf(third))).toEqual([undefined, undefined, "text"]);
  const { keyId, seal } = vaultOf(second, first);
  expect(seal("text", "here").subarray(0, keyId.length)).toEqual(keyId);
  expect(vaultOf(first).keyId).not.toEqual(keyId);
});

// Secrets that change while people have bank accounts

const settings = {
  DATABASE_URL: await makeDatabase(),
  CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  CHATPAY_ROLES: "account,money",
};
const withSecrets = (secret: Buffer, ...accepted: Buffer[]) => ({
  ...settings,
  CHATPAY_BANK_SECRET: secret.toString("hex"),
  CHATPAY_BANK_SECRETS_ACCEPTED: accepted.map((one) => one.toString("hex")).join(","),
});
const before = await startServer(withSecrets(first));
const started = [before];
const { kftc } = before;
const { db } = before.app;
afterAll(() => Promise.all(started.map((server) => server.stop())));

async function startWith(secret: Buffer, ...accepted: Buffer[]) {
  const server = await startServer({ ...withSecrets(secret, ...accepted), ...kftcSettings(kftc.url) });
  started.push(server);
  return server;
}

/** Somebody with an account that was linked by its number. */
async function linkedByNumber(at: TestServer) {
  const citizen = await addCitizen({ kftc }, { name: "somebody", birthDate: "19851224" });
  const person = await openWallet(at, { balance: 100_000n });
  await person.accounts.setIdentity({ ci: randomBytes(64).toString("base64"), birthDate: "1985-12-24" });
  return { ...person, citizen, bankAccountId: await linkNumber(person, citizen) };
}

async function linkNumber({ banks }: Pick<Person, "banks">, { accounts: [account] }: Citizen) {
  const { bankAccount } = await banks.linkByNumber({
    bankCode: account?.bankCode ?? "",
    accountNumber: account?.number ?? "",
  });
  return bankAccount?.id ?? "";
}

async function linkedByConsent(at: TestServer) {
  const person = await openWallet(at, { balance: 100_000n });
  const { citizen, bankAccount } = await linkBank({ kftc }, person);
  return { ...person, citizen, bankAccountId: bankAccount.id };
}

const withdraw = (at: TestServer, person: Person & { bankAccountId: string }) => {
  const { bankAccountId } = person;
  return personAt(at, person).banks.withdraw({ idempotencyKey: randomUUID(), bankAccountId, amount: 100n });
};
const statusOf = async (at: TestServer, person: Person) =>
  (await personAt(at, person).banks.listBankAccounts({ withBalances: true })).bankAccounts[0]?.liveBalance?.status;

/** Has the job run to its end, as if its next period had begun, and says how often it went on. */
async function reseal(app: App): Promise<number> {
  const job = jobs(app).find(({ name }) => name === "bank.reseal") as Job;
  await db
    .updateTable("job")
    .set({ dueTime: new Date(0) })
    .where("name", "=", job.name)
    .execute();
  for (let runs = 0; ; runs += 1) {
    const [item] = await job.claim({ owner: randomUUID(), limit: 1, leaseMs: 60_000 });
    if (!item) return runs;
    await job.run(item, new AbortController().signal);
  }
}

const sealedIn = async () => {
  const numbers = await db.selectFrom("bankAccount").select("numberSealed as sealed").execute();
  const access = await db.selectFrom("bankGrant").select("accessToken as sealed").execute();
  const refresh = await db.selectFrom("bankGrant").select("refreshToken as sealed").execute();
  const own = await db.selectFrom("bankInstitutionToken").select("accessToken as sealed").execute();
  return [...numbers, ...access, ...refresh, ...own].flatMap(({ sealed }) => (sealed ? [sealed] : []));
};
const countSealedBy = async (secret: Buffer) => {
  const { keyId } = vaultOf(secret);
  return (await sealedIn()).filter((one) => one.subarray(0, keyId.length).equals(keyId)).length;
};

test("a bank secret is replaced while people go on, and the old one goes when a job has sealed all anew", {
  timeout: 60_000,
}, async () => {
  const alice = await linkedByConsent(before);
  const bob = await linkedByNumber(before);
  await withdraw(before, bob);
  // As many as do not fit into one batch.
  const rows = await db.selectFrom("bankAccount").selectAll().where("id", "=", BigInt(bob.bankAccountId)).execute();
  const many = Array.from({ length: 1_100 }, (_, n) => BigInt(n + 1)).flatMap((id) =>
    rows.map((row) => ({
      ...row,
      id,
      accountId: id,
      linkKey: null,
      numberSealed: vaultOf(first).seal(String(id), contexts.number(id)),
    })),
  );
  await db.insertInto("bankAccount").values(many).execute();

  // The new one is accepted first, and then both processes read what either of them seals.
  const old = await startWith(first, second);
  const next = await startWith(second, first);
  const carol = await linkedByNumber(next);
  for (const at of [old, next]) {
    expect(await statusOf(at, alice)).toBe(LiveBalance_Status.OK);
    for (const person of [alice, bob, carol]) await withdraw(at, person);
  }
  expect(await countSealedBy(first)).toBeGreaterThan(1_100);

  expect(await reseal(next.app)).toBeGreaterThan(0);

  expect(await countSealedBy(first)).toBe(0);
  expect(await countSealedBy(second)).toBe((await sealedIn()).length);
  const [some] = await db.selectFrom("bankAccount").selectAll().where("id", "=", 777n).execute();
  expect(some && vaultOf(second).open(some.numberSealed ?? Buffer.alloc(0), contexts.number(777n))).toBe("777");
  expect(some).toEqual({ ...many[776], numberSealed: some?.numberSealed });
  const { id } = await kftc.script({ call: "token", kind: "delay", ms: 0, times: 100 });
  const alone = await startWith(second);
  expect(await statusOf(alone, alice)).toBe(LiveBalance_Status.OK);
  for (const person of [alice, bob, carol]) await withdraw(alone, person);
  expect((await kftc.listFaults()).find((fault) => fault.id === id)?.used).toBe(0);
  await kftc.clearFaults();
});

test("without the secret that sealed it, what is linked must be linked again, and can be", {
  timeout: 60_000,
}, async () => {
  const alice = await linkedByConsent(before);
  const bob = await linkedByNumber(before);
  await withdraw(before, alice);

  const lost = await startWith(third);
  expect(await statusOf(lost, alice)).toBe(LiveBalance_Status.CONSENT_MISSING);
  expect((await errorOf(withdraw(lost, bob))).rawMessage).toMatch(/link it again/);
  expect((await bob.wallets.getWallet({})).wallet).toMatchObject({ balance: 100_000n, held: 0n });
  // What goes out to an account that KFTC has a name for needs nothing that was sealed but our own token, a new one.
  await withdraw(lost, alice);

  await linkBank({ kftc }, personAt(lost, alice), { citizen: alice.citizen });
  expect(await statusOf(lost, alice)).toBe(LiveBalance_Status.OK);
  expect(await linkNumber(personAt(lost, bob), bob.citizen)).toBe(bob.bankAccountId);
  await withdraw(lost, bob);
});

test("what no secret of ours has sealed stays as it is, and is told of", { timeout: 60_000 }, async () => {
  await linkedByConsent(before);
  const sealedBefore = await sealedIn();

  const lost = await startWith(third, randomBytes(32));
  expect(await reseal(lost.app)).toBeGreaterThan(0);

  expect(await sealedIn()).toEqual(sealedBefore);
  const logs = lost.logs.map((line) => JSON.parse(line) as { level: number; msg: string; unreadable?: number });
  expect(logs.find(({ msg }) => msg.includes("not accepted"))).toMatchObject({ level: 40 });
  expect(
    jobs({ ...lost.app, config: { ...lost.app.config, acceptedBankSecrets: [] } }).map(({ name }) => name),
  ).toEqual(expect.not.arrayContaining(["bank.reseal"]));
});
