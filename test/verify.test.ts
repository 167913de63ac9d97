import { execFile } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import mysql from "mysql2/promise";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LedgerService, type VerifyBooksResponse } from "../gen/chatpay/ledger/v1/ledger_pb.ts";
import { Entry_Cause, Wallet_State } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { intendDraw, intendTopUp, intendWithdrawal, settle } from "../src/bank/commands.ts";
import type { BankTransferRow, HoldRow, PostingRow, Row, TransferRow } from "../src/db/schema.ts";
import type { Command } from "../src/ledger/command.ts";
import { chainHash, contentHash, digestOf, packEvents, postingText, unpackEvents } from "../src/ledger/queries.ts";
import { type Report, verifyBooks } from "../src/ledger/verify.ts";
import { approvePayment, createPartner } from "../src/payment/payment.ts";
import { sources } from "../src/sources.ts";
import { approved, bankAccountRow, bankRules, declined } from "./support/bankbooks.ts";
import { type Ledger, makeBooks, makeWallets, openLedger, pay } from "./support/load.ts";
import { differencesIn, openWallet } from "./support/people.ts";
import { startServer } from "./support/server.ts";

// Small books with one of everything: damage is done to them, found, and undone.

const TABLES = [
  "wallet",
  "hold",
  "posting",
  "ledger_batch",
  "ledger_head",
  "transfer",
  "adjustment",
  "payment",
  "bank_transfer",
  "allowance",
];

const databaseUrl = await makeBooks();
let ledger: Ledger;
let admin: mysql.Connection;
let alice: bigint;
let bob: bigint;
let shop: bigint;
let carol: bigint;
/** What carol had with her bank, by what became of it. */
let atBank: Record<"up" | "out" | "draw", Record<"done" | "failed" | "open", BankTransferRow>>;
/** What counts as drawn. */
let drawn: bigint;
let sent: TransferRow[];
let postings: PostingRow[];
let holds: HoldRow[];
let batches: Row<"ledgerBatch">[];

beforeAll(async () => {
  ledger = await openLedger(databaseUrl);
  admin = await mysql.createConnection({ uri: databaseUrl, multipleStatements: true });
  const { db, lane } = ledger;
  [carol] = await makeWallets(ledger, 1, { balance: 1_000n });
  await goToBank();
  [alice, bob] = await makeWallets(ledger, 2, { balance: 100n });
  sent = [];
  for (const amount of [5n, 6n, 7n]) sent.push((await lane.submit(pay({ from: alice, to: bob, amount }))).value);
  sent.push((await lane.submit(pay({ from: bob, to: alice, amount: 8n }))).value);
  const { value: partner } = await lane.submit(createPartner({ idempotencyKey: randomUUID(), name: "Demo Shop" }));
  shop = partner.walletId;
  const order = { orderKey: "1", items: [], amount: 9n };
  await lane.submit(approvePayment({ accountId: alice, walletId: alice }, partner, order));
  await lane.submit({
    touches: { wallet: [bob] },
    decide: (books) =>
      books.hold({
        wallet: bob,
        amount: 10n,
        because: { cause: Entry_Cause.TRANSFER, id: books.newId() },
        expireTime: books.now,
      }),
  });
  // Two postings in one batch.
  const both = await lane.submitEach([
    pay({ from: alice, to: bob, amount: 1n }),
    pay({ from: bob, to: shop, amount: 2n }),
  ]);
  sent.push(...both.flatMap(({ result }) => (result ? [result.value] : [])));
  postings = await db.selectFrom("posting").selectAll().orderBy("id").execute();
  holds = await db.selectFrom("hold").selectAll().execute();
  batches = await db.selectFrom("ledgerBatch").selectAll().orderBy("number").execute();
  for (const table of TABLES) await admin.query(`create table ${table}_kept as select * from ${table}`);
});

afterAll(async () => {
  await admin.end();
  await ledger.close();
});

