import { html, nothing, type TemplateResult } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import type { BankAccount } from "../../../gen/chatpay/bank/v1/bank_pb.ts";
import { move, sendPinCode } from "./money.ts";
import { call, type Json } from "./rpc.ts";
import { inboxLink } from "./signIn.ts";
import { change, loadBanks, otherTabs, reload, type Sheet, state, tell, work } from "./state.ts";
import { t, won } from "./text.ts";
import { amountField, amountOf, badge, codeField, field, form, nameOf, textOf } from "./ui.ts";

/** Forms that lie over the page, one at a time. */
export function sheetView() {
  const { sheet } = state;
  if (!sheet) return nothing;
  const { title, body } = contentOf(sheet);
  return html`<dialog
    class="sheet"
    aria-labelledby="title"
    ${ref(open)}
    @cancel=${(event: Event) => state.working && event.preventDefault()}
    @close=${() => change({ sheet: undefined })}
    @click=${({ target, currentTarget }: Event) => target === currentTarget && close()}
  >
    <div class="inner">
      <div class="head">
        <h2 id="title">${title}</h2>
        <button type="button" class="close" aria-label=${t.close} @click=${close}>×</button>
      </div>
      ${body}
    </div>
  </dialog>`;
}

/** The same function each time, so that it is called when the dialog appears and not with each rendering. */
function open(dialog: Element | undefined) {
  // It is in the document by then.
  if (dialog) queueMicrotask(() => (dialog as HTMLDialogElement).showModal());
}

/** Not while its call runs: what becomes of it is shown here. */
const close = () => {
  if (!state.working) change({ sheet: undefined });
};

function contentOf(sheet: Sheet): { title: string; body: TemplateResult } {
  switch (sheet.name) {
    case "topUp":
      return { title: t.topUpTitle, body: bankMoveForm("topUp", t.from) };
    case "withdraw":
      return { title: t.withdrawTitle, body: bankMoveForm("withdraw", t.to) };
    case "send":
      return { title: t.sendTitle, body: sendForm() };
    case "pay":
      return { title: t.payTitle, body: payForm() };
    case "newSavings":
      return { title: t.newSavings, body: newSavingsForm(sheet.key) };
    case "savings":
      return { title: state.savings.find(({ id }) => id === sheet.id)?.name ?? "", body: savingsForm(sheet.id) };
    case "bank":
      return { title: t.bankSettings, body: bankForm(state.banks.find(({ id }) => id === sheet.id) ?? {}) };
  }
}

/** Where every sheet says what went wrong. */
const problem = () =>
  state.sheet?.problem ? html`<p class="problem" role="alert">${state.sheet.problem}</p>` : nothing;

function bankMoveForm(what: "topUp" | "withdraw", side: string) {
  const usable = state.banks.filter(({ canDraw }) => what === "withdraw" || canDraw);
  const chosen = usable.find(({ primary }) => primary) ?? usable[0];
  return form({
    name: what,
    submit: (fields) => move(what, amountOf(fields), { bankAccountId: textOf(fields, "bank") }, fields),
    body: html`${amountField(what === "withdraw" ? state.main.available : undefined)}
      <div class="choices" role="radiogroup" aria-label=${side}>
        <span class="label">${side}</span>
        ${usable.map(
          (bank) => html`<label class="choice"
            ><input type="radio" name="bank" value=${bank.id ?? ""} ?checked=${bank === chosen} required />${badge(bank)}
            <span class="names"><b>${nameOf(bank)}</b><small>${bank.bankName} ${bank.maskedNumber}</small></span>
            <small>${bank.liveBalance?.status === "STATUS_OK" ? won(bank.liveBalance.balance) : nothing}</small></label
          >`,
        )}
      </div>
      ${what === "withdraw" ? pinFields() : nothing} ${problem()}
      <button class="main">${t.orders[what]}</button>`,
  });
}

const sendForm = () =>
  form({
    name: "send",
    submit: (fields) =>
      move(
        "send",
        amountOf(fields),
        { recipientWalletId: textOf(fields, "recipient"), memo: textOf(fields, "memo") },
        fields,
      ),
    body: html`${field({ label: t.recipient, name: "recipient", pattern: "[1-9][0-9]{0,18}", isNumber: true })}
      ${amountField(state.main.available)} ${field({ label: t.memo, name: "memo", maxlength: 100, isOptional: true })}
      ${automaticHint()} ${pinFields()} ${problem()}
      <button class="main">${t.orders.send}</button>`,
  });

const payForm = () =>
  form({
    name: "pay",
    submit: (fields) => {
      const { name = "", price = 0 } = t.goods[Number(fields.get("good"))] ?? {};
      const items = [{ name, quantity: "1", unitPrice: `${price}` }];
      return move("pay", `${price}`, { partnerId: state.settings.partnerId, items }, fields);
    },
    body: html`<div class="choices" role="radiogroup" aria-label=${t.payTitle}>
        ${t.goods.map(
          ({ name, price }, index) => html`<label class="choice"
            ><input type="radio" name="good" value=${index} ?checked=${index === 0} />
            <span class="names"><b>${name}</b></span><b>${won(price)}</b></label
          >`,
        )}
      </div>
      ${automaticHint()} ${pinFields()} ${problem()}
      <button class="main">${t.orders.pay}</button>`,
  });

