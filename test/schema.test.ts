import { sql } from "kysely";
import { afterAll, expect, test } from "vitest";
import { openDatabase } from "../src/db/database.ts";
import { isMigrated, migrate } from "../src/db/migrate.ts";
import { type ColumnType, tables } from "../src/db/schema.ts";
import { LOCK_ORDER } from "../src/ledger/books.ts";
import { COLUMNS } from "../src/ledger/queries.ts";
import { makeDatabase } from "./support/server.ts";

const url = await makeDatabase();
const db = openDatabase(url);
afterAll(() => db.destroy());

/** What the SQL types of a column may be, by its type in code. */
const SQL_TYPES: Record<ColumnType, RegExp> = {
  bigint: /^bigint$/,
  number: /^(tinyint|int)$/,
  text: /^(char\(\d+\)|varchar\(\d+\)|mediumtext)$/,
  bytes: /^(binary\(\d+\)|varbinary\(\d+\)|longblob)$/,
  time: /^datetime\(3\)$/,
};

const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

interface ColumnFound {
  tableName: string;
  columnName: string;
  columnType: string;
  isNullable: "YES" | "NO";
  columnDefault: string | null;
}

const columnsFound = async () =>
  (
    await sql<ColumnFound>`
      select table_name as tableName, column_name as columnName, column_type as columnType, is_nullable as isNullable,
             column_default as columnDefault
      from information_schema.columns
      where table_schema = database() and table_name not like 'kysely%'
      order by table_name, ordinal_position`.execute(db)
  ).rows;

test("the tables of the migrations are those of schema.ts, column by column", async () => {
  await migrate(db);

  const found = (await columnsFound()).map(({ tableName, columnName, columnType, isNullable }) => {
    const type = Object.entries(SQL_TYPES).find(([, sqlType]) => sqlType.test(columnType))?.[0] ?? columnType;
    return `${tableName}.${columnName} ${type}${isNullable === "YES" ? " null" : ""}`;
  });
  const expected = Object.entries(tables).flatMap(([table, columns]) =>
    Object.entries(columns).map(
      ([column, { type, nullable }]) => `${snake(table)}.${snake(column)} ${type}${nullable ? " null" : ""}`,
    ),
  );

  // In the order of each table too: the ledger's bulk statements name the columns, people read them side by side.
  const byTable = (lines: string[]) => Object.groupBy(lines, (line) => line.split(".", 1)[0] ?? "");
  expect(byTable(found)).toEqual(byTable(expected));
});

interface KeyFound {
  tableName: string;
  columnName: string;
}

interface CheckFound {
  tableName: string;
  clause: string;
}

// The lane overwrites locked rows with an insert that always meets its row.

test("what the lane overwrites of a row are columns that there are, each of them once", () => {
  expect(Object.keys(COLUMNS).toSorted()).toEqual([...LOCK_ORDER].toSorted());
  for (const table of LOCK_ORDER) {
    const { fixed, changing } = COLUMNS[table];
    const written: string[] = [...fixed, ...changing];
    expect(new Set(written).size, table).toBe(written.length);
    expect(Object.keys(tables[table]), table).toEqual(expect.arrayContaining(written));
  }
});

test("what the lane overwrites of a row says all that such an insert has to say", async () => {
  await migrate(db);
  const { rows: checks } = await sql<CheckFound>`
    select table_name as tableName, check_clause as clause
    from information_schema.table_constraints join information_schema.check_constraints
      using (constraint_schema, constraint_name)
    where constraint_schema = database()`.execute(db);
  const { rows: keys } = await sql<KeyFound>`
    select table_name as tableName, column_name as columnName
    from information_schema.key_column_usage
    where table_schema = database() and constraint_name = 'PRIMARY'`.execute(db);
  const found = await columnsFound();

  for (const table of LOCK_ORDER) {
    const written = [...COLUMNS[table].fixed, ...COLUMNS[table].changing].map(snake);
    const named = ({ tableName }: { tableName: string }) => tableName === snake(table);
    const needed = [
      ...keys.filter(named).map(({ columnName }) => columnName),
      ...found
        .filter((one) => named(one) && one.isNullable === "NO" && one.columnDefault === null)
        .map(({ columnName }) => columnName),
      ...checks.filter(named).flatMap(({ clause }) => Array.from(clause.matchAll(/`(\w+)`/g), ([, column]) => column)),
    ];
    expect(needed.length, table).toBeGreaterThan(0);
    expect(written, table).toEqual(expect.arrayContaining(needed));
  }
});

test("a number below 2^31 is enough for what is no bigint, and money is always bigint", async () => {
  await migrate(db);

  const amounts = (await columnsFound()).filter(({ columnName }) => /amount|balance|held|remaining/.test(columnName));

  expect(amounts.length).toBeGreaterThan(8);
  expect(amounts.filter(({ columnType }) => columnType !== "bigint")).toEqual([]);
});

test("migrations run once, together or again, and say whether the tables are up to date", async () => {
  const fresh = openDatabase(await makeDatabase());
  try {
    expect(await isMigrated(fresh)).toBe(false);

    const applied = (await Promise.all([migrate(fresh), migrate(fresh), migrate(fresh)])).flat();

    expect(applied).toEqual([...new Set(applied)]);
    expect(applied.length).toBeGreaterThan(0);
    expect(await isMigrated(fresh)).toBe(true);
    expect(await migrate(fresh)).toEqual([]);
  } finally {
    await fresh.destroy();
  }
});

test("every step of a migration can be run again after a stop in its middle", async () => {
  const fresh = openDatabase(await makeDatabase());
  try {
    await migrate(fresh);
    await sql`delete from kysely_migration`.execute(fresh);

    expect((await migrate(fresh)).length).toBeGreaterThan(0);
    expect((await sql`select id from wallet`.execute(fresh)).rows).toEqual([{ id: 1n }, { id: 2n }]);
  } finally {
    await fresh.destroy();
  }
});

test("the database itself refuses what no code should ask for", async () => {
  await migrate(db);
  const wallet = (kind: number, balance: number, held: number) =>
    sql`insert into wallet (id, kind, state, currency, balance, held, version, sequence, update_time)
        values (99, ${kind}, 1, 'KRW', ${balance}, ${held}, 0, 0, now())`.execute(db);
  const posting = (debit: number, credit: number, amount: number) =>
    sql`insert into posting values (99, 1, ${debit}, 1, 0, ${credit}, 1, 0, ${amount}, 1, 1, now())`.execute(db);

  await expect(wallet(1, -1, 0)).rejects.toThrow(/wallet_covered/);
  await expect(wallet(1, 5, 6)).rejects.toThrow(/wallet_covered/);
  await expect(wallet(1, 5, -1)).rejects.toThrow(/wallet_held_not_negative/);
  await expect(posting(1, 2, 0)).rejects.toThrow(/posting_amount_positive/);
  await expect(posting(1, 1, 5)).rejects.toThrow(/posting_two_wallets/);
});
