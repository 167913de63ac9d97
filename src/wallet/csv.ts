/** Statements as files for spreadsheets: CSV as in RFC 4180. */

const LINE_END = "\r\n";

/** A line of the file. */
export const csvLine = (cells: readonly string[]): string => cells.map(quoted).join(",") + LINE_END;

const quoted = (cell: string) => (/[",;\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/**
 * A text that spreadsheets show instead of running it. They run what begins with one of these signs, wide ones too, and
 * some take semicolons, tabs and line breaks for the beginning of another cell, quotes or not.
 */
export const harmless = (text: string): string =>
  text.replaceAll(/(?:^|[;\t\r\n])\s*(?=[=+\-@＝＋－＠])/g, "$&'").replace(/^(?=[\t\r\n])/, "'");
