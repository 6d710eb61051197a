/** `GET /explain`: what the next pull would do, told beforehand, and what a request came to, told afterwards. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Explanation } from "../../src/proxy/explain/explanation.ts";
import type { RequestExplanation, RequestReport } from "../../src/proxy/explain/request-report.ts";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { findAll, parseHtml, textOf } from "../support/html-tree.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, multiArchImage, smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { basic, htpasswd } from "../support/sign-in.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const TOKEN = "an-admin-token-of-some-length";
const PASSWORD = "wrong-hunter2";
const IMAGE = multiArchImage("explained");
const REF = "docker.io/library/app:1";

let stack: AsyncDisposableStack;
let clock: PausingClock;
let hub: HubDouble;
let weir: TestApp;
/** Everything that was explained. */
let told: string[];

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new PausingClock();
  told = [];
  hub = await startHubDouble(stack, {
    now: () => clock.now(),
    accounts: [{ username: "weir", password: "right-hunter2" }],
  });
  hub.add("library/app", IMAGE, ["1", "2"]);
  hub.add("myorg/app", IMAGE, ["1"], "private");
});

afterEach(async () => {
  await stack.disposeAsync();
  expect(told.join("\n")).not.toMatch(/hunter2|an-admin-token/);
});

async function start(upstream: object = {}, config: object = {}): Promise<void> {
  weir = await startTestApp(stack, {
    clock,
    config: {
      admin: { listen: "127.0.0.1:0", token: TOKEN },
      upstreams: { "docker.io": { ...hubUpstream(hub), ...upstream } },
      freshness: { default: "1h", rules: [{ match: "**:latest", ttl: "1m" }] },
      ...config,
    },
  });
}

/** Started, with the image held since just now. */
async function holding(upstream: object = {}, config: object = {}): Promise<void> {
  await start(upstream, config);
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  await fillsOver(weir);
  hub.clearLedger();
}

async function admin(path: string, headers: Readonly<Record<string, string>> = {}): Promise<HttpReply> {
  const reply = await httpRequest(`${weir.adminUrl}${path}`, {
    headers: { authorization: `Bearer ${TOKEN}`, ...headers },
  });
  told.push(reply.body.toString());
  return reply;
}

/** Explains, and holds Weir to it that no upstream is asked and nothing is changed for that. */
async function explain(ref = REF): Promise<Explanation> {
  const asked = hub.ledger.length;
  const query = `ref=${encodeURIComponent(ref)}`;
  const ask = async (): Promise<Explanation> =>
    JSON.parse(expectStatus(200, await admin(`/explain.json?${query}`)).body.toString());
  const [before, explanation] = [await ask(), await ask()];
  // What the storage uses beside blobs is measured now and then.
  const lasting = ({ room, words, ...rest }: Explanation) => ({
    ...rest,
    at: room?.usedAtMs,
    words: withoutRoom(words),
  });
  expect(lasting(explanation)).toEqual(lasting(before));
  expect(hub.ledger.length).toBe(asked);
  const words = expectStatus(200, await admin(`/explain?${query}`)).body.toString();
  expect(withoutRoom(words.trimEnd().split("\n"))).toEqual(withoutRoom(explanation.words));
  return explanation;
}

const withoutRoom = (words: readonly string[]) => words.filter((line) => !line.startsWith("eviction"));

function pull(path = "library/app/manifests/1", headers: Readonly<Record<string, string>> = {}): Promise<HttpReply> {
  return httpRequest(`${weir.url}/v2/docker.io/${path}`, { headers });
}

/** What became of the request with the answer, once it is over. */
async function report(reply: HttpReply): Promise<RequestReport & { readonly words: readonly string[] }> {
  const id = String(reply.headers["x-request-id"]);
  let explanation: RequestExplanation | undefined;
  await until("the request to be over", async () => {
    explanation = JSON.parse((await admin(`/explain.json?request=${id}`)).body.toString()) as RequestExplanation;
    return explanation.requests[0]?.running === false;
  });
  const { requests = [], words = [] } = explanation ?? {};
  const [request] = requests;
  if (request === undefined) throw new Error("nothing is told of the request");
  expect((await admin(`/explain?request=${id}`)).body.toString()).toContain(request.requestId);
  return { ...request, words };
}

