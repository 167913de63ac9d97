import { expect, test } from "vitest";
import { crashBanks, type Victim } from "./bank.ts";

const ROUNDS = Number(process.env.CHATPAY_TEST_ROUNDS ?? 15);
const VICTIMS: Victim[] = ["server", "mysqld", "server", "both", "server"];

test("kill -9 of servers and mysqld, again and again, leaves the same at banks and in wallets, however banks fail", async () => {
  const victims = Array.from({ length: ROUNDS }, (_, round) => VICTIMS[round % VICTIMS.length] as Victim);

  const counts = await crashBanks({ people: 10, servers: 2, victims });

  expect([...counts.keys()]).toEqual(expect.arrayContaining(["done", "BANK_DECLINED", "DRAW_LIMIT_EXCEEDED"]));
});
