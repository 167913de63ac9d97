/** What a part of the bench found. */
export interface Section {
  title: string;
  notes?: string[];
  tables: Table[];
  goals: Goal[];
}

/** The first row is the head; the first column is text, the others are numbers. */
export type Table = string[][];

/** A measure with what the project wants of it. */
export interface Goal {
  measure: string;
  value: number;
  /** More is better if not said otherwise. */
  lessIsBetter?: boolean;
  must: number;
  aim?: number;
  show(value: number): string;
}

/** A table as Markdown whose columns are also aligned for who reads it as text. */
export function tableText(rows: Table): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(3, ...rows.map((row) => row[column]?.length ?? 0)));
  const [head = "", ...body] = rows.map((row) => line(widths.map((width, i) => padded(row[i] ?? "", width, i))));
  const rule = line(widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)));
  return [head, rule, ...body].join("\n");
}

const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
const padded = (cell: string, width: number, column: number) =>
  column === 0 ? cell.padEnd(width) : cell.padStart(width);

export function sectionText({ title, notes = [], tables }: Section): string {
  return [`### ${title}`, ...tables.map(tableText), ...notes].join("\n\n");
}

export const goalsTable = (goals: Goal[]): Table => [
  ["measure", "result", "must", "aim", "reached"],
  ...goals.map((goal) => {
    const limit = (value: number | undefined) =>
      value === undefined ? "" : `${goal.lessIsBetter ? "≤" : "≥"} ${goal.show(value)}`;
    return [goal.measure, goal.show(goal.value), limit(goal.must), limit(goal.aim), verdict(goal)];
  }),
];

function verdict(goal: Goal): string {
  if (!reaches(goal, goal.must)) return "MISSED";
  return goal.aim === undefined || !reaches(goal, goal.aim) ? "must" : "aim";
}

export const reaches = ({ value, lessIsBetter }: Goal, limit: number) =>
  lessIsBetter ? value <= limit : value >= limit;

export const count = (value: number) => Math.round(value).toLocaleString("en-US");
export const times = (value: number) => value.toFixed(2);
export const microseconds = (value: number) => `${value.toFixed(2)} µs`;
export const milliseconds = (value: number) => `${value.toFixed(2)} ms`;
export const seconds = (value: number) => `${value.toFixed(2)} s`;
export const megabytes = (bytes: number) => `${Math.round(bytes / 1_000_000)} MB`;
export const bytes = (value: number) => `${Math.round(value)} B`;
export const percent = (share: number) => `${Math.round(100 * share)} %`;
