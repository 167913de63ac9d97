import { randomBytes, randomUUID } from "node:crypto";
import { openAccount } from "../../src/account/account.ts";
import { addressOf } from "../../src/account/address.ts";
import { hashPassword } from "../../src/account/passwords.ts";
import { type Arena, fill, openArena } from "../arena.ts";
import { proven, verifySeconds } from "../audit.ts";
import { openUnary } from "../contestants/chatpay.ts";
import { type Answer, drive, median, type Outcome } from "../drive.ts";
import type { Bench } from "../part.ts";
import { count, milliseconds, type Section, times } from "../report.ts";
import { workloadOf } from "../workloads.ts";

const SIGN_IN = "/chatpay.account.v1.AccountService/SignIn";
const NONE: Answer = { made: 0 };

/** Transfers at a steady rate, without and with many people who sign in meanwhile. */
export async function storm({ services, settings, say }: Bench): Promise<Section> {
  const { transfers, signIns, people, rounds, measureMs } = settings.storm;
  const arena = await openArena(services, "bench_storm", settings.wallets);
  const hashSecret = randomBytes(32);
  const crowd = await openCrowd(arena, hashSecret, people);
  const server = await openUnary(arena, settings, { CHATPAY_HASH_SECRET: hashSecret.toString("hex") });
  try {
    const spread = workloadOf("spread", settings.wallets);
    const warmupMs = settings.warmupMs;
    const most = await proven(arena, () => server.run(spread, { inFlight: server.inFlight, warmupMs, measureMs }));
    say(`as many as it can: ${count(most.perSecond)}/s`);

    const load = { inFlight: 0, warmupMs, measureMs };
    const calms: Outcome[] = [];
    const storms: Outcome[] = [];
    const crowds: Outcome[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const calm = await proven(arena, () => server.run(spread, { ...load, perSecond: transfers }));
      const signedIn = drive({ ...load, perSecond: signIns }, () => crowd.signIn(server.connectPort));
      const stormy = await proven(arena, () => server.run(spread, { ...load, perSecond: transfers }));
      calms.push(calm);
      storms.push(stormy);
      crowds.push(await signedIn);
      say(`round ${round}: p99 ${milliseconds(calm.latency.p99)}, in the storm ${milliseconds(stormy.latency.p99)}`);
    }
    await verifySeconds(arena);
    return sectionOf();

    function sectionOf(): Section {
      const row = (name: string, value: (outcome: Outcome) => number, show: (value: number) => string) => [
        name,
        ...[calms, storms].map((outcomes) => show(median(outcomes.map(value)))),
      ];
      const reached = median(crowds.map(({ perSecond }) => perSecond));
      return {
        title: `${count(transfers)} transfers a second, and ${count(signIns)} people a second who sign in`,
        tables: [
          [
            ["", "transfers alone", "with sign-ins"],
            row("transfers per second", ({ perSecond }) => perSecond, count),
            row("latency of a transfer, p50", ({ latency }) => latency.p50, milliseconds),
            row("latency of a transfer, p99", ({ latency }) => latency.p99, milliseconds),
            ["sign-ins per second", "", count(reached)],
            ["latency of a sign-in, p50", "", milliseconds(median(crowds.map(({ latency }) => latency.p50)))],
            ["latency of a sign-in, p99", "", milliseconds(median(crowds.map(({ latency }) => latency.p99)))],
          ],
        ],
        notes: [
          `The server alone made ${count(most.perSecond)} transfers a second when it was asked for as many as it can.`,
        ],
        goals: [
          {
            measure: "p99 of a transfer, with sign-ins ÷ alone",
            value: median(storms.map(({ latency }, round) => latency.p99 / (calms[round]?.latency.p99 ?? Number.NaN))),
            lessIsBetter: true,
            must: 2,
            show: times,
          },
          {
            measure: "sign-ins a second beside transfers",
            value: reached,
            must: signIns * 0.95,
            show: count,
          },
        ],
      };
    }
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
      const answer = await fetch(`http://127.0.0.1:${connectPort}${SIGN_IN}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ email: emails[turn], password }),
      });
      const body = await answer.text();
      return answer.ok ? { made: 1 } : { ...NONE, refusal: `HTTP ${answer.status} ${body.slice(0, 60)}` };
    },
  };
}