/** One of everything that people have with banks. */
async function goToBank() {
  const { db, lane, newId } = ledger;
  const rules = bankRules();
  const owner = { accountId: carol, walletId: carol };
  const bankAccountId = newId();
  await lane.submit({
    touches: {},
    decide: (books) => books.insert("bankAccount", bankAccountRow(bankAccountId, carol, books.now)),
  });
  const idOf = async (command: Command<BankTransferRow | undefined>) => (await lane.submit(command)).value?.id ?? 0n;
  const order = (amount: bigint) => ({ idempotencyKey: randomUUID(), bankAccountId, amount });
  const topUp = (amount: bigint) => idOf(intendTopUp(rules, owner, order(amount)));
  const withdraw = (amount: bigint) => idOf(intendWithdrawal(rules, owner, order(amount)));
  /** Of so much more than there is. */
  const draw = async (amount: bigint) => {
    const { balance, held } = await db
      .selectFrom("wallet")
      .selectAll()
      .where("id", "=", carol)
      .executeTakeFirstOrThrow();
    const short = { amount: balance - held + amount, key: randomBytes(16), bankAccountId };
    return idOf(intendDraw(rules, owner, short));
  };
  const get = (id: bigint) => db.selectFrom("bankTransfer").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  const threeOf = async (begin: (amount: bigint) => Promise<bigint>, amount: bigint) => {
    const done = await get(await begin(amount));
    await lane.submit(settle(done, approved(done.amount)));
    const failed = await get(await begin(amount + 1n));
    await lane.submit(settle(failed, declined));
    return { done: await get(done.id), failed: await get(failed.id), open: await get(await begin(amount + 2n)) };
  };
  atBank = { up: await threeOf(topUp, 500n), out: await threeOf(withdraw, 30n), draw: await threeOf(draw, 70n) };
  await db.updateTable("bankTransfer").set({ state: 4 }).where("id", "=", atBank.out.open.id).execute();
  const { up, draw: draws } = atBank;
  drawn = up.done.amount + up.open.amount + draws.done.amount + draws.open.amount;
}

/** The posting of the n-th transfer. */
const postingOf = (n: number) => postings.find(({ causeId }) => causeId === sent[n]?.id) as PostingRow;
const batchOf = (n: number) => batches.find(({ id }) => id === postingOf(n).batchId) as Row<"ledgerBatch">;
/** The posting of what was done with the bank. */
const bankPosting = (kind: keyof typeof atBank) =>
  postings.find(({ causeId }) => causeId === atBank[kind].done.id)?.id ?? 0n;
/** What is set aside for what is open. */
const heldFor = (kind: "out" | "draw") => holds.find(({ id }) => id === atBank[kind].open.holdId)?.remaining ?? 0n;
const TAMPERED = "the hash does not fit: the batch or the one before was changed";

