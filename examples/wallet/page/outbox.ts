import { CallError, call, type Json } from "./rpc.ts";

/**
 * What moves money is written down, with its idempotency key, before it is sent, and crossed out when its outcome is
 * known. What was not answered is sent again with the same key, after a reload or a day later: it happens once.
 */

/** What the person wants. It is kept without the PIN: a repeat of what has happened needs none. */
export interface Order {
  /** The idempotency key. */
  key: string;
  /** Whose it is: others may sign in on the same browser. */
  accountId: string;
  what: "topUp" | "withdraw" | "send" | "pay" | "save" | "unsave";
  rpc: string;
  request: object;
  amount: string;
}

const STORE = "chatpay.outbox";
/** Answers that tell nothing of what became of the order, or of the same one sent before. */
const UNKNOWN = ["unavailable", "deadline_exceeded", "unauthenticated", "resource_exhausted", "internal", "unknown"];

/** Orders of this person whose outcome is not known, oldest first. */
export const waiting = (accountId = ""): Order[] => stored().filter((order) => order.accountId === accountId);

/** Sends an order, now or again. Undefined when another tab is at it. */
export const carryOut = <T>(order: Order, pin = ""): Promise<Json<T> | undefined> =>
  navigator.locks.request(`chatpay order ${order.key}`, { ifAvailable: true }, async (lock) => {
    if (!lock) return undefined;
    store([...stored().filter(({ key }) => key !== order.key), order]);
    try {
      const answer = await call<T>(order.rpc, { ...order.request, ...(pin && { pin }) }, order.key);
      forget(order);
      return answer;
    } catch (error) {
      if (isOutcome(error)) forget(order);
      throw error;
    }
  });

/** Whether a failure says that nothing moved, and will not. */
export const isOutcome = (error: unknown) => error instanceof CallError && !UNKNOWN.includes(error.code);

const forget = (order: Order) => store(stored().filter(({ key }) => key !== order.key));

const stored = (): Order[] => JSON.parse(localStorage.getItem(STORE) ?? "[]") as Order[];
const store = (orders: Order[]) => localStorage.setItem(STORE, JSON.stringify(orders));
