import type { Ledger } from "./ledger.ts";

const HOUR_MS = 3_600_000;
const OPENED_HOURS_AGO = 24 * 60;

/** Who lives here from the start, for demonstrations: names, birth dates, and what is at which bank. */
const PEOPLE = [
  {
    name: "김하나",
    birthDate: "19920315",
    accounts: [
      {
        bankCode: "088",
        number: "110432198765",
        balance: 2_450_000n,
        alias: "생활비",
        productName: "쏠편한 입출금통장",
      },
      { bankCode: "090", number: "3333018273645", balance: 1_280_300n, alias: "모임통장", productName: "입출금통장" },
      {
        bankCode: "004",
        number: "47910204118273",
        balance: 8_900_000n,
        alias: "비상금",
        productName: "KB맑은하늘통장",
      },
    ],
  },
  {
    name: "이도윤",
    birthDate: "19880722",
    accounts: [
      { bankCode: "004", number: "93320201557781", balance: 5_120_000n, alias: "급여통장", productName: "KB종합통장" },
      { bankCode: "092", number: "100088214507", balance: 310_500n, alias: "용돈", productName: "토스뱅크 통장" },
    ],
  },
  {
    name: "박서연",
    birthDate: "20010109",
    accounts: [
      { bankCode: "020", number: "1002845519023", balance: 740_000n, alias: "알바비", productName: "WON통장" },
      { bankCode: "089", number: "100157723341", balance: 52_000n, alias: "생활비", productName: "생활통장" },
      {
        bankCode: "011",
        number: "3020918845571",
        balance: 3_000_000n,
        alias: "장학금",
        productName: "NH주거래우대통장",
      },
    ],
  },
  {
    name: "최민준",
    birthDate: "19791130",
    accounts: [
      {
        bankCode: "081",
        number: "62191004477307",
        balance: 15_300_000n,
        alias: "사업자금",
        productName: "하나 플러스통장",
      },
    ],
  },
];

const LINES = [
  { amount: 2_850_000n, content: "급여", kind: "급여", hoursAgo: 170 },
  { amount: -12_900n, content: "동네서점", kind: "체크카드", hoursAgo: 52 },
  { amount: -4_800n, content: "커피", kind: "체크카드", hoursAgo: 27 },
];

/** People, their accounts, and a few lines on each first account. */
export function addTown(ledger: Ledger, now: Date) {
  const before = (hours: number) => new Date(now.getTime() - hours * HOUR_MS);
  for (const { name, birthDate, accounts } of PEOPLE) {
    const citizen = ledger.addCitizen({ name, birthDate });
    for (const [index, { balance, ...account }] of accounts.entries()) {
      const opened = ledger.addAccount(citizen, account);
      ledger.book(opened, { amount: balance, content: "신규", kind: "현금", time: before(OPENED_HOURS_AGO) });
      if (index > 0) continue;
      for (const { hoursAgo, ...line } of LINES) ledger.book(opened, { ...line, time: before(hoursAgo) });
    }
  }
}
