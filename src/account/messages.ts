import { CodePurpose } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { AddressKind } from "./address.ts";

/** What a person is told by mail or text message. */
export type Message =
  | { is: "code"; purpose: CodePurpose; code: string }
  /** Somebody wants to use the address for a new account, or for another one. */
  | { is: "known_address" }
  | { is: "password_changed" }
  /** Which of the account's addresses is a new one now; for those that it had before. */
  | { is: "address_changed"; kind: AddressKind }
  /** A used refresh token came back, and the session was ended. */
  | { is: "session_reused" }
  /** `country` as two letters, or `unknown`. */
  | { is: "country_refused"; purpose: CodePurpose; country: string }
  | { is: "account_closed" };

export type Language = "ko" | "en";

/** A message in words. */
export interface Letter {
  subject: string;
  text: string;
  html: string;
  /** For a phone: short enough for one text message. */
  sms: string;
}

/** What a letter says, paragraph by paragraph. */
interface Draft {
  subject: string;
  paragraphs: (string | { code: string })[];
  sms: string;
}

type Writers = { [M in Message as M["is"]]: (message: M) => Draft };

/** The message in the words of the language. */
export function write(message: Message, language: Language): Letter {
  const writer = (language === "en" ? english : korean)[message.is] as (message: Message) => Draft;
  const { subject, paragraphs, sms } = writer(message);
  return { subject, sms, text: textOf(paragraphs), html: htmlOf(language, subject, paragraphs) };
}

type Purposes = Record<CodePurpose, string>;

const toDo: Purposes = {
  [CodePurpose.UNSPECIFIED]: "go on",
  [CodePurpose.SIGN_UP]: "sign up",
  [CodePurpose.SIGN_IN]: "sign in",
  [CodePurpose.RESET_PASSWORD]: "reset your password",
  [CodePurpose.CHANGE_ADDRESS]: "change your address",
  [CodePurpose.SET_PIN]: "set your payment PIN",
  [CodePurpose.CONFIRM]: "confirm a change",
};

const NOTHING_TO_DO = "If it was you, there is nothing to do.";

const english: Writers = {
  code: ({ purpose, code }) => ({
    subject: `Your ChatPay code to ${toDo[purpose]}`,
    paragraphs: [
      `This is your code to ${toDo[purpose]}:`,
      { code },
      "It works once, for 10 minutes. Type it in where you asked for it, and do not give it to anyone: ChatPay never asks you for it.",
      "If you did not ask for it, there is nothing to do. Nobody gets in without the code.",
    ],
    sms: `ChatPay: ${code} is your code to ${toDo[purpose]}, for 10 minutes. Tell nobody.`,
  }),
  known_address: () => ({
    subject: "You have a ChatPay account",
    paragraphs: [
      "Somebody wanted to use this address for a new ChatPay account, or for another one. It already has an account.",
      "If it was you, sign in with this address. If you do not know the password any more, you can set a new one.",
      "If it was not you, there is nothing to do. Your account is as it was.",
    ],
    sms: "ChatPay: this number has an account. Sign in with it. If it was not you: nothing to do.",
  }),
  password_changed: () => ({
    subject: "Your ChatPay password has changed",
    paragraphs: [
      "The password of your ChatPay account was changed just now, and your other devices were signed out.",
      NOTHING_TO_DO,
      "If it was not you, set a new password at once: choose “forgot password” and ask for a code.",
    ],
    sms: "ChatPay: your password has changed. If it was not you, reset it at once.",
  }),
  address_changed: ({ kind }) => {
    const address = kind === "email" ? "e-mail address" : "phone number";
    return {
      subject: `Your ChatPay account has a new ${address}`,
      paragraphs: [
        `The ${address} of your ChatPay account was changed just now.`,
        NOTHING_TO_DO,
        "If it was not you, change your password and sign out all other devices at once. If you cannot sign in any more, tell those who run your chat app.",
      ],
      sms: `ChatPay: your account has a new ${address}. Not you? Change your password at once.`,
    };
  },
  session_reused: () => ({
    subject: "You were signed out of ChatPay on one device",
    paragraphs: [
      "A credential of one of your devices was used twice. That happens when somebody has copied it, so we signed the device out.",
      "Sign in again on your device. If you are signed out again, or see devices that you do not know, change your password.",
    ],
    sms: "ChatPay: a device was signed out for safety. Sign in again; change your password.",
  }),
  country_refused: ({ purpose, country }) => ({
    subject: "We refused somebody from another country",
    paragraphs: [
      `Somebody wanted to ${toDo[purpose]} with this address from ${placeName("en", country) ?? "a place that we do not know"}. ChatPay cannot be used from there, so we refused.`,
      "If it was you, try again when you are back.",
      "If it was not you, nobody got in. If you have an account, change its password all the same.",
    ],
    sms: "ChatPay: we refused somebody from another country. Not you? Change your password.",
  }),
  account_closed: () => ({
    subject: "Your ChatPay account is closed",
    paragraphs: [
      "Your ChatPay account was closed just now. Your name, addresses, password and PIN are erased; your past payments stay in the books without your name.",
      "You can sign up again with the same address at any time.",
      "If it was not you, tell those who run your chat app at once.",
    ],
    sms: "ChatPay: your account is closed. Not you? Tell those who run your chat app at once.",
  }),
};

