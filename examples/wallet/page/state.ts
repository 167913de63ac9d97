import type { Account, GetAccountResponse } from "../../../gen/chatpay/account/v1/account_pb.ts";
import type {
  BankAccount,
  BankTransfer,
  ListBankAccountsResponse,
  ListBankTransfersResponse,
} from "../../../gen/chatpay/bank/v1/bank_pb.ts";
import type {
  Entry,
  ListEntriesResponse,
  ListWalletsResponse,
  Wallet,
} from "../../../gen/chatpay/wallet/v1/wallet_pb.ts";
import type { Settings } from "../settings.ts";
import { CallError, call, type Json } from "./rpc.ts";
import { switchLanguage, t, words } from "./text.ts";

/** What the page knows, and how it learns it. */

/** What lies over the page: a form. */
export type Sheet = { problem?: string; told?: string; pin?: "ask" | "set" } & (
  | { name: "topUp" | "withdraw" | "send" | "pay" }
  | { name: "newSavings"; key: string }
  | { name: "bank" | "savings"; id: string }
);

interface State {
  phase: "starting" | "out" | "in";
  settings: Settings;
  /** How somebody signs in, and where a code was sent. */
  door: { mode: "password" | "code" | "signUp"; email: string; isSent: boolean };
  account: Json<Account>;
  main: Json<Wallet>;
  savings: Json<Wallet>[];
  banks: Json<BankAccount>[];
  /** The newest, with what is under way. */
  bankTransfers: Json<BankTransfer>[];
  entries: Json<Entry>[];
  nextPageToken: string;
  sheet: Sheet | undefined;
  /** What is being done just now; then nothing else can be begun. */
  working: string;
  notice: { text: string; isBad: boolean } | undefined;
}

const NOBODY = {
  account: {},
  main: {},
  savings: [],
  banks: [],
  bankTransfers: [],
  entries: [],
  nextPageToken: "",
  sheet: undefined,
} satisfies Partial<State>;

export const state: State = {
  phase: "starting",
  settings: {},
  door: { mode: "password", email: "", isSent: false },
  working: "",
  notice: undefined,
  ...NOBODY,
};

const PAGE_SIZE = 10;
const NOTICE_MS = 8_000;
const WALLETS = "chatpay.wallet.v1.WalletService";
const BANKS = "chatpay.bank.v1.BankService";

let show = () => {};
let isPlanned = false;

/** Whoever shows the state is told of changes, once for all that are made together. */
export function onChange(render: () => void) {
  show = render;
}

export function change(to: Partial<State>) {
  Object.assign(state, to);
  if (isPlanned) return;
  isPlanned = true;
  queueMicrotask(() => {
    isPlanned = false;
    show();
  });
}

/** All texts are read anew with the next rendering. */
export function speakOther() {
  switchLanguage();
  change({});
}

/** The other tabs of this browser: they are told when something moved, or somebody came or went. */
export const otherTabs = new BroadcastChannel("chatpay");

/** Does one thing at a time, and shows why it failed: in the sheet that is open, or on the page. */
export async function work(name: string, job: () => Promise<void>) {
  if (state.working) return;
  change({ working: name, notice: undefined, sheet: state.sheet && { ...state.sheet, problem: "", told: "" } });
  try {
    await job();
  } catch (error) {
    fail(error);
  } finally {
    change({ working: "" });
  }
}

/** Tells in plain words what went wrong, and what to do. */
export function fail(error: unknown) {
  if (!(error instanceof CallError)) throw error;
  if (state.phase === "in" && error.reason === "REFRESH_TOKEN_INVALID") forget();
  const problem = words(error);
  if (state.sheet) change({ sheet: { ...state.sheet, problem } });
  else change({ notice: { text: problem, isBad: true } });
}

/** Says for a while that something is done. */
export function tell(text: string) {
  const notice = { text, isBad: false };
  change({ notice });
  setTimeout(() => state.notice === notice && change({ notice: undefined }), NOTICE_MS);
}

/** Nobody is signed in any more. */
export const forget = () => change({ ...NOBODY, phase: "out", door: { mode: "password", email: "", isSent: false } });

/** All that the wallet shows, for somebody who has just come in. */
export async function load() {
  const { account = {} } = await call<GetAccountResponse>("chatpay.account.v1.AccountService/GetAccount");
  change({ account });
  await Promise.all([reload(), loadBanks()]);
  change({ phase: "in" });
}

/** What money has moved. */
export async function reload() {
  const [{ wallets = [] }, page, { bankTransfers = [] }] = await Promise.all([
    call<ListWalletsResponse>(`${WALLETS}/ListWallets`),
    listEntries(),
    call<ListBankTransfersResponse>(`${BANKS}/ListBankTransfers`),
  ]);
  const open = wallets.filter((wallet) => wallet.state !== "STATE_CLOSED");
  tellOfFailures(bankTransfers);
  change({
    main: open.find(({ kind }) => kind === "KIND_MAIN") ?? {},
    savings: open.filter(({ kind }) => kind === "KIND_SAVINGS"),
    bankTransfers,
    ...joined(page),
  });
}

/** Linked accounts at once, and what is on them when the banks have said. */
export async function loadBanks() {
  const list = async (withBalances: boolean) => {
    const { bankAccounts = [] } = await call<ListBankAccountsResponse>(`${BANKS}/ListBankAccounts`, { withBalances });
    const before = new Map(state.banks.map(({ id, liveBalance }) => [id, liveBalance]));
    change({ banks: bankAccounts.map((bank) => ({ liveBalance: before.get(bank.id), ...bank })) });
  };
  await list(false);
  if (state.banks.length > 0) list(true).catch(fail);
}

/** The next page of the statement. */
export async function loadMore() {
  const { entries = [], nextPageToken = "" } = await listEntries(state.nextPageToken);
  change({ entries: [...state.entries, ...entries], nextPageToken });
}

export const isUnderWay = ({ state: is }: Json<BankTransfer>) => is === "STATE_PENDING" || is === "STATE_UNKNOWN";

const listEntries = (pageToken = "") =>
  call<ListEntriesResponse>(`${WALLETS}/ListEntries`, { pageSize: PAGE_SIZE, pageToken });

/** The first page with the older ones behind it, if the numbers of the entries say that nothing is between. */
function joined({ entries = [], nextPageToken = "" }: Json<ListEntriesResponse>) {
  const last = Number(entries.at(-1)?.sequence);
  const older = state.entries.filter(({ sequence }) => Number(sequence) < last);
  if (Number(older[0]?.sequence) !== last - 1) return { entries, nextPageToken };
  return { entries: [...entries, ...older], nextPageToken: state.nextPageToken };
}

/** Of what was under way, the bank has declined some meanwhile. */
function tellOfFailures(now: Json<BankTransfer>[]) {
  const before = new Set(state.bankTransfers.filter(isUnderWay).map(({ id }) => id));
  const failed = now.find(({ id, state: is }) => before.has(id) && is === "STATE_FAILED");
  if (failed) change({ notice: { text: t.declinedLater(failed.failureMessage ?? ""), isBad: true } });
}
