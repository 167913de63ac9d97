import { escape, htmlPage } from "./html.ts";
import type { Mail } from "./mail.ts";
import type { Text } from "./sms.ts";

/** The inboxes for people. Every word in them came from outside, so all of it is escaped. */

export const mailPage = (mails: Mail[], to: string | undefined) =>
  page({ title: "Mail", to, articles: mails.map(mailArticle) });

export const smsPage = (texts: Text[], to: string | undefined) =>
  page({ title: "Text messages", to, articles: texts.map(smsArticle) });

const page = ({ title, to, articles }: { title: string; to: string | undefined; articles: string[] }) =>
  htmlPage({
    title: `ChatPay sandbox: ${title.toLowerCase()}`,
    style: STYLE,
    refreshSeconds: 3,
    body: `<header><h1>${title}</h1><span>${to ? `to ${escape(to)} · <a href="/">show all</a>` : count(articles.length)}</span></header>
${articles.length === 0 ? '<p class="about">Nothing has arrived yet.</p>' : articles.join("\n")}`,
  });

const STYLE = `  header { display: flex; align-items: baseline; gap: 0.75rem; margin-bottom: 1.5rem; }
  article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
    padding: 1rem 1.25rem; margin: 0.75rem 0; }
  h2 { font-size: 1rem; margin: 0; }
  .about, header span { margin: 0; color: var(--soft); font-size: 0.85rem; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; word-break: keep-all; margin: 0.75rem 0 0; font: inherit; }
  pre.bubble { display: inline-block; background: light-dark(#e8ecff, #2b3358); border-radius: 14px 14px 14px 4px;
    padding: 0.5rem 0.9rem; }`;

const count = (number: number) => (number === 0 ? "" : `${number}, newest first`);

const mailArticle = ({ id, receiveTime, from, to, subject, text, html }: Mail) => `<article>
  <h2>${escape(subject)}</h2>
  <p class="about">${recipients(to)} · from ${escape(from)} · ${time(receiveTime)} · ${
    html ? `<a href="/mail/${id}/html">HTML</a> · ` : ""
  }<a href="/mail/${id}">JSON</a></p>
  <pre>${escape((text || html).trim())}</pre>
</article>`;

const smsArticle = ({ id, receiveTime, from, to, text }: Text) => `<article>
  <p class="about">${recipients(to)} · from ${escape(from)} · ${time(receiveTime)} · <a href="/sms/${id}">JSON</a></p>
  <pre class="bubble">${escape(text)}</pre>
</article>`;

const recipients = (to: string[]) =>
  to.map((one) => `to <a href="/?to=${encodeURIComponent(one)}">${escape(one)}</a>`).join(", ");

const time = (iso: string) => escape(`${iso.slice(0, 19).replace("T", " ")} UTC`);
