import type { Services } from "../tools/services.ts";
import type { Section } from "./report.ts";
import type { Settings } from "./settings.ts";

/** What every part of the bench is given. */
export interface Bench {
  services: Services;
  settings: Settings;
  /** The letters of the contestants that take part. */
  contestants: string[];
  /** The names of the workloads. */
  workloads: string[];
  /** Tells whoever waits what happens now. */
  say(what: string): void;
}

export type Part = (bench: Bench) => Promise<Section>;
