/** Requests as no client sends them, over a raw connection, against a whole Weir. */
import { readdir } from "node:fs/promises";
import fc, { type Arbitrary } from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { CAMPAIGN_MS, campaign } from "./campaign.ts";
import { type RawRegistry, startRawRegistry } from "./raw-registry.ts";
import { exchange, judge } from "./replies.ts";
import { bytes, mutated, oneOf } from "./texts.ts";

const IMAGE = smallImage("fuzz");
const [LAYER = IMAGE.root] = IMAGE.blobs;

let stack: AsyncDisposableStack;
let registry: RawRegistry;
let weir: TestApp;
let port: number;

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  const contents = new Map(
    [...IMAGE.manifests, ...IMAGE.blobs].flatMap((content) => [
      [`/v2/team/app/manifests/${content.digest}`, content],
      [`/v2/team/app/blobs/${content.digest}`, content],
    ]),
  );
  contents.set("/v2/team/app/manifests/1", IMAGE.root);
  registry = await startRawRegistry(stack, ({ path }) => {
    const content = contents.get(path);
    return content === undefined
      ? { status: 404, headers: [["Content-Type", "application/json"]], body: Buffer.from('{"errors":[]}') }
      : {
          status: 200,
          headers: [
            ["Content-Type", content.mediaType],
            ["Docker-Content-Digest", content.digest],
          ],
          body: content.bytes,
        };
  });
  weir = await startTestApp(stack, {
    config: {
      upstreams: { "registry.example": { endpoints: [registry.url] }, "other.example": { endpoints: [registry.url] } },
      routing: { default: "registry.example", hosts: { "mirror.example": "other.example" } },
    },
  });
  port = Number(new URL(weir.url).port);
  for (const { digest } of IMAGE.manifests) await httpRequest(`${weir.url}/v2/team/app/manifests/${digest}`);
  for (const { digest } of IMAGE.blobs) await httpRequest(`${weir.url}/v2/team/app/blobs/${digest}`);
  await httpRequest(`${weir.url}/v2/team/app/manifests/1`);
});

afterAll(() => stack.disposeAsync());

const ESCAPES = [
  "%2f",
  "%2F",
  "%2e%2e",
  "%00",
  "%0d%0a",
  "%",
  "%zz",
  "%c3%28",
  "%E2%82",
  "+",
  "//",
  "/./",
  "/../",
  "\\",
];

const part = oneOf(
  [
    ...["v2", "team", "app", "library", "team/app", "registry.example", "OTHER.example", "docker.io", "localhost:5000"],
    ...[
      "127.0.0.1",
      "[::1]:80",
      "manifests",
      "blobs",
      "tags",
      "list",
      "referrers",
      "uploads",
      "_catalog",
      "_manifests",
    ],
    ...["1", "latest", ".", "..", "", "-", "sha256", "sha256:", "sha512:00", LAYER.digest, IMAGE.root.digest],
    ...[LAYER.digest.toUpperCase(), `sha256:${"0".repeat(64)}`, "a".repeat(300), "é", "__proto__", "constructor"],
    ...ESCAPES,
  ],
  bytes(12),
);

const path = fc.oneof(
  fc.array(part, { maxLength: 8 }).map((parts) => `/${parts.join("/")}`),
  fc.tuple(part, part, part).map(([name, kind, reference]) => `/v2/${name}/${kind}/${reference}`),
  fc.constantFrom(
    `/v2/team/app/blobs/${LAYER.digest}`,
    "/v2/team/app/manifests/1",
    "/v2/team/app/tags/list",
    "/v2/_catalog",
    `/v2/team/app/referrers/${IMAGE.root.digest}`,
    "/v2/",
    "*",
    "http://elsewhere.example/v2/",
    "/auth/token",
  ),
);

const query = fc
  .array(
    fc.tuple(
      oneOf(["ns", "n", "last", "artifactType", "service", "scope", "account", "digest", "mount", "from"], bytes(6)),
      oneOf(
        [
          "registry.example",
          "other.example",
          "nowhere.example",
          "0",
          "1",
          "1001",
          "-1",
          "1e9",
          "9".repeat(30),
          ...ESCAPES,
        ],
        bytes(20),
      ),
    ),
    { maxLength: 4 },
  )
  .map((pairs) => (pairs.length === 0 ? "" : `?${pairs.map(([name, value]) => `${name}=${value}`).join("&")}`));

const oddRange = oneOf(
  [
    "bytes=0-",
    "bytes=0-0",
    "bytes=-1",
    "bytes=-0",
    "bytes=5-4",
    "bytes=0-1,3-4",
    "bytes=",
    "items=0-1",
    "bytes=9-99999999999999999999",
  ],
  bytes(16).map((text) => `bytes=${text}`),
);

/** Around what there is. */
const position = fc.oneof(
  fc.constant(""),
  fc.nat(4),
  fc.nat(8).map((n) => LAYER.bytes.length - 4 + n),
  fc.nat(LAYER.bytes.length * 2),
);

const range = fc.oneof(
  fc.tuple(position, position).map(([first, last]) => `bytes=${first}-${last}`),
  oddRange,
);

const authorization = fc.oneof(
  oneOf(["Basic", "Bearer", "basic Og==", "Basic %%%", "Bearer a.b.c", "Negotiate x", "Bearer  ", ","], bytes(40)),
  bytes(30).map((text) => `Basic ${Buffer.from(text, "latin1").toString("base64")}`),
  fc
    .tuple(fc.jsonValue(), fc.jsonValue(), bytes(10))
    .map((parts) => `Bearer ${parts.map((one) => Buffer.from(JSON.stringify(one)).toString("base64url")).join(".")}`),
);

