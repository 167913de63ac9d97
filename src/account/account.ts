import { Code, ConnectError } from "@connectrpc/connect";
import { Account_State, CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import { Wallet_Kind } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { App } from "../app.ts";
import { transact } from "../db/database.ts";
import type { AccountRow } from "../db/schema.ts";
import { accountNotFound, addressTaken, overloaded, signInFailed } from "../errors.ts";
import type { Command } from "../ledger/command.ts";
import type { Mail } from "../mail.ts";
import { openAttempts } from "./attempts.ts";
import { openCodes } from "./codes.ts";
import { keyedHash } from "./hash.ts";
import { checkPassword, hashPassword, verifyPassword } from "./passwords.ts";
import { findAccount, findAccountByEmail, renameAccount } from "./queries.ts";

const MAILS_MAX = 1_000;
const OVERLOAD_RETRY_MS = 5_000;

/** Signs people up and in. Nothing here tells a stranger whether an address has an account. */
export function openAccounts(app: App) {
  const { config, db, lane, log, mailer } = app;
  const codes = openCodes(app);
  const attempts = openAttempts(app);
  let mails = 0;

  const emailKeyOf = (email: string) =>
    keyedHash(config.hashSecret, "email", email.trim().toLowerCase()).subarray(0, 16);

  /** Tells the owner of the address the code, or that there is nothing to sign up for. */
  async function mailCode(email: string, emailKey: Buffer, code: string) {
    mails += 1;
    try {
      const account = await findAccountByEmail(db, emailKey);
      await mailer.send({ to: email, ...(account ? KNOWN_ADDRESS : codeMail(code)) });
    } catch (error) {
      // What a mail server says may repeat the address.
      log.error({ reason: reasonOf(error) }, "a mail was not sent");
    } finally {
      mails -= 1;
    }
  }

  async function judge(emailKey: Buffer, password: string) {
    const account = await findAccountByEmail(db, emailKey);
    return { account, isRight: await verifyPassword(password, account?.passwordHash) };
  }

  return {
    /** The code is mailed after the answer, whose content and time say nothing of the address. Needs Redis. */
    async sendCode(email: string, purpose: CodePurpose) {
      if (mails >= MAILS_MAX) throw overloaded(OVERLOAD_RETRY_MS);
      const emailKey = emailKeyOf(email);
      const { code, ...times } = await codes.make({ emailKey, purpose });
      void mailCode(email, emailKey, code);
      return times;
    },

    /** Opens an account for whoever has the code. Throws CODE_INVALID, PASSWORD_TOO_SIMPLE, ADDRESS_TAKEN. */
    async signUp({ email, code, password, displayName }: NewPerson): Promise<AccountRow> {
      checkPassword(password, email);
      const emailKey = emailKeyOf(email);
      // Before the code is spent: a server that has too much to hash must not cost it.
      const passwordHash = await hashPassword(password);
      await codes.prove({ emailKey, purpose: CodePurpose.SIGN_UP }, code);
      try {
        const { value } = await lane.submit(
          openAccount({ email, emailKey, passwordHash, displayName, language: "ko" }),
        );
        return value;
      } catch (error) {
        // Whoever is told to try again needs the code again.
        if (isPassing(error)) await codes.restore({ emailKey, purpose: CodePurpose.SIGN_UP }, code);
        throw error;
      }
    },

    /** Throws SIGN_IN_FAILED, TOO_MANY_ATTEMPTS. */
    async signIn(email: string, password: string): Promise<AccountRow> {
      const emailKey = emailKeyOf(email);
      await attempts.count(emailKey);
      const { account, isRight } = await judge(emailKey, password).catch(async (error: unknown) => {
        await attempts.giveBack(emailKey);
        throw error;
      });
      if (!account || !isRight) throw signInFailed();
      await attempts.forget(emailKey);
      return account;
    },

    /** Changes what is given of the profile. */
    updateProfile(accountId: bigint, { displayName }: { displayName?: string }): Promise<AccountRow> {
      return transact(db, async (trx) => {
        if (displayName !== undefined) await renameAccount(trx, accountId, displayName, new Date());
        const account = await findAccount(trx, accountId);
        if (!account) throw accountNotFound(accountId);
        return account;
      });
    },
  };
}

export interface NewPerson {
  email: string;
  code: string;
  password: string;
  displayName: string;
}

/** An account with its main wallet. An address has one open account. */
export function openAccount(person: NewAccount): Command<AccountRow> {
  const { email = "", emailKey = null, phone = "", phoneKey = null } = person;
  const { passwordHash, displayName, language } = person;
  return {
    touches: {},
    once: {
      ...(emailKey ? { by: "accountEmail", key: emailKey } : { by: "accountPhone", key: phoneKey ?? Buffer.alloc(16) }),
      repeat() {
        throw addressTaken();
      },
    },
    decide(books) {
      const id = books.newId();
      const mainWalletId = books.newId();
      books.tell("account.opened", [id], { accountId: id, mainWalletId });
      const account = books.insert("account", {
        id,
        email,
        emailKey,
        phone,
        phoneKey,
        passwordHash,
        displayName,
        language,
        state: Account_State.OPEN,
        mainWalletId,
        identityId: null,
        pinHash: "",
        pinTries: 0,
        identityKey: null,
        walletCount: 0,
        createTime: books.now,
        updateTime: books.now,
      });
      books.openWallet({ id: mainWalletId, kind: Wallet_Kind.MAIN, accountId: id });
      return account;
    },
  };
}

/** Who opens an account: with an e-mail address or with a phone number, and its keyed hash. */
type NewAccount = Pick<AccountRow, "passwordHash" | "displayName" | "language"> &
  Partial<Pick<AccountRow, "email" | "emailKey" | "phone" | "phoneKey">>;

const codeMail = (code: string): Omit<Mail, "to"> => ({
  subject: "Your ChatPay code",
  text: `${code} is your code to sign up for ChatPay. It works once, for 10 minutes.

Nobody from ChatPay will ask you for it. If you did not want to sign up, there is nothing to do.
`,
});

const KNOWN_ADDRESS: Omit<Mail, "to"> = {
  subject: "You have a ChatPay account",
  text: `Somebody wanted to sign up for ChatPay with this address, which has an account. If it was you, sign in instead.

If it was not you, there is nothing to do.
`,
};

const reasonOf = (error: unknown) => (error instanceof Error && "code" in error ? error.code : "unknown");

const isPassing = (error: unknown) =>
  error instanceof ConnectError && (error.code === Code.Unavailable || error.code === Code.ResourceExhausted);
