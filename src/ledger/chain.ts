import type { Row } from "../db/schema.ts";
import { chainHash, type Head } from "./queries.ts";
import type { Tally } from "./verify.ts";

const CHAIN_WAITING_MAX = 10_000;

interface Link {
  hash: Buffer;
  content: Buffer;
  lastPosition: bigint;
  eventCount: number;
}

/** Batches arrive nearly in the order of their numbers; each is compared with the one before. */
export function followChain(head: Head, tally: Tally, isThere: (number: bigint) => Promise<boolean>) {
  const waiting = new Map<bigint, Link>();
  let waitingMax = CHAIN_WAITING_MAX;
  let last: { number: bigint; hash: Buffer; position: bigint } = { number: 0n, hash: Buffer.alloc(32), position: 0n };

  function follow() {
    for (let link = waiting.get(last.number + 1n); link; link = waiting.get(last.number + 1n)) {
      const number = last.number + 1n;
      waiting.delete(number);
      if (!link.hash.equals(chainHash(last.hash, link.content))) {
        tally.differ("batches", `batch ${number}`, "the hash does not fit: the batch or the one before was changed");
      }
      const position = last.position + BigInt(link.eventCount);
      if (link.lastPosition !== position) {
        tally.differ("batches", `batch ${number}`, `ends at position ${link.lastPosition}, not ${position}`);
      }
      last = { number, hash: link.hash, position: link.lastPosition };
    }
  }

  /** Goes on behind a gap, so that one missing batch is one difference. */
  function jump() {
    const next = [...waiting.keys()].reduce((a, b) => (a < b ? a : b));
    const link = waiting.get(next) as Link;
    tally.differ("batches", `batch ${last.number + 1n}`, `missing; the next is ${next}`);
    waiting.delete(next);
    last = { number: next, hash: link.hash, position: link.lastPosition };
    follow();
  }

  return {
    async add({ number, hash, lastPosition, eventCount }: Row<"ledgerBatch">, content: Buffer) {
      waiting.set(number ?? 0n, { hash, content, lastPosition, eventCount });
      follow();
      if (waiting.size <= waitingMax) return;
      // A process whose clock is ahead writes batches that are read late.
      if (await isThere(last.number + 1n)) waitingMax *= 2;
      else jump();
    },
    end() {
      while (waiting.size > 0) jump();
      if (last.number !== head.number || last.position !== head.position || !last.hash.equals(head.hash)) {
        const end = `the log ends with batch ${last.number} at position ${last.position}`;
        tally.differ("batches", "head", `says batch ${head.number} at position ${head.position}; ${end}`);
      }
    },
  };
}
