import { openArena } from "../arena.ts";
import { proven } from "../audit.ts";
import { openUnary } from "../contestants/chatpay.ts";
import { openForUpdate } from "../contestants/transaction.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { milliseconds, type Section, times } from "../report.ts";
import { workloadOf } from "../workloads.ts";

/** So few that the server knows them all after the first warm-up, as it knows whoever calls often. */
const PEOPLE = 200;

/** One client, one call after the other: what a whole server costs over a bare transaction. */
export async function latency({ services, settings, say }: Bench): Promise<Section> {
  const arena = await openArena(services, "bench_latency", PEOPLE);
  const transaction = await openForUpdate(arena, 1);
  const unary = await openUnary(arena, settings);
  try {
    const spread = workloadOf("spread", PEOPLE);
    const transactionMs: number[] = [];
    const unaryMs: number[] = [];
    for (let round = 1; round <= settings.latencyRounds; round += 1) {
      const load = { inFlight: 1, warmupMs: settings.latencyMs / 2, measureMs: settings.latencyMs };
      const one = await proven(arena, () => transaction.run(spread, load));
      const other = await proven(arena, () => unary.run(spread, load));
      transactionMs.push(one.latency.p50);
      unaryMs.push(other.latency.p50);
      say(`round ${round}: (b) ${milliseconds(one.latency.p50)}, (d) ${milliseconds(other.latency.p50)}`);
    }
    return {
      title: "One client",
      tables: [
        [
          ["median latency", "(b)", "(d)"],
          ["one call after the other", milliseconds(median(transactionMs)), milliseconds(median(unaryMs))],
        ],
      ],
      goals: [
        {
          measure: "one client, latency (d) ÷ (b)",
          value: median(unaryMs.map((ms, round) => ms / (transactionMs[round] ?? Number.NaN))),
          lessIsBetter: true,
          must: 1.5,
          aim: 1.1,
          show: times,
        },
      ],
    };
  } finally {
    await transaction.close();
    await unary.close();
    await arena.close();
  }
}
