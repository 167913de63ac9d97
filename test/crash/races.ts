import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { Account_State, AccountService } from "../../gen/chatpay/account/v1/account_pb.ts";
import { Transfer_State, TransferService } from "../../gen/chatpay/transfer/v1/transfer_pb.ts";
import { type GiftRow, HOUSE } from "../../src/db/schema.ts";
import { unpackEvents } from "../../src/ledger/queries.ts";
import { expireGift, sendGift } from "../../src/transfer/gift.ts";
import { findGift } from "../../src/transfer/queries.ts";
import { balancesOf, chooseSeed, randomOf } from "../support/load.ts";
import { differencesIn, openWallets, type Person } from "../support/people.ts";
import { outcomeOf } from "../support/rpcs.ts";
import { makeDatabase, startServer, type TestServer } from "../support/server.ts";

/** A gift that two want to end at once, each at a server of its own. */
interface Round {
  alice: Person;
  bob: Person;
  gift: GiftRow;
}

// One connection to each server, as a chat server has: thousands of people would need too many.
const transfers = (at: TestServer) => at.client(TransferService, { bearer: at.keys.service });
const accounts = (at: TestServer) => at.client(AccountService, { bearer: at.keys.service });
const as = ({ accountId }: Person) => ({ headers: { "chatpay-account-id": String(accountId) } });

/** Everything that ends a gift, or changes whose it is. */
const ENDS = {
  accept: (at, { bob, gift }) => transfers(at).acceptGift({ transferId: String(gift.id) }, as(bob)),
  decline: (at, { bob, gift }) => transfers(at).declineGift({ transferId: String(gift.id) }, as(bob)),
  cancel: (at, { alice, gift }) => transfers(at).cancelGift({ transferId: String(gift.id) }, as(alice)),
  expire: (at, { gift }) => expire(at, gift.id),
  "hand over": (at, { alice }) => accounts(at).closeAccount({ handOverGifts: true }, as(alice)),
  return: (at, { bob }) => accounts(at).closeAccount({ returnReceipts: true }, as(bob)),
} satisfies Record<string, (at: TestServer, round: Round) => Promise<unknown>>;
type End = keyof typeof ENDS;

/** Every two of them, and each against itself. */
export const PAIRS: [End, End][] = (Object.keys(ENDS) as End[]).flatMap((one, i, all) =>
  all.slice(i).map((other): [End, End] => [one, other]),
);

const AMOUNT = 100n;
/** Rounds at a time. */
const TOGETHER = 25;
/** What comes second begins so much later at most; around the time of a gift both begin so much before it. */
const APART_MS = 3;
const BEFORE_MS = 6;
/** For how long a gift may be accepted whose time comes in the race. */
const BRIEF_MS = 250;
const LONG_MS = 3_600_000;

/** What refuses whoever is second. */
const REFUSALS = [
  "FailedPrecondition TRANSFER_ENDED",
  "FailedPrecondition ACCOUNT_NOT_SETTLED",
  // Nobody cancels what the house has.
  "NotFound TRANSFER_NOT_FOUND",
  // The account had closed before it was looked whose call it is.
  "NotFound ACCOUNT_NOT_FOUND",
];

/** As the job does. */
async function expire({ app }: TestServer, id: bigint): Promise<void> {
  const gift = await findGift(app.db, id);
  if (!gift) throw new Error(`gift ${id} is not there`);
  await app.lane.submit(expireGift(gift));
}

export type Races = Awaited<ReturnType<typeof openRaces>>;

