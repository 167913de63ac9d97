import { Account_State, CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import { Wallet_Kind } from "../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { App } from "../app.ts";
import type { AccountRow } from "../db/schema.ts";
import { accountNotFound, addressTaken, codeInvalid, signInFailed } from "../errors.ts";
import type { Books } from "../ledger/books.ts";
import type { Command } from "../ledger/command.ts";
import type { Person } from "../rpc/caller.ts";
import { type Address, columnsOf, hasAddress } from "./address.ts";
import { openAttempts } from "./attempts.ts";
import { openCodes } from "./codes.ts";
import type { Message } from "./messages.ts";
import { checkPassword, hashPassword, isOutdated, verifyPassword } from "./passwords.ts";
import { findAccount, findAccountByAddress, setPasswordHash } from "./queries.ts";
import type { openSessions } from "./sessions.ts";

const LANGUAGE = "ko";

/** Signs people up and in, and changes what they are known by. Nothing here tells a stranger whether an address has an account. */
export function openAccounts(app: App, sessions: Pick<ReturnType<typeof openSessions>, "endAll">) {
  const { db, lane, messenger } = app;
  const codes = openCodes(app);
  const attempts = openAttempts(app);

  async function getOpen(accountId: bigint): Promise<AccountRow> {
    const account = await findAccount(db, accountId);
    if (account?.state !== Account_State.OPEN) throw accountNotFound(accountId);
    return account;
  }

  /**
   * Does what somebody who is signed in may do only if they also know the password or, where there is none, read what
   * is sent to an address of the account: a session may be stolen.
   */
  async function asOwner<T>(
    account: AccountRow,
    { password, proofCode }: OwnerProof,
    work: () => Promise<T>,
  ): Promise<T> {
    const { id, passwordHash, emailKey, phoneKey } = account;
    if (passwordHash === "") {
      if (proofCode === "") throw codeInvalid();
      const keys = [emailKey, phoneKey].filter((key) => key !== null);
      const claims = keys.map((key) => ({ address: { key }, purpose: CodePurpose.CONFIRM }));
      return codes.spendOne(claims, proofCode, work);
    }
    await attempts.guard({ accountId: id }, async () => (await verifyPassword(password, passwordHash)) || undefined);
    return work();
  }

  /** A password whose hash was made at another cost is hashed again, now that it is known. */
  async function renewHash(account: AccountRow, password: string): Promise<AccountRow> {
    if (!isOutdated(account.passwordHash)) return account;
    // When there is too much to hash, the next sign-in does it.
    const passwordHash = await hashPassword(password).catch(() => undefined);
    if (passwordHash === undefined) return account;
    if (await setPasswordHash(db, account, passwordHash)) return { ...account, passwordHash };
    // Another sign-in came first, or another password.
    const current = await findAccount(db, account.id);
    if (!(await verifyPassword(password, current?.passwordHash)) || !current) throw signInFailed();
    return current;
  }

  /**
   * Sets another password and ends the sessions, all or all but one: in one commit, because whoever sets a password may
   * do so to be rid of a session. Refuses when the password is not the one any more that was known.
   */
  const replacePassword = (account: AccountRow, passwordHash: string, refusal: () => Error, exceptId?: bigint) =>
    sessions.endAll(account.id, exceptId, async (trx) => {
      if (!(await setPasswordHash(trx, account, passwordHash))) throw refusal();
    });

  return {
    /**
     * The message is written and sent after the answer, whose content and time say nothing of the address. Throws
     * TOO_MANY_ATTEMPTS, OVERLOADED, DEPENDENCY_UNAVAILABLE.
     */
    async sendCode(address: Address, purpose: CodePurpose, language: string) {
      messenger.check(address.kind);
      const { code, ...times } = await codes.make({ address, purpose });
      messenger.post(address.kind, async () => {
        const account = await findAccountByAddress(db, address);
        const message = codeMessage(purpose, code, account !== undefined);
        const to = { ...addressesOf(address), language: language || account?.language || LANGUAGE };
        return message && { to, message };
      });
      return times;
    },

    /** Opens an account for whoever has the code. Throws CODE_INVALID, PASSWORD_TOO_SIMPLE, ADDRESS_TAKEN. */
    async signUp(address: Address, { code, password, displayName, language }: NewPerson): Promise<AccountRow> {
      checkPassword(password, addressesOf(address));
      // Before the code is spent: a server that has too much to hash must not cost it.
      const passwordHash = password && (await hashPassword(password));
      return codes.spend({ address, purpose: CodePurpose.SIGN_UP }, code, async () => {
        const person = { passwordHash, displayName, language: language || LANGUAGE };
        const { value } = await lane.submit(openAccount(address, person));
        return value;
      });
    },

    /** Throws SIGN_IN_FAILED, TOO_MANY_ATTEMPTS. */
    async signIn(address: Address, password: string): Promise<AccountRow> {
      const account = await attempts.guard({ address: address.key }, async () => {
        const found = await findAccountByAddress(db, address);
        return (await verifyPassword(password, found?.passwordHash)) ? found : undefined;
      });
      return renewHash(account, password);
    },

    /** The code is used once the session has started. Throws CODE_INVALID, also when no account has the address. */
    signInWithCode: <T>(address: Address, code: string, start: (account: AccountRow) => Promise<T>): Promise<T> =>
      codes.spend({ address, purpose: CodePurpose.SIGN_IN }, code, async () => start(await findProved(address))),

    /** Sets a new password and ends all sessions. Throws CODE_INVALID, PASSWORD_TOO_SIMPLE. */
    async resetPassword(address: Address, code: string, password: string) {
      checkPassword(password, addressesOf(address));
      const passwordHash = await hashPassword(password);
      const account = await codes.spend({ address, purpose: CodePurpose.RESET_PASSWORD }, code, async () => {
        const found = await findProved(address);
        // Only here, because it tells which addresses belong together.
        checkPassword(password, found);
        await replacePassword(found, passwordHash, codeInvalid);
        return found;
      });
      for (const key of [account.emailKey, account.phoneKey]) if (key) await attempts.forget({ address: key });
      messenger.tell(account, { is: "password_changed" });
      return account;
    },

    /** Sets a new password and ends all other sessions. Throws SIGN_IN_FAILED, CODE_INVALID, PASSWORD_TOO_SIMPLE, TOO_MANY_ATTEMPTS. */
    async changePassword({ accountId, sessionId }: Person, proof: OwnerProof, after: string) {
      const account = await getOpen(accountId);
      await asOwner(account, proof, async () => {
        checkPassword(after, account);
        // Whoever has set another meanwhile came first.
        await replacePassword(account, await hashPassword(after), signInFailed, sessionId);
      });
      messenger.tell(account, { is: "password_changed" });
    },

    /** Throws CODE_INVALID, ADDRESS_TAKEN, SIGN_IN_FAILED, TOO_MANY_ATTEMPTS. */
    async changeAddress({ accountId }: Person, proof: OwnerProof, address: Address, code: string): Promise<AccountRow> {
      const before = await getOpen(accountId);
      const claim = { address, purpose: CodePurpose.CHANGE_ADDRESS };
      const { value } = await asOwner(before, proof, () =>
        codes.spend(claim, code, () => lane.submit(changeAddress(accountId, address))),
      );
      if (!hasAddress(before, address)) {
        const message: Message = { is: "address_changed", kind: address.kind };
        messenger.tell({ ...before, email: "" }, message);
        messenger.tell({ ...before, phone: "" }, message);
      }
      return value;
    },

    /** Changes what is given of the profile. Throws ACCOUNT_NOT_FOUND. */
    async updateProfile(accountId: bigint, { displayName, language }: Partial<Profile>): Promise<AccountRow> {
      if (displayName === undefined && language === undefined) return getOpen(accountId);
      const { value } = await lane.submit(updateProfile(accountId, { displayName, language }));
      return value;
    },
  };

  /** The account of an address that was proved. */
  async function findProved(address: Address): Promise<AccountRow> {
    const account = await findAccountByAddress(db, address);
    if (account?.state !== Account_State.OPEN) throw codeInvalid();
    return account;
  }
}

/** What an owner knows beside a session. */
interface OwnerProof {
  /** Empty where there is none. */
  password: string;
  /** Where there is no password; else it does not count. */
  proofCode: string;
}

export interface NewPerson {
  code: string;
  /** Empty for somebody who signs in with codes. */
  password: string;
  displayName: string;
  /** Empty for Korean. */
  language: string;
}

/** An address alone, as accounts and recipients have theirs. */
const addressesOf = ({ kind, text }: Address) => ({ email: "", phone: "", [kind]: text });

type Profile = Pick<AccountRow, "displayName" | "language">;

/**
 * What the owner of the address is told. For what needs an account, an address without one is sent nothing: it
 * may belong to anybody.
 */
function codeMessage(purpose: CodePurpose, code: string, isKnown: boolean): Message | undefined {
  const isForNew = purpose === CodePurpose.SIGN_UP || purpose === CodePurpose.CHANGE_ADDRESS;
  if (isForNew !== isKnown) return { is: "code", purpose, code };
  return isKnown ? { is: "known_address" } : undefined;
}

/** An account with its main wallet. An address has one open account. */
export function openAccount(address: Address, person: NewAccount): Command<AccountRow> {
  return {
    touches: {},
    once: {
      ...onceOf(address),
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
        email: "",
        emailKey: null,
        phone: "",
        phoneKey: null,
        ...columnsOf(address),
        ...person,
        state: Account_State.OPEN,
        mainWalletId,
        identityId: null,
        pinHash: "",
        pinTries: 0,
        identityKey: null,
        walletCount: 0,
        bankAccountCount: 0,
        createTime: books.now,
        updateTime: books.now,
      });
      books.openWallet({ id: mainWalletId, kind: Wallet_Kind.MAIN, accountId: id });
      return account;
    },
  };
}

