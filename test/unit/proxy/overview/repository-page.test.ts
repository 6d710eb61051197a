import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../../src/base/log.ts";
import { compilePin } from "../../../../src/config/room.ts";
import { parseDigest } from "../../../../src/oci/digest.ts";
import type { RepoRef } from "../../../../src/oci/reference.ts";
import type { NamedPin } from "../../../../src/proxy/operator-pins.ts";
import { createOverview, type OverviewDeps } from "../../../../src/proxy/overview/create-overview.ts";
import type { RepositoryOverview } from "../../../../src/proxy/overview/overview.ts";
import { RepositoryIndex } from "../../../../src/proxy/overview/repository-index.ts";
import { artifact, dockerImage, type Image, multiArchImage, smallImage } from "../../../support/images.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { overviewParts } from "../../../support/overview-bench.ts";
import { createUpkeepStore, type UpkeepStore } from "../../../support/upkeep-store.ts";

const call = { signal: new AbortController().signal };
const APP: RepoRef = { upstream: "docker.io", repository: "library/app" };
const MINUTE_MS = 60_000;

let stack: AsyncDisposableStack;
let clock: ManualClock;
let store: UpkeepStore;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new ManualClock();
  store = await createUpkeepStore(stack);
});

afterEach(() => stack.disposeAsync());

async function page(
  more: Partial<OverviewDeps> = {},
  query: { search?: string; offset?: number; limit?: number } = {},
): Promise<RepositoryOverview> {
  const index = new RepositoryIndex({
    repositories: store.repositories,
    glance: () => ({ occupied: 4096, usedAtMs: 5 }),
    visibilityOf: async () => "public",
    walkEveryMs: 1e9,
    clock,
    log: silentLog,
  });
  const overview = createOverview({
    ...overviewParts(clock),
    index,
    repositories: store.repositories,
    store: store.blobs,
    ...more,
  });
  const found = await overview.repository(
    "docker.io",
    "library/app",
    { search: "", offset: 0, limit: 50, ...query },
    call,
  );
  await index.stop();
  if (found === undefined) throw new Error("it is not held");
  return found;
}

async function keep(image: Image, tags: readonly string[], checkedAtMs = clock.now()): Promise<void> {
  await store.keep(APP, tags, image);
  const digest = parseDigest(image.root.digest);
  for (const tag of tags) await store.repositories.putTag(APP, tag, { digest, checkedAtMs }, call);
}

/** Of everything in the image, each once. */
function sizeOf(image: Image): number {
  return [...image.manifests, ...image.blobs].reduce((sum, { bytes }) => sum + bytes.length, 0);
}

