import type { App } from "../app.ts";
import type { AccountRow } from "../db/schema.ts";
import { dependencyUnavailable } from "../errors.ts";
import type { Texter } from "../sms.ts";
import type { AddressKind } from "./address.ts";
import { type Language, type Message, write } from "./messages.ts";
import { openTurns } from "./turns.ts";

/** Whom a message goes to: their e-mail address or, when that is empty, their phone number. An account is one. */
export type Recipient = Pick<AccountRow, "email" | "phone" | "language">;

export interface Post {
  to: Recipient;
  message: Message;
}

export type Messenger = ReturnType<typeof openMessenger>;

const SENDS = { running: 5, waiting: 1_000, retryAfterMs: 5_000 };
/** Those who stop the server wait so long for what is still to be sent. */
const CLOSE_MS = 5_000;

/** Sends messages while nobody waits for them. What cannot be sent is counted and logged, and not sent later. */
export function openMessenger({ mailer, log, metrics }: Pick<App, "mailer" | "log" | "metrics">, texter?: Texter) {
  const turns = {
    email: openTurns(SENDS),
    phone: openTurns(SENDS),
  };
  const underWay = new Set<Promise<void>>();

  async function send({ to, message }: Post) {
    const { subject, text, html, sms } = write(message, to.language as Language);
    if (to.email !== "") await mailer.send({ to: to.email, subject, text, html });
    else if (texter) await texter.send({ to: to.phone, text: sms });
    else throw dependencyUnavailable("sms");
  }

  async function run(kind: AddressKind, compose: () => Promise<Post | undefined>) {
    try {
      await turns[kind].take(async () => {
        const written = await compose();
        if (!written) return;
        await send(written);
        metrics.observeMessage(kind, "sent");
      });
    } catch (error) {
      metrics.observeMessage(kind, "failed");
      // What a mail server says may repeat the address.
      log.error({ kind, reason: reasonOf(error) }, "a message was not sent");
    }
  }

  /** Composes and sends a message in its turn; nothing, if there is nothing to say. */
  function post(kind: AddressKind, compose: () => Promise<Post | undefined>) {
    const sending = run(kind, compose).finally(() => underWay.delete(sending));
    underWay.add(sending);
  }

  return {
    post,

    /** Tells somebody something, once there is a turn. Whoever has no address is not told. */
    tell(to: Recipient, message: Message) {
      if (to.email === "" && to.phone === "") return;
      post(to.email === "" ? "phone" : "email", () => Promise.resolve({ to, message }));
    },

    /** Throws OVERLOADED or DEPENDENCY_UNAVAILABLE when a message to such an address could not be sent now. */
    check(kind: AddressKind) {
      if (kind === "phone" && !texter) throw dependencyUnavailable("sms");
      turns[kind].check();
    },

    /** Waits for what is under way, but not for long. */
    async close() {
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, CLOSE_MS);
      await Promise.race([Promise.all(underWay), late]);
      clearTimeout(timer);
    },
  };
}

const reasonOf = (error: unknown) => (error instanceof Error && "code" in error ? error.code : "unknown");
