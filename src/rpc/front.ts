import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import type { Http2Server, ServerHttp2Session } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";

const SWEEP_MS = 50;
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export interface FrontOptions {
  http1: HttpServer;
  http2: Http2Server;
  tls?: Pick<TlsOptions, "cert" | "key">;
  /** How long a connection may take to say what it speaks, and an HTTP/2 client to send its settings. */
  greetingMs: number;
  /** After how long without a byte an HTTP/2 connection takes no more streams; it ends with the last. */
  idleMs: number;
  connectionsMax: number;
}

/**
 * One port for HTTP/1.1 and HTTP/2. Node's HTTP/2 server does not speak HTTP/1.1 without TLS, so this one reads the
 * first bytes and hands the connection to the server that understands them. With TLS it is the same, after the handshake.
 */
export function openFront({ http1, http2, tls, greetingMs, idleMs, connectionsMax }: FrontOptions) {
  // Without a port of its own an HTTP/1.1 server believes that it never began, and does not enforce its timeouts.
  http1.emit("listening");
  const sessions = new Set<ServerHttp2Session>();
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    awaitSettings(session, greetingMs);
    let streams = 0;
    session.on("stream", (stream) => {
      streams += 1;
      stream.once("close", () => (streams -= 1));
    });
    session.setTimeout(idleMs, () => {
      session.close();
      // Half a header is no stream yet, and Node would wait for the rest of it.
      if (streams === 0) session.destroy();
    });
  });

  const sockets = new Set<Socket>();
  const greeting = new Set<Socket>();
  function greet(socket: Socket) {
    sockets.add(socket);
    greeting.add(socket);
    const timer = setTimeout(() => socket.destroy(), greetingMs);
    const part = () => {
      clearTimeout(timer);
      greeting.delete(socket);
    };
    socket.once("close", () => {
      part();
      sockets.delete(socket);
    });
    socket.on("error", ignore).on("data", read);

    let bytes = Buffer.alloc(0);
    function read(more: Buffer) {
      bytes = Buffer.concat([bytes, more]);
      if (!PREFACE.subarray(0, bytes.length).equals(bytes.subarray(0, PREFACE.length))) handOver(http1);
      else if (bytes.length >= PREFACE.length) handOver(http2);
    }
    function handOver(server: HttpServer | Http2Server) {
      part();
      socket.off("data", read).off("error", ignore).pause();
      socket.unshift(bytes);
      server.emit("connection", socket);
      // An HTTP/2 session reads from the handle below the socket; an HTTP/1.1 parser waits for the socket to flow.
      if (server === http1) socket.resume();
    }
  }
  const server: Server = tls
    ? createTlsServer({ ...tls, noDelay: true, ALPNProtocols: ["h2", "http/1.1"], handshakeTimeout: greetingMs }, greet)
    : createServer({ noDelay: true }, greet);
  server.maxConnections = connectionsMax;

  return {
    server,
    /** Takes no more connections, and waits until each of those there has the last answer it waits for. */
    async close() {
      server.close();
      http1.close();
      for (const socket of greeting) socket.destroy();
      for (const session of sessions) session.close();
      const sweep = setInterval(() => http1.closeIdleConnections(), SWEEP_MS);
      await once(server, "close");
      clearInterval(sweep);
    },
    destroy() {
      server.close();
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Hangs up on a client that does not send its settings, with which HTTP/2 begins. */
export function awaitSettings(session: ServerHttp2Session, greetingMs: number) {
  const timer = setTimeout(() => session.destroy(), greetingMs);
  session.once("remoteSettings", () => clearTimeout(timer)).once("close", () => clearTimeout(timer));
}

/** Whoever hangs up while greeting is not worth a line. */
const ignore = () => {};
