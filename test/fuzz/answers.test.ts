/** Registries that answer as none should: challenges, links, manifests, statuses and types, against a whole Weir. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import fc, { type Arbitrary } from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { sha256 } from "../support/images.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { CAMPAIGN_MS, campaign } from "./campaign.ts";
import { type RawAnswer, type RawRegistry, startRawRegistry } from "./raw-registry.ts";
import { exchange, judge, type Reply } from "./replies.ts";
import { headerText, joined, mutated, oneOf } from "./texts.ts";

/** What a client is told of an upstream's trouble. */
const TROUBLE = [502, 503, 504];

const DAY_MS = 86_400_000;

/** Pauses before a retry, and the patience with what hangs, pass two hundred times as fast. */
const TICK_MS = 10;
const TURN_MS = 2_000;

let stack: AsyncDisposableStack;
let registry: RawRegistry;
let weir: TestApp;
let port: number;
const clock = new ManualClock();

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  registry = await startRawRegistry(stack, () => ({ status: 404, headers: [], body: Buffer.alloc(0) }));
  weir = await startTestApp(stack, {
    clock,
    config: {
      upstreams: { "registry.example": { endpoints: [registry.url] } },
      routing: { default: "registry.example" },
    },
  });
  port = Number(new URL(weir.url).port);
  const ticking = setInterval(() => clock.advance(TURN_MS), TICK_MS);
  stack.defer(() => clearInterval(ticking));
});

afterAll(() => stack.disposeAsync());

const REALMS = [
  "http://127.0.0.1:1/token",
  "https://127.0.0.2/t",
  "/token",
  "http://[::1",
  "javascript:1",
  "file:///etc/passwd",
  "",
];

const challenge = joined(
  oneOf(
    [
      ...[
        "Bearer ",
        "Basic ",
        "bearer",
        "Negotiate",
        'realm="',
        'realm="x"',
        "realm=",
        'service="s"',
        'scope="',
        ",",
        " ",
        "=",
        '"',
      ],
      ...REALMS.map((realm) => `realm="${realm}"`),
      ...['\\"', 'error="insufficient_scope"', "a=b=c", 'scope="repository:x:pull"', "x".repeat(5000)],
    ],
    headerText(6),
  ),
  12,
);

const link = joined(
  oneOf(
    [
      ...[
        "<",
        ">",
        "; rel=",
        '"next"',
        "next",
        ",",
        '</v2/x/tags/list?last=a&n=1>; rel="next"',
        "<?n=2>",
        "<//127.0.0.1:1/>",
      ],
      ...['<http://127.0.0.1:1/v2/>; rel="next"', "<../../..>", '; rel="prev next"', "<%zz>", "<http://[>", "<\\\\x>"],
    ],
    headerText(6),
  ),
  6,
);

const MEDIA_TYPES = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.v1+prettyjws",
  "application/json",
  "text/html",
  "",
];

const DIGEST = `sha256:${"a".repeat(64)}`;

const header: Arbitrary<readonly [string, string]> = fc.oneof(
  fc.tuple(fc.constant("WWW-Authenticate"), challenge),
  fc.tuple(fc.constant("Link"), link),
  fc.tuple(fc.constant("Content-Type"), oneOf([...MEDIA_TYPES, `${MEDIA_TYPES[1]}; charset=utf-8`], headerText(30))),
  fc.tuple(fc.constant("Docker-Content-Digest"), oneOf([DIGEST, "sha256:", "md5:x", `"${DIGEST}"`], headerText(20))),
  fc.tuple(
    fc.constant("Location"),
    oneOf(["/v2/", "/", "//127.0.0.1:1/", "http://127.0.0.1:1/x", "http://[", ""], headerText(9)),
  ),
  fc.tuple(fc.constant("Retry-After"), oneOf(["0", "-1", "9".repeat(40), "soon", "Fri, 99 Foo 2026"], headerText(10))),
  fc.tuple(fc.constant("RateLimit-Remaining"), oneOf(["0;w=21600", "100", ";w=", "-1;w=-1", "NaN"], headerText(10))),
  fc.tuple(fc.constant("Ratelimit-Limit"), oneOf(["0;w=21600", "100;w=1", "1e999;w=1e999"], headerText(10))),
  fc.tuple(fc.constant("ETag"), headerText(12)),
  fc.tuple(fc.constant("Content-Encoding"), fc.constantFrom("gzip", "identity", "br")),
  fc.tuple(fc.constant("OCI-Filters-Applied"), headerText(12)),
);

const descriptor = fc.record(
  {
    mediaType: fc.oneof(fc.constantFrom(...MEDIA_TYPES), fc.jsonValue()),
    digest: fc.oneof(fc.constantFrom(DIGEST, "sha256:", "sha256:zz", "../x"), fc.jsonValue()),
    size: fc.oneof(fc.constantFrom(0, 1, -1, 1.5, 2 ** 60, "1"), fc.jsonValue()),
    platform: fc.oneof(fc.record({ os: fc.jsonValue(), architecture: fc.jsonValue() }), fc.jsonValue()),
    urls: fc.jsonValue(),
    annotations: fc.jsonValue(),
    artifactType: fc.jsonValue(),
  },
  { requiredKeys: [] },
);