const exchanges = ({ steps }: RequestReport): readonly string[] =>
  steps
    .filter(({ step }) => step === "exchange")
    .map(({ fields: { method, kind, status } }) => `${method} ${kind} ${status ?? "none"}`);

const decisions = ({ steps }: RequestReport): readonly unknown[] =>
  steps.filter(({ step }) => step === "decision").map(({ fields: { does, reason } }) => reason ?? does);

test("miss: nothing is held and it would be fetched; the request tells each exchange, its bytes and the token", async () => {
  await start();
  const before = await explain();
  expect(before).toMatchObject({
    reference: REF,
    known: true,
    access: { visibility: "public" },
    tag: { ttlMs: HOUR, rule: "default", ruleKey: "freshness.default", decision: { does: "ask" } },
    next: { does: "fetch", asks: "GET" },
  });
  expect(before.content).toBeUndefined();
  const request = await report(expectStatus(200, await pull()));
  expect(request).toMatchObject({
    form: "prefix",
    line: { upstream: "docker.io", repository: "library/app", reference: "1", status: 200, cache: "miss" },
    cache: { outcome: "miss", stored: true },
    stepsDropped: 0,
  });
  expect(decisions(request)).toEqual(["ask"]);
  expect(exchanges(request)).toEqual(["GET manifest 401", "GET token 200", "GET manifest 200"]);
  expect(request.steps.at(-1)?.fields.bytes).toBe(IMAGE.root.bytes.length);
  expect(request.steps.every(({ tookMs, step }) => step !== "exchange" || tookMs !== undefined)).toBe(true);
  expect(request.words.join("\n")).toContain("cache    miss: fetched from the upstream");
});

test("hit: what is held, by which rule it is fresh, and nobody would be asked; the request has no steps", async () => {
  await holding({ freshness: { rules: [{ match: "docker.io/library/*:1", ttl: "2h" }] } });
  clock.advance(HOUR);
  const explanation = await explain();
  expect(explanation).toMatchObject({
    tag: {
      digest: IMAGE.root.digest,
      ttlMs: 2 * HOUR,
      rule: "docker.io/library/*:1",
      ruleKey: "upstreams.docker.io.freshness.rules[0]",
      decision: { does: "fresh" },
    },
    content: { kind: "manifest", held: true, linked: true, size: IMAGE.root.bytes.length },
    upstream: { endpoints: [{ origin: hub.url }] },
    room: { pinned: false },
    next: { does: "serve" },
  });
  const { platforms = [] } = explanation.content ?? {};
  expect(platforms.map(({ platform }) => platform)).toEqual(["linux/amd64", "linux/arm64", "linux/arm/v7"]);
  expect(platforms.flatMap(({ blobs }) => blobs).every(({ held }) => held)).toBe(true);
  expect(explanation.words).toContain("next pull  it is answered from storage, and nobody is asked");
  const request = await report(expectStatus(200, await pull()));
  expect(request).toMatchObject({ cache: { outcome: "hit" }, steps: [], line: { bytes: IMAGE.root.bytes.length } });
  expect(hub.ledger).toEqual([]);
});

test("past its time to live: it would be asked by one HEAD, and is", async () => {
  await holding();
  clock.advance(HOUR);
  expect(await explain()).toMatchObject({ tag: { decision: { does: "ask" } }, next: { does: "ask", asks: "HEAD" } });
  const request = await report(expectStatus(200, await pull()));
  expect([request.cache.outcome, exchanges(request)]).toEqual(["revalidated", ["GET token 200", "HEAD manifest 200"]]);
});

test("collapsed: who joins says so, in the words of before and after", async () => {
  await start();
  const late = Promise.withResolvers<void>();
  hub.fail({ role: "registry", effect: { kind: "hold", until: late.promise } });
  const first = pull();
  await until("the registry to be asked", () => hub.ledger.length === 1);
  const { tag, next } = await explain();
  expect([tag?.askingSinceMs === undefined, next.does]).toEqual([false, "join"]);
  const second = pull("library/app/manifests/1", { "x-request-id": "the-second" });
  await until("the second to be under way", async () => (await admin("/explain?request=the-second")).status === 200);
  await expect
    .poll(async () => (await admin("/explain.json?request=the-second")).body.toString())
    .toContain('"decision"');
  const running = (await admin("/explain?request=the-second")).body.toString();
  expect(running).toContain(`route    ${REF}, by the registry's name in the path\nanswer   not yet: it is under way`);
  const recent = await admin("/page/pulls");
  expect(findAll(parseHtml(recent.body.toString()), "tr").map(textOf)).toContainEqual(
    expect.stringMatching(/^docker\.io\/library\/app:1 GET manifest\s*under way/),
  );
  late.resolve();
  const [one, two] = [await report(await first), await report(await second)];
  expect([one.cache.outcome, two.cache.outcome]).toEqual(["miss", "collapsed"]);
  expect(exchanges(one).at(-1)).toBe("GET manifest 200");
  expect(exchanges(two)).toEqual([]);
  expect(two.steps.map(({ step }) => step)).toEqual(["decision", "joined"]);
});

