/**
 * Everything but the tests that must hold before a change is offered. Prints a line for each check, and what a failed one said.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const generated = mkdtempSync(join(tmpdir(), "chatpay-gen-"));

/** The contract of the last release. */
const released = "proto/released.binpb";

// The first makes the import that the contract's linter needs.
const checks = {
  "contract compiles": `node tools/generate.ts ${generated}`,
  "generated code is fresh": `diff -r ${generated}/gen gen`,
  "contract lint": "buf lint",
  "contract format": "buf format --diff --exit-code proto && buf format --diff --exit-code test/support/proto",
  ...(existsSync(join(root, released)) && { "contract compatible": `buf breaking --against ${released}` }),
  format: "biome format",
  types: "tsc -p . && tsc -p examples/wallet/page",
  lint: "oxlint",
  "dead code": "knip",
};

let failed = 0;
for (const [name, command] of Object.entries(checks)) {
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(command, { cwd: root, encoding: "utf8", shell: true });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${status === 0 ? "pass" : "FAIL"}  ${name.padEnd(24)} ${seconds} s`);
  if (status !== 0) {
    failed += 1;
    console.log(`\n${command}\n${stdout}${stderr}`);
  }
}
rmSync(generated, { recursive: true });

console.log(`${Object.keys(checks).length - failed} checks passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
