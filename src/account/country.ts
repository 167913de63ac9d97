import { readFileSync, type Stats, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import ipaddr from "ipaddr.js";
import { type CountryResponse, Reader } from "maxmind";
import type { Logger } from "pino";
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { App } from "../app.ts";
import { countryNotAllowed } from "../errors.ts";
import type { Origin } from "../rpc/origin.ts";
import type { Address } from "./address.ts";
import { findAccountByAddress } from "./queries.ts";
import { openTurns } from "./turns.ts";

/** So often the owner of an address is told. */
const WARNINGS = { points: 1, duration: 60 * 60 };
const WARNING_TURNS = { running: 2, waiting: 200, retryAfterMs: 1_000 };
/** How often somebody looks whether the file has changed. */
const LOOK_MS = 1_000;
/** Addresses that no country has. */
const NOWHERE = new Set(["unspecified", "loopback", "private", "linkLocal", "uniqueLocal", "carrierGradeNat"]);

/**
 * Who may sign up, and sign in, from which country. A header counts only if a trusted proxy passed the call on, and then
 * it counts more than the file.
 */
export function openCountryGate({ config, db, redis, log, messenger }: App) {
  const { signUp, signIn, unknown, file, header } = config.countries;
  const findInFile = file === undefined ? () => undefined : openCountryFile(file, log);
  const turns = openTurns(WARNING_TURNS);
  const warnings = new RateLimiterRedis({
    ...WARNINGS,
    keyPrefix: "chatpay:country-warning",
    storeClient: redis,
    rejectIfRedisNotReady: true,
    insuranceLimiter: new RateLimiterMemory(WARNINGS),
  });

  function countriesFor(purpose: CodePurpose): Set<string> {
    if (purpose === CodePurpose.SIGN_UP) return signUp;
    return purpose === CodePurpose.SIGN_IN ? signIn : new Set();
  }

  async function countryOf({ ip, isProxied }: Origin, headers: Headers): Promise<string | undefined> {
    const said = header !== undefined && isProxied ? headers.get(header) : null;
    return codeIn(said === null ? await findInFile(ip) : said);
  }

  /** Tells the owner, if there is one. Nobody waits for it, so the answer takes as long as when there is none. */
  async function warnOwner(address: Address, purpose: CodePurpose, country: string) {
    const account = await findAccountByAddress(db, address);
    if (!account || !(await isTimely(address))) return;
    const { email, phone, language } = account;
    const to = address.kind === "email" ? { email, phone: "", language } : { email: "", phone, language };
    messenger.tell(to, { is: "country_refused", purpose, country });
  }

  const isTimely = ({ key }: Address) =>
    warnings.consume(key.toString("hex")).then(
      () => true,
      (reason: unknown) => {
        if (reason instanceof RateLimiterRes) return false;
        throw reason;
      },
    );

  return {
    /**
     * Throws COUNTRY_NOT_ALLOWED. It comes before all that depends on the address, so that who may not come in learns
     * nothing about anybody.
     */
    async check(purpose: CodePurpose, address: Address, origin: Origin, headers: Headers) {
      const countries = countriesFor(purpose);
      if (countries.size === 0) return;
      const country = await countryOf(origin, headers);
      if (country === undefined ? unknown === "allow" : countries.has(country)) return;
      const name = country ?? "unknown";
      turns
        .take(() => warnOwner(address, purpose, name))
        .catch((err: unknown) => log.warn({ err }, "nobody was told of a refused country"));
      throw countryNotAllowed(name);
    },
  };
}

/** Two letters are a country; what a proxy says of who hides is none. */
function codeIn(text: string | undefined): string | undefined {
  const code = text?.trim().toUpperCase() ?? "";
  return /^[A-Z]{2}$/.test(code) && code !== "XX" ? code : undefined;
}

/** Finds the country of an address in a file of the MaxMind format, which may change at any time. Throws if there is none. */
function openCountryFile(path: string, log: Logger) {
  let { seen, reader } = readFirst(path);
  let lookedAt = performance.now();

  async function readChanged() {
    const version = await stat(path).then(versionOf, () => "gone");
    if (version === seen) return;
    // Also when it is broken, so that it is told once.
    seen = version;
    reader = new Reader<CountryResponse>(await readFile(path));
    log.info("the country file has changed and was read");
  }

  return async (ip: string): Promise<string | undefined> => {
    if (performance.now() - lookedAt >= LOOK_MS) {
      lookedAt = performance.now();
      await readChanged().catch((err: unknown) =>
        log.warn({ err }, "the country file cannot be read; what was read before still counts"),
      );
    }
    if (ip === "" || NOWHERE.has(ipaddr.parse(ip).range())) return undefined;
    // In a file of IPv4 the first bits of another address would find somebody else's country.
    if (ip.includes(":") && reader.metadata.ipVersion === 4) return undefined;
    return reader.get(ip)?.country?.iso_code;
  };
}

function readFirst(path: string) {
  try {
    return { seen: versionOf(statSync(path)), reader: new Reader<CountryResponse>(readFileSync(path)) };
  } catch (cause) {
    throw new Error(`CHATPAY_COUNTRY_DB_FILE: no file of the MaxMind format: ${path}`, { cause });
  }
}

const versionOf = ({ mtimeMs, size, ino }: Stats) => `${mtimeMs} ${size} ${ino}`;
