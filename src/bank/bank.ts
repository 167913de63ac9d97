import type { Config } from "../config.ts";
import type { App } from "../app.ts";
import { openBanking } from "./openbanking/client.ts";
import type { BankingSettings, OpenBanking } from "./openbanking/contract.ts";
import { type BankTokens, openBankTokens } from "./tokens.ts";
import { openVault, type Vault } from "./vault.ts";

/** All that it takes to talk with banks. */
export interface Bank {
  settings: BankingSettings & Pick<NonNullable<Config["banking"]>, "absentMs">;
  banking: OpenBanking;
  /** What the calls are made with. */
  tokens: BankTokens;
  /** Keeps tokens and account numbers. */
  vault: Vault;
}

/** None where open banking is not configured. */
export function openBank(app: Pick<App, "config" | "db" | "redis" | "log">): Bank | undefined {
  const { banking: settings, bankSecret: secret, acceptedBankSecrets: acceptedSecrets } = app.config;
  if (!settings) return undefined;
  const banking = openBanking(settings);
  const vault = openVault({ secret, acceptedSecrets });
  return { settings, banking, vault, tokens: openBankTokens(app, banking, vault) };
}
