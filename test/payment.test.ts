import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test } from "vitest";
import { Reason } from "../gen/chatpay/error/v1/error_pb.ts";
import {
  type ListPaymentsRequestSchema,
  Payment_State,
  PaymentSchema,
  PaymentService,
} from "../gen/chatpay/payment/v1/payment_pb.ts";
import { Entry_Cause, Wallet_Kind } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { balanceOf, differencesIn, openPartner, openWallet, openWallets, signUp } from "./support/people.ts";
import { DOORS, errorOf, refusalOf } from "./support/rpcs.ts";
import { startServer } from "./support/server.ts";

const server = await startServer();
const operator = server.client(PaymentService, { bearer: server.keys.operator });

afterAll(async () => {
  expect(await differencesIn(server.app.config.databaseUrl)).toEqual([]);
  await server.stop();
});

const orderOf = ({ partnerId }: { partnerId: string }, amount: bigint) => ({
  partnerId,
  orderKey: randomUUID(),
  amount,
});

/** What a program without any library reads of a refusal. */
async function approveOverHttp(order: { partnerId: string; orderKey: string; amount: bigint }, headers: object) {
  const answer = await fetch(`${server.baseUrl}/${PaymentService.typeName}/ApprovePayment`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ ...order, amount: String(order.amount) }),
  });
  const { code, details } = (await answer.json()) as { code: string; details: { type: string; debug: unknown }[] };
  return { status: answer.status, code, details: Object.fromEntries(details.map(({ type, debug }) => [type, debug])) };
}

test("an approved payment is the partner's at once, with all that was bought", async () => {
  const alice = await openWallet(server, { balance: 10_000n });
  const shop = await openPartner(server);
  const items = [
    { name: "coffee", quantity: 2n, unitPrice: 3_000n },
    { name: "a cup to keep", quantity: 1n, unitPrice: 0n },
  ];

  const { payment } = await alice.payments.approvePayment({ ...orderOf(shop, 6_000n), items });

  expect(payment).toMatchObject({
    partnerId: shop.partnerId,
    payerAccountId: String(alice.accountId),
    payerWalletId: alice.walletId,
    amount: 6_000n,
    currency: "KRW",
    items,
    state: Payment_State.CAPTURED,
  });
  expect(await balanceOf(alice)).toBe(4_000n);
  expect(await balanceOf(shop)).toBe(6_000n);
  expect((await alice.payments.getPayment({ paymentId: payment?.id })).payment).toEqual(payment);
});

test("a partner sees its payments, its wallet and itself", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const { payment } = await alice.payments.approvePayment(orderOf(shop, 60n));

  const { entries } = await shop.wallets.listEntries({});
  const { partner } = await shop.payments.getPartner({});

  expect((await shop.payments.getPayment({ paymentId: payment?.id })).payment).toEqual(payment);
  expect((await shop.payments.listPayments({})).payments).toEqual([payment]);
  expect(entries).toMatchObject([
    { amount: 60n, balanceAfter: 60n, cause: Entry_Cause.PAYMENT, causeId: payment?.id, memo: payment?.orderKey },
  ]);
  expect(partner).toMatchObject({ id: shop.partnerId, walletId: shop.walletId });
  expect((await shop.payments.getPartner({ partnerId: shop.partnerId })).partner).toEqual(partner);
});

test("an order is paid once: who paid it is shown the payment, anybody else is not", async () => {
  for (const door of DOORS) {
    const alice = await openWallet(server, { balance: 100n, door });
    const bob = await openWallet(server, { balance: 100n, door });
    const shop = await openPartner(server);
    const order = orderOf(shop, 60n);
    const { payment } = await alice.payments.approvePayment(order);

    const again = await errorOf(alice.payments.approvePayment(order));
    const otherwise = await errorOf(alice.payments.approvePayment({ ...order, amount: 1n }));
    const another = await errorOf(bob.payments.approvePayment(order));

    for (const error of [again, otherwise, another]) expect(error.code).toBe(Code.AlreadyExists);
    expect(again.findDetails(PaymentSchema)).toEqual([payment]);
    expect(otherwise.findDetails(PaymentSchema)).toEqual([payment]);
    expect(another.findDetails(PaymentSchema)).toEqual([]);
    expect([await balanceOf(alice), await balanceOf(bob), await balanceOf(shop)]).toEqual([40n, 100n, 60n]);
  }
});

