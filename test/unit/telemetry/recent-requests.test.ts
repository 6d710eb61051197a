import { beforeEach, describe, expect, test } from "vitest";
import type { RequestEnd } from "../../../src/http/observer.ts";
import { createRecentRequests } from "../../../src/telemetry/recent-requests.ts";
import { ManualClock } from "../../support/manual-clock.ts";

let clock: ManualClock;

beforeEach(() => {
  clock = new ManualClock();
});

function end(line: Partial<RequestEnd["line"]> = {}): RequestEnd {
  return {
    line: {
      requestId: "id",
      client: "127.0.0.1",
      account: undefined,
      method: "GET",
      path: "/v2/docker.io/library/app/manifests/1",
      ns: undefined,
      upstream: "docker.io",
      repository: "library/app",
      reference: "1",
      kind: "manifest",
      status: 200,
      cache: "hit",
      bytes: 100,
      firstByteMs: 1,
      totalMs: 2,
      userAgent: "test",
      ...line,
    },
    form: "prefix",
    cache: { outcome: "hit", ttlS: 60 },
    error: undefined,
    scheme: "http",
    httpVersion: "1.1",
  };
}

const ids = (recent: ReturnType<typeof createRecentRequests>) =>
  [...recent.reports()].map(({ requestId }) => requestId);

test("the latest are kept, by their number", () => {
  const recent = createRecentRequests(clock, { requests: 3, bytes: 1 << 20 });
  for (const id of ["a", "b", "c", "d", "e"]) recent.start(id).ended(end());
  expect(ids(recent)).toEqual(["e", "d", "c"]);
  expect(recent.explain("a").requests).toEqual([]);
  expect(recent.explain("a").words).toEqual([expect.stringContaining("no request a is remembered")]);
});

test("and by their bytes, of steps that come after the answer as well", () => {
  const recent = createRecentRequests(clock, { requests: 100, bytes: 4096 });
  const trails = ["a", "b", "c"].map((id) => recent.start(id));
  expect(ids(recent)).toEqual(["c", "b", "a"]);
  trails[1]?.note("exchange", { url: "x".repeat(2_000), other: "y".repeat(2_000), third: "z".repeat(2_000) });
  expect(ids(recent)).toEqual(["c", "b", "a"]);
  trails[1]?.note("exchange", { url: "x".repeat(2_000) });
  expect(ids(recent)).toEqual(["c", "b"]);
  // One that is not kept any more takes nothing.
  for (let i = 0; i < 50; i += 1) trails[0]?.note("exchange", { url: "x".repeat(2_000) });
  expect(ids(recent)).toEqual(["c", "b"]);
  for (let i = 0; i < 5; i += 1) trails[2]?.note("exchange", { url: "x".repeat(2_000) });
  expect(ids(recent)).toEqual(["c"]);
});

test("those that were answered at once are kept among the others, and bounded with them", () => {
  const recent = createRecentRequests(clock, { requests: 3, bytes: 4096 });
  let asked = 0;
  const atOnce = (requestId: string, length = 10) =>
    recent.atOnce(
      {
        requestId,
        startedAtMs: clock.now(),
        totalMs: 2,
        length,
        end() {
          asked += 1;
          return end({ requestId, err: new Error("secret") });
        },
      },
      {},
    );
  recent.start("a").ended(end());
  atOnce("b");
  recent.start("c").ended(end());
  atOnce("d");
  expect([ids(recent), asked]).toEqual([["d", "c", "b"], 2]);
  const [d, c] = [...recent.reports()];
  expect(d).toEqual({ ...c, requestId: "d", line: { ...c?.line, requestId: "d" } });
  atOnce("e", 3_000);
  expect(ids(recent)).toEqual(["e", "d"]);
  atOnce("f", 1_000);
  expect(ids(recent)).toEqual(["f"]);
  // What has gone takes nothing any more.
  atOnce("g", 2_000);
  expect(ids(recent)).toEqual(["g", "f"]);
});

test("steps are as many as are kept of one request; the rest is counted", () => {
  const recent = createRecentRequests(clock);
  const trail = recent.start("a");
  for (let i = 0; i < 100; i += 1) trail.begin("exchange", { url: String(i) }).end({ status: 200 });
  const [report] = recent.explain("a").requests;
  expect([report?.steps.length, report?.stepsDropped]).toEqual([64, 36]);
  expect(recent.explain("a").words.at(-1)).toContain("and 36 more");
});

