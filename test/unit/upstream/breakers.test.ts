import { expect, test } from "vitest";
import { Breakers } from "../../../src/upstream/breakers.ts";
import { type BreakerChange, UpstreamError } from "../../../src/upstream/upstream.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const REGISTRY = "https://registry-1.docker.io";
const down = new UpstreamError("docker.io", "connect", "no connection");
const asked = { kind: "blob", method: "GET", lane: "bodies" } as const;

function create(): { breakers: Breakers; changes: readonly BreakerChange[]; open(): number } {
  const changes: BreakerChange[] = [];
  const breakers = new Breakers({
    upstream: "docker.io",
    registry: REGISTRY,
    clock: new ManualClock(),
    random: () => 1,
    observer: { breaker: (change) => changes.push(change) },
  });
  return { breakers, changes, open: () => changes.reduce((sum, { open }) => sum + (open ? 1 : -1), 0) };
}

function fail(breakers: Breakers, origin: string, kind: "blob" | "token" | "manifest" = "blob"): void {
  for (let i = 0; i < 5; i += 1) breakers.admit(origin, { ...asked, kind }).failed(down);
}

test.each([
  [REGISTRY, "manifest", "registry"],
  [REGISTRY, "token", "registry"],
  ["https://auth.docker.io", "token", "realm"],
  ["https://cdn.example", "blob", "blob"],
  ["https://pkg.example", "manifest", "blob"],
] as const)("%s asked for a %s is a %s", (origin, kind, role) => {
  const { breakers, changes } = create();
  fail(breakers, origin, kind);
  expect(changes).toEqual([{ upstream: "docker.io", origin, role, open: true, reason: "connect" }]);
});

test("U7 each origin has its own, and says which it is", () => {
  const { breakers } = create();
  fail(breakers, "https://cdn.example");
  expect(() => breakers.check(REGISTRY)).not.toThrow();
  expect(() => breakers.check("https://cdn.example:8443")).not.toThrow();
  expect(() => breakers.check("https://cdn.example")).toThrow(
    expect.objectContaining({ breakerOpen: true, fault: "connect", retryAfterMs: 1_000, upstream: "docker.io" }),
  );
});

test("origins without number are forgotten again, the longest unused first; what was open is reported as closed", () => {
  const { breakers, changes, open } = create();
  fail(breakers, REGISTRY);
  for (let n = 1; n < 1_000; n += 1) {
    expect(() => breakers.check(REGISTRY)).toThrow(UpstreamError);
    fail(breakers, `https://cdn-${n}.example`);
  }
  expect(open()).toBe(64);
  expect(() => breakers.check("https://cdn-1.example")).not.toThrow();
  expect(changes.filter((change) => !change.open)[0]?.origin).toBe("https://cdn-1.example");
});

test("what ends after its origin was forgotten is reported no more", () => {
  const { breakers, changes } = create();
  const late = Array.from({ length: 5 }, () => breakers.admit(REGISTRY, asked));
  breakers.clear();
  for (const watch of late) watch.failed(down);
  expect(changes).toEqual([]);
});

test("O3 once retired, what was open is reported as closed, and nothing is reported any more", () => {
  const { breakers, changes, open } = create();
  fail(breakers, REGISTRY);
  breakers.retire();
  expect(open()).toBe(0);
  fail(breakers, REGISTRY);
  expect(() => breakers.check(REGISTRY)).toThrow(UpstreamError);
  expect(changes).toHaveLength(2);
});
