import { afterEach, beforeEach, expect, test } from "vitest";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import { BLOB_PATH, blobAnswer, type Front, startFront } from "./front.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

const PATHS = [
  "/v2/",
  BLOB_PATH,
  "/v2/library/nginx/manifests/1",
  "/v2/library/nginx/tags/list",
  "/v2/_catalog",
  "/elsewhere",
];

function keyOf(reply: HttpReply): unknown {
  const { errors } = JSON.parse(reply.body.toString());
  expect([reply.status, errors[0].code]).toEqual([403, "DENIED"]);
  return errors[0].detail.key;
}

async function from(front: Front, path: string, forwardedFor?: string): Promise<HttpReply> {
  const headers = forwardedFor === undefined ? {} : { "x-forwarded-for": forwardedFor };
  return await httpRequest(front.url + path, { headers });
}

test("who may not come in gets 403 on every route, and the pull-through is not asked", async () => {
  const front = await startFront(stack, { access: { allow: ["10.0.0.0/8"] } });
  for (const path of PATHS) expect(keyOf(await from(front, path))).toBe("access.allow");
  expect(front.denied).toEqual(PATHS.map(() => "address"));
  expect(front.proxy.calls).toEqual([]);
});

test("behind a trusted proxy it is the client's address that counts, in the access line too", async () => {
  const front = await startFront(stack, {
    trustedProxies: ["127.0.0.0/8", "10.9.0.0/16"],
    access: { allow: ["203.0.113.0/24"], deny: ["203.0.113.7"] },
  });
  front.proxy.onBlob = () => blobAnswer();
  expect((await from(front, BLOB_PATH, "198.51.100.1, 203.0.113.9, 10.9.1.1")).status).toBe(200);
  expect((await front.accessLine(({ status }) => status === 200)).client).toBe("203.0.113.9");
  expect(front.proxy.calls[0]?.caller.client).toMatch(/^203\.0\.113\.9 /);
  expect(keyOf(await from(front, BLOB_PATH, "203.0.113.9, 203.0.113.7"))).toBe("access.deny[0]");
  expect(keyOf(await from(front, BLOB_PATH, "203.0.113.9, 198.51.100.1"))).toBe("access.allow");
  expect(keyOf(await from(front, BLOB_PATH, "203.0.113.9, unknown"))).toBe("access.allow");
  // The proxy itself is nobody that may come in.
  expect(keyOf(await from(front, BLOB_PATH))).toBe("access.allow");
  const refused = await front.accessLine(({ client, status }) => client === "198.51.100.1" && status === 403);
  expect(refused).toMatchObject({ kind: "other" });
});

test("several lines of the header are one list, in order", async () => {
  const front = await startFront(stack, { trustedProxies: ["127.0.0.1"], access: { deny: ["203.0.113.7"] } });
  front.proxy.onBlob = () => blobAnswer();
  const headers = { "x-forwarded-for": ["203.0.113.7", "198.51.100.1"] };
  expect((await httpRequest(front.url + BLOB_PATH, { headers })).status).toBe(200);
  headers["x-forwarded-for"].reverse();
  expect(keyOf(await httpRequest(front.url + BLOB_PATH, { headers }))).toBe("access.deny[0]");
});

test("from a client that is nobody's proxy the header counts for nothing", async () => {
  const front = await startFront(stack, { access: { deny: ["127.0.0.0/8"] } });
  expect(keyOf(await from(front, "/v2/", "203.0.113.9"))).toBe("access.deny[0]");
});
