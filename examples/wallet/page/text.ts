import type { Order } from "./outbox.ts";
import type { CallError } from "./rpc.ts";

/** Everything that people read, in Korean and English, and how they read money and days. */

const ko = {
  language: "ko",
  other: "English",
  wallet: "지갑",
  signOut: "로그아웃",
  close: "닫기",
  inDoubt: "결과를 확인하고 있어요",
  inDoubtWhy: "답을 받지 못했어요. 같은 요청을 다시 보내 확인하니 두 번 처리되지 않아요.",
  checkAgain: "다시 확인",
  atBank: "은행에서 처리하고 있어요",
  declinedLater: (why: string) => `은행이 거절해서 옮겨지지 않았어요. ${why}`,

  welcome: "돈이 오가는 대화,\nChatPay 지갑",
  welcomeMore: "은행 계좌를 연결하고, 보내고, 모으세요.",
  password: "비밀번호",
  passwordSignIn: "비밀번호",
  codeSignIn: "인증 코드",
  signUpTab: "가입",
  signIn: "로그인",
  signUp: "가입하기",
  email: "이메일",
  newPassword: "비밀번호 (8자 이상)",
  noPassword: "비워 두면 인증 코드로만 로그인해요.",
  name: "이름",
  code: "인증 코드 6자리",
  getCode: "인증 코드 받기",
  codeSent: (email: string) => `코드를 보냈어요: ${email}`,
  openInbox: "메일함 열기",
  resend: "코드 다시 받기",
  otherEmail: "다른 이메일",

  available: "쓸 수 있는 돈",
  balance: "잔액",
  held: "묶인 돈",
  walletId: "지갑 번호",
  copy: "복사",
  copied: "지갑 번호를 복사했어요.",
  frozen: "지갑이 정지되어 있어요. 받을 수만 있어요.",
  orders: { topUp: "충전", withdraw: "출금", send: "송금", pay: "결제", save: "저금", unsave: "꺼내기" },
  done: {
    topUp: "충전했어요",
    withdraw: "출금했어요",
    send: "보냈어요",
    pay: "결제했어요",
    save: "저금했어요",
    unsave: "꺼냈어요",
  },
  amount: "금액",
  all: "전액",
  plus: (man: number) => `+${man}만`,

  banks: "연결한 계좌",
  noBanks: "은행 계좌를 연결하면 충전하고 출금할 수 있어요.",
  link: "계좌 연결",
  linked: (count: number) => `계좌 ${count}개를 연결했어요.`,
  linkRefused: "계좌 연결을 취소했어요.",
  taken: (numbers: string) => `다른 사람이 이미 연결한 계좌라 빠졌어요: ${numbers}`,
  primary: "주 계좌",
  automatic: "자동 충전",
  asking: "잔액 확인 중…",
  away: "은행이 답하지 않아요",
  consentGone: "동의가 끝났어요. 다시 연결해 주세요.",
  readOnly: "조회만 동의한 계좌예요",
  bankSettings: "계좌 설정",
  alias: "별명",
  makePrimary: "주 계좌로 쓰기",
  automaticWhy: "송금하거나 결제할 때 모자라면 주 계좌인 이 계좌에서 채워요.",
  unit: "채우는 단위",
  unitExact: "모자란 만큼만",
  save: "저장",
  unlink: "연결 끊기",
  unlinkSure: "정말 끊을까요?",
  unlinked: "계좌 연결을 끊었어요.",
  saved: "저장했어요.",

  topUpTitle: "얼마를 충전할까요?",
  withdrawTitle: "얼마를 출금할까요?",
  from: "어느 계좌에서",
  to: "어느 계좌로",
  sendTitle: "누구에게 보낼까요?",
  recipient: "받는 지갑 번호",
  memo: "메모 (선택)",
  willTopUp: (bank: string) => `잔액이 모자라면 ${bank}에서 자동으로 채워요.`,
  payTitle: "데모 상점",
  goods: [
    { name: "아메리카노", price: 4_500 },
    { name: "동네서점 책", price: 16_800 },
    { name: "무선 이어폰", price: 89_000 },
  ],
  pin: "결제 PIN 6자리",
  newPin: "새 결제 PIN 6자리",
  pinFirst: "이 금액부터는 결제 PIN이 필요해요. 이메일로 받은 코드로 정해 주세요.",

  savings: "저금통",
  noSavings: "쓸 돈과 모을 돈을 나눠 보세요.",
  newSavings: "새 저금통",
  savingsName: "저금통 이름",
  open: "만들기",
  putIn: "넣기",
  takeOut: "꺼내기",

  statement: "거래 내역",
  noEntries: "아직 거래가 없어요.",
  more: "더 보기",
  download: "CSV 받기",
  entries: {
    received: "받은 돈",
    sent: "보낸 돈",
    payment: "결제",
    adjustment: "운영자 조정",
    topUp: "충전",
    automatic: "자동 충전",
    withdraw: "출금",
    save: "저금",
    unsave: "저금통에서 꺼냄",
  },
};

