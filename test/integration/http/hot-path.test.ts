/** What the proxy has at hand goes out before Koa, and nobody can tell by anything but the time that it took. */
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AccessDeniedError } from "../../../src/access/denied-error.ts";
import { anonymous } from "../../../src/access/identity.ts";
import { makeSigningKey } from "../../../src/access/token-keys.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { LISTENER_TIMEOUTS } from "../../../src/http/listener.ts";
import type { RequestTrails } from "../../../src/http/observer.ts";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import type { CacheInfo, ReadyAnswer, ReadyCall, Visibility } from "../../../src/proxy/answers.ts";
import { createRecentRequests, type RecentRequests } from "../../../src/telemetry/recent-requests.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { httpRequest } from "../../support/network.ts";
import { accessBench, basic, fileOf, htpasswd, signInOf } from "../../support/sign-in.ts";
import {
  BLOB,
  BLOB_DIGEST,
  BLOB_PATH,
  blobAnswer,
  bytesOf,
  type Front,
  MANIFEST,
  MANIFEST_DIGEST,
  open,
  readToEnd,
  sendRaw,
  startFront,
  waitFor,
} from "./front.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface Held {
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly visibility: Visibility;
}

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const LARGE = Buffer.from(JSON.stringify({ ä: "界".repeat(10_000) }));
const ONE_PIECE = Buffer.from(JSON.stringify({ ä: "ö \u0000 界" }));
const EMPTY = Buffer.alloc(0);
const TTL_S = 540;

/** By tag or digest. */
const HELD: ReadonlyMap<string, Held> = new Map([
  ["1", { mediaType: MANIFEST_TYPE, bytes: MANIFEST, visibility: "public" }],
  ["private", { mediaType: "application/json", bytes: ONE_PIECE, visibility: "private" }],
  ["large", { mediaType: MANIFEST_TYPE, bytes: LARGE, visibility: "public" }],
  ["broken", { mediaType: "a/b\r\nX: y", bytes: MANIFEST, visibility: "public" }],
  ...[MANIFEST, ONE_PIECE, LARGE].map((bytes): [string, Held] => [
    digestOf(bytes),
    { mediaType: MANIFEST_TYPE, bytes, visibility: bytes === ONE_PIECE ? "private" : "public" },
  ]),
  ...[BLOB, EMPTY].map((bytes): [string, Held] => [
    digestOf(bytes),
    { mediaType: "application/octet-stream", bytes, visibility: "public" },
  ]),
]);

interface Way extends Front {
  /** Calls that were answered at once. */
  readonly ready: readonly ReadyCall[];
  readonly recent: RecentRequests;
}

type Changes = NonNullable<Parameters<typeof startFront>[1]>;

/** A front whose proxy holds this; `hot` says whether it has it at hand. */
async function startWay(hot: boolean, held: ReadonlyMap<string, Held>, changes: Changes = {}): Promise<Way> {
  const clock = new ManualClock(Date.parse("2026-03-01T12:00:00Z"));
  const recent = createRecentRequests(clock);
  const front = await startFront(stack, { clock, trails: recent, ...changes });
  const ready: ReadyCall[] = [];
  const answers = new Map<string, ReadyAnswer>();
  front.proxy.onManifest = ({ reference, head }) => {
    const name = reference.kind === "tag" ? reference.tag : reference.digest;
    const { bytes, ...found } = must(held.get(name));
    const cache: CacheInfo = { outcome: "hit", ...(reference.kind === "tag" ? { ttlS: TTL_S } : {}) };
    return { ...found, digest: digestOf(bytes), size: bytes.length, bytes: head ? undefined : bytes, cache };
  };
  front.proxy.onBlob = ({ digest, head, range }) => {
    const { bytes, visibility } = must(held.get(digest));
    const part = range === undefined ? undefined : { start: 0, end: 4 };
    const shown = part === undefined ? bytes : bytes.subarray(0, 5);
    return {
      digest,
      size: bytes.length,
      visibility,
      cache: { outcome: "hit" },
      part,
      body: head ? undefined : bytesOf(...(shown.length === 0 ? [] : [shown])),
      async release() {},
    };
  };
  front.proxy.onReady = (call) => {
    const { asked } = call;
    const name = asked.kind === "blob" ? asked.digest : asked.reference[asked.reference.kind as "tag" & "digest"];
    const found = held.get(name);
    if (!hot || found === undefined) return undefined;
    ready.push(call);
    const { bytes, mediaType, visibility } = found;
    const answer = answers.get(name) ?? {
      kind: asked.kind,
      digest: digestOf(bytes),
      mediaType,
      size: bytes.length,
      bytes,
      visibility,
      freshUntilMs:
        asked.kind === "manifest" && asked.reference.kind === "tag" ? clock.now() + TTL_S * 1000 : undefined,
    };
    answers.set(name, answer);
    return answer;
  };
  return { ...front, ready, recent };
}

