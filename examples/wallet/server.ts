import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request as passOn, type ServerResponse } from "node:http";
import { stripTypeScriptTypes } from "node:module";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { pipeline } from "node:stream";
import type { Settings } from "./settings.ts";

/**
 * The page of a wallet, and the way from it to ChatPay. Both are of one origin, so the page needs no CORS, and the cookie
 * with the refresh token is its own. In production this is what a web server or a gateway does: it serves what a bundler
 * made of `page/`, and passes `/chatpay.*` on.
 */

interface WalletOptions {
  /** 0 takes any. */
  port: number;
  chatpayUrl: string;
  settings?: Settings;
}

const PAGE = join(import.meta.dirname, "page");
const LIT_HTML = join(import.meta.dirname, "../../node_modules/lit-html");
const TYPES: Record<string, string> = { ".css": "text/css", ".js": "text/javascript", ".ts": "text/javascript" };

/** Serves the page at http://localhost on this port. People come back from their consent to /linked. */
export async function startWallet({ port, chatpayUrl, settings = {} }: WalletOptions) {
  const index = await readFile(join(PAGE, "index.html"), "utf8");
  const policy = policyOf(index);

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const { url = "" } = request;
    if (url.startsWith("/chatpay.")) return forward(chatpayUrl, request, response);
    const [path = ""] = url.split("?", 1);
    response.setHeader("cache-control", "no-cache");
    response.setHeader("content-security-policy", policy);
    response.setHeader("referrer-policy", "no-referrer");
    if (path === "/" || path === "/linked") return send(response, "text/html", index);
    if (path === "/settings.json") return send(response, "application/json", JSON.stringify(settings));
    const file = fileOf(path);
    const text = file && (await readFile(file, "utf8").catch(() => undefined));
    if (text === undefined) return response.writeHead(404).end();
    return send(
      response,
      TYPES[extname(path)] ?? "text/plain",
      path.endsWith(".ts") ? stripTypeScriptTypes(text) : text,
    );
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * Passes a call on as it is. `Host` must stay: ChatPay sets cookies for pages of the host that they call. `X-Forwarded-For`
 * tells who calls, and is believed when this server is named in CHATPAY_TRUSTED_PROXIES.
 */
function forward(chatpayUrl: string, request: IncomingMessage, response: ServerResponse) {
  const { method, headers, socket } = request;
  const callers = [headers["x-forwarded-for"], socket.remoteAddress].filter(Boolean).join(", ");
  const onward = passOn(new URL(request.url ?? "", chatpayUrl), {
    method,
    headers: { ...headers, "x-forwarded-for": callers },
  });
  onward.once("response", (reply) => {
    response.writeHead(reply.statusCode ?? 502, reply.headers);
    pipeline(reply, response, () => {});
  });
  pipeline(request, onward, (error) => {
    if (!error || response.headersSent) return;
    response.statusCode = 503;
    send(response, "application/json", JSON.stringify({ code: "unavailable", message: "ChatPay does not answer" }));
  });
  response.once("close", () => onward.destroy());
}

function fileOf(path: string): string | undefined {
  const [, folder, name = ""] = /^\/(page|lit-html)\/((?:directives\/)?[\w.-]+\.(?:css|js|ts))$/.exec(path) ?? [];
  return folder && join(folder === "page" ? PAGE : LIT_HTML, name);
}

function send(response: ServerResponse, type: string, body: string) {
  response.setHeader("content-type", `${type}; charset=utf-8`);
  response.end(body);
}

/** The page runs its own scripts and calls its own origin, and nothing else; the import map is its only inline script. */
function policyOf(index: string) {
  const [, importMap = ""] = /<script type="importmap">([^<]*)<\/script>/.exec(index) ?? [];
  const hash = createHash("sha256").update(importMap).digest("base64");
  return [
    "default-src 'none'",
    `script-src 'self' 'sha256-${hash}'`,
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
  ].join("; ");
}

if (import.meta.main) {
  const { EXAMPLE_WALLET_PORT = "8028", EXAMPLE_CHATPAY_URL = "http://127.0.0.1:8080" } = process.env;
  const { EXAMPLE_MAIL_URL: mailUrl, EXAMPLE_PARTNER_ID: partnerId } = process.env;
  const settings = { ...(mailUrl && { mailUrl }), ...(partnerId && { partnerId }) };
  const wallet = await startWallet({ port: Number(EXAMPLE_WALLET_PORT), chatpayUrl: EXAMPLE_CHATPAY_URL, settings });
  console.log(`wallet page: ${wallet.url}`);
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void wallet.stop());
}
