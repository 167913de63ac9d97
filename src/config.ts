import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { isCallingCode } from "./sms.ts";

/**
 * The environment as one typed object; nothing else reads it. Every wrong value is named in one message.
 */

/** Korea's calling code. */
const HOME_CODE = "82";

const integer = z.coerce
  .number({ error: ({ code }) => (code === "invalid_type" ? "must be a whole number" : undefined) })
  .int();
const port = (standard: number) => integer.min(0).max(65_535).default(standard);
const whole = (standard: number, min: number, max: number) => integer.min(min).max(max).default(standard);
const limit = (standard: number) => whole(standard, 0, 1_000_000_000);
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

const countries = list.transform((parts, { addIssue }) => {
  const codes = parts.map((part) => part.toUpperCase());
  for (const code of codes) if (!isCountry(code)) addIssue(`"${code}" is no country; write two letters such as KR`);
  return new Set(codes);
});

const callingCodes = list.transform((parts, { addIssue }) => {
  for (const part of parts)
    if (part !== "*" && !isCallingCode(part)) addIssue(`"${part}" is no calling code; write one such as 82, or *`);
  return new Set(parts.length === 0 ? [HOME_CODE] : parts);
});

const countryNames = new Intl.DisplayNames(["en"], { type: "region", fallback: "none" });

/** By ISO 3166-1: the region that goes by the name, and not one that is better known by it, as UK is. */
const isCountry = (code: string) =>
  /^[A-Z]{2}$/.test(code) &&
  countryNames.of(code) !== undefined &&
  new Intl.Locale("und", { region: code }).region === code;

/** 32 bytes as 64 hexadecimal digits. */
const secret = z
  .string()
  .regex(/^[0-9a-fA-F]{64}$/, "must be 64 hexadecimal digits; make one with: openssl rand -hex 32")
  .transform((text) => Buffer.from(text, "hex"));

/** So much may be drawn from banks in a day where a tier says nothing else. */
const DRAW_DAY = 3_000_000;
const won = z.number().int().min(0).max(1_000_000_000_000).transform(BigInt);
const tier = z.strictObject({
  /** Drawn from banks in a day. */
  drawDay: won.default(BigInt(DRAW_DAY)),
  /** Sent in one transfer, in a day, and in a day to people who were never sent anything before. */
  sendOnce: won.optional(),
  sendDay: won.optional(),
  sendStrangersDay: won.optional(),
  /** What a main wallet may hold after it was topped up or sent something. */
  balance: won.optional(),
});
/** What an account may move, in the minor unit; what is left out has no limit. */
export type Limits = z.output<typeof tier>;

