import { sql } from "kysely";
import type { Db } from "../src/db/database.ts";
import { verifyBooks } from "../src/ledger/verify.ts";
import { sources } from "../src/sources.ts";
import type { Arena } from "./arena.ts";
import type { Outcome } from "./drive.ts";

/** Runs something and proves with the tables that what it says it made is there, neither more nor less. */
export async function audited({ db, newId }: Arena, run: () => Promise<Outcome>): Promise<Outcome> {
  const since = newId();
  const before = await readTotals(db);
  const outcome = await run();
  const after = await readTotals(db);

  const made = BigInt(outcome.made);
  expectEqual("transfers", await countSince(db, "transfer", since), made);
  expectEqual("postings", await countSince(db, "posting", since), made);
  expectEqual("events", after.position - before.position, made);
  // Each transfer is the next entry of two wallets.
  expectEqual("entries", after.sequences - before.sequences, 2n * made);
  expectEqual("won", after.balance, 0n);
  return outcome;
}

/** As `audited`, for a run that nothing may refuse. */
export async function proven(arena: Arena, run: () => Promise<Outcome>): Promise<Outcome> {
  const outcome = await audited(arena, run);
  const [refusal] = Object.entries(outcome.refusals);
  if (refusal) throw new Error(`${refusal[1]} calls were refused: ${refusal[0]}`);
  return outcome;
}

function expectEqual(what: string, found: bigint, expected: bigint) {
  if (found !== expected) throw new Error(`the books have ${found} ${what}, and ${expected} were to be there`);
}

async function readTotals(db: Db) {
  const { rows } = await sql<{ position: bigint; sequences: string; balance: string }>`
    select head.position, total.sequences, total.balance
    from ledger_head head, (select sum(sequence) sequences, sum(balance) balance from wallet) total`.execute(db);
  const [totals] = rows;
  if (!totals) throw new Error("ledger_head has no row");
  return { position: totals.position, sequences: BigInt(totals.sequences), balance: BigInt(totals.balance) };
}

async function countSince(db: Db, table: "transfer" | "posting", since: bigint): Promise<bigint> {
  const { made } = await db
    .selectFrom(table)
    .select(({ fn }) => fn.countAll<bigint>().as("made"))
    .where("id", ">", since)
    .executeTakeFirstOrThrow();
  return made;
}

/** Checks all books and returns how long that took. Throws at the first difference. */
export async function verifySeconds({ databaseUrl }: Arena): Promise<number> {
  const start = performance.now();
  for await (const finding of verifyBooks(databaseUrl, sources)) {
    if (finding.kind === "difference") throw new Error(`the books differ: ${finding.subject} ${finding.message}`);
  }
  return (performance.now() - start) / 1000;
}

/** What the tables and their indexes take on the disk. */
export async function diskBytes({ db, databaseUrl }: Arena): Promise<number> {
  const files = `${new URL(databaseUrl).pathname.slice(1)}/%`;
  const { rows } = await sql<{ bytes: string }>`
    select sum(file_size) bytes from information_schema.innodb_tablespaces where name like ${files}`.execute(db);
  return Number(rows[0]?.bytes);
}
