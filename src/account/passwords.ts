import { type Argon2Parameters, argon2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { overloaded, passwordTooSimple } from "../errors.ts";

/** OWASP's smallest: 19 MiB, two passes. Kept in each hash, so that they can grow. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 };
const HASH_BYTES = 32;
const SALT_BYTES = 16;

/** Node has four threads for such work; the others stay free for files and names. */
const RUNNING_MAX = 2;
const WAITING_MAX = 100;
const OVERLOAD_RETRY_MS = 1_000;

const deriveKey = promisify(argon2);
const waiting: (() => void)[] = [];
let running = 0;

async function derive(password: string, parameters: Omit<Argon2Parameters, "message">): Promise<Buffer> {
  if (running === RUNNING_MAX) {
    if (waiting.length === WAITING_MAX) throw overloaded(OVERLOAD_RETRY_MS);
    await new Promise<void>((resolve) => waiting.push(resolve));
  } else running += 1;
  try {
    // The same word may be typed in composed or decomposed letters.
    return await deriveKey("argon2id", { ...parameters, message: password.normalize("NFKC") });
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }
}

/** The password's Argon2id hash as a PHC string. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  return phc(salt, await derive(password, { ...COST, nonce: salt, tagLength: HASH_BYTES }));
}

function phc(salt: Buffer, hash: Buffer): string {
  const { memory, passes, parallelism } = COST;
  const [saltText, hashText] = [salt, hash].map((bytes) => bytes.toString("base64").replaceAll("=", ""));
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${saltText}$${hashText}`;
}

const PHC = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Nobody's: no password gives it. */
const NOBODY = phc(randomBytes(SALT_BYTES), randomBytes(HASH_BYTES));

/** Whether the password gives the hash. Without a hash it does not, and takes as long to say so. */
export async function verifyPassword(password: string, stored = NOBODY): Promise<boolean> {
  const [, memory, passes, parallelism, salt, hash] = PHC.exec(stored) ?? [];
  if (salt === undefined || hash === undefined) throw new Error("a stored password hash is no PHC string");
  const expected = Buffer.from(hash, "base64");
  const derived = await derive(password, {
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    nonce: Buffer.from(salt, "base64"),
    tagLength: expected.length,
  });
  return timingSafeEqual(derived, expected);
}

/** Refuses the address itself, whole or in its first part. */
export function checkPassword(password: string, email: string) {
  const [typed, address] = [password, email].map((text) => text.trim().toLowerCase()) as [string, string];
  if (typed === address || typed === address.slice(0, address.lastIndexOf("@"))) throw passwordTooSimple();
}
