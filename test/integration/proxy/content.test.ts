import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { compileContentRules } from "../../../src/access/content-rules.ts";
import { answerPull } from "../../../src/http/handlers.ts";
import { createRouteTable, routeRequest } from "../../../src/http/route.ts";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";
import { NOBODY } from "../../support/callers.ts";
import { HOUR, ProxyBench } from "../../support/proxy-bench.ts";

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(() => bench.stop());

interface Lists {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/** As a reload would put them in force. */
function rule({ allow = [], deny = [] }: Lists): void {
  const normalise = (repository: string): string => normaliseRepository("dockerhub", repository);
  const curated = { name: "docker.io", allow, deny, platforms: [], frozen: false };
  bench.rules.set("docker.io", compileContentRules(curated, normalise));
}

const layer = Buffer.from("a layer");

/** An image with one layer under a tag of docker.io. */
function push(repository: string, tag: string): { readonly manifest: Digest; readonly blob: Digest } {
  const blob = bench.hub.pushBlob(repository, layer);
  const document = {
    schemaVersion: 2,
    repository,
    layers: [{ mediaType: "application/tar", digest: blob, size: layer.length }],
  };
  return { blob, manifest: bench.hub.push(repository, OCI_MANIFEST, document, tag) };
}

/** Sends a request line through the router. */
async function ask(target: string, { host = "weir.example", method = "GET" } = {}) {
  const table = createRouteTable(
    { default: "docker.io", hosts: new Map([["hub.mirror.example", "docker.io"]]), dynamic: { allow: [] } },
    [
      { name: "docker.io", type: "dockerhub", aliases: ["index.docker.io", "registry-1.docker.io"] },
      { name: "other.example", type: "generic", aliases: [] },
    ],
    normaliseRepository,
  );
  return await answerPull(bench.proxy, {
    call: routeRequest({ method, target, host }, table),
    head: method === "HEAD",
    headers: {},
    takesChunks: true,
    mayRedirect: false,
    accelRedirect: undefined,
    by: { caller: NOBODY, signal: bench.signal },
  });
}

/** The key that the refusal names. */
async function keyOf(call: Promise<unknown>): Promise<unknown> {
  const error = await call.then(
    () => "served",
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: "DENIED", status: 403, reason: "content" });
  return error instanceof Error && "detail" in error ? Object(error.detail).key : undefined;
}

const FORMS: readonly [string, string, string?][] = [
  ["default", "/v2/library/nginx"],
  ["default, short", "/v2/nginx"],
  ["ns", "/v2/library/nginx", "ns=docker.io"],
  ["ns, short", "/v2/nginx", "ns=docker.io"],
  ["ns in upper case", "/v2/library/nginx", "ns=DOCKER.IO"],
  ["ns by an alias", "/v2/library/nginx", "ns=registry-1.docker.io"],
  ["ns by an alias with its port", "/v2/library/nginx", "ns=Index.Docker.Io:443"],
  ["ns encoded", "/v2/library/nginx", "ns=docker%2Eio"],
  ["prefix", "/v2/docker.io/library/nginx"],
  ["prefix, short", "/v2/docker.io/nginx"],
  ["prefix in mixed case", "/v2/Docker.IO/library/nginx"],
  ["prefix by an alias", "/v2/index.docker.io/nginx"],
  ["prefix with a trailing dot", "/v2/docker.io./library/nginx"],
  ["prefix and ns", "/v2/docker.io/library/nginx", "ns=registry-1.docker.io"],
  ["prefix and ns, /v2 doubled", "/v2/docker.io/v2/library/nginx", "ns=docker.io"],
  ["in front of /v2", "/docker.io/v2/library/nginx"],
  ["in front of /v2, with ns", "/index.docker.io/v2/nginx", "ns=docker.io"],
  ["encoded letters", "/v2/%6cibrary/ngin%78"],
  ["encoded prefix", "/v2/docker%2eio/library/nginx"],
];

describe("A3 every spelling of a denied repository meets the same rule, and nobody is asked", () => {
  const hosts = [["weir.example"], ["hub.mirror.example"], ["HUB.mirror.example:5000"]] as const;

  test.each(FORMS.flatMap(([name, path, query]) => hosts.map(([host]) => ({ name, path, query, host }))))(
    "$name at $host",
    async ({ path, query, host }) => {
      const { manifest, blob } = push("library/nginx", "1");
      rule({ deny: ["team/*", "nginx"] });
      const routes = [`manifests/1`, `manifests/${manifest}`, `blobs/${blob}`, "tags/list", `referrers/${manifest}`];
      for (const route of routes) {
        for (const method of ["GET", "HEAD"]) {
          const target = `${path}/${route}${query === undefined ? "" : `?${query}`}`;
          expect(await keyOf(ask(target, { host, method }))).toBe("upstreams.docker.io.deny[1]");
        }
      }
      expect(bench.hub.calls).toEqual([]);
    },
  );
});