/** What is done to the books, and every difference that must be found, no other. */
const damages: [what: string, sql: () => string, differences: () => string[]][] = [
  [
    "a balance is changed",
    () => `update wallet set balance = balance + 1 where id = ${alice}`,
    () => [
      `wallets: wallet ${alice}: says balance 81, the entries make 80`,
      `totals: KRW: all balances together make 1, not 0`,
    ],
  ],
  [
    "what is held is changed",
    () => `update wallet set held = held + 1 where id = ${bob}`,
    () => [`wallets: wallet ${bob}: says held 11, the open holds make 10`],
  ],
  [
    "what a hold still sets aside is changed",
    () => `update hold set remaining = remaining - 1 where wallet_id = ${bob}`,
    () => [`wallets: wallet ${bob}: says held 10, the open holds make 9`],
  ],
  [
    "a hold is deleted",
    () => `delete from hold where wallet_id = ${bob}`,
    () => [`wallets: wallet ${bob}: says held 10, the open holds make 0`],
  ],
  [
    "a hold is put in for a wallet that is not there",
    () =>
      `insert into hold select id + 1, ${2n ** 62n}, amount, remaining, cause, cause_id, create_time, expire_time from hold
       where wallet_id = ${bob}`,
    () => [`wallets: wallet ${2n ** 62n}: is not there, but holds of 10 are`],
  ],
  [
    "the number of a wallet's entries is changed",
    () => `update wallet set sequence = sequence + 1 where id = ${alice}`,
    () => [`wallets: wallet ${alice}: says 8 entries, 7 are there`],
  ],
  [
    "money is moved between two wallets behind the books",
    () => `update wallet set balance = balance + if(id = ${alice}, 1, -1) where id in (${alice}, ${bob})`,
    () => [
      `wallets: wallet ${alice}: says balance 81, the entries make 80`,
      `wallets: wallet ${bob}: says balance 108, the entries make 109`,
    ],
  ],
  [
    "a wallet with money is closed",
    () => `update wallet set state = ${Wallet_State.CLOSED} where id = ${bob}`,
    () => [`wallets: wallet ${bob}: is closed with balance 109 and held 10`],
  ],
  [
    "a wallet is deleted",
    () => `delete from wallet where id = ${shop}`,
    () => [
      `wallets: wallet ${shop}: is not there, but its entry 1 is`,
      `wallets: wallet ${shop}: is not there, but its entry 2 is`,
      `totals: KRW: all balances together make -11, not 0`,
    ],
  ],
  [
    "a posting is deleted",
    () => `delete from posting where id = ${postingOf(1).id}`,
    () => [
      `batches: batch ${batchOf(1).number}: says 1 postings, 0 are there`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `causes: transfer ${sent[1]?.id}: moved no money`,
      `wallets: wallet ${alice}: has entry 4 where 3 should be`,
      `wallets: wallet ${alice}: entry 4 says balance 82, the entries make 88`,
      `wallets: wallet ${bob}: has entry 4 where 3 should be`,
      `wallets: wallet ${bob}: entry 4 says balance 118, the entries make 112`,
    ],
  ],
  [
    "the amount of a posting is changed",
    () => `update posting set amount = amount + 1 where id = ${postingOf(1).id}`,
    () => [
      `causes: posting ${postingOf(1).id}: differs from its transfer ${sent[1]?.id} in wallets or amount`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `wallets: wallet ${alice}: entry 3 says balance 89, the entries make 88`,
      `wallets: wallet ${bob}: entry 3 says balance 111, the entries make 112`,
    ],
  ],
  [
    "a posting and its transfer are changed alike",
    () =>
      `update posting set amount = amount + 1 where id = ${postingOf(1).id};
       update transfer set amount = amount + 1 where id = ${sent[1]?.id}`,
    () => [
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `wallets: wallet ${alice}: entry 3 says balance 89, the entries make 88`,
      `wallets: wallet ${bob}: entry 3 says balance 111, the entries make 112`,
    ],
  ],
  [
    "the balance after a posting is changed",
    () => `update posting set debit_balance = debit_balance + 1 where id = ${postingOf(2).id}`,
    () => [
      `batches: batch ${batchOf(2).number}: ${TAMPERED}`,
      `wallets: wallet ${alice}: entry 4 says balance 83, the entries make 82`,
      `wallets: wallet ${alice}: entry 5 says balance 90, the entries make 91`,
    ],
  ],
  [
    "debit and credit of a posting are swapped",
    () =>
      `update posting set debit_wallet_id = credit_wallet_id, credit_wallet_id = ${postingOf(1).debitWalletId},
       debit_sequence = 1000, credit_sequence = 1000 where id = ${postingOf(1).id}`,
    () => [
      `causes: posting ${postingOf(1).id}: differs from its transfer ${sent[1]?.id} in wallets or amount`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `wallets: wallet ${alice}: has entry 4 where 3 should be`,
      `wallets: wallet ${alice}: entry 4 says balance 82, the entries make 88`,
      `wallets: wallet ${alice}: has entry 1000 where 8 should be`,
      `wallets: wallet ${alice}: entry 1000 says balance 111, the entries make 86`,
      `wallets: wallet ${alice}: entry 1000 is earlier than the one before`,
      `wallets: wallet ${alice}: says 7 entries, 1000 are there`,
      `wallets: wallet ${alice}: says balance 80, the entries make 111`,
      `wallets: wallet ${bob}: has entry 4 where 3 should be`,
      `wallets: wallet ${bob}: entry 4 says balance 118, the entries make 112`,
      `wallets: wallet ${bob}: has entry 1000 where 8 should be`,
      `wallets: wallet ${bob}: entry 1000 says balance 89, the entries make 103`,
      `wallets: wallet ${bob}: entry 1000 is earlier than the one before`,
      `wallets: wallet ${bob}: says 7 entries, 1000 are there`,
      `wallets: wallet ${bob}: says balance 109, the entries make 89`,
    ],
  ],
  [
    "a sequence has a gap",
    () => `update posting set debit_sequence = 100 where id = ${postingOf(4).id};
           update wallet set sequence = 100 where id = ${alice}`,
    () => [
      `batches: batch ${batchOf(4).number}: ${TAMPERED}`,
      `wallets: wallet ${alice}: has entry 100 where 7 should be`,
    ],
  ],
  [
    "time runs backwards in a wallet",
    () => `update posting set create_time = create_time - interval 1 day where id = ${postingOf(2).id}`,
    () => [
      `batches: batch ${batchOf(2).number}: ${TAMPERED}`,
      `wallets: wallet ${alice}: entry 4 is earlier than the one before`,
      `wallets: wallet ${bob}: entry 4 is earlier than the one before`,
    ],
  ],
  [
    "a posting is put into another batch",
    () => `update posting set batch_id = ${batchOf(0).id} where id = ${postingOf(1).id}`,
    () => [
      `batches: posting ${postingOf(1).id}: its batch ${batchOf(0).id} is not there, or has all its postings`,
      `batches: batch ${batchOf(1).number}: says 1 postings, 0 are there`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
    ],
  ],
  [
    "a posting has a cause that nobody knows",
    () => `update posting set cause = 99 where id = ${postingOf(1).id}`,
    () => [
      `causes: posting ${postingOf(1).id}: cause 99 is not known`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `causes: transfer ${sent[1]?.id}: moved no money`,
    ],
  ],
  [
    "two postings have the same cause",
    () => `update posting set cause_id = ${sent[1]?.id} where id = ${postingOf(2).id}`,
    () => [
      `causes: posting ${postingOf(2).id}: its transfer ${sent[1]?.id} is not there, or was posted before`,
      `batches: batch ${batchOf(2).number}: ${TAMPERED}`,
      `causes: transfer ${sent[2]?.id}: moved no money`,
    ],
  ],
  [
    "a transfer is put in that moved nothing",
    () =>
      `insert into transfer select id + 1, sender_wallet_id, recipient_wallet_id, amount, currency, memo, state,
       unhex(repeat('ab', 16)), create_time from transfer where id = ${sent[0]?.id}`,
    () => [`causes: transfer ${(sent[0]?.id ?? 0n) + 1n}: moved no money`],
  ],
  [
    "a transfer is deleted",
    () => `delete from transfer where id = ${sent[1]?.id}`,
    () => [`causes: posting ${postingOf(1).id}: its transfer ${sent[1]?.id} is not there, or was posted before`],
  ],
  [
    "a payment is changed",
    () => `update payment set amount = amount + 1`,
    () => [expect.stringMatching(/^causes: posting \d+: differs from its payment \d+ in wallets or amount$/)],
  ],
  [
    "an adjustment is turned round",
    () => `update adjustment set amount = -amount where wallet_id = ${bob}`,
    () => [expect.stringMatching(/^causes: posting \d+: differs from its adjustment \d+ in wallets or amount$/)],
  ],
  [
    "the events of a batch are changed",
    () =>
      `update ledger_batch set events = replace(events, 'transfer', 'transfoo') where number = ${batchOf(1).number}`,
    () => [`batches: batch ${batchOf(1).number}: ${TAMPERED}`],
  ],
  [
    "the events of a batch are destroyed",
    () => `update ledger_batch set events = 'x' where number = ${batchOf(1).number}`,
    () => [
      `batches: batch ${batchOf(1).number}: says 1 events, unreadable ones are there`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
    ],
  ],
  [
    "the number of events of a batch is changed",
    () => `update ledger_batch set event_count = 2 where number = ${batchOf(1).number}`,
    () => [
      `batches: batch ${batchOf(1).number}: says 2 events, 1 are there`,
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `batches: batch ${batchOf(1).number}: ends at position ${batchOf(1).lastPosition}, not ${batchOf(1).lastPosition + 1n}`,
    ],
  ],
  [
    "the position of a batch is changed",
    () => `update ledger_batch set last_position = last_position + 1 where number = ${batchOf(1).number}`,
    () => [
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `batches: batch ${batchOf(1).number}: ends at position ${batchOf(1).lastPosition + 1n}, not ${batchOf(1).lastPosition}`,
      `batches: batch ${batchOf(2).number}: ends at position ${batchOf(2).lastPosition}, not ${batchOf(2).lastPosition + 1n}`,
    ],
  ],
  [
    "the time of a batch is changed",
    () => `update ledger_batch set create_time = create_time + interval 1 second where number = ${batchOf(1).number}`,
    () => [`batches: batch ${batchOf(1).number}: ${TAMPERED}`],
  ],
  [
    "the hash of a batch is changed",
    () => `update ledger_batch set hash = unhex(repeat('11', 32)) where number = ${batchOf(1).number}`,
    () => [`batches: batch ${batchOf(1).number}: ${TAMPERED}`, `batches: batch ${batchOf(2).number}: ${TAMPERED}`],
  ],
  [
    "a batch is deleted",
    () => `delete from ledger_batch where number = ${batchOf(1).number}`,
    () => [
      `batches: posting ${postingOf(1).id}: its batch ${batchOf(1).id} is not there, or has all its postings`,
      `batches: batch ${batchOf(1).number}: missing; the next is ${batchOf(2).number}`,
    ],
  ],
  [
    "two batches change places",
    () =>
      `update ledger_batch set number = -1 where number = ${batchOf(1).number};
       update ledger_batch set number = ${batchOf(1).number} where number = ${batchOf(2).number};
       update ledger_batch set number = ${batchOf(2).number} where number = -1`,
    () => [
      `batches: batch ${batchOf(1).number}: ${TAMPERED}`,
      `batches: batch ${batchOf(1).number}: ends at position ${batchOf(2).lastPosition}, not ${batchOf(1).lastPosition}`,
      `batches: batch ${batchOf(2).number}: ${TAMPERED}`,
      `batches: batch ${batchOf(2).number}: ends at position ${batchOf(1).lastPosition}, not ${batchOf(2).lastPosition + 1n}`,
      `batches: batch ${batchOf(3).number}: ${TAMPERED}`,
      `batches: batch ${batchOf(3).number}: ends at position ${batchOf(3).lastPosition}, not ${batchOf(1).lastPosition + 1n}`,
    ],
  ],
  [
    "a batch is made into a tombstone",
    () => `update ledger_batch set number = null where number = ${batchOf(1).number}`,
    () => [
      `batches: posting ${postingOf(1).id}: its batch ${batchOf(1).id} is not there, or has all its postings`,
      `batches: batch ${batchOf(1).number}: missing; the next is ${batchOf(2).number}`,
    ],
  ],
  [
    "the last batch and all it did are taken away",
    () =>
      `delete from ledger_batch where number = ${batchOf(4).number};
       delete from posting where batch_id = ${batchOf(4).id};
       delete from transfer where id in (${sent[4]?.id}, ${sent[5]?.id});
       update wallet set balance = balance + 1, sequence = sequence - 1 where id = ${alice};
       update wallet set balance = balance + 1, sequence = sequence - 2 where id = ${bob};
       update wallet set balance = balance - 2, sequence = sequence - 1 where id = ${shop}`,
    () => [
      `batches: head: says batch ${batchOf(4).number} at position ${batchOf(4).lastPosition}; the log ends with batch ${
        (batchOf(4).number ?? 0n) - 1n
      } at position ${batchOf(4).lastPosition - 2n}`,
    ],
  ],
  [
    "a hold outlives its end by days",
    () => `update hold set expire_time = expire_time - interval 2 day where wallet_id = ${bob}`,
    () => [expect.stringMatching(/^holds: hold \d+: sets 10 aside, more than a day after it expired$/)],
  ],
  [
    "what a bank drew or paid is changed",
    () =>
      `update bank_transfer set amount = amount + 1 where id in (${atBank.up.done.id}, ${atBank.out.done.id}, ${atBank.draw.done.id})`,
    () => [
      `causes: posting ${bankPosting("up")}: differs from its bank transfer ${atBank.up.done.id} in wallets or amount`,
      `causes: posting ${bankPosting("out")}: differs from its bank transfer ${atBank.out.done.id} in wallets or amount`,
      `causes: posting ${bankPosting("draw")}: differs from its bank transfer ${atBank.draw.done.id} in wallets or amount`,
      `holds: hold ${atBank.out.done.holdId}: differs from its bank transfer ${atBank.out.done.id} in hold, wallet or amount`,
      `counts: wallet ${carol}: says ${drawn} drawn on its day, the bank transfers make ${drawn + 2n}`,
    ],
  ],
  [
    "what a bank drew is called paid",
    () => `update bank_transfer set kind = 3 where id = ${atBank.up.done.id}`,
    () => [
      `causes: posting ${bankPosting("up")}: differs from its bank transfer ${atBank.up.done.id} in wallets or amount`,
      `holds: bank transfer ${atBank.up.done.id}: has no hold`,
      `counts: wallet ${carol}: says ${drawn} drawn on its day, the bank transfers make ${drawn - atBank.up.done.amount}`,
    ],
  ],
  [
    "what succeeded is called failed",
    () => `update bank_transfer set state = 3 where id in (${atBank.up.done.id}, ${atBank.out.done.id})`,
    () => [
      `causes: posting ${bankPosting("up")}: its bank transfer ${atBank.up.done.id} is not there, or was posted before`,
      `causes: posting ${bankPosting("out")}: its bank transfer ${atBank.out.done.id} is not there, or was posted before`,
      `counts: wallet ${carol}: says ${drawn} drawn on its day, the bank transfers make ${drawn - atBank.up.done.amount}`,
    ],
  ],
  [
    "what failed is called succeeded",
    () => `update bank_transfer set state = 2 where id in (${atBank.up.failed.id}, ${atBank.out.failed.id})`,
    () => [
      `causes: bank transfer ${atBank.up.failed.id}: moved no money`,
      `causes: bank transfer ${atBank.out.failed.id}: moved no money`,
      `counts: wallet ${carol}: says ${drawn} drawn on its day, the bank transfers make ${drawn + atBank.up.failed.amount}`,
    ],
  ],
  [
    "what is under way is called failed",
    () => `update bank_transfer set state = 3 where id in (${atBank.out.open.id}, ${atBank.draw.open.id})`,
    () => [
      ...(["out", "draw"] as const).map(
        (kind) =>
          `holds: hold ${atBank[kind].open.holdId}: sets ${heldFor(kind)} aside where its bank transfer ${atBank[kind].open.id} needs 0`,
      ),
      `counts: wallet ${carol}: says ${drawn} drawn on its day, the bank transfers make ${drawn - atBank.draw.open.amount}`,
      `counts: wallet ${carol}: says 3 under way, the bank transfers make 1`,
    ],
  ],
  [
    "what is set aside for what is under way is given back",
    () =>
      `update hold set remaining = 0 where id in (${atBank.out.open.holdId}, ${atBank.draw.open.holdId});
       update wallet set held = 0 where id = ${carol}`,
    () =>
      (["out", "draw"] as const).map(
        (kind) =>
          `holds: hold ${atBank[kind].open.holdId}: sets 0 aside where its bank transfer ${atBank[kind].open.id} needs ${heldFor(kind)}`,
      ),
  ],
  [
    "less is set aside than is under way to a bank",
    () =>
      `update hold set amount = amount - 1, remaining = remaining - 1 where id = ${atBank.out.open.holdId};
       update wallet set held = held - 1 where id = ${carol}`,
    () => [
      `holds: hold ${atBank.out.open.holdId}: differs from its bank transfer ${atBank.out.open.id} in hold, wallet or amount`,
      `holds: hold ${atBank.out.open.holdId}: sets 31 aside where its bank transfer ${atBank.out.open.id} needs 32`,
    ],
  ],
  [
    "what is set aside for what has ended is not given back",
    () => `update hold set remaining = amount where id = ${atBank.out.failed.holdId}`,
    () => [
      `wallets: wallet ${carol}: says held ${heldFor("out") + heldFor("draw")}, the open holds make ${
        heldFor("out") + heldFor("draw") + 31n
      }`,
      `holds: hold ${atBank.out.failed.holdId}: sets 31 aside where its bank transfer ${atBank.out.failed.id} needs 0`,
    ],
  ],
  [
    "money on its way to a bank has nothing set aside",
    () =>
      `delete from hold where id = ${atBank.out.open.holdId};
       update wallet set held = held - 32 where id = ${carol}`,
    () => [`holds: bank transfer ${atBank.out.open.id}: has no hold`],
  ],
  [
    "money on its way to a bank does not know what is set aside for it",
    () => `update bank_transfer set hold_id = null where id = ${atBank.out.open.id}`,
    () => [
      `holds: hold ${atBank.out.open.holdId}: differs from its bank transfer ${atBank.out.open.id} in hold, wallet or amount`,
    ],
  ],
  [
    "the bank transfer is deleted for which money is set aside",
    () => `delete from bank_transfer where id = ${atBank.out.open.id}`,
    () => [
      `holds: hold ${atBank.out.open.holdId}: its bank transfer ${atBank.out.open.id} is not there, or has another hold`,
      `counts: wallet ${carol}: says 3 under way, the bank transfers make 2`,
    ],
  ],
  [
    "what was drawn from banks is forgotten",
    () => `update allowance set drawn = 0, bank_transfers = 0`,
    () => [
      `counts: wallet ${carol}: says 0 drawn on its day, the bank transfers make ${drawn}`,
      `counts: wallet ${carol}: says 0 under way, the bank transfers make 3`,
    ],
  ],
  [
    "the head is changed",
    () => `update ledger_head set position = position + 1`,
    () => [
      `batches: head: says batch ${batchOf(4).number} at position ${batchOf(4).lastPosition + 1n}; the log ends with batch ${
        batchOf(4).number
      } at position ${batchOf(4).lastPosition}`,
    ],
  ],
];