/** Two servers on one database, as two processes would be. No job runs in them but what a race does. */
export async function openRaces() {
  const shared = {
    DATABASE_URL: await makeDatabase(),
    CHATPAY_ROLES: "account,money",
    CHATPAY_HASH_SECRET: randomBytes(32).toString("hex"),
    CHATPAY_TOKEN_SECRET: randomBytes(32).toString("hex"),
  };
  const servers = [await startServer(shared), await startServer(shared)] as const;
  const random = randomOf(chooseSeed("races of gifts"));
  const { db, lane } = servers[0].app;
  const seen = new Map<End, number>();

  /** Alice has nothing but what she gave to Bob. */
  async function openRound([alice, bob]: Person[], expireAfterMs: number): Promise<Round> {
    if (!alice || !bob) throw new Error("nobody there");
    const order = { idempotencyKey: randomUUID(), recipientWalletId: BigInt(bob.walletId), amount: AMOUNT, memo: "" };
    const sender = { accountId: alice.accountId, walletId: BigInt(alice.walletId) };
    const rules = { limits: undefined, remindBeforeMs: 0 };
    const { value: gift } = await lane.submit(sendGift(sender, { ...order, expireAfterMs }, rules));
    return { alice, bob, gift };
  }

  async function runRound(pair: [End, End], round: Round): Promise<void> {
    const order = random() < 0.5 ? ([0, 1] as const) : ([1, 0] as const);
    const isTimed = pair.includes("expire");
    const startMs = isTimed ? round.gift.expireTime.getTime() - random() * BEFORE_MS - Date.now() : 0;
    if (startMs > 0) await sleep(startMs);
    const outcomes = await Promise.all(
      order.map(async (which, turn) => {
        if (turn === 1) await sleep(random() * APART_MS);
        const end = pair[which];
        return { end, outcome: await outcomeOf(ENDS[end](servers[which], round)) };
      }),
    );
    if (isTimed) await letTimePass(round.gift);
    await expectOneEnd(round, outcomes);
  }

  /** When nobody was in time, time itself ends it. */
  async function letTimePass({ id, expireTime }: GiftRow) {
    while (Date.now() <= expireTime.getTime()) await sleep(1);
    await expire(servers[0], id);
  }

  /** The gift ended once, its money is where that end says, and everybody was told so. */
  async function expectOneEnd({ alice, bob, gift }: Round, outcomes: { end: End; outcome: string }[]) {
    const row = await findGift(db, gift.id);
    const state = row?.state ?? 0;
    const wallets = await db
      .selectFrom("wallet")
      .select(["id", "balance", "held"])
      .where("id", "in", [BigInt(alice.walletId), BigInt(bob.walletId)])
      .orderBy("id")
      .execute();
    const money = wallets.map(({ balance, held }) => [balance, held]);
    const isAccepted = state === Transfer_State.COMPLETED;
    const isHouses = row?.handOverTime !== null && !isAccepted;
    expect([outcomes, row?.handOverTime && state === Transfer_State.CANCELED]).not.toEqual([outcomes, true]);
    const isWaiting = state === Transfer_State.PENDING && row?.handOverTime === null;
    const expected = [
      [isAccepted || isHouses ? 0n : AMOUNT, isWaiting ? AMOUNT : 0n],
      [isAccepted ? AMOUNT : 0n, 0n],
    ];
    expect([outcomes, state, money]).toEqual([outcomes, state, expected]);

    const owners = await db
      .selectFrom("account")
      .select(["id", "state"])
      .where("id", "in", [alice.accountId, bob.accountId])
      .execute();
    const isClosed = ({ accountId }: Person) =>
      owners.find(({ id }) => id === accountId)?.state === Account_State.CLOSED;
    const happened: Record<End, boolean> = {
      accept: isAccepted,
      decline: state === Transfer_State.DECLINED,
      cancel: state === Transfer_State.CANCELED,
      // It does nothing when it is too early or too late, and is no refusal.
      expire: true,
      "hand over": isClosed(alice),
      return: isClosed(bob),
    };
    for (const { end, outcome } of outcomes) {
      if (outcome === "OK") expect([outcomes, end, happened[end]]).toEqual([outcomes, end, true]);
      else expect(REFUSALS).toContain(outcome);
      if (outcome === "OK" && end !== "expire") seen.set(end, (seen.get(end) ?? 0) + 1);
    }
    // Whoever closes ends nothing by itself when the other one was first; but somebody did something.
    expect([outcomes, outcomes.some(({ outcome }) => outcome === "OK")]).toEqual([outcomes, true]);
  }

  return {
    async run(pair: [End, End], rounds: number) {
      const lastingMs = pair.includes("expire") ? BRIEF_MS : LONG_MS;
      for (let left = rounds; left > 0; left -= TOGETHER) {
        const count = Math.min(left, TOGETHER);
        const alices = await openWallets(servers[0], count, { balance: AMOUNT });
        const bobs = await openWallets(servers[0], count);
        await Promise.all(
          alices.map(async (alice, i) => runRound(pair, await openRound([alice, bobs[i] as Person], lastingMs))),
        );
      }
    },

    /** The books of all rounds: nothing is missing, and each gift that ended was told of once. */
    async expectRightBooks() {
      expect(await differencesIn(shared.DATABASE_URL)).toEqual([]);
      const gifts = await db.selectFrom("gift").selectAll().execute();
      const ofHouse = gifts.filter(({ handOverTime, state }) => handOverTime && state !== Transfer_State.COMPLETED);
      expect(await balancesOf({ db }, [HOUSE])).toEqual([AMOUNT * BigInt(ofHouse.length)]);

      const told = new Map<string, string[]>();
      for (const { events } of await db
        .selectFrom("ledgerBatch")
        .select("events")
        .where("number", "is not", null)
        .execute()) {
        for (const { kind, transferId } of JSON.parse(unpackEvents(events)) as {
          kind: string;
          transferId?: string;
        }[]) {
          if (transferId !== undefined) told.set(transferId, [...(told.get(transferId) ?? []), kind]);
        }
      }
      const expected = ({ state, handOverTime }: GiftRow) => [
        "transfer.pending",
        ...(handOverTime ? ["transfer.handed_over"] : []),
        ...(END_EVENTS[state] ?? []),
      ];
      const wrong = gifts.filter((gift) => String(told.get(String(gift.id))) !== String(expected(gift)));
      expect(wrong).toEqual([]);
      console.log(`races of gifts: ${gifts.length} gifts; ${[...seen].map(([end, n]) => `${n} × ${end}`).join(", ")}`);
    },

    stop: () => Promise.all(servers.map((server) => server.stop())),
  };
}

const END_EVENTS: Record<number, string[]> = {
  [Transfer_State.COMPLETED]: ["transfer.completed"],
  [Transfer_State.DECLINED]: ["transfer.declined"],
  [Transfer_State.CANCELED]: ["transfer.canceled"],
  [Transfer_State.EXPIRED]: ["transfer.expired"],
};
