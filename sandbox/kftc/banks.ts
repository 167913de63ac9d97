/** The banks that take part, by the code that stands for them everywhere. 097 is the centre's own, for tests. */
export const BANKS: Record<string, string> = {
  "002": "산업은행",
  "003": "기업은행",
  "004": "국민은행",
  "007": "수협은행",
  "011": "농협은행",
  "020": "우리은행",
  "023": "SC제일은행",
  "027": "한국씨티은행",
  "031": "iM뱅크",
  "032": "부산은행",
  "034": "광주은행",
  "035": "제주은행",
  "037": "전북은행",
  "039": "경남은행",
  "045": "새마을금고",
  "048": "신협",
  "071": "우체국",
  "081": "하나은행",
  "088": "신한은행",
  "089": "케이뱅크",
  "090": "카카오뱅크",
  "092": "토스뱅크",
  "097": "오픈은행",
};

export const bankName = (code: string) => BANKS[code] ?? "";

/** The three fields that tell a bank, after a prefix: "" or dps_ or wd_. */
export const bankFields = (prefix: string, code: string) => ({
  [`${prefix}bank_code_std`]: code,
  [`${prefix}bank_code_sub`]: `${code}0001`,
  [`${prefix}bank_name`]: bankName(code),
});