test("the books are right before anything is done to them", async () => {
  expect(await differencesIn(databaseUrl)).toEqual([]);
  expect(await reportOf(databaseUrl)).toMatchObject({
    clean: true,
    walletCount: 6,
    postingCount: postings.length,
    batchCount: batches.length,
    position: batches.at(-1)?.lastPosition,
  });
});

test.for(damages)("VerifyBooks finds it, and where it is, when %s", async ([, sql, differences]) => {
  await admin.query(sql());

  const found = await differencesIn(databaseUrl);

  await admin.query(TABLES.map((t) => `delete from ${t}; insert into ${t} select * from ${t}_kept`).join(";"));
  expect(found.sort()).toEqual(differences().sort());
});

async function reportOf(url: string): Promise<Report> {
  for await (const finding of verifyBooks(url, sources)) if (finding.kind === "report") return finding;
  throw new Error("VerifyBooks ended without a report");
}

test("many differences are counted, and the first thousand told", async () => {
  const books = await makeBooks();
  const own = await openLedger(books);
  await makeWallets<number>(own, 1_005);
  await own.db.updateTable("wallet").set({ sequence: 1n }).where("kind", "=", 1).execute();

  expect((await differencesIn(books)).length).toBe(1_000);
  expect(await reportOf(books)).toMatchObject({ clean: false, differenceCount: 1_005 });
  await own.close();
});

