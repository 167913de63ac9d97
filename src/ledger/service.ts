import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type LedgerService,
  type VerifyBooksResponse,
  VerifyBooksResponseSchema,
} from "../../gen/chatpay/ledger/v1/ledger_pb.ts";
import type { App } from "../app.ts";
import { type Finding, type Sources, verifyBooks } from "./verify.ts";

export const ledgerService = ({ config }: App, sources: Sources): ServiceImpl<typeof LedgerService> => ({
  async *verifyBooks() {
    for await (const finding of verifyBooks(config.databaseUrl, sources)) yield toResponse(finding);
  },
});

function toResponse(finding: Finding): VerifyBooksResponse {
  switch (finding.kind) {
    case "progress": {
      const value = { check: finding.check, rows: BigInt(finding.rows) };
      return create(VerifyBooksResponseSchema, { event: { case: "progress", value } });
    }
    case "difference": {
      const { check, subject, message } = finding;
      return create(VerifyBooksResponseSchema, { event: { case: "difference", value: { check, subject, message } } });
    }
    case "report": {
      const value = {
        clean: finding.clean,
        differenceCount: BigInt(finding.differenceCount),
        walletCount: BigInt(finding.walletCount),
        postingCount: BigInt(finding.postingCount),
        batchCount: BigInt(finding.batchCount),
        position: finding.position,
        readTime: timestampFromDate(finding.readTime),
      };
      return create(VerifyBooksResponseSchema, { event: { case: "report", value } });
    }
  }
}
