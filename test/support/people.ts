import { randomUUID } from "node:crypto";
import { AccountService, CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import { BankService } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { PaymentService } from "../../gen/chatpay/payment/v1/payment_pb.ts";
import { RequestService } from "../../gen/chatpay/transfer/v1/request_pb.ts";
import { ScheduleService } from "../../gen/chatpay/transfer/v1/schedule_pb.ts";
import { TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { unpackEvents } from "../../src/ledger/queries.ts";
import { verifyBooks } from "../../src/ledger/verify.ts";
import { sources } from "../../src/sources.ts";
import type { Waiting } from "../../src/transfer/waiting.ts";
import { adjustWallet } from "../../src/wallet/wallet.ts";
import { accountRow } from "./load.ts";
import type { Credential, Door, TestServer } from "./server.ts";

/** Somebody with a wallet, and the calls they make. */
export type Person = ReturnType<typeof personOf>;

const personOf = (server: TestServer, accountId: bigint, walletId: bigint, credential: Credential, door?: Door) => ({
  accountId,
  walletId: String(walletId),
  credential,
  accounts: server.client(AccountService, credential, door),
  wallets: server.client(WalletService, credential, door),
  transfers: server.client(TransferService, credential, door),
  requests: server.client(RequestService, credential, door),
  schedules: server.client(ScheduleService, credential, door),
  payments: server.client(PaymentService, credential, door),
  banks: server.client(BankService, credential, door),
});

/** The same person, calling another server. */
export const personAt = (server: TestServer, { accountId, walletId, credential }: Person): Person =>
  personOf(server, accountId, BigInt(walletId), credential);

/** Signs up with a code read from the inbox; calls with the access token. */
export async function signUp(server: TestServer, { balance = 0n, email = `${randomUUID()}@example.com` } = {}) {
  const code = await proveAddress(server, email, CodePurpose.SIGN_UP);
  const password = `pw-${randomUUID()}`;
  const { account, tokens } = await server
    .client(AccountService)
    .signUp({ email, code, password, displayName: "Somebody" });
  if (!account || !tokens) throw new Error("sign-up answered without account or tokens");
  const walletId = BigInt(account.mainWalletId);
  if (balance > 0n) await credit(server, walletId, balance);
  const person = personOf(server, BigInt(account.id), walletId, { bearer: tokens.accessToken });
  return { ...person, email, password, tokens };
}

/** Has a code sent to the address, and reads it in the inbox. */
export async function proveAddress(server: TestServer, email: string, purpose: CodePurpose): Promise<string> {
  const mailsOf = async () => {
    const answer = await fetch(`http://127.0.0.1:${server.inbox.httpPort}/mail?to=${encodeURIComponent(email)}`);
    return (await answer.json()) as { text: string }[];
  };
  const before = (await mailsOf()).length;
  await server.client(AccountService).sendCode({ email, purpose });
  for (let i = 0; i < 100; i += 1) {
    const mails = await mailsOf();
    const code = /\b[0-9]{6}\b/.exec(mails.length > before ? (mails[0]?.text ?? "") : "")?.[0];
    if (code) return code;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`no code came for ${email}`);
}

/** A wallet with its account, made without mail and password; the chat server acts for it. */
export async function openWallet(server: TestServer, options: { balance?: bigint; door?: Door } = {}): Promise<Person> {
  const [person] = await openWallets(server, 1, options);
  return person as Person;
}

/** Many of them at once. */
export async function openWallets(
  server: TestServer,
  count: number,
  { balance = 0n, door }: { balance?: bigint; door?: Door } = {},
): Promise<Person[]> {
  const { lane } = server.app;
  const opened = await lane.submitEach(
    Array.from({ length: count }, () => ({
      touches: {},
      decide(books: Parameters<Parameters<typeof lane.submit>[0]["decide"]>[0]) {
        const id = books.newId();
        const mainWalletId = books.newId();
        books.insert("account", accountRow(id, mainWalletId, books.now));
        books.openWallet({ id: mainWalletId, kind: 1, accountId: id });
        books.tell("account.opened", [id], { accountId: id, mainWalletId });
        return { id, mainWalletId };
      },
    })),
  );
  const people = opened.map(({ result, error }) => {
    if (!result) throw error;
    const { id, mainWalletId } = result.value;
    return personOf(server, id, mainWalletId, { bearer: server.keys.service, accountId: id }, door);
  });
  if (balance > 0n) await Promise.all(people.map(({ walletId }) => credit(server, BigInt(walletId), balance)));
  return people;
}

/** Money out of nowhere, as an operator gives it. */
const credit = (server: TestServer, walletId: bigint, amount: bigint) =>
  server.app.lane.submit(
    adjustWallet({ idempotencyKey: randomUUID(), walletId, amount, reason: "for a test", apiKeyId: 1n }),
  );

export async function openPartner(server: TestServer) {
  const operator = server.client(PaymentService, { bearer: server.keys.operator });
  const { partner } = await operator.createPartner({ idempotencyKey: randomUUID(), name: "Demo Shop" });
  if (!partner) throw new Error("no partner came back");
  const bearer = await server.makeKey("partner", BigInt(partner.id));
  return {
    partnerId: partner.id,
    walletId: partner.walletId,
    bearer,
    payments: server.client(PaymentService, { bearer }),
    wallets: server.client(WalletService, { bearer }),
  };
}

export async function balanceOf(person: Pick<Person, "wallets" | "walletId">): Promise<bigint> {
  const { wallet } = await person.wallets.getWallet({ walletId: person.walletId });
  if (!wallet) throw new Error("no wallet came back");
  return wallet.balance;
}

/** What closing reads of an account that has given nothing and was given nothing. */
export const NO_GIFTS: Waiting = { sent: [], received: [], more: false };

/** What the log tells of an account, in order. */
export async function eventsOf(
  { app }: Pick<TestServer, "app">,
  accountId: bigint,
): Promise<({ kind: string; accounts: string[] } & Record<string, unknown>)[]> {
  const batches = await app.db
    .selectFrom("ledgerBatch")
    .selectAll()
    .where("number", "is not", null)
    .orderBy("number")
    .execute();
  const events = batches.flatMap(
    (batch) => JSON.parse(unpackEvents(batch.events)) as Awaited<ReturnType<typeof eventsOf>>,
  );
  return events.filter(({ accounts }) => accounts.includes(String(accountId)));
}

/** What VerifyBooks finds wrong: nothing, if all is well. */
export async function differencesIn(databaseUrl: string): Promise<string[]> {
  const differences: string[] = [];
  let isReported = false;
  for await (const finding of verifyBooks(databaseUrl, sources)) {
    if (finding.kind === "difference") differences.push(`${finding.check}: ${finding.subject}: ${finding.message}`);
    if (finding.kind === "report") isReported = true;
  }
  return isReported ? differences : ["no report came"];
}