test("a blob: who starts the download and who joins it, how far it is, and its bytes", async () => {
  const big = bigImage("explained big", 3 << 20);
  hub.add("library/big", big, ["1"]);
  await start();
  await pull("library/big/manifests/1");
  const [largest] = [...big.blobs].sort((a, b) => b.bytes.length - a.bytes.length);
  const { digest = "", bytes } = largest ?? {};
  const path = `library/big/blobs/${digest}`;
  expect((await explain(`docker.io/library/big@${digest}`)).next).toMatchObject({ does: "fetch" });
  const late = Promise.withResolvers<void>();
  const end = hub.fail({ role: "cdn", effect: { kind: "hold", until: late.promise } });
  const first = pull(path);
  await until("the blob's host to be asked", () => hub.count({ role: "cdn" }) === 1);
  const during = await explain(`docker.io/library/big@${digest}`);
  expect(during).toMatchObject({
    content: { kind: "blob", held: false, blobs: [{ fill: { position: 0 } }] },
    next: { does: "join" },
  });
  const second = pull(path, { "x-request-id": "the-second" });
  await expect.poll(async () => (await admin("/explain.json?request=the-second")).body.toString()).toContain('"fill"');
  end();
  late.resolve();
  const [one, two] = [await report(await first), await report(await second)];
  await fillsOver(weir);
  expect([one.line.bytes, two.line.bytes]).toEqual([bytes?.length, bytes?.length]);
  const fill = (request: RequestReport) => request.steps.find(({ step }) => step === "fill")?.fields;
  expect([fill(one)?.started, fill(two)?.started]).toEqual([true, false]);
  expect(exchanges(two)).toEqual([]);
  const { steps } = await report(await pull(path, { "x-request-id": String(one.requestId) }));
  expect(steps).toEqual([]);
  const both = JSON.parse(
    (await admin(`/explain.json?request=${one.requestId}`)).body.toString(),
  ) as RequestExplanation;
  const finished = both.requests.find((request) => request.steps.length > 0);
  expect(finished?.steps.find(({ step }) => step === "fill")?.fields.outcome).toBe("committed");
  expect(finished?.steps.filter(({ fields }) => fields.hop === 1).map(({ fields }) => fields.bytes)).toEqual([
    bytes?.length,
  ]);
});

test("stale by error: an open breaker is told with its failure, and that the held manifest is served", async () => {
  await holding();
  clock.advance(HOUR);
  await pull();
  hub.fail({ role: "registry", effect: { kind: "status", status: 503 } });
  clock.advance(HOUR);
  const trouble = await report(expectStatus(200, await pull()));
  expect([trouble.cache.outcome, trouble.cache.detail, decisions(trouble)]).toEqual([
    "stale",
    "stale-if-error",
    ["ask", "stale-if-error"],
  ]);
  expect(exchanges(trouble)).toContain("HEAD manifest 503");
  expect(String(trouble.cache.warning)).toContain("docker.io is in trouble");
  for (let pulls = 0; pulls < 4; pulls += 1) await pull();
  const { upstream, next, words } = await explain();
  const [endpoint] = upstream?.endpoints ?? [];
  expect(endpoint?.breakers.find(({ origin }) => origin === hub.url)).toMatchObject({
    open: true,
    reason: "status 503",
  });
  expect(endpoint?.refusal).toContain("requests in a row have failed");
  expect(next).toMatchObject({ does: "serve-stale", reason: "stale-if-error" });
  expect(words.join("\n")).toMatch(/breaker {4}open for http:\S+ \(status 503\)/);
  hub.clearLedger();
  const quick = await report(expectStatus(200, await pull()));
  expect([quick.cache.detail, exchanges(quick)]).toEqual(["stale-if-error", []]);
  expect((await explain("docker.io/library/app:9")).next).toMatchObject({ does: "refuse" });
});