function automaticHint() {
  const primary = state.banks.find((bank) => bank.primary && bank.automaticTopUp);
  return primary ? html`<p class="hint">${t.willTopUp(nameOf(primary))}</p>` : nothing;
}

/** Only when the server has asked for the PIN. */
function pinFields() {
  const pin = (label: string) =>
    field({ label, name: "pin", type: "password", pattern: "[0-9]{6}", maxlength: 6, isNumber: true });
  if (!state.sheet?.pin) return nothing;
  if (state.sheet.pin === "ask") return pin(t.pin);
  return html`<p class="hint">${t.pinFirst} ${inboxLink(state.account.email)}</p>
    <button type="button" class="quiet" @click=${() => void work("pinCode", sendPinCode)}>${t.getCode}</button>
    ${state.sheet.told ? html`<p class="hint" role="status">${state.sheet.told}</p>` : nothing} ${codeField()} ${pin(t.newPin)}`;
}

/** The key is that of the sheet, so that all its tries open one. */
const newSavingsForm = (key: string) =>
  form({
    name: "newSavings",
    submit: (fields) =>
      finish(async () => {
        await call("chatpay.wallet.v1.WalletService/CreateSavings", { name: textOf(fields, "name") }, key);
        await reload();
      }),
    body: html`${field({ label: t.savingsName, name: "name", maxlength: 50 })} ${problem()}
      <button class="main">${t.open}</button>`,
  });

const savingsForm = (savingsWalletId: string) =>
  form({
    name: "savings",
    submit: (fields, pressed) =>
      move(pressed === "unsave" ? "unsave" : "save", amountOf(fields), { savingsWalletId }, fields),
    body: html`<p class="sum">${won(state.savings.find(({ id }) => id === savingsWalletId)?.balance)}</p>
      ${amountField()} ${problem()}
      <div class="two">
        <button class="quiet" value="unsave">${t.takeOut}</button>
        <button class="main" value="save">${t.putIn}</button>
      </div>`,
  });

const UNITS = [1, 1_000, 5_000, 10_000];

function bankForm(bank: Json<BankAccount>) {
  const { id: bankAccountId, canDraw, topUpUnit = "1" } = bank;
  const update = (fields: FormData, pressed: string) =>
    finish(
      async () => {
        if (pressed === "unlink") await call("chatpay.bank.v1.BankService/UnlinkBankAccount", { bankAccountId });
        else {
          await call("chatpay.bank.v1.BankService/UpdateBankAccount", {
            bankAccountId,
            alias: textOf(fields, "alias"),
            // Only the primary account is drawn from.
            ...((fields.has("primary") || fields.has("automatic")) && { primary: true }),
            ...(canDraw && { automaticTopUp: fields.has("automatic"), topUpUnit: textOf(fields, "unit") }),
          });
        }
        await loadBanks();
      },
      pressed === "unlink" ? t.unlinked : t.saved,
    );
  return form({
    name: "bank",
    submit: update,
    body: html`<div class="line">
        ${badge(bank)}
        <span class="names"><b>${bank.bankName} ${bank.maskedNumber}</b><small>${bank.holderName}</small></span>
      </div>
      ${field({ label: t.alias, name: "alias", value: bank.alias, maxlength: 50, isOptional: true })}
      ${
        canDraw
          ? html`<label class="switch"
                ><span><b>${t.makePrimary}</b></span
                ><input type="checkbox" name="primary" .defaultChecked=${bank.primary ?? false} ?disabled=${bank.primary}
              /></label>
              <label class="switch"
                ><span><b>${t.automatic}</b><small>${t.automaticWhy}</small></span
                ><input type="checkbox" name="automatic" .defaultChecked=${bank.automaticTopUp ?? false}
              /></label>
              <label class="field"
                ><span>${t.unit}</span
                ><select name="unit">
                  ${UNITS.map(
                    (unit) =>
                      html`<option value=${unit} ?selected=${topUpUnit === `${unit}`}>${unit === 1 ? t.unitExact : won(unit)}</option>`,
                  )}
                </select></label
              >`
          : html`<p class="hint">${t.readOnly}</p>`
      }
      ${problem()}
      <button class="main">${t.save}</button>
      <details>
        <summary>${t.unlink}</summary>
        <button class="danger" value="unlink" formnovalidate>${t.unlinkSure}</button>
      </details>`,
  });
}

async function finish(job: () => Promise<void>, text = "") {
  await job();
  otherTabs.postMessage("moved");
  change({ sheet: undefined });
  if (text) tell(text);
}