type Texts = typeof ko;

const en: Texts = {
  language: "en",
  other: "한국어",
  wallet: "Wallet",
  signOut: "Sign out",
  close: "Close",
  inDoubt: "Finding out what became of this",
  inDoubtWhy: "No answer came. The same request is sent again to find out, so it happens once.",
  checkAgain: "Check again",
  atBank: "The bank is working on it",
  declinedLater: (why) => `The bank declined, and nothing moved. ${why}`,

  welcome: "Money in your chats:\nthe ChatPay wallet",
  welcomeMore: "Link a bank, send, and save.",
  password: "Password",
  passwordSignIn: "Password",
  codeSignIn: "Code",
  signUpTab: "Sign up",
  signIn: "Sign in",
  signUp: "Sign up",
  email: "E-mail",
  newPassword: "Password (8 characters or more)",
  noPassword: "Leave it empty to sign in with codes only.",
  name: "Name",
  code: "Code of 6 digits",
  getCode: "Send me a code",
  codeSent: (email) => `A code is on its way to ${email}.`,
  openInbox: "Open the inbox",
  resend: "Send another",
  otherEmail: "Another e-mail",

  available: "Available",
  balance: "Balance",
  held: "Held",
  walletId: "Wallet",
  copy: "Copy",
  copied: "The wallet number is copied.",
  frozen: "The wallet is frozen. It receives but does not pay.",
  orders: { topUp: "Top up", withdraw: "Withdraw", send: "Send", pay: "Pay", save: "Save", unsave: "Take out" },
  done: {
    topUp: "Topped up",
    withdraw: "Withdrew",
    send: "Sent",
    pay: "Paid",
    save: "Saved",
    unsave: "Took out",
  },
  amount: "Amount",
  all: "All",
  plus: (man) => `+${man}0,000`,

  banks: "Bank accounts",
  noBanks: "Link a bank account to top up and withdraw.",
  link: "Link a bank",
  linked: (count) => (count === 1 ? "1 account is linked." : `${count} accounts are linked.`),
  linkRefused: "No account was linked.",
  taken: (numbers) => `Left out, because somebody else has linked them: ${numbers}`,
  primary: "Primary",
  automatic: "Automatic top-up",
  asking: "Asking the bank…",
  away: "The bank does not answer",
  consentGone: "The consent has ended. Link it again.",
  readOnly: "To look at only",
  bankSettings: "Bank account",
  alias: "Name",
  makePrimary: "Primary account",
  automaticWhy: "What a payment or transfer finds missing is drawn from here, as the primary account.",
  unit: "Draw in steps of",
  unitExact: "exactly what is missing",
  save: "Save",
  unlink: "Unlink",
  unlinkSure: "Unlink it for good?",
  unlinked: "The account is not linked any more.",
  saved: "Saved.",

  topUpTitle: "How much comes in?",
  withdrawTitle: "How much goes out?",
  from: "From",
  to: "To",
  sendTitle: "Who gets it?",
  recipient: "Number of their wallet",
  memo: "Memo (optional)",
  willTopUp: (bank) => `What is missing is drawn from ${bank}.`,
  payTitle: "Demo shop",
  goods: [
    { name: "Americano", price: 4_500 },
    { name: "A book", price: 16_800 },
    { name: "Earphones", price: 89_000 },
  ],
  pin: "Payment PIN of 6 digits",
  newPin: "New payment PIN of 6 digits",
  pinFirst: "This amount needs a payment PIN. Choose one, with a code that goes to your e-mail.",

  savings: "Savings",
  noSavings: "Keep apart what you want to save.",
  newSavings: "New savings",
  savingsName: "What it is for",
  open: "Open",
  putIn: "Put in",
  takeOut: "Take out",

  statement: "Statement",
  noEntries: "Nothing has moved yet.",
  more: "More",
  download: "Download CSV",
  entries: {
    received: "Received",
    sent: "Sent",
    payment: "Payment",
    adjustment: "Adjustment",
    topUp: "Top-up",
    automatic: "Automatic top-up",
    withdraw: "Withdrawal",
    save: "Saved",
    unsave: "Out of savings",
  },
};

