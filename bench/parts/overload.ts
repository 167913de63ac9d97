import { openArena } from "../arena.ts";
import { audited, proven, verifySeconds } from "../audit.ts";
import { openUnary } from "../contestants/chatpay.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, megabytes, milliseconds, type Section, times } from "../report.ts";
import { workloadOf } from "../workloads.ts";

const SAMPLE_MS = 250;
const RESOURCE_EXHAUSTED = "gRPC 8";

/** A server that is called by ten times as many clients as it takes; those that it refuses come again. */
export async function overload({ services, settings, say }: Bench): Promise<Section> {
  const { inFlight, factor, retryMs, measureMs } = settings.overload;
  const arena = await openArena(services, "bench_overload", settings.wallets);
  const server = await openUnary(arena, settings, { CHATPAY_MAX_IN_FLIGHT: `${inFlight}` });
  const samples: number[] = [];
  const sampler = setInterval(() => void server.memory().then(({ bytes }) => samples.push(bytes)), SAMPLE_MS);
  try {
    const spread = workloadOf("spread", settings.wallets);
    const load = { inFlight, warmupMs: settings.warmupMs, measureMs };
    const calm = await proven(arena, () => server.run(spread, load));
    say(`${inFlight} clients: ${count(calm.perSecond)}/s`);

    samples.length = 0;
    const crowded = { ...load, inFlight: inFlight * factor, pauseMs: retryMs };
    const full = await audited(arena, () => server.run(spread, crowded));
    const { [RESOURCE_EXHAUSTED]: refused = 0, ...others } = full.refusals;
    say(`${inFlight * factor} clients: ${count(full.perSecond)}/s, ${count(refused)} refused`);
    for (const refusal of Object.keys(others)) throw new Error(`calls were refused with ${refusal}`);
    await verifySeconds(arena);

    // The first third is the crowd's arrival.
    const third = Math.floor(samples.length / 3);
    const early = median(samples.slice(third, 2 * third));
    const late = median(samples.slice(2 * third));
    return {
      title: `Overload: ${count(inFlight * factor)} clients on a server that takes ${count(inFlight)} calls at a time`,
      tables: [
        [
          ["", `${count(inFlight)} clients`, `${count(inFlight * factor)} clients`],
          ["transfers per second", count(calm.perSecond), count(full.perSecond)],
          ["latency of a transfer, p50", milliseconds(calm.latency.p50), milliseconds(full.latency.p50)],
          ["latency of a transfer, p99", milliseconds(calm.latency.p99), milliseconds(full.latency.p99)],
          ["refused with RESOURCE_EXHAUSTED", "0", count(refused)],
          ["latency of a refusal, p50", "", milliseconds(full.refusedLatency.p50)],
          ["latency of a refusal, p99", "", milliseconds(full.refusedLatency.p99)],
          ["memory of the server, in the middle", "", megabytes(early)],
          ["memory of the server, at the end", "", megabytes(late)],
        ],
      ],
      goals: [
        {
          measure: `${factor}× overload: memory at the end ÷ in the middle`,
          value: late / early,
          lessIsBetter: true,
          must: 1.1,
          show: times,
        },
        {
          measure: `${factor}× overload: a refusal takes, p50`,
          value: full.refusedLatency.p50,
          lessIsBetter: true,
          must: 50,
          show: milliseconds,
        },
      ],
    };
  } finally {
    clearInterval(sampler);
    await server.close();
    await arena.close();
  }
}
