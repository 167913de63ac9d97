import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { z } from "zod";

/**
 * The environment as one typed object; nothing else reads it. Every wrong value is named in one message.
 */

const integer = z.coerce
  .number({ error: ({ code }) => (code === "invalid_type" ? "must be a whole number" : undefined) })
  .int();
const port = (standard: number) => integer.min(0).max(65_535).default(standard);
const whole = (standard: number, min: number, max: number) => integer.min(min).max(max).default(standard);
const url = (...schemes: string[]) =>
  z.string().refine((text) => URL.canParse(text) && schemes.includes(new URL(text).protocol.slice(0, -1)), {
    error: `must be a URL that starts with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`,
  });
const list = z
  .string()
  .default("")
  .transform((text) =>
    text
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean),
  );

/** Addresses, and networks such as 10.0.0.0/8. */
const networks = list.transform((parts, { addIssue }) =>
  parts.flatMap((part) => {
    const network = readNetwork(part);
    if (!network) addIssue(`"${part}" is no address and no network such as 10.0.0.0/8`);
    return network ? [network] : [];
  }),
);

/** Everybody is no network: who trusts everybody believes what anybody writes. */
function readNetwork(text: string) {
  const [, address = "", bits = isIP(address) === 4 ? "32" : "128"] = /^([^/]+)(?:\/([1-9][0-9]*))?$/.exec(text) ?? [];
  const cidr = `${address}/${bits}`;
  return isIP(address) !== 0 && ipaddr.isValidCIDR(cidr) ? ipaddr.parseCIDR(cidr) : undefined;
}

/** 32 bytes as 64 hexadecimal digits. */
const secret = z
  .string()
  .regex(/^[0-9a-fA-F]{64}$/, "must be 64 hexadecimal digits; make one with: openssl rand -hex 32")
  .transform((text) => Buffer.from(text, "hex"));

/** The services that may run apart, in servers of their own. */
const ROLES = ["account", "money"] as const;
export type Role = (typeof ROLES)[number];

/** None stands for all. */
const roles = list
  .pipe(z.array(z.enum(ROLES, { error: `takes a comma-separated list of: ${ROLES.join(", ")}` })))
  .transform((given): Role[] => ROLES.filter((role) => given.length === 0 || given.includes(role)));

const environment = z.object({
  /** In `production` secrets must be given; in `development` the process makes its own. */
  CHATPAY_MODE: z.enum(["production", "development"]).default("production"),
  DATABASE_URL: url("mysql"),
  REDIS_URL: url("redis", "rediss"),
  /** Whose services this server serves, comma separated; all if not set. */
  CHATPAY_ROLES: roles,

  CHATPAY_HOST: z.string().default("0.0.0.0"),
  CHATPAY_CONNECT_PORT: port(8080),
  CHATPAY_GRPC_PORT: port(50_051),
  CHATPAY_INTERNAL_HOST: z.string().default("127.0.0.1"),
  CHATPAY_INTERNAL_PORT: port(9_090),
  CHATPAY_TLS_CERT_FILE: z.string().optional(),
  CHATPAY_TLS_KEY_FILE: z.string().optional(),
  /** Web pages that may call, comma separated; `*` for all. */
  CHATPAY_CORS_ORIGINS: list,
  /** Proxies whose `X-Forwarded-For` is believed, comma separated: addresses, and networks such as 10.0.0.0/8. */
  CHATPAY_TRUSTED_PROXIES: networks,

  CHATPAY_LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal"]).default("info"),
  CHATPAY_MAX_IN_FLIGHT: whole(4_000, 1, 1_000_000),
  /** At least as many as one atomic batch has. */
  CHATPAY_LANE_QUEUE_MAX: whole(20_000, 1_000, 1_000_000),
  CHATPAY_MAX_TIMEOUT_MS: whole(60_000, 100, 3_600_000),
  CHATPAY_SHUTDOWN_GRACE_MS: whole(20_000, 0, 600_000),
  /** How long the server says NOT_SERVING before it stops accepting, so that balancers notice. */
  CHATPAY_LAME_DUCK_MS: whole(0, 0, 600_000),

  CHATPAY_SMTP_URL: url("smtp", "smtps"),
  CHATPAY_MAIL_FROM: z.string().default("ChatPay <no-reply@localhost>"),
  /** What access tokens name as their issuer and audience. */
  CHATPAY_ISSUER: z.string().min(1).default("chatpay"),
  /** Signs access tokens: the seed of an Ed25519 key. */
  CHATPAY_TOKEN_SECRET: secret.optional(),
  /** Keys the hashes of codes and addresses, and the making of refresh tokens. */
  CHATPAY_HASH_SECRET: secret.optional(),
  /** Signs what the servers behind a gateway are told of the caller, the same in all of them; without it they believe nothing. */
  CHATPAY_GATEWAY_SECRET: secret.optional(),
});

