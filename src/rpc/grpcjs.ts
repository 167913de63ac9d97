import { type EventEmitter, once } from "node:events";
import { constants, type Http2Server, type Http2Stream } from "node:http2";
import { createServer, type Socket } from "node:net";
import { create, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
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
  logVerbosity,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  type sendUnaryData,
  setLogVerbosity,
  status,
} from "@grpc/grpc-js";
import type { Logger } from "pino";
import { deadlineExceeded, requestInvalid } from "../errors.ts";
import { awaitSettings } from "./front.ts";
import { CallHeaders, keepCredentials } from "./headers.ts";
import { plainError } from "./observe.ts";
import { setPeer } from "./origin.ts";
import type { ServedRoute } from "./route.ts";
import { mapped, one, only, orAborted } from "./stream.ts";

type Next = ReturnType<Interceptor>;
type Response = Awaited<ReturnType<Next>>;
type WithRequest = ServerUnaryCall<Buffer, Message> | ServerWritableStream<Buffer, Message>;
type WithRequests = ServerReadableStream<Buffer, Message> | ServerDuplexStream<Buffer, Message>;
type WithResponses = ServerWritableStream<Buffer, Message> | ServerDuplexStream<Buffer, Message>;
type Call = WithRequest | WithRequests;
/** Which of the four shapes an implementation has, only its descriptor knows. */
type Implementation = (input: unknown, context: HandlerContext) => unknown;

// It would write header values that it does not like to the standard error, and they may be credentials.
setLogVerbosity(logVerbosity.NONE);

const TYPES = {
  unary: "unary",
  client_streaming: "clientStream",
  server_streaming: "serverStream",
  bidi_streaming: "bidi",
};

const SINGLE_REQUEST = new Set<DescMethod["methodKind"]>(["unary", "server_streaming"]);

export interface GrpcLimits {
  readMaxBytes: number;
  /** For the settings of a connection, and for all of a request that is a single message. */
  greetingMs: number;
  requestMs: number;
  connectionsMax: number;
  streamsPerConnection: number;
  keepaliveMs: number;
  keepaliveTimeoutMs: number;
  connectionAgeMs: number;
  connectionAgeGraceMs: number;
}

/** The routes through grpc-js, behind the same interceptors as at the Connect door. */
export function createGrpcServer(
  routes: ServedRoute[],
  log: Logger,
  limits: GrpcLimits,
  tls?: { cert: Buffer; key: Buffer },
) {
  const server = new Server({
    "grpc.enable_channelz": 0,
    "grpc.max_receive_message_length": limits.readMaxBytes,
    "grpc.max_concurrent_streams": limits.streamsPerConnection,
    "grpc.keepalive_time_ms": limits.keepaliveMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
    "grpc.max_connection_age_ms": limits.connectionAgeMs,
    "grpc.max_connection_age_grace_ms": limits.connectionAgeGraceMs,
  });
  for (const served of routes) register(server, log, served);

  // grpc-js cannot cut connections that it has asked to close, so the port and its sockets are ours.
  const sockets = new Set<Socket>();
  const { injectConnection } = server.createConnectionInjector(
    tls
      ? ServerCredentials.createSsl(null, [{ cert_chain: tls.cert, private_key: tls.key }])
      : ServerCredentials.createInsecure(),
  );
  for (const http2 of http2ServersOf(server)) guard(http2, routes, limits);
  const port = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    injectConnection(socket);
  });
  port.maxConnections = limits.connectionsMax;
  return {
    server: port,
    /** Takes no more connections, and waits until each of those there has the last answer it waits for. */
    async close() {
      port.close();
      server.tryShutdown(() => {});
      await once(port, "close");
    },
    destroy() {
      port.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** What grpc-js does not do: it waits for settings and for the rest of a request as long as a client lets it. */
function guard(http2: Http2Server, routes: ServedRoute[], { greetingMs, requestMs }: GrpcLimits) {
  const methods = routes.flatMap(({ service }) => service.methods);
  const singleRequests = new Set(
    methods.flatMap((method) =>
      SINGLE_REQUEST.has(method.methodKind) ? `/${method.parent.typeName}/${method.name}` : [],
    ),
  );
  http2.on("session", (session) => awaitSettings(session, greetingMs));
  http2.prependListener("stream", (stream, headers, _flags, rawHeaders) => {
    keepCredentials(headers, rawHeaders);
    if (singleRequests.has(headers[":path"] ?? "")) endWithin(stream, requestMs);
  });
}

function endWithin(stream: Http2Stream, requestMs: number) {
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), requestMs);
  const part = () => clearTimeout(timer);
  stream.once("end", part).once("close", part);
}

