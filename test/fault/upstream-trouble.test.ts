import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { createAuthority } from "../support/certificates.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { multiArchImage, smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import type { Effect } from "../support/registries/double-server.ts";
import { toolTest } from "../support/tools.ts";

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const SOFT_DEADLINE = 1_500;
/** `timeouts.headers` as it is by default. */
const HEADERS_TIMEOUT = 15 * SECOND;
/** Of a breaker that has just opened, at most. */
const BREAKER_PAUSE = SECOND;

const IMAGE = multiArchImage("trouble");
const OTHER = smallImage("other");
const TAGS = ["1", "2", "3", "4", "5", "6"];

let stack: AsyncDisposableStack;
let clock: PausingClock;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new PausingClock();
  hub = await startHubDouble(stack, { now: () => clock.now() });
  hub.add("library/app", IMAGE, TAGS);
});

afterEach(() => stack.disposeAsync());

interface AppOptions {
  readonly freshness?: object;
  readonly upstream?: object;
  readonly root?: string;
}

async function app(options: AppOptions = {}): Promise<TestApp> {
  return await startTestApp(stack, {
    clock,
    config: {
      upstreams: { "docker.io": { ...hubUpstream(hub), ...options.upstream } },
      freshness: { default: "1h", rules: [], ...options.freshness },
    },
    ...(options.root === undefined ? {} : { root: options.root }),
  });
}

/** An app that holds everything, an hour after it was asked last. */
async function holding(options: AppOptions = {}): Promise<TestApp> {
  const weir = await app(options);
  for (const tag of TAGS) await pullByHead(weir.url, "library/app", tag, IMAGE);
  clock.advance(HOUR);
  hub.clearLedger();
  return weir;
}

function ask(weir: TestApp, tag: string, query = "", method = "GET"): Promise<HttpReply> {
  return httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/${tag}${query}`, { method });
}

/** The held manifest, with all the marks of an answer that may be out of date. */
function expectStale(reply: HttpReply, cacheStatus: string, why: string): void {
  expectStatus(200, reply);
  expect(reply.body.equals(IMAGE.root.bytes)).toBe(true);
  expect(reply.headers["docker-content-digest"]).toBe(IMAGE.root.digest);
  expect(reply.headers["cache-status"]).toBe(`weir; fwd=stale; ${cacheStatus}`);
  expect(reply.headers.warning).toMatch(
    /^299 - "docker\.io\/library\/app:\d is answered as of 2026-01-01T00:00:00\.\d{3}Z: /,
  );
  expect(reply.headers.warning).toContain(`: ${why}"`);
}

/** The error envelope of a request that nothing held could answer. */
function expectError(reply: HttpReply, status: number, code: string, detail: object, message: RegExp): void {
  const { errors } = JSON.parse(reply.body.toString()) as {
    errors: readonly { code: string; message: string; detail: object }[];
  };
  expect([reply.status, errors.map((error) => error.code)]).toEqual([status, [code]]);
  expect(reply.headers["content-type"]).toBe("application/json");
  expect(errors[0]?.detail).toEqual({ upstream: "docker.io", ...detail });
  expect(errors[0]?.message).toMatch(message);
}

const staleServed = (weir: TestApp, reason: string) =>
  weir.metric("weir_stale_served_total", { upstream: "docker.io", reason });

/** The registry answers with nothing else; tokens are still to be had. */
function always(effect: Effect): () => void {
  return hub.fail({ role: "registry", effect });
}

const asked = () => hub.ledger.filter(({ role }) => role === "registry");

const SILENCE: Effect = { kind: "stall", afterBytes: 0 };
const HTML: Effect = {
  kind: "status",
  status: 200,
  headers: { "content-type": "text/html; charset=utf-8" },
  body: "<html><body>Please sign in to the hotel's network</body></html>",
};

interface Trouble {
  readonly name: string;
  begin(): unknown;
  /** Of the held tag. */
  readonly cacheStatus: string;
  readonly why: string;
  /** Where nothing is held: status, the detail without the upstream, and what the message says. */
  readonly status: number;
  readonly detail: object;
  readonly message: RegExp;
}

