import { escape, htmlPage } from "../html.ts";
import { bankName } from "./banks.ts";
import type { Centre } from "./centre.ts";
import { seoul } from "./clock.ts";
import type { Account, Movement, Transfer } from "./ledger.ts";

const ROWS_MAX = 50;

/** The banks for people: what is on each account, what went wrong on purpose, and what moved. */
export function banksPage({ ledger, faults, downtime }: Centre) {
  const banks = Map.groupBy(
    ledger.citizens.flatMap(({ accounts }) => accounts),
    ({ bankCode }) => bankCode,
  );
  const { collecting, transfers, movements } = ledger;
  const sections = [...banks].toSorted(([a], [b]) => a.localeCompare(b));
  const away = [...downtime].map(([code, word]) => `${bankName(code)} is away (${word})`);
  const scripts = faults
    .list()
    .map(({ id, kind, call, left }) => `#${id} ${kind} of ${call ?? "any call"}, ${left ?? "∞"} left`);
  const notes = [...away, ...scripts].map((note) => `<li>${escape(note)}</li>`).join("");
  return htmlPage({
    title: "ChatPay sandbox: banks",
    style: STYLE,
    refreshSeconds: 3,
    body: `<header><h1>Banks</h1><span class="soft">KFTC open banking of the sandbox</span></header>
<article class="ours"><div><span class="soft">${bankName(collecting.bankCode)} ${escape(collecting.number)}</span>
  <h2>${escape(collecting.holderName)}: the account that collects</h2></div><strong>${won(collecting.balance)}</strong></article>
${notes && `<ul class="notes">${notes}</ul>`}
<div class="banks">${sections.map(([code, accounts]) => bankCard(code, accounts)).join("\n")}</div>
<h2>Transfers</h2>
${table(["Time", "Direction", "Account", "Amount", "Bank's word", "bank_tran_id"], newest(transfers).map(transferRow))}
<h2>Movements</h2>
${table(["Time", "Account", "Text", "Amount", "Balance after"], newest(movements).map(movementRow))}`,
  });
}

/** Where people come back to when the institution has no page of its own: it shows what came with them. */
export const callbackPage = (fields: URLSearchParams) =>
  htmlPage({
    title: "ChatPay sandbox: back from the consent",
    style: STYLE,
    body: `<header><h1>${fields.has("code") ? "Back from the consent" : "No consent was given"}</h1></header>
<p class="soft">An app takes these from the address and hands them to FinishLink.</p>
${table(
  ["Name", "Value"],
  [...fields].map(([name, value]) => `<tr><td>${escape(name)}</td><td><code>${escape(value)}</code></td></tr>`),
)}`,
  });

const newest = <T>(all: T[]): T[] => all.slice(-ROWS_MAX).toReversed();

const bankCard = (code: string, accounts: Account[]) => `<article>
  <h2>${bankName(code)} <span class="soft">${code}</span></h2>
  ${accounts
    .map(
      ({ holderName, number, alias, balance, block }) => `<p><span><b>${escape(holderName)}</b>
    <br><span class="soft">${escape(number)} ${escape(alias)}${block && ` · refuses with ${block}`}</span></span>
    <strong>${won(balance)}</strong></p>`,
    )
    .join("\n")}
</article>`;

const transferRow = ({ time, kind, account, amount, code, isBooked, bankTranId }: Transfer) => `<tr>
  <td>${clock(time)}</td>
  <td>${kind === "withdraw" ? "drawn" : "paid"}</td>
  <td>${bankName(account.bankCode)} ${escape(account.holderName)}</td>
  <td class="won">${won(amount)}</td>
  <td><span class="word ${code === "000" ? "done" : code === "400" ? "open" : "no"}">${code}${
    code === "400" && isBooked ? ", booked" : ""
  }</span></td>
  <td><code>${escape(bankTranId)}</code></td></tr>`;

const movementRow = ({ time, bankCode, number, content, amount, balanceAfter }: Movement) => `<tr>
  <td>${clock(time)}</td>
  <td>${bankName(bankCode)} <span class="soft">${escape(number)}</span></td>
  <td>${escape(content)}</td>
  <td class="won ${amount < 0n ? "" : "in"}">${amount > 0n ? "+" : ""}${won(amount)}</td>
  <td class="won">${won(balanceAfter)}</td></tr>`;

const WON_COLUMNS = ["Amount", "Balance after"];

const table = (names: string[], rows: string[]) =>
  rows.length === 0
    ? '<p class="soft">Nothing has moved yet.</p>'
    : `<div class="scroll"><table><tr>${names.map((name) => `<th${WON_COLUMNS.includes(name) ? ' class="won"' : ""}>${name}</th>`).join("")}</tr>${rows.join("\n")}</table></div>`;

const won = (amount: bigint) => `${amount.toLocaleString("en-US")}원`;

const clock = (time: Date) => seoul(time).full.replace(/^....(..)(..)(..)(..)(..).*/, "$1-$2 $3:$4:$5");

const STYLE = `  body { max-width: 64rem; }
  header { display: flex; align-items: baseline; gap: 0.75rem; margin-bottom: 1.25rem; }
  .soft { color: var(--soft); font-size: 0.85rem; font-weight: 400; }
  h2 { font-size: 1rem; margin: 1.75rem 0 0.5rem; }
  article { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 0.9rem 1.15rem; }
  article h2 { margin: 0 0 0.25rem; }
  article p { display: flex; justify-content: space-between; align-items: baseline; gap: 0.75rem; margin: 0.35rem 0 0; }
  .ours { display: flex; justify-content: space-between; align-items: center; border-left: 4px solid #1550c4; }
  .ours h2 { margin: 0; }
  .ours strong { font-size: 1.2rem; }
  .banks { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 0.75rem; margin-top: 0.75rem; }
  strong, .won { white-space: nowrap; font-variant-numeric: tabular-nums; }
  .notes { background: light-dark(#fff7e6, #3a2f16); border-radius: 10px; padding: 0.6rem 1rem 0.6rem 2rem; font-size: 0.9rem; }
  .scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
  table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
  th { text-align: left; font-weight: 500; color: var(--soft); font-size: 0.8rem; }
  th, td { padding: 0.45rem 0.9rem; border-bottom: 1px solid var(--line); }
  tr:last-child td { border-bottom: 0; }
  .won { text-align: right; }
  .in { color: light-dark(#0b6b3a, #6fd39b); }
  .word { border-radius: 99px; padding: 0.1rem 0.6rem; font-size: 0.8rem; }
  .done { background: light-dark(#e3f6ea, #173a27); } .open { background: light-dark(#fff3d6, #43361a); }
  .no { background: light-dark(#fde7e5, #45201d); }
  code { overflow-wrap: anywhere; }`;