const SECRETS = ["CHATPAY_TOKEN_SECRET", "CHATPAY_HASH_SECRET"] as const;

export type Config = ReturnType<typeof readConfig>;

/** A value of the environment is missing or wrong; the message names all of them. */
export class ConfigError extends Error {}

/** Reads and checks the whole environment. Throws a ConfigError. */
export function readConfig(env: NodeJS.ProcessEnv = process.env) {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const parsed = environment.safeParse(given);
  const problems = (parsed.error?.issues ?? []).map(({ path: [name], message }) =>
    problemOf(String(name), given, message),
  );
  if (given.CHATPAY_MODE !== "development") {
    for (const name of SECRETS) {
      if (given[name] === undefined) problems.push(`${name}: required in production: 64 hexadecimal digits`);
    }
  }
  for (const [one, other] of [
    ["CHATPAY_TLS_CERT_FILE", "CHATPAY_TLS_KEY_FILE"],
    ["CHATPAY_TLS_KEY_FILE", "CHATPAY_TLS_CERT_FILE"],
  ] as const) {
    if (given[one] !== undefined && given[other] === undefined) problems.push(`${other}: required with ${one}`);
  }
  const tls = readTls(given, problems);
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems.join("\n"));

  const values = parsed.data;
  return {
    mode: values.CHATPAY_MODE,
    databaseUrl: values.DATABASE_URL,
    redisUrl: values.REDIS_URL,
    roles: values.CHATPAY_ROLES,
    host: values.CHATPAY_HOST,
    connectPort: values.CHATPAY_CONNECT_PORT,
    grpcPort: values.CHATPAY_GRPC_PORT,
    internalHost: values.CHATPAY_INTERNAL_HOST,
    internalPort: values.CHATPAY_INTERNAL_PORT,
    tls,
    corsOrigins: values.CHATPAY_CORS_ORIGINS,
    trustedProxies: values.CHATPAY_TRUSTED_PROXIES,
    logLevel: values.CHATPAY_LOG_LEVEL,
    maxInFlight: values.CHATPAY_MAX_IN_FLIGHT,
    laneQueueMax: values.CHATPAY_LANE_QUEUE_MAX,
    maxTimeoutMs: values.CHATPAY_MAX_TIMEOUT_MS,
    shutdownGraceMs: values.CHATPAY_SHUTDOWN_GRACE_MS,
    lameDuckMs: values.CHATPAY_LAME_DUCK_MS,
    smtpUrl: values.CHATPAY_SMTP_URL,
    mailFrom: values.CHATPAY_MAIL_FROM,
    issuer: values.CHATPAY_ISSUER,
    tokenSecret: values.CHATPAY_TOKEN_SECRET ?? randomBytes(32),
    hashSecret: values.CHATPAY_HASH_SECRET ?? randomBytes(32),
    gatewaySecret: values.CHATPAY_GATEWAY_SECRET,
    /** The secrets that this process made up; whatever they sign or hash ends with it. */
    madeUpSecrets: SECRETS.filter((name) => given[name] === undefined),
  };
}

/** The addresses alone, for the commands that do not serve. Both throw a ConfigError. */
export const readDatabaseUrl = (env: NodeJS.ProcessEnv = process.env) => readOne("DATABASE_URL", env);
export const readRedisUrl = (env: NodeJS.ProcessEnv = process.env) => readOne("REDIS_URL", env);

function readOne(name: "DATABASE_URL" | "REDIS_URL", env: NodeJS.ProcessEnv): string {
  const parsed = environment.shape[name].safeParse(env[name]);
  if (!parsed.success) throw new ConfigError(problemOf(name, env, parsed.error.issues[0]?.message));
  return parsed.data;
}

const problemOf = (name: string, env: NodeJS.ProcessEnv, message = "wrong") =>
  `${name}: ${env[name] === undefined ? "required" : message}`;

function readTls(env: Record<string, string | undefined>, problems: string[]) {
  const files = { cert: env.CHATPAY_TLS_CERT_FILE, key: env.CHATPAY_TLS_KEY_FILE };
  if (files.cert === undefined || files.key === undefined) return undefined;
  try {
    return { cert: readFileSync(files.cert), key: readFileSync(files.key) };
  } catch (error) {
    problems.push(`CHATPAY_TLS_CERT_FILE, CHATPAY_TLS_KEY_FILE: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}
