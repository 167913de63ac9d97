import { DatabaseSync } from "node:sqlite";
import { deserialize, serialize } from "node:v8";

/** How a file is written. One of another form is of another version of the sandbox. */
const FORM = 1;

/** What is kept apart. */
type Kind =
  | "account"
  | "citizen"
  | "clock"
  | "code"
  | "consent"
  | "movement"
  | "token"
  | "tran_id"
  | "transfer"
  | "user";

export type Store = ReturnType<typeof openStore>;

/**
 * What must be there again after a restart, in a file; without one nothing is kept. What was put is lost with the
 * process until `commit` has returned, and then it is not, nor without what was put before it.
 */
export function openStore(file?: string) {
  const db = file === undefined ? undefined : openFile(file);
  const putting = db?.prepare(
    "insert into kept (kind, id, body) values (?, ?, ?) on conflict (kind, id) do update set body = excluded.body",
  );
  const removing = db?.prepare("delete from kept where kind = ? and id = ?");
  const listing = db?.prepare("select body from kept where kind = ? order by number");
  let isWriting = false;

  function begin() {
    if (!isWriting) db?.exec("begin");
    isWriting = true;
  }

  function commit() {
    if (isWriting) db?.exec("commit");
    isWriting = false;
  }

  return {
    /** In the place of what had the id before. */
    put(kind: Kind, id: string, what: unknown) {
      begin();
      putting?.run(kind, id, serialize(what));
    },

    remove(kind: Kind, id: string) {
      begin();
      removing?.run(kind, id);
    },

    /** In the order in which they were put for the first time. */
    list: <T>(kind: Kind): T[] => (listing?.all(kind) ?? []).map(({ body }) => deserialize(body as Uint8Array) as T),

    clear() {
      begin();
      db?.exec("delete from kept");
    },

    commit,

    close() {
      commit();
      db?.close();
    },
  };
}

function openFile(file: string): DatabaseSync {
  const db = new DatabaseSync(file);
  // Of two that have the same file open, the second learns so, and writes nothing into it.
  db.exec("pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = full");
  const form = db.prepare("pragma user_version").get()?.user_version;
  if (form !== 0 && form !== FORM) {
    throw new Error(`${file} is of another version of the sandbox. Delete it: the banks begin anew then.`);
  }
  db.exec(`
    create table if not exists kept (number integer primary key, kind text, id text, body blob, unique (kind, id));
    pragma user_version = ${FORM}`);
  return db;
}
