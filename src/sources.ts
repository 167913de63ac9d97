import { bankTransferHolds, bankTransferPostings, drawCounts, openTransferCounts } from "./bank/queries.ts";
import type { Sources } from "./ledger/verify.ts";
import { paymentPostings } from "./payment/queries.ts";
import {
  giftHolds,
  giftPostings,
  handOverPostings,
  receivedGiftCounts,
  sentGiftCounts,
  transferPostings,
} from "./transfer/queries.ts";
import { adjustmentPostings, savingsPostings } from "./wallet/queries.ts";

/** Everything that moves money, sets it aside, or counts it: VerifyBooks compares each row with the ledger. */
export const sources: Sources = {
  postings: [
    transferPostings,
    giftPostings,
    handOverPostings,
    paymentPostings,
    adjustmentPostings,
    savingsPostings,
    bankTransferPostings,
  ],
  holds: [bankTransferHolds, giftHolds],
  counts: [drawCounts, openTransferCounts, sentGiftCounts, receivedGiftCounts],
};