test("stale by deadline: the request says that it did not wait any longer", async () => {
  await holding();
  clock.advance(HOUR);
  hub.fail({ role: "registry", effect: { kind: "stall", afterBytes: 0 } });
  const asking = pull();
  await until("the upstream to be asked", () => hub.count({ role: "registry" }) === 1);
  clock.advance(1_500);
  const request = await report(expectStatus(200, await asking));
  expect([request.cache.detail, decisions(request)]).toEqual(["soft-deadline", ["ask", "soft-deadline"]]);
  const unanswered = request.steps.filter(({ step }) => step === "exchange").at(-1);
  expect([unanswered?.fields.method, unanswered?.tookMs]).toEqual(["HEAD", undefined]);
  expect(request.words.join("\n")).toContain("no answer yet");
  const { tag, next } = await explain();
  expect(tag?.askingSinceMs).toBe(clock.now() - 1_500);
  expect(next.does).toBe("join");
});

test("negative: the absence is remembered, and told in the upstream's words", async () => {
  await start();
  expect((await pull("library/app/manifests/9")).status).toBe(404);
  const { tag, next } = await explain("app:9");
  expect(tag?.absent).toContain("answered 404");
  expect(next).toMatchObject({ does: "refuse" });
  hub.clearLedger();
  const request = await report(await pull("library/app/manifests/9"));
  expect(request).toMatchObject({
    cache: { outcome: "negative" },
    error: { code: "MANIFEST_UNKNOWN" },
    line: { status: 404 },
  });
  expect(decisions(request)).toEqual(["refuse"]);
  expect(hub.ledger).toEqual([]);
  clock.advance(MINUTE);
  expect((await explain("app:9")).next).toMatchObject({ does: "fetch" });
});

test("gone upstream: it is kept, as freshness.onGone says", async () => {
  await holding();
  hub.removeTag("library/app", "1");
  clock.advance(HOUR);
  expectStatus(200, await pull());
  const { tag, next } = await explain();
  expect(tag).toMatchObject({ goneSinceMs: expect.any(Number), digest: IMAGE.root.digest });
  expect(next).toMatchObject({ does: "serve-stale", reason: "gone" });
});

test("denied by a rule: the key that decides", async () => {
  await start({ deny: ["team/*", "app:2"] });
  expect(await explain("app:2")).toMatchObject({
    access: { deniedBy: "upstreams.docker.io.deny[1]" },
    next: { does: "deny", key: "upstreams.docker.io.deny[1]" },
  });
  const request = await report(await pull("library/app/manifests/2"));
  expect(request).toMatchObject({ line: { status: 403 }, error: { code: "DENIED" }, steps: [] });
  expect(request.error?.message).toContain("upstreams.docker.io.deny[1]");
});

test("frozen, and rules about anonymous callers: what the next pull gets, and by which key", async () => {
  await holding();
  const upstreams = { "docker.io": { ...hubUpstream(hub), frozen: true } };
  await weir.configure({ upstreams });
  clock.advance(2 * HOUR);
  expect(await explain()).toMatchObject({
    access: { withheldBy: "upstreams.docker.io.frozen" },
    next: { does: "serve-stale", reason: "withheld" },
  });
  expect((await pull()).headers.warning).toContain("upstreams.docker.io.frozen is true");
  expect((await explain("app:2")).next).toMatchObject({ does: "deny", key: "upstreams.docker.io.frozen" });
  const request = await report(await pull("library/app/manifests/2"));
  expect(request).toMatchObject({ line: { status: 403 }, error: { code: "DENIED" } });
  expect(request.error?.message).toContain("upstreams.docker.io.frozen is true");

  await weir.configure({ access: { rules: [{ effect: "allow", accounts: ["alice"] }] } });
  expect(await explain()).toMatchObject({
    access: { closedBy: "access.rules" },
    next: { does: "deny", key: "access.rules" },
  });
  expect((await explain()).words.join("\n")).toContain("kept from clients that have not signed in by access.rules");
  expect(hub.ledger).toEqual([]);
});