test("a step takes what is learnt of it until its end and after; the first end counts", () => {
  const recent = createRecentRequests(clock);
  const trail = recent.start("a");
  clock.advance(5);
  const step = trail.begin("exchange", { url: "http://a.b/", status: undefined });
  clock.advance(10);
  step.end({ status: 200 });
  clock.advance(10);
  step.end({ status: 500 });
  step.add({ bytes: 7 });
  expect(recent.explain("a").requests[0]).toMatchObject({
    running: true,
    steps: [{ step: "exchange", atMs: 5, tookMs: 10, fields: { url: "http://a.b/", status: 200, bytes: 7 } }],
  });
});

test("one id of several requests: each is told, the latest first", () => {
  const recent = createRecentRequests(clock);
  for (const status of [500, 200]) recent.start("a").ended(end({ status }));
  recent.start("b").ended(end());
  expect(recent.explain("a").requests.map(({ line }) => line.status)).toEqual([200, 500]);
});

test("what comes from outside is cut and has no control characters; an error's own text is not told", () => {
  const recent = createRecentRequests(clock);
  const trail = recent.start("a");
  trail.note("exchange", { url: `\u001b[31m${"x".repeat(1_000)}` });
  trail.ended({
    ...end({ err: new Error("the inside") }),
    error: { code: "UNKNOWN", message: "\u2028 <script>" },
    cache: { outcome: "stale", warning: "w\u0007" },
  });
  const { requests, words } = recent.explain("a");
  expect(String(requests[0]?.steps[0]?.fields.url)).toMatch(/^\?\[31mx{395}$/);
  expect(JSON.stringify([requests, words])).not.toContain("the inside");
  for (const line of words) expect(line).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
  expect(words.join("\n")).toContain("<script>");
});

test("in words, who has signed in is named with the address", () => {
  const recent = createRecentRequests(clock);
  recent.start("a").ended(end({ account: "alice" }));
  expect(recent.explain("a").words.join("\n")).toContain("by 127.0.0.1 (signed in as alice)");
  recent.start("b").ended(end());
  expect(recent.explain("b").words.join("\n")).not.toContain("signed in");
});

describe("in words", () => {
  const text = (step: string, fields: Record<string, string | number | boolean>): string => {
    const recent = createRecentRequests(clock);
    recent.start("a").note(step, fields);
    return recent.explain("a").words.at(-1) ?? "";
  };

  test.each([
    [
      "fill",
      { digest: "sha256:1", started: false, position: 1024, size: 2048 },
      "joined, at 1.0 KiB of 2.0 KiB, the download of sha256:1: goes on",
    ],
    [
      "fill",
      { digest: "sha256:1", started: true, position: 0, outcome: "committed" },
      "started the download of sha256:1: committed",
    ],
    ["lease", { name: "tag a/b:1", outcome: "ours" }, "turn to ask (tag a/b:1): ours"],
    ["lease", { name: "tag a/b:1" }, "waiting for another process"],
    [
      "peer",
      { name: "fill x", peer: "10.0.0.2:5002", start: 7 },
      "read from the process at 10.0.0.2:5002 (fill x), from byte 7 on",
    ],
    ["peer", { name: "fill x", start: 7 }, "read from storage (fill x)"],
    ["visibility", { about: "a/b", visibility: "public" }, "asked without a credential: a/b is public"],
    ["joined", { about: "a/b:1" }, "waited for the answer to another request's question about a/b:1"],
    ["unheard-of", { a: 1 }, 'unheard-of: {"a":1}'],
  ])("%s %j", (step, fields, words) => {
    expect(text(step, fields)).toContain(words);
  });

  test("a request under way has no answer yet", () => {
    const recent = createRecentRequests(clock);
    recent.start("a");
    expect(recent.explain("a").words).toContain("answer   not yet: it is under way");
  });

  test("a request under way tells what it asks for, once that is known, and then what it came to", () => {
    const recent = createRecentRequests(clock);
    const trail = recent.start("a");
    expect(recent.explain("a").requests[0]?.line).toEqual({});
    trail.routed(() => ({
      method: "GET",
      path: "/v2/library/app/manifests/1",
      ns: "docker.io",
      upstream: "docker.io",
      repository: "library/app",
      reference: "1",
      kind: "manifest",
      form: "ns",
    }));
    const { requests, words } = recent.explain("a");
    expect(requests[0]).toMatchObject({ running: true, form: "ns", line: { repository: "library/app" } });
    expect(words).toContain("asked    GET /v2/library/app/manifests/1?ns=docker.io");
    expect(words).toContain("route    docker.io/library/app:1, by ns, which a mirror's client sends");
    expect(words).toContain("answer   not yet: it is under way");
    trail.ended(end());
    const [request] = recent.explain("a").requests;
    expect(request).toMatchObject({ running: false, form: "prefix", line: { status: 200 } });
  });
});
