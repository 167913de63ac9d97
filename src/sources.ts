import { bankTransferPostings } from "./bank/queries.ts";
import type { PostingSource } from "./ledger/verify.ts";
import { paymentPostings } from "./payment/queries.ts";
import { transferPostings } from "./transfer/queries.ts";
import { adjustmentPostings, savingsPostings } from "./wallet/queries.ts";

/** Everything that moves money: VerifyBooks compares each row with its posting. */
export const postingSources: PostingSource[] = [
  transferPostings,
  paymentPostings,
  adjustmentPostings,
  savingsPostings,
  bankTransferPostings,
];
