import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { startProcess } from "./support/load.ts";
import { balanceOf, differencesIn, openWallet, openWallets, type Person } from "./support/people.ts";
import { makeDatabase, redisUrl, sendCredential, startServer, type TestServer } from "./support/server.ts";

// Two servers on one database, as two processes would be; people call now the one, now the other.

const CLIENTS = 32;
const CALLS = 12;

const databaseUrl = await makeDatabase();
let servers: [TestServer, TestServer];

beforeAll(async () => {
  servers = [await startServer({ DATABASE_URL: databaseUrl }), await startServer({ DATABASE_URL: databaseUrl })];
});

afterAll(async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
  for (const server of servers) await server.stop();
});

/** The person's transfers through one of the servers. */
const transfersAt = (n: number, person: Person) =>
  (servers[n % 2] as TestServer).client(TransferService, {
    bearer: servers[0].keys.service,
    accountId: person.accountId,
  });

/** Each client makes its calls one after the other, all clients at once; how many were done and how many refused. */
async function together(clients: number, call: (client: number, i: number) => Promise<unknown>) {
  const outcomes = { done: 0, refused: 0 };
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      for (let i = 0; i < CALLS; i += 1) {
        try {
          await call(client, i);
          outcomes.done += 1;
        } catch (error) {
          if (!String(error).includes("the available balance is below the amount")) throw error;
          outcomes.refused += 1;
        }
      }
    }),
  );
  return outcomes;
}

const sendTo = (recipient: Person, amount = 1n) => ({
  idempotencyKey: randomUUID(),
  recipientWalletId: recipient.walletId,
  amount,
});

const twoPeople = async (balance: bigint) => {
  const [one, two] = await openWallets(servers[0], 2, { balance });
  return [one as Person, two as Person] as const;
};

test("opposed sends neither lose money nor wait for each other for ever", async () => {
  const pair = await twoPeople(1_000n);

  const outcomes = await together(CLIENTS, (client, i) => {
    const [from, to] = client % 2 === 0 ? pair : [pair[1], pair[0]];
    return transfersAt(client + i, from).sendTransfer(sendTo(to, client % 2 === 0 ? 3n : 1n));
  });

  const sent = BigInt((CLIENTS / 2) * CALLS);
  expect(outcomes).toEqual({ done: CLIENTS * CALLS, refused: 0 });
  expect(await Promise.all(pair.map(balanceOf))).toEqual([1_000n - 2n * sent, 1_000n + 2n * sent]);
});

test("what all send to one arrives", async () => {
  const senders = await openWallets(servers[0], CLIENTS, { balance: 100n });
  const receiver = await openWallet(servers[0]);

  const outcomes = await together(CLIENTS, (client, i) =>
    transfersAt(client + i, senders[client] as Person)
      .sendTransfer(sendTo(receiver, BigInt(client)))
      .catch((error) => {
        // The first sends nothing, which is no transfer.
        if (client > 0) throw error;
      }),
  );

  const possible = senders.map((_, client) => (client === 0 ? 0 : Math.min(CALLS, Math.floor(100 / client))));
  const expected = possible.map((calls, client) => BigInt(calls * client));
  expect(outcomes.refused).toBe(CLIENTS * CALLS - CALLS - possible.reduce((a, b) => a + b, 0));
  expect(await balanceOf(receiver)).toBe(expected.reduce((a, b) => a + b, 0n));
  expect(await Promise.all(senders.map(balanceOf))).toEqual(expected.map((amount) => 100n - amount));
});

test("one who sends to all sends what is there, and not a won more", async () => {
  const sender = await openWallet(servers[0], { balance: 200n });
  const receivers = await openWallets(servers[0], CLIENTS);

  const outcomes = await together(CLIENTS, (client, i) =>
    transfersAt(client + i, sender).sendTransfer(sendTo(receivers[client] as Person)),
  );

  expect(outcomes).toEqual({ done: 200, refused: CLIENTS * CALLS - 200 });
  expect(await balanceOf(sender)).toBe(0n);
  const received = await Promise.all(receivers.map(balanceOf));
  expect(received.reduce((a, b) => a + b, 0n)).toBe(200n);
});

test("the same key fifty times, at two servers, is one transfer", async () => {
  const [alice, bob] = await twoPeople(10n);
  const request = sendTo(bob, 10n);

  const sends = Array.from({ length: 50 }, (_, i) => transfersAt(i, alice).sendTransfer(request));
  const ids = (await Promise.all(sends)).map(({ transfer }) => transfer?.id);

  expect(new Set(ids).size).toBe(1);
  expect(await balanceOf(alice)).toBe(0n);
  expect(await balanceOf(bob)).toBe(20n);
});

test("two processes move money in a circle beside each other", async () => {
  const people = await openWallets(servers[0], 8, { balance: 100n });
  const processes = await Promise.all([1, 2].map(() => startProcess(databaseUrl, redisUrl())));
  const clientOf = (n: number, person: Person) =>
    createClient(
      TransferService,
      createGrpcTransport({
        baseUrl: `http://127.0.0.1:${processes[n % 2]?.grpcPort}`,
        interceptors: [sendCredential(person.credential)],
      }),
    );
  const clients = people.map((person) => [clientOf(0, person), clientOf(1, person)] as const);

  const outcomes = await together(
    CLIENTS,
    (client, i) =>
      clients[client % 8]?.[i % 2]?.sendTransfer(sendTo(people[(client + 1) % 8] as Person)) ??
      Promise.reject(new Error()),
  );

  expect(outcomes).toEqual({ done: CLIENTS * CALLS, refused: 0 });
  expect(await Promise.all(people.map(balanceOf))).toEqual(people.map(() => 100n));
  expect(await Promise.all(processes.map((each) => each.stop()))).toEqual([0, 0]);
});