test("A3 what is held is denied as well, as soon as the rule is there, and served again when it is gone", async () => {
  const { manifest, blob } = push("library/nginx", "1");
  const pull = async (): Promise<unknown[]> => [
    await bench.get("docker.io/library/nginx:1"),
    await bench.get(`docker.io/library/nginx@${manifest}`),
    await bench.pull(`docker.io/library/nginx@${blob}`),
  ];
  await pull();
  bench.hub.calls.length = 0;
  rule({ allow: ["team/**"] });
  expect(await keyOf(bench.get("docker.io/library/nginx:1"))).toBe("upstreams.docker.io.allow");
  expect(await keyOf(bench.get(`docker.io/library/nginx@${manifest}`))).toBe("upstreams.docker.io.allow");
  expect(await keyOf(bench.blob(`docker.io/library/nginx@${blob}`))).toBe("upstreams.docker.io.allow");
  await bench.restart();
  expect(await keyOf(bench.get("docker.io/library/nginx:1"))).toBe("upstreams.docker.io.allow");
  rule({ allow: ["library/**"] });
  expect(await pull()).toHaveLength(3);
  expect(bench.hub.calls).toEqual([]);
});

test("a repository of the same name at another upstream is not meant", async () => {
  bench.other.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2, layers: [] }, "1");
  rule({ deny: ["**"] });
  expect((await bench.get("other.example/library/nginx:1")).cache.outcome).toBe("miss");
});

test("a tag that leads to a denied digest is denied, whenever it does", async () => {
  const bad = push("library/nginx", "1");
  rule({ deny: [`**@${bad.manifest}`] });
  const denied = "upstreams.docker.io.deny[0]";
  expect(await keyOf(bench.head("docker.io/library/nginx:1"))).toBe(denied);
  expect(await keyOf(bench.get("docker.io/library/nginx:1"))).toBe(denied);
  bench.hub.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2, layers: [], fixed: true }, "1");
  bench.clock.advance(HOUR);
  expect((await bench.get("docker.io/library/nginx:1")).digest).not.toBe(bad.manifest);
});

test("an index does not give a denied image to those who cannot read it", async () => {
  const { manifest } = push("library/nginx", "amd64");
  const child = {
    mediaType: OCI_MANIFEST,
    digest: manifest,
    size: 1,
    platform: { os: "linux", architecture: "amd64" },
  };
  bench.hub.push("library/nginx", OCI_INDEX, { schemaVersion: 2, manifests: [child] }, "1");
  const get = (accept: string) => bench.get("docker.io/library/nginx:1", { accept });
  expect((await get(OCI_MANIFEST)).digest).toBe(manifest);
  rule({ deny: [`**@${manifest}`] });
  expect(await keyOf(get(OCI_MANIFEST))).toBe("upstreams.docker.io.deny[0]");
  expect((await get(OCI_INDEX)).mediaType).toBe(OCI_INDEX);
});

describe("lists leave out what is not served", () => {
  test("tags", async () => {
    for (const tag of ["1", "1-nightly", "2"]) push("library/nginx", tag);
    rule({ deny: ["**:*-nightly"] });
    const { body } = await ask("/v2/library/nginx/tags/list");
    expect(JSON.parse(String(body))).toEqual({ name: "library/nginx", tags: ["1", "2"] });
    rule({ allow: ["library/nginx:2"] });
    const allowed = await ask("/v2/library/nginx/tags/list");
    expect(JSON.parse(String(allowed.body))).toMatchObject({ tags: ["2"] });
  });

  test("the catalog, whatever its pages are", async () => {
    for (const repository of ["a/one", "b/two", "c/three", "d/four"]) {
      push(repository, "1");
      await bench.get(`docker.io/${repository}:1`);
    }
    rule({ deny: ["b/*", "c/three"] });
    const { body, headers } = await ask("/v2/_catalog?n=1");
    expect(JSON.parse(String(body))).toEqual({ repositories: ["docker.io/a/one"] });
    const next = /<([^>]*)>/.exec(headers.Link ?? "")?.[1] ?? "";
    const second = await ask(next);
    expect(JSON.parse(String(second.body))).toEqual({ repositories: ["docker.io/d/four"] });
    expect(second.headers.Link).toBeUndefined();
  });

  test("referrers", async () => {
    const { manifest } = push("library/nginx", "1");
    const attach = (name: string): Digest =>
      bench.hub.attach("library/nginx", manifest, "application/example", { name });
    const [kept, bad] = [attach("kept"), attach("bad")];
    const listed = async (): Promise<Digest[]> =>
      (await bench.referrers(`docker.io/library/nginx@${manifest}`)).referrers.map(({ digest }) => digest);
    expect((await listed()).sort()).toEqual([kept, bad].sort());
    rule({ deny: [`library/*@${bad}`] });
    expect(await listed()).toEqual([kept]);
  });
});

test("a blob of a denied digest is denied in the repositories that the rule means", async () => {
  const { blob } = push("library/nginx", "1");
  push("team/app", "1");
  rule({ deny: [`library/*@${digestOf(layer)}`] });
  expect(await keyOf(bench.blob(`docker.io/library/nginx@${blob}`))).toBe("upstreams.docker.io.deny[0]");
  expect(await bench.pull(`docker.io/team/app@${blob}`)).toEqual(layer);
});
