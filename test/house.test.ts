import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

/** The imports that the linter refuses, of those that these files make. */
function refusedImports(imports: Record<string, string[]>) {
  const folder = mkdtempSync(join(tmpdir(), "chatpay-house-"));
  copyFileSync(join(root, ".oxlintrc.json"), join(folder, ".oxlintrc.json"));
  for (const [file, sources] of Object.entries(imports)) {
    mkdirSync(join(folder, dirname(file)), { recursive: true });
    writeFileSync(join(folder, file), sources.map((source) => `export { x } from "${source}";\n`).join(""));
  }

  const { stdout } = spawnSync("oxlint", ["--format=json"], { cwd: folder, encoding: "utf8" });
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { code: string; filename: string; labels: { span: { line: number } }[] }[];
  };
  const refused = diagnostics.filter(({ code }) => code === "eslint(no-restricted-imports)");
  return refused.map(({ filename, labels }) => `${filename} → ${imports[filename]?.[(labels[0]?.span.line ?? 0) - 1]}`);
}

const mayImport = {
  "src/main.ts": ["./app.ts", "./routes.ts", "./config.ts", "./db/database.ts", "./ledger/verify.ts"],
  "src/routes.ts": ["./account/service.ts", "./rpc/doors.ts", "../gen/chatpay/wallet/v1/wallet_pb.ts"],
  "src/app.ts": ["./config.ts", "./db/database.ts", "./ledger/lane.ts", "./account/tokens.ts"],
  "src/transfer/service.ts": ["./transfer.ts", "./queries.ts", "../rpc/page.ts", "../errors.ts", "../../gen/a_pb.ts"],
  "src/transfer/transfer.ts": [
    "./queries.ts",
    "../ledger/lane.ts",
    "../event/log.ts",
    "../wallet/wallet.ts",
    "../id.ts",
  ],
  "src/transfer/queries.ts": ["../db/database.ts", "../../gen/a_pb.ts"],
  "src/wallet/wallet.ts": ["../account/account.ts", "../db/database.ts", "../errors.ts"],
  "src/ledger/lane.ts": ["./books.ts", "./queries.ts", "../db/database.ts", "../errors.ts", "../id.ts"],
  "src/rpc/validate.ts": ["./caller.ts", "../errors.ts", "../../gen/a_pb.ts"],
  "src/db/database.ts": ["./schema.ts"],
};

const mustNotImport = {
  "src/main.ts": ["./account/service.ts", "./wallet/queries.ts", "../sandbox/mail.ts", "../test/support/server.ts"],
  "src/routes.ts": ["./account/account.ts", "./ledger/lane.ts", "./transfer/queries.ts", "../bench/main.ts"],
  "src/app.ts": ["./main.ts", "./routes.ts", "./account/service.ts", "../tools/start.ts", "../test/support/server.ts"],
  "src/transfer/service.ts": [
    "../wallet/wallet.ts",
    "../wallet/queries.ts",
    "../wallet/service.ts",
    "../ledger/lane.ts",
  ],
  "src/transfer/transfer.ts": [
    "./service.ts",
    "../wallet/queries.ts",
    "../wallet/service.ts",
    "../ledger/queries.ts",
    "../payment/payment.ts",
    "../rpc/page.ts",
    "../app.ts",
    "../../test/support/server.ts",
  ],
  "src/transfer/queries.ts": ["./transfer.ts", "../wallet/queries.ts", "../ledger/books.ts", "../rpc/page.ts"],
  "src/payment/order.ts": ["../transfer/transfer.ts", "../account/queries.ts"],
  "src/wallet/wallet.ts": ["../transfer/transfer.ts", "../account/queries.ts"],
  "src/account/tokens.ts": ["../wallet/wallet.ts", "../rpc/caller.ts", "../main.ts"],
  "src/ledger/lane.ts": ["../wallet/wallet.ts", "../rpc/log.ts", "../app.ts", "./service.ts"],
  "src/event/log.ts": ["../transfer/transfer.ts"],
  "src/rpc/validate.ts": ["../account/account.ts", "../account/queries.ts", "../ledger/lane.ts", "../db/database.ts"],
  "src/db/database.ts": ["../ledger/lane.ts", "../app.ts", "../../sandbox/mail.ts"],
};

test("the linter lets imports point down", () => {
  expect(refusedImports(mayImport)).toEqual([]);
});

test("the linter refuses imports that point up, around, or out of the product", () => {
  const all = Object.entries(mustNotImport).flatMap(([file, sources]) =>
    sources.map((source) => `${file} → ${source}`),
  );
  expect(refusedImports(mustNotImport).toSorted()).toEqual(all.toSorted());
});
