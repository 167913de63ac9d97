import { hash, randomBytes } from "node:crypto";
import { BankAccount_State } from "../../gen/chatpay/bank/v1/bank_pb.ts";
import { endLink, tellLink } from "../account/closing.ts";
import { keyedHash } from "../account/hash.ts";
import { openIdentities } from "../account/identity.ts";
import type { App } from "../app.ts";
import { isDuplicateKey, type Trx, transact } from "../db/database.ts";
import type { BankAccountRow } from "../db/schema.ts";
import {
  accountNotFound,
  bankAccountNotFound,
  bankAccountTaken,
  bankConsentMissing,
  bankConsentRefused,
  bankPersonMismatch,
  bankStateInvalid,
  identityRequired,
  tooMany,
} from "../errors.ts";
import type { Command } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { openAttempts } from "./attempts.ts";
import type { Bank } from "./bank.ts";
import { BankingError, type ConsentedAccount, type RealNameQuery, type UserGrant } from "./openbanking/contract.ts";
import {
  findGrant,
  forgetRevocations,
  giveBackConsent,
  insertBankAccount,
  insertConsent,
  listLinked,
  lockLinked,
  lockOwner,
  setBankAccountCount,
  updateBankAccount,
  useConsent,
} from "./queries.ts";
import { isOtherPerson, refusalOf, unavailable } from "./refusals.ts";
import { claimTranId } from "./tranid.ts";
import { contexts } from "./vault.ts";

const CONSENT_MS = 10 * 60_000;
/** As long as KFTC wants it: 24 bytes in Base64 are 32 characters. */
const STATE_BYTES = 24;
const LINKED_MAX = 20;
const LINK_KEY_BYTES = 16;
const ALIAS_CHARACTERS = 50;
/** Whoever links a bank account tells the log at once; a job does what was not done by then. */
const TELL_MS = 10_000;

/** Whose bank accounts they are, and through which session or API key they act. */
export interface Owner {
  accountId: bigint;
  holderId: bigint;
  /** The API key of the chat server that acts for the account, if one does. */
  keyId?: bigint | undefined;
}

/** A bank account as KFTC or a bank tells of it. */
interface Found {
  shown: Pick<
    BankAccountRow,
    "bankCode" | "bankName" | "maskedNumber" | "fintechUseNum" | "holderName" | "alias" | "canInquire" | "canDraw"
  >;
  /** In full, where it is told. */
  number: string | undefined;
}

interface Linked {
  /** All that were found and are the owner's now, oldest first. */
  linked: BankAccountRow[];
  /** Those of them that were not before. */
  added: bigint[];
  /** Those that are somebody else's. */
  taken: Found[];
}

/** What may change of a link; what is not given stays. */
export interface LinkChange {
  alias?: string | undefined;
  primary?: boolean | undefined;
  automaticTopUp?: boolean | undefined;
  topUpUnit?: bigint | undefined;
}