/** The texts in the language that was chosen. */
export let t: Texts = ko;

const STORE = "chatpay.language";

/** Takes the language that was chosen before, or that of the browser. */
export function readLanguage() {
  speak(localStorage.getItem(STORE) ?? (navigator.language.startsWith("ko") ? "ko" : "en"));
}

export function switchLanguage() {
  speak(t === ko ? "en" : "ko");
  localStorage.setItem(STORE, t.language);
}

function speak(language: string) {
  t = language === "en" ? en : ko;
  document.documentElement.lang = t.language;
}

export const won = (amount: string | bigint | number = 0) => {
  const digits = BigInt(amount).toLocaleString("en-US");
  return t === ko ? `${digits}원` : digits.replace(/^-?/, "$&₩");
};

/** The day of a time in Seoul, and its hour. */
export const day = (time: string) =>
  new Date(time).toLocaleDateString(t.language, {
    month: "long",
    day: "numeric",
    weekday: "short",
    timeZone: "Asia/Seoul",
  });
export const hour = (time: string) =>
  new Date(time).toLocaleTimeString(t.language, { hour: "2-digit", minute: "2-digit", timeZone: "Asia/Seoul" });

/** What has come of an order, for the one who made it. */
export const done = ({ what, amount }: Order) =>
  t === ko ? `${won(amount)}을 ${t.done[what]}.` : `${t.done[what]} ${won(amount)}.`;

export const underWay = ({ what, amount }: Order) =>
  t === ko
    ? `${t.orders[what]} ${won(amount)}: 은행의 답을 기다리고 있어요.`
    : `${t.orders[what]} ${won(amount)}: the bank has not said yet.`;

type Said = (info: Record<string, string>, error: CallError) => [ko: string, en: string];