function must(held: Held | undefined): Held {
  if (held === undefined) throw new Error("nothing of that name is held");
  return held;
}

const get = (path: string, version = "1.1"): string => `GET ${path} HTTP/${version}\r\nHost: weir\r\n\r\n`;

const CLOSE = "Connection: close\r\n";

/** Reads one answer, on a connection that may be kept. */
async function sendKept(port: number, bytes: string): Promise<{ readonly text: string; readonly ended: string }> {
  const socket = await open(port);
  socket.setEncoding("latin1");
  socket.write(bytes);
  let text = "";
  const isWhole = (): boolean => {
    const head = text.indexOf("\r\n\r\n");
    const hasBody = bytes.startsWith("GET ") && text.startsWith("HTTP/1.1 200 ");
    const length = hasBody ? Number(/\r\nContent-Length: (\d+)/.exec(text)?.[1]) : 0;
    return head !== -1 && text.length >= head + 4 + length;
  };
  while (!isWhole()) text += String((await once(socket, "data"))[0]);
  // What comes behind it would be seen before the answer to this.
  const next = `GET /nowhere HTTP/1.1\r\nHost: weir\r\n${CLOSE}\r\n`;
  const seen = readToEnd(socket);
  socket.write(next);
  const rest = await seen;
  expect(rest.text).toMatch(/^(?:HTTP\/1.1 404 .*)?$/s);
  return { text, ended: rest.text === "" ? "closed" : "kept" };
}

/** Sends the request twice, so that its route is known; gives all that the second came to. */
async function second(way: Way, request: string) {
  await sendRaw(way.port, request.includes(CLOSE) ? request : request.replace("\r\n\r\n", `\r\n${CLOSE}\r\n`));
  await way.accessLine(() => true);
  const [ready, called, denied] = [way.ready.length, way.proxy.calls.length, way.denied.length];
  const { text, ended } = await (request.includes(CLOSE) ? sendRaw(way.port, request) : sendKept(way.port, request));
  await way.accessLine((line) => line !== way.lines.find(({ msg }) => msg === "request"));
  const lines = way.lines.filter(({ msg, path }) => msg === "request" && path !== "/nowhere");
  const report = [...way.recent.reports()].find(({ line }) => line.path !== "/nowhere");
  const answered = way.answered.findLast(({ upstream }) => upstream !== undefined) ?? way.answered.at(-1);
  return {
    text: text.replace(/\r\nDate: [^\r]*/, "").replace(/\r\nX-Request-Id: made-[^\r]*/, "\r\nX-Request-Id: made"),
    ended,
    requests: lines.length,
    line: { ...lines.at(-1), time: "", requestId: "", firstByteMs: typeof lines.at(-1)?.firstByteMs, totalMs: 0 },
    answered: { ...answered, firstByteMs: typeof answered?.firstByteMs, totalMs: 0 },
    report: report && { ...report, requestId: "", line: { ...report.line, requestId: "", firstByteMs: 0, totalMs: 0 } },
    denied: way.denied.length - denied,
    ready: way.ready.length - ready,
    called: way.proxy.calls.length - called,
  };
}

