import { type Argon2Parameters, argon2Sync } from "node:crypto";
import { readlinkSync } from "node:fs";
import { constants, platform, setPriority } from "node:os";
import { parentPort } from "node:worker_threads";

/** A thread that hashes passwords, one after the other. See `derive` in passwords.ts. */

// Only Linux has priorities for threads. Elsewhere this one competes with all others.
if (platform() === "linux") {
  const [threadId] = /\d+$/.exec(readlinkSync("/proc/thread-self")) ?? [];
  setPriority(Number(threadId), constants.priority.PRIORITY_LOW);
}

parentPort?.on("message", (parameters: Argon2Parameters) => {
  parentPort?.postMessage(argon2Sync("argon2id", parameters));
});
