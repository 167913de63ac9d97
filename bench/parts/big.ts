import { fill, openArena, randomTransfers } from "../arena.ts";
import { proven, verifySeconds } from "../audit.ts";
import { openLaneContestant } from "../contestants/lane.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, type Section, times } from "../report.ts";
import { workloadOf } from "../workloads.ts";

/** The lane on big tables and on small ones, in turns. The big tables stay for the next time. */
export async function big({ services, settings, say }: Bench): Promise<Section> {
  const { wallets, transfers, rounds, measureMs } = settings.big;
  say(`opening ${count(wallets)} wallets; the first time this takes minutes`);
  const bigArena = await openArena(services, `bench_big_${wallets}`, wallets, true);
  const { made } = await bigArena.db
    .selectFrom("transfer")
    .select(({ fn }) => fn.countAll<bigint>().as("made"))
    .executeTakeFirstOrThrow();
  const missing = Math.max(0, transfers - Number(made));
  if (missing > 0) say(`making ${count(missing)} transfers`);
  await fill(bigArena, randomTransfers(bigArena.people, missing));

  const smallArena = await openArena(services, "bench_small", settings.wallets);
  const onBig = openLaneContestant(bigArena, settings);
  const onSmall = openLaneContestant(smallArena, settings);
  try {
    const bigRates: number[] = [];
    const smallRates: number[] = [];
    const load = { inFlight: settings.inFlight, warmupMs: settings.warmupMs, measureMs };
    // The first round brings the tables into memory, where a server that has run for a while has them.
    for (let round = 0; round <= rounds; round += 1) {
      const one = await proven(smallArena, () => onSmall.run(workloadOf("spread", settings.wallets), load));
      const other = await proven(bigArena, () => onBig.run(workloadOf("spread", wallets), load));
      if (round > 0) {
        smallRates.push(one.perSecond);
        bigRates.push(other.perSecond);
      }
      say(`round ${round}: small ${count(one.perSecond)}/s, big ${count(other.perSecond)}/s`);
    }
    say("verifying the books");
    await verifySeconds(smallArena);
    await verifySeconds(bigArena);
    return {
      title: "The lane on big tables",
      tables: [
        [
          ["(c), spread", "transfers per second"],
          [`${count(settings.wallets)} wallets, new tables`, count(median(smallRates))],
          [`${count(wallets)} wallets, ${count(transfers)} transfers`, count(median(bigRates))],
        ],
      ],
      goals: [
        {
          measure: "(c) on big tables ÷ (c) on small ones",
          value: median(bigRates.map((rate, round) => rate / (smallRates[round] ?? Number.NaN))),
          must: 0.85,
          aim: 1,
          show: times,
        },
      ],
    };
  } finally {
    await onBig.close();
    await onSmall.close();
    await bigArena.close();
    await smallArena.close();
  }
}
