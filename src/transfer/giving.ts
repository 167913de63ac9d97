import { openPins } from "../account/pin.ts";
import type { App } from "../app.ts";
import type { GiftRow } from "../db/schema.ts";
import { transferNotFound } from "../errors.ts";
import type { Command, Result } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { limitsSending } from "../wallet/limits.ts";
import { acceptGift, cancelGift, declineGift, type GiftOrder, giftKeyOf, HandedOver, sendGift } from "./gift.ts";
import { findGift, isGiftKeyUsed } from "./queries.ts";
import { openSendLimits, type Sender } from "./transfer.ts";

/** A gift is handed over once, so the second look finds it so. */
const TRIES_MAX = 3;

/** Gives, accepts, declines and cancels for those who may. */
export function openGiving(app: App) {
  const { db, lane, funding, config } = app;
  const pins = openPins(app);
  const findLimits = openSendLimits(app);
  const tiers = limitsSending(config.tiers) ? config.tiers : undefined;

  /** Ends the gift of a party; anybody else's is none. */
  async function end(
    isParty: (gift: GiftRow) => boolean,
    id: bigint,
    make: (gift: GiftRow) => Command<GiftRow>,
    call: Call,
  ) {
    for (let tries = 1; ; tries += 1) {
      const gift = await findGift(db, id);
      if (!gift || !isParty(gift)) throw transferNotFound(id);
      try {
        return (await lane.submit(make(gift), call)).value;
      } catch (error) {
        if (tries === TRIES_MAX || !(error instanceof HandedOver)) throw error;
      }
    }
  }

  const receivedBy =
    ({ walletId }: Sender) =>
    (gift: GiftRow) =>
      gift.recipientWalletId === walletId;
  const sentBy =
    ({ walletId }: Sender) =>
    (gift: GiftRow) =>
      gift.senderWalletId === walletId;

  return {
    /** Throws PIN_REQUIRED, PIN_WRONG, PIN_LOCKED, what `sendGift` refuses, and what drawing the rest does. */
    async send(sender: Sender, order: GiftOrder, pin: string, call: Call): Promise<Result<GiftRow>> {
      const key = giftKeyOf(sender, order);
      const { amount } = order;
      await pins.check(sender.accountId, pin, {
        amount,
        left: async () => ((await isGiftKeyUsed(db, key)) ? 0n : amount),
      });
      const limits = await findLimits(sender.walletId, [order.recipientWalletId]);
      const command = sendGift(sender, order, { limits, remindBeforeMs: config.giftReminderMs });
      return funding.submit(sender, { amount, key, command }, call);
    },

    /** Each throws TRANSFER_NOT_FOUND, and what its command refuses. */
    accept: (recipient: Sender, id: bigint, call: Call) =>
      end(receivedBy(recipient), id, (gift) => acceptGift(gift, recipient, tiers), call),
    decline: (recipient: Sender, id: bigint, call: Call) =>
      end(receivedBy(recipient), id, (gift) => declineGift(gift, recipient), call),
    cancel: (sender: Sender, id: bigint, call: Call) =>
      end(sentBy(sender), id, (gift) => cancelGift(gift, sender), call),
  };
}
