import { z } from "zod";

/** The calls that a fault may be for, by what they are about. */
const CALLS = [
  "token",
  "me",
  "accounts",
  "balance",
  "history",
  "real_name",
  "receive",
  "withdraw",
  "deposit",
  "result",
  "cancel",
  "close",
] as const;

const SECONDS_MAX = 600;
const code = z.string().regex(/^([AO]\d{4}|\d{3})$/);
/** Whether the call is carried out before it goes wrong. */
const at = z.enum(["before", "after"]).default("after");

const which = z.object({
  /** `transfer` is withdraw and deposit; nothing is any call. */
  call: z.enum([...CALLS, "transfer"]).optional(),
  bankCode: z.string().optional(),
  fintechUseNum: z.string().optional(),
  accountNumber: z.string().optional(),
  /** How often, before it is used up; without end when it has a probability. */
  times: z.int().min(1).optional(),
  /** Of each call that it is for, by a sequence of its own that begins with the seed. */
  probability: z.number().min(0).max(1).optional(),
  seed: z.int().default(1),
});

const what = z.discriminatedUnion("kind", [
  /** The answer comes late, or the call is carried out late. */
  z.object({
    kind: z.literal("delay"),
    at,
    ms: z
      .int()
      .min(0)
      .max(SECONDS_MAX * 1000),
  }),
  /** The connection breaks without an answer. */
  z.object({ kind: z.literal("drop"), at }),
  /** The call is carried out, and the connection breaks in the middle of the answer. */
  z.object({ kind: z.literal("cut") }),
  /** The answer is something else than JSON. */
  z.object({ kind: z.literal("garbage"), at, body: z.string().default("<html><body>502 Bad Gateway</body></html>") }),
  z.object({ kind: z.literal("status"), at, status: z.int().min(400).max(599).default(500) }),
  /** The answer is this code, of the centre or the bank, whatever was done. */
  z.object({ kind: z.literal("answer"), at, code }),
  /** The token is refused. */
  z.object({ kind: z.literal("token"), code: z.enum(["O0002", "O0003"]).default("O0002") }),
  /** The answer tells another amount. */
  z.object({ kind: z.literal("amount"), amount: z.string().regex(/^\d+$/).default("1") }),
  /** A gateway carries the call out twice, and the second answer is the one that arrives. */
  z.object({ kind: z.literal("twice") }),
  /** The bank of the account, or the centre, refuses. */
  z.object({ kind: z.literal("decline"), code, head: z.enum(["A0000", "A0002", "A0009"]).optional() }),
  /**
   * The bank takes its time: the result says so for `inquiries` times or until `ms` have passed, and then `code`.
   * The won move at that moment if they do, or at once. Never means that it stays so.
   */
  z.object({
    kind: z.literal("processing"),
    head: z.enum(["A0000", "A0001", "A0002"]).default("A0001"),
    code: z
      .string()
      .regex(/^\d{3}$/)
      .default("000"),
    inquiries: z.int().min(0).optional(),
    ms: z.int().min(0).optional(),
    isNever: z.boolean().default(false),
    isBookedAtOnce: z.boolean().default(false),
  }),
]);

export const faultSchema = which.and(what);
/** What a script says, with what it leaves out. */
export type NewFault = z.input<typeof faultSchema>;
type Script = z.output<typeof faultSchema>;

/** A script, and how often it was played. */
export type Fault = Script & { id: number; used: number; left: number | undefined };

/** What a call is, as far as a fault may ask. */
export interface Subject {
  call: (typeof CALLS)[number];
  bankCode: string;
  fintechUseNum: string;
  accountNumber: string;
}

/** The scripts that go wrong on purpose. Of those that fit a call the oldest is played. */
export function openFaults() {
  let faults: Fault[] = [];
  const randoms = new Map<number, () => number>();
  let made = 0;

  const isFor = (fault: Fault, subject: Subject) =>
    (fault.call === undefined ||
      fault.call === subject.call ||
      (fault.call === "transfer" && (subject.call === "withdraw" || subject.call === "deposit"))) &&
    (["bankCode", "fintechUseNum", "accountNumber"] as const).every(
      (name) => fault[name] === undefined || fault[name] === subject[name],
    );

  const isDrawn = ({ id, probability = 1 }: Fault) => probability === 1 || (randoms.get(id)?.() ?? 0) < probability;

  return {
    add(fault: NewFault): Fault {
      const script = faultSchema.parse(fault);
      made += 1;
      const left = script.times ?? (script.probability === undefined ? 1 : undefined);
      const added = { ...script, id: made, used: 0, left };
      randoms.set(made, sequence(script.seed));
      faults.push(added);
      return added;
    },

    list: (): Fault[] => faults,

    clear() {
      faults = [];
    },

    take(subject: Subject): Fault | undefined {
      const found = faults.find((fault) => isFor(fault, subject) && isDrawn(fault));
      if (!found) return undefined;
      found.used += 1;
      if (found.left !== undefined) found.left -= 1;
      if (found.left === 0) faults = faults.filter((fault) => fault !== found);
      return found;
    },
  };
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function sequence(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
