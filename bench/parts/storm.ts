import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { openAccount } from "../../src/account/account.ts";
import { addressOf } from "../../src/account/address.ts";
import { hashPassword } from "../../src/account/passwords.ts";
import { type Arena, fill, openArena } from "../arena.ts";
import { proven, verifySeconds } from "../audit.ts";
import { openUnary } from "../contestants/chatpay.ts";
import { type Answer, drive, median, ONE, type Outcome } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, milliseconds, percent, type Section, times } from "../report.ts";
import { workloadOf } from "../workloads.ts";

const SIGN_IN = "/chatpay.account.v1.AccountService/SignIn";
const JSON_BODY = { "content-type": "application/json" };
const OVERLOADED = "overloaded";

/** Transfers at a steady rate, without and with many people who sign in meanwhile. */
export async function storm({ services, settings, say }: Bench): Promise<Section> {
  const { warmupMs } = settings;
  const { transfers, signIns, people, rounds, measureMs } = settings.storm;
  const arena = await openArena(services, "bench_storm", settings.wallets);
  const hashSecret = randomBytes(32);
  const crowd = await openCrowd(arena, hashSecret, people);
  const server = await openUnary(arena, settings, { CHATPAY_HASH_SECRET: hashSecret.toString("hex") });
  try {
    const spread = workloadOf("spread", settings.wallets);
    const most = await proven(arena, () => server.run(spread, { inFlight: server.inFlight, warmupMs, measureMs }));
    say(`as many as it can: ${count(most.perSecond)}/s`);

    const load = { inFlight: 0, warmupMs, measureMs };
    const rows: { calm: Outcome; stormy: Outcome; signedIn: Outcome }[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const calm = await proven(arena, () => server.run(spread, { ...load, perSecond: transfers }));
      const signingIn = drive({ ...load, perSecond: signIns }, () => crowd.signIn(server.connectPort));
      const stormy = await proven(arena, () => server.run(spread, { ...load, perSecond: transfers }));
      const signedIn = await signingIn;
      rows.push({ calm, stormy, signedIn });
      say(`round ${round}: p99 ${milliseconds(calm.latency.p99)}, in the storm ${milliseconds(stormy.latency.p99)}`);
    }
    await verifySeconds(arena);

    const middle = (value: (row: (typeof rows)[number]) => number) => median(rows.map(value));
    return {
      title: `${count(transfers)} transfers a second, alone and while ${count(signIns)} people a second want to sign in`,
      tables: [
        [
          ["", "alone", "in the storm"],
          [
            "latency of a transfer, p50",
            milliseconds(middle(({ calm }) => calm.latency.p50)),
            milliseconds(middle(({ stormy }) => stormy.latency.p50)),
          ],
          [
            "latency of a transfer, p99",
            milliseconds(middle(({ calm }) => calm.latency.p99)),
            milliseconds(middle(({ stormy }) => stormy.latency.p99)),
          ],
          ["signed in per second", "", count(middle(({ signedIn }) => signedIn.perSecond))],
          ["told to come again, of all", "", percent(middle(({ signedIn }) => refusedShare(signedIn)))],
          ["latency of a sign-in, p50", "", milliseconds(middle(({ signedIn }) => signedIn.latency.p50))],
        ],
      ],
      notes: [`Asked for as many as it could, the server made ${count(most.perSecond)} transfers a second.`],
      goals: [
        {
          measure: "p99 of a transfer, in a storm of sign-ins ÷ alone",
          value: middle(({ calm, stormy }) => stormy.latency.p99 / calm.latency.p99),
          lessIsBetter: true,
          must: 2,
          show: times,
        },
      ],
    };
  } finally {
    await server.close();
    await arena.close();
  }
}

/** People with a password, who sign in one after the other. */
async function openCrowd(arena: Arena, hashSecret: Buffer, people: number) {
  const password = randomUUID();
  const person = { passwordHash: await hashPassword(password), displayName: "Somebody", language: "ko" };
  const emails = Array.from({ length: people }, () => `${randomUUID()}@example.com`);
  await fill(
    arena,
    emails.map((email) => openAccount(addressOf(hashSecret, { email, phone: "" }), person)),
  );
  let turn = 0;
  return {
    async signIn(connectPort: number): Promise<Answer> {
      turn = (turn + 1) % people;
      const body = JSON.stringify({ email: emails[turn], password });
      // Each comes on a connection of their own.
      const call = request(`http://127.0.0.1:${connectPort}${SIGN_IN}`, {
        method: "POST",
        headers: JSON_BODY,
        agent: false,
      });
      const [answer] = (await once(call.end(body), "response")) as [IncomingMessage];
      const said = await text(answer);
      if (answer.statusCode === 200) return ONE;
      // Whoever comes when too many wait is told so. Nothing else may happen.
      if (!said.includes("REASON_OVERLOADED")) throw new Error(`a sign-in was refused: ${said}`);
      return { made: 0, refusal: OVERLOADED };
    },
  };
}

function refusedShare({ made, refusals }: Outcome): number {
  const refused = refusals[OVERLOADED] ?? 0;
  return refused / (made + refused);
}
