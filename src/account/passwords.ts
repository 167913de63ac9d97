import { type ChildProcess, fork } from "node:child_process";
import { type Argon2Parameters, randomBytes, timingSafeEqual } from "node:crypto";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { passwordTooSimple } from "../errors.ts";
import type { Recipient } from "./messenger.ts";
import { openTurns } from "./turns.ts";

/** OWASP's smallest: 19 MiB, two passes. Kept in each hash, so that they can grow. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 };
const HASH_BYTES = 32;
const SALT_BYTES = 16;

/** Where nothing hears of priorities, half of the cores hash nothing. */
const HALF_OF_CORES = Math.max(1, Math.floor(availableParallelism() / 2));

/**
 * Each is hashed in turns of its own, so that whoever pays does not wait behind strangers who sign in, nor is refused
 * because of them. So there is one process more than half of the cores at most.
 */
const TURNS = {
  password: openTurns({ running: HALF_OF_CORES, waiting: 100, retryAfterMs: 1_000 }),
  pin: openTurns({ running: 1, waiting: 100, retryAfterMs: 1_000 }),
};
type Kind = keyof typeof TURNS;

const HASHING = new URL("hashing.ts", import.meta.url);
const idle = new Set<ChildProcess>();

/**
 * A hash takes a core for 25 ms and fills 19 MiB, so it is made in a process of its own that yields to all others: whoever
 * moves money, in this process or in MySQL beside it, does not wait for those who sign in. A thread yields only to this
 * process, and holds up its memory while it fills its own.
 */
function deriveKey(parameters: Argon2Parameters): Promise<Buffer> {
  const [free] = idle;
  const child = free ?? startHashing();
  idle.delete(child);
  keepAlive(child, true);
  return new Promise((resolve, reject) => {
    const lost = (why: unknown) => reject(new Error("a process that hashes passwords was lost", { cause: why }));
    child.once("exit", lost).once("error", lost);
    child.once("message", (hash) => {
      child.off("exit", lost).off("error", lost);
      keepAlive(child, false);
      idle.add(child);
      resolve(Buffer.from(hash as Uint8Array));
    });
    child.send(parameters);
  });
}

function startHashing(): ChildProcess {
  // It leads a session, which Ctrl-C does not reach; it ends when this process has.
  const child = fork(HASHING, {
    detached: true,
    serialization: "advanced",
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  child.on("exit", () => idle.delete(child)).on("error", () => idle.delete(child));
  return child;
}

/** Whether this process waits for the other before it ends. */
function keepAlive(child: ChildProcess, alive: boolean) {
  if (alive) child.ref();
  else child.unref();
  if (alive) child.channel?.ref();
  else child.channel?.unref();
}

/** So much of the time that a password took, the next one in line waits: two cores are often the halves of one. */
const REST = 0.5;

const derive = (kind: Kind, password: string, parameters: Omit<Argon2Parameters, "message">): Promise<Buffer> => {
  // The same word may be typed in composed or decomposed letters.
  const message = password.normalize("NFKC");
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const turn = TURNS[kind].take(async () => {
    const beganMs = performance.now();
    await deriveKey({ ...parameters, message }).then(resolve, reject);
    if (kind === "password") await sleep((performance.now() - beganMs) * REST, undefined, { ref: false });
  });
  turn.catch(reject);
  return promise;
};

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