/** What may be a manifest, a list of tags, an index of referrers, a token, an error, or anything at all. */
const document = fc.record(
  {
    schemaVersion: fc.oneof(fc.constantFrom(1, 2, 3, "2"), fc.jsonValue()),
    mediaType: fc.oneof(fc.constantFrom(...MEDIA_TYPES), fc.jsonValue()),
    config: fc.oneof(descriptor, fc.jsonValue()),
    layers: fc.oneof(fc.array(descriptor, { maxLength: 4 }), fc.jsonValue()),
    manifests: fc.oneof(fc.array(descriptor, { maxLength: 4 }), fc.jsonValue()),
    blobs: fc.oneof(fc.array(descriptor, { maxLength: 2 }), fc.jsonValue()),
    subject: fc.oneof(descriptor, fc.jsonValue()),
    tags: fc.oneof(fc.array(oneOf(["1", "latest", "..", "a/b", ""], headerText(9))), fc.jsonValue()),
    name: fc.jsonValue(),
    token: fc.oneof(fc.constantFrom("t", "", "a\nb", "x".repeat(70_000)), fc.jsonValue()),
    expires_in: fc.jsonValue(),
    errors: fc.oneof(
      fc.array(
        fc.record({
          code: fc.oneof(fc.constantFrom("NAME_UNKNOWN", "DENIED"), fc.jsonValue()),
          message: fc.jsonValue(),
        }),
      ),
      fc.jsonValue(),
    ),
    __proto__: fc.jsonValue(),
  },
  { requiredKeys: [] },
);

const body: Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: document.map((value) => JSON.stringify(value)) },
  { weight: 2, arbitrary: mutated(document.map((value) => JSON.stringify(value))) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...["", "null", "[]", "0", "{", '{"a":1}\n', "\uFEFF{}", "<html>too many requests</html>", "[".repeat(50_000)],
      ...[
        `{"manifests":${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
        '{"layers":[null]}',
        '{"schemaVersion":2,"schemaVersion":1}',
      ],
    ),
  },
  { weight: 1, arbitrary: headerText(200) },
);

const answer: Arbitrary<RawAnswer> = fc
  .record({
    status: fc.oneof(
      { weight: 3, arbitrary: fc.constant(200) },
      {
        weight: 2,
        arbitrary: fc.constantFrom(
          201,
          204,
          206,
          301,
          302,
          303,
          304,
          307,
          308,
          400,
          401,
          403,
          404,
          416,
          429,
          500,
          503,
          599,
        ),
      },
    ),
    headers: fc.array(header, { maxLength: 5 }),
    body,
    // Honest about what it sends, so that it gets further.
    digest: fc.boolean(),
  })
  .map(({ status, headers, body, digest }) => {
    const sent = Buffer.from(body, "utf8");
    return {
      status,
      headers: digest ? [...headers, ["Docker-Content-Digest", sha256(sent)] as const] : headers,
      body: sent,
    };
  });

/** What is asked for, of the registry's latest answer. */
function paths(repository: string, { body }: RawAnswer): readonly string[] {
  return [
    `/v2/${repository}/manifests/1`,
    `/v2/${repository}/manifests/${sha256(body)}`,
    `/v2/${repository}/blobs/${sha256(body)}`,
    `/v2/${repository}/tags/list?n=3`,
    `/v2/${repository}/referrers/${DIGEST}?artifactType=a`,
  ];
}

async function ask(method: string, path: string): Promise<Reply> {
  const request = Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  const reply = await exchange(port, request, { closes: true });
  if (reply === undefined) throw new Error(`no answer to ${method} ${path}`);
  judge(reply, method === "HEAD", TROUBLE);
  return reply;
}

test(
  "U9 whatever a registry says, a client gets what it sent under its digest, or is told what is wrong; and nothing else is kept",
  async () => {
    let repositories = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(answer, { minLength: 1, maxLength: 4 }), fc.boolean(), async (answers, byHead) => {
        repositories += 1;
        const repository = `team/app${repositories}`;
        // Each path by itself, so that it comes to the same whoever is first.
        const said = new Map<string, number>();
        registry.answer = ({ method, path }) => {
          const line = `${method} ${path}`;
          const before = said.get(line) ?? path.length;
          said.set(line, before + 1);
          return answers[before % answers.length] ?? { status: 404, headers: [], body: Buffer.alloc(0) };
        };
        // An open breaker, or a quota that seems to be spent, would keep the rest from being asked.
        clock.advance(DAY_MS);
        let content = false;
        const asked = answers.flatMap((one) => paths(repository, one));
        const replies = await Promise.all(asked.map((path) => ask(byHead ? "HEAD" : "GET", path)));
        for (const [n, { status, headers, body }] of replies.entries()) {
          const path = asked[n] ?? "";
          if (status !== 200 || !/manifests|blobs/.test(path)) continue;
          content = true;
          if (!byHead) {
            const digest = /sha256:\w+$/.exec(path)?.[0] ?? headers.get("docker-content-digest");
            expect(sha256(Buffer.from(body, "latin1"))).toBe(digest);
          }
        }
        const folder = join(weir.root, "docker/registry/v2/repositories/registry.example", repository);
        expect([content, existsSync(folder)]).not.toEqual([false, true]);
      }),
      campaign(20),
    );
  },
  CAMPAIGN_MS,
);
