import type { Call, Reply } from "../http.ts";
import { type Centre, INSTITUTION } from "./centre.ts";
import { centreMessage } from "./codes.ts";
import type { Agreement } from "./consent.ts";
import { accountsPage, errorPage, peoplePage } from "./consentPages.ts";
import type { Citizen } from "./ledger.ts";
import type { Token } from "./tokens.ts";

/** What people may be asked for. `oob` is the institution's own, `sa` for those that identify people themselves. */
const PERSONAL = ["inquiry", "login", "transfer"];

/** What is wrong with a call, by the number that the centre has for it. */
const MISSING = "3000103";
const CLIENT = "3000201";
const REDIRECT_URI = "3000114";
const SCOPE = "3000115";
const RESPONSE_TYPE = "3000116";
const SESSION = "3002110";

const STATE_LENGTH = 32;

/** A new citizen gets accounts here, so that somebody who enters their own name can go on. */
const FIRST_BANKS = ["004", "088", "090"];
const FIRST_WON = 1_000_000n;

/** GET and POST /oauth/2.0/authorize: people choose who they are, then accounts, then agree or refuse. */
export function authorize(centre: Centre, { method, url, body }: Call): Reply {
  const asked = url.searchParams;
  const problem = problemOf(centre, asked);
  if (problem) return { page: errorPage(problem) };
  const scopes = words(asked.get("scope"));
  if (method === "GET") {
    const citizen = centre.ledger.findCitizen(asked.get("citizen") ?? "");
    return { page: citizen ? accountsPage(asked, citizen, scopes) : peoplePage(asked, centre.ledger.citizens) };
  }

  const form = new URLSearchParams(body);
  if (form.get("decision") === "enter") return enter(centre, asked, form);
  if (form.get("decision") !== "agree") {
    return back(asked, { error: "access_denied", error_description: "사용자가 동의를 거절하였습니다." });
  }
  const citizen = centre.ledger.findCitizen(form.get("citizen") ?? "");
  if (!citizen) return { page: errorPage(SESSION) };
  return agree(centre, asked, form, citizen);
}

function agree(centre: Centre, asked: URLSearchParams, form: URLSearchParams, citizen: Citizen): Reply {
  const chosen = form.getAll("account");
  const accounts = citizen.accounts.filter(({ bankCode, number }) => chosen.includes(`${bankCode}-${number}`));
  const scopes = words(asked.get("scope")).filter((scope) => scope === "login" || form.has(scope));
  const agreements = scopes.filter((scope): scope is Agreement => scope !== "login");
  if (accounts.length === 0 || agreements.length === 0) {
    return {
      page: accountsPage(asked, citizen, words(asked.get("scope")), "계좌와 동의 항목을 하나 이상 선택해 주세요."),
    };
  }
  const { userSeqNo } = centre.consents.agree(citizen, accounts, agreements);
  const redirectUri = asked.get("redirect_uri") ?? "";
  const code = centre.tokens.issueCode({ userSeqNo, scopes: scopes.toSorted(), redirectUri });
  return back(asked, { code, scope: scopes.toSorted().join(" "), client_info: asked.get("client_info") ?? "" });
}

function enter(centre: Centre, asked: URLSearchParams, form: URLSearchParams): Reply {
  const name = (form.get("name") ?? "").trim().slice(0, 20);
  const birthDate = (form.get("birth_date") ?? "").replaceAll("-", "");
  if (!name || !/^\d{8}$/.test(birthDate)) return { page: peoplePage(asked, centre.ledger.citizens) };
  const accounts = FIRST_BANKS.map((bankCode) => ({ bankCode, balance: FIRST_WON }));
  const { id } = centre.ledger.addCitizen({ name, birthDate, accounts });
  const next = new URLSearchParams(asked);
  next.set("citizen", id);
  return { redirect: `/oauth/2.0/authorize?${next}` };
}