/** What went wrong, and what to do next. Everything else is said in the words of the server. */
const REASONS: Record<string, Said> = {
  SIGN_IN_FAILED: () => [
    "이메일이나 비밀번호가 맞지 않아요. 다시 입력해 주세요.",
    "E-mail and password do not belong together. Try again.",
  ],
  CODE_INVALID: () => [
    "코드가 맞지 않거나 시간이 지났어요. 코드를 다시 받아 주세요.",
    "The code is wrong or too old. Ask for a new one.",
  ],
  ADDRESS_TAKEN: () => ["이미 가입한 이메일이에요. 로그인해 주세요.", "This e-mail has an account. Sign in."],
  PASSWORD_TOO_SIMPLE: () => [
    "이메일과 같은 비밀번호는 쓸 수 없어요. 다른 비밀번호로 해 주세요.",
    "The password must not be the e-mail. Choose another.",
  ],
  REFRESH_TOKEN_INVALID: () => ["로그인이 끝났어요. 다시 로그인해 주세요.", "You are signed out. Sign in again."],
  TOO_MANY_ATTEMPTS: (_, { retrySeconds }) => [
    `너무 자주 시도했어요. ${retrySeconds}초 뒤에 다시 해 주세요.`,
    `Too many attempts. Try again in ${retrySeconds} s.`,
  ],
  RATE_LIMITED: () => ["요청이 너무 많아요. 잠시 뒤에 다시 해 주세요.", "Too many requests. Try again in a moment."],
  INSUFFICIENT_FUNDS: ({ available }) => [
    `쓸 수 있는 돈이 ${won(available)}이라 모자라요. 충전하거나 자동 충전을 켜 주세요.`,
    `There is ${won(available)}, which is too little. Top up, or turn automatic top-up on.`,
  ],
  WALLET_FROZEN: () => [
    "지갑이 정지되어 보낼 수 없어요. 고객센터에 문의해 주세요.",
    "The wallet is frozen. Ask the help desk.",
  ],
  WALLET_CLOSED: () => ["닫힌 지갑이에요. 지갑 번호를 확인해 주세요.", "That wallet is closed. Check its number."],
  WALLET_NOT_FOUND: () => [
    "그런 지갑이 없어요. 지갑 번호를 확인해 주세요.",
    "There is no such wallet. Check its number.",
  ],
  SAME_WALLET: () => ["내 지갑이에요. 받는 사람의 번호를 입력해 주세요.", "That is your own wallet. Enter theirs."],
  PIN_REQUIRED: () => ["결제 PIN을 입력해 주세요.", "Enter your payment PIN."],
  PIN_WRONG: ({ tries_left }) => [
    `PIN이 맞지 않아요. ${tries_left}번 더 입력할 수 있어요.`,
    `The PIN is wrong. ${tries_left} more tries.`,
  ],
  PIN_LOCKED: () => ["PIN이 잠겼어요. 코드를 받아 새로 정해 주세요.", "The PIN is locked. Set a new one with a code."],
  PIN_TOO_SIMPLE: () => ["너무 쉬운 PIN이에요. 다른 숫자로 정해 주세요.", "That PIN is too simple. Choose another."],
  BANK_DECLINED: (_, { message }) => [`은행이 거절했어요: ${message}`, `The bank declined: ${message}`],
  BANK_REFUSED: (_, { message }) => [`은행이 거절했어요: ${message}`, `The bank refused: ${message}`],
  BANK_STATE_INVALID: () => [
    "연결 요청이 끝났어요. 계좌가 보이지 않으면 다시 연결해 주세요.",
    "This consent is used up. If you miss the account, link it again.",
  ],
  BANK_CONSENT_REFUSED: () => ["연결이 되지 않았어요. 다시 연결해 주세요.", "It was not linked. Start again."],
  BANK_PERSON_MISMATCH: () => ["본인 계좌만 연결할 수 있어요.", "Only accounts of your own can be linked."],
  BANK_CONSENT_MISSING: () => [
    "출금 동의가 없는 계좌예요. 다시 연결해 주세요.",
    "You have not agreed to draws. Link it again.",
  ],
  DRAW_LIMIT_EXCEEDED: ({ left }) => [
    `오늘은 ${won(left)}까지 더 충전할 수 있어요.`,
    `You can draw ${won(left)} more today.`,
  ],
  SEND_LIMIT_EXCEEDED: ({ left }) => [`지금은 ${won(left)}까지 보낼 수 있어요.`, `You can send ${won(left)} for now.`],
  BALANCE_LIMIT_EXCEEDED: () => ["지갑에 담을 수 있는 금액을 넘어요.", "That is more than the wallet may hold."],
  REQUEST_INVALID: (_, { message }) => [
    `입력한 내용을 확인해 주세요. (${message})`,
    `Check what you entered. (${message})`,
  ],
};

/** A failure in words for a person. */
export function words(error: CallError): string {
  const known = REASONS[error.reason];
  const [korean, english] = known
    ? known(error.metadata, error)
    : error.code === "unavailable"
      ? ["지금은 연결되지 않아요. 잠시 뒤에 다시 해 주세요.", "No connection just now. Try again in a moment."]
      : [`처리하지 못했어요: ${error.message}`, `It did not work: ${error.message}`];
  return t === ko ? korean : english;
}
