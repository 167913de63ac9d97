import { Redis } from "ioredis";
import Redlock from "redlock";
import type { Order, Sender } from "../../src/transfer/transfer.ts";
import type { Arena } from "../arena.ts";
import { type Contestant, nextTransfer } from "../contestant.ts";
import { drive, ONE } from "../drive.ts";
import { closeHand, type Hand, openHand, transferByHand } from "./by-hand.ts";

type Transfer = (hand: Hand, sender: Sender, order: Order) => Promise<unknown>;

/** (b) One transaction per transfer, its wallets locked with `for update` in the order of their ids. */
export const openForUpdate = (arena: Arena, connections: number): Promise<Contestant> =>
  open(arena, connections, (hand, sender, order) => transferByHand(hand, sender, order, "for update"));

const LOCK_MS = 10_000;
/** As short as it pays: whoever waits for a hot wallet must not sleep while it is free. */
const RETRY = { retryCount: -1, retryDelay: 2, retryJitter: 4 };

/** (a) A lock in Redis on both wallets, and one transaction that reads them without locking. */
export async function openRedisLock(arena: Arena, connections: number): Promise<Contestant> {
  const redis = new Redis(arena.redisUrl);
  const redlock = new Redlock([redis], RETRY);
  const contestant = await open(arena, connections, async (hand, sender, order) => {
    const lock = await redlock.lock([`wallet:${sender.walletId}`, `wallet:${order.recipientWalletId}`], LOCK_MS);
    try {
      await transferByHand(hand, sender, order, "");
    } finally {
      await lock.unlock();
    }
  });
  return {
    ...contestant,
    async close() {
      await contestant.close();
      redis.disconnect();
    },
  };
}

/** Each client has a connection of its own, so that nobody waits for one. */
async function open(arena: Arena, connections: number, transfer: Transfer): Promise<Contestant> {
  const hands = await Promise.all(Array.from({ length: connections }, () => openHand(arena)));
  const free = [...hands];
  return {
    inFlight: connections,
    run: (workload, load) =>
      drive(load, async () => {
        const hand = free.pop();
        if (!hand) throw new Error("more clients than connections");
        const { sender, order } = nextTransfer(arena.people, workload);
        await transfer(hand, sender, order);
        free.push(hand);
        return ONE;
      }),
    async close() {
      await Promise.all(hands.map(closeHand));
    },
  };
}
