import { html, nothing } from "lit-html";
import { repeat } from "lit-html/directives/repeat.js";
import type { BankAccount, StartLinkResponse } from "../../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Entry, ExportEntriesResponse } from "../../../gen/chatpay/wallet/v1/wallet_pb.ts";
import { carryOutAgain } from "./money.ts";
import { waiting } from "./outbox.ts";
import { call, callStream, type Json, leave } from "./rpc.ts";
import { change, forget, isUnderWay, loadMore, otherTabs, type Sheet, speakOther, state, tell, work } from "./state.ts";
import { day, hour, t, won } from "./text.ts";
import { badge, icon, nameOf } from "./ui.ts";

/** What somebody sees who is signed in. */
export const homeView = () => html`<header class="top">
    <span class="logo small" aria-hidden="true">₩</span>
    <strong>${state.account.displayName}</strong>
    <button type="button" @click=${speakOther}>${t.other}</button>
    <button type="button" ?disabled=${state.working !== ""} @click=${() => void work("leave", goAway)}>${t.signOut}</button>
  </header>
  <main class="home">
    <div class="left">${moneyCard()} ${underWayCard()} ${savingsCard()}</div>
    <div class="right">${banksCard()} ${statementCard()}</div>
  </main>`;

const open = (sheet: Sheet) => change({ sheet, notice: undefined });

function moneyCard() {
  const { main, banks, settings } = state;
  const actions = [
    { name: "topUp", isThere: banks.some(({ canDraw }) => canDraw) },
    { name: "send", isThere: true },
    { name: "withdraw", isThere: banks.length > 0 },
    { name: "pay", isThere: settings.partnerId !== undefined },
  ] as const;
  return html`<section class="money" aria-labelledby="available">
    <h2 id="available">${t.available}</h2>
    <p class="sum">${won(main.available)}</p>
    <dl>
      <div><dt>${t.balance}</dt><dd>${won(main.balance)}</dd></div>
      <div><dt>${t.held}</dt><dd>${won(main.held)}</dd></div>
    </dl>
    ${main.state === "STATE_FROZEN" ? html`<p class="frozen">${t.frozen}</p>` : nothing}
    <div class="actions">
      ${actions.map(({ name, isThere }) =>
        isThere
          ? html`<button type="button" @click=${() => open({ name })}>${icon(name)}<span>${t.orders[name]}</span></button>`
          : nothing,
      )}
    </div>
    <p class="id">
      <span>${t.walletId} <code>${main.id}</code></span>
      <button type="button" class="link" @click=${() => void copyId()}>${t.copy}</button>
    </p>
  </section>`;
}

/** What the server has not answered, and what the bank has not answered the server. */
function underWayCard() {
  const orders = state.working === "" ? waiting(state.account.id) : [];
  const atBank = state.bankTransfers.filter(isUnderWay);
  if (orders.length + atBank.length === 0) return nothing;
  return html`<section class="card waiting" role="status">
    ${
      orders.length > 0
        ? html`<h2>${t.inDoubt}</h2>
          ${orders.map(({ what, amount }) => html`<p class="row"><span>${t.orders[what]}</span><b>${won(amount)}</b></p>`)}
          <p class="hint">${t.inDoubtWhy}</p>
          <button type="button" @click=${() => void work("again", carryOutAgain)}>${t.checkAgain}</button>`
        : nothing
    }
    ${
      atBank.length > 0
        ? html`<h2>${t.atBank}</h2>
          ${atBank.map(
            ({ kind, amount }) => html`<p class="row">
              <span>${kind === "KIND_WITHDRAWAL" ? t.orders.withdraw : t.orders.topUp}</span><b>${won(amount)}</b>
            </p>`,
          )}`
        : nothing
    }
  </section>`;
}

const savingsCard = () => html`<section class="card" aria-labelledby="savings">
  <div class="head">
    <h2 id="savings">${t.savings}</h2>
    <button type="button" class="link" @click=${() => open({ name: "newSavings", key: crypto.randomUUID() })}>${t.newSavings}</button>
  </div>
  ${state.savings.length === 0 ? html`<p class="empty">${t.noSavings}</p>` : nothing}
  <ul>
    ${state.savings.map(
      ({ id = "", name, balance }) => html`<li>
        <button type="button" class="line" @click=${() => open({ name: "savings", id })}>
          <span class="badge saving" aria-hidden="true">${icon("save")}</span>
          <span class="names"><b>${name}</b></span>
          <span class="amounts">${won(balance)}</span>
        </button>
      </li>`,
    )}
  </ul>
</section>`;

