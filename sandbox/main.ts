import { startMailInbox } from "./mail.ts";

const smtpPort = Number(process.env.SANDBOX_SMTP_PORT ?? 1025);
const httpPort = Number(process.env.SANDBOX_MAIL_PORT ?? 8025);

/** Plays the outside world, until it is told to stop. */
const inbox = await startMailInbox({ smtpPort, httpPort });
console.log(`mail: smtp://127.0.0.1:${inbox.smtpPort}, read at http://127.0.0.1:${inbox.httpPort}`);

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void inbox.stop());