/** What an upstream says at once. */
const TROUBLES: readonly Trouble[] = [
  {
    name: "refuses connections",
    begin: () => hub.close(),
    cacheStatus: "detail=stale-if-error",
    why: "docker.io is in trouble (connect)",
    status: 502,
    detail: { reason: "connect" },
    message: /no connection \(ECONNREFUSED\)/,
  },
  {
    name: "breaks connections",
    begin: () => always({ kind: "cut", afterBytes: 0 }),
    cacheStatus: "detail=stale-if-error",
    why: "docker.io is in trouble (connect)",
    status: 502,
    detail: { reason: "connect" },
    message: /the connection broke/,
  },
  {
    name: "answers 500",
    begin: () => always({ kind: "status", status: 500 }),
    cacheStatus: "fwd-status=500; detail=stale-if-error",
    why: "docker.io is in trouble (status, status 500)",
    status: 502,
    detail: { reason: "status", status: 500 },
    message: /manifests\/none answered 500/,
  },
  {
    name: "answers an HTML page with status 200",
    begin: () => always(HTML),
    cacheStatus: "fwd-status=200; detail=stale-if-error",
    why: "docker.io is in trouble (bad-answer, status 200)",
    status: 502,
    detail: { reason: "bad-answer", status: 200 },
    message: /sends an HTML page$/,
  },
];

describe("M4 a held tag", () => {
  for (const trouble of TROUBLES) {
    test(`M4 the upstream ${trouble.name}: the held tag, marked stale, by GET and HEAD`, async () => {
      const weir = await holding();
      await trouble.begin();
      expectStale(await ask(weir, "1"), trouble.cacheStatus, trouble.why);
      const head = await ask(weir, "2", "", "HEAD");
      expect([head.status, head.headers["docker-content-digest"]]).toEqual([200, IMAGE.root.digest]);
      expect(head.headers["cache-status"]).toMatch(/^weir; fwd=stale; (fwd-status=\d+; )?detail=stale-if-error$/);
      expect(head.headers.warning).toContain("docker.io is in trouble");
      expect(await staleServed(weir, "stale-if-error")).toBe(2);
    });
  }

  test("M4 the upstream limits everything (429): the held tag, marked stale", async () => {
    const weir = await holding();
    hub.abuse = true;
    expectStale(
      await ask(weir, "1"),
      "fwd-status=429; detail=stale-if-error",
      "docker.io is in trouble (quota, status 429)",
    );
    expect(await staleServed(weir, "stale-if-error")).toBe(1);
  });

  test("M4 the upstream accepts and is silent: the held tag after softDeadline, while the question is still open", async () => {
    const weir = await holding();
    always(SILENCE);
    const asking = ask(weir, "1");
    await until("the upstream to be asked", () => asked().length === 1);
    clock.advance(SOFT_DEADLINE);
    expectStale(await asking, "detail=soft-deadline", "docker.io is slow to answer");
    expect(asked().map(({ method, status, open }) => ({ method, status, open }))).toEqual([
      { method: "HEAD", status: 0, open: true },
    ]);
    expect(await staleServed(weir, "soft-deadline")).toBe(1);
  });

  test("M4 who joins a question that is late already does not wait for it as long again", async () => {
    const weir = await holding();
    always(SILENCE);
    const asking = ask(weir, "1");
    await until("the upstream to be asked", () => asked().length === 1);
    clock.advance(SOFT_DEADLINE);
    await asking;
    // No more time passes.
    expectStale(await ask(weir, "1"), "detail=soft-deadline", "docker.io is slow to answer");
    expect(asked().map(({ open }) => open)).toEqual([true]);
  });

  test("M4 the upstream answers after 10 s: stale at first, and its answer is used when it comes", async () => {
    const weir = await holding();
    const late = Promise.withResolvers<void>();
    const end = hub.fail({ role: "registry", effect: { kind: "hold", until: late.promise } });
    const asking = ask(weir, "1");
    await until("the upstream to be asked", () => asked().length === 1);
    clock.advance(SOFT_DEADLINE);
    expectStale(await asking, "detail=soft-deadline", "docker.io is slow to answer");
    expect(hub.ledger.at(-1)?.open).toBe(true);
    clock.advance(10 * SECOND - SOFT_DEADLINE);
    end();
    late.resolve();
    await until("the answer to arrive", () => hub.count({ role: "registry", method: "HEAD", status: 200 }) === 1);
    await until("the answer to be used", async () => (await ask(weir, "1")).headers.warning === undefined);
    expect((await ask(weir, "1")).headers["cache-status"]).toMatch(/^weir; hit; ttl=35\d\d$/);
    expect(hub.count({ role: "registry" })).toBe(1);
  });

  test("M4 the upstream's name does not resolve: the held tag, and 502 for what is not held", async () => {
    const first = await holding();
    await first.stop();
    const weir = await app({
      root: first.root,
      upstream: { endpoints: ["http://registry.invalid:5000"] },
    });
    expectStale(await ask(weir, "1"), "detail=stale-if-error", "docker.io is in trouble (connect)");
    expectError(
      await ask(weir, "none"),
      502,
      "UNAVAILABLE",
      { reason: "connect" },
      /registry\.invalid:5000: no connection \((ENOTFOUND|EAI_AGAIN)\)/,
    );
  });
});

