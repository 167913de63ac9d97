/** The codes that the centre (A…, O…) and the banks (three digits) answer with, and their words. */

const CENTRE: Record<string, string> = {
  A0000: "",
  A0001: "처리중",
  A0002: "참가기관 에러 [API업무처리시스템 - 참가기관 응답코드를 확인하시기 바랍니다.]",
  A0003: "내부 처리 에러",
  A0004: "요청전문 포맷 에러",
  A0007: "처리시간 초과 에러",
  A0009: "상세내역 처리 실패",
  A0012: "등록되지 않은 API입니다.",
  A0014: "해지된 사용자입니다.",
  A0017: "참가기관 응답시간 초과",
  A0018: "거래내역이 존재하지 않습니다.",
  A0020: "참가기관 서비스 이용시간이 아닙니다.",
  A0105: "이용기관 1회 출금한도 초과",
  A0106: "이용기관 1회 입금한도 초과",
  A0111: "사용자 1회 출금한도 초과",
  A0112: "사용자 1일 출금한도 초과",
  A0304: "핀테크이용번호 불일치",
  A0305: "조회 동의가 없습니다.",
  A0306: "출금 동의가 없습니다.",
  A0307: "입금이체용 암호문구 불일치",
  A0310: "해당 거래내역이 없습니다.",
  A0312: "수취인 성명 불일치",
  A0313: "사용자 불일치",
  A0316: "조회 동의 유효기간 만료",
  A0319: "출금 동의 유효기간 만료",
  A0321: "예금주 실명번호 형식 오류",
  A0322: "등록되지 않은 약정계좌입니다.",
  A0323: "등록되지 않은 핀테크이용번호입니다.",
  A0326: "중복된 거래고유번호입니다.",
  A0337: "존재하지 않는 사용자입니다.",
  O0001: "인증 파라미터 오류",
  O0002: "Access Token 거부",
  O0003: "Access Token 유효기간 만료",
  O0010: "허용되지 않은 HTTP Method 입니다.",
  O0011: "허용되지 않은 Scope 입니다.",
};

const BANK: Record<string, string> = {
  "000": "",
  "400": "처리중",
  "412": "계좌번호 오류(해당 계좌 없음)",
  "413": "거래가 제한된 계좌입니다",
  "416": "해지된 계좌입니다",
  "425": "법적제한 계좌입니다",
  "452": "비밀번호 오류횟수 초과",
  "453": "잔액부족",
  "454": "출금가능금액 부족",
  "455": "1회 이체한도 초과",
  "456": "1일 이체한도 초과",
  "461": "예금주명 불일치",
  "463": "실명번호 불일치",
  "467": "휴면계좌",
  "468": "출금동의 기간 만료",
  "490": "고객 요청으로 오픈뱅킹 이용이 제한된 계좌",
  "499": "기타 거래 불가",
  "803": "은행 내부 오류",
  "804": "은행 처리시간 초과",
  "819": "은행 송신 실패",
  "822": "은행 거래고유번호 중복",
};

/** The words of a code of the centre. */
export const centreMessage = (code: string) => CENTRE[code] ?? "기타 오류";

/** The words of a bank. */
export const bankMessage = (code: string) => BANK[code] ?? "기타 거래 불가";

/** Three digits are a bank's word, everything else the centre's. */
export const isBankCode = (code: string) => /^\d{3}$/.test(code);

/** The centre says no, before any bank has heard of it. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, detail = "") {
    super(`${centreMessage(code)}${detail && `(${detail})`}`);
    this.code = code;
  }
}

/** The bank of this account says no. */
export class BankRefusal extends Error {
  readonly code: string;
  readonly bankCode: string;
  constructor(code: string, bankCode: string) {
    super(bankMessage(code));
    this.code = code;
    this.bankCode = bankCode;
  }
}
