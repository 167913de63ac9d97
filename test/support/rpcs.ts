import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, type Reason, ReasonSchema } from "../../gen/chatpay/error/v1/error_pb.ts";
import { routes } from "../../src/routes.ts";
import type { Credential, Door, TestServer } from "./server.ts";

export const DOORS: Door[] = ["connect", "grpc"];

/** Every RPC that the server answers, so that tests of all of them find a new one by themselves. */
export const everyRpc = ({ app }: TestServer): DescMethod[] => routes(app).flatMap(({ service }) => service.methods);

/** Short, for tables and the names of tests. */
export const nameOf = ({ parent, name }: DescMethod) => `${parent.name}/${name}`;

/** Calls an RPC by its descriptor. A stream is read to its end. */
export async function call(
  server: TestServer,
  method: DescMethod,
  request: object,
  credential: Credential,
  door: Door,
): Promise<unknown> {
  const client = server.client(method.parent, credential, door) as Record<string, (request: object) => unknown>;
  const answer = client[method.localName]?.(request);
  if (method.methodKind !== "server_streaming") return answer;
  const messages: unknown[] = [];
  for await (const message of answer as AsyncIterable<unknown>) messages.push(message);
  return messages;
}

/** The error that a call meets. */
export async function errorOf(answer: Promise<unknown>): Promise<ConnectError> {
  const error = await answer.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConnectError)) throw new Error(`not refused: ${error}`);
  return error;
}

/** Code and reason of the refusal that a call meets. */
export async function refusalOf(answer: Promise<unknown>): Promise<{ code: Code; reason: Reason | undefined }> {
  const error = await errorOf(answer);
  return { code: error.code, reason: error.findDetails(ErrorInfoSchema)[0]?.reason };
}

/** How a call ended, in one word or two: `OK`, `NotFound WALLET_NOT_FOUND`. */
export const outcomeOf = (answer: Promise<unknown>): Promise<string> =>
  answer.then(
    () => "OK",
    (failure: unknown) => {
      const error = ConnectError.from(failure);
      const [info] = error.findDetails(ErrorInfoSchema);
      return `${Code[error.code]} ${info ? ReasonSchema.value[info.reason]?.localName : error.rawMessage}`;
    },
  );
