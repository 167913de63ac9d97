import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { type Call, listen, type Reply } from "./http.ts";
import { openInbox } from "./inbox.ts";
import { smsPage } from "./page.ts";

export interface Text {
  id: string;
  receiveTime: string;
  type: "SMS" | "LMS";
  from: string;
  /** As people dial it in Korea; elsewhere with the country in front. */
  to: string[];
  text: string;
}

/** The one account that the sandbox knows. */
const ACCOUNT = {
  serviceId: "ncp:sms:kr:000000000000:sandbox",
  accessKey: "sandbox-access-key",
  secretKey: "sandbox-secret-key",
  from: "0200000000",
};

/** What ChatPay is told, so that it sends to the inbox at `url`. */
export const smsSettings = (url: string) => ({
  CHATPAY_SMS_URL: url,
  CHATPAY_SMS_SERVICE_ID: ACCOUNT.serviceId,
  CHATPAY_SMS_ACCESS_KEY: ACCOUNT.accessKey,
  CHATPAY_SMS_SECRET_KEY: ACCOUNT.secretKey,
  CHATPAY_SMS_FROM: ACCOUNT.from,
});

const CLOCK_SKEW_MAX_MS = 5 * 60_000;
const BYTES_MAX = { SMS: 90, LMS: 2_000 };

/** Takes text messages as Naver Cloud SENS does, and shows them over HTTP, at /sms. */
export async function startSmsInbox({ port }: { port: number }) {
  const inbox = openInbox<Text>();
  const path = `/sms/v2/services/${ACCOUNT.serviceId}/messages`;

  function take(call: Call): Reply {
    if (!isSigned(call)) {
      return { status: 401, json: { error: { errorCode: "200", message: "Authentication Failed" } } };
    }
    const order = readOrder(call.body);
    if (!order) return { status: 400, json: { status: "400", errorMessage: "Bad Request" } };
    const { type, countryCode, from, content, messages } = order;
    for (const { to } of messages) {
      inbox.add({
        type,
        from,
        to: [countryCode === "82" ? to : `+${countryCode}${to}`],
        text: cut(content, BYTES_MAX[type]),
      });
    }
    const answer = { requestId: crypto.randomUUID(), requestTime: new Date().toISOString() };
    return { status: 202, json: { ...answer, statusCode: "202", statusName: "success" } };
  }

  const http = await listen(port, (call) => {
    const isOrder = call.method === "POST" && call.url.pathname === path;
    return isOrder ? take(call) : inbox.answer("sms", call, smsPage);
  });
  return { url: `http://127.0.0.1:${http.port}`, port: http.port, stop: http.stop };
}

function isSigned({ method, url, headers }: Call): boolean {
  const timestamp = headers.get("x-ncp-apigw-timestamp") ?? "";
  const { accessKey, secretKey } = ACCOUNT;
  const text = `${method} ${url.pathname}${url.search}\n${timestamp}\n${accessKey}`;
  const expected = createHmac("sha256", secretKey).update(text).digest();
  const given = Buffer.from(headers.get("x-ncp-apigw-signature-v2") ?? "", "base64");
  return (
    headers.get("x-ncp-iam-access-key") === accessKey &&
    Math.abs(Date.now() - Number(timestamp)) <= CLOCK_SKEW_MAX_MS &&
    given.length === expected.length &&
    timingSafeEqual(given, expected)
  );
}

/** What SENS would take: a sender that is registered, numbers without signs, text that a phone can show. */
const orderSchema = z.object({
  type: z.enum(["SMS", "LMS"]),
  contentType: z.enum(["COMM", "AD"]).default("COMM"),
  countryCode: z
    .string()
    .regex(/^[1-9][0-9]{0,2}$/)
    .default("82"),
  from: z.literal(ACCOUNT.from),
  content: z
    .string()
    .min(1)
    .regex(/^\P{Extended_Pictographic}*$/u),
  messages: z
    .array(z.object({ to: z.string().regex(/^[0-9]{4,15}$/) }))
    .min(1)
    .max(100),
});

function readOrder(body: string) {
  try {
    return orderSchema.parse(JSON.parse(body));
  } catch {
    return undefined;
  }
}

/** What is too long is cut off, by its length in EUC-KR. */
function cut(text: string, bytesMax: number): string {
  let bytes = 0;
  let kept = "";
  for (const character of text) {
    bytes += character > "\x7f" ? 2 : 1;
    if (bytes > bytesMax) break;
    kept += character;
  }
  return kept;
}
