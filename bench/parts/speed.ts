import { type Arena, openArena } from "../arena.ts";
import { proven, verifySeconds } from "../audit.ts";
import type { Contestant } from "../contestant.ts";
import { openBatches, openJson, openUnary, type ServedContestant } from "../contestants/chatpay.ts";
import { openLaneContestant } from "../contestants/lane.ts";
import { openForUpdate, openRedisLock } from "../contestants/transaction.ts";
import { median } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, type Goal, megabytes, type Section, type Table, times } from "../report.ts";
import type { Settings } from "../settings.ts";
import { type Workload, workloadsOf } from "../workloads.ts";

export const TITLES: Record<string, string> = {
  a: "(a) Redis lock per wallet, then a transaction",
  b: "(b) one transaction per transfer, for update",
  c: "(c) the lane",
  d: "(d) SendTransfer, gRPC :50051",
  e: "(e) SendTransfer, Connect JSON :8080",
  f: "(f) BatchSendTransfers of 1,000, gRPC :50051",
};

const REHEARSAL_CLIENTS = 64;

/** What happened in each round, by contestant and workload. */
type Rates = Map<string, Map<string, number[]>>;

/** All contestants move money in one database, one after the other, again and again. */
export async function speed(bench: Bench): Promise<Section> {
  const { settings, services, say } = bench;
  const arena = await openArena(services, "bench_speed", settings.wallets);
  const workloads = workloadsOf(settings.wallets).filter(({ name }) => bench.workloads.includes(name));
  const contestants = new Map<string, Contestant>();
  const notes: string[] = [];
  try {
    for (const letter of bench.contestants) {
      say(`getting ${TITLES[letter]} ready`);
      const contestant = await openContestant(letter, arena, workloads, bench, notes);
      contestants.set(letter, contestant);
      await rehearse(arena, contestant, workloads, settings);
    }

    const rates: Rates = new Map(bench.contestants.map((letter) => [letter, new Map()]));
    for (let round = 1; round <= settings.rounds; round += 1) {
      for (const workload of workloads) {
        for (const [letter, contestant] of contestants) {
          const load = { ...settings, inFlight: contestant.inFlight };
          const { perSecond } = await proven(arena, () => contestant.run(workload, load));
          say(`round ${round}, ${workload.name}, ${TITLES[letter]}: ${count(perSecond)}/s`);
          const ofLetter = rates.get(letter) as Map<string, number[]>;
          ofLetter.set(workload.name, [...(ofLetter.get(workload.name) ?? []), perSecond]);
        }
      }
    }

    const unary = contestants.get("d") as ServedContestant | undefined;
    const memory = await unary?.memory();
    say("verifying the books");
    await verifySeconds(arena);
    return {
      title: "Transfers per second",
      notes,
      tables: [ratesTable(rates, workloads), ...(rates.has("b") ? [ratiosTable(rates, workloads)] : [])],
      goals: [...speedGoals(rates), ...(memory ? [memoryGoal(memory.peakBytes)] : [])],
    };
  } finally {
    for (const contestant of contestants.values()) await contestant.close();
    await arena.close();
  }
}

/** Not measured: code is compiled, connections open, and a server gets to know who calls. */
async function rehearse(arena: Arena, contestant: Contestant, workloads: Workload[], { warmupMs }: Settings) {
  for (const workload of workloads) {
    const load = { inFlight: Math.min(contestant.inFlight, REHEARSAL_CLIENTS), warmupMs, measureMs: 0 };
    await proven(arena, () => contestant.run(workload, load));
  }
}

function openContestant(letter: string, arena: Arena, workloads: Workload[], bench: Bench, notes: string[]) {
  const { settings } = bench;
  switch (letter) {
    case "a":
      return openBest(TITLES.a as string, openRedisLock, arena, workloads, bench, notes);
    case "b":
      return openBest(TITLES.b as string, openForUpdate, arena, workloads, bench, notes);
    case "c":
      return openLaneContestant(arena, settings);
    case "d":
      return openUnary(arena, settings);
    case "e":
      return openJson(arena, settings);
    case "f":
      return openBatches(arena, settings);
    default:
      throw new Error(`no contestant is called ${letter}`);
  }
}

