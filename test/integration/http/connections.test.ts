import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LISTENER_TIMEOUTS } from "../../../src/http/listener.ts";
import { createAuthority } from "../../support/certificates.ts";
import { httpRequest } from "../../support/network.ts";
import {
  BLOB,
  BLOB_PATH,
  blobAnswer,
  bytesOf,
  type Front,
  manifestAnswer,
  ORDINARY_MS,
  open,
  readToEnd,
  sendRaw,
  startFront,
  waitFor,
} from "./front.ts";

let stack: AsyncDisposableStack;
let front: Front;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  front = await startFront(stack);
});

afterEach(() => stack.disposeAsync());

const get = (path: string, version = "1.1"): string => `GET ${path} HTTP/${version}\r\nHost: weir\r\n\r\n`;

const TLS_HELLO = Buffer.from("16030100f8010000f40303", "hex");

/** Produces for ever, and says how it was left. */
function endless(signal: AbortSignal): {
  stream: AsyncGenerator<Uint8Array>;
  produced: () => number;
  left: Promise<void>;
} {
  const { promise: left, resolve } = Promise.withResolvers<void>();
  const chunk = new Uint8Array(1024 * 1024);
  let produced = 0;
  async function* produce(): AsyncGenerator<Uint8Array> {
    try {
      while (!signal.aborted) {
        produced += chunk.length;
        yield chunk;
      }
    } finally {
      resolve();
    }
  }
  return { stream: produce(), produced: () => produced, left };
}

