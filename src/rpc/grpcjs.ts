import { once } from "node:events";
import { create, type DescMethod, fromBinary, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  type HandlerContext,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import {
  Metadata,
  type Server,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { deadlineExceeded } from "../errors.ts";
import type { Route } from "./doors.ts";
import { mapped, one } from "./stream.ts";

type Next = ReturnType<Interceptor>;
type Response = Awaited<ReturnType<Next>>;
type Unary = ServerUnaryCall<Buffer, Message>;
type Requests = ServerReadableStream<Buffer, Message>;
type Responses = ServerWritableStream<Buffer, Message>;
type Duplex = ServerDuplexStream<Buffer, Message>;
type Call = Unary | Requests | Responses | Duplex;
/** The descriptor tells the four shapes of an RPC apart; the type does not. */
type Implementation = (input: unknown, context: HandlerContext) => unknown;

/** Serves the routes through grpc-js, with the interceptors of the Connect door. */
export function bridge(server: Server, routes: Route[], interceptors: Interceptor[]) {
  for (const { service, implementation } of routes) {
    const implementations = implementation as Record<string, Implementation | undefined>;
    for (const method of service.methods) {
      const implement = implementations[method.localName]?.bind(implementation) ?? unimplemented(method);
      const [type, handle] = handlerOf(method, implement, interceptors);
      const serialize = (message: Message) => Buffer.from(toBinary(method.output, message));
      // Requests stay bytes here: what grpc-js cannot decode it answers as INTERNAL.
      server.register(`/${service.typeName}/${method.name}`, handle, serialize, (bytes: Buffer) => bytes, type);
    }
  }
}

function handlerOf(method: DescMethod, implement: Implementation, interceptors: Interceptor[]) {
  const intercepted = (context: HandlerContext) =>
    interceptors.reduceRight((next, interceptor) => interceptor(next), innermost(method, implement, context));

  const unary = (call: Unary, respond: sendUnaryData<Message>) => {
    const { context, close } = open(method, call);
    const answer = async () => intercepted(context)(requestOf(context, decode(method, call.request)));
    return answerOne(call, context, close, respond, answer);
  };
  const clientStream = (call: Requests, respond: sendUnaryData<Message>) => {
    const { context, close } = open(method, call);
    const answer = () => intercepted(context)(requestsOf(context, received(method, call, context.signal)));
    return answerOne(call, context, close, respond, answer);
  };
  const serverStream = (call: Responses) => {
    const { context, close } = open(method, call);
    const answer = async () => intercepted(context)(requestsOf(context, one(decode(method, call.request))));
    return answerMany(call, context, close, answer);
  };
  const bidi = (call: Duplex) => {
    const { context, close } = open(method, call);
    const answer = () => intercepted(context)(requestsOf(context, received(method, call, context.signal)));
    return answerMany(call, context, close, answer);
  };
  switch (method.methodKind) {
    case "unary":
      return ["unary", unary] as const;
    case "client_streaming":
      return ["clientStream", clientStream] as const;
    case "server_streaming":
      return ["serverStream", serverStream] as const;
    case "bidi_streaming":
      return ["bidi", bidi] as const;
  }
}

const unimplemented = (method: DescMethod) => () => {
  throw new ConnectError(`${method.parent.typeName}.${method.name} is not implemented`, Code.Unimplemented);
};
