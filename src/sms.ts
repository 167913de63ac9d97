import { createHmac } from "node:crypto";
import type { Config } from "./config.ts";

export interface Sms {
  /** A phone number with its country, as +821012345678. */
  to: string;
  text: string;
}

/** Sends text messages through Naver Cloud SENS. */
export interface Texter {
  /** Rejects when SENS does not take it. After a silence nobody knows: it is not sent again, lest it comes twice. */
  send(sms: Sms): Promise<void>;
}

const TIMEOUT_MS = 5_000;
/** What fits into one short message, as SENS encodes it. */
const SHORT_BYTES_MAX = 90;

/** https://api.ncloud-docs.com/docs/en/sens-sms-send */
export function openTexter({ baseUrl, serviceId, accessKey, secretKey, from }: NonNullable<Config["sms"]>): Texter {
  const path = `/sms/v2/services/${serviceId}/messages`;
  const target = new URL(`${baseUrl.replace(/\/$/, "")}${path}`);
  return {
    async send({ to, text }) {
      const timestamp = String(Date.now());
      const { countryCode, number } = partsOf(to);
      const response = await fetch(target, {
        method: "POST",
        headers: {
          "content-type": "application/json; charset=utf-8",
          "x-ncp-apigw-timestamp": timestamp,
          "x-ncp-iam-access-key": accessKey,
          "x-ncp-apigw-signature-v2": signatureOf(secretKey, `POST ${target.pathname}\n${timestamp}\n${accessKey}`),
        },
        body: JSON.stringify({
          type: encodedBytes(text) <= SHORT_BYTES_MAX ? "SMS" : "LMS",
          contentType: "COMM",
          countryCode,
          from,
          content: text,
          messages: [{ to: number }],
        }),
        redirect: "error",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      await response.body?.cancel();
      if (response.status !== 202) throw Object.assign(new Error("SENS refused a message"), { code: response.status });
    },
  };
}

const signatureOf = (secretKey: string, text: string) => createHmac("sha256", secretKey).update(text).digest("base64");

/** The calling codes that have one or two digits; all others have three. */
const SHORT_CODE = /^(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58])/;

const callingCodeOf = (digits: string) => SHORT_CODE.exec(digits)?.[0] ?? digits.slice(0, 3);

/** Whether numbers may begin with it, and nothing less or more is the code. */
export const isCallingCode = (text: string) => /^[1-9][0-9]*$/.test(text) && callingCodeOf(`${text}00`) === text;

/** SENS takes the country apart from the number, which in Korea it wants as people dial it. */
function partsOf(phone: string) {
  const digits = phone.slice(1);
  const countryCode = callingCodeOf(digits);
  const number = digits.slice(countryCode.length);
  return { countryCode, number: countryCode === "82" ? `0${number}` : number };
}

/** The length in EUC-KR, where all but ASCII takes two bytes. */
const encodedBytes = (text: string): number => text.length + text.replaceAll(/[\n -~]/g, "").length;
