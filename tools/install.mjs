// Makes node_modules match package-lock.json. Every npm script begins with it, on whatever Node the machine has,
// so it is plain JavaScript without a dependency and returns in milliseconds when there is nothing to do.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

if (!isInstalled()) {
  console.log("Installing packages as package-lock.json says …");
  // npm's own warnings are about the machine's Node; the scripts run on the one that gets installed here.
  const args = ["ci", "--ignore-scripts", "--loglevel=error"];
  const npm = process.env.npm_execpath;
  const { status, error } = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: "inherit" })
    : spawnSync("npm", args, { cwd: root, stdio: "inherit", shell: process.platform === "win32" });
  if (status !== 0) {
    fail(`The packages could not be installed${error ? `: ${error.message}` : ""}. What npm says is above.`);
  }
}

const [major, minor] = process.versions.node.split(".").map(Number);
if (!existsSync(join(root, "node_modules/.bin/node")) && (major < 24 || (major === 24 && minor < 16))) {
  fail(
    `No Node is packaged for ${process.platform} on ${process.arch}, and this is ${process.version}: install Node 26.`,
  );
}

/** npm writes what it installed into a lock file of its own; packages of other platforms are missing in it. */
function isInstalled() {
  const installed = packagesOf("node_modules/.package-lock.json");
  if (!installed) return false;
  const { "": _, ...wanted } = packagesOf("package-lock.json");
  const missing = Object.entries(wanted).some(
    ([path, { version, optional }]) => installed[path]?.version !== version && !(optional && !installed[path]),
  );
  return !missing && Object.keys(installed).every((path) => path in wanted);
}

function packagesOf(file) {
  const path = join(root, file);
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined;
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
