import { openArena } from "../arena.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { type Section, seconds } from "../report.ts";
import { startChatPay } from "../server.ts";

/** From the start of the process until it serves, with MySQL and Redis up. */
export async function start({ services, settings, say }: Bench): Promise<Section> {
  const arena = await openArena(services, "bench_start", settings.wallets);
  try {
    const took: number[] = [];
    for (let turn = 1; turn <= settings.starts; turn += 1) {
      const server = await startChatPay(arena);
      took.push(server.startMs / 1000);
      await server.stop();
      say(`start ${turn}: ${seconds(server.startMs / 1000)}`);
    }
    return {
      title: "Server start",
      tables: [
        [
          ["until health is SERVING", "median", "slowest"],
          [`${settings.starts} starts`, seconds(median(took)), seconds(Math.max(...took))],
        ],
      ],
      goals: [
        {
          measure: "server start, services already up",
          value: median(took),
          lessIsBetter: true,
          must: 2,
          aim: 1,
          show: seconds,
        },
      ],
    };
  } finally {
    await arena.close();
  }
}
