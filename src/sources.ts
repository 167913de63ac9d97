import { bankTransferHolds, bankTransferPostings, drawCounts, openTransferCounts } from "./bank/queries.ts";
import type { Sources } from "./ledger/verify.ts";
import { paymentPostings } from "./payment/queries.ts";
import { transferPostings } from "./transfer/queries.ts";
import { adjustmentPostings, savingsPostings } from "./wallet/queries.ts";

/** Everything that moves money, sets it aside, or counts it: VerifyBooks compares each row with the ledger. */
export const sources: Sources = {
  postings: [transferPostings, paymentPostings, adjustmentPostings, savingsPostings, bankTransferPostings],
  holds: [bankTransferHolds],
  counts: [drawCounts, openTransferCounts],
};