/** The same of both ways. */
async function both(request: string, changes: () => Changes = () => ({})) {
  const hot = await second(await startWay(true, HELD, changes()), request);
  const long = await second(await startWay(false, HELD, changes()), request);
  const { ready, called, ...shown } = hot;
  const { ready: _, called: __, ...expected } = long;
  expect(shown).toEqual(expected);
  return { ready, called, ...shown };
}

const request = (line: string, ...headers: readonly string[]): string =>
  `${[line, "Host: weir", "Connection: close", ...headers].join("\r\n")}\r\n\r\n`;

const TAG = "/v2/library/nginx/manifests/1";
const BY_DIGEST = `/v2/quay.io/coreos/etcd/manifests/${MANIFEST_DIGEST}`;
const EMPTY_PATH = BLOB_PATH.replace(BLOB_DIGEST, digestOf(EMPTY));

describe("at hand, the answer is the same, byte by byte, and so is what is taken down of it", () => {
  test.each([
    ["a tag", request(`GET ${TAG} HTTP/1.1`), 200],
    ["its HEAD", request(`HEAD ${TAG} HTTP/1.1`), 200],
    ["a digest", request(`GET ${BY_DIGEST} HTTP/1.1`), 200],
    ["its HEAD", request(`HEAD ${BY_DIGEST} HTTP/1.1`), 200],
    ["a blob", request(`GET ${BLOB_PATH} HTTP/1.1`), 200],
    ["its HEAD", request(`HEAD ${BLOB_PATH} HTTP/1.1`), 200],
    ["B13 an empty blob", request(`GET ${EMPTY_PATH} HTTP/1.1`), 200],
    ["a private tag whose bytes are not all ASCII", request("GET /v2/a/b/manifests/private HTTP/1.1"), 200],
    ["a private digest", request(`GET /v2/a/b/manifests/${digestOf(ONE_PIECE)} HTTP/1.1`), 200],
    ["a large manifest", request("GET /v2/a/b/manifests/large HTTP/1.1"), 200],
    ["ns", request(`GET ${TAG}?ns=docker.io HTTP/1.1`), 200],
    ["ns of an alias", request(`GET ${BLOB_PATH}?ns=registry-1.docker.io HTTP/1.1`), 200],
    ["a prefix", request("GET /docker.io/v2/nginx/manifests/1 HTTP/1.1"), 200],
    ["an absolute target", request(`GET http://hub.example${TAG} HTTP/1.1`), 200],
    ["a query that means nothing", request(`GET ${TAG}?token=geheim HTTP/1.1`), 200],
    ["an id of the client's", request(`GET ${TAG} HTTP/1.1`, "X-Request-Id: theirs.1"), 200],
    ["an id that is none", request(`GET ${TAG} HTTP/1.1`, "X-Request-Id: a b"), 200],
    ["a user agent of any kind", request(`GET ${TAG} HTTP/1.1`, `User-Agent: \x9b"${"z".repeat(1000)}`), 200],
    ["Accept", request(`GET ${TAG} HTTP/1.1`, "Accept: a/b", "Accept: c/d"), 200],
    ["credentials that nobody asked for", request(`GET ${TAG} HTTP/1.1`, "Authorization: Basic YTpi"), 200],
    ["HTTP/1.0", request(`GET ${TAG} HTTP/1.0`), 200],
    ["HTTP/1.0, HEAD", request(`HEAD ${BLOB_PATH} HTTP/1.0`), 200],
    ["an If-None-Match of others", request(`GET ${TAG} HTTP/1.1`, 'If-None-Match: "sha256:other", W/"x"'), 200],
    ...[`"${MANIFEST_DIGEST}"`, `W/"${MANIFEST_DIGEST}"`, MANIFEST_DIGEST, `"x", "${MANIFEST_DIGEST}"`, "*"].flatMap(
      (tags): [string, string, number][] => [
        [`If-None-Match: ${tags}`, request(`GET ${TAG} HTTP/1.1`, `If-None-Match: ${tags}`), 304],
        [`HEAD, If-None-Match: ${tags}`, request(`HEAD ${BY_DIGEST} HTTP/1.1`, `If-None-Match: ${tags}`), 304],
      ],
    ),
    ["a blob's If-None-Match", request(`GET ${BLOB_PATH} HTTP/1.1`, `If-None-Match: "${BLOB_DIGEST}"`), 304],
  ])("%s", async (_, bytes, status) => {
    for (const sent of [bytes, bytes.replace(CLOSE, "")]) {
      const { ready, called, text } = await both(sent);
      expect([ready, called]).toEqual([1, 0]);
      expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    }
  });

  test("a virtual host", async () => {
    const { ready } = await both(request(`GET ${TAG} HTTP/1.1`).replace("Host: weir", "Host: hub.example:80"));
    expect(ready).toBe(1);
  });
});