test("a process that is idle for long raises no alarm", async () => {
  const books = await makeBooks();
  const [idle, busy] = [await openLedger(books), await openLedger(books)];
  await makeWallets(idle, 1);
  // As many batches as a busy process writes in a minute, written here at once.
  await writeEmptyBatches(busy, 10_100);

  expect(await differencesIn(books)).toEqual([]);
  await Promise.all([idle.close(), busy.close()]);
});

/** Batches of one event each, without the lane. */
async function writeEmptyBatches({ db, newId }: Ledger, count: number) {
  const head = await db.selectFrom("ledgerHead").selectAll().executeTakeFirstOrThrow();
  const rows = Array.from({ length: count }, () => {
    head.number += 1n;
    head.position += 1n;
    const batch = {
      id: newId(),
      number: head.number,
      lastPosition: head.position,
      eventCount: 1,
      postingCount: 0,
      events: Buffer.from('[{"kind":"test"}]'),
      hash: head.hash,
      createTime: new Date(),
    };
    head.hash = chainHash(head.hash, contentHash(batch, digestOf([]), '[{"kind":"test"}]'));
    batch.hash = head.hash;
    return batch;
  });
  for (let i = 0; i < rows.length; i += 1_000)
    await db
      .insertInto("ledgerBatch")
      .values(rows.slice(i, i + 1_000))
      .execute();
  await db.updateTable("ledgerHead").set(head).execute();
}