/** Links bank accounts to people, by their consent or by a number and a name. */
export function openLinks(app: App, { settings, banking, tokens, vault }: Bank) {
  const { config, db, lane, log, newId, runner } = app;
  const identities = openIdentities(app);
  const attempts = openAttempts(app);

  /** Where the number is not told, KFTC's own name for the account must do. */
  function linkKeyOf({ bankCode, fintechUseNum }: Pick<BankAccountRow, "bankCode" | "fintechUseNum">, number?: string) {
    const name = number === undefined ? `fintech:${fintechUseNum}` : `${bankCode}:${number}`;
    return keyedHash(config.hashSecret, "bank-account", name).subarray(0, LINK_KEY_BYTES);
  }

  const sealNumber = (id: bigint, number: string | undefined) =>
    number === undefined ? null : vault.seal(number, contexts.number(id));

  /** A number whose secret has gone is asked for again. */
  const isReadable = ({ id, numberSealed }: BankAccountRow) =>
    numberSealed === null || vault.open(numberSealed, contexts.number(id)) !== undefined;

  /** What the person let us do, and to what. */
  async function fetchConsent(stateHash: Buffer, code: string) {
    const grant = await banking.exchangeCode(code).catch(async (error: unknown) => {
      // Nobody took the code, so the person need not go to KFTC again.
      if (error instanceof BankingError && error.kind === "unavailable") await giveBackConsent(db, stateHash);
      throw consentRefusalFor(error);
    });
    try {
      const { ci } = await banking.getUser(grant.accessToken, grant.userSeqNo);
      const accounts = await banking.listAccounts(grant.accessToken, grant.userSeqNo);
      return { grant, found: accounts.filter(isUsable).map(fromConsented), ci };
    } catch (error) {
      throw consentRefusalFor(error);
    }
  }

  /**
   * Links what was found, in the transaction in which whose it is was judged. Bank accounts are linked in the order of
   * their keys, so that two people who want the same ones queue; who comes second finds them taken.
   */
  async function link(trx: Trx, { accountId, keyId }: Owner, own: BankAccountRow[], found: Found[]): Promise<Linked> {
    const now = new Date();
    const keyed = found.map((one) => ({ one, id: newId(), linkKey: linkKeyOf(one.shown, one.number) }));
    const linked: BankAccountRow[] = [];
    const taken: Found[] = [];
    for (const { one, id, linkKey } of keyed.toSorted((a, b) => a.linkKey.compare(b.linkKey))) {
      const before = own.find((row) => isSame(row, one, linkKey));
      if (before) linked.push(await takeOver(trx, before, one, now));
      else {
        const numberSealed = sealNumber(id, one.number);
        const row = rowOf({ id, accountId, linkKey, numberSealed, apiKeyId: keyId ?? null }, one, now);
        if (await isInserted(trx, row)) linked.push(row);
        else taken.push(one);
      }
    }
    linked.sort((one, other) => (one.id < other.id ? -1 : 1));
    const added = linked.map(({ id }) => id).filter((id) => !own.some((row) => row.id === id));
    const count = own.length + added.length;
    if (count > LINKED_MAX) throw tooMany("bank accounts", LINKED_MAX);
    await setBankAccountCount(trx, accountId, count);
    await choosePrimary(trx, own, linked);
    return { linked, added, taken };
  }

  /** What was linked before, as it was consented to now. */
  async function takeOver(trx: Trx, before: BankAccountRow, one: Found, now: Date): Promise<BankAccountRow> {
    const { alias: _, ...shown } = one.shown;
    const change = {
      ...shown,
      numberSealed: sealNumber(before.id, one.number) ?? before.numberSealed,
      automaticTopUp: shown.canDraw && before.automaticTopUp,
      updateTime: now,
    };
    await updateBankAccount(trx, before.id, change);
    return { ...before, ...change };
  }

  /** Only one of a person's bank accounts is primary, so the first that can be drawn from is, until they choose. */
  async function choosePrimary(trx: Trx, own: BankAccountRow[], linked: BankAccountRow[]) {
    if (own.some(({ primaryOf }) => primaryOf !== null)) return;
    const first = linked.find(({ canDraw }) => canDraw === 1);
    if (!first) return;
    first.primaryOf = first.accountId;
    await updateBankAccount(trx, first.id, { primaryOf: first.accountId });
  }

  /** Without an identity nobody can say whose consent it is, but all of an account are one person's. */
  async function isSameUser(trx: Trx, own: BankAccountRow[], { userSeqNo }: UserGrant): Promise<boolean> {
    const hasOthers = own.some(({ fintechUseNum }) => fintechUseNum !== "");
    const grant = await findGrant(trx, own[0]?.accountId ?? 0n);
    return !hasOthers || !grant || grant.userSeqNo === userSeqNo;
  }

  /** Whose account the bank says it is. Throws BANK_PERSON_MISMATCH when the birth date is another. */
  async function askRealName(accountId: bigint, query: Omit<RealNameQuery, "tranId" | "time">) {
    await attempts.count(accountId);
    try {
      return await tokens.withInstitutionToken(async (token) => {
        const time = new Date();
        const tranId = await claimTranId(db, settings.institutionCode, time);
        return banking.getRealName(token, { ...query, tranId, time });
      });
    } catch (error) {
      if (!(error instanceof BankingError)) throw error;
      if (isOtherPerson(error)) throw bankPersonMismatch();
      if (error.kind === "refused") throw refusalOf(error, query.bankCode);
      await attempts.giveBack(accountId);
      throw unavailable();
    }
  }

  /**
   * Tells the log what has been linked. It is linked by then, so whoever asked is told so, also when the lane has no room
   * for the event; a job tells it then.
   */
  async function tellLinked(added: bigint[]) {
    if (added.length === 0) return;
    await lane.submit(tellLinks(added)).catch((err: unknown) => {
      log.warn({ err, bankAccounts: added.map(String) }, "that bank accounts were linked is told later");
    });
  }

  return {
    /** Begins a consent, which comes back with the state. */
    async start({ accountId, holderId }: Owner) {
      const state = randomBytes(STATE_BYTES).toString("base64url");
      const createTime = new Date();
      const expireTime = new Date(createTime.getTime() + CONSENT_MS);
      const stateHash = hashOf(state);
      await insertConsent(db, { stateHash, accountId, holderId, createTime, expireTime, useTime: null });
      return { consentUrl: banking.consentUrl(state), state, expireTime };
    },

    /**
     * Links what the person has consented to. Throws BANK_STATE_INVALID, BANK_CONSENT_REFUSED, BANK_PERSON_MISMATCH,
     * TOO_MANY, DEPENDENCY_UNAVAILABLE.
     */
    async finish(owner: Owner, { state, code }: { state: string; code: string }): Promise<Linked> {
      const { accountId } = owner;
      const stateHash = hashOf(state);
      if (!(await useConsent(db, { ...owner, stateHash }, new Date()))) throw bankStateInvalid();
      const { grant, found, ci } = await fetchConsent(stateHash, code);
      const identityId = await identities.find(ci);
      const result = await transact(db, async (trx) => {
        const account = await lockOwner(trx, accountId);
        if (!account) throw accountNotFound(accountId);
        const own = await lockLinked(trx, accountId);
        const isOwner =
          account.identityId === null ? await isSameUser(trx, own, grant) : account.identityId === identityId;
        if (!isOwner) throw bankPersonMismatch();
        const done = await link(trx, owner, own, found);
        if (done.linked.length === 0) return done;
        await tokens.keep(trx, accountId, grant);
        await forgetRevocations(
          trx,
          done.linked.map(({ fintechUseNum }) => fintechUseNum),
        );
        return done;
      });
      await tellLinked(result.added);
      return result;
    },

    /**
     * Links a bank account of which the bank says that it is the person's. Throws IDENTITY_REQUIRED, TOO_MANY_ATTEMPTS,
     * BANK_PERSON_MISMATCH, BANK_REFUSED, BANK_ACCOUNT_TAKEN, TOO_MANY, DEPENDENCY_UNAVAILABLE.
     */
    async linkByNumber(
      owner: Owner,
      { bankCode, accountNumber: number, alias }: { bankCode: string; accountNumber: string; alias: string },
    ): Promise<BankAccountRow> {
      const { accountId } = owner;
      const identity = await identities.findOf(accountId);
      if (!identity) throw identityRequired();
      const linkKey = linkKeyOf({ bankCode, fintechUseNum: "" }, number);
      const before = (await listLinked(db, accountId)).find((row) => row.linkKey?.equals(linkKey));
      if (before && isReadable(before)) return before;

      const birthDate = identity.birthDate.replaceAll("-", "").slice(2);
      const { holderName, bankName } = await askRealName(accountId, { bankCode, accountNumber: number, birthDate });
      const maskedNumber = masked(number);
      const consent = { fintechUseNum: "", canInquire: 0, canDraw: 0 };
      const one = { shown: { bankCode, bankName, maskedNumber, holderName, alias, ...consent }, number };
      const result = await transact(db, async (trx) => {
        const account = await lockOwner(trx, accountId);
        if (!account) throw accountNotFound(accountId);
        if (!isSameName(account.displayName, holderName)) throw bankPersonMismatch();
        return link(trx, owner, await lockLinked(trx, accountId), [one]);
      });
      const [row] = result.linked;
      if (!row) throw bankAccountTaken();
      await tellLinked(result.added);
      return row;
    },

    /** Changes what is given. Throws BANK_ACCOUNT_NOT_FOUND, BANK_CONSENT_MISSING. */
    update: (accountId: bigint, bankAccountId: bigint, { alias, ...change }: LinkChange): Promise<BankAccountRow> =>
      transact(db, async (trx) => {
        const own = await lockLinked(trx, accountId);
        const row = own.find(({ id }) => id === bankAccountId);
        if (!row) throw bankAccountNotFound(bankAccountId);
        if (change.automaticTopUp && row.canDraw === 0) throw bankConsentMissing(row.id);

        const primaryOf = change.primary === undefined ? row.primaryOf : change.primary ? accountId : null;
        const other = own.find(({ id, primaryOf: isPrimary }) => isPrimary !== null && id !== row.id);
        if (primaryOf !== null && other) await updateBankAccount(trx, other.id, { primaryOf: null });
        const after = {
          alias: alias?.toWellFormed() ?? row.alias,
          primaryOf,
          automaticTopUp: Number(change.automaticTopUp ?? row.automaticTopUp),
          topUpUnit: change.topUpUnit ?? row.topUpUnit,
          updateTime: new Date(),
        };
        await updateBankAccount(trx, row.id, after);
        return { ...row, ...after };
      }),

    /** Ends a link at once. Throws BANK_ACCOUNT_NOT_FOUND. */
    async unlink(owner: Owner, bankAccountId: bigint, call: Call): Promise<BankAccountRow> {
      const { value } = await lane.submit(unlink(owner, bankAccountId), call);
      runner.nudge("bank.revoke");
      return value;
    },
  };
}

