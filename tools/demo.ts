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
  /** Signed up by text message; the others by mail. */
  carol: Person;
  partner: { id: string; walletId: string };
  keys: { service: string; partner: string; operator: string };
}

interface Person {
  /** What they sign in with: an e-mail address or a phone number. */
  address: string;
  accountId: string;
  walletId: string;
}

export interface DemoOptions {
  /** Where it is remembered, keys included. */
  file: string;
  database: string;
  serverUrl: string;
  mailUrl: string;
  smsUrl: string;
  /** Runs `chatpay` with arguments and returns what it prints. */
  chatpay(...args: string[]): Promise<string>;
}

const PASSWORD = "a demo password";
const START_MONEY = 1_000_000n;
const READ_TRIES_MAX = 50;
const READ_PAUSE_MS = 100;

/** The demo that this database has, made at the first start through the API as anybody would. */
export async function makeDemo(options: DemoOptions): Promise<Demo> {
  const known = await readFile(options.file, "utf8").catch(() => undefined);
  const demo = known ? (JSON.parse(known) as Demo) : undefined;
  if (demo?.database === options.database && "carol" in demo) return demo;

  // A start that was interrupted here is taken up again: people sign in, and the keys of the calls are fixed.
  const accounts = createClient(AccountService, transport(options.serverUrl));
  const byMail = (email: string) => ({ address: { email }, newest: `${options.mailUrl}/mail/latest?to=${email}` });
  const alice = await join(accounts, byMail("alice@example.com"), "Alice");
  const bob = await join(accounts, byMail("bob@example.com"), "Bob");
  const newest = `${options.smsUrl}/sms/latest?to=01012345678`;
  const carol = await join(accounts, { address: { phone: "+821012345678" }, newest }, "Carol");

  const operator = await makeKey(options, "operator");
  const asOperator = transport(options.serverUrl, operator);
  const wallets = createClient(WalletService, asOperator);
  for (const { address, walletId } of [alice, bob, carol]) {
    const credit = { walletId, amount: START_MONEY, reason: "money to try ChatPay with" };
    await wallets.creditWallet({ ...credit, idempotencyKey: `demo-${address}` });
  }
  const payments = createClient(PaymentService, asOperator);
  const { partner } = await payments.createPartner({ name: "Demo Shop", idempotencyKey: "demo-shop" });
  if (!partner) throw new Error("the server made no partner");

  const made: Demo = {
    database: options.database,
    password: PASSWORD,
    alice,
    bob,
    carol,
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

/** How somebody signs in, and where the newest message to them is read. */
interface Reachable {
  address: { email: string } | { phone: string };
  newest: string;
}

async function join(accounts: Client<typeof AccountService>, { address, newest }: Reachable, displayName: string) {
  try {
    const { account } = await accounts.signIn({ ...address, password: PASSWORD });
    return personOf(account);
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
  }
  await accounts.sendCode({ ...address, purpose: CodePurpose.SIGN_UP });
  const code = await readCode(newest);
  const { account } = await accounts.signUp({ ...address, code, password: PASSWORD, displayName });
  return personOf(account);
}

function personOf(account: Account | undefined): Person {
  if (!account) throw new Error("the server returned no account");
  return { address: account.email || account.phone, accountId: account.id, walletId: account.mainWalletId };
}

async function readCode(newest: string): Promise<string> {
  for (let attempt = 1; attempt <= READ_TRIES_MAX; attempt += 1) {
    const { text = "" } = (await (await fetch(newest)).json()) as { text?: string };
    const [code] = /\b\d{6}\b/.exec(text) ?? [];
    if (code) return code;
    await sleep(READ_PAUSE_MS);
  }
  throw new Error(`no code arrived: ${newest}`);
}

async function makeKey({ chatpay }: DemoOptions, kind: string, ...more: string[]): Promise<string> {
  const printed = await chatpay("key", "create", "--kind", kind, "--name", `demo ${kind}`, ...more);
  const [, key] = /^key\s+(\S+)$/m.exec(printed) ?? [];
  if (!key) throw new Error(`chatpay key create printed no key:\n${printed}`);
  return key;
}