test("no alarm is raised while two processes move money", async () => {
  const books = await makeBooks();
  const ledgers = await Promise.all([openLedger(books), openLedger(books)]);
  const wallets = await makeWallets(ledgers[0], 20, { balance: 1_000n });
  let done = false;
  const load = ledgers.map(async ({ lane }, l) => {
    for (let i = 0; !done; i += 1) {
      const from = wallets[(i + l) % 20] as bigint;
      const to = wallets[(i * 7 + l + 1) % 20] as bigint;
      await lane.submitEach(
        from === to ? [] : [pay({ from, to, amount: 1n }), pay({ from: to, to: from, amount: 2n })],
      );
    }
  });

  const positions: bigint[] = [];
  for (let i = 0; i < 8; i += 1) {
    const report = await reportOf(books);
    expect(report).toMatchObject({ clean: true, differenceCount: 0 });
    positions.push(report.position);
  }
  done = true;
  await Promise.all(load);

  expect(new Set(positions).size).toBeGreaterThan(1);
  await Promise.all(ledgers.map((each) => each.close()));
});

// The format of the chain is stored for ever: if one of these changes, every older batch looks tampered with.

test("what is hashed of a batch stays as it is", () => {
  const posting: PostingRow = {
    id: 4_611_686_018_427_387_905n,
    batchId: 4_611_686_018_427_387_904n,
    debitWalletId: 1n,
    debitSequence: 2n,
    debitBalance: -3n,
    creditWalletId: 4n,
    creditSequence: 5n,
    creditBalance: 9_223_372_036_854_775_807n,
    amount: 7n,
    cause: 1,
    causeId: 8n,
    createTime: new Date("2026-11-21T01:02:03.004Z"),
  };
  const batch = {
    id: posting.batchId,
    number: 9n,
    lastPosition: 10n,
    eventCount: 2,
    postingCount: 2,
    createTime: posting.createTime,
  };
  const events = '[{"kind":"a","accounts":["1"]},{"kind":"b","accounts":[],"memo":"점심"}]';

  const text = postingText(posting);
  const digest = digestOf([text, postingText({ ...posting, id: posting.id + 1n })]);
  const content = contentHash(batch, digest, events);

  expect(text).toBe(
    "(4611686018427387905,4611686018427387904,1,2,-3,4,5,9223372036854775807,7,1,8,'2026-11-21 01:02:03.004')",
  );
  expect(digest.toString("hex")).toBe("bf7e47f6d0e84b06a41d7132ef7be0aff57e2ebf375ade7fef2fd30734a41203");
  expect(content.toString("hex")).toBe("b7e6267b5125a97ada2122c79b6888238fdacf434e378191e694bb41ac5bb43c");
  expect(chainHash(Buffer.alloc(32, 1), content).toString("hex")).toBe(
    "2c33c21a63f5d6fde002ddce8ce44018dee81e8a7d4651949872f019d1c32554",
  );
});

