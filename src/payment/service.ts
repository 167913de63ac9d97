import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import {
  type Item as ItemMessage,
  ItemSchema,
  type Partner,
  PartnerSchema,
  type Payment,
  type Payment_State,
  PaymentSchema,
  type PaymentService,
} from "../../gen/chatpay/payment/v1/payment_pb.ts";
import type { App } from "../app.ts";
import type { PartnerRow, PaymentRow } from "../db/schema.ts";
import { partnerNotFound, paymentExists, paymentNotFound } from "../errors.ts";
import { idAround, idOf } from "../id.ts";
import { type Caller, callerOf, payerOf } from "../rpc/caller.ts";
import { idempotencyKeyOf, tellReplayed } from "../rpc/idempotency.ts";
import { marksOf, readPage, readSpan, splitPage } from "../rpc/page.ts";
import { createPartner, type Item, openPayments } from "./payment.ts";
import { findPartner, findPayment, findPaymentOf, listPartners, listPayments, type Party } from "./queries.ts";

const PARTNERS_CACHED_MAX = 10_000;

export const paymentService = (app: App): ServiceImpl<typeof PaymentService> => {
  const { db, lane } = app;
  const paying = openPayments(app);
  // A partner's row never changes once it is there.
  const partners = new LRUCache<bigint, PartnerRow>({ max: PARTNERS_CACHED_MAX });

  async function getPartner(id: bigint): Promise<PartnerRow> {
    const partner = partners.get(id) ?? (await findPartner(db, id));
    if (!partner) throw partnerNotFound(id);
    partners.set(id, partner);
    return partner;
  }

  return {
    async approvePayment({ partnerId, orderKey, items, amount, pin }, context) {
      const payer = payerOf(context);
      const partner = await getPartner(idOf(partnerId));
      const order = { orderKey, items: items.map(fromItem), amount };
      const { value: payment, replayed } = await paying.approve(payer, partner, order, pin, context);
      if (!replayed) return { payment: toPayment(payment) };

      const error = paymentExists(partner.id, orderKey);
      // Somebody else's payment of the same order is not theirs to see.
      const own = payment.payerAccountId === payer.accountId;
      if (own) error.details.push({ desc: PaymentSchema, value: toPayment(payment) });
      throw error;
    },

    async getPayment({ paymentId }, context) {
      const caller = callerOf(context);
      const id = idOf(paymentId);
      const all = caller.kind === "operator";
      const payment = all ? await findPayment(db, id) : await findPaymentOf(db, partyOf(caller), id);
      if (!payment) throw paymentNotFound(paymentId);
      return { payment: toPayment(payment) };
    },

    async listPayments(request, context) {
      const party = partyOf(callerOf(context));
      const span = readSpan(request);
      const page = readPage(request, party.column, party.id, ...marksOf(span));
      // The times bound the ids as well: the index of a busy partner is long.
      const after = span.startTime && idAround(span.startTime, -1);
      const before = page.cursor ?? (span.endTime && idAround(span.endTime, 1));
      const payments = await listPayments(db, { party, after, before, ...span, limit: page.size + 1 });
      const { rows, nextPageToken } = splitPage(payments, page, ({ id }) => id);
      return { payments: rows.map(toPayment), nextPageToken };
    },

    async createPartner(request, context) {
      const command = createPartner({
        idempotencyKey: idempotencyKeyOf(request, context),
        name: request.name.toWellFormed(),
      });
      const { value, replayed } = await lane.submit(command, context);
      tellReplayed(context, replayed);
      return { partner: toPartner(value) };
    },

    async getPartner({ partnerId }, context) {
      const caller = callerOf(context);
      if (caller.kind !== "partner") return { partner: toPartner(await getPartner(idOf(partnerId || "0"))) };
      if (partnerId !== "" && idOf(partnerId) !== caller.partnerId) throw partnerNotFound(partnerId);
      return { partner: toPartner(await getPartner(caller.partnerId)) };
    },

    async listPartners(request) {
      const page = readPage(request);
      const { rows, nextPageToken } = splitPage(
        await listPartners(db, page.cursor, page.size + 1),
        page,
        ({ id }) => id,
      );
      return { partners: rows.map(toPartner), nextPageToken };
    },
  };
};

function partyOf(caller: Caller): Party {
  if (caller.kind === "partner") return { column: "partnerId", id: caller.partnerId };
  if (caller.kind === "person" || caller.kind === "service") return { column: "payerAccountId", id: caller.accountId };
  throw new Error(`${caller.kind} is no party to a payment`);
}

const fromItem = ({ name, quantity, unitPrice }: ItemMessage): Item => ({
  name,
  quantity: String(quantity),
  ...(unitPrice !== undefined && { unitPrice: String(unitPrice) }),
});

const toPayment = (row: PaymentRow): Payment =>
  create(PaymentSchema, {
    id: String(row.id),
    partnerId: String(row.partnerId),
    orderKey: row.orderKey,
    payerAccountId: String(row.payerAccountId),
    payerWalletId: String(row.payerWalletId),
    amount: row.amount,
    currency: row.currency,
    items: (JSON.parse(row.items) as Item[]).map(toItem),
    state: row.state as Payment_State,
    createTime: timestampFromDate(row.createTime),
  });

const toItem = ({ name, quantity, unitPrice }: Item): ItemMessage =>
  create(ItemSchema, {
    name,
    quantity: BigInt(quantity),
    unitPrice: unitPrice === undefined ? undefined : BigInt(unitPrice),
  });

const toPartner = (row: PartnerRow): Partner =>
  create(PartnerSchema, {
    id: String(row.id),
    name: row.name,
    walletId: String(row.walletId),
    createTime: timestampFromDate(row.createTime),
  });