/** Names and limits as JSON. The first is everybody's, until an operator says otherwise. */
const tiers = z
  .string()
  .default('{"standard":{}}')
  .transform((text, { addIssue }): ReadonlyMap<string, Limits> => {
    const parsed = z
      .record(z.string().regex(/^[a-z][a-z0-9_]{0,31}$/), tier)
      .refine((named) => Object.keys(named).length > 0)
      .safeParse(jsonOf(text));
    if (!parsed.success) addIssue('must be JSON such as {"standard":{"drawDay":3000000},"plus":{"sendDay":5000000}}');
    return new Map(Object.entries(parsed.data ?? {}));
  });

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What may run apart, in servers of their own: services, and the jobs. */
const ROLES = ["account", "money", "worker"] as const;
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
  /** Whose services this server serves, and whether it runs the jobs, comma separated; all if not set. */
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

  /** How many calls an account may make in 10 seconds: that change nothing, and others. 0 is no limit, here and below. */
  CHATPAY_LIMIT_READ: limit(200),
  CHATPAY_LIMIT_WRITE: limit(100),
  /** Calls that need no credential, in a minute, of an IP address or an IPv6 network of 64 bits. */
  CHATPAY_LIMIT_ENTER: limit(120),
  /** Calls in 10 seconds of the key of a chat server, of a partner, and of the key of an operator. */
  CHATPAY_LIMIT_SERVICE: limit(500_000),
  CHATPAY_LIMIT_PARTNER: limit(5_000),
  CHATPAY_LIMIT_OPERATOR: limit(5_000),
  /** Wrong credentials in a minute, of an IP address or an IPv6 network of 64 bits. */
  CHATPAY_LIMIT_FAILED_CREDENTIALS: limit(100),
  /** Codes for phone numbers in an hour, of an IP address or an IPv6 network of 64 bits. */
  CHATPAY_LIMIT_TEXTS: limit(20),

  /** Countries that people may sign up from, and sign in from, comma separated, as KR; everywhere if not set. */
  CHATPAY_COUNTRIES_SIGN_UP: countries,
  CHATPAY_COUNTRIES_SIGN_IN: countries,
  /** What becomes of those whose country nobody knows. */
  CHATPAY_COUNTRY_UNKNOWN: z.enum(["allow", "refuse"]).default("refuse"),
  /** Which address is in which country: a file of the MaxMind format, read again when it changes. */
  CHATPAY_COUNTRY_DB_FILE: z.string().optional(),
  /** The header in which trusted proxies name the country, as cf-ipcountry. */
  CHATPAY_COUNTRY_HEADER: z
    .string()
    .regex(/^[\w-]+$/, "must be the name of a header")
    .transform((name) => name.toLowerCase())
    .optional(),

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
  /** Naver Cloud SENS, which sends text messages: all of it, or none and no phone number gets a code. */
  CHATPAY_SMS_URL: url("http", "https").optional(),
  CHATPAY_SMS_SERVICE_ID: z
    .string()
    .regex(/^[\w:.-]+$/, "must be a service id, as ncp:sms:kr:…")
    .optional(),
  CHATPAY_SMS_ACCESS_KEY: z.string().optional(),
  CHATPAY_SMS_SECRET_KEY: z.string().optional(),
  CHATPAY_SMS_FROM: z
    .string()
    .regex(/^[0-9]{3,15}$/, "must be the digits of a number that is registered with SENS")
    .optional(),
  /** The calling codes of the countries to whose numbers codes are texted, comma separated; `*` for all, Korea's if not set. */
  CHATPAY_SMS_COUNTRIES: callingCodes,
  /** Above this many won a payment needs the payer's PIN; with 0 each does, and none if it is not set. */
  CHATPAY_PIN_ABOVE: z
    .string()
    .regex(/^[0-9]{1,18}$/, "must be an amount in won")
    .transform(BigInt)
    .optional(),
  /** What accounts may move: names with limits, as JSON. */
  CHATPAY_TIERS: tiers,
  /** So many minutes before its time is over, people are reminded of a gift; of a short one when half of it is over. */
  CHATPAY_GIFT_REMINDER_MINUTES: whole(1_440, 0, 43_200),
  /** KFTC open banking, https://openapi.openbanking.or.kr: all of it, or none and nobody links a bank. */
  CHATPAY_OPENBANKING_URL: url("http", "https").optional(),
  CHATPAY_OPENBANKING_CLIENT_ID: z.string().optional(),
  CHATPAY_OPENBANKING_CLIENT_SECRET: z.string().optional(),
  /** The institution code, with which every bank_tran_id begins. */
  CHATPAY_OPENBANKING_INSTITUTION: z
    .string()
    .regex(/^[A-Z0-9]{10}$/, "must be the ten characters of an institution code")
    .optional(),
  /** The page that people come back to from their consent, as it is registered. */
  CHATPAY_OPENBANKING_REDIRECT_URL: url("http", "https").optional(),
  /** The account that collects what is drawn and pays what is sent, as it is registered: bank, number, holder. */
  CHATPAY_OPENBANKING_BANK_CODE: z
    .string()
    .regex(/^[0-9]{3}$/, "must be the three digits of a bank")
    .optional(),
  CHATPAY_OPENBANKING_ACCOUNT: z
    .string()
    .regex(/^[0-9]{1,16}$/, "must be the digits of an account number")
    .optional(),
  CHATPAY_OPENBANKING_HOLDER: z.string().min(1).max(20).optional(),
  CHATPAY_OPENBANKING_PASS_PHRASE: z.string().min(1).max(128).optional(),
  /** How long one call may take. */
  CHATPAY_OPENBANKING_TIMEOUT_MS: whole(10_000, 100, 60_000),
  /** A transfer of which the centre knows nothing for so long has not reached it, and will not. */
  CHATPAY_OPENBANKING_ABSENT_MS: whole(600_000, 1_000, 86_400_000),
  /** Encrypts the tokens of people and the numbers of their accounts. */
  CHATPAY_BANK_SECRET: secret.optional(),
  /** What these encrypted is read too: secrets from before, comma separated. */
  CHATPAY_BANK_SECRETS_ACCEPTED: list.pipe(z.array(secret)),
  /** How many days the audit trail goes back; 0 keeps all of it. */
  CHATPAY_AUDIT_DAYS: whole(0, 0, 36_500),
  /** What access tokens name as their issuer and audience. */
  CHATPAY_ISSUER: z.string().min(1).default("chatpay"),
  /**
   * Signs access tokens: the seed of an Ed25519 key. To put a new one in its place without signing anybody out:
   * 1. Name the new one in CHATPAY_TOKEN_SECRETS_ACCEPTED and restart every process; each still signs with the old one.
   * 2. Let 5 minutes go by, in which others fetch /.well-known/jwks.json anew. Then swap the two, the old one into
   *    the list, and restart every process: whichever signs a token, all of them accept it.
   * 3. After 15 minutes no token of the old one is left. Take it out of the list and restart.
   */
  CHATPAY_TOKEN_SECRET: secret.optional(),
  /** Sign nothing, but access tokens that they signed are accepted: the next one or the one before, comma separated. */
  CHATPAY_TOKEN_SECRETS_ACCEPTED: list.pipe(z.array(secret)),
  /** Keys the hashes of codes and addresses, and the making of refresh tokens. */
  CHATPAY_HASH_SECRET: secret.optional(),
  /** Signs what the servers behind a gateway are told of the caller, the same in all of them; without it they believe nothing. */
  CHATPAY_GATEWAY_SECRET: secret.optional(),
});

