import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import type { CatalogCall, TagsCall } from "../../../src/proxy/answers.ts";
import { RememberedAbsenceError } from "../../../src/proxy/remembered.ts";
import { NOBODY } from "../../support/callers.ts";
import { FRESHNESS, ProxyBench } from "../../support/proxy-bench.ts";

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
});

const caller = NOBODY;

const tags = (call: Partial<TagsCall> = {}) =>
  bench.proxy.tags({
    repo: { upstream: "docker.io", repository: "library/nginx" },
    n: undefined,
    last: undefined,
    cursor: {},
    caller,
    signal: bench.signal,
    ...call,
  });

const catalog = (call: Partial<CatalogCall> = {}) =>
  bench.proxy.catalog({ n: undefined, last: undefined, upstream: undefined, caller, signal: bench.signal, ...call });

async function hold(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    bench.hub.push("library/nginx", OCI_MANIFEST, { name }, name);
    await bench.get(`docker.io/library/nginx:${name}`);
  }
  bench.hub.taken();
}

describe("tags", () => {
  test("M11 the upstream's pages, its cursor copied, one question for all who ask at once", async () => {
    for (const tag of ["a", "b", "c"]) bench.hub.push("library/nginx", OCI_MANIFEST, {}, tag);
    const [first] = await Promise.all([tags({ n: 2 }), tags({ n: 2 }), tags({ n: 2 })]);
    expect(first).toMatchObject({ repository: "library/nginx", tags: ["a", "b"], cache: { outcome: "miss" } });
    expect(first?.next).toEqual({ n: "2", last: "b", token: "opaque" });
    const second = await tags({ n: 2, last: "b", cursor: { token: "opaque" } });
    expect(second).toMatchObject({ tags: ["c"], next: undefined });
    expect(bench.hub.taken()).toEqual(["TAGS library/nginx?n=2", "TAGS library/nginx?n=2&last=b&token=opaque"]);
  });

  test("M11 from what is held, marked stale and paged, when the upstream is in trouble", async () => {
    await hold("a", "b", "c");
    bench.hub.fail("status", 503);
    expect(await tags({ n: 2 })).toMatchObject({
      tags: ["a", "b"],
      next: { n: "2", last: "b" },
      cache: { outcome: "stale", detail: "stale-if-error", fwdStatus: 503 },
    });
    expect(await tags({ n: 2, last: "b" })).toMatchObject({ tags: ["c"], next: undefined });
    expect(await tags({ last: "bb" })).toMatchObject({ tags: ["c"] });
    expect(await tags({ n: 0 })).toMatchObject({ tags: [], next: undefined });
    expect(bench.stale).toEqual(Array(4).fill("stale-if-error"));
  });

  test("nothing held: the upstream's failure, and its absence remembered", async () => {
    await expect(tags()).rejects.toMatchObject({ fault: "absent", absent: "repository" });
    await expect(tags()).rejects.toThrow(RememberedAbsenceError);
    expect(bench.hub.taken()).toHaveLength(1);
  });

  test("M5 a repository that is gone: what is held where onGone keeps it", async () => {
    await hold("a");
    bench.hub.forget("library/nginx");
    expect(await tags()).toMatchObject({ tags: ["a"], cache: { outcome: "stale", detail: "gone" } });
    bench.freshness = { ...FRESHNESS, onGone: "drop" };
    await expect(tags()).rejects.toMatchObject({ fault: "absent" });
  });
});

describe("catalog", () => {
  beforeEach(async () => {
    for (const [upstream, name] of [
      [bench.hub, "b/one"],
      [bench.hub, "a/two"],
      [bench.other, "a/one"],
    ] as const) {
      upstream.push(name, OCI_MANIFEST, {}, "1");
      await bench.get(`${upstream.name}/${name}:1`);
      upstream.taken();
    }
  });

  test("what is held, with its upstream, in order; nobody is asked", async () => {
    const names = ["docker.io/a/two", "docker.io/b/one", "other.example/a/one"];
    expect(await catalog()).toEqual({ repositories: names, next: undefined });
    expect([...bench.hub.taken(), ...bench.other.taken()]).toEqual([]);
  });

  test("in pages", async () => {
    const first = await catalog({ n: 2 });
    expect(first.next).toEqual({ n: "2", last: "docker.io/b/one" });
    expect(await catalog({ n: 2, last: "docker.io/b/one" })).toEqual({
      repositories: ["other.example/a/one"],
      next: undefined,
    });
    expect(await catalog({ n: 0 })).toEqual({ repositories: [], next: undefined });
  });

  test("of one upstream, without its name", async () => {
    expect(await catalog({ upstream: "docker.io" })).toEqual({ repositories: ["a/two", "b/one"], next: undefined });
    expect(await catalog({ upstream: "docker.io", last: "a/two" })).toEqual({
      repositories: ["b/one"],
      next: undefined,
    });
  });
});