test("over HTTP a duplicate is 409, with the first payment for who made it", async () => {
  const alice = await signUp(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const order = orderOf(shop, 60n);
  const { payment } = await alice.payments.approvePayment(order);

  const again = await approveOverHttp(order, { authorization: `Bearer ${alice.tokens.accessToken}` });
  const another = await approveOverHttp(order, {
    authorization: `Bearer ${server.keys.service}`,
    "chatpay-account-id": String(bob.accountId),
  });

  const info = { reason: "REASON_PAYMENT_EXISTS", metadata: { partner_id: shop.partnerId, order_key: order.orderKey } };
  expect(again).toEqual({
    status: 409,
    code: "already_exists",
    details: {
      "chatpay.error.v1.ErrorInfo": info,
      "chatpay.payment.v1.Payment": expect.objectContaining({ id: payment?.id, amount: "60" }),
    },
  });
  expect(another).toEqual({ status: 409, code: "already_exists", details: { "chatpay.error.v1.ErrorInfo": info } });
});

test("the same order key of another partner is another order", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const [one, other] = [await openPartner(server), await openPartner(server)];
  const orderKey = "2027-1";

  await alice.payments.approvePayment({ partnerId: one.partnerId, orderKey, amount: 10n });
  await alice.payments.approvePayment({ partnerId: other.partnerId, orderKey, amount: 10n });

  expect(await balanceOf(alice)).toBe(80n);
});

test("of 50 approvals of one order at once, one is paid", async () => {
  const payers = await openWallets(server, 5, { balance: 100n });
  const shop = await openPartner(server);
  const order = orderOf(shop, 60n);

  const tenTimes = payers.flatMap((payer) => Array.from({ length: 10 }, () => payer));
  const approvals = tenTimes.map(({ payments }) => payments.approvePayment(order));
  const outcomes = await Promise.allSettled(approvals);

  const errors = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
  expect(errors.length).toBe(49);
  expect(errors).toEqual(errors.map(() => expect.objectContaining({ code: Code.AlreadyExists })));
  expect(await balanceOf(shop)).toBe(60n);
  const left = await Promise.all(payers.map(balanceOf));
  expect(left.toSorted((a, b) => Number(a - b))).toEqual([40n, 100n, 100n, 100n, 100n]);
});

test("a refused approval leaves the order to be paid", async () => {
  const alice = await openWallet(server, { balance: 10n });
  const bob = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const order = orderOf(shop, 60n);

  const refused = { code: Code.FailedPrecondition, reason: Reason.INSUFFICIENT_FUNDS };
  expect(await refusalOf(alice.payments.approvePayment(order))).toEqual(refused);
  const { payment } = await bob.payments.approvePayment(order);

  expect(payment?.payerWalletId).toBe(bob.walletId);
});

test("items have prices that add up, or none has one", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const approve = (items: { name: string; quantity: bigint; unitPrice?: bigint }[], amount = 10n) =>
    alice.payments.approvePayment({ ...orderOf(shop, amount), items });
  const mismatch = { code: Code.InvalidArgument, reason: Reason.ITEMS_SUM_MISMATCH };
  const invalid = { code: Code.InvalidArgument, reason: Reason.REQUEST_INVALID };
  const pen = { name: "pen", quantity: 2n };

  expect(await refusalOf(approve([{ ...pen, unitPrice: 4n }]))).toEqual(mismatch);
  expect(await refusalOf(approve([{ ...pen, unitPrice: 5n }, pen]))).toEqual(mismatch);
  expect(await refusalOf(approve([{ ...pen, unitPrice: 0n }]))).toEqual(mismatch);
  expect(await refusalOf(approve([{ ...pen, quantity: 1_000_000n, unitPrice: 2n ** 63n - 1n }]))).toEqual(mismatch);
  expect(await refusalOf(approve([{ ...pen, quantity: 0n }]))).toEqual(invalid);
  expect(await refusalOf(approve([{ ...pen, quantity: 1_000_001n }]))).toEqual(invalid);
  expect(await refusalOf(approve([{ ...pen, unitPrice: -5n }]))).toEqual(invalid);
  expect(await refusalOf(approve(Array.from({ length: 101 }, () => pen)))).toEqual(invalid);
  expect(await balanceOf(alice)).toBe(100n);

  await approve([pen]);
  await approve([{ ...pen, unitPrice: 5n }]);
  await approve([]);
  expect(await balanceOf(alice)).toBe(70n);
});

