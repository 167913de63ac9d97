import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Server } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Gauge, type Registry } from "prom-client";
import { Health } from "../../gen/health/v1/health_pb.ts";
import { shuttingDown } from "../errors.ts";
import { admit } from "./admit.ts";
import { audit, type Trail } from "./audit.ts";
import type { Authenticate } from "./caller.ts";
import { createConnectServers, type Pages } from "./connect.ts";
import { openFront } from "./front.ts";
import { createGrpcServer } from "./grpcjs.ts";
import { healthService, type Pulse, takePulse } from "./health.ts";
import { bound, shed } from "./limit.ts";
import { createMeters } from "./meter.ts";
import { observe } from "./observe.ts";
import { locate, type Network } from "./origin.ts";
import { reflectionRoutes } from "./reflection.ts";
import { answerGateway, isResolve, type Resolve } from "./resolve.ts";
import { type Route, route, type ServedRoute } from "./route.ts";
import { validate } from "./validate.ts";

export interface DoorsConfig {
  host: string;
  /** Connect, gRPC-Web and gRPC over HTTP/1.1 and HTTP/2. A port of 0 is any that is free. */
  connectPort: number;
  /** gRPC through grpc-js: the same services, four times as fast. */
  grpcPort: number;
  /** Metrics and health, for us alone. */
  internalHost: string;
  internalPort: number;
  tls?: { cert: Buffer; key: Buffer };
  corsOrigins: string[];
  /** Who may say in `X-Forwarded-For` from where a call comes. */
  trustedProxies?: Network[];
  /** Single calls at a time, of both doors together. */
  maxInFlight: number;
  /** The most time a single call gets; a client may ask for less. */
  maxTimeoutMs: number;
  /** How long health says NOT_SERVING before the doors close. */
  lameDuckMs: number;
  /** How long calls may take to end after that. */
  shutdownGraceMs: number;
  limits?: Partial<typeof LIMITS>;
}

/** What nobody had to change yet; tests do. */
const LIMITS = {
  streamsMax: 10_000,
  /** Calls and streams of health and reflection. */
  onlookersMax: 1_000,
  readMaxBytes: 4 * 1024 * 1024,
  connectionsMax: 10_000,
  streamsPerConnection: 4_000,
  greetingMs: 10_000,
  headersMs: 20_000,
  requestMs: 60_000,
  idleMs: 300_000,
  keepaliveMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  connectionAgeMs: 1_800_000,
  connectionAgeGraceMs: 300_000,
};

export interface DoorsOptions {
  config: DoorsConfig;
  log: Logger;
  metrics: { registry: Registry };
  trail: Trail;
  routes: Route[];
  /** What `:8080` shows beside the RPCs. */
  pages?: Pages;
  authenticate: Authenticate;
  /** Hears which API key got somebody in. */
  noteKeyUse: (keyId: bigint) => void;
  /** Refuses who calls too much, if given. */
  rate?: Interceptor | undefined;
  /** Whether the server can do its work. */
  healthy: () => Promise<boolean>;
  /** Answers gateways on the internal port, if given. */
  resolve?: Resolve | undefined;
}

export type Doors = Awaited<ReturnType<typeof openDoors>>;

/**
 * Answers for the routes until it is stopped; without routes at the internal port only, and the others are 0. Throws when
 * a port is taken or an RPC does not say who may call it.
 */
export async function openDoors(options: DoorsOptions) {
  const { config, log, metrics, trail, routes, authenticate, noteKeyUse, rate, healthy, resolve } = options;
  const limits = { ...LIMITS, ...config.limits };
  const closing = new AbortController();
  const { registry } = metrics;
  const meterOf = createMeters(registry);
  const crowd = shed(config.maxInFlight, limits.streamsMax, log);
  watchInFlight(registry, crowd.inFlight);
  const onlookers = shed(limits.onlookersMax, limits.onlookersMax, log);

  const pulse = await takePulse(healthy);
  const origin = locate(config.trustedProxies);
  const admitted = [
    crowd.interceptor,
    audit(routes, trail),
    admit(routes, authenticate, noteKeyUse),
    ...(rate ? [rate] : []),
    validate(routes),
  ];
  const openRoutes = [
    route(
      Health,
      healthService(
        routes.map(({ service }) => service.typeName),
        pulse,
      ),
    ),
    ...reflectionRoutes([...routes.map(({ service }) => service), Health]),
  ];
  const servedAt = (door: string): ServedRoute[] => {
    const all = [origin, observe(log, meterOf(door)), bound(config.maxTimeoutMs, closing.signal)];
    return [
      ...routes.map((one) => ({ ...one, interceptors: [...all, ...admitted] })),
      // Health and reflection answer anyone, whatever load the others are.
      ...openRoutes.map((one) => ({ ...one, interceptors: [...all, onlookers.interceptor] })),
    ];
  };

  const servers = createConnectServers({
    routes: servedAt("connect"),
    pages: options.pages ?? new Map(),
    log,
    corsOrigins: config.corsOrigins,
    secure: config.tls !== undefined,
    closing: closing.signal,
    ...limits,
  });
  const front = openFront({ ...servers, tls: config.tls, ...limits });
  const grpc = createGrpcServer(servedAt("grpc"), log, limits, config.tls);
  const internal = createInternalServer(registry, pulse, log, resolve);
  const force = () => {
    pulse.stop();
    front.destroy();
    grpc.destroy();
    internal.close();
    internal.closeAllConnections();
  };

  try {
    const isCalled = routes.length > 0;
    const connectPort = isCalled ? await listen(front.server, config.connectPort, config.host) : 0;
    const grpcPort = isCalled ? await listen(grpc.server, config.grpcPort, config.host) : 0;
    const internalPort = await listen(internal, config.internalPort, config.internalHost);
    return { connectPort, grpcPort, internalPort, stop, force };
  } catch (error) {
    force();
    throw error;
  }

  /** Health says NOT_SERVING, the doors close, streams end, calls finish; after the grace whatever is left is cut. */
  async function stop() {
    pulse.stop();
    await pause(config.lameDuckMs);
    closing.abort(shuttingDown());
    const late = new AbortController();
    await Promise.race([
      Promise.all([front.close(), grpc.close()]),
      pause(config.shutdownGraceMs, undefined, { signal: late.signal }).catch(() => {}),
    ]);
    late.abort();
    force();
  }
}

async function listen(server: Server, port: number, host: string) {
  server.listen(port, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

function watchInFlight(registry: Registry, inFlight: Record<string, number>) {
  new Gauge({
    name: "chatpay_calls_in_flight",
    help: "Calls and streams that are being answered.",
    labelNames: ["kind"],
    registers: [registry],
    collect() {
      for (const [kind, count] of Object.entries(inFlight)) this.set({ kind }, count);
    },
  });
}

/** `/metrics` for Prometheus, `/healthz` for whoever starts and restarts us, and `/resolve` for a gateway. */
function createInternalServer(registry: Registry, pulse: Pulse, log: Logger, resolve?: Resolve) {
  const status = () => (pulse.serving() ? 200 : 503);
  return createServer((request, response) => {
    const { url } = request;
    if (resolve && isResolve(url)) void answerGateway(resolve, log, request, response);
    else if (url === "/metrics") {
      response.setHeader("content-type", registry.contentType);
      registry.metrics().then(
        (text) => response.end(text),
        () => response.writeHead(500).end(),
      );
    } else response.writeHead(url === "/healthz" ? status() : 404).end();
  });
}
