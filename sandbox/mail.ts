import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import PostalMime from "postal-mime";
import { SMTPServer, type SMTPServerSession } from "smtp-server";
import { listen } from "./http.ts";
import { openInbox } from "./inbox.ts";
import { mailPage } from "./page.ts";

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

/** Takes mail for anybody over SMTP and shows it over HTTP, at /mail; GET /mail/<id>/html as its reader sees it. */
export async function startMailInbox(ports: { smtpPort: number; httpPort: number }) {
  const inbox = openInbox<Mail>();

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
        inbox.add(await readMail(raw, session));
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

  const http = await listen(ports.httpPort, (call) => {
    const [, id = ""] = /^\/mail\/(\d+)\/html$/.exec(call.url.pathname) ?? [];
    const mail = inbox.find(id);
    return mail?.html ? { page: mail.html } : inbox.answer("mail", call, mailPage);
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

async function readMail(raw: Buffer, { envelope }: SMTPServerSession): Promise<Omit<Mail, "id" | "receiveTime">> {
  const { subject = "", text = "", html = "" } = await PostalMime.parse(raw);
  return {
    from: envelope.mailFrom ? envelope.mailFrom.address : "",
    to: envelope.rcptTo.map(({ address }) => address.toLowerCase()),
    subject,
    text,
    html,
  };
}

const tooLarge = () =>
  Object.assign(new Error(`a message has at most ${MESSAGE_BYTES_MAX} bytes here`), { responseCode: 552 });