toolTest(
  ["openssl"],
  "M4 the upstream's certificate has expired: the held tag, and 502 for what is not held",
  async () => {
    const authority = await createAuthority(stack);
    const first = await holding();
    await first.stop();
    const expired = await startHubDouble(stack, {
      tls: await authority.issue(["127.0.0.1", "127.0.0.2", "127.0.0.3"], { expired: true }),
    });
    const weir = await app({
      root: first.root,
      upstream: { ...hubUpstream(expired), tls: { ca: authority.caFile } },
    });
    expectStale(await ask(weir, "1"), "detail=stale-if-error", "docker.io is in trouble (tls)");
    expectError(await ask(weir, "none"), 502, "UNAVAILABLE", { reason: "tls" }, /TLS failed \(CERT_HAS_EXPIRED\)/);
    expect(expired.ledger).toEqual([]);
  },
);

describe("M4 nothing held", () => {
  for (const trouble of TROUBLES) {
    test(`M4 the upstream ${trouble.name}: ${trouble.status}, saying so`, async () => {
      const weir = await holding();
      await trouble.begin();
      expectError(await ask(weir, "none"), trouble.status, "UNAVAILABLE", trouble.detail, trouble.message);
    });
  }

  test("M4 the upstream is silent: 504 when its time is up", async () => {
    const weir = await holding();
    always(SILENCE);
    const asking = ask(weir, "none");
    await until("the upstream to be asked", () => asked().length === 1);
    clock.advance(HEADERS_TIMEOUT);
    expectError(await asking, 504, "UNAVAILABLE", { reason: "timeout" }, /did not arrive in time/);
  });

  test("M4 the upstream's quota is spent: 429 with Retry-After, but 503 to containerd", async () => {
    const weir = await holding();
    hub.add("library/app", OTHER, ["other"]);
    hub.quota = { limit: 100, windowS: 21_600, remaining: 0 };
    hub.retryAfterS = 120;
    const plain = await ask(weir, "other");
    expectError(
      plain,
      429,
      "TOOMANYREQUESTS",
      { reason: "quota", status: 429 },
      /^the pull quota at docker\.io is spent$/,
    );
    expect(plain.headers["retry-after"]).toBe("120");
    const containerd = await ask(weir, "other", "?ns=docker.io");
    // Nobody is asked again.
    expectError(containerd, 503, "TOOMANYREQUESTS", { reason: "quota" }, /^the pull quota at docker\.io is spent$/);
    expect(containerd.headers["retry-after"]).toBe("120");
  });

  test("M4 the upstream limits everything: a blob is waited for, and comes when the upstream gives it", async () => {
    const weir = await holding();
    hub.add("library/app", OTHER, ["other"]);
    expectStatus(200, await ask(weir, "other"));
    hub.clearLedger();
    hub.abuse = true;
    const [blob] = OTHER.blobs;
    const asking = httpRequest(`${weir.url}/v2/docker.io/library/app/blobs/${blob?.digest}`);
    await until("the upstream to be asked", () => asked().length === 1);
    hub.abuse = false;
    const patience = setInterval(() => clock.advance(SECOND), 1);
    try {
      expect(expectStatus(200, await asking).body.equals(blob?.bytes ?? Buffer.alloc(0))).toBe(true);
    } finally {
      clearInterval(patience);
    }
    expect(asked().map(({ status }) => status)).toEqual([429, 307]);
  });
});

