import { describe, expect, onTestFinished, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import type { BudgetThreshold } from "../../../src/config/types.ts";
import { createMemoryState } from "../../../src/state/memory-state.ts";
import type { StateStore } from "../../../src/state/state-store.ts";
import { adapterOf } from "../../../src/upstream/adapters/index.ts";
import { headerView } from "../../../src/upstream/header-view.ts";
import type { QuotaRules, QuotaSubject, Quotas } from "../../../src/upstream/quota.ts";
import type { QuotaRecord } from "../../../src/upstream/quota-book.ts";
import { createQuotas } from "../../../src/upstream/quotas.ts";
import { UpstreamError } from "../../../src/upstream/upstream.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const HUB = adapterOf("dockerhub", "docker.io");
const SPENT = '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}';

/** A registry that counts every request and tells so, as none does with quotas; for what rules alone decide. */
const COUNTS_ALL: QuotaRules = {
  ...adapterOf("generic", "reg.example"),
  classify429: () => "quota",
  countsAgainstQuota: (kind) => kind !== "token",
};

interface Bench {
  readonly clock: ManualClock;
  readonly quotas: Quotas;
  /** Free questions so far, by label. */
  readonly probes: string[];
  /** Gauges: `limit/remaining/window` by label. */
  readonly gauges: ReadonlyMap<string, string>;
  readonly limited: readonly string[];
  below: BudgetThreshold;
  /** How the registry answers the free question. */
  onProbe: (credential: string | undefined) => void;
  /** Answers a request as the registry does. */
  answer(
    subject: Partial<QuotaSubject>,
    answer?: { status?: number; left?: string | undefined; body?: string } & Record<string, unknown>,
  ): void;
  /** `undefined` where the request goes through, else how long it is to wait, milliseconds. */
  refused(subject?: Partial<QuotaSubject>): number | undefined;
}

interface Options {
  readonly rules?: QuotaRules;
  readonly credentials?: readonly string[];
  readonly probeEveryMs?: number;
  readonly shared?: StateStore<readonly QuotaRecord[]>;
  readonly clock?: ManualClock;
}

function open({ rules = HUB, credentials = [], probeEveryMs, shared, clock = new ManualClock() }: Options = {}): Bench {
  const probes: string[] = [];
  const gauges = new Map<string, string>();
  const limited: string[] = [];
  const quotas = createQuotas({
    upstream: "docker.io",
    registry: "https://registry-1.docker.io",
    rules,
    credentials,
    probeEveryMs,
    probe: async (credential) => {
      probes.push(credential ?? "-");
      bench.onProbe(credential);
    },
    context: {
      shared: shared ?? createMemoryState({ clock, log: silentLog }),
      observer: {
        quota(upstream, credential, limit) {
          const key = `${upstream} ${credential ?? "-"}`;
          if (limit === undefined) gauges.delete(key);
          else gauges.set(key, `${limit.limit}/${limit.remaining}/${limit.windowS}`);
        },
        rateLimited: (upstream, credential, reason) => limited.push(`${upstream} ${credential ?? "-"} ${reason}`),
      },
      lowBelow: () => bench.below,
    },
    clock,
    random: () => 0.5,
    log: silentLog,
  });
  onTestFinished(() => quotas.close());
  const bench: Bench = {
    clock,
    quotas,
    probes,
    gauges,
    limited,
    below: { share: 0.1 },
    onProbe: () => {},
    answer(subject, { status = 200, left, body, ...headers } = {}) {
      const [remaining, limit = "100"] = left?.split("/") ?? [];
      const told =
        left === undefined
          ? {}
          : { "ratelimit-limit": `${limit};w=21600`, "ratelimit-remaining": `${remaining};w=21600` };
      quotas.observe(
        { ...GET, ...subject },
        {
          status,
          headers: headerView({ ...told, ...(headers as Record<string, string>) }),
          bodyText: body ?? (status === 429 ? SPENT : undefined),
          realm: subject.kind === "token",
        },
      );
    },
    refused(subject) {
      try {
        quotas.check({ ...GET, ...subject });
        return undefined;
      } catch (error) {
        if (!(error instanceof UpstreamError) || error.fault !== "quota") throw error;
        return error.retryAfterMs;
      }
    },
  };
  return bench;
}

const GET: QuotaSubject = { credential: undefined, kind: "manifest", method: "GET" };
const HEAD = { method: "HEAD" } as const;
const BLOB = { kind: "blob" } as const;

/** Lets what was set off in passing happen. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("what is left", () => {
  test("is told by headers, kept by credential, and reported", () => {
    const bench = open();
    expect(bench.quotas.left(undefined)).toBeUndefined();
    bench.answer({}, { left: "76" });
    bench.answer({ credential: "ci", ...HEAD }, { left: "150/200" });
    expect([bench.quotas.left(undefined), bench.quotas.left("ci"), bench.quotas.left("other")]).toEqual([
      0.76,
      0.75,
      undefined,
    ]);
    expect([...bench.gauges]).toEqual([
      ["docker.io -", "100/76/21600"],
      ["docker.io ci", "200/150/21600"],
    ]);
  });

  test("headers that come no more: no limit any more, and no number that stands for ever", () => {
    const bench = open();
    bench.answer({}, { left: "1" });
    // Neither of these ever tells.
    bench.answer(BLOB, { status: 307 });
    bench.answer({ kind: "tags" });
    bench.answer({}, { status: 401, "docker-ratelimit-source": "203.0.113.7" });
    bench.answer({}, { status: 404 });
    expect(bench.quotas.left(undefined)).toBe(0.01);
    bench.answer({}, { status: 200 });
    expect(bench.quotas.left(undefined)).toBeUndefined();
    expect(bench.quotas.low(undefined)).toBe(false);
    expect(bench.gauges.size).toBe(0);
    expect(bench.quotas.status()).toEqual([]);
  });

  test("GitLab tells at its realm, of tokens only", () => {
    const bench = open({ rules: adapterOf("gitlab", "registry.gitlab.com") });
    const told = { "ratelimit-limit": "500", "ratelimit-remaining": "5", "ratelimit-name": "throttle_unauthenticated" };
    bench.answer({ kind: "token" }, told);
    bench.answer({}, { status: 200 });
    expect(bench.quotas.left(undefined)).toBe(0.01);
    expect(bench.quotas.low(undefined)).toBe(false);
    bench.answer({ kind: "token" }, {});
    expect(bench.quotas.left(undefined)).toBeUndefined();
  });

  test("what was told is worth nothing when its window is over", () => {
    const bench = open();
    bench.answer({}, { left: "0" });
    bench.clock.advance(6 * HOUR - 1);
    expect(bench.quotas.left(undefined)).toBe(0);
    bench.clock.advance(1);
    expect(bench.quotas.left(undefined)).toBeUndefined();
  });

  test("by source: an address that has quota left, and one that has none", () => {
    const bench = open();
    bench.answer({}, { left: "50", "docker-ratelimit-source": "203.0.113.7" });
    bench.answer({}, { left: "0", "docker-ratelimit-source": "203.0.113.8" });
    bench.answer({}, { status: 429, "retry-after": "60" });
    expect(bench.refused()).toBe(MINUTE);
    // A HEAD that came from the other address: so may the next GET.
    bench.answer(HEAD, { left: "50", "docker-ratelimit-source": "203.0.113.7" });
    expect(bench.refused()).toBeUndefined();
    bench.answer(HEAD, { left: "0", "docker-ratelimit-source": "203.0.113.8" });
    expect(bench.refused()).toBe(MINUTE);
    expect(
      bench.quotas.status().map(({ source, remaining, closedUntilMs }) => [source, remaining, closedUntilMs]),
    ).toEqual([
      ["203.0.113.8", 0, bench.clock.now() + MINUTE],
      ["203.0.113.7", 50, undefined],
    ]);
  });

  test("an egress that changes all the time is remembered in part", () => {
    const bench = open();
    for (let i = 0; i < 1_000; i += 1) bench.answer({}, { left: "50", "docker-ratelimit-source": `203.0.113.${i}` });
    expect(bench.quotas.status()).toHaveLength(8);
  });

  test.each<[string, BudgetThreshold, string, boolean]>([
    ["a share", { share: 0.1 }, "9", true],
    ["exactly the share", { share: 0.1 }, "10", false],
    ["a number", { requests: 20 }, "19", true],
    ["exactly the number", { requests: 20 }, "20", false],
    ["never", { requests: 0 }, "0", false],
    ["always", { share: 1 }, "99", true],
  ])("low: %s", (_, below, left, expected) => {
    const bench = open();
    bench.below = below;
    bench.answer({}, { left });
    expect(bench.quotas.low(undefined)).toBe(expected);
    // HEADs are free.
    expect(bench.quotas.low(undefined, "HEAD")).toBe(false);
  });

  test("a quota that is spent is low whatever the threshold says", () => {
    const bench = open();
    bench.below = { requests: 0 };
    bench.answer({}, { status: 429 });
    expect([bench.quotas.low(undefined), bench.quotas.left(undefined)]).toEqual([true, 0]);
  });

  test("where HEADs count, they are low as well", () => {
    const bench = open({ rules: COUNTS_ALL });
    bench.answer({}, { left: "9" });
    expect(bench.quotas.low(undefined, "HEAD")).toBe(true);
  });
});

describe("U6 a quota that is spent", () => {
  test("closes GETs of manifests of that credential; HEADs, blobs, tags and others go on", () => {
    const bench = open();
    bench.answer({ credential: "ci" }, { status: 429, "retry-after": "30" });
    expect(bench.refused({ credential: "ci" })).toBe(30_000);
    for (const free of [HEAD, BLOB, { kind: "tags" }, { kind: "referrers" }, { kind: "token" }] as const) {
      expect(bench.refused({ credential: "ci", ...free })).toBeUndefined();
    }
    expect(bench.refused()).toBeUndefined();
    expect(bench.refused({ credential: "other" })).toBeUndefined();
    expect(bench.limited).toEqual(["docker.io ci quota"]);
    bench.clock.advance(30_000);
    expect(bench.refused({ credential: "ci" })).toBeUndefined();
  });

  const NOW_S = new ManualClock().now() / 1000;
  test.each<[string, string, number]>([
    ["seconds", "47", 47_000],
    ["a date", new Date((NOW_S + 90) * 1000).toUTCString(), 90_000],
    ["epoch seconds", String(NOW_S + 90), 90_000],
    ["nothing", "0", 1_000],
    ["in the past", new Date((NOW_S - 90) * 1000).toUTCString(), 1_000],
    ["absurd", "999999999", 24 * HOUR],
  ])("for as long as Retry-After says: %s", (_, header, expected) => {
    const bench = open();
    bench.answer({}, { status: 429, "retry-after": header });
    expect(bench.refused()).toBe(expected);
    bench.clock.advance(expected);
    expect(bench.refused()).toBeUndefined();
  });

  test("in a Go duration in the message", () => {
    const bench = open({ rules: COUNTS_ALL });
    const body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 1m30s, allowed: 44000/minute"}]}';
    bench.answer({}, { status: 429, body });
    expect(bench.refused()).toBe(90_000);
  });

  test.each<[string, Options, string | undefined, number]>([
    ["the window as it was told", {}, "1", 6 * HOUR],
    ["Docker Hub's window where nothing was told", {}, undefined, 6 * HOUR],
    ["a minute where nothing was told and nothing free can be asked", { rules: COUNTS_ALL }, undefined, MINUTE],
  ])("without Retry-After: %s", (_, options, left, expected) => {
    const bench = open(options);
    if (left !== undefined) bench.answer({}, { left });
    bench.answer({}, { status: 429 });
    expect(bench.quotas.status()[0]?.closedUntilMs).toBe(bench.clock.now() + expected);
    // Who asks is told to come back when a free question may have found better.
    expect(bench.refused()).toBe(MINUTE);
    bench.clock.advance(expected - 1);
    expect(bench.refused()).toBe(1);
    bench.clock.advance(1);
    expect(bench.refused()).toBeUndefined();
  });

  test("until its reset, where that is known", () => {
    const bench = open({ rules: COUNTS_ALL });
    bench.answer({}, { left: "1", "ratelimit-reset": "1800" });
    bench.answer({}, { status: 429 });
    expect(bench.quotas.status()[0]?.closedUntilMs).toBe(bench.clock.now() + HOUR / 2);
  });

  test("a free answer that shows quota opens it; one that shows none does not, nor does what was sent before", () => {
    const bench = open();
    bench.answer({}, { left: "1" });
    bench.answer({}, { status: 429 });
    expect(bench.gauges.get("docker.io -")).toBe("100/0/21600");
    bench.answer(HEAD, { left: "0" });
    bench.answer({}, { left: "1" });
    expect(bench.refused()).toBe(MINUTE);
    bench.answer(HEAD, { left: "3" });
    expect(bench.refused()).toBeUndefined();
    expect(bench.gauges.get("docker.io -")).toBe("100/3/21600");
  });

  test("HEADs that are refused as well wait for a minute, and open nothing", () => {
    const bench = open();
    bench.answer(HEAD, { status: 429, body: "", "content-type": "application/json; charset=utf-8" });
    expect([bench.refused(HEAD), bench.refused(), bench.refused(BLOB)]).toEqual([MINUTE, MINUTE, undefined]);
    bench.clock.advance(MINUTE);
    expect([bench.refused(HEAD), bench.refused()]).toEqual([undefined, MINUTE]);
  });

  test("answers without headers: no more often than once a minute somebody finds out", () => {
    const bench = open();
    bench.answer({}, { status: 429 });
    bench.clock.advance(MINUTE - 1);
    bench.answer(HEAD, {});
    expect(bench.refused()).toBe(MINUTE);
    bench.clock.advance(1);
    bench.answer(HEAD, {});
    expect(bench.refused()).toBeUndefined();
  });

  test("a clock that is set back closes nothing for good", () => {
    const bench = open();
    bench.answer({}, { status: 429, "retry-after": "3600" });
    bench.clock.advance(-48 * HOUR);
    expect(bench.refused()).toBeUndefined();
  });
});

describe("U6 a limit on all requests", () => {
  test("closes everything, whoever asks, and opens by itself", () => {
    const bench = open();
    bench.answer({ credential: "ci" }, { status: 429, body: "Too Many Requests (HAP429)" });
    // A pause of 750 ms, and who waits is told half a second more or less.
    for (const subject of [{}, HEAD, BLOB, { kind: "token" }, { credential: "ci" }] as const) {
      expect(bench.refused(subject)).toBe(1_250);
    }
    expect(bench.limited).toEqual(["docker.io ci abuse"]);
    expect(bench.quotas.left("ci")).toBeUndefined();
    bench.clock.advance(750);
    expect(bench.refused(BLOB)).toBeUndefined();
  });

  test("a HEAD has no body: what is not called JSON is no spent quota", () => {
    const bench = open();
    bench.answer(HEAD, { status: 429, body: "", "content-type": "text/plain" });
    expect(bench.limited).toEqual(["docker.io - abuse"]);
  });

  test("JSON on anything but a manifest is no spent quota", () => {
    const bench = open();
    bench.answer(BLOB, { status: 429 });
    expect(bench.limited).toEqual(["docker.io - abuse"]);
    expect(bench.refused(HEAD)).toBe(1_250);
  });
});

describe("the free question", () => {
  test("U6 is asked a minute after the quota was found spent, once, and only if somebody wants it", async () => {
    const bench = open();
    bench.onProbe = () => bench.answer(HEAD, { left: "0" });
    bench.answer({}, { status: 429 });
    bench.clock.advance(HOUR);
    await settled();
    expect(bench.probes).toEqual([]);
    for (let i = 0; i < 50; i += 1) bench.refused();
    await settled();
    expect(bench.probes).toEqual(["-"]);
    for (let i = 0; i < 50; i += 1) bench.refused();
    bench.clock.advance(MINUTE - 1);
    await settled();
    expect(bench.probes).toEqual(["-"]);
    bench.onProbe = () => bench.answer(HEAD, { left: "5" });
    bench.clock.advance(1);
    await settled();
    expect(bench.probes).toEqual(["-", "-"]);
    expect(bench.refused()).toBeUndefined();
    bench.clock.advance(HOUR);
    await settled();
    expect(bench.probes).toHaveLength(2);
  });

  test("U6 is not asked any more when something else has shown quota meanwhile", async () => {
    const bench = open();
    bench.answer({}, { status: 429 });
    bench.refused();
    bench.answer(HEAD, { left: "5" });
    bench.clock.advance(MINUTE);
    await settled();
    expect([bench.probes, bench.clock.sleepers]).toEqual([[], 0]);
  });

  test("by schedule: each credential and who was asked for, from the first request on", async () => {
    const bench = open({ credentials: ["ci", "other"], probeEveryMs: 10 * MINUTE });
    bench.onProbe = (credential) => bench.answer({ credential, ...HEAD }, { left: "7" });
    bench.clock.advance(24 * HOUR);
    await settled();
    expect(bench.clock.sleepers).toBe(0);
    expect(bench.refused(BLOB)).toBeUndefined();
    bench.clock.advance(10 * MINUTE);
    await settled();
    expect(bench.probes).toEqual(["ci", "other", "-"]);
    expect([...bench.gauges.keys()]).toEqual(["docker.io ci", "docker.io other", "docker.io -"]);
    bench.clock.advance(10 * MINUTE);
    await settled();
    expect(bench.probes).toHaveLength(6);
  });

  test("a failure of one does not end the schedule", async () => {
    const bench = open({ credentials: ["ci"], probeEveryMs: 10 * MINUTE });
    bench.onProbe = () => {
      throw new UpstreamError("docker.io", "connect", "refused");
    };
    bench.refused({ credential: "ci" });
    for (let round = 1; round <= 3; round += 1) {
      bench.clock.advance(10 * MINUTE);
      await settled();
      expect(bench.probes).toHaveLength(round);
    }
  });

  test.each<[string, Options]>([
    ["switched off", { credentials: ["ci"] }],
    ["where nothing is free", { rules: COUNTS_ALL, credentials: ["ci"], probeEveryMs: 10 * MINUTE }],
  ])("no schedule: %s", async (_, options) => {
    const bench = open(options);
    bench.refused();
    bench.clock.advance(24 * HOUR);
    await settled();
    expect([bench.probes, bench.clock.sleepers]).toEqual([[], 0]);
  });

  test("no more of it, and no numbers, when the upstream is gone", async () => {
    const bench = open({ probeEveryMs: 10 * MINUTE });
    bench.answer({}, { left: "5" });
    bench.answer({}, { status: 429 });
    bench.refused();
    expect([bench.gauges.size, bench.clock.sleepers]).toEqual([1, 2]);
    bench.quotas.close();
    bench.quotas.close();
    await settled();
    expect([bench.gauges.size, bench.clock.sleepers]).toEqual([0, 0]);
    bench.answer(HEAD, { left: "9" });
    bench.refused();
    bench.clock.advance(24 * HOUR);
    await settled();
    expect([bench.gauges.size, bench.probes]).toEqual([0, []]);
    // What is still under way on it keeps to what it learns.
    bench.answer({}, { status: 429 });
    expect(bench.refused()).toBe(MINUTE);
  });
});

describe("replicas share what they learn", () => {
  const fleet = (): [Bench, Bench] => {
    const clock = new ManualClock();
    const shared = createMemoryState<readonly QuotaRecord[]>({ clock, log: silentLog });
    return [open({ shared, clock }), open({ shared, clock })];
  };
  const ACCOUNT = { "docker-ratelimit-source": "5f1c2a4e" };

  test("one finds the account's quota spent, the other does not ask; and the same when it is open again", async () => {
    const [one, other] = fleet();
    const ci = { credential: "ci" };
    one.answer(ci, { left: "1", ...ACCOUNT });
    one.answer(ci, { status: 429, "retry-after": "3600", ...ACCOUNT });
    await settled();
    expect(other.refused(ci)).toBeUndefined();
    await settled();
    expect(other.refused(ci)).toBe(HOUR);
    one.clock.advance(10_000);
    other.answer({ ...ci, ...HEAD }, { left: "40", ...ACCOUNT });
    await settled();
    one.refused(ci);
    await settled();
    expect(one.refused(ci)).toBeUndefined();
    expect(one.quotas.left("ci")).toBe(0.4);
  });

  test("anonymous requests count by address: only the same address's word counts", async () => {
    const [one, other] = fleet();
    one.answer({}, { left: "0", "docker-ratelimit-source": "203.0.113.7" });
    one.answer({}, { status: 429 });
    await settled();
    other.answer(HEAD, { left: "50", "docker-ratelimit-source": "203.0.113.8" });
    other.refused();
    await settled();
    expect(other.refused()).toBeUndefined();
  });

  test("a store that fails costs nothing", async () => {
    const broken: StateStore<readonly QuotaRecord[]> = {
      get: () => Promise.reject(new Error("down")),
      set: () => Promise.reject(new Error("down")),
      delete: () => Promise.reject(new Error("down")),
    };
    const bench = open({ shared: broken });
    expect(bench.refused()).toBeUndefined();
    bench.answer({}, { status: 429 });
    await settled();
    expect(bench.refused()).toBe(MINUTE);
  });

  test("looked up once in a while, not for each request", async () => {
    let gets = 0;
    let sets = 0;
    const counting: StateStore<readonly QuotaRecord[]> = {
      get: async () => {
        gets += 1;
        return undefined;
      },
      set: async () => {
        sets += 1;
      },
      delete: async () => {},
    };
    const bench = open({ shared: counting });
    for (let i = 0; i < 100; i += 1) {
      bench.refused();
      bench.answer({}, { left: String(99 - i) });
    }
    expect([gets, sets]).toEqual([1, 1]);
    bench.answer({}, { status: 429 });
    bench.clock.advance(5_000);
    bench.refused();
    expect([gets, sets]).toEqual([2, 2]);
  });
});