/** grpc-js keeps them to itself. */
const http2ServersOf = (server: Server) =>
  (server as unknown as { http2Servers: Map<Http2Server, unknown> }).http2Servers.keys();

function register(server: Server, log: Logger, { service, implementation, interceptors }: ServedRoute) {
  const implementations = implementation as Record<string, Implementation | undefined>;
  for (const method of service.methods) {
    const implement = implementations[method.localName]?.bind(implementation) ?? unimplemented(method);
    const handle = (call: Call, respond?: sendUnaryData<Message>) => {
      answer(method, implement, interceptors, call, respond).catch((failure: unknown) => {
        log.error({ rpc: call.getPath(), cause: plainError(failure) }, "not answered");
        end(call, respond, { code: status.INTERNAL, details: "internal error" });
      });
    };
    const serialize = (message: Message) => Buffer.from(toBinary(method.output, message));
    // Requests stay bytes until `answer`: what this callback cannot decode, grpc-js answers as INTERNAL.
    const deserialize = (bytes: Buffer) => bytes;
    server.register(`/${service.typeName}/${method.name}`, handle, serialize, deserialize, TYPES[method.methodKind]);
  }
}

const unimplemented = (method: DescMethod) => () => {
  throw new ConnectError(`${method.parent.typeName}.${method.name} is not implemented`, Code.Unimplemented);
};

/** One call. grpc-js gives `respond` where there is a single response; without it they are written to the call. */
async function answer(
  method: DescMethod,
  implement: Implementation,
  interceptors: Interceptor[],
  call: Call,
  respond?: sendUnaryData<Message>,
) {
  const cancel = new AbortController();
  const context = contextOf(method, call, cancel.signal);
  let over = false;
  const events: EventEmitter = call;
  events.once("cancelled", () => {
    if (!over) cancel.abort(cancellation(call));
  });
  try {
    const next = interceptors.reduceRight<Next>(
      (inner, interceptor) => interceptor(inner),
      innermost(method, implement, context),
    );
    const response = await next(requestOf(method, call, context));
    if (respond) {
      const message = response.stream ? await only(response.message) : response.message;
      sendHeader(call, response.header);
      respond(null, message, metadataOf(response.trailer));
    } else await writeAll(call as WithResponses, response, cancel.signal);
  } catch (failure) {
    // The interceptors make all that an implementation throws a ConnectError; what is left is a header that cannot be sent.
    if (!(failure instanceof ConnectError)) throw failure;
    cancel.abort(failure);
    sendHeader(call, context.responseHeader);
    end(call, respond, statusOf(failure, context.responseTrailer));
  } finally {
    over = true;
  }
}

function end(call: Call, respond: sendUnaryData<Message> | undefined, outcome: Partial<StatusObject>) {
  if (respond) respond(outcome);
  else if (!call.cancelled) call.emit("error", outcome);
}

/** Where the interceptors end: gives the implementation what it takes, and makes messages of what it returns. */
const innermost =
  (method: DescMethod, implement: Implementation, context: HandlerContext): Next =>
  async (request) => {
    const given = request.signal === context.signal ? context : { ...context, signal: request.signal };
    const messageOf = (init: unknown) => create(method.output, init as Message);
    const response = { service: method.parent, header: context.responseHeader, trailer: context.responseTrailer };
    if (!request.stream) {
      const message = messageOf(await implement(request.message, given));
      return { ...response, method: request.method, stream: false, message };
    }
    const input = method.methodKind === "server_streaming" ? await only(request.message) : request.message;
    const output = implement(input, given);
    const message =
      method.methodKind === "client_streaming"
        ? one(messageOf(await output))
        : mapped(output as AsyncIterable<unknown>, messageOf);
    return { ...response, method: request.method, stream: true, message };
  };

