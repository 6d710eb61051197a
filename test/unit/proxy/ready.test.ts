/** What is at hand, by itself: however many come, it stays within its bounds. */
import { expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import type { Reference } from "../../../src/oci/reference.ts";
import type { FreshnessFacts } from "../../../src/proxy/freshness.ts";
import { ReadyAnswers } from "../../../src/proxy/ready.ts";
import { NOBODY } from "../../support/callers.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { FRESHNESS, MINUTE } from "../../support/proxy-bench.ts";

const MANY = 100_000;
const LATEST = 15_000;
const STANDING = { visibility: "public", provedAtMs: 0 } as const;
const IN_FORCE = {};

function atHand(): { put(repository: string, reference: Reference, bytes: Uint8Array, accept?: string): void } & {
  isThere(repository: string, reference: Reference, accept?: string): boolean;
} {
  const clock = new ManualClock();
  const ready = new ReadyAnswers({
    standings: { stands: () => true },
    access: { mayHaveHeld: () => true },
    room: { touch: () => true },
    freshnessOf: () => FRESHNESS,
    inForce: () => IN_FORCE,
    maxAgeMs: MINUTE,
    maxContentAgeMs: MINUTE,
    clock,
  });
  const facts: FreshnessFacts = {
    ...STANDING,
    known: { checkedAtMs: clock.now(), goneSinceMs: undefined },
    ttlMs: MINUTE,
    absenceRemembered: false,
    asked: "not-yet",
    config: FRESHNESS,
    nowMs: clock.now(),
  };
  const of = (repository: string, reference: Reference, accept: string | undefined) => {
    return { repo: { upstream: "docker.io", repository }, asked: { kind: "manifest", reference } as const, accept };
  };
  return {
    put(repository, reference, bytes, accept) {
      const digest = reference.kind === "digest" ? reference.digest : digestOf(bytes);
      ready.keep(
        ready.look(),
        of(repository, reference, accept),
        { digest, mediaType: OCI_MANIFEST, visibility: "public", cache: { outcome: "hit" } },
        { standing: STANDING, bytes, facts: reference.kind === "tag" ? facts : undefined },
      );
    },
    isThere: (repository, reference, accept) =>
      ready.find({ ...of(repository, reference, accept), head: false, identity: NOBODY.identity }) !== undefined,
  };
}

/** How many of the latest are there; of those before, a tenth is tried as well. */
function count(isThere: (at: number) => boolean): number {
  let there = 0;
  for (let at = 0; at < MANY; at += at < MANY - LATEST ? 10 : 1) if (isThere(at)) there += 1;
  return there;
}

test("no number of names takes more than 16 MiB, and those asked for last are there", () => {
  const { put, isThere } = atHand();
  const name = (at: number): string => `team/${"a".repeat(200)}${at}`;
  const tag: Reference = { kind: "tag", tag: "1" };
  const bytes = Buffer.from("{}");
  for (let at = 0; at < MANY; at += 1) put(name(at), tag, bytes);
  const there = count((at) => isThere(name(at), tag));
  expect(there).toBeGreaterThan(5_000);
  expect(there * (name(0).length + 1200)).toBeLessThan(16 << 20);
  expect(isThere(name(MANY - 1), tag)).toBe(true);
});

test("no number of digests takes more than 48 MiB for its content, and nothing above 256 KiB is kept", () => {
  const { put, isThere } = atHand();
  const digests = Array.from({ length: MANY }, (_, at) => digestOf(Buffer.from(`${at}`)));
  const reference = (at: number): Reference => ({ kind: "digest", digest: digests[at] ?? digestOf(Buffer.alloc(0)) });
  // The same bytes for all: only what is counted counts here.
  const bytes = Buffer.alloc(64 << 10);
  for (let at = 0; at < MANY; at += 1) put("team/app", reference(at), bytes);
  const there = count((at) => isThere("team/app", reference(at)));
  expect(there).toBeGreaterThan(700);
  expect(there * bytes.length).toBeLessThan(48 << 20);
  expect(isThere("team/app", reference(MANY - 1))).toBe(true);
  put("team/app", reference(0), Buffer.alloc((256 << 10) + 1));
  expect(isThere("team/app", reference(0))).toBe(false);
});

test("M7 of any number of Accept headers the last eight are known, and none that is over-long", () => {
  const { put, isThere } = atHand();
  const tag: Reference = { kind: "tag", tag: "1" };
  const bytes = Buffer.from("{}");
  for (let at = 0; at < MANY; at += 1) put("team/app", tag, bytes, `application/${at}`);
  const last = Array.from({ length: 16 }, (_, at) => isThere("team/app", tag, `application/${MANY - 16 + at}`));
  expect(last).toEqual([...Array(8).fill(false), ...Array(8).fill(true)]);
  expect(count((at) => isThere("team/app", tag, `application/${at}`))).toBe(8);
  put("team/app", tag, bytes, "a".repeat(1025));
  expect(isThere("team/app", tag, "a".repeat(1025))).toBe(false);
});

test("asking for what is not there leaves nothing", () => {
  const { put, isThere } = atHand();
  const bytes = Buffer.from("{}");
  put("team/app", { kind: "tag", tag: "1" }, bytes);
  for (let at = 0; at < MANY; at += 1) isThere(`team/${at}`, { kind: "tag", tag: "1" });
  expect(isThere("team/app", { kind: "tag", tag: "1" })).toBe(true);
});
