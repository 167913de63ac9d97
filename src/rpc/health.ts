import { EventEmitter, once } from "node:events";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/health/v1/health_pb.ts";

const POLL_MS = 1_000;
const ANSWER_MAX_MS = 2_000;

export type Pulse = Awaited<ReturnType<typeof takePulse>>;

/** Asks `healthy` again and again whether the server can do its work, until it stops. */
export async function takePulse(healthy: () => Promise<boolean>) {
  const changes = new EventEmitter().setMaxListeners(0);
  let stopped = false;
  let serving = false;
  let timer: NodeJS.Timeout;
  function become(now: boolean) {
    const changed = serving !== now;
    serving = now;
    if (changed) changes.emit("change");
  }
  async function ask() {
    const late = new Promise<boolean>((resolve) => setTimeout(resolve, ANSWER_MAX_MS, false).unref());
    const answer = await Promise.race([healthy().catch(() => false), late]);
    if (stopped) return;
    become(answer);
    timer = setTimeout(() => void ask(), POLL_MS).unref();
  }
  await ask();
  return {
    serving: () => serving,
    changed: (signal: AbortSignal) => once(changes, "change", { signal }),
    stop() {
      stopped = true;
      clearTimeout(timer);
      become(false);
    },
  };
}

/** grpc.health.v1: the services of one process are well, or not, together. */
export function healthService(names: string[], pulse: Pulse): ServiceImpl<typeof Health> {
  const known = new Set(["", ...names]);
  const status = (service: string) => {
    if (!known.has(service)) return Status.SERVICE_UNKNOWN;
    return pulse.serving() ? Status.SERVING : Status.NOT_SERVING;
  };
  return {
    check({ service }) {
      if (!known.has(service)) throw new ConnectError(`no service ${service}`, Code.NotFound);
      return { status: status(service) };
    },
    list: () => ({ statuses: Object.fromEntries([...known].map((service) => [service, { status: status(service) }])) }),
    async *watch({ service }, { signal }) {
      for (;;) {
        yield { status: status(service) };
        await pulse.changed(signal);
      }
    },
  };
}
