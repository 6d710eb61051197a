import { describe, expect, test } from "vitest";
import { formatRepo, type RepoRef } from "../../../../src/oci/reference.ts";
import type { RepositoriesQuery } from "../../../../src/proxy/overview/overview.ts";
import { RepositoryNames } from "../../../../src/proxy/overview/repository-names.ts";

const PLENTY = { repositories: 1000, bytes: 1 << 20 };
const EVERYTHING: RepositoriesQuery = { search: "", upstream: undefined, offset: 0, limit: 100 };

function named(...texts: string[]): RepositoryNames {
  const names = new RepositoryNames(PLENTY);
  for (const text of texts) names.add(repo(text));
  return names;
}

function repo(text: string): RepoRef {
  const [upstream = "", ...path] = text.split("/");
  return { upstream, repository: path.join("/") };
}

function found(names: RepositoryNames, query: Partial<RepositoriesQuery>): string[] {
  return names.find({ ...EVERYTHING, ...query }).page.map(formatRepo);
}

describe("order and paging", () => {
  const unsorted = ["quay.io/b", "docker.io/a/b", "docker.io/a-b", "docker.io/a", "a.io:5000/x", "a.io/y", "quay.io/a"];
  const sorted = ["a.io/y", "a.io:5000/x", "docker.io/a", "docker.io/a-b", "docker.io/a/b", "quay.io/a", "quay.io/b"];

  test("names come in the order of their whole names, whatever the order in which they came", () => {
    expect(found(named(...unsorted), {})).toEqual(sorted);
    expect(found(named(...unsorted.toReversed()), {})).toEqual(sorted);
  });

  test("pages of every length are parts of the whole, and all have its total", () => {
    const names = named(...unsorted);
    for (let limit = 1; limit <= sorted.length + 1; limit += 1) {
      for (let offset = 0; offset <= sorted.length + 1; offset += 1) {
        expect(found(names, { offset, limit })).toEqual(sorted.slice(offset, offset + limit));
        expect(found(names, { offset, limit, search: "o" })).toEqual(
          sorted.filter((name) => name.includes("o")).slice(offset, offset + limit),
        );
        expect(names.find({ ...EVERYTHING, offset, limit }).total).toBe(sorted.length);
      }
    }
  });
});

describe("searching", () => {
  const names = named("docker.io/library/nginx", "docker.io/acme/nginx-proxy", "quay.io/nginx/app", "quay.io/acme/app");

  test.each([
    ["nginx", ["docker.io/acme/nginx-proxy", "docker.io/library/nginx", "quay.io/nginx/app"]],
    ["NGINX", ["docker.io/acme/nginx-proxy", "docker.io/library/nginx", "quay.io/nginx/app"]],
    ["quay.io/", ["quay.io/acme/app", "quay.io/nginx/app"]],
    ["o/nginx", ["quay.io/nginx/app"]],
    ["none", []],
  ])("%s", (search, expected) => {
    expect(found(names, { search })).toEqual(expected);
    expect(names.find({ ...EVERYTHING, search }).total).toBe(expected.length);
  });

  test("of one upstream only", () => {
    expect(found(names, { upstream: "quay.io" })).toEqual(["quay.io/acme/app", "quay.io/nginx/app"]);
    expect(found(names, { upstream: "quay.io", search: "acme" })).toEqual(["quay.io/acme/app"]);
    expect(found(names, { upstream: "ghcr.io" })).toEqual([]);
  });
});

describe("bounds", () => {
  test("beyond a number nothing more is taken, until something has gone", () => {
    const names = new RepositoryNames({ repositories: 2, bytes: 1 << 20 });
    expect(names.add(repo("a.io/a"))).toBeDefined();
    expect(names.add(repo("a.io/b"))).toBeDefined();
    expect(names.add(repo("a.io/c"))).toBeUndefined();
    expect(names.add(repo("a.io/b"))).toBeDefined();
    names.delete(repo("a.io/a"));
    expect(names.add(repo("a.io/c"))).toBeDefined();
    expect(found(names, {})).toEqual(["a.io/b", "a.io/c"]);
  });

  test("beyond so many bytes neither, and what has gone gives its bytes back", () => {
    const names = new RepositoryNames({ repositories: 1000, bytes: 2000 });
    const long = (letter: string): RepoRef => ({ upstream: "a.io", repository: letter.repeat(200) });
    let taken = 0;
    for (const letter of "abcdefgh") if (names.add(long(letter)) !== undefined) taken += 1;
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(8);
    expect(names.bytes).toBeLessThanOrEqual(2000);
    for (const letter of "abcdefgh") names.delete(long(letter));
    expect([names.size, names.bytes, names.upstreams()]).toEqual([0, 0, []]);
  });

  test("deleting what is not there changes nothing", () => {
    const names = named("a.io/a", "a.io/c");
    for (const text of ["a.io/b", "b.io/a", "a.io/d"]) names.delete(repo(text));
    expect(found(names, {})).toEqual(["a.io/a", "a.io/c"]);
    expect([names.count("a.io"), names.count("b.io")]).toEqual([2, 0]);
  });
});
