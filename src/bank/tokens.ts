import type { App } from "../app.ts";
import type { Trx } from "../db/database.ts";
import { BankingError, type OpenBanking, type UserGrant } from "./openbanking/contract.ts";
import { findGrant, keepGrant } from "./queries.ts";
import type { Vault } from "./vault.ts";

export type BankTokens = ReturnType<typeof openBankTokens>;

const contextOf = (accountId: bigint) => `bank_grant:${accountId}`;

/** What calls are made with: the grants of people, encrypted, and a token of ours. */
export function openBankTokens({ db }: Pick<App, "db">, banking: OpenBanking, vault: Vault) {
  let own: Promise<string> | undefined;
  return {
    /** What a person lets us do from now on, in the place of what they let us do before. */
    async keep(trx: Trx, accountId: bigint, { accessToken, refreshToken, scope, ...grant }: UserGrant) {
      await keepGrant(trx, {
        ...grant,
        accountId,
        accessToken: vault.seal(accessToken, contextOf(accountId)),
        refreshToken: vault.seal(refreshToken, contextOf(accountId)),
        scope: scope.join(" "),
        updateTime: new Date(),
      });
    },

    /** Makes a call with what the person lets us do. Throws a BankingError of kind "token" when that is nothing. */
    async withUserToken<T>(accountId: bigint, use: (token: string) => Promise<T>): Promise<T> {
      const grant = await findGrant(db, accountId);
      if (!grant) throw new BankingError("token", "NO_GRANT");
      return use(vault.open(grant.accessToken, contextOf(accountId)));
    },

    /** Makes a call that needs no person's consent. */
    async withInstitutionToken<T>(use: (token: string) => Promise<T>): Promise<T> {
      own ??= banking.institutionToken().then(({ accessToken }) => accessToken);
      return use(await own);
    },
  };
}
