import { escape, htmlPage } from "../html.ts";
import { bankName } from "./banks.ts";
import { type Account, type Citizen, masked } from "./ledger.ts";

/** The pages of the consent, as people see them who come from an institution. */

/** Step one: who are you? */
export const peoplePage = (asked: URLSearchParams, citizens: Citizen[]) =>
  consentPage(
    "본인확인",
    `${steps(1)}
<h2>누구신가요?</h2>
<p class="soft">오픈뱅킹 서비스를 이용하실 분을 선택해 주세요.</p>
<div class="people">${citizens.map((citizen) => personCard(asked, citizen)).join("\n")}</div>
<form method="post" class="new">
  <h3>다른 이름으로 시작하기</h3>
  <div class="fields">
    <label>이름 <input name="name" required maxlength="20" placeholder="홍길동" autocomplete="off"></label>
    <label>생년월일 <input name="birth_date" required pattern="[0-9]{4}-?[0-9]{2}-?[0-9]{2}" placeholder="1990-01-31" autocomplete="off"></label>
    <button name="decision" value="enter">확인</button>
  </div>
  <p class="soft">국민은행, 신한은행, 카카오뱅크에 100만 원씩 든 계좌가 만들어집니다.</p>
</form>`,
  );

/** Step two: which accounts, and what for? */
export const accountsPage = (asked: URLSearchParams, citizen: Citizen, scopes: string[], problem = "") =>
  consentPage(
    "계좌 선택 및 동의",
    `${steps(2)}
<h2>${escape(citizen.name)}님, 연결할 계좌를 선택해 주세요</h2>
${problem && `<p class="problem" role="alert">${escape(problem)}</p>`}
<form method="post">
  <input type="hidden" name="citizen" value="${escape(citizen.id)}">
  <div class="accounts">${citizen.accounts.map(accountCard).join("\n")}</div>
  <h3>동의 항목</h3>
  <div class="agreements">
    ${scopes.includes("inquiry") ? agreement("inquiry", "금융정보 조회 동의", "잔액과 거래내역을 ChatPay에 제공합니다.") : ""}
    ${scopes.includes("transfer") ? agreement("transfer", "출금 동의", "요청하신 금액을 선택한 계좌에서 ChatPay로 출금합니다.") : ""}
  </div>
  <p class="soft">동의는 1년간 유효하며 언제든지 해지할 수 있습니다.</p>
  <div class="buttons">
    <button name="decision" value="refuse" class="quiet" formnovalidate>거절</button>
    <button name="decision" value="agree">동의하고 계속</button>
  </div>
</form>
<p class="soft"><a href="/oauth/2.0/authorize?${escape(without(asked, "citizen"))}">다른 사람으로 하기</a></p>`,
  );

/** The centre's own page for what an institution did wrong. */
export const errorPage = (code: string) =>
  consentPage(
    "오류",
    `<div class="wrong"><h2>요청을 처리할 수 없습니다</h2>
<p>서비스를 제공하는 이용기관에 문의해 주세요.</p>
<p class="code">O0001 · 인증 파라미터 오류([${escape(code)}])</p></div>`,
  );

const consentPage = (title: string, body: string) =>
  htmlPage({
    title: `오픈뱅킹 · ${title}`,
    lang: "ko",
    style: STYLE,
    body: `<header><span class="mark">오픈뱅킹</span><span class="soft">금융결제원 · 샌드박스</span></header>
<main>${body}</main>
<footer class="soft">이 화면은 연습용이며 실제 금융기관과 연결되지 않습니다.</footer>`,
  });

const steps = (now: number) =>
  `<ol class="steps">${["본인확인", "계좌 선택", "완료"]
    .map((name, index) => `<li${index + 1 === now ? ' aria-current="step"' : ""}>${name}</li>`)
    .join("")}</ol>`;

function personCard(asked: URLSearchParams, { id, name, birthDate, accounts }: Citizen) {
  const next = new URLSearchParams(without(asked, "citizen"));
  next.set("citizen", id);
  const banks = [...new Set(accounts.map(({ bankCode }) => bankName(bankCode)))].join(" · ");
  return `<a class="person" href="/oauth/2.0/authorize?${escape(`${next}`)}">
  <span class="face">${escape(name.slice(0, 1))}</span>
  <span><strong>${escape(name)}</strong> <span class="soft">${escape(birthDate.replace(/^(....)(..)(..)$/, "$1. $2. $3."))}</span>
  <br><span class="soft">${banks || "계좌 없음"}</span></span>
</a>`;
}

const accountCard = ({ bankCode, number, alias, productName, block }: Account) => `<label class="account">
  <input type="checkbox" name="account" value="${bankCode}-${number}"${block ? "" : " checked"}>
  <span class="bank b${bankCode}">${escape(bankName(bankCode).slice(0, 1))}</span>
  <span class="names"><strong>${bankName(bankCode)}</strong> ${escape(masked(number))}
  <br><span class="soft">${escape(alias || productName)}</span></span>
</label>`;

