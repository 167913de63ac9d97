import { AccountService } from "../gen/chatpay/account/v1/account_pb.ts";
import { AuditService } from "../gen/chatpay/audit/v1/audit_pb.ts";
import { BankService } from "../gen/chatpay/bank/v1/bank_pb.ts";
import { KeyService } from "../gen/chatpay/key/v1/key_pb.ts";
import { LedgerService } from "../gen/chatpay/ledger/v1/ledger_pb.ts";
import { PaymentService } from "../gen/chatpay/payment/v1/payment_pb.ts";
import { RequestService } from "../gen/chatpay/transfer/v1/request_pb.ts";
import { ScheduleService } from "../gen/chatpay/transfer/v1/schedule_pb.ts";
import { TransferService } from "../gen/chatpay/transfer/v1/transfer_pb.ts";
import { WalletService } from "../gen/chatpay/wallet/v1/wallet_pb.ts";
import { accountService } from "./account/service.ts";
import type { App } from "./app.ts";
import { auditService } from "./audit/service.ts";
import { bankService } from "./bank/service.ts";
import type { Role } from "./config.ts";
import { keyService } from "./key/service.ts";
import { ledgerService } from "./ledger/service.ts";
import { paymentService } from "./payment/service.ts";
import { requestService } from "./request/service.ts";
import { type Route, route } from "./rpc/route.ts";
import { scheduleService } from "./schedule/service.ts";
import { sources } from "./sources.ts";
import { transferService } from "./transfer/service.ts";
import { walletService } from "./wallet/service.ts";

/** The table of contents: every service, what answers for it, and the role in which a server serves it. */
const SERVICES: Record<Role, (app: App) => Route[]> = {
  account: (app) => [
    route(AccountService, accountService(app)),
    route(KeyService, keyService(app)),
    route(AuditService, auditService(app)),
  ],
  money: (app) => [
    route(WalletService, walletService(app)),
    route(BankService, bankService(app)),
    route(TransferService, transferService(app)),
    route(RequestService, requestService(app)),
    route(ScheduleService, scheduleService(app)),
    route(PaymentService, paymentService(app)),
    route(LedgerService, ledgerService(app, sources)),
  ],
  // What it does nobody calls; see jobs.ts.
  worker: () => [],
};

/** What a server of these roles answers. */
export const routes = (app: App): Route[] => app.config.roles.flatMap((role) => SERVICES[role](app));
