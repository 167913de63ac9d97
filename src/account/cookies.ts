import type { HandlerContext } from "@connectrpc/connect";
import { AccountService } from "../../gen/chatpay/account/v1/account_pb.ts";
import type { Config } from "../config.ts";
import { requestInvalid } from "../errors.ts";

const NAME = "chatpay_refresh";
const PATH = `/${AccountService.typeName}/`;

/** Refresh tokens of browsers, in a cookie that no script can read and that only pages of our own site send. */
export function openCookies({ mode, tls, corsOrigins }: Pick<Config, "mode" | "tls" | "corsOrigins">) {
  // Browsers keep no secure cookie of a server without TLS, which nobody has who only develops.
  const isSecure = tls !== undefined || mode === "production";
  const attributes = `; Path=${PATH}; HttpOnly; SameSite=Strict${isSecure ? "; Secure" : ""}`;

  const write = ({ responseHeader }: HandlerContext, value: string, maxAgeS: number) =>
    responseHeader.append("set-cookie", `${NAME}=${value}; Max-Age=${maxAgeS}${attributes}`);

  /**
   * To a browser, the pages of all hosts below one domain are of one site. So a page must also come from the host that it
   * calls, or be listed by name; that all pages may call, as `*` says, is not enough.
   */
  function isOurs({ requestHeader, url }: HandlerContext) {
    const origin = requestHeader.get("origin");
    if (origin === null || corsOrigins.includes(origin)) return true;
    return URL.canParse(origin) && new URL(origin).host === new URL(url).host;
  }

  return {
    /** Throws REQUEST_INVALID when a cookie cannot be set: before anything is done that would need it. */
    check(context: HandlerContext) {
      if (context.protocolName === "grpc") throw requestInvalid("refresh_cookie: gRPC has no cookies");
      if (!isOurs(context))
        throw requestInvalid("refresh_cookie: the page is neither ours nor in CHATPAY_CORS_ORIGINS");
    },

    set(context: HandlerContext, token: string, expireTime: Date) {
      write(context, token, Math.floor((expireTime.getTime() - Date.now()) / 1000));
    },

    /** The token in the cookie; empty when there is none that counts. */
    read(context: HandlerContext): string {
      if (context.protocolName === "grpc" || !isOurs(context)) return "";
      const [token = "", ...others] = tokensIn(context);
      // Another host of the domain has put its own beside ours.
      return others.length === 0 ? token : "";
    },

    /** Makes a browser forget the cookie that it sent. */
    clear(context: HandlerContext) {
      if (context.protocolName !== "grpc" && tokensIn(context).length > 0) write(context, "", 0);
    },
  };
}

const tokensIn = ({ requestHeader }: HandlerContext): string[] =>
  (requestHeader.get("cookie") ?? "")
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${NAME}=`))
    .map((pair) => pair.slice(NAME.length + 1));
