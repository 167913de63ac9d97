import { randomBytes, randomUUID } from "node:crypto";
import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { AccountService, CodePurpose } from "../gen/chatpay/account/v1/account_pb.ts";
import { CallerKind, Scope, ScopeSchema } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { BankService } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { ErrorInfoSchema } from "../gen/chatpay/error/v1/error_pb.ts";
import { KeyService } from "../gen/chatpay/key/v1/key_pb.ts";
import type { BatchSendTransfersResponse } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { Wallet_Kind, Wallet_State, WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { addressOf, columnsOf } from "../src/account/address.ts";
import { openCodes } from "../src/account/codes.ts";
import { openTokens } from "../src/account/tokens.ts";
import { createKey, revokeKey } from "../src/key/key.ts";
import { addCitizen, consentTo, linkBank, seoulDate } from "./support/banks.ts";
import { balanceOf, openPartner, openWallet, type Person } from "./support/people.ts";
import { call, DOORS, everyRpc, nameOf, outcomeOf } from "./support/rpcs.ts";
import { type Credential, type Door, startServer } from "./support/server.ts";

// Each test calls every RPC, some of them for many callers.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

type Kind = "person" | "service" | "partner" | "operator";

const INVALID = "InvalidArgument REQUEST_INVALID";
const NOT_FOUND = "NotFound ACCOUNT_NOT_FOUND";
const NOT_SETTLED = "FailedPrecondition ACCOUNT_NOT_SETTLED";
const FROZEN = "FailedPrecondition WALLET_FROZEN";

/** Everything that a bank has written so far. */
const TODAY = { startDate: seoulDate(-1), endDate: seoulDate(0) };

interface Row {
  /** Who may call, and what an empty request of theirs is answered. All others are refused. */
  may: { [kind in Kind | "anyone"]?: string };
  /** What an API key that has scopes needs. */
  scope?: keyof typeof Scope;
  /** A good request of somebody with a wallet, and what it is answered when that wallet is frozen. */
  good?: (me: Person, credential: Credential) => object | Promise<object>;
  frozen?: string;
}

/** What is expected of every RPC. One that is not here fails. */
const RPCS: Record<string, Row> = {
  "AccountService/SendCode": { may: { anyone: INVALID } },
  "AccountService/SignUp": { may: { anyone: INVALID } },
  "AccountService/SignIn": { may: { anyone: INVALID } },
  "AccountService/SignInWithCode": { may: { anyone: INVALID } },
  "AccountService/ResetPassword": { may: { anyone: INVALID } },
  "AccountService/RefreshTokens": { may: { anyone: "Unauthenticated REFRESH_TOKEN_INVALID" } },
  "AccountService/SignOut": { may: { person: "OK" }, good: () => ({}), frozen: "OK" },
  "AccountService/ListSessions": { may: { person: "OK" }, good: () => ({}), frozen: "OK" },
  "AccountService/EndSession": {
    may: { person: INVALID },
    good: async (me) => ({ sessionId: await openSession(me.accountId) }),
    frozen: "OK",
  },
  "AccountService/EndOtherSessions": { may: { person: "OK" }, good: () => ({}), frozen: "OK" },
  "AccountService/ChangePassword": {
    may: { person: INVALID },
    good: async (me) => ({ newPassword: "correct horse", proofCode: (await ownProof(me, CodePurpose.CONFIRM)).code }),
    frozen: "OK",
  },
  "AccountService/ChangeAddress": {
    may: { person: INVALID },
    async good(me) {
      const { code: proofCode } = await ownProof(me, CodePurpose.CONFIRM);
      return { ...(await proof(CodePurpose.CHANGE_ADDRESS)), proofCode };
    },
    frozen: "OK",
  },
  "AccountService/SetPin": {
    may: { person: INVALID },
    good: async (me) => ({ ...(await ownProof(me, CodePurpose.SET_PIN)), pin: "290517" }),
    frozen: "OK",
  },
  "AccountService/SetIdentity": {
    may: { service: INVALID },
    scope: "IDENTITY_WRITE",
    good: () => ({ ci: randomBytes(64).toString("base64"), birthDate: "1990-12-31" }),
    frozen: "OK",
  },
  "AccountService/GetAccount": {
    may: { person: "OK", service: "OK", operator: NOT_FOUND },
    scope: "ACCOUNTS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "AccountService/UpdateAccount": {
    may: { person: "OK", service: "OK" },
    scope: "ACCOUNTS_WRITE",
    good: () => ({ displayName: "Me" }),
    frozen: "OK",
  },
  "AccountService/CloseAccount": {
    may: { person: NOT_SETTLED, service: NOT_SETTLED },
    scope: "ACCOUNTS_WRITE",
    async good(me) {
      await me.transfers.sendTransfer(sending(await balanceOf(me)));
      return {};
    },
    frozen: NOT_SETTLED,
  },

  "WalletService/GetWallet": {
    may: { person: "OK", service: "OK", partner: "OK", operator: "NotFound WALLET_NOT_FOUND" },
    scope: "WALLETS_READ",
    good: (me) => ({ walletId: me.walletId }),
    frozen: "OK",
  },
  "WalletService/ListWallets": {
    may: { person: "OK", service: "OK", partner: "OK", operator: "OK" },
    scope: "WALLETS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "WalletService/ListEntries": {
    may: { person: "OK", service: "OK", partner: "OK", operator: "NotFound WALLET_NOT_FOUND" },
    scope: "WALLETS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "WalletService/GetBalance": {
    may: { person: "OK", service: "OK", partner: "OK", operator: "NotFound WALLET_NOT_FOUND" },
    scope: "WALLETS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "WalletService/ExportEntries": {
    may: { person: "OK", service: "OK", partner: "OK", operator: "NotFound WALLET_NOT_FOUND" },
    scope: "WALLETS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "WalletService/GetAllowance": {
    may: { person: "OK", service: "OK", operator: "NotFound WALLET_NOT_FOUND" },
    scope: "WALLETS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "WalletService/CreateSavings": {
    may: { person: INVALID, service: INVALID },
    scope: "WALLETS_WRITE",
    good: () => ({ idempotencyKey: randomUUID(), name: "A trip" }),
    frozen: "OK",
  },
  "WalletService/RenameSavings": {
    may: { person: INVALID, service: INVALID },
    scope: "WALLETS_WRITE",
    good: async (me) => ({ walletId: await openSavings(me), name: "A bicycle" }),
    frozen: "OK",
  },
  "WalletService/CloseSavings": {
    may: { person: INVALID, service: INVALID },
    scope: "WALLETS_WRITE",
    good: async (me) => ({ walletId: await openSavings(me) }),
    frozen: "OK",
  },
  "WalletService/DepositSavings": {
    may: { person: INVALID, service: INVALID },
    scope: "WALLETS_WRITE",
    good: async (me) => saving(await openSavings(me)),
    frozen: FROZEN,
  },
  // It is the savings wallet that pays.
  "WalletService/WithdrawSavings": {
    may: { person: INVALID, service: INVALID },
    scope: "WALLETS_WRITE",
    async good(me) {
      const order = saving(await openSavings(me));
      await me.wallets.depositSavings(order);
      return { ...order, idempotencyKey: randomUUID() };
    },
    frozen: "OK",
  },
  "WalletService/CreditWallet": { may: { operator: INVALID }, scope: "WALLETS_WRITE" },
  "WalletService/DebitWallet": { may: { operator: INVALID }, scope: "WALLETS_WRITE" },
  "WalletService/FreezeWallet": { may: { operator: INVALID }, scope: "WALLETS_WRITE" },
  "WalletService/UnfreezeWallet": { may: { operator: INVALID }, scope: "WALLETS_WRITE" },
  "WalletService/SetTier": { may: { operator: INVALID }, scope: "WALLETS_WRITE" },

  "TransferService/SendTransfer": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: () => sending(1n),
    frozen: FROZEN,
  },
  "TransferService/BatchSendTransfers": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: () => ({ transfers: [sending(1n)] }),
    frozen: FROZEN,
  },
  "TransferService/SendGift": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: () => sending(1n),
    frozen: FROZEN,
  },
  // A frozen wallet receives, and what only goes back to its owner has not been paid.
  "TransferService/AcceptGift": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ transferId: await giftTo(me) }),
    frozen: "OK",
  },
  "TransferService/DeclineGift": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ transferId: await giftTo(me) }),
    frozen: "OK",
  },
  "TransferService/CancelGift": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ transferId: (await me.transfers.sendGift(sending(1n))).transfer?.id }),
    frozen: "OK",
  },
  "TransferService/ListTransferChanges": {
    may: { person: INVALID, service: INVALID, operator: INVALID },
    scope: "TRANSFERS_READ",
    good: async (me) => ({ transferId: (await me.transfers.sendGift(sending(1n))).transfer?.id }),
    frozen: "OK",
  },
  "TransferService/GetTransfer": {
    may: { person: INVALID, service: INVALID, operator: INVALID },
    scope: "TRANSFERS_READ",
    good: async (me) => ({ transferId: (await me.transfers.sendTransfer(sending(1n))).transfer?.id }),
    frozen: "OK",
  },
  "TransferService/ListTransfers": {
    may: { person: "OK", service: "OK" },
    scope: "TRANSFERS_READ",
    good: () => ({}),
    frozen: "OK",
  },

  "RequestService/CreateRequest": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: () => asking(friend.walletId),
    frozen: "OK",
  },
  "RequestService/SplitBill": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: () => ({ idempotencyKey: randomUUID(), total: 3n, payerWalletIds: [friend.walletId], takePart: true }),
    frozen: "OK",
  },
  "RequestService/PayRequest": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ requestId: await askFor(friend, me) }),
    frozen: FROZEN,
  },
  "RequestService/DeclineRequest": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ requestId: await askFor(friend, me) }),
    frozen: "OK",
  },
  "RequestService/CancelRequest": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ requestId: await askFor(me, friend) }),
    frozen: "OK",
  },
  "RequestService/RemindRequest": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ requestId: await askFor(me, friend) }),
    frozen: "OK",
  },
  "RequestService/GetRequest": {
    may: { person: INVALID, service: INVALID, operator: INVALID },
    scope: "TRANSFERS_READ",
    good: async (me) => ({ requestId: await askFor(me, friend) }),
    frozen: "OK",
  },
  "RequestService/ListSentRequests": {
    may: { person: "OK", service: "OK" },
    scope: "TRANSFERS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "RequestService/ListReceivedRequests": {
    may: { person: "OK", service: "OK" },
    scope: "TRANSFERS_READ",
    good: () => ({}),
    frozen: "OK",
  },

  "ScheduleService/ScheduleTransfer": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: () => scheduling(friend.walletId),
    frozen: "OK",
  },
  "ScheduleService/CancelScheduledTransfer": {
    may: { person: INVALID, service: INVALID },
    scope: "TRANSFERS_WRITE",
    good: async (me) => ({ scheduledTransferId: await schedule(me) }),
    frozen: "OK",
  },
  "ScheduleService/GetScheduledTransfer": {
    may: { person: INVALID, service: INVALID, operator: INVALID },
    scope: "TRANSFERS_READ",
    good: async (me) => ({ scheduledTransferId: await schedule(me) }),
    frozen: "OK",
  },
  "ScheduleService/ListScheduledTransfers": {
    may: { person: "OK", service: "OK" },
    scope: "TRANSFERS_READ",
    good: () => ({}),
    frozen: "OK",
  },

  "PaymentService/ApprovePayment": {
    may: { person: INVALID, service: INVALID },
    scope: "PAYMENTS_WRITE",
    good: () => paying(1n),
    frozen: FROZEN,
  },
  "PaymentService/GetPayment": {
    may: { person: INVALID, service: INVALID, partner: INVALID, operator: INVALID },
    scope: "PAYMENTS_READ",
    good: async (me) => ({ paymentId: (await me.payments.approvePayment(paying(1n))).payment?.id }),
    frozen: "OK",
  },
  "PaymentService/ListPayments": {
    may: { person: "OK", service: "OK", partner: "OK" },
    scope: "PAYMENTS_READ",
    good: () => ({}),
    frozen: "OK",
  },
  "PaymentService/CreatePartner": { may: { operator: INVALID }, scope: "PARTNERS_WRITE" },
  "PaymentService/GetPartner": {
    may: { partner: "OK", operator: "NotFound PARTNER_NOT_FOUND" },
    scope: "PARTNERS_READ",
  },
  "PaymentService/ListPartners": { may: { operator: "OK" }, scope: "PARTNERS_READ" },

  "BankService/StartLink": {
    may: { person: "OK", service: "OK" },
    scope: "BANKS_WRITE",
    good: () => ({}),
    frozen: "OK",
  },
  "BankService/FinishLink": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_WRITE",
    good: async (_, credential) =>
      consentTo(server, { banks: server.client(BankService, credential) }, { citizen: await addCitizen(server) }),
    frozen: "OK",
  },
  "BankService/LinkByNumber": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_WRITE",
    async good(me) {
      await me.accounts.setIdentity({ ci: randomBytes(64).toString("base64"), birthDate: "1990-12-31" });
      const { accounts } = await addCitizen(server, { name: "Somebody", birthDate: "19901231" });
      return { bankCode: accounts[0]?.bankCode, accountNumber: accounts[0]?.number };
    },
    frozen: "OK",
  },
  "BankService/ListBankAccounts": {
    may: { person: "OK", service: "OK" },
    scope: "BANKS_READ",
    good: async (me) => {
      await linkBank(server, me);
      return { withBalances: true };
    },
    frozen: "OK",
  },
  "BankService/UpdateBankAccount": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_WRITE",
    good: async (me) => ({ bankAccountId: (await linkBank(server, me)).bankAccount.id, automaticTopUp: true }),
    frozen: "OK",
  },
  "BankService/UnlinkBankAccount": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_WRITE",
    good: async (me) => ({ bankAccountId: (await linkBank(server, me)).bankAccount.id }),
    frozen: "OK",
  },
  "BankService/ListBankEntries": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_READ",
    good: async (me) => ({ bankAccountId: (await linkBank(server, me)).bankAccount.id, ...TODAY }),
    frozen: "OK",
  },
  "BankService/TopUp": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_WRITE",
    good: async (me) => ({
      idempotencyKey: randomUUID(),
      bankAccountId: (await linkBank(server, me)).bankAccount.id,
      amount: 1n,
    }),
    frozen: "OK",
  },
  "BankService/Withdraw": {
    may: { person: INVALID, service: INVALID },
    scope: "BANKS_WRITE",
    good: async (me) => ({
      idempotencyKey: randomUUID(),
      bankAccountId: (await linkBank(server, me)).bankAccount.id,
      amount: 1n,
    }),
    frozen: "FailedPrecondition WALLET_FROZEN",
  },
  "BankService/GetBankTransfer": {
    may: { person: INVALID, service: INVALID, operator: INVALID },
    scope: "BANKS_READ",
    good: async (me) => {
      const { bankAccount } = await linkBank(server, me);
      const order = { idempotencyKey: randomUUID(), bankAccountId: bankAccount.id, amount: 1n };
      return { bankTransferId: (await me.banks.topUp(order)).bankTransfer?.id ?? "" };
    },
    frozen: "OK",
  },
  "BankService/ListBankTransfers": {
    may: { person: "OK", service: "OK", operator: "OK" },
    scope: "BANKS_READ",
    frozen: "OK",
  },

  "KeyService/CreateKey": { may: { partner: INVALID, operator: INVALID }, scope: "KEYS_WRITE" },
  "KeyService/ListKeys": { may: { partner: "OK", operator: "OK" }, scope: "KEYS_READ" },
  "KeyService/RotateKey": { may: { partner: INVALID, operator: INVALID }, scope: "KEYS_WRITE" },
  "KeyService/RevokeKey": { may: { partner: INVALID, operator: INVALID }, scope: "KEYS_WRITE" },

  "LedgerService/VerifyBooks": { may: { operator: "OK" }, scope: "LEDGER_READ" },
  "AuditService/ListRecords": { may: { operator: "OK" }, scope: "AUDIT_READ" },
};