const hashOf = (state: string) => hash("sha256", state, "buffer");

/** What KFTC says no to, or does not know any more, takes another consent. */
function consentRefusalFor(error: unknown): unknown {
  if (!(error instanceof BankingError)) return error;
  return error.kind === "unavailable" ? unavailable() : bankConsentRefused();
}

/** An account that was closed at its bank, or only listed, is of no use. */
const isUsable = ({ isOpen, inquiryAgreed, transferAgreed }: ConsentedAccount) =>
  isOpen && (inquiryAgreed || transferAgreed);

function fromConsented(account: ConsentedAccount): Found {
  const { bankCode, bankName, maskedNumber, number, fintechUseNum, holderName } = account;
  const alias = account.alias.slice(0, ALIAS_CHARACTERS).toWellFormed();
  const consent = { canInquire: Number(account.inquiryAgreed), canDraw: Number(account.transferAgreed) };
  return { shown: { bankCode, bankName, maskedNumber, fintechUseNum, holderName, alias, ...consent }, number };
}

/** The same by its number, or by what KFTC calls it. */
const isSame = (row: BankAccountRow, { shown: { fintechUseNum } }: Found, linkKey: Buffer) =>
  row.linkKey?.equals(linkKey) === true || (fintechUseNum !== "" && row.fintechUseNum === fintechUseNum);

