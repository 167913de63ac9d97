import type { Books, ShownAccount, ShownCitizen } from "./control.ts";
import type { Fault, NewFault } from "./faults.ts";

/** What a new citizen may say; won are strings. Without accounts they have none. */
export interface NewPerson {
  name: string;
  birthDate: string;
  ci?: string;
  dayLimit?: string;
  transferLimit?: string;
  accounts?: NewPersonAccount[];
}
interface NewPersonAccount {
  bankCode: string;
  number?: string;
  balance?: string;
  alias?: string;
}
interface Movement {
  amount: string;
  content: string;
  kind?: string;
  branch?: string;
  time?: string;
}
type Where = { bankCode: string; number: string };

/** The centre at `url`, behind the scenes, from any process. Everything it refuses is thrown. */
export function kftcControl(url: string) {
  async function call<T>(method: string, path: string, body?: object): Promise<T> {
    const response = await fetch(`${url}/sandbox/${path}`, { method, body: body && JSON.stringify(body) });
    const answer = (await response.json()) as T & { error?: string };
    if (!response.ok) throw new Error(`${method} ${path}: ${answer.error}`);
    return answer;
  }
  const at = ({ bankCode, number }: Where) => `accounts/${bankCode}/${number}`;

  return {
    listCitizens: () => call<ShownCitizen[]>("GET", "citizens"),
    addCitizen: (person: NewPerson) => call<ShownCitizen>("POST", "citizens", person),
    setLimits: (id: string, limits: { dayLimit?: string; transferLimit?: string }) =>
      call<ShownCitizen>("PATCH", `citizens/${id}`, limits),
    addAccount: (id: string, account: NewPersonAccount) =>
      call<ShownAccount>("POST", `citizens/${id}/accounts`, account),

    getAccount: (where: Where) => call<ShownAccount>("GET", at(where)),
    changeAccount: (where: Where, change: { balance?: string; held?: string; block?: string }) =>
      call<ShownAccount>("PATCH", at(where), change),
    addMovement: (where: Where, movement: Movement) => call<object>("POST", `${at(where)}/movements`, movement),

    /** Both sides of all transfers that moved won. */
    books: () => call<Books>("GET", "books"),

    /** Makes the next call go wrong, or some of the calls that the script is for. */
    script: (fault: NewFault) => call<Fault>("POST", "faults", fault),
    listFaults: () => call<Fault[]>("GET", "faults"),
    clearFaults: () => call<[]>("DELETE", "faults"),
    /** A bank is away until `clearDowntime`. */
    setDown: (bankCode: string, code?: string) => call<object>("POST", "downtime", { bankCode, code }),
    clearDowntime: () => call<object>("DELETE", "downtime"),

    /** Of one person, of the institution (""), or all. Expiring leaves the refresh tokens, revoking leaves none. */
    changeTokens: (to: "expire" | "revoke", userSeqNo?: string) =>
      call<{ changed: number }>("POST", "tokens", { to, userSeqNo }),
    changeConsent: (fintechUseNum: string, to: "expire" | "end", agreement: "inquiry" | "transfer") =>
      call<object>("POST", `consents/${fintechUseNum}`, { to, agreement }),
    /** The centre's clock goes this much ahead. */
    setClock: (offsetMs: number) => call<object>("POST", "clock", { offsetMs }),
    reset: () => call<object>("POST", "reset"),

    /** Does what a person does on the consent page at `consentUrl`, and returns the address they are sent back to. */
    async consent(consentUrl: string, { citizen, accounts, agree }: Choice): Promise<URL> {
      const form = new URLSearchParams({ citizen: citizen.id, decision: "agree" });
      for (const { bankCode, number } of accounts ?? citizen.accounts) form.append("account", `${bankCode}-${number}`);
      for (const agreement of agree ?? (["inquiry", "transfer"] as const)) form.set(agreement, "on");
      return answered(consentUrl, form);
    },
    refuse: (consentUrl: string) => answered(consentUrl, new URLSearchParams({ decision: "refuse" })),
  };
}

interface Choice {
  citizen: ShownCitizen;
  /** All of theirs when left out. */
  accounts?: Where[];
  agree?: ("inquiry" | "transfer")[];
}

async function answered(consentUrl: string, form: URLSearchParams): Promise<URL> {
  const response = await fetch(consentUrl, { method: "POST", body: form, redirect: "manual" });
  const target = response.headers.get("location");
  if (!target)
    throw new Error(
      `no consent: ${/(?<=\(\[)\d{7}(?=\]\))/.exec(await response.text())?.[0] ?? "the page asks again"}`,
    );
  return new URL(target);
}