const banksCard = () => html`<section class="card" aria-labelledby="banks">
  <div class="head">
    <h2 id="banks">${t.banks}</h2>
    <button type="button" class="link" ?disabled=${state.working !== ""} @click=${() => void work("link", startLink)}>
      ${t.link}
    </button>
  </div>
  ${state.banks.length === 0 ? html`<p class="empty">${t.noBanks}</p>` : nothing}
  <ul>
    ${state.banks.map(
      (bank) => html`<li>
        <button type="button" class="line" @click=${() => open({ name: "bank", id: bank.id ?? "" })}>
          ${badge(bank)}
          <span class="names">
            <b>${nameOf(bank)}</b>
            <small>${bank.bankName} ${bank.maskedNumber}</small>
            ${bank.primary ? html`<em>${t.primary}</em>` : nothing}
            ${bank.primary && bank.automaticTopUp ? html`<em class="on">${t.automatic}</em>` : nothing}
          </span>
          <span class="amounts">${liveBalance(bank)}</span>
        </button>
      </li>`,
    )}
  </ul>
</section>`;

function liveBalance({ liveBalance: live }: Json<BankAccount>) {
  if (!live) return html`<small>${t.asking}</small>`;
  switch (live.status) {
    case "STATUS_OK":
      return won(live.balance);
    case "STATUS_CONSENT_MISSING":
      return html`<small class="bad">${t.consentGone}</small>`;
    default:
      return html`<small class="bad">${live.message || t.away}</small>`;
  }
}

const statementCard = () => html`<section class="card" aria-labelledby="statement">
  <div class="head">
    <h2 id="statement">${t.statement}</h2>
    <button type="button" class="link" ?disabled=${state.working !== ""} @click=${() => void work("csv", download)}>
      ${t.download}
    </button>
  </div>
  ${state.entries.length === 0 ? html`<p class="empty">${t.noEntries}</p>` : nothing}
  <ul>
    ${repeat(
      state.entries,
      ({ sequence }) => sequence,
      (entry, index) => {
        const date = day(entry.createTime ?? "");
        const isFirst = date !== day(state.entries[index - 1]?.createTime ?? "");
        return html`${isFirst ? html`<li class="day">${date}</li>` : nothing} ${entryLine(entry)}`;
      },
    )}
  </ul>
  ${
    state.nextPageToken
      ? html`<button type="button" class="more" ?disabled=${state.working !== ""} @click=${() => void work("more", loadMore)}>
          ${t.more}
        </button>`
      : nothing
  }
</section>`;

function entryLine(entry: Json<Entry>) {
  const { amount = "", memo, createTime = "", balanceAfter } = entry;
  const isIn = !amount.startsWith("-");
  const { title, sign } = kindOf(entry, isIn);
  return html`<li class="line">
    <span class="badge ${isIn ? "in" : "out"}" aria-hidden="true">${icon(sign)}</span>
    <span class="names"><b>${title}</b><small>${hour(createTime)}${memo ? ` · ${memo}` : ""}</small></span>
    <span class="amounts"><b class=${isIn ? "in" : ""}>${isIn ? "+" : ""}${won(amount)}</b><small>${won(balanceAfter)}</small></span>
  </li>`;
}

function kindOf({ cause, causeId }: Json<Entry>, isIn: boolean) {
  const titles = t.entries;
  switch (cause) {
    case "CAUSE_BANK_TRANSFER": {
      const kind = state.bankTransfers.find(({ id }) => id === causeId)?.kind;
      if (!isIn) return { title: titles.withdraw, sign: "withdraw" } as const;
      return { title: kind === "KIND_AUTOMATIC_TOP_UP" ? titles.automatic : titles.topUp, sign: "topUp" } as const;
    }
    case "CAUSE_PAYMENT":
      return { title: titles.payment, sign: "pay" } as const;
    case "CAUSE_SAVINGS":
      return { title: isIn ? titles.unsave : titles.save, sign: "save" } as const;
    case "CAUSE_ADJUSTMENT":
      return { title: titles.adjustment, sign: "adjustment" } as const;
    default:
      return { title: isIn ? titles.received : titles.sent, sign: "send" } as const;
  }
}

/** The person goes to KFTC's page, and comes back to /linked. */
async function startLink() {
  const { consentUrl = "" } = await call<StartLinkResponse>("chatpay.bank.v1.BankService/StartLink");
  location.assign(consentUrl);
}

async function download() {
  const pieces = await callStream<ExportEntriesResponse>("chatpay.wallet.v1.WalletService/ExportEntries", {});
  // Without the mark at the start some spreadsheets do not read UTF-8.
  const file = new Blob(["\uFEFF", ...pieces.map(({ csv = "" }) => csv)], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `chatpay-${new Date().toISOString().slice(0, 10)}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function copyId() {
  await navigator.clipboard.writeText(state.main.id ?? "");
  tell(t.copied);
}

async function goAway() {
  await leave();
  otherTabs.postMessage("left");
  forget();
}
