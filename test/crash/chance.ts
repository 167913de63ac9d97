/** What a run does next is drawn from numbers between 0 and 1 that its seed makes. */
export type Chance = () => number;

export const oneOf = <T>(chance: Chance, choices: readonly T[]): T =>
  choices[Math.floor(chance() * choices.length)] as T;

/** From 1 to `max`. */
export const upTo = (chance: Chance, max: number): number => 1 + Math.floor(chance() * max);

export const wonUpTo = (chance: Chance, max: number): bigint => BigInt(upTo(chance, max));
