import { afterAll, expect, test } from "vitest";
import { LiveBalance_Status } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { linkBank } from "./support/banks.ts";
import { openWallet } from "./support/people.ts";
import { startServer } from "./support/server.ts";

const server = await startServer();
afterAll(() => server.stop());

test("B1: a consent links the accounts that it names", async () => {
  const alice = await openWallet(server);

  const { bankAccount, citizen } = await linkBank(server, alice);

  expect(bankAccount).toMatchObject({ bankCode: "088", holderName: citizen.name, primary: true, canDraw: true });
  const { bankAccounts } = await alice.banks.listBankAccounts({ withBalances: true });
  expect(bankAccounts).toMatchObject([
    { id: bankAccount.id, liveBalance: { status: LiveBalance_Status.OK, balance: 1_000_000n } },
  ]);
});
