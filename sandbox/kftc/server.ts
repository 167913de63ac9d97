import { type Call, listen, type Reply } from "../http.ts";
import { callApi } from "./api.ts";
import { INSTITUTION, openCentre } from "./centre.ts";
import { control } from "./control.ts";
import { authorize } from "./oauth.ts";
import { banksPage, callbackPage } from "./pages.ts";
import { kftcControl } from "./remote.ts";
import { openStore } from "./store.ts";
import { addTown } from "./town.ts";

/** What ChatPay is told, so that it goes to the centre at `url`. People come back to a page of the centre's own. */
export const kftcSettings = (url: string) => ({
  CHATPAY_OPENBANKING_URL: url,
  CHATPAY_OPENBANKING_CLIENT_ID: INSTITUTION.clientId,
  CHATPAY_OPENBANKING_CLIENT_SECRET: INSTITUTION.clientSecret,
  CHATPAY_OPENBANKING_INSTITUTION: INSTITUTION.code,
  CHATPAY_OPENBANKING_REDIRECT_URL: `${url}/callback`,
  CHATPAY_OPENBANKING_BANK_CODE: INSTITUTION.bankCode,
  CHATPAY_OPENBANKING_ACCOUNT: INSTITUTION.account,
  CHATPAY_OPENBANKING_HOLDER: INSTITUTION.holder,
  CHATPAY_OPENBANKING_PASS_PHRASE: INSTITUTION.passPhrase,
});

export interface KftcOptions {
  port: number;
  redirectUrl?: string | undefined;
  /** Where all that was answered is kept for the next start. Without it everything begins anew. */
  file?: string | undefined;
}

/**
 * The open banking centre of KFTC with the banks behind it: the API of version 2.0 under /oauth and /v2.0, a page for
 * people at /, and /sandbox to prepare it, to make it fail and to read its books.
 */
export async function startKftc({ port, redirectUrl, file }: KftcOptions) {
  const stopping = new AbortController();
  const store = openStore(file);
  let centre = open(redirectUrl ?? "");

  function open(backTo: string) {
    const opened = openCentre(backTo, store);
    if (opened.ledger.citizens.length === 0) addTown(opened.ledger, opened.clock.now());
    return opened;
  }

  function reset() {
    store.clear();
    centre = open(centre.redirectUrl);
  }

  function answer(call: Call): Reply | undefined | Promise<Reply | undefined> {
    const { pathname } = call.url;
    if (pathname.startsWith("/sandbox")) return control(centre, call, reset);
    if (pathname === "/oauth/2.0/authorize") return authorize(centre, call);
    if (pathname === "/callback") return { page: callbackPage(call.url.searchParams) };
    if (pathname === "/") return { page: banksPage(centre) };
    return callApi(centre, call, stopping.signal);
  }

  const http = await listen(port, async (call) => {
    const reply = await answer(call);
    // Nobody is told what a restart would forget.
    store.commit();
    return reply;
  });
  const url = `http://127.0.0.1:${http.port}`;
  centre.redirectUrl ||= `${url}/callback`;

  return {
    ...kftcControl(url),
    url,
    port: http.port,
    async stop() {
      stopping.abort();
      await http.stop();
      store.close();
    },
  };
}
