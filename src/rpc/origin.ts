import { type ContextValues, createContextKey } from "@connectrpc/connect";

/** From where a call comes: the client's IP address, as far as the proxies that are trusted tell it. */
export interface Origin {
  ip: string;
}

const originKey = createContextKey<Origin>({ ip: "" }, { description: "origin" });

export const setOrigin = (values: ContextValues, origin: Origin) => values.set(originKey, origin);

/** From where this call comes. */
export const originOf = (context: { values: ContextValues }): Origin => context.values.get(originKey);