const SMS = [
  "CHATPAY_SMS_URL",
  "CHATPAY_SMS_SERVICE_ID",
  "CHATPAY_SMS_ACCESS_KEY",
  "CHATPAY_SMS_SECRET_KEY",
  "CHATPAY_SMS_FROM",
] as const;

const BANKING = [
  "CHATPAY_OPENBANKING_URL",
  "CHATPAY_OPENBANKING_CLIENT_ID",
  "CHATPAY_OPENBANKING_CLIENT_SECRET",
  "CHATPAY_OPENBANKING_INSTITUTION",
  "CHATPAY_OPENBANKING_REDIRECT_URL",
  "CHATPAY_OPENBANKING_BANK_CODE",
  "CHATPAY_OPENBANKING_ACCOUNT",
  "CHATPAY_OPENBANKING_HOLDER",
  "CHATPAY_OPENBANKING_PASS_PHRASE",
] as const;

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
  for (const together of [SMS, BANKING]) {
    const one = together.find((name) => given[name] !== undefined);
    for (const name of together) {
      if (one && given[name] === undefined) problems.push(`${name}: required with ${one}`);
    }
  }
  const banksGiven = given.CHATPAY_OPENBANKING_URL !== undefined;
  if (banksGiven && given.CHATPAY_BANK_SECRET === undefined && given.CHATPAY_MODE !== "development") {
    problems.push("CHATPAY_BANK_SECRET: required with CHATPAY_OPENBANKING_URL: 64 hexadecimal digits");
  }
  problems.push(...countryProblems(given));
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
    rateLimits: {
      read: values.CHATPAY_LIMIT_READ,
      write: values.CHATPAY_LIMIT_WRITE,
      enter: values.CHATPAY_LIMIT_ENTER,
      service: values.CHATPAY_LIMIT_SERVICE,
      partner: values.CHATPAY_LIMIT_PARTNER,
      operator: values.CHATPAY_LIMIT_OPERATOR,
      failedCredentials: values.CHATPAY_LIMIT_FAILED_CREDENTIALS,
      texts: values.CHATPAY_LIMIT_TEXTS,
    },
    countries: {
      signUp: values.CHATPAY_COUNTRIES_SIGN_UP,
      signIn: values.CHATPAY_COUNTRIES_SIGN_IN,
      unknown: values.CHATPAY_COUNTRY_UNKNOWN,
      file: values.CHATPAY_COUNTRY_DB_FILE,
      header: values.CHATPAY_COUNTRY_HEADER,
    },
    logLevel: values.CHATPAY_LOG_LEVEL,
    maxInFlight: values.CHATPAY_MAX_IN_FLIGHT,
    laneQueueMax: values.CHATPAY_LANE_QUEUE_MAX,
    maxTimeoutMs: values.CHATPAY_MAX_TIMEOUT_MS,
    shutdownGraceMs: values.CHATPAY_SHUTDOWN_GRACE_MS,
    lameDuckMs: values.CHATPAY_LAME_DUCK_MS,
    smtpUrl: values.CHATPAY_SMTP_URL,
    mailFrom: values.CHATPAY_MAIL_FROM,
    sms: smsOf(values),
    pinAbove: values.CHATPAY_PIN_ABOVE,
    tiers: values.CHATPAY_TIERS,
    giftReminderMs: values.CHATPAY_GIFT_REMINDER_MINUTES * 60_000,
    banking: bankingOf(values),
    bankSecret: values.CHATPAY_BANK_SECRET ?? randomBytes(32),
    acceptedBankSecrets: values.CHATPAY_BANK_SECRETS_ACCEPTED,
    auditDays: values.CHATPAY_AUDIT_DAYS,
    issuer: values.CHATPAY_ISSUER,
    tokenSecret: values.CHATPAY_TOKEN_SECRET ?? randomBytes(32),
    acceptedTokenSecrets: values.CHATPAY_TOKEN_SECRETS_ACCEPTED,
    hashSecret: values.CHATPAY_HASH_SECRET ?? randomBytes(32),
    gatewaySecret: values.CHATPAY_GATEWAY_SECRET,
    /** The secrets that this process made up; whatever they sign or hash ends with it. */
    madeUpSecrets: SECRETS.filter((name) => given[name] === undefined),
  };
}