test("events are stored as they are, or compressed when they are many", () => {
  const few = '[{"kind":"a"}]';
  const many = `[${Array.from({ length: 200 }, (_, i) => `{"kind":"a","id":"${i}"}`).join(",")}]`;

  expect(packEvents(few).toString()).toBe(few);
  expect(packEvents(many).length).toBeLessThan(many.length / 2);
  expect([few, many].map((events) => unpackEvents(packEvents(events)))).toEqual([few, many]);
});

// The ways to ask.

const chatpay = (...args: string[]) =>
  new Promise<{ code: number | string; out: string }>((resolve) => {
    const program = join(import.meta.dirname, "../bin/chatpay");
    const env = { ...process.env, DATABASE_URL: databaseUrl };
    execFile(program, args, { env }, (error, stdout) => resolve({ code: error?.code ?? 0, out: stdout }));
  });

test("chatpay verify ends with 0 when the books are right, and with 1 when they are not", async () => {
  const right = await chatpay("verify");
  await admin.query(`update wallet set balance = balance + 1 where id = ${alice}`);
  const wrong = await chatpay("verify", "--json");
  await admin.query(`update wallet set balance = balance - 1 where id = ${alice}`);

  expect(right).toEqual({ code: 0, out: expect.stringMatching(/^6 wallets, \d+ postings.*\nthe books are right\n$/) });
  expect(wrong.code).toBe(1);
  const lines = wrong.out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines.filter(({ kind }) => kind === "difference")).toEqual([
    {
      kind: "difference",
      check: "wallets",
      subject: `wallet ${alice}`,
      message: "says balance 81, the entries make 80",
    },
    { kind: "difference", check: "totals", subject: "KRW", message: "all balances together make 1, not 0" },
  ]);
  expect(lines.at(-1)).toMatchObject({ kind: "report", clean: false, differenceCount: 2 });
});

