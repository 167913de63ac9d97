import { listen } from "../http.ts";
import { callApi } from "./api.ts";
import { INSTITUTION, openCentre } from "./centre.ts";
import { control } from "./control.ts";
import { authorize } from "./oauth.ts";
import { banksPage, callbackPage } from "./pages.ts";
import { kftcControl } from "./remote.ts";
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

/**
 * The open banking centre of KFTC with the banks behind it, in memory: the API of version 2.0 under /oauth and /v2.0,
 * a page for people at /, and /sandbox to prepare it, to make it fail and to read its books.
 */
export async function startKftc({ port, redirectUrl }: { port: number; redirectUrl?: string }) {
  const stopping = new AbortController();
  let centre = openCentre("");
  const reset = () => {
    centre = openCentre(redirectUrl ?? `${url}/callback`);
    addTown(centre.ledger, centre.clock.now());
  };

  const http = await listen(port, (call) => {
    const { pathname } = call.url;
    if (pathname.startsWith("/sandbox")) return control(centre, call, reset);
    if (pathname === "/oauth/2.0/authorize") return authorize(centre, call);
    if (pathname === "/callback") return { page: callbackPage(call.url.searchParams) };
    if (pathname === "/") return { page: banksPage(centre) };
    return callApi(centre, call, stopping.signal);
  });
  const url = `http://127.0.0.1:${http.port}`;
  reset();

  return {
    ...kftcControl(url),
    url,
    port: http.port,
    async stop() {
      stopping.abort();
      await http.stop();
    },
  };
}
