import type { App } from "../app.ts";
import { listOpenParts, listOpenSent, listParts } from "./queries.ts";
import { declinePart, endRequest } from "./request.ts";

/** So many are ended together. */
const PAGE_MAX = 50;

/**
 * Ends the requests for money that somebody left open who closed their account: what they asked for is canceled, what they
 * were asked for is declined. Nobody can pay any of it since the wallet is closed, and nothing is added.
 */
export async function endRequestsOf({ db, lane }: Pick<App, "db" | "lane">, accountId: bigint): Promise<void> {
  for (;;) {
    const sent = await listOpenSent(db, accountId, PAGE_MAX);
    await Promise.all(sent.map(async (row) => lane.submit(endRequest(row, await listParts(db, row.id), "canceled"))));
    const received = await listOpenParts(db, accountId, PAGE_MAX);
    await Promise.all(
      received.map(async ({ request, parts: [part] }) => part && lane.submit(declinePart({ request, part }))),
    );
    if (sent.length < PAGE_MAX && received.length < PAGE_MAX) return;
  }
}