test("an operator, and nobody else, asks for it through both doors", async () => {
  const server = await startServer({ DATABASE_URL: databaseUrl });
  const person = await openWallet(server);
  await admin.query(`update wallet set held = held + 1 where id = ${bob}`);

  for (const door of ["connect", "grpc"] as const) {
    const responses: VerifyBooksResponse[] = [];
    const { verifyBooks: verify } = server.client(LedgerService, { bearer: server.keys.operator }, door);
    for await (const response of verify({})) responses.push(response);
    const refused = Array.fromAsync(server.client(LedgerService, person.credential, door).verifyBooks({}));

    const events = responses.map(({ event }) => event);
    expect(new Set(events.map(({ case: is }) => is))).toEqual(new Set(["progress", "difference", "report"]));
    expect(events.filter(({ case: is }) => is === "difference").map(({ value }) => value)).toMatchObject([
      { check: "wallets", subject: `wallet ${bob}`, message: "says held 11, the open holds make 10" },
    ]);
    expect(events.at(-1)).toMatchObject({ case: "report", value: { clean: false, differenceCount: 1n } });
    await expect(refused).rejects.toSatisfy((error) => ConnectError.from(error).code === Code.PermissionDenied);
  }

  await admin.query(`update wallet set held = held - 1 where id = ${bob}`);
  await server.stop();
});
