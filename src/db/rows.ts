import { escape } from "mysql2";
import { type Column, type ColumnType, type Row, type TableName, tables } from "./schema.ts";

/**
 * Rows as SQL text and back, by the types of their columns. The lane writes and locks thousands of rows
 * in a statement, where a general query builder and escaper would cost more than the database.
 */

const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

interface Shape {
  /** The name in SQL. */
  name: string;
  keys: string[];
  columns: Column<unknown>[];
  /** The names in SQL, comma separated. */
  list: string;
}

const shapes = Object.fromEntries(
  Object.entries(tables).map(([table, columns]) => {
    const keys = Object.keys(columns);
    return [table, { name: snake(table), keys, columns: Object.values(columns), list: keys.map(snake).join(",") }];
  }),
) as Record<TableName, Shape>;

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

const literal: Record<ColumnType, (value: unknown) => string> = {
  bigint(value) {
    if (typeof value !== "bigint" || value > INT64_MAX || value < INT64_MIN) throw new Error(`${value} is no int64`);
    return value.toString();
  },
  number(value) {
    if (!Number.isSafeInteger(value)) throw new Error(`${value} is no integer`);
    return String(value);
  },
  text(value) {
    if (typeof value !== "string") throw new Error(`${typeof value} is no text`);
    return escape(value);
  },
  bytes(value) {
    if (!Buffer.isBuffer(value)) throw new Error(`${typeof value} is no bytes`);
    return `x'${value.toString("hex")}'`;
  },
  time(value) {
    if (!(value instanceof Date)) throw new Error(`${typeof value} is no time`);
    return timeLiteral(value);
  },
};

let lastTime = new Date(0);
let lastTimeText = timeText(lastTime);

function timeText(time: Date) {
  return `'${time.toISOString().slice(0, 23).replace("T", " ")}'`;
}

/** Nearly all rows of a batch carry the very same moment. */
function timeLiteral(time: Date): string {
  if (time !== lastTime) {
    lastTime = time;
    lastTimeText = timeText(time);
  }
  return lastTimeText;
}

/** One row as `(1,'two',x'03')`. Throws when a value is not of its column's type. */
export function tuple<T extends TableName>(
  table: T,
  row: Row<T>,
  keys: readonly string[] = shapes[table].keys,
): string {
  const columns: Record<string, Column<unknown>> = tables[table];
  let text = "(";
  for (let i = 0; i < keys.length; i += 1) {
    const key = keys[i] as string;
    const value = (row as Record<string, unknown>)[key];
    const column = columns[key] as Column<unknown>;
    if (i > 0) text += ",";
    text += value === null && column.nullable ? "null" : literal[column.type](value);
  }
  return `${text})`;
}

/** `insert` of rows that are new. */
export const insertRows = <T extends TableName>(table: T, tuples: string[]) =>
  `insert into ${shapes[table].name} (${shapes[table].list}) values ${tuples.join(",")}`;

/**
 * New values for rows that are there and locked. Written as an insert that always meets its row, because
 * that is the one portable way to give many rows different values at once; `fixed` columns are there to
 * satisfy the constraints.
 */
export function overwriteRows<T extends TableName>(
  table: T,
  rows: Iterable<Row<T>>,
  fixed: readonly (keyof Row<T> & string)[],
  changing: readonly (keyof Row<T> & string)[],
): string {
  const keys = [...fixed, ...changing];
  const tuples = Array.from(rows, (row) => tuple(table, row, keys));
  const updates = changing.map(snake).map((name) => `${name}=values(${name})`);
  return `insert into ${shapes[table].name} (${keys.map(snake)}) values ${tuples} on duplicate key update ${updates}`;
}

/** `select` of whole rows, to be read back with `readRows`. */
export const selectRows = <T extends TableName>(table: T, rest: string) =>
  `select ${shapes[table].list} from ${shapes[table].name} ${rest}`;

export const columnName = <T extends TableName>(_table: T, key: keyof Row<T> & string) => snake(key);

/** Whole rows from arrays of values as the lane's connection gives them: large integers and times as text. */
export function readRows<T extends TableName>(table: T, values: unknown[][]): Row<T>[] {
  const { keys, columns } = shapes[table];
  return values.map((row) => {
    const result: Record<string, unknown> = {};
    for (let i = 0; i < keys.length; i += 1)
      result[keys[i] as string] = readValue(columns[i] as Column<unknown>, row[i]);
    return result as Row<T>;
  });
}

function readValue({ type }: Column<unknown>, value: unknown): unknown {
  if (value === null) return null;
  if (type === "bigint") return BigInt(value as string | number);
  if (type === "time") return new Date(`${(value as string).replace(" ", "T")}Z`);
  return value;
}
