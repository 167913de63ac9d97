import { html, nothing, svg, type TemplateResult } from "lit-html";
import type { BankAccount } from "../../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Json } from "./rpc.ts";
import { state, work } from "./state.ts";
import { t } from "./text.ts";

/** Pieces that all views use. */

const ICONS = {
  topUp: svg`<path d="M12 5v14M5 12l7 7 7-7"/>`,
  withdraw: svg`<path d="M12 19V5M5 12l7-7 7 7"/>`,
  send: svg`<path d="M21 3 10 14M21 3l-7 18-4-7-7-4z"/>`,
  pay: svg`<path d="M6 8h12l1 12H5zM9 8V6a3 3 0 0 1 6 0v2"/>`,
  save: svg`<path d="M4 11c0-3 3-5 7-5h2c1.5-1.5 3-2 4-2v3c1.5 1 2 2 2.5 3.500H21V15h-2c-.7 1-1.2 1.5-2 2v3h-3v-2h-3v2H8v-3c-2.5-1-4-3-4-6z"/>`,
  adjustment: svg`<path d="M4 7h10M18 7h2M4 17h2M10 17h10"/><circle cx="16" cy="7" r="2"/><circle cx="8" cy="17" r="2"/>`,
};

export const icon = (name: keyof typeof ICONS) =>
  html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">${ICONS[name]}</svg>`;

export const badge = ({ bankCode = "", bankName = "" }: Json<BankAccount>) =>
  html`<span class="badge b${bankCode}" aria-hidden="true">${bankName.slice(0, 1)}</span>`;

export const nameOf = ({ alias, bankName = "" }: Json<BankAccount>) => alias || bankName;

interface FormParts {
  name: string;
  className?: string;
  /** The button that was pressed has its value in `event`. */
  submit(fields: FormData, pressed: string): Promise<void>;
  body: TemplateResult;
}

/** A form whose fields and buttons rest while it is sent. */
export const form = ({ name, className = "", submit, body }: FormParts) => html`<form
  class=${className}
  @submit=${(event: SubmitEvent) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget as HTMLFormElement);
    const pressed = (event.submitter as HTMLButtonElement | null)?.value ?? "";
    void work(name, () => submit(fields, pressed));
  }}
>
  <fieldset ?disabled=${state.working !== ""} aria-busy=${state.working === name}>${body}</fieldset>
</form>`;

interface FieldParts {
  label: string;
  name: string;
  type?: string;
  value?: string;
  autocomplete?: string;
  pattern?: string;
  maxlength?: number;
  minlength?: number;
  isOptional?: boolean;
  isNumber?: boolean;
}

export const field = (of: FieldParts) => html`<label class="field"
  ><span>${of.label}</span
  ><input
    name=${of.name}
    type=${of.type ?? "text"}
    .defaultValue=${of.value ?? ""}
    autocomplete=${of.autocomplete ?? "off"}
    pattern=${of.pattern ?? nothing}
    minlength=${of.minlength ?? nothing}
    maxlength=${of.maxlength ?? nothing}
    inputmode=${of.isNumber ? "numeric" : nothing}
    ?required=${!of.isOptional}
/></label>`;

export const codeField = () =>
  field({
    label: t.code,
    name: "code",
    pattern: "[0-9]{6}",
    maxlength: 6,
    isNumber: true,
    autocomplete: "one-time-code",
  });

const MAN = 10_000n;

/** Digits with commas, as people read them. */
const grouped = (text: string) => {
  const digits = text.replaceAll(/\D/g, "").slice(0, 12);
  return digits && BigInt(digits).toLocaleString("en-US");
};

/** An amount of won: what was typed is shown with commas, and chips add to it. */
export function amountField(most?: string) {
  const set = (event: Event, next: (now: bigint) => bigint) => {
    const input = (event.currentTarget as HTMLElement).closest(".amount")?.querySelector("input");
    if (input) input.value = grouped(`${next(BigInt(input.value.replaceAll(",", "") || 0))}`);
  };
  return html`<div class="amount">
    <label class="field big"
      ><span>${t.amount}</span
      ><input
        name="amount"
        inputmode="numeric"
        autocomplete="off"
        placeholder="0"
        required
        pattern="[1-9][0-9,]*"
        @input=${({ currentTarget }: Event) => {
          const input = currentTarget as HTMLInputElement;
          input.value = grouped(input.value);
        }}
      /><b aria-hidden="true">${t.language === "ko" ? "원" : "₩"}</b></label
    >
    <div class="chips">
      ${[1, 5, 10].map(
        (man) =>
          html`<button type="button" @click=${(event: Event) => set(event, (now) => now + BigInt(man) * MAN)}>${t.plus(man)}</button>`,
      )}
      ${most ? html`<button type="button" @click=${(event: Event) => set(event, () => BigInt(most))}>${t.all}</button>` : nothing}
    </div>
  </div>`;
}

export const amountOf = (fields: FormData) => textOf(fields, "amount").replaceAll(",", "");
export const textOf = (fields: FormData, name: string) => {
  const value = fields.get(name);
  return typeof value === "string" ? value.trim() : "";
};