/** With the number of connections that is best for each workload: the comparison is to be with the best of its kind. */
async function openBest(
  title: string,
  open: (arena: Arena, connections: number) => Promise<Contestant>,
  arena: Arena,
  workloads: Workload[],
  { settings, say }: Bench,
  notes: string[],
): Promise<Contestant> {
  const candidates = await Promise.all(settings.connections.map((connections) => open(arena, connections)));
  const best = new Map<string, Contestant>();
  for (const workload of workloads) {
    let bestRate = 0;
    best.set(workload.name, candidates[0] as Contestant);
    for (const candidate of candidates.length > 1 ? candidates : []) {
      const load = {
        inFlight: candidate.inFlight,
        warmupMs: settings.calibrateMs / 5,
        measureMs: settings.calibrateMs,
      };
      const { perSecond } = await proven(arena, () => candidate.run(workload, load));
      say(`trying ${title}, ${workload.name}, ${candidate.inFlight} connections: ${count(perSecond)}/s`);
      if (perSecond <= bestRate) continue;
      bestRate = perSecond;
      best.set(workload.name, candidate);
    }
  }
  const chosen = workloads.map(({ name }) => `${name} ${best.get(name)?.inFlight}`);
  notes.push(`Connections that were best for ${title}: ${chosen.join(", ")}.`);
  return {
    inFlight: 0,
    run(workload, load) {
      const contestant = best.get(workload.name) as Contestant;
      return contestant.run(workload, { ...load, inFlight: contestant.inFlight });
    },
    async close() {
      for (const candidate of candidates) await candidate.close();
    },
  };
}

function ratesTable(rates: Rates, workloads: Workload[]): Table {
  const names = workloads.map(({ name }) => name);
  const rows = [...rates].map(([letter, ofLetter]) => [
    TITLES[letter] as string,
    ...names.map((name) => count(median(ofLetter.get(name) ?? []))),
  ]);
  return [["transfers per second", ...names], ...rows];
}

function ratiosTable(rates: Rates, workloads: Workload[]): Table {
  const names = workloads.map(({ name }) => name);
  const rows = [...rates.keys()].map((letter) => [
    TITLES[letter] as string,
    ...names.map((name) => times(ratio(rates, letter, "b", name))),
  ]);
  return [["÷ (b)", ...names], ...rows];
}

/** The median of the ratios of each round: what slows the machine slows both. */
function ratio(rates: Rates, one: string, other: string, workload: string): number {
  const divisors = rates.get(other)?.get(workload) ?? [];
  const quotients = (rates.get(one)?.get(workload) ?? []).map((rate, round) => rate / (divisors[round] ?? Number.NaN));
  return median(quotients);
}

const RATIOS = [
  { one: "c", other: "b", workload: "spread", must: 6, aim: 10 },
  { one: "c", other: "b", workload: "hot receiver", must: 20, aim: 30 },
  { one: "c", other: "b", workload: "hot sender", must: 20, aim: 30 },
  { one: "d", other: "b", workload: "spread", must: 3, aim: 5 },
  { one: "d", other: "b", workload: "hot receiver", must: 9, aim: 15 },
  { one: "d", other: "b", workload: "hot sender", must: 9, aim: 15 },
  { one: "f", other: "c", workload: "spread", must: 0.8, aim: 1 },
];

const speedGoals = (rates: Rates): Goal[] =>
  RATIOS.map(({ one, other, workload, ...limits }) => ({
    measure: `(${one}) ÷ (${other}), ${workload}`,
    value: ratio(rates, one, other, workload),
    ...limits,
    show: times,
  })).filter(({ value }) => !Number.isNaN(value));

const memoryGoal = (value: number): Goal => ({
  measure: "server memory under (d), peak",
  value,
  lessIsBetter: true,
  must: 300_000_000,
  aim: 200_000_000,
  show: megabytes,
});
