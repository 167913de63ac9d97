import { html, nothing, render } from "lit-html";
import type { FinishLinkResponse } from "../../../gen/chatpay/bank/v1/bank_pb.ts";
import type { Settings } from "../settings.ts";
import { homeView } from "./home.ts";
import { carryOutAgain } from "./money.ts";
import { waiting } from "./outbox.ts";
import { CallError, call, refresh } from "./rpc.ts";
import { sheetView } from "./sheets.ts";
import { signInView } from "./signIn.ts";
import {
  change,
  fail,
  forget,
  isUnderWay,
  load,
  loadBanks,
  onChange,
  otherTabs,
  reload,
  state,
  tell,
} from "./state.ts";
import { readLanguage, t } from "./text.ts";

/** How often it is looked for what is under way; every fifth time also for what others have moved. */
const LOOK_MS = 2_000;
const LOOK_RARELY = 5;

const view = () => html`${
  state.notice
    ? html`<p class="notice ${state.notice.isBad ? "bad" : ""}" role=${state.notice.isBad ? "alert" : "status"}>
        ${state.notice.text}
        <button type="button" class="close" aria-label=${t.close} @click=${() => change({ notice: undefined })}>×</button>
      </p>`
    : nothing
}
  ${state.phase === "out" ? signInView() : nothing}
  ${state.phase === "in" ? homeView() : nothing} ${state.phase === "starting" ? html`<div class="starting" aria-busy="true"></div>` : nothing}
  ${sheetView()}`;

readLanguage();
onChange(() => render(view(), document.body));
otherTabs.addEventListener("message", ({ data }) => {
  if (data === "moved") void look();
  // Somebody else may have come, whose cookie it is now.
  else if (data === "came") location.reload();
  else forget();
});
// A page from the history may be of somebody who has left.
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
addEventListener("storage", () => change({}));
document.addEventListener("visibilitychange", () => void look());
await start();
void keepLooking();

async function start() {
  change({ settings: (await (await fetch("/settings.json")).json()) as Settings });
  try {
    await refresh();
    await load();
    await finishLink();
    await carryOutAgain();
  } catch (error) {
    if (!(error instanceof CallError) || error.reason !== "REFRESH_TOKEN_INVALID") fail(error);
    if (state.phase === "in") return;
    // A consent works only for the session that asked for it.
    history.replaceState(null, "", "/");
    forget();
  }
}

/** Back from the consent. What came in the address is used once, and is in nobody's history then. */
async function finishLink() {
  if (location.pathname !== "/linked") return;
  const came = new URLSearchParams(location.search);
  const [code, linkState] = [came.get("code"), came.get("state")];
  if (!code || !linkState) {
    tell(t.linkRefused);
  } else {
    try {
      const request = { code, state: linkState };
      const { bankAccounts = [], takenNumbers = [] } = await call<FinishLinkResponse>(
        "chatpay.bank.v1.BankService/FinishLink",
        request,
      );
      if (takenNumbers.length === 0) tell(t.linked(bankAccounts.length));
      else change({ notice: { text: t.taken(takenNumbers.join(", ")), isBad: true } });
    } catch (error) {
      fail(error);
      // Nobody took the code, so it is there for a reload.
      if (error instanceof CallError && error.code === "unavailable") return;
    }
    await loadBanks();
  }
  history.replaceState(null, "", "/");
}

async function look() {
  if (state.phase !== "in" || document.hidden || state.working) return;
  try {
    await reload();
    await carryOutAgain();
  } catch (error) {
    // Nobody waits for this, and it is tried again.
    if (!(error instanceof CallError) || error.code !== "unavailable") fail(error);
  }
}

async function keepLooking() {
  for (let turn = 1; ; turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const isOpen = state.bankTransfers.some(isUnderWay) || waiting(state.account.id).length > 0;
    if (isOpen || turn % LOOK_RARELY === 0) await look();
  }
}
