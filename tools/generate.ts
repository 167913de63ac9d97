/**
 * Makes `gen/` from `proto/`, offline. An argument names another folder to write to, which is how the check compares.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { validateProto } from "./validate-proto.ts";

const root = join(import.meta.dirname, "..");
const vendored = join(root, "third_party/protovalidate/buf/validate");
mkdirSync(vendored, { recursive: true });
writeFileSync(join(vendored, "validate.proto"), validateProto());

const buf = join(root, "node_modules/.bin/buf");
const { status } = spawnSync(buf, ["generate", "--output", process.argv[2] ?? root], { cwd: root, stdio: "inherit" });
process.exitCode = status ?? 1;