describe("R7 what is no request ends its own connection only", () => {
  test.each([
    ["a TLS hello", TLS_HELLO],
    ["garbage", "hello there\r\n\r\n"],
    ["an unknown method", "FROBNICATE / HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a control character in a header", "GET /v2/ HTTP/1.1\r\nHost: a\r\nX: \u0001\r\n\r\n"],
  ])("%s gets a 400 that begins as HTTP does", async (_, bytes) => {
    const bystander = await open(front.port);
    const { text } = await sendRaw(front.port, bytes);
    expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(text).toContain("\r\nDocker-Distribution-API-Version: registry/2.0\r\n");
    expect(text).toContain("\r\nX-Request-Id: made-1\r\n");
    expect(text).toMatch(
      /\r\n\r\n\{"errors":\[\{"code":"UNSUPPORTED","message":"this is not an HTTP\/1\.1 request"\}\]\}$/,
    );
    bystander.write(get("/v2/"));
    await waitFor(bystander, "200 OK");
    bystander.destroy();
  });

  test("a peer that keeps its own side open does not keep the connection", async () => {
    const socket = connect({ host: "127.0.0.1", port: front.port, allowHalfOpen: true });
    socket.write("garbage\r\n\r\n");
    socket.resume();
    await once(socket, "end");
    const broken = new Promise((resolve) => socket.once("error", resolve));
    const poke = (): void => {
      socket.write("x", (err) => err ?? setImmediate(poke));
    };
    poke();
    expect(await broken).toMatchObject({ code: expect.stringMatching(/^(ECONNRESET|EPIPE)$/) });
  });

  test("headers beyond the limit get a 431", async () => {
    const { text } = await sendRaw(front.port, `GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(17 * 1024)}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(text).toContain("exceed 16384 bytes");
  });

  test("no Host header is a 400", async () => {
    const { text } = await sendRaw(front.port, "GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n");
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toContain("the request has no Host header");
  });

  test("garbage behind a request whose body is under way cuts that body, instead of mixing into it", async () => {
    front.proxy.onBlob = ({ signal }) => blobAnswer({ size: 10 ** 12, body: endless(signal).stream });
    const socket = await open(front.port);
    socket.write(get(BLOB_PATH));
    await once(socket, "readable");
    socket.write("\u0001\u0002garbage\r\n\r\n");
    const { text, ended } = await readToEnd(socket);
    expect([text.includes("400 Bad Request"), ended]).toEqual([false, "reset"]);
  });
});

describe("keep-alive", () => {
  test("outlives errors and refused writes", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    stack.defer(() => agent.destroy());
    const ports = new Set<number | undefined>();
    for (const [method, path, body] of [
      ["GET", "/nowhere"],
      ["GET", "/v2/X/manifests/1"],
      ["PUT", "/v2/library/nginx/manifests/1", "x".repeat(100_000)],
      ["GET", "/v2/"],
    ] as const) {
      const req = request(front.url + path, { method, agent });
      req.end(body);
      const [res] = await once(req, "response");
      ports.add(req.socket?.localPort);
      res.resume();
      await once(res, "end");
    }
    expect(ports.size).toBe(1);
  });

  test("ends with a refused write whose body is large, without reading it", async () => {
    const socket = await open(front.port);
    socket.write(`PUT /v2/library/nginx/manifests/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n`);
    const { text } = await readToEnd(socket);
    expect(text).toMatch(/^HTTP\/1\.1 405 /);
    expect(text).toContain("\r\nConnection: close\r\n");
  });

  test("ends with a refused write in chunks that do not end", async () => {
    const socket = await open(front.port);
    socket.write(`POST /v2/library/nginx/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
    const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
    for (let i = 0; i < 17; i += 1) socket.write(chunk);
    expect((await readToEnd(socket)).text).toMatch(/^HTTP\/1\.1 405 /);
  });

  test("a client that waits for a 100 gets the refusal instead", async () => {
    const { text } = await sendRaw(
      front.port,
      "PUT /v2/library/nginx/manifests/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    );
    expect(text).toMatch(/^HTTP\/1\.1 405 /);
  });

  test("O4 is longer than a balancer's 60 s, and says so", async () => {
    const { headers } = await httpRequest(`${front.url}/v2/`, { headers: { connection: "keep-alive" } });
    expect(headers["keep-alive"]).toBe("timeout=75");
  });
});

describe("B10 a body that cannot be finished ends in a reset", () => {
  const broken = new Error("the upstream's bytes are wrong");

  test.each([
    ["with a length", "1.1", 20, bytesOf(BLOB.subarray(0, 10), broken)],
    ["in chunks", "1.1", undefined, bytesOf(BLOB.subarray(0, 10), broken)],
    ["HTTP/1.0 without a length", "1.0", undefined, bytesOf(BLOB.subarray(0, 10), broken)],
    ["shorter than promised", "1.1", 20, bytesOf(BLOB.subarray(0, 10))],
    ["longer than promised", "1.1", 20, bytesOf(BLOB, Buffer.from("more"))],
  ])("%s", async (_, version, size, body) => {
    front.proxy.onBlob = () => blobAnswer({ size, body, cache: { outcome: "miss" } });
    const { text, ended } = await sendRaw(front.port, get(BLOB_PATH, version));
    expect(ended).toBe("reset");
    expect(text).not.toContain("errors");
    expect(text).not.toContain("more");
    expect(await front.accessLine(() => true)).toMatchObject({ status: 200, aborted: true, err: expect.anything() });
  });

  test("under TLS as well, where a plain close would pass for the end", async () => {
    const { certFile, keyFile } = await (await createAuthority(stack)).issue(["127.0.0.1"]);
    const secure = await startFront(stack, { tls: { certFile, keyFile, clientCaFile: undefined } });
    secure.proxy.onBlob = () =>
      blobAnswer({ size: undefined, body: bytesOf(BLOB, broken), cache: { outcome: "miss" } });
    const socket = connectTls({ port: secure.port, host: "127.0.0.1", rejectUnauthorized: false });
    await once(socket, "secureConnect");
    socket.write(get(BLOB_PATH, "1.0"));
    const { text, ended } = await readToEnd(socket);
    expect([text.includes("200 OK"), ended]).toEqual([true, "reset"]);
  });

  test("a whole one over HTTP/1.0 without a length ends in order", async () => {
    front.proxy.onBlob = () => blobAnswer({ size: undefined });
    const { text, ended } = await sendRaw(front.port, get(BLOB_PATH, "1.0"));
    expect(ended).toBe("end");
    expect(text).toMatch(/\r\nConnection: close\r\n\r\n0123456789abcdefghij$/);
  });
});

test("a miss sends its headers before there is a byte of the body", async () => {
  const first = Promise.withResolvers<Uint8Array>();
  front.proxy.onBlob = () =>
    blobAnswer({
      cache: { outcome: "miss", stored: true },
      body: (async function* () {
        yield await first.promise;
      })(),
    });
  const socket = await open(front.port);
  socket.write(get(BLOB_PATH));
  await waitFor(socket, "\r\n\r\n");
  first.resolve(BLOB);
  await waitFor(socket, BLOB.toString());
  socket.destroy();
});

describe("a client that leaves", () => {
  test("aborts the call's signal, ends the stream, frees the answer, and counts as such", async () => {
    const released = Promise.withResolvers<void>();
    const sent = Promise.withResolvers<ReturnType<typeof endless>>();
    front.proxy.onBlob = ({ signal }) => {
      const source = endless(signal);
      sent.resolve(source);
      return blobAnswer({ size: 10 ** 12, body: source.stream, release: async () => released.resolve() });
    };
    const socket = await open(front.port);
    socket.write(get(BLOB_PATH));
    await once(socket, "readable");
    const { left } = await sent.promise;
    const signal = front.proxy.calls[0]?.signal;
    const aborted = new Promise((resolve) => signal?.addEventListener("abort", resolve));
    socket.destroy();
    await Promise.all([aborted, left, released.promise]);
    const line = await front.accessLine(() => true);
    expect(line).toMatchObject({ status: 200, aborted: true });
    expect(line).not.toHaveProperty("err");
  });

  test("while it waits for the proxy is told nothing, and counts as 499", async () => {
    const asked = Promise.withResolvers<void>();
    front.proxy.onManifest = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        asked.resolve();
      });
    const socket = await open(front.port);
    socket.write(get("/v2/library/nginx/manifests/1"));
    await asked.promise;
    socket.destroy();
    expect(await front.accessLine(() => true)).toMatchObject({ status: 499, bytes: 0 });
    expect(front.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  test("frees the answers queued behind the one under way, too (pipelining)", async () => {
    const sources: ReturnType<typeof endless>[] = [];
    front.proxy.onBlob = ({ signal }) => {
      const source = endless(signal);
      sources.push(source);
      return blobAnswer({ size: 10 ** 12, body: source.stream });
    };
    const socket = await open(front.port);
    socket.write(get(BLOB_PATH).repeat(3));
    await once(socket, "readable");
    await waitUntil(() => sources.length === 3 && sources.every(({ produced }) => produced() > 0));
    socket.destroy();
    await Promise.all(sources.map(({ left }) => left));
    await waitUntil(() => front.proxy.calls.every(({ signal }) => signal.aborted));
  });

  test("O4 or stops reading costs one chunk at a time, and in the end its connection", async () => {
    const strict = await startFront(stack, { timeouts: { ...LISTENER_TIMEOUTS, stalledMs: 200 } });
    const source = Promise.withResolvers<ReturnType<typeof endless>>();
    strict.proxy.onBlob = ({ signal }) => {
      const made = endless(signal);
      source.resolve(made);
      return blobAnswer({ size: 10 ** 12, body: made.stream });
    };
    const socket = await open(strict.port);
    socket.pause();
    socket.write(get(BLOB_PATH));
    const { left, produced } = await source.promise;
    await left;
    // What the kernel buffers, and the chunk that waits.
    expect(produced()).toBeLessThan(64 * 1024 * 1024);
    expect(await strict.accessLine(() => true)).toMatchObject({ err: { type: "ClientStalledError" } });
    socket.destroy();
  });
});

test("a quiet connection is not a stalled one: a slow upstream does not cost the client its answer", async () => {
  const patient = await startFront(stack, { timeouts: { ...LISTENER_TIMEOUTS, stalledMs: 100 } });
  const asked = Promise.withResolvers<void>();
  const upstream = Promise.withResolvers<void>();
  patient.proxy.onManifest = async () => {
    asked.resolve();
    await upstream.promise;
    return manifestAnswer();
  };
  patient.proxy.onBlob = ({ signal }) => blobAnswer({ size: 10 ** 12, body: endless(signal).stream });
  const quiet = httpRequest(`${patient.url}/v2/library/nginx/manifests/1`);
  await asked.promise;
  // A client that really stalls, and later than that: once it is cut off, the quiet one's time is up as well.
  const stalled = await open(patient.port);
  stalled.pause();
  stalled.write(get(BLOB_PATH));
  await patient.accessLine(({ kind }) => kind === "blob");
  stalled.destroy();
  upstream.resolve();
  expect((await quiet).status).toBe(200);
});

test("O4 slow headers are ended with a 408 while others are served", async () => {
  const strict = await startFront(stack, { timeouts: { ...LISTENER_TIMEOUTS, headersMs: ORDINARY_MS, checkMs: 20 } });
  const slow = await open(strict.port);
  slow.write("GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ");
  const silent = await open(strict.port);
  expect((await httpRequest(`${strict.url}/v2/`)).status).toBe(200);
  expect((await readToEnd(slow)).text).toMatch(/^HTTP\/1\.1 408 /);
  await readToEnd(silent);
});

async function waitUntil(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}
