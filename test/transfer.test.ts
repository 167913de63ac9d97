import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, expect, test } from "vitest";
import { ErrorInfoSchema, Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import { Direction } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { balanceOf, differencesIn, openWallet, openWallets } from "./support/people.ts";
import { startServer } from "./support/server.ts";

const server = await startServer();
afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

/** Code and reason of the refusal that a call meets. */
async function refusalOf(call: Promise<unknown>) {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConnectError)) throw new Error(`not refused: ${error}`);
  return { code: error.code, reason: error.findDetails(ErrorInfoSchema)[0]?.reason };
}

test("a repeated transfer moves the money once", async () => {
  const alice = await openWallet(server, { balance: 3_000n });
  const bob = await openWallet(server);
  const request = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 3_000n };

  const sends = Array.from({ length: 20 }, () => alice.transfers.sendTransfer(request));
  const ids = (await Promise.all(sends)).map(({ transfer }) => transfer?.id);

  expect(new Set(ids).size).toBe(1);
  expect(await balanceOf(alice)).toBe(0n);
  expect(await balanceOf(bob)).toBe(3_000n);
});

test("a repeat says so in a header, through both doors", async () => {
  for (const door of ["connect", "grpc"] as const) {
    const alice = await openWallet(server, { balance: 10n, door });
    const bob = await openWallet(server);
    const request = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 3n, memo: "lunch" };
    const replayed: (string | null)[] = [];
    const onHeader = (header: Headers) => void replayed.push(header.get("idempotency-replayed"));

    await alice.transfers.sendTransfer(request, { onHeader });
    await alice.transfers.sendTransfer(request, { onHeader });

    expect(replayed).toEqual([null, "true"]);
  }
});

test("a key used for another request is refused", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server);
  const request = { idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 3n };
  await alice.transfers.sendTransfer(request);

  const refusal = await refusalOf(alice.transfers.sendTransfer({ ...request, amount: 4n }));

  expect(refusal).toEqual({ code: Code.InvalidArgument, reason: Reason.IDEMPOTENCY_KEY_REUSED });
  expect(await balanceOf(alice)).toBe(7n);
});

test("the same key of another person is another key", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const carol = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server);
  const request = { idempotencyKey: "the-same", recipientWalletId: bob.walletId, amount: 3n };

  await alice.transfers.sendTransfer(request);
  await carol.transfers.sendTransfer(request);

  expect(await balanceOf(bob)).toBe(6n);
});

test("a wallet cannot send the same money twice at once", async () => {
  const alice = await openWallet(server, { balance: 1_000n });
  const bob = await openWallet(server);

  const sends = Array.from({ length: 10 }, () =>
    alice.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: 600n }),
  );
  const outcomes = await Promise.allSettled(sends);

  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(1);
  expect(await balanceOf(alice)).toBe(400n);
});

test("refusals name their reason", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server);
  const send = (recipientWalletId: string, amount: bigint, idempotencyKey: string = randomUUID()) =>
    refusalOf(alice.transfers.sendTransfer({ idempotencyKey, recipientWalletId, amount }));

  expect(await send(bob.walletId, 11n)).toEqual({ code: Code.FailedPrecondition, reason: Reason.INSUFFICIENT_FUNDS });
  expect(await send(alice.walletId, 1n)).toEqual({ code: Code.InvalidArgument, reason: Reason.SAME_WALLET });
  expect(await send("123456789", 1n)).toEqual({ code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND });
  expect(await send("9999999999999999999", 1n)).toEqual({ code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND });
  // BANK_CLEARING is nobody's to pay to.
  expect(await send("1", 1n)).toEqual({ code: Code.NotFound, reason: Reason.WALLET_NOT_FOUND });
  expect(await send(bob.walletId, 1n, "")).toEqual({
    code: Code.InvalidArgument,
    reason: Reason.IDEMPOTENCY_KEY_MISSING,
  });
  expect(await send(bob.walletId, 0n)).toEqual({ code: Code.InvalidArgument, reason: Reason.REQUEST_INVALID });
});

