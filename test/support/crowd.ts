import { connect, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";

/**
 * A process that opens connections and leaves them, because the other ends are in the process of the test and there is
 * a limit to what one process may have open. Told a port and a number, it answers how many are open.
 */

interface Order {
  port: number;
  count: number;
}

const sockets = new Set<Socket>();

async function open({ port, count }: Order) {
  const opening = Array.from({ length: count }, () => {
    const socket = connect(port, "127.0.0.1");
    sockets.add(socket);
    return new Promise<void>((resolve) => {
      socket.once("connect", resolve).on("error", () => {});
      socket.once("close", () => {
        sockets.delete(socket);
        resolve();
      });
      socket.resume();
    });
  });
  await Promise.all(opening);
  // Whom the server does not take, it accepts and hangs up on.
  await turn();
  return sockets.size;
}

process.on("message", (order: Order) => void open(order).then((count) => process.send?.(count)));
process.once("disconnect", () => process.exit());