type NewAccount = Pick<AccountRow, "passwordHash" | "displayName" | "language">;

const onceOf = ({ kind, key }: Address) => ({ by: kind === "email" ? "accountEmail" : "accountPhone", key }) as const;

/** The account has the address from now on, in place of the one of its kind before. */
const changeAddress = (accountId: bigint, address: Address): Command<AccountRow> => ({
  touches: { account: [accountId] },
  once: {
    ...onceOf(address),
    repeat(owner) {
      if (owner.id !== accountId) throw addressTaken();
      return owner;
    },
  },
  decide(books) {
    const account = openRow(books, accountId);
    if (hasAddress(account, address)) return account;
    books.tell("account.address_changed", [accountId], { accountId, address: address.kind });
    return books.updateAccount(accountId, columnsOf(address));
  },
});

/** What others see of the account. */
export const updateProfile = (accountId: bigint, change: Partial<Profile>): Command<AccountRow> => ({
  touches: { account: [accountId] },
  decide(books) {
    const { displayName, language } = openRow(books, accountId);
    books.tell("account.updated", [accountId], { accountId });
    return books.updateAccount(accountId, {
      displayName: change.displayName ?? displayName,
      language: change.language ?? language,
    });
  },
});

function openRow(books: Books, accountId: bigint): AccountRow {
  const account = books.account(accountId);
  if (account.state !== Account_State.OPEN) throw accountNotFound(accountId);
  return account;
}
