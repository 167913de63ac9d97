import { Account_State } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import type { AccountRow, IdentityRow } from "../db/schema.ts";
import { accountNotFound, identityFixed, identityMismatch, identityTaken, requestInvalid } from "../errors.ts";
import type { Command } from "../ledger/command.ts";
import type { Call } from "../ledger/lane.ts";
import { seoulDay } from "../seoul.ts";
import { keyedHash } from "./hash.ts";
import { findAccount, findIdentity, findIdentityOf, keepIdentity } from "./queries.ts";

/** What an identification service proved of a person. */
export interface Proof {
  /** The connecting information. */
  ci: string;
  /** As 1990-12-31. */
  birthDate: string;
}

/** Knows who people are, without knowing their CI: of that there is a keyed hash only. */
export function openIdentities({ config, db, lane, newId }: App) {
  /** Base64 can say the same bytes in several ways; they are one person. */
  const identityKeyOf = (ci: string) =>
    keyedHash(config.hashSecret, "identity", Buffer.from(ci, "base64").toString("base64"));

  return {
    /** The identity of whom this is the CI, if an account ever had it. It never changes. */
    async find(ci: string): Promise<bigint | undefined> {
      return (await findIdentity(db, identityKeyOf(ci)))?.id;
    },

    /** Who the owner of an account is, if that was said. */
    findOf: (accountId: bigint): Promise<IdentityRow | undefined> => findIdentityOf(db, accountId),

    /** Says once whose account it is. Throws IDENTITY_FIXED, IDENTITY_TAKEN, IDENTITY_MISMATCH. */
    async set(
      { accountId, keyId }: { accountId: bigint; keyId: bigint },
      { ci, birthDate }: Proof,
      call: Call,
    ): Promise<AccountRow> {
      checkBirthDate(birthDate);
      const identityKey = identityKeyOf(ci);
      const account = await findAccount(db, accountId);
      if (account?.state !== Account_State.OPEN) throw accountNotFound(accountId);
      let identity = await findIdentity(db, identityKey);
      if (account.identityId !== null && account.identityId !== identity?.id) throw identityFixed();
      // Rows of identities never change, so what is read here is still so when the lane decides.
      identity ??= await keepIdentity(db, { id: newId(), identityKey, birthDate, createTime: new Date() });
      const { value } = await lane.submit(identify(accountId, identity, birthDate, keyId), call);
      return value;
    },
  };
}

/**
 * The account belongs to the person, who has no other open one: the unique key sees to that, whoever comes first. The
 * event is for the other servers of the chat; it says that the person is known, and not who it is.
 */
const identify = (
  accountId: bigint,
  { id: identityId, identityKey, birthDate: known }: IdentityRow,
  birthDate: string,
  keyId: bigint,
): Command<AccountRow> => ({
  touches: { account: [accountId] },
  once: {
    by: "accountIdentity",
    key: identityKey,
    repeat(first) {
      if (first.id !== accountId) throw identityTaken();
      if (birthDate !== known) throw identityMismatch();
      return first;
    },
  },
  decide(books) {
    const account = books.account(accountId);
    if (account.state !== Account_State.OPEN) throw accountNotFound(accountId);
    if (account.identityId !== null && account.identityId !== identityId) throw identityFixed();
    if (birthDate !== known) throw identityMismatch();
    if (account.identityId !== null) return account;
    books.tell("account.identified", [accountId], { accountId, apiKeyId: keyId });
    return books.updateAccount(accountId, { identityId, identityKey });
  },
});

/** A day that was, by the calendar and by the clock in Seoul. */
function checkBirthDate(birthDate: string) {
  const day = new Date(`${birthDate}T00:00:00Z`);
  const isDay = !Number.isNaN(day.getTime()) && day.toISOString().startsWith(birthDate);
  if (!isDay || birthDate.replaceAll("-", "") >= seoulDay(new Date()))
    throw requestInvalid("birth_date: must be a day in the past");
}
