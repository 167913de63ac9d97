import { randomBytes, randomUUID } from "node:crypto";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { sql } from "kysely";
import { BankService, BankTransfer_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { kftcSettings, startKftc } from "../../sandbox/kftc/server.ts";
import { openAccount } from "../../src/account/account.ts";
import { addressOf } from "../../src/account/address.ts";
import { createKey } from "../../src/key/key.ts";
import { type Arena, openArena } from "../arena.ts";
import { proven, verifySeconds } from "../audit.ts";
import { openUnary } from "../contestants/chatpay.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, milliseconds, type Section, times } from "../report.ts";
import { workloadOf } from "../workloads.ts";

type Kftc = Awaited<ReturnType<typeof startKftc>>;

/** Transfers while banks owe answers, and what a transfer costs whose money comes from a bank. */
export async function banks({ services, settings, say }: Bench): Promise<Section> {
  const { pending, rounds, draws, measureMs } = settings.banks;
  const arena = await openArena(services, "bench_banks", settings.wallets);
  const hashSecret = randomBytes(32);
  const kftc = await startKftc({ port: 0 });
  const server = await openUnary(arena, settings, {
    ...kftcSettings(kftc.url),
    CHATPAY_HASH_SECRET: hashSecret.toString("hex"),
    CHATPAY_BANK_SECRET: randomBytes(32).toString("hex"),
    // What the bank has not said stays unknown for the whole run.
    CHATPAY_OPENBANKING_ABSENT_MS: "86400000",
  });
  try {
    const person = await openPerson(arena, kftc, hashSecret, server.connectPort);
    say(`drawing ${draws} times`);
    const drawn = await drawForEach(arena, kftc, person, draws);

    await loseAnswers(kftc, person, pending);
    const spread = workloadOf("spread", settings.wallets);
    const load = { inFlight: server.inFlight, warmupMs: settings.warmupMs, measureMs };
    const rows: { calm: number; owing: number }[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      await inquireAt(arena, "utc_timestamp(3) + interval 1 day");
      const calm = await proven(arena, () => server.run(spread, load));
      await inquireAt(arena, "utc_timestamp(3)");
      const owing = await proven(arena, () => server.run(spread, load));
      await provenAsked(arena);
      rows.push({ calm: calm.perSecond, owing: owing.perSecond });
      say(`round ${round}: ${count(calm.perSecond)}/s, with answers owing ${count(owing.perSecond)}/s`);
    }
    await verifySeconds(arena);

    const middle = (value: (row: (typeof rows)[number]) => number) => median(rows.map(value));
    return {
      title: "Banks",
      tables: [
        [
          ["transfers per second", "none unknown", `${count(pending)} unknown`],
          ["(d), spread", count(middle(({ calm }) => calm)), count(middle(({ owing }) => owing))],
        ],
        [
          ["one client, one call after the other", "with what is there", "drawn from the bank"],
          ["a transfer, p50", milliseconds(drawn.plainMs), milliseconds(drawn.drawnMs)],
          ["batches of the lane, each", count(drawn.plainBatches), count(drawn.drawnBatches)],
          ["calls that move money at the bank, each", "0", count(drawn.bankCalls)],
        ],
      ],
      goals: [
        {
          measure: `(d) while ${count(pending)} bank transfers are unknown ÷ none`,
          value: middle(({ calm, owing }) => owing / calm),
          must: 0.97,
          show: times,
        },
        {
          measure: "batches of the lane for an automatic top-up and its transfer",
          value: drawn.drawnBatches,
          lessIsBetter: true,
          must: 2,
          show: count,
        },
        {
          measure: "calls to the bank for an automatic top-up",
          value: drawn.bankCalls,
          lessIsBetter: true,
          must: 1,
          show: count,
        },
      ],
    };
  } finally {
    await server.close();
    await kftc.stop();
    await arena.close();
  }
}

interface BankPerson {
  walletId: bigint;
  banks: Client<typeof BankService>;
  transfers: Client<typeof TransferService>;
}

/** Somebody without money in the wallet and with much at a bank, from which it may be drawn. */
async function openPerson(arena: Arena, kftc: Kftc, hashSecret: Buffer, port: number): Promise<BankPerson> {
  const lane = arena.openLane();
  const address = addressOf(hashSecret, { email: `${randomUUID()}@example.com`, phone: "" });
  const { value: account } = await lane.submit(
    openAccount(address, { passwordHash: "", displayName: "Somebody", language: "ko" }),
  );
  await lane.close();
  const { key } = await createKey(arena, { kind: "service", name: "bench-banks" });
  const transport = createConnectTransport({
    baseUrl: `http://127.0.0.1:${port}`,
    httpVersion: "1.1",
    interceptors: [
      (next) => (call) => {
        call.header.set("authorization", `Bearer ${key}`);
        call.header.set("chatpay-account-id", `${account.id}`);
        return next(call);
      },
    ],
  });
  const client = createClient(BankService, transport);

  const citizen = await kftc.addCitizen({
    name: "김하늘",
    birthDate: "19900131",
    accounts: [{ bankCode: "088", balance: "1000000000" }],
  });
  const { consentUrl } = await client.startLink({});
  const { searchParams } = await kftc.consent(consentUrl, { citizen });
  const came = { state: searchParams.get("state") ?? "", code: searchParams.get("code") ?? "" };
  const { bankAccounts } = await client.finishLink(came);
  const bankAccountId = bankAccounts[0]?.id ?? "";
  await client.updateBankAccount({ bankAccountId, automaticTopUp: true, topUpUnit: 1n });
  return { walletId: account.mainWalletId, banks: client, transfers: createClient(TransferService, transport) };
}

/** Sends money that is there, and money that must come from the bank, in turns. */
async function drawForEach({ db, people }: Arena, kftc: Kftc, { banks: client, transfers }: BankPerson, draws: number) {
  const { bankAccounts } = await client.listBankAccounts({});
  const bankAccountId = bankAccounts[0]?.id ?? "";
  const headNumber = async () => (await db.selectFrom("ledgerHead").select("number").executeTakeFirstOrThrow()).number;
  const recipientWalletId = `${people.walletIds[0]}`;
  const send = async () => {
    const before = await headNumber();
    const beganMs = performance.now();
    await transfers.sendTransfer({ idempotencyKey: randomUUID(), recipientWalletId, amount: 10n });
    const tookMs = performance.now() - beganMs;
    return { tookMs, batches: Number((await headNumber()) - before) };
  };

  const plain: Awaited<ReturnType<typeof send>>[] = [];
  const drawn: Awaited<ReturnType<typeof send>>[] = [];
  let bankCalls = 0;
  for (let turn = 0; turn < draws; turn += 1) {
    await client.topUp({ idempotencyKey: randomUUID(), bankAccountId, amount: 10n });
    plain.push(await send());
    const before = (await kftc.books()).booked.length;
    drawn.push(await send());
    bankCalls = Math.max(bankCalls, (await kftc.books()).booked.length - before);
  }
  return {
    plainMs: median(plain.map(({ tookMs }) => tookMs)),
    drawnMs: median(drawn.map(({ tookMs }) => tookMs)),
    plainBatches: Math.max(...plain.map(({ batches }) => batches)),
    drawnBatches: Math.max(...drawn.map(({ batches }) => batches)),
    bankCalls,
  };
}

/** So many top-ups of which the bank says for ever that it works on them. */
async function loseAnswers(kftc: Kftc, { banks: client }: BankPerson, pending: number) {
  const { bankAccounts } = await client.listBankAccounts({});
  const bankAccountId = bankAccounts[0]?.id ?? "";
  await kftc.script({ kind: "processing", isNever: true, call: "withdraw", probability: 1 });
  for (let i = 0; i < pending; i += 1) {
    const { bankTransfer } = await client.topUp({ idempotencyKey: randomUUID(), bankAccountId, amount: 1n });
    if (bankTransfer?.state !== BankTransfer_State.UNKNOWN) throw new Error("a top-up is not unknown");
  }
}

/** Whatever is unknown is asked about at that time, as if it were so since a moment ago. */
async function inquireAt({ db }: Arena, moment: string) {
  await sql`
    update bank_transfer set due_time = ${sql.raw(moment)}, inquiries = 0, lease_owner = '', lease_until = null
    where state = ${BankTransfer_State.UNKNOWN}`.execute(db);
}

/** Throws unless the server has asked about some of them since: how many depends on what the transfers leave it. */
async function provenAsked({ db }: Arena) {
  const { asked } = await db
    .selectFrom("bankTransfer")
    .select(({ fn }) => fn.countAll<bigint>().as("asked"))
    .where("state", "=", BankTransfer_State.UNKNOWN)
    .where("inquiries", ">", 0)
    .executeTakeFirstOrThrow();
  if (asked === 0n) throw new Error("no bank transfer was asked about");
}