describe("what is out of the ordinary goes the long way", () => {
  test.each([
    ["a range", request(`GET ${BLOB_PATH} HTTP/1.1`, "Range: bytes=0-4"), 206],
    ["If-Range", request(`GET ${BLOB_PATH} HTTP/1.1`, "If-Range: x"), 200],
    ["a body", `${request(`GET ${TAG} HTTP/1.1`, "Content-Length: 3")}abc`, 200],
    ["a body in chunks", `${request(`GET ${TAG} HTTP/1.1`, "Transfer-Encoding: chunked")}0\r\n\r\n`, 200],
    ["Expect", request(`GET ${TAG} HTTP/1.1`, "Expect: 100-continue"), 200],
    ["another expectation", request(`GET ${TAG} HTTP/1.1`, "Expect: miracles"), 200],
    ["no Host", "GET /v2/library/nginx/manifests/1 HTTP/1.1\r\nConnection: close\r\n\r\n", 400],
    ["no Host in HTTP/1.0", "GET /v2/library/nginx/manifests/1 HTTP/1.0\r\n\r\n", 200],
    ["a write", request(`DELETE ${TAG} HTTP/1.1`), 405],
    ["a target longer than is remembered", request(`GET ${TAG}?${"x".repeat(600)} HTTP/1.1`), 200],
    ["/v2/", request("GET /v2/ HTTP/1.1"), 200],
    ["what cannot be understood", request("GET /v2/A/manifests/1 HTTP/1.1"), 400],
  ])("%s", async (_, bytes, status) => {
    const { ready, text } = await both(bytes);
    expect(ready).toBe(0);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  test("what cannot be written as a header is the long way's to tell of", async () => {
    const { ready, called, text } = await both(request("GET /v2/a/b/manifests/broken HTTP/1.1"));
    expect([ready, called]).toEqual([1, 1]);
    expect(text).toMatch(/^HTTP\/1.1 500 /);
    expect(text).not.toContain("X: y");
  });

  test("a failure that nobody foresaw costs its own connection only", async () => {
    const way = await startWay(true, HELD);
    await sendRaw(way.port, request(`GET ${TAG} HTTP/1.1`));
    way.proxy.onReady = () => {
      throw new Error("the inside of Weir");
    };
    expect((await sendRaw(way.port, request(`GET ${TAG} HTTP/1.1`))).ended).toBe("reset");
    expect((await sendRaw(way.port, request("GET /v2/ HTTP/1.1"))).text).toMatch(/^HTTP\/1.1 200 /);
    expect(way.lines).toContainEqual(
      expect.objectContaining({ level: "error", err: expect.objectContaining({ message: "the inside of Weir" }) }),
    );
  });

  test("content of which only a part is at hand", async () => {
    const way = await startWay(true, HELD);
    const whole = way.proxy.onReady;
    way.proxy.onReady = (call) => {
      const answer = whole(call);
      return answer && { ...answer, bytes: undefined };
    };
    expect((await second(way, request(`GET ${TAG} HTTP/1.1`))).called).toBe(1);
    expect((await second(way, request(`HEAD ${TAG} HTTP/1.1`))).called).toBe(0);
    way.proxy.onReady = (call) => {
      const answer = whole(call);
      return answer && { ...answer, bytes: answer.bytes?.subarray(1) };
    };
    const { text, called } = await second(way, request(`GET ${TAG} HTTP/1.1`));
    expect([text.endsWith(MANIFEST.toString()), called]).toEqual([true, 1]);
  });
});

test.each([CLOSE, ""])("a traced request has its place in the line", async (close) => {
  const recent = createRecentRequests(systemClock);
  const place = { traceId: "a".repeat(32), spanId: "b".repeat(16), headers: () => ({}) };
  const trails: RequestTrails = {
    start: (id) => Object.assign(recent.start(id), { place }),
    atOnce(request) {
      recent.atOnce(request, {});
      return place;
    },
  };
  const { ready, line } = await both(`GET ${TAG} HTTP/1.1\r\nHost: weir\r\n${close}\r\n`, () => ({ trails }));
  expect([ready, line]).toEqual([1, expect.objectContaining({ traceId: place.traceId, spanId: place.spanId })]);
});

test("a tag's ttl is what is left of it at the time", async () => {
  const clock = new ManualClock(0);
  const way = await startWay(true, HELD, { clock });
  way.proxy.onReady = (): ReadyAnswer => answer;
  const answer: ReadyAnswer = {
    kind: "manifest",
    digest: MANIFEST_DIGEST,
    mediaType: MANIFEST_TYPE,
    size: MANIFEST.length,
    bytes: MANIFEST,
    visibility: "public",
    freshUntilMs: 10_000,
  };
  const status = async () => (await httpRequest(way.url + TAG)).headers["cache-status"];
  await status();
  const seen = [await status()];
  for (const ms of [400, 600, 500, 8_400, 200]) {
    clock.advance(ms);
    seen.push(await status());
  }
  expect(seen).toEqual([10, 9, 9, 8, 0, 0].map((ttl) => `weir; hit; ttl=${ttl}`));
});

describe("who may", () => {
  test("not come in is told so every time, and counted", async () => {
    const { ready, denied, text } = await both(request(`GET ${TAG} HTTP/1.1`), () => ({
      access: { deny: ["127.0.0.1"] },
    }));
    expect([ready, denied]).toEqual([0, 1]);
    expect(text).toMatch(/^HTTP\/1.1 403 /);
  });

  test("is asked of each client behind a proxy, on one connection", async () => {
    const way = await startWay(true, HELD, { trustedProxies: ["127.0.0.1"], access: { deny: ["192.0.2.66"] } });
    await sendRaw(way.port, request(`GET ${TAG} HTTP/1.1`));
    const clients = ["192.0.2.1", "192.0.2.66", "192.0.2.2", "192.0.2.66, 127.0.0.1", "192.0.2.1"];
    const socket = await open(way.port);
    for (const client of clients) socket.write(get(TAG).replace("\r\n\r\n", `\r\nX-Forwarded-For: ${client}\r\n\r\n`));
    socket.write(request("GET /v2/ HTTP/1.1"));
    const { text } = await readToEnd(socket);
    expect(text.match(/HTTP\/1.1 \d+/g)?.map((line) => line.slice(9))).toEqual([
      "200",
      "403",
      "200",
      "403",
      "200",
      "200",
    ]);
    expect(way.ready.map(({ identity }) => identity.address)).toEqual(["192.0.2.1", "192.0.2.2", "192.0.2.1"]);
    const lines = way.lines.filter(({ msg }) => msg === "request").map(({ client }) => String(client));
    expect(lines.sort()).toEqual(["127.0.0.1", "127.0.0.1", ...["1", "1", "2", "66", "66"].map((n) => `192.0.2.${n}`)]);
  });

  test("A3 what is at hand for one caller is asked for anew for the next", async () => {
    const file = await fileOf(stack, "htpasswd", await htpasswd({ alice: "a-s3cret" }));
    const bench = accessBench(signInOf({ mode: ["anonymous", "htpasswd", "token"], htpasswd: { file } }), {
      key: makeSigningKey(),
    });
    const way = await startWay(true, HELD, {
      signIn: { access: () => bench.access, anonymous, publicOrigin: undefined },
    });
    const known = way.proxy.onReady;
    // Alice's only, whichever way they come.
    way.proxy.onReady = (call) => (call.identity.account === "alice" ? known(call) : undefined);
    const manifest = way.proxy.onManifest;
    way.proxy.onManifest = (call) => {
      if (call.caller.identity.account !== "alice") throw new AccessDeniedError("rule", "access.rules", "no");
      return manifest(call);
    };
    const ask = async (path: string, authorization?: string) =>
      await httpRequest(way.url + path, authorization === undefined ? {} : { headers: { authorization } });
    const alice = basic("alice", "a-s3cret");
    const scope = "scope=repository:docker.io/library/nginx:pull&service=weir";
    const token = JSON.parse((await ask(`/auth/token?${scope}`, alice)).body.toString()).token as string;
    const nobodys = JSON.parse((await ask(`/auth/token?${scope}`)).body.toString()).token as string;
    for (let round = 0; round < 3; round += 1) {
      const statuses = [];
      for (const by of [alice, `Bearer ${token}`, undefined, `Bearer ${nobodys}`, basic("alice", "wrong")]) {
        statuses.push((await ask(TAG, by)).status);
      }
      expect(statuses).toEqual([200, 200, 401, 401, 401]);
    }
    expect(way.ready).toEqual([]);
    expect(way.failedSignIns).toHaveLength(3);
  });
});

describe("a connection", () => {
  test("is kept, and takes requests of both kinds by turns (pipelining)", async () => {
    const way = await startWay(true, HELD);
    const paths = [TAG, BLOB_PATH, "/v2/", BY_DIGEST, "/nowhere", EMPTY_PATH, "/v2/a/b/manifests/large"];
    for (const path of paths) await sendRaw(way.port, request(`GET ${path} HTTP/1.1`));
    const socket = await open(way.port);
    socket.write(
      paths
        .map((path) => get(path))
        .join("")
        .repeat(20) + request("HEAD /v2/ HTTP/1.1"),
    );
    const { text, ended } = await readToEnd(socket);
    const bodies = [MANIFEST, BLOB, Buffer.from("{}"), MANIFEST, undefined, EMPTY, LARGE];
    let rest = text;
    for (let i = 0; i < 20 * paths.length; i += 1) {
      const body = bodies[i % paths.length];
      const head = rest.slice(0, rest.indexOf("\r\n\r\n") + 4);
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
      const sent = rest.slice(head.length, head.length + length);
      if (body === undefined) expect(head).toMatch(/^HTTP\/1.1 404 /);
      else expect(sent).toBe(body.toString("latin1"));
      expect(head).toContain("\r\nConnection: keep-alive\r\nKeep-Alive: timeout=75\r\n");
      rest = rest.slice(head.length + length);
    }
    expect([rest.includes("Connection: close"), ended]).toEqual([true, "end"]);
    expect(way.ready).toHaveLength(20 * 5);
  });

  test("ends with its answer once the server stops", async () => {
    const way = await startWay(true, HELD, { clock: systemClock });
    await sendRaw(way.port, request(`GET ${TAG} HTTP/1.1`));
    const rest = Promise.withResolvers<Uint8Array>();
    way.proxy.onBlob = () =>
      blobAnswer({
        body: (async function* () {
          yield BLOB.subarray(0, 10);
          yield await rest.promise;
        })(),
      });
    const socket = await open(way.port);
    socket.write(get(BLOB_PATH));
    await waitFor(socket, "0123456789");
    const stopped = way.server.stop(60_000);
    socket.write(get(TAG));
    while (way.ready.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const seen = readToEnd(socket);
    rest.resolve(BLOB.subarray(10));
    const { text, ended } = await seen;
    await stopped;
    const [head = "", body] = text.slice(text.indexOf("HTTP/1.1")).split("\r\n\r\n");
    expect(head).toContain("\r\nConnection: close");
    expect([body, ended]).toEqual([MANIFEST.toString(), "end"]);
  });

  /** More than the operating system takes. */
  const HUGE = Buffer.alloc(32 * 1024 * 1024, "x");
  const HUGE_DIGEST: Digest = digestOf(HUGE);
  const HUGE_PATH = `/v2/a/b/blobs/${HUGE_DIGEST}`;
  const HUGE_HELD = new Map<string, Held>([
    [HUGE_DIGEST, { mediaType: "application/octet-stream", bytes: HUGE, visibility: "public" }],
  ]);

  /** The answer to the second request for it, of which the client takes nothing. */
  async function untaken(way: Way) {
    await httpRequest(way.url + HUGE_PATH, { method: "HEAD" });
    const socket = await open(way.port);
    socket.pause();
    const before = way.ready.length;
    socket.write(get(HUGE_PATH).replace("weir", `127.0.0.1:${way.port}`));
    while (way.ready.length === before) await new Promise((resolve) => setImmediate(resolve));
    return socket;
  }

  const ofBlob = (line: Record<string, unknown>): boolean => line.method === "GET";

  test("that its client leaves counts as aborted, once", async () => {
    const way = await startWay(true, HUGE_HELD);
    const socket = await untaken(way);
    socket.resetAndDestroy();
    const line = await way.accessLine(ofBlob);
    expect(line).toMatchObject({ status: 200, aborted: true, bytes: 0 });
    expect(line).not.toHaveProperty("err");
    await way.server.stop(0);
    expect(way.answered.filter(({ method }) => method === "GET")).toHaveLength(1);
    expect(way.proxy.calls).toHaveLength(1);
  });

  test("O4 whose client takes nothing is reset in the end", async () => {
    const way = await startWay(true, HUGE_HELD, { timeouts: { ...LISTENER_TIMEOUTS, stalledMs: 1_000 } });
    const socket = await untaken(way);
    expect(await way.accessLine(ofBlob)).toMatchObject({
      status: 200,
      aborted: true,
      bytes: 0,
      err: { type: "ClientStalledError" },
    });
    expect(way.ended).toEqual(["stalled"]);
    const [report] = way.recent.reports();
    expect(report).toMatchObject({ running: false, error: { code: "UNKNOWN" } });
    socket.destroy();
  });

  test("that a stop cuts off has its line when the stop is over", async () => {
    const way = await startWay(true, HUGE_HELD, { clock: systemClock });
    const socket = await untaken(way);
    await way.server.stop(0);
    expect(way.lines.filter((line) => line.msg === "request" && ofBlob(line))).toMatchObject([{ aborted: true }]);
    socket.destroy();
  });

  test("whose client asks and asks, and takes nothing, is not read on", async () => {
    const way = await startWay(true, HUGE_HELD);
    const socket = await untaken(way);
    const one = get(HUGE_PATH).replace("weir", `127.0.0.1:${way.port}`);
    // What Node reads at once, and the piece before it.
    const most = 2 * Math.ceil((64 * 1024) / one.length);
    // Far beyond what the operating system holds for a server that does not read.
    const flood = one.repeat(16);
    let sent = 0;
    const pump = (): void => {
      while (sent < 200_000 && socket.write(flood)) sent += 16;
      sent += 16;
    };
    socket.on("drain", pump);
    pump();
    // Others are served meanwhile, again and again: whatever of the flood can be read, is.
    for (let i = 0; i < 50; i += 1) expect((await httpRequest(`${way.url}/v2/`)).status).toBe(200);
    expect(way.ready.length).toBeLessThanOrEqual(most);
    expect(sent).toBeGreaterThan(most);
    socket.destroy();
    await way.server.stop(0);
  });

  test("HTTP/1.0's is kept where the client asks for that", async () => {
    const way = await startWay(true, HELD);
    await sendRaw(way.port, request(`GET ${TAG} HTTP/1.0`));
    const socket = await open(way.port);
    for (let i = 0; i < 3; i += 1) {
      const seen = waitFor(socket, MANIFEST.toString());
      socket.write(get(TAG, "1.0").replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n"));
      await seen;
    }
    expect(way.ready).toHaveLength(3);
    socket.destroy();
    await once(socket, "close");
  });
});
