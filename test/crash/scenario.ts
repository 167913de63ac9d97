import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, vi } from "vitest";
import { TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { openDatabase } from "../../src/db/database.ts";
import { onceKeyOf } from "../../src/ledger/once.ts";
import { createDatabase, startMysql } from "../../tools/services.ts";
import { isRunning } from "../../tools/system.ts";
import { balancesOf, chooseSeed, randomOf, type ServerProcess, startProcess } from "../support/load.ts";
import { differencesIn, openWallets, type Person } from "../support/people.ts";
import { redisUrl, sendCredential, startServer } from "../support/server.ts";

const CLIENTS = 12;
const PEOPLE = 5;
const FIRST_BALANCE = 1_000_000_000n;
const CALL_TIMEOUT_MS = 5_000;
const RETRY_PAUSE_MS = 30;
const LOAD_MAX_MS = 500;
/** What is answered between two crashes, at least. */
const ANSWERS_MIN = 20;
const PATIENCE_MS = 60_000;

interface Sent {
  key: string;
  from: Person;
  to: Person;
  amount: bigint;
  transferId: string;
}

/**
 * Kills one of the two again and again while clients send money and try again, with the same keys, what
 * was not answered. Then every answer is looked for in the books.
 */
export async function crash(victim: "server" | "mysqld", rounds: number) {
  const random = randomOf(chooseSeed(`kill -9 of the ${victim}`));
  const dir = await mkdtemp(join(tmpdir(), "chatpay-"));
  const start = () => startMysql({ dir, flags: ["--performance-schema=OFF", "--innodb-buffer-pool-size=64M"] });
  let mysql = await start();
  await createDatabase(mysql.url, "chatpay");
  const databaseUrl = `${mysql.url}/chatpay`;
  const people = await makePeople(databaseUrl);
  let server = await startProcess(databaseUrl, redisUrl());
  const servers = [server];
  const load = startLoad(server.grpcPort, people, random);

  try {
    for (let round = 1; round <= rounds; round += 1) {
      const answered = load.sent.length;
      await until(() => load.sent.length >= answered + ANSWERS_MIN);
      await sleep(random() * LOAD_MAX_MS);
      if (victim === "server") {
        await server.kill();
        server = await startProcess(databaseUrl, redisUrl(), server.grpcPort);
        servers.push(server);
      } else {
        await mysql.kill();
        const before = load.count(Code.Unavailable);
        // Once the database stays away until those who send have been told so, and one who only reads.
        if (round === 1) {
          await until(() => load.count(Code.Unavailable) > before);
          const read = readBalance(server.grpcPort, people[0] as Person);
          await expect(read).rejects.toMatchObject({ code: Code.Unavailable });
        }
        mysql = await start();
      }
    }
    await load.finish();

    expect(await isRunning(server.pid)).toBe(true);
    expect(await server.stop()).toBe(0);
    expect(servers.flatMap(innerErrors)).toEqual([]);
    await expectInBooks(databaseUrl, people, load.sent);
    expect(await differencesIn(databaseUrl)).toEqual([]);
    expect(load.count()).toBeGreaterThan(0);
    console.log(`kill -9 of the ${victim}: ${rounds} rounds, ${load.sent.length} transfers, ${load.count()} retries`);
  } finally {
    load.abandon();
    await server.kill();
    await mysql.stop();
    await rm(dir, { recursive: true, force: true });
  }
}

const until = (holds: () => boolean) =>
  vi.waitFor(() => expect(holds()).toBe(true), { timeout: PATIENCE_MS, interval: 20 });

const readBalance = (port: number, { credential, walletId }: Person) => {
  const baseUrl = `http://127.0.0.1:${port}`;
  const transport = createGrpcTransport({ baseUrl, interceptors: [sendCredential(credential)] });
  return createClient(WalletService, transport).getWallet({ walletId });
};

async function makePeople(databaseUrl: string) {
  const server = await startServer({ DATABASE_URL: databaseUrl });
  const people = await openWallets(server, PEOPLE, { balance: FIRST_BALANCE });
  await server.stop();
  return people;
}

/** Clients that each send one transfer after the other, and do not go on before they know what became of it. */
function startLoad(port: number, people: Person[], random: () => number) {
  const sent: Sent[] = [];
  const failures: Code[] = [];
  let stopping = false;
  let abandoned = false;
  const baseUrl = `http://127.0.0.1:${port}`;
  const clients = new Map<Person, Client<typeof TransferService>>(
    people.map((person) => {
      const interceptors = [sendCredential(person.credential)];
      return [person, createClient(TransferService, createGrpcTransport({ baseUrl, interceptors }))];
    }),
  );
  const any = () => people[Math.floor(random() * people.length)] as Person;

  async function send(transfer: Omit<Sent, "transferId">): Promise<string> {
    const { key: idempotencyKey, from, to, amount } = transfer;
    for (;;) {
      try {
        const request = { idempotencyKey, recipientWalletId: to.walletId, amount };
        const answer = await clients.get(from)?.sendTransfer(request, { timeoutMs: CALL_TIMEOUT_MS });
        return answer?.transfer?.id ?? "";
      } catch (error) {
        if (abandoned) throw error;
        failures.push(ConnectError.from(error).code);
        await sleep(RETRY_PAUSE_MS);
      }
    }
  }

  const running = Array.from({ length: CLIENTS }, async () => {
    while (!stopping) {
      const from = any();
      const to = people[(people.indexOf(from) + 1 + Math.floor(random() * (PEOPLE - 1))) % PEOPLE] as Person;
      const transfer = { key: randomUUID(), from, to, amount: 1n + BigInt(Math.floor(random() * 100)) };
      sent.push({ ...transfer, transferId: await send(transfer) });
    }
  });

  // Looked at only in the end; what fails before is not unheard.
  for (const each of running) each.catch(() => {});

  return {
    sent,
    /** How many calls failed, or failed with this code. */
    count: (code?: Code) => failures.filter((each) => code === undefined || each === code).length,
    /** Waits until every transfer that was begun has been answered. */
    async finish() {
      stopping = true;
      await Promise.all(running);
    },
    abandon() {
      stopping = true;
      abandoned = true;
    },
  };
}

/** A database that is away is foreseen: nobody may be told of an inner error. */
const innerErrors = ({ logs }: ServerProcess) => logs.filter((line) => line.includes('"code":"Internal"'));

/** Each answered transfer is there once, with the id that was answered, and nothing else is. */
async function expectInBooks(databaseUrl: string, people: Person[], sent: Sent[]) {
  const db = openDatabase(databaseUrl);
  const rows = await db.selectFrom("transfer").select(["id", "idempotencyKey"]).execute();
  const byKey = new Map(rows.map(({ id, idempotencyKey }) => [idempotencyKey.toString("hex"), String(id)]));
  const keyOf = ({ key, from }: Sent) => onceKeyOf(`account:${from.accountId}`, key).toString("hex");
  expect(sent.filter((each) => byKey.get(keyOf(each)) !== each.transferId)).toEqual([]);
  expect(rows.length).toBe(sent.length);

  const balances = new Map(people.map(({ walletId }) => [walletId, FIRST_BALANCE]));
  for (const { from, to, amount } of sent) {
    balances.set(from.walletId, (balances.get(from.walletId) ?? 0n) - amount);
    balances.set(to.walletId, (balances.get(to.walletId) ?? 0n) + amount);
  }
  expect(
    await balancesOf(
      { db },
      people.map(({ walletId }) => BigInt(walletId)),
    ),
  ).toEqual([...balances.values()]);
  await db.destroy();
}