const rowOf = (
  own: Pick<BankAccountRow, "id" | "accountId" | "linkKey" | "numberSealed" | "apiKeyId">,
  { shown }: Found,
  now: Date,
): BankAccountRow => ({
  ...own,
  ...shown,
  state: BankAccount_State.LINKED,
  primaryOf: null,
  automaticTopUp: 0,
  topUpUnit: 1n,
  createTime: now,
  updateTime: now,
  unlinkTime: null,
  revokeDueTime: null,
  revokeTries: 0,
  leaseOwner: "",
  leaseUntil: null,
  tellDueTime: new Date(now.getTime() + TELL_MS),
});

/** Whether nobody has linked it. The unique key decides, also among those who link it at this moment. */
async function isInserted(trx: Trx, row: BankAccountRow): Promise<boolean> {
  try {
    await insertBankAccount(trx, row);
    return true;
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
    return false;
  }
}

const HIDDEN_DIGITS = 3;

/** As KFTC shows numbers to others. */
const masked = (number: string) => `${number.slice(0, -HIDDEN_DIGITS)}${"*".repeat(HIDDEN_DIGITS)}`;

/** Banks write names in capitals and without spaces, or in other forms of the same letters. */
const isSameName = (one: string, other: string) => plainName(one) === plainName(other);
const plainName = (name: string) => name.normalize("NFKC").replaceAll(/\s/g, "").toLowerCase();

/** Tells of those of which nobody has told yet. */
export const tellLinks = (bankAccountIds: bigint[]): Command<void> => ({
  touches: { bankAccount: bankAccountIds },
  decide(books) {
    for (const id of bankAccountIds) {
      const row = books.find("bankAccount", id);
      if (row) tellLink(books, row);
    }
  },
});

/** In the lane, because what is under way there must see the bank account either linked or not. */
const unlink = ({ accountId, keyId }: Owner, bankAccountId: bigint): Command<BankAccountRow> => ({
  touches: { account: [accountId], bankAccount: [bankAccountId] },
  decide(books) {
    const row = books.find("bankAccount", bankAccountId);
    if (row?.accountId !== accountId || row.state !== BankAccount_State.LINKED)
      throw bankAccountNotFound(bankAccountId);
    return endLink(books, row, keyId);
  },
});
