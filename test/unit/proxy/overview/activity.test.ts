import { describe, expect, test } from "vitest";
import { digestOf } from "../../../../src/oci/digest.ts";
import type { RequestReport } from "../../../../src/proxy/explain/request-report.ts";
import {
  createActivity,
  type FillActivity,
  mergedFills,
  mergedRecent,
  mergedUpstreams,
  type UpstreamActivity,
} from "../../../../src/proxy/overview/activity.ts";
import type { RecentPull } from "../../../../src/proxy/overview/overview.ts";
import type { BreakerStatus } from "../../../../src/upstream/outlook.ts";
import type { Upstream } from "../../../../src/upstream/upstream.ts";
import { ManualClock } from "../../../support/manual-clock.ts";

const call = { signal: new AbortController().signal };
const ORIGIN = "https://registry.example";
const CDN = "https://cdn.example";
const [ONE, TWO] = [digestOf(Buffer.from("one")), digestOf(Buffer.from("two"))];

function breaker(origin: string, open: boolean, untilMs?: number): BreakerStatus {
  return { origin, role: origin === ORIGIN ? "registry" : "blob", open, untilMs, reason: open ? "timeout" : undefined };
}

describe("of one process", () => {
  const clock = new ManualClock(1_000);

  function activity(upstream: Partial<Upstream>, reports: readonly RequestReport[] = []) {
    return createActivity({
      upstreams: () => [
        { upstream: { name: "registry.example", ...upstream } as Upstream, type: "generic", dynamic: false },
      ],
      lastError: (name) => ({ atMs: 5, reason: "timeout", text: `${name} is slow` }),
      fills: { all: () => [] },
      reports: () => reports,
      clock,
    });
  }

  function outlook(...breakers: readonly BreakerStatus[]): Partial<Upstream> {
    const none = { head: undefined, get: undefined, blob: undefined };
    return {
      outlook: () => ({
        endpoints: [{ origin: ORIGIN, credential: undefined, credentials: [], quotas: [], breakers, refusals: none }],
        refusals: none,
        low: { head: false, get: false },
      }),
      credentialStatus: () => [],
      quotaStatus: () => [],
    };
  }

  test.each([
    ["closed", "of an origin that was never asked", []],
    ["closed", "of one that answers", [breaker(ORIGIN, false)]],
    ["closed", "though its blob host is down", [breaker(ORIGIN, false), breaker(CDN, true, 2_000)]],
    ["open", "until it is tried again", [breaker(ORIGIN, true, 2_000)]],
    ["half-open", "when the next request tries it", [breaker(ORIGIN, true)]],
    ["half-open", "when its time has come", [breaker(ORIGIN, true, 1_000)]],
  ] as const)("a breaker is %s %s", async (state, _, breakers) => {
    const [upstream] = await activity(outlook(...breakers)).upstreams(call);
    expect(upstream?.endpoints).toEqual([
      { origin: ORIGIN, breaker: state, retryAtMs: state === "open" ? 2_000 : undefined, breakers },
    ]);
    expect(upstream).toMatchObject({ name: "registry.example", type: "generic", lastError: { reason: "timeout" } });
  });

  test("recent pulls are those that were asked for something, with what their access line says", async () => {
    const report = (requestId: string, line: RequestReport["line"], running = false): RequestReport => ({
      requestId,
      startedAtMs: 7,
      running,
      line,
      form: undefined,
      cache: {},
      error: undefined,
      steps: [],
      stepsDropped: 0,
    });
    const name = { upstream: "docker.io", repository: "library/app" };
    const reports = [
      report("running", {}, true),
      report("tag", {
        ...name,
        kind: "manifest",
        reference: "1",
        method: "GET",
        status: 200,
        cache: "hit",
        bytes: 3,
        firstByteMs: 1.5,
        totalMs: 2,
        account: "alice",
      }),
      report("ping", { kind: "base", path: "/v2/" }),
      report("blob", { ...name, kind: "blob", reference: ONE }),
      report("tags", { ...name, kind: "tags" }),
      report("catalog", { kind: "catalog", path: "/v2/_catalog" }),
      report("nonsense", { kind: "other", path: "/robots.txt" }),
    ];
    const recent = await activity({}, reports).recent(10, call);
    expect(recent.map(({ requestId, subject }) => [requestId, subject])).toEqual([
      ["running", undefined],
      ["tag", "docker.io/library/app:1"],
      ["blob", `docker.io/library/app@${ONE}`],
      ["tags", "docker.io/library/app"],
      ["catalog", "/v2/_catalog"],
    ]);
    expect(recent[0]).toMatchObject({ running: true, atMs: 7 });
    expect(recent[1]).toEqual({
      requestId: "tag",
      atMs: 7,
      running: false,
      method: "GET",
      kind: "manifest",
      subject: "docker.io/library/app:1",
      status: 200,
      cache: "hit",
      bytes: 3,
      firstByteMs: 1.5,
      totalMs: 2,
      account: "alice",
    });
    expect(await activity({}, reports).recent(2, call)).toHaveLength(2);
  });
});