describe("M4 an open breaker", () => {
  /** Serves what is held, and refuses what is not, without asking anybody and without waiting. */
  async function expectNothingAsked(weir: TestApp, tags: readonly string[], reason: string): Promise<void> {
    const [ledger, nowMs] = [hub.lines(), clock.now()];
    for (const tag of tags) {
      expectStale(await ask(weir, tag), "detail=stale-if-error", `docker.io is in trouble (${reason})`);
    }
    const absent = await ask(weir, "none");
    expectError(absent, reason === "timeout" ? 504 : 502, "UNAVAILABLE", { reason }, /5 requests in a row have failed/);
    expect(absent.headers["retry-after"]).toBe("1");
    expect([hub.lines(), clock.now()]).toEqual([ledger, nowMs]);
    expect(await weir.metric("weir_upstream_breaker_open", { upstream: "docker.io" })).toBe(1);
  }

  test("M4 after five 500s nothing is asked; then one probe, and all is well again", async () => {
    const weir = await holding();
    const end = always({ kind: "status", status: 500 });
    for (const tag of ["1", "2"]) expectStatus(200, await ask(weir, tag));
    expect(asked().map(({ status }) => status)).toEqual([500, 500, 500, 500, 500]);
    await expectNothingAsked(weir, ["1", "3", "4", "5", "6"], "status");
    clock.advance(BREAKER_PAUSE);
    end();
    expect((await ask(weir, "1")).headers["cache-status"]).toMatch(/^weir; fwd=stale; ttl=3600; detail=revalidated$/);
    expect(await weir.metric("weir_upstream_breaker_open", { upstream: "docker.io" })).toBe(0);
  });

  test("M4 after five silences nothing is asked", async () => {
    const weir = await holding();
    always(SILENCE);
    const asking = TAGS.slice(0, 5).map((tag) => ask(weir, tag));
    await until("the upstream to be asked", () => asked().length === 5);
    clock.advance(SOFT_DEADLINE);
    for (const reply of await Promise.all(asking)) expectStatus(200, reply);
    clock.advance(HEADERS_TIMEOUT - SOFT_DEADLINE);
    await until("the questions to be given up", () => asked().every(({ open }) => !open));
    await expectNothingAsked(weir, ["1", "6"], "timeout");
  });

  test("M4 after five refused connections nothing is asked", async () => {
    const weir = await holding();
    await hub.close();
    // One more, for the first of them is the token server's.
    for (const tag of TAGS.slice(0, 6)) expectStatus(200, await ask(weir, tag));
    await hub.listen();
    await expectNothingAsked(weir, ["1", "6"], "connect");
  });
});

describe("M5 gone upstream", () => {
  interface Leaving {
    readonly name: string;
    leave(): void;
    readonly status: number;
    readonly code: string;
  }

  const LEAVINGS: readonly Leaving[] = [
    {
      name: "the tag (404)",
      leave: () => hub.removeTag("library/app", "1"),
      status: 404,
      code: "MANIFEST_UNKNOWN",
    },
    {
      name: "the repository (Docker Hub's 401)",
      leave: () => hub.removeRepository("library/app"),
      status: 401,
      code: "NAME_UNKNOWN",
    },
  ];

  const tagsOf = async (weir: TestApp): Promise<unknown> =>
    (await httpRequest(`${weir.url}/v2/docker.io/library/app/tags/list`)).body.toString();

  for (const { name, leave, status, code } of LEAVINGS) {
    test(`M5 keep, ${name}: it stays pullable, and is asked for once in its time`, async () => {
      const weir = await holding();
      leave();
      expectStale(await ask(weir, "1"), `fwd-status=${status}; detail=gone`, "docker.io does not have it any more");
      const costs = hub.lines();
      clock.advance(HOUR - SECOND);
      expectStale(await ask(weir, "1"), `fwd-status=${status}; detail=gone`, "docker.io does not have it any more");
      await pullByHead(weir.url, "library/app", "1", IMAGE);
      expect(hub.lines()).toEqual(costs);
      expect(await staleServed(weir, "gone")).toBe(3);
    });

    test(`M5 drop, ${name}: 404, and it is forgotten`, async () => {
      const weir = await holding({ freshness: { onGone: "drop" } });
      leave();
      const reply = await ask(weir, "1");
      expect([reply.status, JSON.parse(reply.body.toString()).errors[0].code]).toEqual([404, code]);
      // Not even an outage brings it back.
      await hub.close();
      clock.advance(HOUR);
      expect((await ask(weir, "1")).status).toBe(502);
      expect(JSON.parse(String(await tagsOf(weir))).tags).toEqual(TAGS.slice(1));
      expect(await staleServed(weir, "gone")).toBe(0);
    });

    test(`M5 keep:2h, ${name}: kept for so long since it was first missed`, async () => {
      const weir = await holding({ freshness: { onGone: "keep:2h" } });
      leave();
      expectStatus(200, await ask(weir, "1"));
      clock.advance(2 * HOUR - SECOND);
      expectStale(await ask(weir, "1"), `fwd-status=${status}; detail=gone`, "docker.io does not have it any more");
      clock.advance(SECOND);
      expect((await ask(weir, "1")).status).toBe(404);
    });
  }
});