const what: Purposes = {
  [CodePurpose.UNSPECIFIED]: "인증",
  [CodePurpose.SIGN_UP]: "가입",
  [CodePurpose.SIGN_IN]: "로그인",
  [CodePurpose.RESET_PASSWORD]: "비밀번호 재설정",
  [CodePurpose.CHANGE_ADDRESS]: "연락처 변경",
  [CodePurpose.SET_PIN]: "결제 비밀번호 설정",
  [CodePurpose.CONFIRM]: "계정 변경 확인",
};

const ALL_IS_WELL = "본인이 하신 일이라면 아무것도 하지 않으셔도 됩니다.";

const korean: Writers = {
  code: ({ purpose, code }) => ({
    subject: `ChatPay ${what[purpose]} 코드`,
    paragraphs: [
      `ChatPay ${what[purpose]} 코드입니다.`,
      { code },
      "10분 동안 한 번만 쓸 수 있습니다. 코드를 요청하신 화면에 입력하시고, 아무에게도 알려 주지 마세요. ChatPay는 코드를 묻지 않습니다.",
      "요청하신 적이 없다면 무시하셔도 됩니다. 코드 없이는 아무도 들어올 수 없습니다.",
    ],
    sms: `[ChatPay] ${what[purpose]} 코드 ${code} (10분). 아무에게도 알려 주지 마세요.`,
  }),
  known_address: () => ({
    subject: "이미 ChatPay 계정이 있습니다",
    paragraphs: [
      "누군가 이 주소로 새로 가입하거나 다른 계정의 연락처를 바꾸려고 했습니다. 이 주소에는 이미 계정이 있습니다.",
      "본인이셨다면 이 주소로 로그인해 주세요. 비밀번호를 잊으셨다면 새로 정하실 수 있습니다.",
      "본인이 아니라면 아무것도 하지 않으셔도 됩니다. 계정은 그대로입니다.",
    ],
    sms: "[ChatPay] 이미 계정이 있는 번호입니다. 로그인해 주세요. 본인이 아니면 무시하세요.",
  }),
  password_changed: () => ({
    subject: "ChatPay 비밀번호가 바뀌었습니다",
    paragraphs: [
      "방금 ChatPay 계정의 비밀번호가 바뀌었고, 다른 기기는 모두 로그아웃되었습니다.",
      ALL_IS_WELL,
      "본인이 아니라면 지금 바로 ‘비밀번호 찾기’에서 코드를 받아 비밀번호를 새로 정해 주세요.",
    ],
    sms: "[ChatPay] 비밀번호가 바뀌었습니다. 본인이 아니면 바로 재설정해 주세요.",
  }),
  address_changed: ({ kind }) => {
    const address = kind === "email" ? "이메일 주소" : "전화번호";
    return {
      subject: `ChatPay 계정의 ${address}가 바뀌었습니다`,
      paragraphs: [
        `방금 ChatPay 계정의 ${address}가 바뀌었습니다.`,
        ALL_IS_WELL,
        "본인이 아니라면 지금 바로 비밀번호를 바꾸고 다른 기기를 모두 로그아웃해 주세요. 로그인할 수 없다면 채팅 앱 고객센터에 알려 주세요.",
      ],
      sms: `[ChatPay] ${address}가 바뀌었습니다. 본인이 아니면 바로 비밀번호를 바꿔 주세요.`,
    };
  },
  session_reused: () => ({
    subject: "한 기기가 ChatPay에서 로그아웃되었습니다",
    paragraphs: [
      "기기 하나의 로그인 정보가 두 번 사용되었습니다. 누군가 복사했을 수 있어 그 기기를 로그아웃했습니다.",
      "기기에서 다시 로그인해 주세요. 또 로그아웃되거나 모르는 기기가 보이면 비밀번호를 바꿔 주세요.",
    ],
    sms: "[ChatPay] 안전을 위해 기기 하나를 로그아웃했습니다. 비밀번호를 바꿔 주세요.",
  }),
  country_refused: ({ purpose, country }) => ({
    subject: "다른 국가에서 온 요청을 막았습니다",
    paragraphs: [
      `누군가 이 주소로 ${what[purpose]}을 하려고 했습니다. 요청이 온 곳은 ${placeName("ko", country) ?? "알 수 없는 곳"}이며, ChatPay를 쓸 수 없는 곳이라 막았습니다.`,
      "본인이셨다면 돌아오신 뒤에 다시 시도해 주세요.",
      "본인이 아니라면 아무도 들어오지 못했으니 안심하세요. 계정이 있으시면 비밀번호는 바꾸시는 것이 좋습니다.",
    ],
    sms: "[ChatPay] 다른 국가에서 온 요청을 막았습니다. 본인이 아니면 비밀번호를 바꿔 주세요.",
  }),
  account_closed: () => ({
    subject: "ChatPay 계정이 해지되었습니다",
    paragraphs: [
      "방금 ChatPay 계정이 해지되었습니다. 이름, 연락처, 비밀번호와 결제 비밀번호는 지워졌고, 지난 거래 기록은 이름 없이 장부에 남습니다.",
      "같은 주소로 언제든지 다시 가입하실 수 있습니다.",
      "본인이 아니라면 지금 바로 채팅 앱 고객센터에 알려 주세요.",
    ],
    sms: "[ChatPay] 계정이 해지되었습니다. 본인이 아니면 채팅 앱 고객센터에 알려 주세요.",
  }),
};

