import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type HttpReply, type HttpRequestOptions, httpRequest } from "../../support/network.ts";
import { from } from "../../support/nginx.ts";
import { BLOB, BLOB_DIGEST, BLOB_PATH, blobAnswer, bytesOf, type Front, startFront } from "./front.ts";

const LOCAL = "blobs/of a/%/data";
const PLACE = "/files/blobs/of%20a/%25/data";

let stack: AsyncDisposableStack;
let front: Front;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  front = await startFront(stack, { trustedProxies: ["127.0.0.1"], accelRedirect: "/files/" });
  front.proxy.onBlob = ({ head, mayHandOver, range }) =>
    blobAnswer({
      body: head || mayHandOver ? undefined : bytesOf(BLOB),
      part: range === undefined ? undefined : { start: 0, end: 3 },
      ...(mayHandOver && !head ? { local: LOCAL } : {}),
    });
});

afterEach(() => stack.disposeAsync());

/** As the proxy asks. */
const ask = ({ headers, ...others }: HttpRequestOptions = {}): Promise<HttpReply> =>
  httpRequest(front.url + BLOB_PATH, { headers: { "x-forwarded-for": "203.0.113.7", ...headers }, ...others });

describe("to a trusted proxy", () => {
  test("the file's place, the blob's own headers, and no bytes", async () => {
    const line = front.accessLine(() => true);
    const reply = await ask();
    expect([reply.status, reply.body.length]).toEqual([200, 0]);
    expect(reply.headers).toMatchObject({
      "x-accel-redirect": PLACE,
      "content-length": "0",
      "content-type": "application/octet-stream",
      "docker-content-digest": BLOB_DIGEST,
      etag: `"${BLOB_DIGEST}"`,
      "cache-status": "weir; hit",
    });
    expect(reply.headers).not.toHaveProperty("accept-ranges");
    expect(await line).toMatchObject({ bytes: BLOB.length, handOver: "done" });
    expect(front.answered).toMatchObject([{ bytesSent: BLOB.length, handOver: "done" }]);
  });

  test("of a range the part counts, and the answer is the proxy's to make", async () => {
    const reply = await ask({ headers: { range: "bytes=0-3" } });
    expect([reply.status, reply.headers["content-range"]]).toEqual([200, undefined]);
    expect(reply.headers).toMatchObject({ "x-accel-redirect": PLACE, "accept-ranges": "bytes" });
    expect(front.answered).toMatchObject([{ bytesSent: 4, handOver: "done" }]);
  });

  test("it comes back: bytes", async () => {
    const line = front.accessLine(() => true);
    const reply = await ask({ headers: { "weir-accel-redirect": "off" } });
    expect([reply.body, reply.headers["x-accel-redirect"]]).toEqual([BLOB, undefined]);
    expect(await line).toMatchObject({ bytes: BLOB.length, handOver: "returned" });
  });

  test.each([
    ["HEAD", { method: "HEAD" }],
    ["what it has", { headers: { "if-none-match": BLOB_DIGEST } }],
    ["If-Match", { headers: { "if-match": '"other"' } }],
    ["If-Unmodified-Since", { headers: { "if-unmodified-since": new Date(0).toUTCString() } }],
    ["ranges", { headers: { range: "bytes=0-1,3-4" } }],
    ["a range that is none", { headers: { range: "bytes=x" } }],
    ["a range of another blob", { headers: { range: "bytes=0-1", "if-range": '"other"' } }],
  ])("not for %s, which it would answer otherwise", async (_, options) => {
    const reply = await ask(options);
    expect(reply.headers).not.toHaveProperty("x-accel-redirect");
    expect(front.answered).toHaveLength(1);
    expect(front.answered[0]).not.toHaveProperty("handOver");
  });
});

test("to nobody else, whatever they say", async () => {
  const headers = { "x-forwarded-for": "127.0.0.1", "weir-accel-redirect": "on" };
  const reply = await ask({ network: from("127.0.0.9"), headers });
  expect([reply.body, reply.headers["x-accel-redirect"]]).toEqual([BLOB, undefined]);
  // Nor to who asks for itself from the proxy's address.
  const own = await httpRequest(front.url + BLOB_PATH);
  expect([own.body, own.headers["x-accel-redirect"]]).toEqual([BLOB, undefined]);
  // Nor does it count where nobody is sent to files.
  await ask({ network: from("127.0.0.9"), headers: { "weir-accel-redirect": "off" } });
  expect(front.answered.filter(({ handOver }) => handOver !== undefined)).toEqual([]);
});

test("not where it is not configured", async () => {
  const plain = await startFront(stack, { trustedProxies: ["127.0.0.1"] });
  plain.proxy.onBlob = ({ mayHandOver }) => {
    expect(mayHandOver).toBe(false);
    return blobAnswer();
  };
  const reply = await httpRequest(plain.url + BLOB_PATH, { headers: { "x-forwarded-for": "203.0.113.7" } });
  expect([reply.body, reply.headers["x-accel-redirect"]]).toEqual([BLOB, undefined]);
});
