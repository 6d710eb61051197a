/** 10,000 repositories with 200 tags each: what a page costs is counted in reads of the storage, not in time. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLog } from "../../../../src/base/log.ts";
import { formatRepo } from "../../../../src/oci/reference.ts";
import { createOverview } from "../../../../src/proxy/overview/create-overview.ts";
import type { Overview } from "../../../../src/proxy/overview/overview.ts";
import { RepositoryIndex } from "../../../../src/proxy/overview/repository-index.ts";
import type { Repositories } from "../../../../src/storage/repositories.ts";
import { createRepositories } from "../../../../src/storage/repositories-store.ts";
import { createLargeStore, type LargeStore, largeRepo, type Reads } from "../../../support/large-store.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { overviewParts } from "../../../support/overview-bench.ts";
import { until } from "../../../support/processes.ts";

const call = { signal: new AbortController().signal };
const REPOSITORIES = 10_000;
const TAGS = 200;
const PAGE = 50;

/** Of one repository on a page: its folder of tags, two of revisions, two of layers. */
const READS_PER_LINE = 6;
/** Of one tag: its link, its record, the link to its manifest, the manifest and its record. */
const READS_PER_TAG = 6;

let store: LargeStore;
let repositories: Repositories;
let index: RepositoryIndex;
let overview: Overview;

beforeAll(async () => {
  const clock = new ManualClock();
  store = createLargeStore({ repositories: REPOSITORIES, tags: TAGS });
  repositories = createRepositories(store.objects, silentLog);
  index = new RepositoryIndex({
    repositories,
    glance: () => ({ occupied: 4096, usedAtMs: clock.now() }),
    visibilityOf: async () => "public",
    walkEveryMs: 3_600_000,
    clock,
    log: silentLog,
  });
  index.start();
  overview = createOverview({ ...overviewParts(clock), index, repositories, store: store.blobs });
  await until("the names to be gathered", async () => index.complete);
  store.taken();
});

afterAll(() => index.stop());

function query(more: object = {}) {
  return { search: "", upstream: undefined, offset: 0, limit: PAGE, ...more };
}

function sum({ get, list, open }: Reads): number {
  return get + list + open;
}

test("a page of repositories costs a few reads for each that is on it, and none when it is looked at again", async () => {
  const page = await overview.repositories(query(), call);
  expect(page).toMatchObject({ total: REPOSITORIES, complete: true });
  expect(page.repositories).toHaveLength(PAGE);
  expect(page.repositories[0]).toMatchObject({ ...largeRepo(0), tags: TAGS, sizeBytes: TAGS * 4096 });
  const first = store.taken();
  expect(sum(first)).toBeGreaterThan(0);
  expect(sum(first)).toBeLessThanOrEqual(PAGE * READS_PER_LINE);
  expect(await overview.repositories(query(), call)).toEqual(page);
  expect(sum(store.taken())).toBe(0);
});

test("a search costs no more than the page that it finds", async () => {
  const wanted = largeRepo(4321);
  const page = await overview.repositories(query({ search: "app-04321" }), call);
  expect(page).toMatchObject({ total: 1, repositories: [wanted] });
  expect(sum(store.taken())).toBeLessThanOrEqual(READS_PER_LINE);
  expect(await overview.repositories(query({ search: "no such name" }), call)).toMatchObject({ total: 0 });
  expect(sum(store.taken())).toBe(0);
});

test("the last page is no dearer than the first", async () => {
  const page = await overview.repositories(query({ offset: REPOSITORIES - 7 }), call);
  expect(page.repositories).toHaveLength(7);
  expect(sum(store.taken())).toBeLessThanOrEqual(7 * READS_PER_LINE);
});

test("of a repository's tags only those on the page are read", async () => {
  const { upstream, repository } = largeRepo(77);
  const found = await overview.repository(upstream, repository, { search: "", offset: 100, limit: PAGE }, call);
  expect(found).toMatchObject({ upstream, repository, total: TAGS, tags: TAGS });
  expect(found?.rows.map(({ tag }) => tag).slice(0, 2)).toEqual(["v100", "v101"]);
  expect(found?.rows).toHaveLength(PAGE);
  expect(found?.rows[0]).toMatchObject({ held: true, sizeBytes: expect.any(Number) });
  expect(sum(store.taken())).toBeLessThanOrEqual(PAGE * READS_PER_TAG + READS_PER_LINE + 2);
  const searched = await overview.repository(upstream, repository, { search: "V19", offset: 0, limit: PAGE }, call);
  expect([searched?.total, searched?.rows.length]).toEqual([10, 10]);
  expect(sum(store.taken())).toBeLessThanOrEqual(10 * READS_PER_TAG + 2);
});

test("looking at the other parts reads nothing", async () => {
  await Promise.all([
    overview.upstreams(call),
    overview.storage(call),
    overview.fills(call),
    overview.recent(50, call),
  ]);
  expect(sum(store.taken())).toBe(0);
});

test("pages follow each other in the order of the names", async () => {
  const seen: string[] = [];
  for (let offset = 0; offset < REPOSITORIES; offset += 997) {
    const { repositories: lines } = await overview.repositories(query({ offset, limit: 2 }), call);
    seen.push(...lines.map(formatRepo));
  }
  expect(seen).toHaveLength(22);
  expect(seen).toEqual([...new Set(seen)].toSorted());
});