function back(asked: URLSearchParams, fields: Record<string, string>): Reply {
  const target = new URL(asked.get("redirect_uri") ?? "");
  for (const [name, value] of Object.entries({ ...fields, state: asked.get("state") ?? "" })) {
    if (value) target.searchParams.set(name, value);
  }
  return { redirect: target.href };
}

function problemOf(centre: Centre, asked: URLSearchParams): string | undefined {
  const scopes = words(asked.get("scope"));
  if (asked.get("client_id") !== INSTITUTION.clientId) return CLIENT;
  if (asked.get("redirect_uri") !== centre.redirectUrl) return REDIRECT_URI;
  if (asked.get("response_type") !== "code") return RESPONSE_TYPE;
  if (scopes.length === 0 || !scopes.every((scope) => PERSONAL.includes(scope))) return SCOPE;
  if (asked.get("state")?.length !== STATE_LENGTH) return MISSING;
  return /^[012]$/.test(asked.get("auth_type") ?? "") ? undefined : MISSING;
}

/** POST /oauth/2.0/token */
export function token(centre: Centre, { method, headers, body }: Call): object {
  if (method !== "POST") return refused("O0010");
  if (!headers.get("content-type")?.startsWith("application/x-www-form-urlencoded")) return refused("O0001", MISSING);
  const form = new URLSearchParams(body);
  if (form.get("client_id") !== INSTITUTION.clientId || form.get("client_secret") !== INSTITUTION.clientSecret) {
    return refused("O0001", CLIENT);
  }
  switch (form.get("grant_type")) {
    case "authorization_code":
      return exchange(centre, form);
    case "refresh_token":
      return refresh(centre, form);
    case "client_credentials":
      return own(centre, form);
    default:
      return refused("O0001", MISSING);
  }
}

function exchange({ tokens }: Centre, form: URLSearchParams): object {
  const code = tokens.takeCode(form.get("code") ?? "");
  if (!code) return refused("O0001", SESSION);
  if (form.get("redirect_uri") !== code.redirectUri) return refused("O0001", REDIRECT_URI);
  return pair(tokens.issuePair(code.userSeqNo, code.scopes), tokens.seconds);
}

/** Gives a new pair. The refresh token is used up; the access token from before goes on to the end of its days. */
function refresh({ tokens, consents }: Centre, form: URLSearchParams): object {
  const old = tokens.find(form.get("refresh_token") ?? "", "refresh");
  if (!old || consents.findUser(old.userSeqNo)?.isClosed) return refused("O0002");
  if (tokens.isExpired(old)) return refused("O0003");
  const scopes = words(form.get("scope")).toSorted();
  if (scopes.length === 0 || !scopes.every((scope) => old.scopes.includes(scope))) return refused("O0001", SCOPE);
  tokens.revoke(old);
  return pair(tokens.issuePair(old.userSeqNo, scopes), tokens.seconds);
}

function own({ tokens }: Centre, form: URLSearchParams): object {
  const scope = form.get("scope") ?? "";
  if (scope === "sa") return refused("O0011");
  if (scope !== "oob") return refused("O0001", MISSING);
  const issued = bearer(tokens.issueOwn(), tokens.seconds);
  // It was seen with quotes and without.
  return { ...issued, expires_in: `${issued.expires_in}`, client_use_code: INSTITUTION.code };
}

const pair = (tokens: { access: Token; refresh: Token }, seconds: number) => ({
  ...bearer(tokens.access, seconds),
  refresh_token: tokens.refresh.value,
  user_seq_no: tokens.access.userSeqNo,
});

const bearer = ({ value, scopes }: Token, seconds: number) => ({
  access_token: value,
  token_type: "Bearer",
  expires_in: seconds,
  scope: scopes.join(" "),
});

const refused = (code: string, number = "") => ({
  rsp_code: code,
  rsp_message: `${centreMessage(code)}${number && `([${number}])`}`,
});

const words = (text: string | null) => (text ?? "").split(" ").filter(Boolean);
