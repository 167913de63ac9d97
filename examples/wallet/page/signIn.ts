import { html, nothing } from "lit-html";
import { CallError, call, enter } from "./rpc.ts";
import { change, load, otherTabs, speakOther, state, work } from "./state.ts";
import { t } from "./text.ts";
import { codeField, field, form, textOf } from "./ui.ts";

const MODES = ["password", "code", "signUp"] as const;

/** What somebody sees who is not signed in. */
export function signInView() {
  const { mode, email, isSent } = state.door;
  const titles = { password: t.passwordSignIn, code: t.codeSignIn, signUp: t.signUpTab };
  const address = () => field({ label: t.email, name: "email", type: "email", value: email, autocomplete: "username" });
  return html`<main class="door">
    <div class="hello">
      <span class="logo" aria-hidden="true">₩</span>
      <h1>${t.welcome}</h1>
      <p>${t.welcomeMore}</p>
    </div>
    <section class="card">
      <nav class="tabs">
        ${MODES.map(
          (one) => html`<button
            type="button"
            aria-pressed=${one === mode}
            @click=${() => change({ door: { mode: one, email, isSent: false }, notice: undefined })}
          >
            ${titles[one]}
          </button>`,
        )}
      </nav>
      ${
        mode === "password"
          ? form({
              name: "signIn",
              submit: (fields) => come("SignIn", { email: textOf(fields, "email"), password: fields.get("password") }),
              body: html`${address()}
                ${field({ label: t.password, name: "password", type: "password", autocomplete: "current-password" })}
                <button class="main">${t.signIn}</button>`,
            })
          : isSent
            ? form({
                name: "code",
                submit: (fields) => prove(mode, fields),
                body: html`<p class="sent">
                    ${t.codeSent(email)}
                    ${inboxLink(email)}
                  </p>
                  ${codeField()}
                  ${
                    mode === "signUp"
                      ? html`${field({ label: t.name, name: "displayName", maxlength: 50, autocomplete: "name" })}
                        ${field({ label: t.newPassword, name: "password", type: "password", minlength: 8, maxlength: 64, autocomplete: "new-password", isOptional: true })}
                        <p class="hint">${t.noPassword}</p>`
                      : nothing
                  }
                  <button class="main">${mode === "signUp" ? t.signUp : t.signIn}</button>
                  <div class="links">
                    <button type="button" class="link" @click=${() => void work("sendCode", () => sendCode(mode, email))}>
                      ${t.resend}
                    </button>
                    <button type="button" class="link" @click=${() => change({ door: { mode, email, isSent: false } })}>
                      ${t.otherEmail}
                    </button>
                  </div>`,
              })
            : form({
                name: "sendCode",
                submit: (fields) => sendCode(mode, textOf(fields, "email")),
                body: html`${address()} <button class="main">${t.getCode}</button>`,
              })
      }
    </section>
    <button type="button" class="language" @click=${speakOther}>${t.other}</button>
  </main>`;
}

/** Where demo people read their mail; a real page has no such thing. */
export const inboxLink = (email = "") => {
  const { mailUrl } = state.settings;
  return mailUrl
    ? html`<a href="${mailUrl}/?to=${encodeURIComponent(email)}" target="_blank" rel="noreferrer">${t.openInbox}</a>`
    : nothing;
};

async function sendCode(mode: "code" | "signUp", email: string) {
  const purpose = mode === "signUp" ? "CODE_PURPOSE_SIGN_UP" : "CODE_PURPOSE_SIGN_IN";
  const sent = { door: { mode, email, isSent: true } };
  try {
    await call("chatpay.account.v1.AccountService/SendCode", { email, purpose, language: t.language });
    change(sent);
  } catch (error) {
    // The code from before can be entered.
    if (error instanceof CallError && error.reason === "TOO_MANY_ATTEMPTS") change(sent);
    throw error;
  }
}

const prove = (mode: "code" | "signUp", fields: FormData) => {
  const proof = { email: state.door.email, code: textOf(fields, "code") };
  if (mode === "code") return come("SignInWithCode", proof);
  const profile = {
    displayName: textOf(fields, "displayName"),
    password: fields.get("password"),
    language: t.language,
  };
  return come("SignUp", { ...proof, ...profile });
};

async function come(...how: Parameters<typeof enter>) {
  await enter(...how);
  otherTabs.postMessage("came");
  await load();
}
