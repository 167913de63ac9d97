/**
 * What the codes of the centre and of banks mean for money. Only what is listed here as refused is taken for that;
 * whatever else is said leaves open what became of the money, also what nobody has heard of yet.
 */

export const DONE = "A0000";
/** The bank's own code says it; at A0009 that of each item. */
const BY_BANK = new Set([DONE, "A0002", "A0009"]);
export const NO_TRANSFER = "A0310";
export const NO_TRANSACTIONS = "A0018";
export const BANK_DONE = "000";

/** The token is refused or has expired. */
const TOKEN = new Set(["O0002", "O0003"]);

const TRY_LATER = "지금은 은행 거래를 할 수 없습니다. 잠시 후 다시 시도해 주세요.";
const LINK_AGAIN = "계좌를 다시 연결해 주세요.";
const ASK_BANK = "은행에 문의해 주세요.";

/** Where the centre's own words are about how we talk with it, and would tell a person nothing. */
const OURS: Record<string, string> = {
  ...all("A0004 A0005 A0010 A0011 A0012 A0013 A0301 A0302 A0307 A0322", TRY_LATER),
  ...all("A0101 A0102 A0103 A0104 A0105 A0106", TRY_LATER),
  ...all("O0001 O0004 O0005 O0006 O0008 O0009 O0010 O0011 O0012 O0201", TRY_LATER),
};

/** What the centre refuses without asking a bank. */
const CENTRE: Record<string, string> = {
  ...OURS,
  ...all("A0014 A0019 A0337", `오픈뱅킹을 이용하고 있지 않습니다. ${LINK_AGAIN}`),
  ...all("A0020", "지금은 은행 점검 시간입니다. 잠시 후 다시 시도해 주세요."),
  ...all("A0111", "한 번에 출금할 수 있는 한도를 넘었습니다."),
  ...all("A0112", "하루에 출금할 수 있는 한도를 넘었습니다."),
  ...all("A0304 A0313 A0317 A0323 A0327", `오픈뱅킹에 등록되지 않은 계좌입니다. ${LINK_AGAIN}`),
  ...all("A0305 A0306 A0316 A0319 A0334", `계좌 이용 동의가 없거나 끝났습니다. ${LINK_AGAIN}`),
  ...all("A0312", "받는 분의 이름이 예금주와 다릅니다."),
  ...all("A0321", "예금주 정보를 확인해 주세요."),
};

/** What a bank refuses. */
const BANK: Record<string, string> = {
  ...all("412 414 415 416 417 425", "거래할 수 없는 계좌입니다."),
  ...all("413 418 419 420 422 424 427 428", `계좌 상태 때문에 거래할 수 없습니다. ${ASK_BANK}`),
  ...all("452", `비밀번호를 여러 번 틀려 거래할 수 없습니다. ${ASK_BANK}`),
  ...all("453 454", "계좌의 잔액이 부족합니다."),
  ...all("455", "은행의 1회 이체 한도를 넘었습니다."),
  ...all("456", "은행의 1일 이체 한도를 넘었습니다."),
  ...all("458", "입금된 지 30분이 지나야 출금할 수 있습니다."),
  ...all("461 462 463 464", `예금주 정보가 은행에 등록된 것과 다릅니다. ${ASK_BANK}`),
  ...all("467", `오래 쓰지 않은 계좌입니다. ${ASK_BANK}`),
  ...all("468", `계좌 이용 동의가 끝났습니다. ${LINK_AGAIN}`),
  ...all("470 471 472 473 474 475 476 477 490 499", `은행이 거래를 제한한 계좌입니다. ${ASK_BANK}`),
  ...all("551 555 556", `오픈뱅킹에 등록되지 않은 계좌입니다. ${LINK_AGAIN}`),
};

function all(codes: string, words: string): Record<string, string> {
  return Object.fromEntries(codes.split(" ").map((code) => [code, words]));
}

/** Refused today, and perhaps not in an hour: the hours of banks, and how often we may call. */
const PASSING = new Set(["A0020", "O0008", "O0009"]);

/** That there is nothing to end: no consent, no such account or person any more. */
const ENDED = new Set(["A0014", "A0305", "A0306", "A0316", "A0319", "A0323", "A0334", "A0337", "551", "555", "556"]);

export const isToken = (code: string) => TOKEN.has(code);
export const isByBank = (code: string) => BY_BANK.has(code);
export const isRefusal = (code: string) => Object.hasOwn(CENTRE, code);
export const isBankRefusal = (code: string) => Object.hasOwn(BANK, code);
export const isPassing = (code: string) => PASSING.has(code);
export const isEnded = (code: string) => ENDED.has(code);

/** What a person is told: as the bank or the centre says it, else in Korean as they do. */
export const wordsOf = (code: string, theirs: string): string =>
  OURS[code] ?? (theirs || (CENTRE[code] ?? BANK[code] ?? TRY_LATER));

/** Nothing left this machine. */
export const NOT_SENT_WORDS = "은행에 연결할 수 없어 돈이 움직이지 않았습니다. 잠시 후 다시 시도해 주세요.";
