import { createHash } from "node:crypto";
import type { Limits } from "../../src/config.ts";
import { WalletService } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { kftcSettings } from "../../sandbox/kftc/server.ts";
import { addCitizen, type Citizen, linkBank } from "../support/banks.ts";
import { openPartner, openWallet, type Person } from "../support/people.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { type Chance, oneOf, wonUpTo } from "./chance.ts";
import { ABSENT_MS, type Kftc, type Land, TIMEOUT_MS } from "./weather.ts";

/** Who lives in a run: people with wallets, savings and bank accounts, and shops. */

const SHOPS = 2;
const BANK_CODES = ["004", "081", "088", "090"];
const AT_BANK_MAX = 400_000;
const UNITS = [1n, 1_000n, 10_000n];
const UNITED_MAX = 2;

const TIERS = {
  standard: { drawDay: 2_000_000 },
  small: { drawDay: 60_000, sendDay: 150_000 },
};

export interface Dweller {
  person: Person;
  limits: Pick<Limits, "drawDay" | "sendDay">;
  citizen: Citizen;
  /** What of the primary account is wanted when a debit finds too little. */
  wish: { automaticTopUp: boolean; topUpUnit: bigint };
  banks: { id: string; where: { bankCode: string; number: string }; first: bigint }[];
  savings: string[];
}

export interface Town {
  land: Land;
  people: Dweller[];
  shops: { partnerId: string; walletId: string }[];
}

const secretOf = (text: string) => createHash("sha256").update(text).digest("hex");

/** What every process of a run is told. */
export const townSettings = (kftc: Kftc) => ({
  ...kftcSettings(kftc.url),
  CHATPAY_OPENBANKING_TIMEOUT_MS: String(TIMEOUT_MS),
  CHATPAY_OPENBANKING_ABSENT_MS: String(ABSENT_MS),
  CHATPAY_TIERS: JSON.stringify(TIERS),
  CHATPAY_HASH_SECRET: secretOf("hash"),
  CHATPAY_TOKEN_SECRET: secretOf("token"),
  CHATPAY_BANK_SECRET: secretOf("bank"),
});

/** So many people, made through a server that goes away again. */
export async function buildTown(databaseUrl: string, kftc: Kftc, count: number, chance: Chance): Promise<Town> {
  // Nothing goes wrong yet, but on a busy machine all of it may take its time.
  const settings = { ...townSettings(kftc), CHATPAY_OPENBANKING_TIMEOUT_MS: "30000" };
  const server = await startServer({ DATABASE_URL: databaseUrl, ...settings });
  try {
    const shops = await Promise.all(Array.from({ length: SHOPS }, () => openPartner(server)));
    const people: Dweller[] = [];
    for (let i = 0; i < count; i += 1) people.push(await settle(server, kftc, chance, i));
    return { land: await landOf(server, kftc, people), people, shops };
  } finally {
    await server.stop();
  }
}

async function settle(server: TestServer, kftc: Kftc, chance: Chance, i: number): Promise<Dweller> {
  const person = await openWallet(server);
  const codes = i % 2 === 0 ? [oneOf(chance, BANK_CODES)] : BANK_CODES.slice(0, UNITED_MAX);
  const accounts = codes.map((bankCode) => ({ bankCode, balance: String(wonUpTo(chance, AT_BANK_MAX)) }));
  const citizen = await addCitizen({ kftc }, { accounts });
  const wish = { automaticTopUp: i % 5 !== 4, topUpUnit: oneOf(chance, UNITS) };
  const { bankAccounts } = await linkBank({ kftc }, person, { citizen, ...wish });
  const savings: string[] = [];
  for (let n = 0; n <= i % 2; n += 1) {
    const { wallet } = await person.wallets.createSavings({ idempotencyKey: `savings ${n}`, name: `savings ${n}` });
    savings.push(wallet?.id ?? "");
  }
  const tier = i % 3 === 0 ? "small" : "standard";
  const { walletId } = person;
  await server
    .client(WalletService, { bearer: server.keys.operator })
    .setTier({ walletId, tier, reason: "for a test" });
  const { drawDay, sendDay } = server.app.config.tiers.get(tier) as Limits;
  return {
    person,
    limits: { drawDay, sendDay },
    citizen,
    wish,
    banks: bankAccounts.map(({ id, bankCode }) => {
      const { number, balance } = citizen.accounts.find((one) => one.bankCode === bankCode) as Citizen["accounts"][0];
      return { id, where: { bankCode, number }, first: BigInt(balance) };
    }),
    savings,
  };
}

async function landOf({ app }: TestServer, kftc: Kftc, people: Dweller[]): Promise<Land> {
  const grants = await app.db.selectFrom("bankGrant").select(["accountId", "userSeqNo"]).execute();
  const accounts = people.flatMap(({ person, banks }) => {
    const grant = grants.find(({ accountId }) => accountId === person.accountId);
    return banks.map(async ({ where }) => {
      const { fintechUseNum } = await kftc.getAccount(where);
      return { where, fintechUseNum, userSeqNo: grant?.userSeqNo ?? "" };
    });
  });
  return { kftc, bankCodes: BANK_CODES, accounts: await Promise.all(accounts) };
}
