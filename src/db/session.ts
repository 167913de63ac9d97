import { type Connection, createConnection } from "mysql2";
import { connectionOptions, SESSION_SETUP } from "./database.ts";

/** What one statement answered: the rows of a `select` as arrays of values, or nothing of use. */
export type Answer = unknown[][];

/** One connection that takes several statements in one round trip. Large integers and times come as text. */
export interface Session {
  /** Runs the statements in order and stops at the first that fails. One answer for each. */
  run(statements: string[]): Promise<Answer[]>;
  /** Drops the connection; the server rolls back what was open. */
  destroy(): void;
}

/** `silenceMaxS` is how long the server keeps a session that says nothing, and the locks that it holds. */
export async function openSession(url: string, silenceMaxS = SILENCE_MAX_S): Promise<Session> {
  const connection = createConnection({
    ...connectionOptions(url),
    multipleStatements: true,
    rowsAsArray: true,
    dateStrings: true,
    // The statements are complete: a search for placeholders would read each of their megabytes.
    queryFormat: (sql) => sql,
  });
  // Failures reach the caller through the query that meets them; an idle connection may die unheard.
  connection.on("error", () => {});
  const session = { run: (statements: string[]) => run(connection, statements), destroy: () => connection.destroy() };
  try {
    await session.run([`${SESSION_SETUP}, wait_timeout = ${silenceMaxS}`]);
    return session;
  } catch (error) {
    session.destroy();
    throw error;
  }
}

/** A client that vanished without a word must not keep its locks for longer. */
const SILENCE_MAX_S = 60;
/** Longer than a statement may wait for locks. A server that is silent for so long is taken for gone. */
const ANSWER_MAX_MS = 30_000;

const run = (connection: Connection, statements: string[]) =>
  new Promise<Answer[]>((resolve, reject) => {
    const timer = setTimeout(() => {
      connection.destroy();
      reject(Object.assign(new Error(`no answer within ${ANSWER_MAX_MS} ms`), { code: "ETIMEDOUT", fatal: true }));
    }, ANSWER_MAX_MS);
    connection.query(statements.join(";"), (error: Error | null, result: unknown) => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve((statements.length === 1 ? [result] : result) as Answer[]);
    });
  });
