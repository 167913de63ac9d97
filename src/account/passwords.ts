import { type Argon2Parameters, randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { passwordTooSimple } from "../errors.ts";
import type { Recipient } from "./messenger.ts";
import { openTurns } from "./turns.ts";

/** OWASP's smallest: 19 MiB, two passes. Kept in each hash, so that they can grow. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 };
const HASH_BYTES = 32;
const SALT_BYTES = 16;

/** Low priority is heard within a process only: MySQL on the same machine needs cores that hash nothing. */
const HALF_OF_CORES = Math.max(1, Math.floor(availableParallelism() / 2));

/**
 * Each is hashed in turns of its own, so that whoever pays does not wait behind strangers who sign in, nor is refused
 * because of them. So there is one thread more than half of the cores at most.
 */
const TURNS = {
  password: openTurns({ running: HALF_OF_CORES, waiting: 100, retryAfterMs: 1_000 }),
  pin: openTurns({ running: 1, waiting: 100, retryAfterMs: 1_000 }),
};
type Kind = keyof typeof TURNS;

const idle: Worker[] = [];

/**
 * A hash takes a core for 25 ms, so it runs in a thread of its own with the lowest priority: whoever moves money does not
 * wait for those who sign in. Node's own threads for such work have no lower priority, and others need them.
 */
async function deriveKey(parameters: Argon2Parameters): Promise<Buffer> {
  const worker = idle.pop() ?? new Worker(new URL("hashing.ts", import.meta.url));
  worker.ref();
  worker.postMessage(parameters);
  // A thread that fails is gone, and not among the idle.
  const [hash] = (await once(worker, "message")) as [Uint8Array];
  worker.unref();
  idle.push(worker);
  return Buffer.from(hash);
}

const derive = (kind: Kind, password: string, parameters: Omit<Argon2Parameters, "message">): Promise<Buffer> =>
  // The same word may be typed in composed or decomposed letters.
  TURNS[kind].take(() => deriveKey({ ...parameters, message: password.normalize("NFKC") }));

/** The Argon2id hash of a password, or of what stands for a PIN, as a PHC string. Throws OVERLOADED. */
export async function hashPassword(password: string, kind: Kind = "password"): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  return phc(salt, await derive(kind, password, { ...COST, nonce: salt, tagLength: HASH_BYTES }));
}

/** What each of our hashes begins with. */
const PARAMETERS = `$argon2id$v=19$m=${COST.memory},t=${COST.passes},p=${COST.parallelism}$`;

function phc(salt: Buffer, hash: Buffer): string {
  const [saltText, hashText] = [salt, hash].map((bytes) => bytes.toString("base64").replaceAll("=", ""));
  return `${PARAMETERS}${saltText}$${hashText}`;
}

/** Whether the hash was made at another cost than today's. */
export const isOutdated = (stored: string): boolean => !stored.startsWith(PARAMETERS);

const PHC = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Nobody's: no password gives it. */
const NOBODY = phc(randomBytes(SALT_BYTES), randomBytes(HASH_BYTES));

/** Whether the password gives the hash. Without a hash it does not, and takes as long to say so. Throws OVERLOADED. */
export async function verifyPassword(
  password: string,
  stored: string | undefined,
  kind: Kind = "password",
): Promise<boolean> {
  const [, memory, passes, parallelism, salt, hash] = PHC.exec(stored || NOBODY) ?? [];
  if (salt === undefined || hash === undefined) throw new Error("a stored password hash is no PHC string");
  const expected = Buffer.from(hash, "base64");
  const derived = await derive(kind, password, {
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    nonce: Buffer.from(salt, "base64"),
    tagLength: expected.length,
  });
  return timingSafeEqual(derived, expected);
}

/** Refuses an address of the person: an e-mail address whole or in its first part, a number however it is dialled. */
export function checkPassword(password: string, addresses: Pick<Recipient, "email" | "phone">) {
  const [typed, email] = [password, addresses.email].map((text) => text.normalize("NFKC").trim().toLowerCase()) as [
    string,
    string,
  ];
  if (email !== "" && (typed === email || typed === email.slice(0, email.lastIndexOf("@")))) throw passwordTooSimple();
  const digits = /^[0-9+() -]+$/.test(typed) ? typed.replaceAll(/[^0-9]/g, "").replace(/^0+/, "") : "";
  if (digits !== "" && addresses.phone.endsWith(digits)) throw passwordTooSimple();
}
