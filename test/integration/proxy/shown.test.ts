import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { compileContentRules } from "../../../src/access/content-rules.ts";
import type { Digest } from "../../../src/oci/digest.ts";
import { OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { NO_SIGN_IN, signedIn } from "../../support/callers.ts";
import { ProxyBench } from "../../support/proxy-bench.ts";
import { type Reply, request, rulesOf } from "../../support/rules.ts";

const LAYER = "the bytes of a layer";
const ALICE = signedIn("alice", { address: "203.0.113.5" }).identity;

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

function push(repository: string, tag: string): { readonly manifest: Digest; readonly blob: Digest } {
  const blob = bench.hub.pushBlob(repository, Buffer.from(LAYER));
  const layers = [{ mediaType: "application/tar", digest: blob, size: LAYER.length }];
  return { blob, manifest: bench.hub.push(repository, OCI_MANIFEST, { schemaVersion: 2, layers }, tag) };
}

describe("A1 what is public at its registry is for shared caches only where everybody may have it", () => {
  /** Of a manifest and of a blob, the first and the second time, and of what has not been modified. */
  async function kept(): Promise<string> {
    const { manifest, blob } = push("team/app", "1");
    const paths = [`manifests/${manifest}`, `blobs/${blob}`].flatMap((path) => [path, path]);
    const seen = new Set<string>();
    for (const path of paths) {
      const reply = await request(bench.proxy, `/v2/docker.io/team/app/${path}`, { who: ALICE });
      expect(reply.status).toBe(200);
      seen.add(reply.headers["Cache-Control"]?.split(",")[0] ?? "");
    }
    return [...seen].join(" ");
  }

  test("nobody has to sign in, and nothing is ruled", async () => {
    expect(await kept()).toBe("public");
  });

  test("somebody has to sign in", async () => {
    bench.comeIn = { ...bench.comeIn, signIn: { ...NO_SIGN_IN, anonymous: false, htpasswd: { file: "users" } } };
    expect(await kept()).toBe("private");
  });

  test("somebody may, and need not", async () => {
    bench.comeIn = { ...bench.comeIn, signIn: { ...NO_SIGN_IN, htpasswd: { file: "users" } } };
    expect(await kept()).toBe("public");
  });

  test.each([
    { allow: ["10.0.0.0/8"], deny: [] },
    { allow: [], deny: ["192.0.2.1"] },
  ])("addresses are let in, or kept out: %o", async (lists) => {
    bench.comeIn = { ...bench.comeIn, ...lists };
    expect(await kept()).toBe("private");
  });

  test.each([
    { kept: "private", rules: [{ accounts: ["alice"] }] },
    { kept: "private", rules: [{ effect: "deny", from: ["192.0.2.0/24"] }, {}] },
    { kept: "private", rules: [{ from: ["10.0.0.0/8"], what: ["docker.io/team/*"] }, { signedIn: true }] },
    { kept: "public", rules: [{ accounts: ["alice"], what: ["docker.io/home/**"] }, { anonymous: true }, {}] },
    { kept: "public", rules: [{}] },
  ] as const)("rules $rules: $kept", async ({ kept: expected, rules }) => {
    bench.accessRules = rulesOf(...rules);
    expect(await kept()).toBe(expected);
  });
});

describe("A1 the way to the next page of a tag list names no tag that the caller may not see", () => {
  const TAGS = ["1", "2", "secret-a", "secret-b", "secret-c", "v1", "v2", "zero-secret"];

  beforeEach(() => {
    for (const tag of TAGS) push("team/app", tag);
  });

  async function page(query: string): Promise<Reply & { readonly tags: readonly string[] }> {
    const reply = await request(bench.proxy, `/v2/docker.io/team/app/tags/list?${query}`, { who: ALICE });
    expect(reply.status).toBe(200);
    expect(JSON.stringify(reply)).not.toContain("secret");
    return { ...reply, tags: JSON.parse(reply.body).tags };
  }

  /** As a client follows the pages. */
  async function all(n: number): Promise<readonly (readonly string[])[]> {
    const pages: (readonly string[])[] = [];
    let query: string | undefined = `n=${n}`;
    while (query !== undefined) {
      const { tags, headers } = await page(query);
      pages.push(tags);
      query = /^<[^?]*\?(.*)>; rel="next"$/.exec(headers.Link ?? "")?.[1];
    }
    return pages;
  }

  const DENIED = { effect: "deny", what: ["docker.io/team/app:/.*secret.*/"] } as const;

  test.each([1, 2, 3, 4, 100])("by a rule, pages of %i", async (n) => {
    bench.accessRules = rulesOf(DENIED, {});
    const pages = await all(n);
    expect(pages.flat()).toEqual(["1", "2", "v1", "v2"]);
    expect(Math.max(...pages.map(({ length }) => length))).toBeLessThanOrEqual(n);
  });

  test("by what the upstream's content may be", async () => {
    const lists = { allow: [], deny: ["team/app:/.*secret.*/"], platforms: [], frozen: false };
    bench.rules.set(
      "docker.io",
      compileContentRules({ name: "docker.io", ...lists }, (repository) => repository),
    );
    expect((await all(1)).flat()).toEqual(["1", "2", "v1", "v2"]);
  });

  test("where the client itself says to begin between them, and where nothing else is there", async () => {
    bench.accessRules = rulesOf(DENIED, {});
    expect(await page("n=1&last=3")).toMatchObject({ tags: ["v1"] });
    bench.accessRules = rulesOf({ ...DENIED, what: ["docker.io/team/app:*"] }, {});
    const reply = await page("n=1");
    expect([reply.tags, reply.headers.Link]).toEqual([[], undefined]);
  });

  test("pages that are full of them end the list after some", async () => {
    bench.accessRules = rulesOf(DENIED, {});
    const { tags } = bench.hub.repository("team/app");
    const digest = push("team/app", "1").manifest;
    for (let i = 0; i < 12_000; i += 1) {
      tags.set(`3-secret-${i}`, digest);
    }
    bench.hub.taken();
    const reply = await page("n=1&last=2");
    expect([reply.tags, reply.headers.Link]).toEqual([[], undefined]);
    expect(bench.hub.taken().length).toBeLessThanOrEqual(12);
  });
});
