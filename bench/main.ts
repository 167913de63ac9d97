import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { startServices } from "../tools/services.ts";
import { isRunning } from "../tools/system.ts";
import { machineText } from "./machine.ts";
import type { Part } from "./part.ts";
import { banks } from "./parts/banks.ts";
import { big } from "./parts/big.ts";
import { latency } from "./parts/latency.ts";
import { million } from "./parts/million.ts";
import { overload } from "./parts/overload.ts";
import { speed, TITLES } from "./parts/speed.ts";
import { start } from "./parts/start.ts";
import { storm } from "./parts/storm.ts";
import { verify } from "./parts/verify.ts";
import { goalsTable, reaches, type Section, sectionText, tableText } from "./report.ts";
import { DATA, FULL, MYSQL_FLAGS, QUICK, type Settings } from "./settings.ts";
import { workloadsOf } from "./workloads.ts";

const PARTS: Record<string, Part> = { speed, latency, million, big, start, overload, verify, storm, banks };
const WORKLOADS = workloadsOf(2).map(({ name }) => name);
const README = join(import.meta.dirname, "README.md");
/** What stands between them in the README is written by `--save`. */
const BEGIN = "<!-- results -->";
const END = "<!-- end of results -->";

/** A list of names, each of which must be known. */
const namesOf = (known: string[]) => (text: string) => {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new InvalidArgumentError(`Known are: ${known.join(", ")}.`);
  return names;
};

interface Options {
  only: string[];
  contestants: string[];
  workloads: string[];
  rounds?: string;
  quick?: boolean;
  save?: boolean;
}

const options = new Command("bench")
  .description("Measures ChatPay against other ways to move money. Exits with 1 when a must is missed.")
  .option("--only <parts>", `some of ${Object.keys(PARTS)}`, namesOf(Object.keys(PARTS)), Object.keys(PARTS))
  .option("--contestants <letters>", "those of the part speed", namesOf(Object.keys(TITLES)), Object.keys(TITLES))
  .option("--workloads <names>", "those of the part speed", namesOf(WORKLOADS), WORKLOADS)
  .option("--rounds <count>", "how often the contestants of the part speed take turns")
  .option("--quick", "a short look at whether everything works; the numbers mean little")
  .option("--save", "write the results into README.md")
  .parse()
  .opts<Options>();

const standard = options.quick ? QUICK : FULL;
const settings: Settings = { ...standard, rounds: Number(options.rounds ?? standard.rounds) };

await claim();
const services = await startServices({ dir: DATA, mysqlFlags: MYSQL_FLAGS });
// The servers that were started end by themselves when we are gone; MySQL does not.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void services.stop().then(() => process.exit(1)));
}
try {
  await run();
} finally {
  await services.stop();
}

/** Two at once would measure each other, and empty each other's tables. */
async function claim() {
  await mkdir(DATA, { recursive: true });
  const file = join(DATA, "bench.pid");
  const other = Number(await readFile(file, "utf8").catch(() => 0));
  if (other && (await isRunning(other))) throw new Error(`a bench already runs, as process ${other}`);
  await writeFile(file, `${process.pid}`);
}

async function run() {
  const sections: Section[] = [];
  const intro = await machineText(services, settings);
  console.log(`${intro}\n`);
  for (const name of options.only) {
    const part = PARTS[name] as Part;
    const say = (what: string) => process.stderr.write(`${name}: ${what}\n`);
    const section = await part({ services, settings, say, ...options });
    sections.push(section);
    console.log(`\n${sectionText(section)}\n`);
  }

  const goals = sections.flatMap((section) => section.goals);
  const summary = tableText(goalsTable(goals));
  console.log(summary);
  if (goals.some((goal) => !reaches(goal, goal.must))) process.exitCode = 1;
  if (options.save) await save([intro, summary, ...sections.map(sectionText)].join("\n\n"));
}

async function save(results: string) {
  const readme = await readFile(README, "utf8");
  const [before] = readme.split(BEGIN);
  const after = readme.split(END)[1] ?? "";
  const date = new Date().toISOString().slice(0, 10);
  await writeFile(README, `${before}${BEGIN}\n\nMeasured on ${date}.\n\n${results}\n\n${END}${after}`);
}
