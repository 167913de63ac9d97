import { connect as connectHttp2, type SecureClientSessionOptions } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJson } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { ErrorInfoSchema, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";

/** Header lines as they are sent: twice, in capitals, in whatever letters. No client would do so. */
export type Lines = [name: string, value: string][];

/** `OK`, or code and reason of a refusal, as `outcomeOf` has them. */
function outcomeOf(error: ConnectError | undefined): string {
  if (!error) return "OK";
  const [info] = error.findDetails(ErrorInfoSchema);
  return `${Code[error.code]} ${info ? ReasonSchema.value[info.reason]?.localName : error.rawMessage}`;
}

const EMPTY_MESSAGE = Buffer.alloc(5);
/** Node's own client sends no header twice that has one value. */
const AS_WRITTEN: SecureClientSessionOptions & { strictSingleValueFields: boolean } = {
  strictSingleValueFields: false,
};

/** How a gRPC call with an empty message ends at one of the ports. */
export async function callOverHttp2(url: string, rpc: string, lines: Lines): Promise<string> {
  const session = connectHttp2(url, AS_WRITTEN);
  try {
    const head = [":method", "POST", ":path", `/${rpc}`, "content-type", "application/grpc", "te", "trailers"];
    const stream = session.request([...head, ...lines.flat()]);
    const trailer = new Headers();
    const note = (headers: object) => {
      for (const [name, value] of Object.entries(headers)) {
        if (!name.startsWith(":")) trailer.set(name, String(value));
      }
    };
    stream.on("response", note).on("trailers", note);
    stream.end(EMPTY_MESSAGE);
    await text(stream);
    if (!trailer.has("grpc-status")) return "no status";
    return outcomeOf(findTrailerError(trailer));
  } finally {
    session.destroy();
  }
}

/** How a Connect JSON call ends over HTTP/1.1. The lines stand between the head and the body as they are. */
export async function callOverHttp1(url: string, rpc: string, lines: Lines, query = ""): Promise<string> {
  const { hostname, port, host } = new URL(url);
  const head = [
    query ? `GET /${rpc}?${query} HTTP/1.1` : `POST /${rpc} HTTP/1.1`,
    `host: ${host}`,
    "connection: close",
    ...(query ? [] : ["content-type: application/json", "content-length: 2"]),
    ...lines.map(([name, value]) => `${name}: ${value}`),
  ];
  const reply = await exchange(Number(port), hostname, `${head.join("\r\n")}\r\n\r\n${query ? "" : "{}"}`);
  const [, status] = /^HTTP\/1.1 (\d+)/.exec(reply) ?? [];
  if (status === "200") return "OK";
  const body = reply.slice(reply.indexOf("\r\n\r\n") + 4);
  if (!body.startsWith("{")) return `HTTP ${status}`;
  return outcomeOf(errorFromJson(JSON.parse(body) as never, undefined, new ConnectError(`HTTP ${status}`)));
}

/** Everything that is answered to these bytes until the other side hangs up. */
export async function exchange(port: number, host: string, bytes: string): Promise<string> {
  const socket = connect(port, host);
  const answer = text(socket);
  // Each letter is a byte, so that what is no ASCII goes out as it stands there.
  socket.write(Buffer.from(bytes, "latin1"));
  return answer.catch(() => "");
}
