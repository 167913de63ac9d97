import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type Account, AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { PaymentService } from "../gen/chatpay/payment/v1/payment_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";

/** What a newcomer needs to try everything. */
export interface Demo {
  /** The database that holds it. */
  database: string;
  password: string;
  alice: Person;
  bob: Person;
  partner: { id: string; walletId: string };
  keys: { service: string; partner: string; operator: string };
}

interface Person {
  email: string;
  accountId: string;
  walletId: string;
}

export interface DemoOptions {
  /** Where it is remembered, keys included. */
  file: string;
  database: string;
  serverUrl: string;
  inboxUrl: string;
  /** Runs `chatpay` with arguments and returns what it prints. */
  chatpay(...args: string[]): Promise<string>;
}

const PASSWORD = "a demo password";
const START_MONEY = 1_000_000n;
const MAIL_TRIES_MAX = 50;
const MAIL_PAUSE_MS = 100;

/** The demo that this database has, made at the first start through the API as anybody would. */
export async function makeDemo(options: DemoOptions): Promise<Demo> {
  const known = await readFile(options.file, "utf8").catch(() => undefined);
  const demo = known ? (JSON.parse(known) as Demo) : undefined;
  if (demo?.database === options.database) return demo;

  // A start that was interrupted here is taken up again: people sign in, and the keys of the calls are fixed.
  const accounts = createClient(AccountService, transport(options.serverUrl));
  const alice = await join(accounts, options.inboxUrl, "alice@example.com", "Alice");
  const bob = await join(accounts, options.inboxUrl, "bob@example.com", "Bob");

  const operator = await makeKey(options, "operator");
  const asOperator = transport(options.serverUrl, operator);
  const wallets = createClient(WalletService, asOperator);
  for (const { email, walletId } of [alice, bob]) {
    const credit = { walletId, amount: START_MONEY, reason: "money to try ChatPay with" };
    await wallets.creditWallet({ ...credit, idempotencyKey: `demo-${email}` });
  }
  const payments = createClient(PaymentService, asOperator);
  const { partner } = await payments.createPartner({ name: "Demo Shop", idempotencyKey: "demo-shop" });
  if (!partner) throw new Error("the server made no partner");

  const made: Demo = {
    database: options.database,
    password: PASSWORD,
    alice,
    bob,
    partner: { id: partner.id, walletId: partner.walletId },
    keys: {
      service: await makeKey(options, "service"),
      partner: await makeKey(options, "partner", "--partner", partner.id),
      operator,
    },
  };
  await writeFile(options.file, `${JSON.stringify(made, null, 2)}\n`, { mode: 0o600 });
  return made;
}

const transport = (baseUrl: string, key?: string) => {
  const withKey: Interceptor = (next) => (request) => {
    if (key) request.header.set("authorization", `Bearer ${key}`);
    return next(request);
  };
  return createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: [withKey] });
};

async function join(accounts: Client<typeof AccountService>, inboxUrl: string, email: string, displayName: string) {
  try {
    const { account } = await accounts.signIn({ email, password: PASSWORD });
    return personOf(account);
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
  }
  await accounts.sendCode({ email, purpose: CodePurpose.SIGN_UP });
  const code = await readCode(inboxUrl, email);
  const { account } = await accounts.signUp({ email, code, password: PASSWORD, displayName });
  return personOf(account);
}

function personOf(account: Account | undefined): Person {
  if (!account) throw new Error("the server returned no account");
  return { email: account.email, accountId: account.id, walletId: account.mainWalletId };
}

async function readCode(inboxUrl: string, email: string): Promise<string> {
  for (let attempt = 1; attempt <= MAIL_TRIES_MAX; attempt += 1) {
    const response = await fetch(`${inboxUrl}/mail/latest?to=${encodeURIComponent(email)}`);
    const { text = "" } = (await response.json()) as { text?: string };
    const [code] = /\b\d{6}\b/.exec(text) ?? [];
    if (code) return code;
    await sleep(MAIL_PAUSE_MS);
  }
  throw new Error(`no code for ${email} arrived in the inbox ${inboxUrl}`);
}

async function makeKey({ chatpay }: DemoOptions, kind: string, ...more: string[]): Promise<string> {
  const printed = await chatpay("key", "create", "--kind", kind, "--name", `demo ${kind}`, ...more);
  const [, key] = /^key\s+(\S+)$/m.exec(printed) ?? [];
  if (!key) throw new Error(`chatpay key create printed no key:\n${printed}`);
  return key;
}