const agreement = (name: string, title: string, about: string) => `<label class="agreement">
  <input type="checkbox" name="${name}" checked>
  <span><strong>${title}</strong><br><span class="soft">${about}</span></span>
</label>`;

function without(asked: URLSearchParams, name: string): string {
  const rest = new URLSearchParams(asked);
  rest.delete(name);
  return `${rest}`;
}

const STYLE = `  body { max-width: 30rem; word-break: keep-all; accent-color: #1550c4; }
  header { display: flex; justify-content: space-between; align-items: baseline; margin-bottom: 0.75rem; }
  .mark { font-weight: 800; font-size: 1.15rem; color: light-dark(#0b3a97, #8fb4ff); letter-spacing: -0.02em; }
  .soft { color: var(--soft); font-size: 0.85rem; }
  main { background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 1.25rem 1.5rem 1.5rem;
    box-shadow: 0 8px 28px light-dark(rgb(20 40 90 / 7%), rgb(0 0 0 / 30%)); }
  footer { text-align: center; margin-top: 1rem; }
  h2 { font-size: 1.25rem; margin: 1.25rem 0 0.25rem; letter-spacing: -0.02em; }
  h3 { font-size: 0.95rem; margin: 1.5rem 0 0.5rem; }
  .steps { display: flex; list-style: none; gap: 0.35rem; padding: 0; margin: 0; counter-reset: step; font-size: 0.8rem; }
  .steps li { flex: 1; color: var(--soft); border-top: 3px solid var(--line); padding-top: 0.4rem; counter-increment: step; }
  .steps li::before { content: counter(step) ". "; }
  .steps li[aria-current] { color: inherit; border-color: #1550c4; font-weight: 600; }
  .people, .accounts, .agreements { display: grid; gap: 0.5rem; margin: 1rem 0 0; }
  .person, .account, .agreement { display: flex; align-items: center; gap: 0.85rem; padding: 0.7rem 0.9rem;
    border: 1px solid var(--line); border-radius: 12px; text-decoration: none; cursor: pointer; line-height: 1.4; }
  .person:hover, .account:hover, .agreement:hover, .account:has(:checked), .agreement:has(:checked) { border-color: #1550c4; }
  .account:has(:checked), .agreement:has(:checked) { background: light-dark(#f3f7ff, #1b2438); }
  .face, .bank { flex: none; width: 2.4rem; height: 2.4rem; border-radius: 50%; display: grid; place-items: center;
    background: light-dark(#dbe6ff, #2a3b66); color: light-dark(#0b3a97, #cfe0ff); font-weight: 700; }
  .bank { background: #5b6b8c; color: #fff; }
  .b004 { background: #ffbc00; color: #4a3b28; } .b088 { background: #0046ff; } .b090 { background: #fee500; color: #1d1d1d; }
  .b092 { background: #0064ff; } .b020 { background: #0067ac; } .b081 { background: #008485; } .b011 { background: #00843d; }
  .b089 { background: #1a1a4b; }
  input[type=checkbox] { width: 1.15rem; height: 1.15rem; flex: none; margin: 0; }
  .new { border-top: 1px solid var(--line); margin-top: 1.5rem; }
  .fields { display: flex; gap: 0.5rem; align-items: end; flex-wrap: wrap; }
  .fields label { flex: 1 1 8rem; font-size: 0.8rem; color: var(--soft); }
  .fields input { font: inherit; font-size: 1rem; width: 100%; box-sizing: border-box; padding: 0.5rem 0.65rem; color: inherit;
    border: 1px solid var(--line); border-radius: 10px; background: transparent; }
  button { font: inherit; font-weight: 600; padding: 0.55rem 1.1rem; border: 0; border-radius: 10px; background: #1550c4;
    color: #fff; cursor: pointer; }
  button:hover { background: #0f419f; }
  button.quiet { background: light-dark(#eceff4, #2c313b); color: inherit; }
  .buttons { display: flex; gap: 0.5rem; margin-top: 1.25rem; }
  .buttons button { flex: 1; padding: 0.8rem; }
  .buttons button:last-child { flex: 2; }
  .problem { background: light-dark(#fff1f0, #3b1d1c); color: light-dark(#b42318, #ffb4ab); border-radius: 10px;
    padding: 0.6rem 0.9rem; }
  .wrong { text-align: center; padding: 1.5rem 0; }
  .code { display: inline-block; font-family: ui-monospace, monospace; background: light-dark(#f2f4f7, #2c313b);
    border-radius: 8px; padding: 0.4rem 0.8rem; }`;
