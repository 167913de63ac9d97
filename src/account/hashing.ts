import { argon2Sync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { platform } from "node:process";

/** A process that hashes passwords, one after the other. See `deriveKey` in passwords.ts. */

setPriority(constants.priority.PRIORITY_LOW);
if (platform === "linux") {
  // Linux shares processors out among sessions before it looks at priorities, and this process leads one of its own.
  try {
    writeFileSync("/proc/self/autogroup", String(constants.priority.PRIORITY_LOW));
  } catch {
    // The kernel has no such groups, or the container does not show them; then the priority alone counts.
  }
}

process.on("message", (parameters: Parameters<typeof argon2Sync>[1]) => {
  process.send?.(argon2Sync("argon2id", parameters));
});
// It stays for as long as somebody may ask, and no longer.
process.channel?.ref();
process.on("disconnect", () => process.exit());
