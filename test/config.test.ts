import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { smsSettings } from "../sandbox/sms.ts";
import { ConfigError, readConfig } from "../src/config.ts";
import { makeDatabase, testEnvironment } from "./support/server.ts";

const SECRET = "0123456789abcdef".repeat(4);
const CHATPAY = join(import.meta.dirname, "../bin/chatpay");

const production: NodeJS.ProcessEnv = {
  DATABASE_URL: "mysql://root@127.0.0.1:3306/chatpay",
  REDIS_URL: "redis://127.0.0.1:6379",
  CHATPAY_SMTP_URL: "smtp://127.0.0.1:25",
  CHATPAY_TOKEN_SECRET: SECRET,
  CHATPAY_HASH_SECRET: SECRET,
};

/** What `readConfig` finds wrong, a line for each value. */
function problemsOf(env: NodeJS.ProcessEnv): string[] {
  try {
    readConfig(env);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.split("\n");
  }
}

const namesOf = (problems: string[]) => problems.map((problem) => problem.split(":", 1)[0] ?? "").toSorted();

/** The command as a person runs it, with no environment but this one. */
async function chatpay(args: string[], env: NodeJS.ProcessEnv = {}) {
  const node = { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(tmpdir(), "node-compile-cache") };
  const child = spawn(CHATPAY, args, { env: { ...node, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const [stdout, stderr, [exitCode]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
  return { stdout, stderr, exitCode: exitCode as number | null };
}

test("with secrets and addresses production needs nothing else", () => {
  const config = readConfig(production);

  expect(config).toMatchObject({ mode: "production", connectPort: 8080, grpcPort: 50_051, madeUpSecrets: [] });
  expect(config.tokenSecret.toString("hex")).toBe(SECRET);
});

test("every wrong value is named in one message", () => {
  const problems = problemsOf({
    ...production,
    CHATPAY_MODE: "staging",
    DATABASE_URL: "postgres://localhost/chatpay",
    REDIS_URL: "",
    CHATPAY_CONNECT_PORT: "70000",
    CHATPAY_GRPC_PORT: "50051a",
    CHATPAY_LOG_LEVEL: "loud",
    CHATPAY_MAX_IN_FLIGHT: "0",
    CHATPAY_LANE_QUEUE_MAX: "1.5",
    CHATPAY_TOKEN_SECRET: "short",
    CHATPAY_HASH_SECRET: "",
    CHATPAY_TLS_CERT_FILE: "/no/such/file.pem",
  });

  expect(namesOf(problems)).toEqual([
    "CHATPAY_CONNECT_PORT",
    "CHATPAY_GRPC_PORT",
    "CHATPAY_HASH_SECRET",
    "CHATPAY_LANE_QUEUE_MAX",
    "CHATPAY_LOG_LEVEL",
    "CHATPAY_MAX_IN_FLIGHT",
    "CHATPAY_MODE",
    "CHATPAY_TLS_KEY_FILE",
    "CHATPAY_TOKEN_SECRET",
    "DATABASE_URL",
    "REDIS_URL",
  ]);
});

test("a certificate that cannot be read is named", () => {
  const problems = problemsOf({
    ...production,
    CHATPAY_TLS_CERT_FILE: "/no/such/cert.pem",
    CHATPAY_TLS_KEY_FILE: "/no/such/key.pem",
  });

  expect(problems).toEqual([expect.stringMatching(/^CHATPAY_TLS_CERT_FILE.*\/no\/such\/cert\.pem/)]);
});

test("text messages need all of their settings, or none", () => {
  const sms = {
    CHATPAY_SMS_URL: "https://sens.apigw.ntruss.com",
    CHATPAY_SMS_SERVICE_ID: "ncp:sms:kr:1:chatpay",
    CHATPAY_SMS_ACCESS_KEY: "access",
    CHATPAY_SMS_SECRET_KEY: "secret",
    CHATPAY_SMS_FROM: "0212345678",
  };

  expect(readConfig(production).sms).toBeUndefined();
  expect(readConfig({ ...production, ...sms }).sms).toMatchObject({ secretKey: "secret", from: "0212345678" });
  for (const name of Object.keys(sms) as (keyof typeof sms)[]) {
    expect(namesOf(problemsOf({ ...production, ...sms, [name]: "" }))).toEqual([name]);
    const others = Object.keys(sms).filter((other) => other !== name);
    expect(namesOf(problemsOf({ ...production, [name]: sms[name] }))).toEqual(others.toSorted());
  }
  const wrong = { CHATPAY_SMS_URL: "ftp://sens", CHATPAY_SMS_SERVICE_ID: "a/b", CHATPAY_SMS_FROM: "02-123" };
  expect(namesOf(problemsOf({ ...production, ...sms, ...wrong }))).toEqual(Object.keys(wrong).toSorted());
});

test("codes are texted to Korea, if nobody names other countries by their calling codes", () => {
  const countriesOf = (CHATPAY_SMS_COUNTRIES: string) =>
    readConfig({ ...production, ...smsSettings("https://sens.example"), CHATPAY_SMS_COUNTRIES }).sms?.countries;

  expect(countriesOf("")).toEqual(new Set(["82"]));
  expect(countriesOf("82, 1,852")).toEqual(new Set(["82", "1", "852"]));
  expect(countriesOf("*")).toEqual(new Set(["*"]));
  for (const wrong of ["KR", "+82", "8", "821", "12", "082", "82 1", "8521"]) {
    expect(namesOf(problemsOf({ ...production, CHATPAY_SMS_COUNTRIES: wrong })), wrong).toEqual([
      "CHATPAY_SMS_COUNTRIES",
    ]);
  }
});

test("no message repeats a secret", () => {
  const secret = "hunter2hunter2";
  const problems = problemsOf({
    ...production,
    DATABASE_URL: `postgres://root:${secret}@localhost/`,
    CHATPAY_TOKEN_SECRET: secret,
  });

  expect(problems.length).toBe(2);
  expect(problems.join("\n")).not.toContain(secret);
});

test("development makes up the secrets that are not given, others each time, and says which", () => {
  const env = { ...production, CHATPAY_MODE: "development", CHATPAY_TOKEN_SECRET: "" };
  const [one, other] = [readConfig(env), readConfig(env)];

  expect(one.madeUpSecrets).toEqual(["CHATPAY_TOKEN_SECRET"]);
  expect(one.hashSecret.toString("hex")).toBe(SECRET);
  expect(one.tokenSecret.length).toBe(32);
  expect(one.tokenSecret.equals(other.tokenSecret)).toBe(false);
});

test("the server refuses to start in production without secrets, with exit code 2", async () => {
  const { CHATPAY_TOKEN_SECRET: _, CHATPAY_HASH_SECRET: __, ...env } = production;

  const { exitCode, stdout, stderr } = await chatpay(["serve"], env);

  expect(exitCode).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).toContain("CHATPAY_TOKEN_SECRET");
  expect(stderr).toContain("CHATPAY_HASH_SECRET");
});

test("every command has --help", { timeout: 90_000 }, async () => {
  const commands = [
    [],
    ["serve"],
    ["migrate"],
    ["verify"],
    ["key"],
    ["key", "create"],
    ["key", "list"],
    ["key", "rotate"],
    ["key", "revoke"],
  ];

  const answers = await Promise.all(commands.map((command) => chatpay([...command, "--help"])));

  answers.forEach(({ exitCode, stdout, stderr }, i) => {
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toContain(`Usage: ${["chatpay", ...(commands[i] ?? [])].join(" ")}`);
  });
  for (const name of ["serve", "migrate", "verify", "key"])
    expect(answers[0]?.stdout).toMatch(new RegExp(`^ +${name}`, "m"));
});

test("wrong use ends with 2 and says what would be right", { timeout: 90_000 }, async () => {
  const wrong: [string[], RegExp][] = [
    [["sevre"], /unknown command 'sevre'.*\(Did you mean serve\?\)/s],
    [["serve", "--port", "1"], /unknown option '--port'/],
    [["key", "create", "--name", "x"], /--kind/],
    [["key", "create", "--kind", "admin", "--name", "x"], /service, partner, operator/],
    [["key", "create", "--kind", "service", "--name", "x", "--expires", "2020-01-01"], /future/],
    [["key", "create", "--kind", "service", "--name", "x", "--scope", "wallets_read,all"], /no scope "all"/],
    [["key", "create", "--kind", "service", "--name", "x", "--partner", "7"], /--partner goes with --kind partner/],
    [["key", "revoke", "all"], /decimal id/],
    [["key", "rotate", "7"], /--overlap/],
    [["key", "rotate", "7", "--overlap", "soon"], /24h/],
    [["key", "rotate", "7", "--overlap", "31d"], /30d at most/],
    [["verify"], /DATABASE_URL/],
  ];

  const answers = await Promise.all(wrong.map(([args]) => chatpay(args)));

  answers.forEach(({ exitCode, stderr }, i) => {
    expect([wrong[i]?.[0], exitCode]).toEqual([wrong[i]?.[0], 2]);
    expect(stderr).toMatch(wrong[i]?.[1] ?? "");
  });
});

test("a key is made, listed, used up and refused, by the command alone", { timeout: 90_000 }, async () => {
  const env = testEnvironment(await makeDatabase(), 1);
  expect(await chatpay(["serve"], env)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/chatpay migrate/),
  });
  expect(await chatpay(["migrate"], env)).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^applied 0001/),
  });
  expect(await chatpay(["migrate"], env)).toMatchObject({ exitCode: 0, stdout: "the tables are up to date\n" });

  const made = await chatpay(["key", "create", "--kind", "service", "--name", "chat"], env);
  const [, id, key] = /^id {3}(\d+)\nkey {2}(cp_svc_\w+)\n$/.exec(made.stdout) ?? [];
  expect(made).toMatchObject({ exitCode: 0, stderr: "" });
  const nobodys = ["key", "create", "--kind", "partner", "--name", "shop", "--partner", "4242"];
  expect(await chatpay(nobodys, env)).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/no such partner/) });

  const listed = await chatpay(["key", "list"], env);
  expect(listed.stdout).toMatch(
    new RegExp(`^${id} +service +…${key?.slice(-4)} +valid +never +never used +all +chat$`, "m"),
  );
  expect(listed.stdout).not.toContain(key);

  expect(await chatpay(["key", "revoke", `${id}`], env)).toMatchObject({ exitCode: 0 });
  expect(await chatpay(["key", "revoke", `${id}`], env)).toMatchObject({ exitCode: 0 });
  expect(await chatpay(["key", "revoke", "4242"], env)).toMatchObject({
    exitCode: 1,
    stderr: "chatpay: no such API key\n",
  });
  expect((await chatpay(["key", "list"], env)).stdout).toMatch(/ revoked /);
  expect(await chatpay(["verify"], env)).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/books are right/),
  });
});