const HEADERS: readonly (readonly [string, Arbitrary<string>])[] = [
  ["Host", oneOf(["mirror.example", "a", "", "[::1", "a:b:c", "a b"], bytes(20))],
  ["Range", range],
  ["If-Range", oneOf([`"${LAYER.digest}"`, `W/"${LAYER.digest}"`, '"'], bytes(16))],
  ["If-None-Match", oneOf([`"${LAYER.digest}"`, "*", '"a", "b', ","], bytes(30))],
  ["Accept", oneOf(["*/*", "application/vnd.oci.image.index.v1+json", ";q=0", "a/b;q=x,", '"'], bytes(40))],
  ["Authorization", authorization],
  ["Content-Length", oneOf(["0", "5", "-1", "1e3", "99999999999999999999", "0x10"], bytes(4))],
  ["Transfer-Encoding", oneOf(["chunked", "gzip, chunked", "identity", "chunked, chunked"], bytes(6))],
  ["Expect", oneOf(["100-continue", "200-ok"], bytes(6))],
  ["Connection", oneOf(["close", "keep-alive", "Upgrade", "Host"], bytes(6))],
  ["Upgrade", oneOf(["h2c", "websocket"], bytes(6))],
  ["X-Request-Id", oneOf(["abc", "a".repeat(65), "../x", "%0a"], bytes(20))],
  ["X-Forwarded-For", oneOf(["127.0.0.1", "::1, 10.0.0.1", "unknown", ",,,"], bytes(20))],
  ["traceparent", oneOf([`00-${"a".repeat(32)}-${"b".repeat(16)}-01`, "00-0-0-0", "ff-"], bytes(20))],
  ["User-Agent", bytes(30)],
  ["Cookie", bytes(30)],
];

const header = fc.oneof(
  fc.oneof(...HEADERS.map(([name, value]) => value.map((text) => `${name}: ${text}\r\n`))),
  fc.tuple(bytes(8), bytes(8)).map(([name, value]) => `${name}: ${value}\r\n`),
);

interface Request {
  readonly method: string;
  readonly text: string;
}

const request: Arbitrary<Request> = fc
  .record({
    method: oneOf(["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"], bytes(5)),
    target: fc.tuple(path, query).map((parts) => parts.join("")),
    version: oneOf(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", ""], bytes(4)),
    host: fc.constantFrom("Host: weir\r\n", "Host: weir\r\n", ""),
    headers: fc.array(header, { maxLength: 5 }),
    body: oneOf(["", "", "hello", "5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\n"], bytes(20)),
  })
  .map(({ method, target, version, host, headers, body }) => ({
    method,
    text: `${method} ${target} ${version}\r\n${host}${headers.join("")}\r\n${body}`,
  }));

const edited: Arbitrary<Request> = request.chain(({ method, text }) =>
  mutated(fc.constant(text)).map((changed) => ({ method, text: changed })),
);

/** Sent at the same time. */
const batches = fc.array(fc.oneof({ weight: 3, arbitrary: request }, { weight: 1, arbitrary: edited }), {
  minLength: 1,
  maxLength: 40,
});

/** What is held, and what is on its way. */
async function kept(): Promise<readonly string[]> {
  const names = await readdir(weir.root, { recursive: true });
  return names.filter((name) => /^(?:docker|spool)\//.test(name)).sort();
}

test(
  "whatever is sent is answered as a registry answers, or cut off; nothing comes of it, and nobody else notices",
  async () => {
    const before = await kept();
    await fc.assert(
      fc.asyncProperty(batches, async (batch) => {
        const replies = await Promise.all(
          batch.map(({ text }) => exchange(port, Buffer.from(text, "latin1"), { closes: false })),
        );
        for (const [n, reply] of replies.entries()) {
          if (reply !== undefined) judge(reply, batch[n]?.method === "HEAD");
        }
      }),
      campaign(80, [[[{ method: "GET", text: "GET /v2/ HTTP/2.0\r\nHost: weir\r\n\r\n" }]]]),
    );
    expect(await kept()).toEqual(before);
    const { status, body } = await httpRequest(`${weir.url}/v2/team/app/blobs/${LAYER.digest}`);
    expect([status, body.equals(LAYER.bytes)]).toEqual([200, true]);
  },
  CAMPAIGN_MS,
);

test(
  "B11 of whatever range is asked for, the bytes that come are those of the blob",
  async () => {
    const { bytes: whole, digest } = LAYER;
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 8 }), async (ranges) => {
        for (const text of ranges) {
          const line = `GET /v2/team/app/blobs/${digest} HTTP/1.1\r\nHost: a\r\nRange: ${text}\r\nConnection: close\r\n\r\n`;
          const reply = await exchange(port, Buffer.from(line, "latin1"), { closes: true });
          // Bytes that make no header get a 400.
          if (reply === undefined) throw new Error(`no whole answer to ${JSON.stringify(text)}`);
          judge(reply, false);
          if (reply.status >= 400) continue;
          const [, start = 0, end = whole.length - 1] =
            /^bytes (\d+)-(\d+)\//.exec(reply.headers.get("content-range") ?? "") ?? [];
          const expected = Buffer.from(whole).subarray(Number(start), Number(end) + 1);
          expect(Buffer.from(reply.body, "latin1").equals(expected)).toBe(true);
        }
      }),
      campaign(60),
    );
  },
  CAMPAIGN_MS,
);