test("who has signed in is named; what is denied to others says so, and by which rule, before and after", async () => {
  const file = join(await tempFolder(stack), "htpasswd");
  await writeFile(file, await htpasswd({ alice: PASSWORD }));
  const mode = ["anonymous", "htpasswd"];
  await start({}, { access: { mode, htpasswd: { file }, rules: [{ effect: "allow", accounts: ["alice"] }] } });
  expect((await explain()).next).toMatchObject({ does: "deny", key: "access.rules" });
  const refused = await report(await pull());
  expect(refused).toMatchObject({ line: { status: 401 }, error: { code: "UNAUTHORIZED" }, steps: [] });
  expect(refused.error?.message).toContain("no rule allows anonymous callers pull of");
  const signedIn = await report(
    expectStatus(200, await pull("library/app/manifests/1", { authorization: basic("alice", PASSWORD) })),
  );
  expect(signedIn).toMatchObject({ line: { account: "alice" }, cache: { outcome: "miss" } });
  expect(signedIn.words.join("\n")).toContain("(signed in as alice)");
  expect((await explain()).next).toMatchObject({ does: "deny", key: "access.rules" });
});

describe("a private repository", () => {
  const credentials = [{ label: "ci", username: "weir", password: "right-hunter2" }];

  test("private to anonymous: when it was asked, and the key that keeps it", async () => {
    await start({ credentials });
    const ref = "docker.io/myorg/app:1";
    expect(await explain(ref)).toMatchObject({
      access: { visibility: "unknown" },
      next: { does: "ask", asks: "visibility" },
      upstream: { endpoints: [{ credential: "ci" }] },
    });
    const request = await report(await pull("myorg/app/manifests/1"));
    expect(request).toMatchObject({ line: { status: 403 }, error: { code: "DENIED" } });
    expect(request.steps.find(({ step }) => step === "visibility")?.fields.visibility).toBe("private");
    expect(await explain(ref)).toMatchObject({
      access: { visibility: "private", closedBy: "access.privateToAnonymous", visibilityAtMs: expect.any(Number) },
      next: { does: "deny", key: "access.privateToAnonymous" },
    });
  });

  test("its proof: how old, and that it is asked for anew", async () => {
    await start({ credentials }, { access: { privateToAnonymous: true }, freshness: { default: "1d" } });
    expectStatus(200, await pull("myorg/app/manifests/1"));
    const digest = `docker.io/myorg/app@${IMAGE.root.digest}`;
    expect(await explain(digest)).toMatchObject({
      access: { provedAtMs: expect.any(Number) },
      next: { does: "serve" },
    });
    clock.advance(HOUR);
    for (const ref of [digest, "docker.io/myorg/app:1"]) {
      const { next } = await explain(ref);
      expect([next.does, next.asks]).toEqual(["ask", "HEAD"]);
      expect(next.why.join()).toContain("freshness.proofTtl");
    }
  });

  test("a parked credential: until when, and that nothing is sent", async () => {
    await start({ credentials: [{ ...credentials[0], password: PASSWORD }] }, { access: { privateToAnonymous: true } });
    const request = await report(await pull("myorg/app/manifests/1"));
    expect(request).toMatchObject({ line: { status: 502 }, error: { code: "UNAVAILABLE" } });
    const { upstream, next, words } = await explain("docker.io/myorg/app:1");
    const [endpoint] = upstream?.endpoints ?? [];
    expect(endpoint?.credential).toBeUndefined();
    expect(endpoint?.credentials).toMatchObject([{ label: "ci", parkedUntilMs: expect.any(Number) }]);
    expect(endpoint?.refusal).toContain('credential "ci" was refused');
    expect(words.join("\n")).toContain("ci is parked for");
    expect(next.does).not.toBe("serve");
  });
});

test("quota spent: for whom, until when, and what of it is served all the same", async () => {
  await holding();
  hub.add("library/other", smallImage("explained other"), ["1"]);
  hub.add("library/one", smallImage("explained one"), ["1"]);
  hub.quota = { limit: 100, windowS: 21_600, remaining: 1 };
  hub.retryAfterS = 600;
  expectStatus(200, await pull("library/one/manifests/1"));
  const request = await report(await pull("library/other/manifests/1"));
  expect(request).toMatchObject({ line: { status: 429 }, error: { code: "TOOMANYREQUESTS" } });
  expect(exchanges(request).at(-1)).toBe("GET manifest 429");
  const { upstream, next, words } = await explain("other:1");
  expect(upstream).toMatchObject({
    budgetLow: true,
    endpoints: [{ quotas: [{ limit: 100, remaining: 0, closedUntilMs: clock.now() + 600 * SECOND }] }],
  });
  expect(next).toMatchObject({ does: "refuse" });
  expect(next.why.join()).toContain("the pull quota of anonymous requests is spent");
  expect(words.join("\n")).toMatch(/quota {6}anonymous.*: 0 of 100 left in 6 h; spent: not asked for 10 min more/);
  expect((await explain()).next).toMatchObject({ does: "serve" });
});

