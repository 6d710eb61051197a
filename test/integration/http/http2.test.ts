import { once } from "node:events";
import http2, { type ClientHttp2Session, type ClientHttp2Stream, constants } from "node:http2";
import { connect } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { LISTENER_TIMEOUTS } from "../../../src/http/listener.ts";
import type { TlsFiles } from "../../../src/http/tls.ts";
import { createAuthority } from "../../support/certificates.ts";
import {
  BLOB,
  BLOB_PATH,
  blobAnswer,
  bytesOf,
  type Front,
  MANIFEST,
  MANIFEST_DIGEST,
  manifestAnswer,
  ORDINARY_MS,
  readToEnd,
  startFront,
} from "./front.ts";

let authorities: AsyncDisposableStack;
let tls: TlsFiles;
let stack: AsyncDisposableStack;
let front: Front;
let session: ClientHttp2Session;

beforeAll(async () => {
  authorities = new AsyncDisposableStack();
  const { certFile, keyFile } = await (await createAuthority(authorities)).issue(["127.0.0.1"]);
  tls = { certFile, keyFile, clientCaFile: undefined };
});

afterAll(() => authorities.disposeAsync());

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  front = await startFront(stack, { tls });
  session = connected(front);
});

afterEach(() => stack.disposeAsync());

/** Speaks nothing but HTTP/2. */
function connected({ url }: Front): ClientHttp2Session {
  const made = http2.connect(url, { rejectUnauthorized: false });
  made.on("error", () => {});
  stack.defer(() => made.destroy());
  return made;
}

interface Reply {
  readonly headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;
  readonly text: string;
  /** How the stream ended: `end` is in order, and `reset` is not. */
  readonly ended: "end" | "reset";
  readonly code: number | undefined;
}

async function replyOf(stream: ClientHttp2Stream): Promise<Reply> {
  let headers: Reply["headers"] = {};
  let text = "";
  let ended: Reply["ended"] = "reset";
  stream.on("response", (received) => {
    headers = received;
  });
  stream.setEncoding("latin1");
  stream.on("data", (chunk: string) => {
    text += chunk;
  });
  stream.on("end", () => {
    ended = stream.rstCode === constants.NGHTTP2_NO_ERROR ? "end" : "reset";
  });
  stream.on("error", () => {
    ended = "reset";
  });
  await new Promise((resolve) => stream.once("close", resolve));
  return { headers, text, ended, code: stream.rstCode };
}

async function ask(path: string, headers: http2.OutgoingHttpHeaders = {}): Promise<Reply> {
  return await replyOf(session.request({ ":path": path, ...headers }));
}

