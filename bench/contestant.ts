import { randomUUID } from "node:crypto";
import type { Order, Sender } from "../src/transfer/transfer.ts";
import type { People } from "./arena.ts";
import type { Load, Outcome } from "./drive.ts";
import type { Workload } from "./workloads.ts";

/** One way to move money. All of them write the same rows. */
export interface Contestant {
  /** How many calls it has open when it is to be as fast as it can. */
  inFlight: number;
  run(workload: Workload, load: Load): Promise<Outcome>;
  close(): Promise<void>;
}

export const MEMO = "점심값 보내요";

/** The next transfer of a workload, for those who are called in this process. */
export function nextTransfer({ accountIds, walletIds }: People, workload: Workload): { sender: Sender; order: Order } {
  const from = workload.sender();
  const to = workload.recipient(from);
  return {
    sender: { accountId: accountIds[from] as bigint, walletId: walletIds[from] as bigint },
    order: {
      idempotencyKey: randomUUID(),
      recipientWalletId: walletIds[to] as bigint,
      amount: 1n + BigInt(Math.floor(Math.random() * 1_000)),
      memo: MEMO,
    },
  };
}