test("an order with as many and as long items as there may be is kept whole", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  const items = Array.from({ length: 100 }, (_, i) => ({ name: "🧾".repeat(100), quantity: BigInt(i + 1) }));

  const { payment } = await alice.payments.approvePayment({ ...orderOf(shop, 1n), orderKey: "주".repeat(64), items });

  expect((await shop.payments.getPayment({ paymentId: payment?.id })).payment).toMatchObject({
    orderKey: "주".repeat(64),
    items,
  });
});

test("nobody pays a partner that there is none of", async () => {
  const alice = await openWallet(server, { balance: 100n });

  expect(await refusalOf(alice.payments.approvePayment(orderOf({ partnerId: "4242" }, 1n)))).toEqual({
    code: Code.NotFound,
    reason: Reason.PARTNER_NOT_FOUND,
  });
});

test("payers and partners page through their payments, between two times", async () => {
  const alice = await openWallet(server, { balance: 100n });
  const bob = await openWallet(server, { balance: 100n });
  const shop = await openPartner(server);
  for (const amount of [1n, 2n, 3n]) {
    await alice.payments.approvePayment(orderOf(shop, amount));
    await bob.payments.approvePayment(orderOf(shop, amount * 10n));
    // Payments of the same millisecond cannot be told apart.
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  const amountsOf = async (
    payments: typeof operator,
    request: MessageInitShape<typeof ListPaymentsRequestSchema> = {},
  ) => {
    const amounts: bigint[] = [];
    let pageToken = "";
    do {
      const page = await payments.listPayments({ pageSize: 2, ...request, pageToken });
      amounts.push(...page.payments.map(({ amount }) => amount));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return amounts;
  };
  const [newest, , oldest] = (await alice.payments.listPayments({})).payments;

  expect(await amountsOf(alice.payments)).toEqual([3n, 2n, 1n]);
  expect(await amountsOf(shop.payments)).toEqual([30n, 3n, 20n, 2n, 10n, 1n]);
  const span = { startTime: oldest?.createTime, endTime: newest?.createTime };
  expect(await amountsOf(alice.payments, span)).toEqual([2n, 1n]);
  expect(await amountsOf(shop.payments, span)).toEqual([20n, 2n, 10n, 1n]);
  expect(await amountsOf(shop.payments, { endTime: timestampFromMs(0) })).toEqual([]);

  const { nextPageToken: pageToken } = await alice.payments.listPayments({ pageSize: 1 });
  const refused = { code: Code.InvalidArgument, reason: Reason.PAGE_TOKEN_INVALID };
  expect(await refusalOf(bob.payments.listPayments({ pageToken }))).toEqual(refused);
  expect(await refusalOf(alice.payments.listPayments({ pageToken, ...span }))).toEqual(refused);
});

test("an operator makes a partner once per key", async () => {
  for (const door of DOORS) {
    const payments = server.client(PaymentService, { bearer: server.keys.operator }, door);
    const request = { idempotencyKey: randomUUID(), name: "Bookshop" };
    const replayed: (string | null)[] = [];
    const onHeader = (header: Headers) => void replayed.push(header.get("idempotency-replayed"));

    const { partner } = await payments.createPartner(request, { onHeader });
    const again = await payments.createPartner(request, { onHeader });

    expect(again.partner).toEqual(partner);
    expect(replayed).toEqual([null, "true"]);
    expect(await refusalOf(payments.createPartner({ ...request, name: "Another" }))).toEqual({
      code: Code.InvalidArgument,
      reason: Reason.IDEMPOTENCY_KEY_REUSED,
    });
    expect(await refusalOf(payments.createPartner({ name: "Bookshop" }))).toEqual({
      code: Code.InvalidArgument,
      reason: Reason.IDEMPOTENCY_KEY_MISSING,
    });
  }
});

test("a new partner has an open wallet with nothing in it, and is on the operator's list", async () => {
  const shops = [await openPartner(server), await openPartner(server), await openPartner(server)];

  const listed: string[] = [];
  let pageToken = "";
  do {
    const page = await operator.listPartners({ pageSize: 2, pageToken });
    listed.push(...page.partners.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  const { wallet } = (await shops[0]?.wallets.getWallet({})) ?? {};

  expect(listed.slice(0, 3)).toEqual(shops.map(({ partnerId }) => partnerId).reverse());
  expect(new Set(listed).size).toBe(listed.length);
  expect(wallet).toMatchObject({
    kind: Wallet_Kind.PARTNER,
    partnerId: shops[0]?.partnerId,
    accountId: "",
    balance: 0n,
  });
});
