import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import PostalMime from "postal-mime";
import { SMTPServer, type SMTPServerSession } from "smtp-server";
import { listen } from "./http.ts";
import { mailPage } from "./mailpage.ts";

const MESSAGES_MAX = 1_000;
const MESSAGE_BYTES_MAX = 1024 * 1024;
const CLOSE_TIMEOUT_MS = 1_000;

export interface Mail {
  id: string;
  receiveTime: string;
  /** As in the envelope: who really gets it. */
  from: string;
  to: string[];
  subject: string;
  text: string;
  html: string;
}

/**
 * Takes mail for anybody over SMTP and shows it over HTTP. The newest thousand are kept, in memory.
 *
 * GET /mail?to=… · GET /mail/latest?to=… · GET /mail/<id> · DELETE /mail · GET / for people
 */
export async function startMailInbox(ports: { smtpPort: number; httpPort: number }) {
  const mails: Mail[] = [];
  let received = 0;

  const smtp = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS"],
    disableReverseLookup: true,
    size: MESSAGE_BYTES_MAX,
    closeTimeout: CLOSE_TIMEOUT_MS,
    onAuth: (auth, _session, done) => done(null, { user: auth.username }),
    async onData(stream, session, done) {
      try {
        const raw = await buffer(stream);
        if (stream.sizeExceeded) return done(tooLarge());
        received += 1;
        mails.unshift(await readMail(`${received}`, raw, session));
        mails.length = Math.min(mails.length, MESSAGES_MAX);
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
  // A client that hangs up is its own business.
  smtp.on("error", () => undefined);
  const listener = smtp.listen(ports.smtpPort, "127.0.0.1");
  await once(listener, "listening");

  const http = await listen(ports.httpPort, (method, url) => {
    const to = url.searchParams.get("to")?.toLowerCase();
    const matching = to ? mails.filter((mail) => mail.to.includes(to)) : mails;
    if (method === "DELETE" && url.pathname === "/mail") return { deleted: mails.splice(0).length };
    if (method !== "GET") return undefined;
    if (url.pathname === "/") return mailPage(matching, to);
    if (url.pathname === "/mail") return matching;
    if (url.pathname === "/mail/latest") return matching[0];
    const [, id] = /^\/mail\/(\d+)$/.exec(url.pathname) ?? [];
    return mails.find((mail) => mail.id === id);
  });

  return {
    smtpPort: (listener.address() as AddressInfo).port,
    httpPort: http.port,
    async stop() {
      await http.stop();
      await new Promise<void>((resolve) => smtp.close(resolve));
    },
  };
}

async function readMail(id: string, raw: Buffer, { envelope }: SMTPServerSession): Promise<Mail> {
  const { subject = "", text = "", html = "" } = await PostalMime.parse(raw);
  return {
    id,
    receiveTime: new Date().toISOString(),
    from: envelope.mailFrom ? envelope.mailFrom.address : "",
    to: envelope.rcptTo.map(({ address }) => address.toLowerCase()),
    subject,
    text,
    html,
  };
}

const tooLarge = () =>
  Object.assign(new Error(`a message has at most ${MESSAGE_BYTES_MAX} bytes here`), { responseCode: 552 });