describe("of several", () => {
  function upstream(more: Partial<UpstreamActivity>): UpstreamActivity {
    return {
      name: "registry.example",
      type: "generic",
      dynamic: false,
      endpoints: [],
      credentials: [],
      quotas: [],
      lastError: undefined,
      ...more,
    };
  }

  test("what any of them has found out about an upstream is told, and the latest of what all have", () => {
    const quota = { credential: "ci", source: undefined, limit: 100, windowS: 60 };
    const credential = { label: "ci", expiresAtMs: undefined, lastError: undefined };
    const failure = (atMs: number) => ({ atMs, reason: "timeout", text: "slow" });
    const merged = mergedUpstreams([
      upstream({
        endpoints: [
          {
            origin: ORIGIN,
            breaker: "closed",
            retryAtMs: undefined,
            breakers: [breaker(ORIGIN, false), breaker(CDN, true, 9)],
          },
        ],
        credentials: [{ ...credential, parkedUntilMs: undefined }],
        quotas: [{ ...quota, remaining: 40, observedAtMs: 1, closedUntilMs: undefined }],
        lastError: failure(2),
      }),
      upstream({ name: "other.example" }),
      upstream({
        endpoints: [{ origin: ORIGIN, breaker: "open", retryAtMs: 8, breakers: [breaker(ORIGIN, true, 8)] }],
        credentials: [{ ...credential, parkedUntilMs: 77, lastError: "refused" }],
        quotas: [{ ...quota, remaining: 30, observedAtMs: 5, closedUntilMs: undefined }],
        lastError: failure(1),
      }),
      upstream({ quotas: [{ ...quota, remaining: 0, observedAtMs: 3, closedUntilMs: 66 }] }),
    ]);
    expect(merged).toEqual([
      upstream({
        endpoints: [
          {
            origin: ORIGIN,
            breaker: "open",
            retryAtMs: 8,
            breakers: [breaker(ORIGIN, true, 8), breaker(CDN, true, 9)],
          },
        ],
        credentials: [{ ...credential, parkedUntilMs: 77, lastError: "refused" }],
        quotas: [{ ...quota, remaining: 30, observedAtMs: 5, closedUntilMs: 66 }],
        lastError: failure(2),
      }),
      upstream({ name: "other.example" }),
    ]);
  });

  test("a download that some read from another process is one, with all of its readers", () => {
    const fill: FillActivity = {
      digest: ONE,
      domain: "public",
      upstream: "registry.example",
      repository: "app",
      receivedBytes: 10,
      sizeBytes: undefined,
      readers: 3,
      startedAtMs: 5,
    };
    const merged = mergedFills([
      { ...fill, receivedBytes: 8, readers: 2, startedAtMs: 6, sizeBytes: 100 },
      fill,
      { ...fill, digest: TWO, readers: 0, startedAtMs: 9 },
      { ...fill, domain: "private:b.example", upstream: "b.example", readers: 1, startedAtMs: 1 },
    ]);
    const { domain: _, ...plain } = fill;
    expect(merged).toEqual([
      { ...plain, digest: TWO, readers: 0, startedAtMs: 9 },
      // Two at the other process, and of the three here one is the other process.
      { ...plain, readers: 4, sizeBytes: 100 },
      { ...plain, upstream: "b.example", readers: 1, startedAtMs: 1 },
    ]);
  });

  test("recent pulls come in one order, and no more than are wanted", () => {
    const pull = (atMs: number) => ({ atMs }) as RecentPull;
    const merged = mergedRecent([pull(5), pull(3), pull(6), pull(1)], 3);
    expect(merged.map(({ atMs }) => atMs)).toEqual([6, 5, 3]);
  });
});