test("evicted: which blobs are missing, and when the next would go", async () => {
  const big = bigImage("explained room", 3 << 20);
  hub.add("library/big", big, ["1"]);
  const root = join(await tempFolder(stack), "data");
  await holding({}, { storage: { driver: "filesystem", filesystem: { root }, maxSize: "2MiB" } });
  await pullByHead(weir.url, "library/big", "1", big);
  await fillsOver(weir);
  await until(
    "the big blob to go",
    async () => (await explain("docker.io/library/big:1")).content?.blobs.some(({ held }) => !held) === true,
  );
  const { content, next, words, room } = await explain("docker.io/library/big:1");
  expect(content).toMatchObject({ held: true });
  expect(next).toMatchObject({ does: "serve" });
  expect(words.join("\n")).toContain("missing 3.0 MiB");
  expect(room?.evictsAboveBytes).toBeCloseTo(0.95 * (2 << 20), -1);
  const { digest = "" } = content?.blobs.find(({ held }) => !held) ?? {};
  expect(await explain(`docker.io/library/big@${digest}`)).toMatchObject({
    content: { held: false },
    next: { does: "fetch", why: [expect.stringContaining("it is not held")] },
  });
  hub.clearLedger();
  const request = await report(await pull(`library/big/blobs/${digest}`));
  expect(request).toMatchObject({ cache: { outcome: "miss" }, line: { status: 200 } });
  expect(request.line.bytes).toBeGreaterThan(3 << 20);
  expect(exchanges(request)).toContain("GET blob 200");
  const fill = request.steps.find(({ step }) => step === "fill");
  expect(fill?.fields).toMatchObject({ digest, started: true });
  expect(request.words.join("\n")).toContain(`started the download of ${digest}`);
});

test("what makes no sense is 400, without the token 401, and an unknown request 404", async () => {
  await start();
  for (const query of [
    "",
    "?ref=app",
    "?ref=docker.io/**:1",
    "?ref=https://docker.io/app:1",
    "?ref=app:1&request=a",
    "?ref=app:1&x=1",
    "?ref=app:1&ref=app:2",
  ]) {
    expect([query, (await admin(`/explain${query}`)).status]).toEqual([query, 400]);
  }
  expect((await httpRequest(`${weir.adminUrl}/explain?ref=app:1`)).status).toBe(401);
  expect((await admin("/explain?request=never")).status).toBe(404);
  const reply = await admin("/explain?ref=app:1", { accept: "application/json" });
  expect(JSON.parse(reply.body.toString())).toMatchObject({ reference: REF });
  expect((await explain("registry.example/app:1")).next).toMatchObject({ does: "refuse" });
});

test("what an upstream says stays text", async () => {
  await start();
  const headers = {
    "ratelimit-limit": "100;w=21600",
    "ratelimit-remaining": "50;w=21600",
    "docker-ratelimit-source": "<script>alert(1)</script>",
  };
  const body = '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"<script>alert(1)</script>\\u001b[31m\\u2028"}]}';
  hub.fail({ role: "registry", path: /manifests/, effect: { kind: "status", status: 404, headers, body } });
  const request = await report(await pull("library/app/manifests/9"));
  const reply = await admin("/explain?ref=app:9");
  expect([reply.headers["content-type"], reply.headers["x-content-type-options"]]).toEqual([
    "text/plain; charset=utf-8",
    "nosniff",
  ]);
  for (const text of [...request.words, ...reply.body.toString().split("\n")])
    expect(text).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
  // The same on the pages.
  for (const query of ["ref=app:9", `request=${request.requestId}`]) {
    const page = parseHtml(expectStatus(200, await admin(`/page/explain?${query}`)).body.toString());
    if (query.startsWith("ref="))
      expect(textOf(page)).toContain("anonymous (<script>alert(1)</script>): 50 of 100 left");
    expect(findAll(page, "script")).toEqual([]);
  }
});
