import { afterEach, beforeEach, expect, test } from "vitest";
import { UpstreamError } from "../../../src/upstream/upstream.ts";
import { httpRequest } from "../../support/network.ts";
import { BLOB_DIGEST, BLOB_PATH, blobAnswer, type Front, manifestAnswer, startFront } from "./front.ts";

let stack: AsyncDisposableStack;
let front: Front;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  front = await startFront(stack);
});

afterEach(() => stack.disposeAsync());

test("one line for a request, with what was asked and what became of it; the same to the observer", async () => {
  front.proxy.onBlob = () => blobAnswer();
  await httpRequest(`${front.url}${BLOB_PATH}?ns=docker.io&token=geheim`, {
    headers: {
      "user-agent": "containerd/2.1",
      "x-request-id": "abc",
      authorization: "Bearer geheim",
      cookie: "geheim",
    },
  });
  const line = await front.accessLine(() => true);
  expect(line).toEqual({
    level: "info",
    time: expect.stringMatching(/^\d{4}-.*Z$/),
    msg: "request",
    requestId: "abc",
    client: "127.0.0.1",
    method: "GET",
    path: BLOB_PATH,
    ns: "docker.io",
    upstream: "docker.io",
    repository: "library/nginx",
    reference: BLOB_DIGEST,
    kind: "blob",
    status: 200,
    cache: "hit",
    bytes: 20,
    firstByteMs: expect.any(Number),
    totalMs: expect.any(Number),
    userAgent: "containerd/2.1",
  });
  expect(front.answered).toEqual([
    {
      upstream: "docker.io",
      repository: "library/nginx",
      kind: "blob",
      method: "GET",
      status: 200,
      cache: "hit",
      bytesSent: 20,
      firstByteMs: expect.any(Number),
      totalMs: expect.any(Number),
    },
  ]);
});

test("A4 neither the query, the credentials nor the cookie of a request come into any line", async () => {
  front.proxy.onManifest = () => manifestAnswer();
  for (const path of [
    "/v2/library/nginx/manifests/1?sig=geheim",
    "/nowhere?sig=geheim",
    "/v2/X/manifests/1?ns=quay.io&a=geheim",
  ]) {
    await httpRequest(front.url + path, {
      headers: { authorization: "Basic geheim", "proxy-authorization": "geheim" },
    });
    await front.accessLine((line) => String(path).startsWith(String(line.path)));
  }
  expect(JSON.stringify(front.lines)).not.toContain("geheim");
});

test("what a client makes up cannot write to a terminal or grow a line without bound", async () => {
  await httpRequest(`${front.url}/%1b${"y".repeat(3000)}`, {
    headers: { "user-agent": `\x9b2J\x85${"z".repeat(1000)}` },
  });
  const line = await front.accessLine(() => true);
  expect(line.userAgent).toBe(`?2J?${"z".repeat(252)}`);
  expect(line.path).toHaveLength(1024);
});

test("an upstream's failure stands in the line of the request that met it", async () => {
  front.proxy.onManifest = () => {
    throw new UpstreamError("docker.io", "timeout", "docker.io: no answer");
  };
  await httpRequest(`${front.url}/v2/library/nginx/manifests/1`);
  expect(await front.accessLine(() => true)).toMatchObject({
    status: 504,
    cache: "miss",
    upstream: "docker.io",
    err: { type: "UpstreamError", message: "docker.io: no answer" },
  });
});

test("a request without a call counts as other", async () => {
  await httpRequest(`${front.url}/nothing`);
  await front.accessLine(() => true);
  expect(front.answered).toMatchObject([{ upstream: undefined, kind: "other", status: 404, cache: "none" }]);
});
