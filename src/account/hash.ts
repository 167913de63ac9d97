import { createHmac } from "node:crypto";

/** A hash that only this deployment can make. `use` keeps those of different uses apart. */
export const keyedHash = (secret: Buffer, use: string, text: string): Buffer =>
  createHmac("sha256", secret).update(`${use}:${text}`).digest();