async function waitUntil(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

/** As long as it is read. */
async function* endless(): AsyncGenerator<Uint8Array> {
  const chunk = Buffer.alloc(64 * 1024);
  for (;;) {
    yield chunk;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test.each([
  [["h2", "http/1.1"], "http/1.1"],
  [["http/1.1"], "http/1.1"],
  [["h2"], "h2"],
])("of %j a client gets %s", async (offered, taken) => {
  const socket = connect({ port: front.port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: offered });
  await once(socket, "secureConnect");
  expect(socket.alpnProtocol).toBe(taken);
  socket.destroy();
});

test("a client that does not say what it speaks gets HTTP/1.1", async () => {
  const socket = connect({ port: front.port, host: "127.0.0.1", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  socket.write("GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  expect((await readToEnd(socket)).text).toMatch(/^HTTP\/1\.1 200 /);
});

test("a manifest and its HEAD, with all headers that HTTP/1.1 has and none that HTTP/2 forbids", async () => {
  front.proxy.onManifest = () => manifestAnswer();
  const got = await ask("/v2/library/nginx/manifests/1");
  const head = await ask("/v2/library/nginx/manifests/1", { ":method": "HEAD" });
  for (const { headers, ended } of [got, head]) {
    expect([headers, ended]).toMatchObject([
      {
        ":status": 200,
        "content-type": "application/vnd.oci.image.manifest.v1+json",
        "content-length": String(MANIFEST.length),
        "docker-content-digest": MANIFEST_DIGEST,
        "docker-distribution-api-version": "registry/2.0",
        "x-request-id": expect.any(String),
      },
      "end",
    ]);
    expect(headers).not.toHaveProperty("connection");
    expect(headers).not.toHaveProperty("transfer-encoding");
  }
  expect([got.text, head.text]).toEqual([String(MANIFEST), ""]);
  expect(await front.accessLine(({ method }) => method === "HEAD")).toMatchObject({ status: 200, bytes: 0 });
});

test("its authority is what the Host header is elsewhere: a virtual host", async () => {
  front.proxy.onManifest = () => manifestAnswer();
  await ask("/v2/library/nginx/manifests/1", { ":authority": "hub.example" });
  expect(front.proxy.calls).toMatchObject([{ repo: { upstream: "docker.io" } }]);
  expect(await front.accessLine(() => true)).toMatchObject({ upstream: "docker.io" });
});

test("a body in many pieces arrives whole", async () => {
  const pieces = Array.from({ length: 64 }, (_, n) => Buffer.alloc(100_000, n));
  front.proxy.onBlob = () => blobAnswer({ size: 6_400_000, body: bytesOf(...pieces) });
  const { text, ended, headers } = await ask(BLOB_PATH);
  expect([Buffer.from(text, "latin1").equals(Buffer.concat(pieces)), ended]).toEqual([true, "end"]);
  expect(headers["content-length"]).toBe("6400000");
});

test("errors are in the OCI envelope", async () => {
  expect(await ask("/v2/X/manifests/1")).toMatchObject({
    headers: { ":status": 400, "content-type": "application/json" },
    text: expect.stringContaining('"NAME_INVALID"'),
    ended: "end",
  });
});

test.each([
  ["with a length", 20],
  ["without one", undefined],
])("B10 a body that cannot be finished, %s, ends in a reset, and the connection's others go on", async (_, size) => {
  const broken = new Error("the upstream's bytes are wrong");
  front.proxy.onBlob = () =>
    blobAnswer({ size, body: bytesOf(BLOB.subarray(0, 10), broken), cache: { outcome: "miss" } });
  expect(await ask(BLOB_PATH)).toMatchObject({ ended: "reset", code: constants.NGHTTP2_INTERNAL_ERROR });
  expect((await ask("/v2/")).headers[":status"]).toBe(200);
  expect(await front.accessLine(({ kind }) => kind === "blob")).toMatchObject({
    aborted: true,
    err: expect.anything(),
  });
});

describe("a client that leaves", () => {
  test("a body that is under way: the call is aborted, and the answer freed", async () => {
    const released = Promise.withResolvers<void>();
    front.proxy.onBlob = () => blobAnswer({ size: 10 ** 12, body: endless(), release: async () => released.resolve() });
    const stream = session.request({ ":path": BLOB_PATH });
    stream.on("error", () => {});
    await once(stream, "data");
    stream.close(constants.NGHTTP2_CANCEL);
    await released.promise;
    await waitUntil(() => front.proxy.calls.every(({ signal }) => signal.aborted));
    expect(await front.accessLine(() => true)).toMatchObject({ status: 200, aborted: true });
  });

  test.each(["GET", "HEAD"])("a %s that waits for its upstream counts as 499", async (method) => {
    const asked = Promise.withResolvers<void>();
    front.proxy.onManifest = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        asked.resolve();
      });
    const stream = session.request({ ":path": "/v2/library/nginx/manifests/1", ":method": method });
    stream.on("error", () => {});
    await asked.promise;
    stream.close(constants.NGHTTP2_CANCEL);
    expect(await front.accessLine(() => true)).toMatchObject({ status: 499 });
  });

  test("with the whole connection: every request of it is aborted", async () => {
    front.proxy.onBlob = () => blobAnswer({ size: 10 ** 12, body: endless() });
    const streams = [1, 2, 3].map(() => session.request({ ":path": BLOB_PATH }));
    for (const stream of streams) stream.on("error", () => {});
    await Promise.all(streams.map((stream) => once(stream, "data")));
    session.destroy();
    await waitUntil(() => front.proxy.calls.length === 3 && front.proxy.calls.every(({ signal }) => signal.aborted));
  });
});

describe("O4", () => {
  test("a refused write whose body never ends is answered and done with", async () => {
    const stream = session.request(
      { ":path": "/v2/library/nginx/manifests/1", ":method": "PUT" },
      { endStream: false },
    );
    stream.write("x".repeat(10_000));
    expect(await replyOf(stream)).toMatchObject({
      headers: { ":status": 405 },
      text: expect.stringContaining("UNSUPPORTED"),
      code: constants.NGHTTP2_NO_ERROR,
    });
    expect(await front.accessLine(() => true)).toMatchObject({ status: 405 });
    expect((await ask("/v2/")).headers[":status"]).toBe(200);
  });

  test("one who stops reading loses its answer in the end, and another on the same connection does not", async () => {
    const strict = await startFront(stack, { tls, timeouts: { ...LISTENER_TIMEOUTS, stalledMs: 200 } });
    strict.proxy.onBlob = () => blobAnswer({ size: 10 ** 12, body: endless() });
    const mine = connected(strict);
    const stalled = mine.request({ ":path": BLOB_PATH });
    stalled.on("error", () => {});
    stalled.pause();
    expect(await strict.accessLine(({ kind }) => kind === "blob")).toMatchObject({
      err: { type: "ClientStalledError" },
    });
    expect(strict.ended).toEqual(["stalled"]);
    expect((await replyOf(mine.request({ ":path": "/v2/" }))).headers[":status"]).toBe(200);
  });

  test("a slow upstream costs nobody their answer", async () => {
    const patient = await startFront(stack, {
      tls,
      timeouts: { ...LISTENER_TIMEOUTS, stalledMs: ORDINARY_MS, headersMs: ORDINARY_MS, keepAliveMs: ORDINARY_MS },
    });
    const upstream = Promise.withResolvers<void>();
    patient.proxy.onManifest = async () => {
      await upstream.promise;
      return manifestAnswer();
    };
    patient.proxy.onBlob = () => blobAnswer({ size: 10 ** 12, body: endless() });
    const mine = connected(patient);
    const quiet = replyOf(mine.request({ ":path": "/v2/library/nginx/manifests/1" }));
    // Once this one is cut off, the quiet one's time is up as well.
    const stalled = connected(patient).request({ ":path": BLOB_PATH });
    stalled.on("error", () => {});
    stalled.pause();
    await patient.accessLine(({ kind }) => kind === "blob");
    upstream.resolve();
    expect((await quiet).headers[":status"]).toBe(200);
  });

  test.each([
    ["before its first request", ORDINARY_MS, 60_000, false],
    ["after its last", 60_000, 20, true],
  ])("a connection that is idle %s ends", async (_, headersMs, keepAliveMs, asks) => {
    const strict = await startFront(stack, { tls, timeouts: { ...LISTENER_TIMEOUTS, headersMs, keepAliveMs } });
    const mine = connected(strict);
    const closed = new Promise((resolve) => mine.once("close", resolve));
    if (asks) expect((await replyOf(mine.request({ ":path": "/v2/" }))).headers[":status"]).toBe(200);
    await closed;
  });

  test("headers beyond the limit end that request, and no other", async () => {
    expect(await ask("/v2/", { "x-large": "x".repeat(17 * 1024) })).toMatchObject({
      headers: { ":status": 431, "content-type": "application/json" },
      text: expect.stringContaining("exceed 16384 bytes"),
    });
    expect(front.ended).toEqual(["large-headers"]);
    expect((await ask("/v2/")).headers[":status"]).toBe(200);
    const huge = connected(front);
    expect((await replyOf(huge.request({ ":path": "/v2/", "x-large": "x".repeat(500 * 1024) }))).ended).toBe("reset");
    expect((await ask("/v2/")).headers[":status"]).toBe(200);
  });
});

test("O2 a stop lets what is under way finish, and ends idle connections", async () => {
  const half = Promise.withResolvers<void>();
  front.proxy.onBlob = () =>
    blobAnswer({
      body: (async function* () {
        yield BLOB.subarray(0, 10);
        await half.promise;
        yield BLOB.subarray(10);
      })(),
    });
  const idle = connected(front);
  await replyOf(idle.request({ ":path": "/v2/" }));
  const idleEnds = new Promise((resolve) => idle.once("close", resolve));
  const stream = session.request({ ":path": BLOB_PATH });
  const reply = replyOf(stream);
  await once(stream, "data");
  const stopped = front.server.stop(60_000);
  await idleEnds;
  half.resolve();
  expect(await reply).toMatchObject({ text: BLOB.toString(), ended: "end" });
  await stopped;
});
