import { LRUCache } from "lru-cache";
import { CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import { transact } from "../db/database.ts";
import { accountNotFound, codeInvalid, pinLocked, pinRequired, pinTooSimple, pinWrong } from "../errors.ts";
import { type Address, hasAddress } from "./address.ts";
import { openCodes } from "./codes.ts";
import { keyedHash } from "./hash.ts";
import { hashPassword, verifyPassword } from "./passwords.ts";
import { findAccount, forgetPinTries, giveBackPinTry, lockOpenAccount, setPinHash, setPinTries } from "./queries.ts";
import { openTurns } from "./turns.ts";

const TRIES_MAX = 5;
/** Of one account at a time in one process; more than anybody needs who knows the PIN. */
const TURNS = { running: 1, waiting: 50, retryAfterMs: 1_000 };
const ACCOUNTS_MAX = 10_000;

/** What a call would move. */
export interface Spending {
  amount: bigint;
  /**
   * How much of it has not happened yet under its idempotency keys. The rest can only be answered again, so it needs no
   * PIN: a repeat must find its answer even if the PIN was changed or locked meanwhile, and costs no try.
   */
  left(): Promise<bigint>;
}

/** Payment PINs: 6 digits that go with amounts above what CHATPAY_PIN_ABOVE says. */
export function openPins(app: Pick<App, "config" | "db" | "redis" | "log">) {
  const { config, db } = app;
  const above = config.pinAbove;
  const codes = openCodes(app);
  // Whoever sends several payments with the right PIN at once must not lock themselves out.
  const turns = new LRUCache<bigint, ReturnType<typeof openTurns>>({
    max: ACCOUNTS_MAX,
    memoMethod: () => openTurns(TURNS),
  });

  /** There are few PINs, so that their hashes alone must not do to find them. */
  const secretOf = (accountId: bigint, pin: string) =>
    keyedHash(config.hashSecret, "pin", `${accountId}:${pin}`).toString("base64");

  /** Counts a try before it is judged, so that guesses at the same time do not pass together. */
  const takeTry = (accountId: bigint, limit: bigint) =>
    transact(db, async (trx) => {
      const account = await lockOpenAccount(trx, accountId);
      if (!account || account.pinHash === "") throw pinRequired(limit);
      if (account.pinTries >= TRIES_MAX) throw pinLocked();
      const pinTries = account.pinTries + 1;
      await setPinTries(trx, accountId, pinTries);
      return { pinHash: account.pinHash, pinTries };
    });

  async function judge(accountId: bigint, pin: string, limit: bigint) {
    const { pinHash, pinTries } = await takeTry(accountId, limit);
    const isRight = await verifyPassword(secretOf(accountId, pin), pinHash, "pin").catch(async (error: unknown) => {
      // It was not judged, so it does not count.
      await giveBackPinTry(db, accountId, pinHash);
      throw error;
    });
    if (!isRight) throw pinWrong(TRIES_MAX - pinTries);
    await forgetPinTries(db, accountId, pinHash);
  }

  return {
    /** Sets, changes or unlocks the PIN, for whoever has the code. Throws CODE_INVALID, PIN_TOO_SIMPLE. */
    async set(accountId: bigint, { address, code, pin }: { address: Address; code: string; pin: string }) {
      if (isTooSimple(pin)) throw pinTooSimple();
      const account = await findAccount(db, accountId);
      // Somebody else's address proves nothing.
      if (!account || !hasAddress(account, address)) throw codeInvalid();
      await codes.spend({ address, purpose: CodePurpose.SET_PIN }, code, async () => {
        const pinHash = await hashPassword(secretOf(accountId, pin), "pin");
        if (!(await setPinHash(db, accountId, pinHash, new Date()))) throw accountNotFound(accountId);
      });
    },

    /**
     * Lets a payment through that needs no PIN or has the right one; one that needs none costs nothing. Throws
     * PIN_REQUIRED, PIN_WRONG, PIN_LOCKED.
     */
    async check(accountId: bigint, pin: string, { amount, left }: Spending) {
      if (above === undefined || amount <= above || (await left()) <= above) return;
      if (pin === "") throw pinRequired(above);
      await turns.memo(accountId).take(() => judge(accountId, pin, above));
    },
  };
}

const UP = "01234567890";
const DOWN = "09876543210";

/** One digit six times, or digits in a row, up or down. */
function isTooSimple(pin: string): boolean {
  return new Set(pin).size === 1 || UP.includes(pin) || DOWN.includes(pin);
}
