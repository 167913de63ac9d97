import type { Call, Reply } from "./http.ts";

const MESSAGES_MAX = 1_000;

/** What every message that arrived has. */
interface Received {
  id: string;
  receiveTime: string;
  to: string[];
}

/** The newest thousand messages, in memory, newest first. */
export function openInbox<M extends Received>() {
  const messages: M[] = [];
  let received = 0;
  return {
    add(message: Omit<M, "id" | "receiveTime">): M {
      received += 1;
      const kept = { id: `${received}`, receiveTime: new Date().toISOString(), ...message } as M;
      messages.unshift(kept);
      messages.length = Math.min(messages.length, MESSAGES_MAX);
      return kept;
    },

    find: (id: string): M | undefined => messages.find((message) => message.id === id),

    /**
     * GET /<name>?to=… · GET /<name>/latest?to=… · GET /<name>/<id> · DELETE /<name> · GET / for people
     */
    answer(name: string, { method, url }: Call, page: (messages: M[], to: string | undefined) => string) {
      const to = url.searchParams.get("to")?.toLowerCase();
      const matching = to ? messages.filter((message) => message.to.includes(to)) : messages;
      if (method === "DELETE" && url.pathname === `/${name}`) return json({ deleted: messages.splice(0).length });
      if (method !== "GET") return undefined;
      if (url.pathname === "/") return { page: page(matching, to) };
      if (url.pathname === `/${name}`) return json(matching);
      if (url.pathname === `/${name}/latest`) return json(matching[0]);
      const [, id] = new RegExp(`^/${name}/(\\d+)$`).exec(url.pathname) ?? [];
      return json(id ? this.find(id) : undefined);
    },
  };
}

const json = (value: object | undefined): Reply | undefined => value && { json: value };