test("A10: a key with scopes and an end is made and rotated by the command alone", { timeout: 90_000 }, async () => {
  const env = testEnvironment(await makeDatabase(), 1);
  await chatpay(["migrate"], env);
  const scopes = "transfers_write,WALLETS_READ";
  const create = ["key", "create", "--kind", "service", "--name", "chat", "--scope", scopes];
  const made = await chatpay([...create, "--expires", "2099-01-31T00:00:00Z"], env);
  const id = /^id {3}(\d+)$/m.exec(made.stdout)?.[1] ?? "";

  const rotated = await chatpay(["key", "rotate", id, "--overlap", "2h"], env);
  const again = await chatpay(["key", "rotate", id, "--overlap", "0s"], env);
  const ended = await chatpay(["key", "rotate", id, "--overlap", "0s"], env);

  expect(rotated).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^id {3}\d+\nkey {2}cp_svc_\w+\n$/) });
  expect(again.exitCode).toBe(0);
  expect(ended).toMatchObject({ exitCode: 1, stderr: "chatpay: the API key has expired or was revoked\n" });
  const { stdout } = await chatpay(["key", "list"], env);
  const lines = stdout.split("\n").filter((line) => line.endsWith(" chat"));
  expect(lines).toHaveLength(3);
  for (const line of lines) expect(line).toMatch(/ wallets_read,transfers_write +chat$/);
  expect(lines.filter((line) => / expired /.test(line))).toEqual([expect.stringContaining(id)]);
});

test("a port that is taken and a MySQL that is away are told in a line each, with exit code 1", {
  timeout: 90_000,
}, async () => {
  const databaseUrl = await makeDatabase();
  await chatpay(["migrate"], { DATABASE_URL: databaseUrl });
  const occupant = createServer().listen(0, "127.0.0.1");
  await once(occupant, "listening");
  const { port } = occupant.address() as { port: number };
  const env = testEnvironment(databaseUrl, 1);

  const taken = await chatpay(["serve"], { ...env, CHATPAY_CONNECT_PORT: String(port) });
  const away = await chatpay(["serve"], { ...env, DATABASE_URL: `mysql://root@127.0.0.1:1/x` });
  occupant.close();

  expect(taken.stderr).toMatch(new RegExp(`^chatpay: a port is taken: .*${port}`, "m"));
  expect(away.stderr).toMatch(/^chatpay: MySQL does not answer/m);
  expect([taken.exitCode, away.exitCode]).toEqual([1, 1]);
});