test("a batch answers each transfer on its own", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const [bob, carol] = await openWallets(server, 2);
  const transfers = [
    { idempotencyKey: randomUUID(), recipientWalletId: bob?.walletId, amount: 6n },
    { idempotencyKey: randomUUID(), recipientWalletId: carol?.walletId, amount: 6n },
    { idempotencyKey: randomUUID(), recipientWalletId: carol?.walletId, amount: 4n },
  ];

  const { results } = await alice.transfers.batchSendTransfers({ transfers });

  expect(results.map(({ outcome }) => outcome.case)).toEqual(["transfer", "refusal", "transfer"]);
  const refusal = results[1]?.outcome.case === "refusal" ? results[1].outcome.value : undefined;
  expect(refusal).toMatchObject({ code: "failed_precondition", info: { reason: Reason.INSUFFICIENT_FUNDS } });
  expect(await balanceOf(alice)).toBe(0n);
});

test("an atomic batch happens as a whole or not at all", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const [bob, carol] = await openWallets(server, 2);
  const orders = (first: bigint, second: bigint) => [
    { idempotencyKey: randomUUID(), recipientWalletId: bob?.walletId, amount: first },
    { idempotencyKey: randomUUID(), recipientWalletId: carol?.walletId, amount: second },
  ];

  const refused = await alice.transfers.batchSendTransfers({ transfers: orders(6n, 6n), atomic: true });
  expect(refused.results.map(({ outcome }) => outcome.case)).toEqual(["refusal", "refusal"]);
  expect(await balanceOf(alice)).toBe(10n);

  const transfers = orders(6n, 4n);
  await alice.transfers.batchSendTransfers({ transfers, atomic: true });
  const again = await alice.transfers.batchSendTransfers({ transfers, atomic: true });
  expect(again.results.map(({ replayed }) => replayed)).toEqual([true, true]);
  expect(await balanceOf(alice)).toBe(0n);
});

test("the history pages through both directions without gap or repeat", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  for (let i = 1n; i <= 5n; i += 1n) {
    await alice.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: bob.walletId, amount: i });
    await bob.transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId: alice.walletId, amount: i });
  }

  const seen: string[] = [];
  let pageToken = "";
  do {
    const page = await alice.transfers.listTransfers({ pageSize: 3, pageToken });
    seen.push(...page.transfers.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  const sent = await alice.transfers.listTransfers({ direction: Direction.SENT });

  expect(new Set(seen).size).toBe(10);
  expect(seen).toEqual([...seen].sort((a, b) => (BigInt(a) > BigInt(b) ? -1 : 1)));
  expect(sent.transfers.map(({ amount }) => amount)).toEqual([5n, 4n, 3n, 2n, 1n]);
  expect(await refusalOf(alice.transfers.listTransfers({ pageSize: 3, pageToken: "bm9uc2Vuc2U" }))).toEqual({
    code: Code.InvalidArgument,
    reason: Reason.PAGE_TOKEN_INVALID,
  });
});

test("only its parties see a transfer", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const [bob, eve] = await openWallets(server, 2);
  const request = { idempotencyKey: randomUUID(), recipientWalletId: bob?.walletId, amount: 3n };
  const { transfer } = await alice.transfers.sendTransfer(request);
  const transferId = transfer?.id ?? "";

  expect((await bob?.transfers.getTransfer({ transferId }))?.transfer).toEqual(transfer);
  const refused = { code: Code.NotFound, reason: Reason.TRANSFER_NOT_FOUND };
  expect(await refusalOf(eve?.transfers.getTransfer({ transferId }) ?? Promise.resolve())).toEqual(refused);
  expect(await refusalOf(alice.transfers.getTransfer({ transferId: "42" }))).toEqual(refused);
});
