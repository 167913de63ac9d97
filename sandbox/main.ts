import { startKftc } from "./kftc/server.ts";
import { startMailInbox } from "./mail.ts";
import { startSmsInbox } from "./sms.ts";

const smtpPort = Number(process.env.SANDBOX_SMTP_PORT ?? 1025);
const httpPort = Number(process.env.SANDBOX_MAIL_PORT ?? 8025);
const smsPort = Number(process.env.SANDBOX_SMS_PORT ?? 8026);
const kftcPort = Number(process.env.SANDBOX_KFTC_PORT ?? 8027);

/** Plays the outside world, until it is told to stop. */
const mail = await startMailInbox({ smtpPort, httpPort });
const sms = await startSmsInbox({ port: smsPort });
const kftc = await startKftc({
  port: kftcPort,
  redirectUrl: process.env.CHATPAY_OPENBANKING_REDIRECT_URL,
  file: process.env.SANDBOX_KFTC_FILE,
});
console.log(`mail: smtp://127.0.0.1:${mail.smtpPort}, read at http://127.0.0.1:${mail.httpPort}`);
console.log(`text messages: ${sms.url}, read there as well`);
console.log(`banks: ${kftc.url}, seen there as well`);

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    void mail.stop();
    void sms.stop();
    void kftc.stop();
  });
}
