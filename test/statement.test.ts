import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test } from "vitest";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { type ExportEntriesRequestSchema, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { csvLine, harmless } from "../src/wallet/csv.ts";
import { adjustWallet } from "../src/wallet/wallet.ts";
import { differencesIn, openPartner, openWallet, type Person } from "./support/people.ts";
import { DOORS, refusalOf } from "./support/rpcs.ts";
import { startServer } from "./support/server.ts";

const server = await startServer();
const operator = server.client(WalletService, { bearer: server.keys.operator });

afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

/** So many credits, those of a batch at the same time. */
async function credit(walletId: string, count: number, reason = "for a test") {
  const outcomes = await server.app.lane.submitEach(
    Array.from({ length: count }, (_, i) =>
      adjustWallet({
        idempotencyKey: randomUUID(),
        walletId: BigInt(walletId),
        amount: BigInt(i + 1),
        reason,
        apiKeyId: 1n,
      }),
    ),
  );
  for (const { error } of outcomes) expect(error).toBeUndefined();
}

const entriesOf = (walletId: string) =>
  server.app.db
    .selectFrom("posting")
    .select(["creditSequence as sequence", "creditBalance as balance", "createTime"])
    .where("creditWalletId", "=", BigInt(walletId))
    .orderBy("creditSequence")
    .execute();

async function fileOf(
  wallets: Person["wallets"],
  request: MessageInitShape<typeof ExportEntriesRequestSchema> = {},
): Promise<string> {
  let file = "";
  for await (const { csv } of wallets.exportEntries(request)) file += csv;
  return file;
}

const HEADER = "time,sequence,amount,balance_after,cause,cause_id,counterparty_wallet_id,memo\r\n";

test("W2: the balance at a moment has all entries of its millisecond, and none of the next", async () => {
  const alice = await openWallet(server);
  const before = new Date();
  for (const count of [1, 40, 3, 300, 1, 90]) {
    await credit(alice.walletId, count);
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
  const entries = await entriesOf(alice.walletId);
  const times = [...new Set(entries.map(({ createTime }) => createTime.getTime()))];
  // Batches have more than one entry, or nothing shares a time.
  expect(times.length).toBeLessThan(entries.length);

  for (const ms of [before.getTime() - 1, ...times.flatMap((time) => [time - 1, time, time + 1])]) {
    const last = entries.findLast(({ createTime }) => createTime.getTime() <= ms);
    const time = timestampFromMs(ms);
    const answer = await alice.wallets.getBalance({ time });
    expect([ms, answer.balance, answer.sequence]).toEqual([ms, last?.balance ?? 0n, last?.sequence ?? 0n]);
    expect(answer).toMatchObject({ currency: "KRW", time });
  }
  expect((await alice.wallets.getBalance({})).balance).toBe(entries.at(-1)?.balance);
});

test("W2: the balance of a moment that has not come is refused, that of long ago is nothing", async () => {
  const alice = await openWallet(server, { balance: 5n });
  const invalid = { code: Code.InvalidArgument, reason: Reason.REQUEST_INVALID };

  expect(await refusalOf(alice.wallets.getBalance({ time: timestampFromMs(Date.now() + 60_000) }))).toEqual(invalid);
  expect(await refusalOf(alice.wallets.getBalance({ time: { seconds: -1n } }))).toEqual(invalid);
  expect(await alice.wallets.getBalance({ time: timestampFromDate(new Date("1970-01-01")) })).toMatchObject({
    balance: 0n,
    sequence: 0n,
  });
});

test.each(DOORS)("W2: the statement as a file has every entry, oldest first: %s", async (door) => {
  const alice = await openWallet(server, { balance: 1_000n, door });
  const bob = await openWallet(server);
  const shop = await openPartner(server);
  const memo = 'lunch, "cheap";\r\nand 점심 🍜';
  await alice.transfers.sendTransfer({
    idempotencyKey: randomUUID(),
    recipientWalletId: bob.walletId,
    amount: 100n,
    memo,
  });
  await alice.payments.approvePayment({ partnerId: shop.partnerId, orderKey: "=1+1", amount: 200n });
  const { wallet } = await alice.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  const savingsWalletId = wallet?.id ?? "";
  await alice.wallets.depositSavings({ idempotencyKey: randomUUID(), savingsWalletId, amount: 50n });
  const { entries } = await alice.wallets.listEntries({});

  const file = await fileOf(alice.wallets);

  const memos = ["for a test", '"lunch, ""cheap"";\r\nand 점심 🍜"', "'=1+1", "A trip"];
  const causes = ["ADJUSTMENT", "TRANSFER", "PAYMENT", "SAVINGS"];
  const lines = entries.toReversed().map((entry, i) => {
    const time = entry.createTime && timestampDate(entry.createTime).toISOString();
    const { sequence, amount, balanceAfter, causeId, counterpartyWalletId } = entry;
    return [time, sequence, amount, balanceAfter, causes[i], causeId, counterpartyWalletId, memos[i]].join(",");
  });
  expect(file).toBe(`${HEADER}${lines.join("\r\n")}\r\n`);
});

test("W2: a file of many entries comes in pieces, and has what the times say", async () => {
  const alice = await openWallet(server);
  expect(await fileOf(alice.wallets)).toBe(HEADER);
  await credit(alice.walletId, 700);
  await new Promise((resolve) => setTimeout(resolve, 4));
  await credit(alice.walletId, 601);
  const entries = await entriesOf(alice.walletId);
  const sequencesOf = (file: string) =>
    file
      .split("\r\n")
      .slice(1, -1)
      .map((line) => BigInt(line.split(",")[1] ?? "0"));
  const pieces: string[] = [];
  for await (const { csv } of alice.wallets.exportEntries({})) pieces.push(csv);
  expect(pieces.length).toBe(3);
  expect(sequencesOf(pieces.join(""))).toEqual(entries.map(({ sequence }) => sequence));

  const some = [0, 350, 699, 700, 1_000, 1_300].map((i) => entries[i]?.createTime ?? new Date());
  for (const start of [undefined, ...some]) {
    for (const end of [undefined, ...some]) {
      const file = await fileOf(alice.wallets, {
        startTime: start && timestampFromDate(start),
        endTime: end && timestampFromDate(end),
      });
      const expected = entries.filter(
        ({ createTime }) => (!start || createTime >= start) && (!end || createTime < end),
      );
      expect(sequencesOf(file)).toEqual(expected.map(({ sequence }) => sequence));
    }
  }
});

test.each(DOORS)("W2: who leaves in the middle of a file has no more of it read: %s", async (door) => {
  const alice = await openWallet(server);
  await credit(alice.walletId, 4_000, "long ".repeat(40));
  const wallets = server.client(WalletService, alice.credential, door);
  const inFlight = async () => {
    const page = await (await fetch(`${server.internalUrl}/metrics`)).text();
    return /^chatpay_calls_in_flight\{kind="streams"\} (\d+)$/m.exec(page)?.[1];
  };
  const leave = new AbortController();

  const pieces = wallets.exportEntries({}, { signal: leave.signal })[Symbol.asyncIterator]();
  await pieces.next();
  // More than fits into the connection: the server waits to be asked for the rest.
  expect(await inFlight()).toBe("1");
  leave.abort();
  await pieces.next().catch(() => {});

  await expect.poll(inFlight).toBe("0");
});

test("W2: nothing in a file begins a formula", () => {
  for (const text of ["=1+1", "+1", "-1", "@x", "＝1", "  =1", "\t=1", "\r\n=1", "a;=1", "a\n@x", "\tx"]) {
    expect(harmless(text), text).not.toMatch(/(^|[;\t\r\n])\s*[=+\-@＝＋－＠]/);
    expect(harmless(text).replaceAll("'", ""), text).toBe(text);
  }
  for (const text of ["lunch", "a-b", "1=1", "", "점심 -20%", "me@home"]) expect(harmless(text)).toBe(text);
  expect(csvLine(["a", 'b"c', "d,e", "f\ng", ""])).toBe('a,"b""c","d,e","f\ng",\r\n');
});

test("W2: an operator exports any wallet, also that of the house", async () => {
  expect(await fileOf(operator, { walletId: "1", startTime: timestampFromDate(new Date()) })).toBe(HEADER);
});