function placeName(language: Language, country: string): string | undefined {
  if (!/^[A-Z]{2}$/.test(country)) return undefined;
  return new Intl.DisplayNames([language], { type: "region" }).of(country);
}

const textOf = (paragraphs: Draft["paragraphs"]) =>
  `${paragraphs.map((part) => (typeof part === "string" ? part : part.code)).join("\n\n")}\n\nChatPay\n`;

const PAGE =
  "margin:0;padding:24px 12px;background:#f3f4f6;color:#1f2937;word-break:keep-all;overflow-wrap:anywhere;font:16px/1.6 -apple-system,'Segoe UI',sans-serif";
const CARD = "max-width:30em;margin:0 auto;padding:28px 32px;background:#ffffff;border-radius:12px";
const CODE = "margin:24px 0;font-size:34px;font-weight:700;letter-spacing:6px;color:#111827";

/** Everything is in the page itself, so that reading it calls nobody. */
const htmlOf = (language: Language, subject: string, paragraphs: Draft["paragraphs"]) => `<!doctype html>
<html lang="${language}">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width" />
<title>${escape(subject)}</title>
</head>
<body style="${PAGE}">
<div style="${CARD}">
<p style="margin:0 0 20px;font-weight:700;color:#4338ca">ChatPay</p>
${paragraphs
  .map((part) =>
    typeof part === "string"
      ? `<p style="margin:0 0 16px">${escape(part)}</p>`
      : `<p style="${CODE}">${escape(part.code)}</p>`,
  )
  .join("\n")}
</div>
</body>
</html>
`;

const escape = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
