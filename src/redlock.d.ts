declare module "redlock" {
  import type { Redis } from "ioredis";

  interface Lock {
    unlock(): Promise<void>;
  }

  export default class Redlock {
    constructor(clients: Redis[], options: { retryCount: number; retryDelay: number; retryJitter?: number });
    lock(resources: string | string[], ttlMs: number): Promise<Lock>;
    on(event: "clientError", listener: (error: Error) => void): void;
  }
}
