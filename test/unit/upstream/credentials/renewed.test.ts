import { expect, test } from "vitest";
import type { Log } from "../../../../src/base/log.ts";
import { Secret } from "../../../../src/base/secret.ts";
import { type Lease, RenewedSource } from "../../../../src/upstream/credentials/renewed.ts";
import { SourceError } from "../../../../src/upstream/credentials/source.ts";
import { ManualClock } from "../../../support/manual-clock.ts";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const o = { signal: new AbortController().signal };
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Passwords of 12 hours, numbered; `answer` is what the next request for one comes to. */
function open(over: { expires?: boolean } = {}) {
  const clock = new ManualClock();
  const logged: string[] = [];
  const note = (_fields: unknown, message: string): void => {
    logged.push(message);
  };
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const cloud = { asked: 0, answer: undefined as (() => Promise<never>) | undefined };
  const source = new RenewedSource(
    {
      name: "the cloud",
      timeoutMs: 20_000,
      async lease(): Promise<Lease> {
        cloud.asked += 1;
        const number = cloud.asked;
        await cloud.answer?.();
        const secret = new Secret(`password ${number}`);
        return { form: "password", username: "AWS", secret, lifetimeMs: 12 * HOUR_MS, expires: over.expires ?? true };
      },
    },
    { clock, log, where: "upstreams.ecr (ci)" },
  );
  const password = async () => (await source.resolve(o)).secret.reveal();
  return { source, clock, cloud, logged, password };
}

test("many who ask at once are one request, and until half of its life there is no other", async () => {
  const { source, clock, cloud, password } = open();
  expect(new Set(await Promise.all(Array.from({ length: 50 }, password)))).toEqual(new Set(["password 1"]));
  expect((await source.resolve(o)).expiresAtMs).toBe(clock.now() + 12 * HOUR_MS);
  clock.advance(6 * HOUR_MS - 1);
  await password();
  expect(cloud.asked).toBe(1);
});

test("at half of its life the next one is fetched behind whoever asks, who gets what there is", async () => {
  const { clock, cloud, password } = open();
  await password();
  clock.advance(6 * HOUR_MS);
  expect(await Promise.all([password(), password(), password()])).toEqual(Array(3).fill("password 1"));
  await settled();
  expect(await password()).toBe("password 2");
  expect(cloud.asked).toBe(2);
});

test("what cannot be renewed serves until its end, and is tried again once a minute", async () => {
  const { clock, cloud, logged, password } = open();
  await password();
  clock.advance(6 * HOUR_MS);
  cloud.answer = () => Promise.reject(new SourceError("connect", "the cloud is out of reach"));
  for (let i = 0; i < 6; i += 1) {
    expect(await password()).toBe("password 1");
    await settled();
    clock.advance(MINUTE_MS / 2);
  }
  expect(cloud.asked).toBe(1 + 3);
  expect(logged).toHaveLength(3);
  clock.advance(6 * HOUR_MS);
  await expect(password()).rejects.toThrow("the cloud is out of reach");
});

test("a failure is everybody's for a while: nobody waits for the next one", async () => {
  const { clock, cloud, password } = open();
  cloud.answer = () => Promise.reject(new SourceError("credential", "no permission"));
  for (let i = 0; i < 5; i += 1) await expect(password()).rejects.toThrow("no permission");
  expect(cloud.asked).toBe(1);
  cloud.answer = undefined;
  clock.advance(15_000);
  expect(await password()).toBe("password 2");
});

test("a cloud that never answers is given up", async () => {
  const { clock, cloud, password } = open();
  cloud.answer = () => new Promise(() => {});
  const asked = password().catch((error: unknown) => error);
  await clock.sleeping();
  clock.advance(20_000);
  expect(await asked).toMatchObject({ fault: "timeout", message: "the cloud gave no answer within 20 s" });
  expect(clock.sleepers).toBe(0);
});

test("one who leaves is no failure, and leaves the others to it", async () => {
  const { source, cloud, password } = open();
  let answer = (): void => {};
  cloud.answer = () => new Promise((resolve) => (answer = resolve as () => void));
  const leaving = new AbortController();
  const left = source.resolve({ signal: leaving.signal }).catch((error: unknown) => error);
  const stayed = password();
  await settled();
  leaving.abort(new Error("left"));
  answer();
  expect(String(await left)).toBe("Error: left");
  expect(await stayed).toBe("password 1");
});

test("one that is refused is fetched anew, once a minute at most", async () => {
  const { source, clock, cloud, password } = open();
  await password();
  source.refused();
  expect(await password()).toBe("password 1");
  clock.advance(MINUTE_MS);
  expect(await password()).toBe("password 2");
  source.refused();
  source.refused();
  expect(await password()).toBe("password 2");
  clock.advance(5 * HOUR_MS);
  expect(await password()).toBe("password 3");
  expect(cloud.asked).toBe(3);
});

test("what is only to be looked at again has no end", async () => {
  const { source } = open({ expires: false });
  expect((await source.resolve(o)).expiresAtMs).toBeUndefined();
});

test("nothing goes on behind the scenes of one that is closed", async () => {
  const { source, clock, cloud, password } = open();
  await password();
  source.close();
  clock.advance(6 * HOUR_MS);
  expect(await password()).toBe("password 1");
  await settled();
  expect(cloud.asked).toBe(1);
  expect(clock.sleepers).toBe(0);
});