function smsOf(values: z.infer<typeof environment>) {
  const [baseUrl, serviceId, accessKey, secretKey, from] = SMS.map((name) => values[name]);
  if (!baseUrl || !serviceId || !accessKey || !secretKey || !from) return undefined;
  return { baseUrl, serviceId, accessKey, secretKey, from, countries: values.CHATPAY_SMS_COUNTRIES };
}

function bankingOf(values: z.infer<typeof environment>) {
  const [
    baseUrl,
    clientId,
    clientSecret,
    institutionCode,
    redirectUrl,
    bankCode,
    accountNumber,
    accountHolder,
    passPhrase,
  ] = BANKING.map((name) => values[name]);
  if (!baseUrl || !clientId || !clientSecret || !institutionCode || !redirectUrl) return undefined;
  if (!bankCode || !accountNumber || !accountHolder || !passPhrase) return undefined;
  const timeoutMs = values.CHATPAY_OPENBANKING_TIMEOUT_MS;
  const absentMs = values.CHATPAY_OPENBANKING_ABSENT_MS;
  const client = { baseUrl, clientId, clientSecret, institutionCode, redirectUrl };
  return { ...client, bankCode, accountNumber, accountHolder, passPhrase, timeoutMs, absentMs };
}

/** Without a source of countries nobody could come in; without a proxy that is trusted a header is no source. */
function countryProblems(given: Record<string, string | undefined>): string[] {
  const { CHATPAY_COUNTRY_DB_FILE: file, CHATPAY_COUNTRY_HEADER: header } = given;
  const problems = (["CHATPAY_COUNTRIES_SIGN_UP", "CHATPAY_COUNTRIES_SIGN_IN"] as const)
    .filter((name) => given[name] !== undefined && file === undefined && header === undefined)
    .map((name) => `${name}: needs CHATPAY_COUNTRY_DB_FILE or CHATPAY_COUNTRY_HEADER`);
  if (header !== undefined && given.CHATPAY_TRUSTED_PROXIES === undefined) {
    problems.push("CHATPAY_TRUSTED_PROXIES: required with CHATPAY_COUNTRY_HEADER");
  }
  return problems;
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