describe("a tag", () => {
  test("of an image tells its type, platform and the sum of its parts", async () => {
    const [oci, docker] = [smallImage("one"), dockerImage("two")];
    await keep(oci, ["oci"]);
    await keep(docker, ["docker"]);
    const { rows } = await page();
    expect(rows.map(({ tag }) => tag)).toEqual(["docker", "oci"]);
    for (const [row, image] of [
      [rows[0], docker],
      [rows[1], oci],
    ] as const) {
      expect(row).toMatchObject({
        digest: image.root.digest,
        held: true,
        mediaType: image.root.mediaType,
        sizeBytes: sizeOf(image),
        platforms: [{ platform: "linux/amd64", held: true }],
      });
    }
  });

  test("of an index tells which platforms are held, and the sum of what is", async () => {
    const image = multiArchImage("many");
    await keep(image, ["1"]);
    const whole = await page();
    expect(whole.rows[0]).toMatchObject({
      sizeBytes: sizeOf(image),
      platforms: ["linux/amd64", "linux/arm64", "linux/arm/v7"].map((platform) => ({ platform, held: true })),
    });
    const [child] = image.manifests;
    if (child === undefined) throw new Error("an index has children");
    await store.blobs.delete(parseDigest(child.digest), call);
    const part = (await page()).rows[0];
    expect(part?.platforms[0]).toEqual({ platform: "linux/amd64", held: false });
    expect(part?.sizeBytes).toBeLessThan(sizeOf(image));
  });

  test("of what is no image, or not held, or damaged, tells what can be told", async () => {
    const [report, lost, damaged] = [artifact("report"), smallImage("lost"), smallImage("damaged")];
    await keep(report, ["report"]);
    await keep(lost, ["lost"]);
    await keep(damaged, ["damaged"]);
    await store.blobs.delete(parseDigest(lost.root.digest), call);
    const config = damaged.blobs[0];
    if (config === undefined) throw new Error("an image has a configuration");
    await store.blobs.delete(parseDigest(config.digest), call);
    const { rows } = await page();
    expect(rows.map(({ tag, held, platforms }) => ({ tag, held, platforms }))).toEqual([
      { tag: "damaged", held: true, platforms: [] },
      { tag: "lost", held: false, platforms: [] },
      { tag: "report", held: true, platforms: [] },
    ]);
    expect(rows[1]).toMatchObject({ mediaType: undefined, sizeBytes: undefined, freshUntilMs: undefined });
  });

  test("tells how fresh it is, by which rule, and in the words of an explanation", async () => {
    await keep(smallImage("one"), ["new"], clock.now() - 2 * MINUTE_MS);
    await keep(smallImage("one"), ["old"], clock.now() - 60 * MINUTE_MS);
    await keep(smallImage("one"), ["adopted"], 0);
    const [adopted, fresh, old] = (await page()).rows;
    expect(fresh).toMatchObject({
      checkedAtMs: clock.now() - 2 * MINUTE_MS,
      freshUntilMs: clock.now() + 8 * MINUTE_MS,
      freshness: "fresh for 8 min more",
      rule: "default",
      ruleKey: "freshness.default",
      ttlMs: 10 * MINUTE_MS,
    });
    expect(old).toMatchObject({
      freshUntilMs: undefined,
      freshness: "checked 1 h ago, which is past its time to live of 10 min",
    });
    expect(adopted).toMatchObject({
      checkedAtMs: undefined,
      freshness: "the upstream has never been asked about it",
    });
  });

  test("that is gone upstream says since when", async () => {
    const image = smallImage("one");
    await keep(image, ["1"]);
    const entry = { digest: parseDigest(image.root.digest), checkedAtMs: 7, goneSinceMs: 8 };
    await store.repositories.putTag(APP, "1", entry, call);
    expect((await page()).rows[0]).toMatchObject({ goneSinceMs: 8, freshUntilMs: undefined });
  });

  test("whose link is broken is left out of the rows", async () => {
    await keep(smallImage("one"), ["1", "2"]);
    await store.objects.put(
      "docker/registry/v2/repositories/docker.io/library/app/_manifests/tags/1/current/link",
      new Uint8Array(),
      call,
    );
    expect((await page()).rows.map(({ tag }) => tag)).toEqual(["2"]);
  });

  test("tells which pin keeps it, whosever that is", async () => {
    await keep(smallImage("one"), ["1", "2", "3"]);
    const digest = parseDigest(smallImage("one").root.digest);
    const app = ({ repository }: RepoRef): boolean => repository === APP.repository;
    const pins: NamedPin[] = [
      { text: "docker.io/library/app:1", from: "storage.pins", ...compilePin("docker.io/library/app:1") },
      { text: "docker.io/library/app:2", from: "operator", repository: app, tag: (tag) => tag === "2" },
      { text: "quay.io/**", from: "operator", repository: () => false, tag: undefined },
    ];
    const some = await page({ pins: async () => pins });
    expect(some.pinnedBy).toBeUndefined();
    expect(some.rows.map(({ pinnedBy }) => pinnedBy)).toEqual([
      { pin: "docker.io/library/app:1", from: "storage.pins" },
      { pin: "docker.io/library/app:2", from: "operator" },
      undefined,
    ]);
    const byDigest = await page({
      pins: async () => [{ text: "by digest", from: "operator", repository: app, tag: undefined, digest }],
    });
    expect(byDigest.pinnedBy).toBeUndefined();
    expect(byDigest.rows.every(({ pinnedBy }) => pinnedBy?.pin === "by digest")).toBe(true);
    const whole = await page({
      pins: async () => [{ text: "all", from: "operator", repository: app, tag: undefined }],
    });
    expect(whole.pinnedBy).toEqual({ pin: "all", from: "operator" });
  });
});

describe("the page", () => {
  test("has what is in the repository, and its tags by search and place", async () => {
    await keep(smallImage("one"), ["1.0", "1.1", "2.0-Beta", "latest"]);
    const all = await page();
    expect(all).toMatchObject({ ...APP, visibility: "public", tags: 4, total: 4, lastUsedMs: 5, atLeast: false });
    expect((await page({}, { search: "BETA" })).rows.map(({ tag }) => tag)).toEqual(["2.0-Beta"]);
    const second = await page({}, { offset: 1, limit: 2 });
    expect([second.total, second.rows.map(({ tag }) => tag)]).toEqual([4, ["1.1", "2.0-Beta"]]);
  });

  test("is none for what is not held, or cannot be a repository's name", async () => {
    await keep(smallImage("one"), ["1"]);
    const index = new RepositoryIndex({
      repositories: store.repositories,
      glance: () => undefined,
      visibilityOf: async () => "public",
      walkEveryMs: 1e9,
      clock,
      log: silentLog,
    });
    const parts = overviewParts(clock);
    const names = () => ({ upstream: (name: string) => (name === "docker.io" ? name : undefined) });
    const overview = createOverview({ ...parts, names, index, repositories: store.repositories, store: store.blobs });
    const query = { search: "", offset: 0, limit: 10 };
    for (const [upstream, repository] of [
      ["docker.io", "library/other"],
      ["docker.io", "../../../etc"],
      ["docker.io", "library/app/_manifests"],
      ["docker.io", ""],
      ["nobody.example", "library/app"],
      ["../docker.io", "library/app"],
    ] as const) {
      expect(await overview.repository(upstream, repository, query, call)).toBeUndefined();
    }
    expect(await overview.repository("docker.io", "library/app", query, call)).toBeDefined();
  });
});
