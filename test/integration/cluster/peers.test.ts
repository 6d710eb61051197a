import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { createPeerClient, type PeerClient } from "../../../src/cluster/peer-client.ts";
import {
  createPeerServer,
  type FillRequest,
  formatFillRequest,
  type InFlight,
  type PeerResult,
} from "../../../src/cluster/peer-server.ts";
import { signRequest } from "../../../src/cluster/signature.ts";
import { eventually } from "../../support/fill-bench.ts";
import { seededBlob } from "../../support/fill-sources.ts";
import { httpRequest } from "../../support/network.ts";
import { freePort } from "../../support/processes.ts";

const secret = new Secret("a secret between the members");
const blob = seededBlob("peers", 300_000);
const known: FillRequest = { domain: "public", digest: blob.digest, start: 0 };

interface Line {
  readonly address: string;
  readonly client: PeerClient;
  readonly served: PeerResult[];
  readonly received: PeerResult[];
  readonly asked: FillRequest[];
}

async function line(stack: AsyncDisposableStack, open?: InFlight["open"]): Promise<Line> {
  const served: PeerResult[] = [];
  const received: PeerResult[] = [];
  const asked: FillRequest[] = [];
  const inFlight: InFlight = {
    async open(request, signal) {
      asked.push(request);
      if (open !== undefined) return await open(request, signal);
      if (request.digest !== blob.digest) return undefined;
      return {
        total: blob.size,
        body: (async function* () {
          for (let at = request.start; at < blob.size; at += 16_384) {
            yield blob.read(at, Math.min(blob.size, at + 16_384));
          }
        })(),
      };
    },
  };
  const server = createPeerServer({
    listen: { host: "127.0.0.1", port: 0 },
    secret,
    inFlight,
    clock: systemClock,
    log: silentLog,
    observer: { peerStream: (result) => void served.push(result) },
  });
  const { port } = await server.listen();
  stack.defer(() => server.stop());
  const client = clientBy(stack, secret, received);
  return { address: `127.0.0.1:${port}`, client, served, received, asked };
}

function clientBy(stack: AsyncDisposableStack, by: Secret, received: PeerResult[] = []): PeerClient {
  const client = createPeerClient({
    secret: by,
    clock: systemClock,
    observer: { peerStream: (result) => void received.push(result) },
    newNonce: randomUUID,
  });
  stack.defer(() => client.close());
  return client;
}

const o = { signal: new AbortController().signal };

test("C3 a peer reads what is arriving, from where it likes", async () => {
  await using stack = new AsyncDisposableStack();
  const { address, client, served, received } = await line(stack);
  const found = await client.open(address, { ...known, start: 100_000 }, o);
  if (found === "starting") throw new Error("it has begun");
  expect(found?.total).toBe(blob.size);
  const parts: Buffer[] = [];
  for await (const chunk of found?.body ?? []) parts.push(chunk);
  expect(Buffer.concat(parts).equals(blob.read(100_000, blob.size))).toBe(true);
  await eventually("both ends to report", () => served.length + received.length === 2);
  expect([served, received]).toEqual([["served"], ["taken"]]);
});

test("C3 what is not arriving is not there, whatever the store holds", async () => {
  await using stack = new AsyncDisposableStack();
  const { address, client, served } = await line(stack);
  const other = seededBlob("another", 10).digest;
  expect(await client.open(address, { ...known, digest: other }, o)).toBeUndefined();
  expect(served).toEqual(["unknown"]);
});

test("C3 unsigned, foreign and replayed requests are refused before anything is looked for", async () => {
  await using stack = new AsyncDisposableStack();
  const { address, served, asked } = await line(stack);
  const path = formatFillRequest(known);
  const url = `http://${address}${path}`;
  expect((await httpRequest(url)).status).toBe(403);
  const foreign = clientBy(stack, new Secret("the secret of other members"));
  await expect(foreign.open(address, known, o)).rejects.toThrow("one cluster.secret");
  expect(asked).toEqual([]);
  const headers = { ...signRequest({ method: "GET", path }, { secret, nowMs: Date.now(), nonce: "once" }) };
  expect((await httpRequest(url, { headers })).status).toBe(200);
  expect((await httpRequest(url, { headers })).status).toBe(403);
  expect((await httpRequest(`${url}0`, { headers })).status).toBe(403);
  expect(asked).toHaveLength(1);
  expect(served.filter((result) => result === "refused")).toHaveLength(4);
});

test.each([
  "/v1/fill",
  "/v1/fill?domain=public&digest=sha256:x&start=0",
  "/",
  "//",
  "/v1/fill?domain=&digest=&start=-1",
])("C3 %s is no request of a peer, though signed", async (path) => {
  await using stack = new AsyncDisposableStack();
  const { address, asked } = await line(stack);
  const headers = { ...signRequest({ method: "GET", path }, { secret, nowMs: Date.now(), nonce: "once" }) };
  expect((await httpRequest(`http://${address}${path}`, { headers })).status).toBe(400);
  expect(asked).toEqual([]);
});

test("C3 a stream that fails at its source is reset: the reader never takes it for the end", async () => {
  await using stack = new AsyncDisposableStack();
  const { address, client, served, received } = await line(stack, async () => ({
    total: undefined,
    body: (async function* () {
      yield Buffer.alloc(70_000);
      throw new Error("the download has failed");
    })(),
  }));
  const found = await client.open(address, known, o);
  if (found === "starting") throw new Error("it has begun");
  await expect(
    (async () => {
      for await (const _ of found?.body ?? []);
    })(),
  ).rejects.toThrow();
  await eventually("both ends to report", () => served.length + received.length === 2);
  expect([served, received]).toEqual([["broken"], ["lost"]]);
});

test("C1 a peer that is not there is an error that says so", async () => {
  await using stack = new AsyncDisposableStack();
  const { client, received } = await line(stack);
  const port = await freePort();
  await expect(client.open(`127.0.0.1:${port}`, known, o)).rejects.toThrow(`127.0.0.1:${port} cannot be asked`);
  expect(received).toEqual(["lost"]);
});

test("who leaves a stream ends it at its source", async () => {
  await using stack = new AsyncDisposableStack();
  const ended = Promise.withResolvers<void>();
  const { address, client, served } = await line(stack, async (_, signal) => ({
    total: undefined,
    body: (async function* () {
      try {
        while (!signal.aborted) yield Buffer.alloc(16_384);
      } finally {
        ended.resolve();
      }
    })(),
  }));
  const found = await client.open(address, known, o);
  if (found === "starting") throw new Error("it has begun");
  found?.body.destroy();
  await ended.promise;
  await eventually("the server to report", () => served.length === 1);
  expect(served).toEqual(["broken"]);
});

test("C1 a peer whose upstream has yet to answer says so, rather than look frozen", async () => {
  await using stack = new AsyncDisposableStack();
  const { address, client, served } = await line(stack, (_, signal) => {
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  expect(await client.open(address, known, o)).toBe("starting");
  expect(served).toEqual(["starting"]);
});
