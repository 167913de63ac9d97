declare module "redlock" {
  import type { Redis } from "ioredis";

  interface Lock {
    unlock(): Promise<void>;
  }

  export default class Redlock {
    constructor(clients: Redis[], options: { retryCount: number; retryDelay: number; retryJitter: number });
    lock(resources: string[], ttlMs: number): Promise<Lock>;
  }
}
