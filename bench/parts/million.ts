import { fill, openArena, randomTransfers } from "../arena.ts";
import { diskBytes, verifySeconds } from "../audit.ts";
import type { Bench } from "../part.ts";
import { bytes, count, megabytes, type Section, seconds } from "../report.ts";

/** The size of the server's own batches: what a transfer costs on the disk depends on how many share a batch. */
const BATCH = 512;

/** A million transfers: what they take on the disk, and how long it takes to verify them. */
export async function million({ services, settings, say }: Bench): Promise<Section> {
  const transfers = settings.million;
  const arena = await openArena(services, "bench_million", settings.wallets);
  try {
    say(`making ${count(transfers)} transfers`);
    const before = await diskBytes(arena);
    await fill(arena, randomTransfers(arena.people, transfers), BATCH);
    const growth = (await diskBytes(arena)) - before;
    say("verifying the books");
    const verifyTook = await verifySeconds(arena);
    return {
      title: `${count(transfers)} transfers`,
      tables: [
        [
          ["", "all", "per transfer"],
          ["disk: rows, indexes, entries, events, keys", megabytes(growth), bytes(growth / transfers)],
          ["VerifyBooks", seconds(verifyTook), `${((verifyTook * 1e6) / transfers).toFixed(1)} µs`],
        ],
      ],
      goals: [
        {
          measure: "disk per transfer",
          value: growth / transfers,
          lessIsBetter: true,
          must: 700,
          aim: 450,
          show: bytes,
        },
        {
          measure: "VerifyBooks over 1,000,000 transfers",
          value: (verifyTook * 1e6) / transfers,
          lessIsBetter: true,
          must: 60,
          show: seconds,
        },
      ],
    };
  } finally {
    await arena.close();
  }
}
