import { setTimeout as sleep } from "node:timers/promises";
import { randomOf } from "../support/load.ts";
import { linkBank } from "../support/banks.ts";
import { type Chance, oneOf, wonUpTo } from "./chance.ts";
import { type Clients, clientsAt, type Desk, type Kind, needsConsent, type Order, place, pursue } from "./orders.ts";
import type { Dweller, Town } from "./town.ts";
import { spoil } from "./weather.ts";

/** People who order at random, each in several places at the same time. */

const PLACES = 2;
const AMOUNT_MAX = 20_000;
const PATIENCE_MS = 6_000;
const FAULTY_SHARE = 0.4;
const REPEATED_SHARE = 0.15;
const TWICE_SHARE = 0.15;
const RELINK_PAUSE_MS = 200;

/** Some more often than others. */
const KINDS: readonly Kind[] = ["topUp", "withdraw", "send", "send", "send", "pay", "pay", "save", "takeOut"];

interface Customer {
  dweller: Dweller;
  clients: Clients[];
}

interface Gathering {
  /** Where servers are, though not always. */
  ports: number[];
  seed: number;
  isOver(): boolean;
}

/** Ends when it is over and nobody is at anything any more. */
export async function gather(town: Town, desk: Desk, { ports, seed, isOver }: Gathering): Promise<void> {
  async function visit(customer: Customer, chance: Chance) {
    const order = newOrder(town, desk, customer, chance);
    if (chance() < FAULTY_SHARE) await spoilFor(town, customer.dweller, order, chance);
    const calls = chance() < TWICE_SHARE ? 2 : 1;
    await Promise.all(Array.from({ length: calls }, () => pursue(desk, chance, order, PATIENCE_MS)));
    if (chance() < REPEATED_SHARE) {
      const own = desk.orders.filter(({ by }) => by.accountId === customer.dweller.person.accountId);
      await pursue(desk, chance, oneOf(chance, own), PATIENCE_MS);
    }
    if (needsConsent(order)) await linkAgain(town, customer, isOver);
  }

  await Promise.all(
    town.people.flatMap((dweller, i) => {
      const { credential } = dweller.person;
      const customer = { dweller, clients: ports.map((port) => clientsAt(port, credential)) };
      return Array.from({ length: PLACES }, async (_, n) => {
        const chance = randomOf(seed + PLACES * i + n);
        while (!isOver()) await visit(customer, chance);
      });
    }),
  );
}

function newOrder({ people, shops }: Town, desk: Desk, { dweller, clients }: Customer, chance: Chance): Order {
  const kind = oneOf(chance, KINDS);
  const others = people.filter((other) => other !== dweller);
  const abouts: Record<Kind, () => string> = {
    topUp: () => oneOf(chance, dweller.banks).id,
    withdraw: () => oneOf(chance, dweller.banks).id,
    send: () => oneOf(chance, others).person.walletId,
    pay: () => oneOf(chance, shops).partnerId,
    save: () => oneOf(chance, dweller.savings),
    takeOut: () => oneOf(chance, dweller.savings),
  };
  const by = { accountId: dweller.person.accountId, clients };
  return place(desk, { kind, by, amount: wonUpTo(chance, AMOUNT_MAX), about: abouts[kind]() });
}

/** The bank of the order, or the one from which what it misses would be drawn. */
async function spoilFor({ land }: Town, { banks }: Dweller, { kind, about }: Order, chance: Chance) {
  const bank = banks.find(({ id }) => id === about) ?? banks[0];
  if (bank) await spoil(land.kftc, chance, bank.where.number, kind === "withdraw" ? "deposit" : "withdraw");
}

/** Somebody consents again, until it is known here. */
async function linkAgain({ land }: Town, { dweller, clients }: Customer, isOver: () => boolean) {
  for (let tries = 0; !isOver(); tries += 1) {
    const { banks } = clients[tries % clients.length] as Clients;
    try {
      await linkBank(land, { banks }, { citizen: dweller.citizen, ...dweller.wish });
      return;
    } catch {
      await sleep(RELINK_PAUSE_MS);
    }
  }
}
