import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LISTENER_TIMEOUTS } from "../../../src/http/listener.ts";
import { createAuthority } from "../../support/certificates.ts";
import { httpRequest } from "../../support/network.ts";
import { type Front, manifestAnswer, ORDINARY_MS, open, readToEnd, sendRaw, startFront, waitFor } from "./front.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

const GET = "GET /v2/library/nginx/manifests/1 HTTP/1.1\r\nHost: a\r\n\r\n";

/** A front of which every manifest waits until it is let go. */
async function holding(limits: { connections: number; connectionsPerClient: number }, trustedProxies: string[] = []) {
  const front = await startFront(stack, { limits: { requestHeaders: 16_384, ...limits }, trustedProxies });
  const { promise, resolve } = Promise.withResolvers<void>();
  front.proxy.onManifest = async ({ signal }) => {
    const left = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    await Promise.race([promise, left]);
    return manifestAnswer();
  };
  return { front, letGo: resolve };
}

/** With a request under way. */
async function busy(front: Front, from = "127.0.0.1"): Promise<Socket> {
  const before = front.proxy.calls.length;
  const socket = connect({ port: front.port, host: "127.0.0.1", localAddress: from });
  socket.write(GET);
  while (front.proxy.calls.length === before) await new Promise((resolve) => setImmediate(resolve));
  return socket;
}

/** As a peer that is not taken in sees it: cut off, before or after its first word. */
async function turnedAway(port: number, from = "127.0.0.1"): Promise<boolean> {
  const socket = connect({ port, host: "127.0.0.1", localAddress: from });
  socket.write(GET);
  const { text, ended } = await readToEnd(socket);
  return text === "" && ended === "reset";
}

const told = (front: Front, why: string): unknown[] =>
  front.lines.filter((line) => line.why === why).map(({ level }) => level);

describe("O4 the number of connections is limited", () => {
  test("of one client: its next is reset while its others are served, and other clients are let in", async () => {
    const { front, letGo } = await holding({ connections: 100, connectionsPerClient: 2 });
    const sockets = [await busy(front), await busy(front)];
    expect(await turnedAway(front.port)).toBe(true);
    expect(await turnedAway(front.port)).toBe(true);
    sockets.push(await busy(front, "127.0.0.2"));
    expect(front.ended).toEqual(["connections-per-client", "connections-per-client"]);
    letGo();
    for (const socket of sockets) await waitFor(socket, "schemaVersion");
    for (const socket of sockets) socket.destroy();
  });

  test("a trusted proxy may have more", async () => {
    const { front, letGo } = await holding({ connections: 100, connectionsPerClient: 1 }, ["127.0.0.9"]);
    const sockets = [await busy(front, "127.0.0.9"), await busy(front, "127.0.0.9")];
    letGo();
    for (const socket of sockets) await waitFor(socket, "schemaVersion");
    for (const socket of sockets) socket.destroy();
    expect(front.ended).toEqual([]);
  });

  test("of the whole process, whoever they are from, trusted proxies too", async () => {
    const { front } = await holding({ connections: 2, connectionsPerClient: 100 }, ["127.0.0.9"]);
    const sockets = [await busy(front, "127.0.0.2"), await busy(front, "127.0.0.9")];
    expect(await turnedAway(front.port, "127.0.0.9")).toBe(true);
    expect(front.ended).toEqual(["connections"]);
    for (const socket of sockets) socket.destroy();
  });

  test("a newcomer takes the place of the one that has been idle longest; none that is served loses its place", async () => {
    const { front, letGo } = await holding({ connections: 3, connectionsPerClient: 100 });
    const served = await busy(front);
    const oldest = await open(front.port);
    const newer = await open(front.port);
    const gone = readToEnd(oldest);
    const newcomer = await busy(front);
    await gone;
    expect([newer.destroyed, served.destroyed]).toEqual([false, false]);
    letGo();
    await Promise.all([waitFor(served, "schemaVersion"), waitFor(newcomer, "schemaVersion")]);
    for (const socket of [served, newer, newcomer]) socket.destroy();
  });

  test("a connection counts as idle again when its answer is out", async () => {
    const { front, letGo } = await holding({ connections: 1, connectionsPerClient: 100 });
    letGo();
    const first = await open(front.port);
    first.write(GET);
    await waitFor(first, "schemaVersion");
    const ends = readToEnd(first);
    expect((await sendRaw(front.port, GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))).text).toContain(
      "200 OK",
    );
    await ends;
  });

  test("places are free again when connections close", async () => {
    const { front } = await holding({ connections: 2, connectionsPerClient: 2 });
    for (let round = 0; round < 5; round += 1) {
      const sockets = [await busy(front), await busy(front)];
      for (const socket of sockets) socket.destroy();
      while (front.answered.length < 2 * (round + 1)) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(front.ended).toEqual([]);
  });

  test("what it came to is told once a minute for each cause", async () => {
    const { front } = await holding({ connections: 100, connectionsPerClient: 1 });
    const socket = await busy(front);
    for (let i = 0; i < 5; i += 1) await turnedAway(front.port);
    expect(front.ended).toHaveLength(5);
    expect(told(front, "connections-per-client")).toEqual(["warn"]);
    expect(front.lines.find(({ why }) => why === "connections-per-client")?.msg).toContain(
      "limits.connectionsPerClient",
    );
    socket.destroy();
  });
});

describe("O4 what takes a client too long is ended, and counted", () => {
  test("the headers, and a request without an end to them", async () => {
    const front = await startFront(stack, { timeouts: { ...LISTENER_TIMEOUTS, headersMs: ORDINARY_MS, checkMs: 10 } });
    expect((await sendRaw(front.port, "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ")).text).toMatch(/^HTTP\/1\.1 408 /);
    expect(front.ended).toEqual(["slow-request"]);
    const { text } = await sendRaw(front.port, `GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(17 * 1024)}`);
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(front.ended).toEqual(["slow-request", "large-headers"]);
    expect((await httpRequest(`${front.url}/v2/`)).status).toBe(200);
  });

  test("the body of a write that is going to be refused", async () => {
    const front = await startFront(stack, {
      timeouts: { ...LISTENER_TIMEOUTS, headersMs: ORDINARY_MS, requestMs: ORDINARY_MS, checkMs: 10 },
    });
    const request = "PUT /v2/library/nginx/manifests/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nslow";
    await sendRaw(front.port, request);
    expect(front.ended).toEqual(["slow-request"]);
    await front.accessLine(({ method }) => method === "PUT");
    expect((await httpRequest(`${front.url}/v2/`)).status).toBe(200);
  });

  test("the TLS handshake", async () => {
    const { certFile, keyFile } = await (await createAuthority(stack)).issue(["127.0.0.1"]);
    const front = await startFront(stack, {
      tls: { certFile, keyFile, clientCaFile: undefined },
      timeouts: { ...LISTENER_TIMEOUTS, headersMs: ORDINARY_MS },
    });
    const silent = await open(front.port);
    await readToEnd(silent);
    expect(front.ended).toEqual(["slow-request"]);
    const socket = connectTls({ port: front.port, host: "127.0.0.1", rejectUnauthorized: false });
    await once(socket, "secureConnect");
    socket.destroy();
  });

  test("words that are not HTTP", async () => {
    const front = await startFront(stack);
    expect((await sendRaw(front.port, "EHLO weir\r\n\r\n")).text).toMatch(/^HTTP\/1\.1 400 /);
    expect(front.ended).toEqual(["malformed"]);
  });
});