function contextOf(method: DescMethod, call: Call, signal: AbortSignal): HandlerContext {
  const requestHeader = new CallHeaders();
  for (const [key, values] of Object.entries(call.metadata.toHttp2Headers())) {
    if (Array.isArray(values)) for (const value of values) requestHeader.append(key, value);
    else requestHeader.append(key, String(values));
  }
  const values = createContextValues();
  const peer = call.getPeer();
  setPeer(values, peer.slice(0, peer.lastIndexOf(":")));
  return {
    service: method.parent,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: `http://${call.getHost()}${call.getPath()}`,
    signal,
    timeoutMs: () => timeLeftMs(call),
    requestHeader,
    responseHeader: new CallHeaders(),
    responseTrailer: new CallHeaders(),
    values,
  };
}

function requestOf(method: DescMethod, call: Call, context: HandlerContext) {
  const { service, requestMethod, url, signal, requestHeader: header, values: contextValues } = context;
  const common = { method, service, requestMethod, url, signal, header, contextValues };
  const decode = (bytes: Buffer) => {
    try {
      return fromBinary(method.input, bytes);
    } catch (failure) {
      throw requestInvalid(`parse binary: ${(failure as Error).message}`);
    }
  };
  switch (method.methodKind) {
    case "unary":
      return { ...common, stream: false, message: decode((call as WithRequest).request) } as UnaryRequest;
    case "server_streaming":
      return { ...common, stream: true, message: one(decode((call as WithRequest).request)) } as StreamRequest;
    default:
      return { ...common, stream: true, message: received(call as WithRequests, decode, signal) } as StreamRequest;
  }
}

async function* received(call: WithRequests, decode: (bytes: Buffer) => Message, signal: AbortSignal) {
  try {
    // The iteration must not close the call: the answer goes the other way.
    for await (const bytes of call.iterator({ destroyOnReturn: false })) yield decode(bytes as Buffer);
  } catch (failure) {
    // A cancelled call ends as a broken stream; the signal knows why.
    throw signal.aborted ? signal.reason : failure;
  }
}

async function writeAll(call: WithResponses, response: Response, signal: AbortSignal) {
  if (!response.stream) throw new Error(`${response.method.name} answers with a stream`);
  for await (const message of response.message) {
    sendHeader(call, response.header);
    if (!call.write(message)) await orAborted(once(call, "drain"), signal);
  }
  sendHeader(call, response.header);
  call.end(metadataOf(response.trailer));
}

function timeLeftMs(call: Call): number | undefined {
  const deadline = Number(call.getDeadline());
  return Number.isFinite(deadline) ? deadline - Date.now() : undefined;
}

function cancellation(call: Call) {
  const leftMs = timeLeftMs(call);
  return leftMs !== undefined && leftMs <= 0
    ? deadlineExceeded()
    : new ConnectError("the client is gone", Code.Canceled);
}

/** Only the first counts. Without headers of ours, grpc-js sends its own with the first message or the status. */
function sendHeader(call: Call, header: Headers) {
  const metadata = metadataOf(header);
  if (metadata) call.sendMetadata(metadata);
}

function metadataOf(headers: Headers): Metadata | undefined {
  let metadata: Metadata | undefined;
  headers.forEach((value, key) => {
    metadata ??= new Metadata();
    if (!key.endsWith("-bin")) metadata.set(key, value);
    else for (const part of value.split(",")) metadata.add(key, Buffer.from(part, "base64"));
  });
  return metadata;
}

function statusOf(error: ConnectError, trailer: Headers) {
  setTrailerStatus(trailer, error);
  // grpc-js writes these two itself, with an encoding that its own client reads.
  trailer.delete("grpc-status");
  trailer.delete("grpc-message");
  const outcome = { code: error.code, details: error.rawMessage, metadata: metadataOf(trailer) };
  // Connect's codes are those of gRPC, by another name.
  return outcome as unknown as Partial<StatusObject>;
}