interface IdRow {
  /** Where the request names things by their ids. */
  fields: string[];
  request(id: string): object;
  /** A thing of that kind that is not the caller's. */
  foreign: keyof Foreign;
  /** It filters a listing: what is not the caller's is not there, and nothing is refused. */
  listing?: true;
}

const IDS: Record<string, IdRow> = {
  "AccountService/GetAccount": { fields: ["account_id"], request: (accountId) => ({ accountId }), foreign: "account" },
  "AccountService/EndSession": { fields: ["session_id"], request: (sessionId) => ({ sessionId }), foreign: "session" },
  "WalletService/GetWallet": { fields: ["wallet_id"], request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/ListEntries": { fields: ["wallet_id"], request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/GetBalance": { fields: ["wallet_id"], request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/ExportEntries": { fields: ["wallet_id"], request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/GetAllowance": { fields: ["wallet_id"], request: (walletId) => ({ walletId }), foreign: "wallet" },
  "WalletService/SetTier": {
    fields: ["wallet_id"],
    request: (walletId) => ({ walletId, tier: "", reason: "not mine" }),
    foreign: "wallet",
  },
  "WalletService/RenameSavings": {
    fields: ["wallet_id"],
    request: (walletId) => ({ walletId, name: "mine now" }),
    foreign: "savingsWallet",
  },
  "WalletService/CloseSavings": {
    fields: ["wallet_id"],
    request: (walletId) => ({ walletId }),
    foreign: "savingsWallet",
  },
  "WalletService/DepositSavings": {
    fields: ["savings_wallet_id"],
    request: (savingsWalletId) => saving(savingsWalletId),
    foreign: "savingsWallet",
  },
  "WalletService/WithdrawSavings": {
    fields: ["savings_wallet_id"],
    request: (savingsWalletId) => saving(savingsWalletId),
    foreign: "savingsWallet",
  },
  "WalletService/CreditWallet": {
    fields: ["wallet_id"],
    request: (walletId) => ({ idempotencyKey: randomUUID(), walletId, amount: 1n, reason: "mine now" }),
    foreign: "wallet",
  },
  "WalletService/DebitWallet": {
    fields: ["wallet_id"],
    request: (walletId) => ({ idempotencyKey: randomUUID(), walletId, amount: 1n, reason: "mine now" }),
    foreign: "wallet",
  },
  "WalletService/FreezeWallet": {
    fields: ["wallet_id"],
    request: (walletId) => ({ walletId, reason: "not mine" }),
    foreign: "wallet",
  },
  "WalletService/UnfreezeWallet": {
    fields: ["wallet_id"],
    request: (walletId) => ({ walletId, reason: "not mine" }),
    foreign: "wallet",
  },
  // People's wallets are there to be paid; the house's are not.
  "TransferService/SendTransfer": {
    fields: ["recipient_wallet_id"],
    request: (recipientWalletId) => ({ idempotencyKey: randomUUID(), recipientWalletId, amount: 1n }),
    foreign: "systemWallet",
  },
  "TransferService/BatchSendTransfers": {
    fields: ["transfers.recipient_wallet_id"],
    request: (recipientWalletId) => ({
      transfers: [{ idempotencyKey: randomUUID(), recipientWalletId, amount: 1n }],
    }),
    foreign: "systemWallet",
    listing: true,
  },
  "TransferService/SendGift": {
    fields: ["recipient_wallet_id"],
    request: (recipientWalletId) => ({ idempotencyKey: randomUUID(), recipientWalletId, amount: 1n }),
    foreign: "systemWallet",
  },
  "TransferService/AcceptGift": {
    fields: ["transfer_id"],
    request: (transferId) => ({ transferId }),
    foreign: "gift",
  },
  "TransferService/DeclineGift": {
    fields: ["transfer_id"],
    request: (transferId) => ({ transferId }),
    foreign: "gift",
  },
  "TransferService/CancelGift": {
    fields: ["transfer_id"],
    request: (transferId) => ({ transferId }),
    foreign: "gift",
  },
  "TransferService/ListTransferChanges": {
    fields: ["transfer_id"],
    request: (transferId) => ({ transferId }),
    foreign: "gift",
  },
  "TransferService/GetTransfer": {
    fields: ["transfer_id"],
    request: (transferId) => ({ transferId }),
    foreign: "transfer",
  },
  "TransferService/ListTransfers": {
    fields: ["counterparty_wallet_id"],
    request: (counterpartyWalletId) => ({ counterpartyWalletId }),
    foreign: "wallet",
    listing: true,
  },
  // People are there to be asked; the house is not.
  "RequestService/CreateRequest": {
    fields: ["parts.payer_wallet_id"],
    request: (payerWalletId) => asking(payerWalletId),
    foreign: "systemWallet",
  },
  "RequestService/PayRequest": {
    fields: ["request_id"],
    request: (requestId) => ({ requestId }),
    foreign: "moneyRequest",
  },
  "RequestService/DeclineRequest": {
    fields: ["request_id"],
    request: (requestId) => ({ requestId }),
    foreign: "moneyRequest",
  },
  "RequestService/CancelRequest": {
    fields: ["request_id"],
    request: (requestId) => ({ requestId }),
    foreign: "moneyRequest",
  },
  "RequestService/RemindRequest": {
    fields: ["request_id"],
    request: (requestId) => ({ requestId }),
    foreign: "moneyRequest",
  },
  "RequestService/GetRequest": {
    fields: ["request_id"],
    request: (requestId) => ({ requestId }),
    foreign: "moneyRequest",
  },
  "ScheduleService/ScheduleTransfer": {
    fields: ["recipient_wallet_id"],
    request: (recipientWalletId) => scheduling(recipientWalletId),
    foreign: "systemWallet",
  },
  "ScheduleService/CancelScheduledTransfer": {
    fields: ["scheduled_transfer_id"],
    request: (scheduledTransferId) => ({ scheduledTransferId }),
    foreign: "scheduledTransfer",
  },
  "ScheduleService/GetScheduledTransfer": {
    fields: ["scheduled_transfer_id"],
    request: (scheduledTransferId) => ({ scheduledTransferId }),
    foreign: "scheduledTransfer",
  },
  // Partners are there to be paid; an account is none.
  "PaymentService/ApprovePayment": {
    fields: ["partner_id"],
    request: (partnerId) => ({ partnerId, orderKey: randomUUID(), amount: 1n }),
    foreign: "account",
  },
  "PaymentService/GetPayment": { fields: ["payment_id"], request: (paymentId) => ({ paymentId }), foreign: "payment" },
  "PaymentService/GetPartner": { fields: ["partner_id"], request: (partnerId) => ({ partnerId }), foreign: "partner" },
  "BankService/UpdateBankAccount": {
    fields: ["bank_account_id"],
    request: (bankAccountId) => ({ bankAccountId, alias: "mine now" }),
    foreign: "bankAccount",
  },
  "BankService/UnlinkBankAccount": {
    fields: ["bank_account_id"],
    request: (bankAccountId) => ({ bankAccountId }),
    foreign: "bankAccount",
  },
  "BankService/ListBankEntries": {
    fields: ["bank_account_id"],
    request: (bankAccountId) => ({ bankAccountId, ...TODAY }),
    foreign: "bankAccount",
  },
  "BankService/TopUp": {
    fields: ["bank_account_id"],
    request: (bankAccountId) => ({ idempotencyKey: randomUUID(), bankAccountId, amount: 1n }),
    foreign: "bankAccount",
  },
  "BankService/Withdraw": {
    fields: ["bank_account_id"],
    request: (bankAccountId) => ({ idempotencyKey: randomUUID(), bankAccountId, amount: 1n }),
    foreign: "bankAccount",
  },
  "BankService/GetBankTransfer": {
    fields: ["bank_transfer_id"],
    request: (bankTransferId) => ({ bankTransferId }),
    foreign: "bankTransfer",
  },
  "KeyService/CreateKey": {
    fields: ["partner_id"],
    request: (partnerId) => ({ kind: CallerKind.PARTNER, partnerId, name: "mine now" }),
    foreign: "partner",
  },
  "KeyService/ListKeys": {
    fields: ["partner_id"],
    request: (partnerId) => ({ partnerId }),
    foreign: "partner",
    listing: true,
  },
  "KeyService/RotateKey": { fields: ["key_id"], request: (keyId) => ({ keyId }), foreign: "key" },
  "KeyService/RevokeKey": { fields: ["key_id"], request: (keyId) => ({ keyId }), foreign: "key" },
  "AuditService/ListRecords": {
    fields: ["account_id", "object_id", "key_id"],
    request: (id) => ({ accountId: id, objectId: id, keyId: id }),
    foreign: "account",
    listing: true,
  },
};

const server = await startServer();
const rpcs = everyRpc(server);
afterAll(() => server.stop());

interface Foreign {
  account: string;
  session: string;
  wallet: string;
  systemWallet: string;
  savingsWallet: string;
  transfer: string;
  moneyRequest: string;
  scheduledTransfer: string;
  gift: string;
  payment: string;
  partner: string;
  key: string;
  bankAccount: string;
  bankTransfer: string;
}

let alice: Person;
let shop: Awaited<ReturnType<typeof openPartner>>;
let stranger: Person;
let foreign: Foreign;
/** Who is paid by everybody, and who gives to everybody. */
let friend: Person;
let giver: Person;

beforeAll(async () => {
  alice = await openWallet(server, { balance: 1_000n });
  shop = await openPartner(server);
  stranger = await openWallet(server, { balance: 1_000n });
  friend = await openWallet(server);
  const theirShop = await openPartner(server);
  const sent = { idempotencyKey: randomUUID(), recipientWalletId: friend.walletId, amount: 10n };
  const { transfer } = await stranger.transfers.sendTransfer(sent);
  const { transfer: gift } = await stranger.transfers.sendGift(sent);
  giver = await openWallet(server, { balance: 1_000n });
  const order = { partnerId: theirShop.partnerId, orderKey: randomUUID(), amount: 10n };
  const { keys: theirKeys } = await server.client(KeyService, { bearer: theirShop.bearer }).listKeys({});
  const { payment } = await stranger.payments.approvePayment(order);
  const { bankAccount: theirBank } = await linkBank(server, stranger);
  const drawing = { idempotencyKey: randomUUID(), bankAccountId: theirBank.id, amount: 1n };
  const { bankTransfer: drawn } = await stranger.banks.topUp(drawing);
  foreign = {
    account: String(stranger.accountId),
    session: await openSession(stranger.accountId),
    wallet: stranger.walletId,
    systemWallet: await openSystemWallet(),
    savingsWallet: await openSavings(stranger),
    transfer: transfer?.id ?? "",
    moneyRequest: await askFor(stranger, friend),
    scheduledTransfer: await schedule(stranger),
    gift: gift?.id ?? "",
    payment: payment?.id ?? "",
    partner: theirShop.partnerId,
    key: theirKeys[0]?.id ?? "",
    bankAccount: theirBank.id,
    bankTransfer: drawn?.id ?? "",
  };
});

/** One more, because the small ids of those that are there meet other digits of an answer. */
async function openSystemWallet(): Promise<string> {
  const { db, newId } = server.app;
  const id = newId();
  const none = { accountId: null, partnerId: null, balance: 0n, held: 0n, version: 0n, sequence: 0n };
  const times = { createTime: new Date(), updateTime: new Date() };
  await db
    .insertInto("wallet")
    .values({ id, kind: Wallet_Kind.BANK_CLEARING, state: Wallet_State.OPEN, currency: "KRW", ...none, ...times })
    .execute();
  return String(id);
}

const MINUTE_MS = 60_000;

interface Session {
  of?: Pick<Person, "accountId" | "walletId">;
  ageMs?: number;
  ended?: boolean;
  tokenSecret?: typeof server.app.config.tokenSecret;
}

/** A person's access token in a session of its own, given out that long ago. */
async function accessToken({
  of = alice,
  ageMs = 0,
  ended,
  tokenSecret = server.app.config.tokenSecret,
}: Session = {}) {
  const { accountId, walletId } = of;
  const time = new Date(Date.now() - ageMs);
  const sessionId = BigInt(await openSession(accountId, time, ended));
  const tokens = openTokens({ ...server.app.config, tokenSecret });
  return (await tokens.sign({ accountId, walletId: BigInt(walletId), sessionId }, time)).token;
}

async function openSession(accountId: bigint, time = new Date(), ended = false): Promise<string> {
  const { db, newId } = server.app;
  const sessionId = newId();
  await db
    .insertInto("session")
    .values({
      id: sessionId,
      accountId,
      createTime: time,
      revokeTime: ended ? time : null,
      device: "",
      ip: "",
      lastUseTime: time,
    })
    .execute();
  return String(sessionId);
}

async function endedKey(kind: "service" | "partner" | "operator", how: "expired" | "revoked") {
  const partnerId = kind === "partner" ? BigInt(shop.partnerId) : undefined;
  const { key, row } = await createKey(server.app, { kind, name: how, partnerId });
  const expireTime = new Date(Date.now() - MINUTE_MS);
  if (how === "revoked") await revokeKey(server.app, row.id);
  else await server.app.db.updateTable("apiKey").set({ expireTime }).where("id", "=", row.id).execute();
  return key;
}

/** An account that was closed, which a token and a chat server had called for before. */
async function closedAccount() {
  const leaver = await openWallet(server);
  const bearer = await accessToken({ of: leaver });
  expect(await outcomeOf(server.client(AccountService, { bearer }).getAccount({}))).toBe("OK");
  await leaver.accounts.closeAccount({});
  return { bearer, accountId: leaver.accountId };
}

/** An address and the code that proves it, without the way through a mailbox. */
async function proof(purpose: CodePurpose, email = `${randomUUID()}@example.com`) {
  const address = addressOf(server.app.config.hashSecret, { email, phone: "" });
  return { email, code: (await openCodes(server.app).make({ address, purpose })).code };
}

/** Gives the account an address, which it has not here, and a code to it. */
async function ownProof({ accountId }: Pick<Person, "accountId">, purpose: CodePurpose) {
  const own = await proof(purpose);
  const address = addressOf(server.app.config.hashSecret, { email: own.email, phone: "" });
  await server.app.db.updateTable("account").set(columnsOf(address)).where("id", "=", accountId).execute();
  return own;
}

const sending = (amount: bigint) => ({
  idempotencyKey: randomUUID(),
  recipientWalletId: friend.walletId,
  amount,
});
const asking = (payerWalletId: string) => ({ idempotencyKey: randomUUID(), parts: [{ payerWalletId, amount: 1n }] });

/** A request for money, of one person to another. */
async function askFor(from: Person, payer: Person): Promise<string> {
  const { request } = await from.requests.createRequest(asking(payer.walletId));
  return request?.id ?? "";
}

const scheduling = (recipientWalletId: string) => ({
  idempotencyKey: randomUUID(),
  recipientWalletId,
  amount: 1n,
  transferTime: { seconds: BigInt(Math.floor(Date.now() / 1_000) + 3_600) },
});

async function schedule(from: Person): Promise<string> {
  const { scheduledTransfer } = await from.schedules.scheduleTransfer(scheduling(friend.walletId));
  return scheduledTransfer?.id ?? "";
}

async function giftTo({ walletId: recipientWalletId }: Person) {
  const { transfer } = await giver.transfers.sendGift({ idempotencyKey: randomUUID(), recipientWalletId, amount: 1n });
  return transfer?.id;
}
const saving = (savingsWalletId: string) => ({ idempotencyKey: randomUUID(), savingsWalletId, amount: 1n });

async function openSavings(owner: Person): Promise<string> {
  const { wallet } = await owner.wallets.createSavings({ idempotencyKey: randomUUID(), name: "A trip" });
  return wallet?.id ?? "";
}
const paying = (amount: bigint) => ({ partnerId: shop.partnerId, orderKey: randomUUID(), amount });

const credentialOf: Record<Kind, () => Promise<Credential>> = {
  person: async () => ({ bearer: await accessToken() }),
  service: async () => ({ bearer: server.keys.service, accountId: alice.accountId }),
  partner: async () => ({ bearer: shop.bearer }),
  operator: async () => ({ bearer: server.keys.operator }),
};

const KINDS = Object.keys(credentialOf) as Kind[];
const NOT_VALID = "Unauthenticated CREDENTIAL_INVALID";
const ACTING_INVALID = "InvalidArgument ACTING_ACCOUNT_INVALID";

/** Callers who are nobody in particular, and how each call that is not for anyone ends for them. */
const NOBODIES: Record<string, [refusal: string, credential: () => Credential | Promise<Credential>]> = {
  "no credential": ["Unauthenticated CREDENTIAL_MISSING", () => ({})],
  "an empty credential": [NOT_VALID, () => ({ bearer: "" })],
  "two words": [NOT_VALID, () => ({ bearer: "let me" })],
  "no known form": [NOT_VALID, () => ({ bearer: "letmein" })],
  "a key with a wrong letter": [NOT_VALID, () => ({ bearer: `${server.keys.operator.slice(0, -1)}_` })],
  "a key of another kind": [NOT_VALID, () => ({ bearer: server.keys.service.replace("svc", "opr") })],
  "an expired key": [NOT_VALID, async () => ({ bearer: await endedKey("operator", "expired") })],
  "a revoked key": [NOT_VALID, async () => ({ bearer: await endedKey("operator", "revoked") })],
  "an expired key of a partner": [NOT_VALID, async () => ({ bearer: await endedKey("partner", "expired") })],
  "a revoked key of a partner": [NOT_VALID, async () => ({ bearer: await endedKey("partner", "revoked") })],
  "an expired key and an account": [
    NOT_VALID,
    async () => ({ bearer: await endedKey("service", "expired"), accountId: alice.accountId }),
  ],
  "a revoked key and an account": [
    NOT_VALID,
    async () => ({ bearer: await endedKey("service", "revoked"), accountId: alice.accountId }),
  ],
  "a token cut short": [NOT_VALID, async () => ({ bearer: (await accessToken()).slice(0, -3) })],
  "a token of another deployment": [
    NOT_VALID,
    async () => ({ bearer: await accessToken({ tokenSecret: randomBytes(32) }) }),
  ],
  "an expired token": [NOT_VALID, async () => ({ bearer: await accessToken({ ageMs: 16 * MINUTE_MS }) })],
  "a token of an ended session": [NOT_VALID, async () => ({ bearer: await accessToken({ ended: true }) })],
  "a token of a closed account": [NOT_VALID, async () => ({ bearer: (await closedAccount()).bearer })],
  "a service for a closed account": [
    "NotFound ACCOUNT_NOT_FOUND",
    async () => ({ bearer: server.keys.service, accountId: (await closedAccount()).accountId }),
  ],
  "a service for nobody": [ACTING_INVALID, () => ({ bearer: server.keys.service })],
  "a service for no account": [
    "NotFound ACCOUNT_NOT_FOUND",
    () => ({ bearer: server.keys.service, accountId: "4242" }),
  ],
  "a service for account 0": [ACTING_INVALID, () => ({ bearer: server.keys.service, accountId: "0" })],
  "a service for a name": [ACTING_INVALID, () => ({ bearer: server.keys.service, accountId: "alice" })],
  "a service for one account twice": [
    ACTING_INVALID,
    () => ({ bearer: server.keys.service, accountId: `${alice.accountId}, ${alice.accountId}` }),
  ],
  "a service for two accounts": [
    ACTING_INVALID,
    () => ({ bearer: server.keys.service, accountId: `${alice.accountId}, ${stranger.accountId}` }),
  ],
  "a person for an account": [
    ACTING_INVALID,
    async () => ({ bearer: await accessToken(), accountId: stranger.accountId }),
  ],
  "a partner for an account": [ACTING_INVALID, () => ({ bearer: shop.bearer, accountId: stranger.accountId })],
  "an operator for an account": [
    ACTING_INVALID,
    () => ({ bearer: server.keys.operator, accountId: stranger.accountId }),
  ],
};

test("the table names every RPC, and no other", () => {
  expect(Object.keys(RPCS).toSorted()).toEqual(rpcs.map(nameOf).toSorted());
});

test.each(DOORS)("each RPC lets in the callers of the table, and nobody else: %s", async (door) => {
  for (const rpc of rpcs) {
    const { may = {} } = RPCS[nameOf(rpc)] ?? {};
    for (const kind of KINDS) {
      const outcome = await outcomeOf(call(server, rpc, {}, await credentialOf[kind](), door));
      const expected = may.anyone ?? may[kind] ?? "PermissionDenied CALLER_NOT_ALLOWED";
      expect([nameOf(rpc), kind, outcome]).toEqual([nameOf(rpc), kind, expected]);
    }
  }
});

test.each(DOORS)("a credential that is missing, wrong or over opens nothing: %s", async (door) => {
  for (const [who, [refusal, credential]] of Object.entries(NOBODIES)) {
    const made = await credential();
    for (const rpc of rpcs) {
      const outcome = await outcomeOf(call(server, rpc, {}, made, door));
      const expected = RPCS[nameOf(rpc)]?.may.anyone ?? refusal;
      expect([nameOf(rpc), who, outcome]).toEqual([nameOf(rpc), who, expected]);
    }
  }
});

/** A key with exactly these scopes, and whom it acts for. */
async function scopedKey(kind: Exclude<Kind, "person">, scopes: Scope[]): Promise<Credential> {
  const partnerId = kind === "partner" ? BigInt(shop.partnerId) : undefined;
  const { key } = await createKey(server.app, { kind, name: "scoped", partnerId, scopes });
  return kind === "service" ? { bearer: key, accountId: alice.accountId } : { bearer: key };
}

const ALL_SCOPES = ScopeSchema.values.map(({ number }) => number as Scope).filter((scope) => scope !== 0);

test.each(DOORS)("a key with scopes gets in with the one of the table, and with no other: %s", async (door) => {
  for (const kind of KINDS.filter((one) => one !== "person")) {
    for (const rpc of rpcs) {
      const { may = {}, scope = "UNSPECIFIED" } = RPCS[nameOf(rpc)] ?? {};
      if (may.anyone || !may[kind]) continue;
      const needed = Scope[scope];
      const others = await scopedKey(
        kind,
        ALL_SCOPES.filter((one) => one !== needed),
      );
      const alone = await scopedKey(kind, [needed]);
      const outcomes = [];
      for (const credential of [others, alone]) outcomes.push(await outcomeOf(call(server, rpc, {}, credential, door)));

      const expected = ["PermissionDenied SCOPE_MISSING", may[kind]];
      expect([nameOf(rpc), kind, ...outcomes]).toEqual([nameOf(rpc), kind, ...expected]);
    }
  }
});

test.each(DOORS)("whose wallet is frozen does not pay, and does all else: %s", async (door) => {
  const freezer = server.client(WalletService, { bearer: server.keys.operator });
  for (const rpc of rpcs) {
    const { may = {}, good, frozen } = RPCS[nameOf(rpc)] ?? {};
    for (const kind of ["person", "service"] as const) {
      if (may.anyone || !may[kind]) continue;
      const outcomes = [];
      for (const isFrozen of [false, true]) {
        const me = await openWallet(server, { balance: 100n });
        const credential = kind === "person" ? { bearer: await accessToken({ of: me }) } : me.credential;
        const request = (await good?.(me, credential)) ?? {};
        if (isFrozen) await freezer.freezeWallet({ walletId: me.walletId, reason: "a test" });
        outcomes.push(await outcomeOf(unwrapped(call(server, rpc, request, credential, door))));
      }
      expect([nameOf(rpc), kind, ...outcomes]).toEqual([nameOf(rpc), kind, "OK", frozen]);
    }
  }
});

/** An answer whose only result is a refusal, as that refusal. */
async function unwrapped(answer: Promise<unknown>): Promise<unknown> {
  const { results } = ((await answer) ?? {}) as Partial<BatchSendTransfersResponse>;
  const outcome = results?.[0]?.outcome;
  if (outcome?.case !== "refusal") return answer;
  const { code, message, info } = outcome.value;
  throw new ConnectError(message, codeFromString(code), undefined, info && [{ desc: ErrorInfoSchema, value: info }]);
}

/** The fields of a request, at any depth, that are ids by their name. */
function idFieldsOf(message: DescMessage, above = ""): string[] {
  return message.fields.flatMap((field) => {
    const path = `${above}${field.name}`;
    if (field.message) return idFieldsOf(field.message, `${path}.`);
    return field.name.endsWith("_id") ? [path] : [];
  });
}

test("the table of ids names every id that a request takes", () => {
  const taken = Object.fromEntries(
    rpcs.flatMap((rpc) => {
      const fields = idFieldsOf(rpc.input);
      return fields.length > 0 ? [[nameOf(rpc), fields]] : [];
    }),
  );

  expect(Object.fromEntries(Object.entries(IDS).map(([name, { fields }]) => [name, fields]))).toEqual(taken);
});

const PER_CALL = new Set(["date", "x-request-id"]);

/** All that a caller is told, but for the id that they sent. */
async function answerTo(rpc: DescMethod, id: string, credential: Credential, door: Door): Promise<string> {
  const request = IDS[nameOf(rpc)]?.request(id) ?? {};
  const answer = await call(server, rpc, request, credential, door).catch((failure: unknown) => {
    const { code, rawMessage, details, metadata } = ConnectError.from(failure);
    const texts = details.map((detail) =>
      "desc" in detail ? detail : [detail.type, Buffer.from(detail.value).toString("latin1")],
    );
    // The Connect and gRPC clients keep the details in a header too, where they are hard to read.
    const header = [...metadata].filter(([name]) => !PER_CALL.has(name) && !name.endsWith("-bin"));
    return { refused: code, rawMessage, texts, header };
  });
  return JSON.stringify(answer, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)).replaceAll(
    id,
    "<id>",
  );
}

/** An operator may see whatever there is. */
const { operator: _, ...credentialOfOthers } = credentialOf;

test.each(DOORS)("what is somebody else's is refused as what does not exist: %s", async (door) => {
  for (const rpc of rpcs.filter((one) => nameOf(one) in IDS)) {
    const row = IDS[nameOf(rpc)];
    const theirs = foreign[row?.foreign ?? "account"];
    // As long, and of a time to come.
    const unknown = String(BigInt(theirs) + 2n ** 45n);
    for (const [kind, credential] of Object.entries({ nobody: async () => ({}), ...credentialOfOthers })) {
      const made = await credential();
      const answer = await answerTo(rpc, theirs, made, door);
      const about = `${nameOf(rpc)} by ${kind}`;

      expect([about, answer]).toEqual([about, await answerTo(rpc, unknown, made, door)]);
      expect([about, row?.listing ?? answer.includes('"refused"')]).toEqual([about, true]);
    }
  }
  expect(await balanceOf(stranger)).toBe(981n);
});

test.each(DOORS)("an operator is told what does not exist: %s", async (door) => {
  for (const rpc of rpcs) {
    const row = IDS[nameOf(rpc)];
    if (!row || row.listing || !RPCS[nameOf(rpc)]?.may.operator) continue;
    const answer = call(server, rpc, row.request("4242"), await credentialOf.operator(), door);
    expect([nameOf(rpc), await outcomeOf(answer)]).toEqual([nameOf(rpc), expect.stringMatching(/^NotFound /)]);
  }
});
