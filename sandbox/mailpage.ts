import type { Mail } from "./mail.ts";

/** The inbox for people. Every word in it came from outside, so all of it is escaped. */
export const mailPage = (mails: Mail[], to: string | undefined) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="3">
<title>ChatPay sandbox: mail</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  h1 { font-size: 1.4rem; }
  article { border: 1px solid #ddd; border-radius: 8px; padding: 0.75rem 1rem; margin: 1rem 0; }
  h2 { font-size: 1rem; margin: 0; }
  p { margin: 0; color: #666; font-size: 0.85rem; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.75rem 0 0; font: inherit; }
  a { color: inherit; }
</style>
<h1>Mail${to ? ` to ${escape(to)} <a href="/">(show all)</a>` : ""}</h1>
${mails.length === 0 ? "<p>Nothing has arrived yet.</p>" : mails.map(article).join("\n")}
</html>
`;

const article = ({ id, receiveTime, from, to, subject, text, html }: Mail) => `<article>
  <h2>${escape(subject)}</h2>
  <p>${to.map(recipient).join(", ")} · from ${escape(from)} · ${escape(receiveTime)} · <a href="/mail/${id}">JSON</a></p>
  <pre>${escape(text || html)}</pre>
</article>`;

const recipient = (address: string) => `to <a href="/?to=${encodeURIComponent(address)}">${escape(address)}</a>`;

const escape = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
