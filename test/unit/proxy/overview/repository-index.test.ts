import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../../src/base/log.ts";
import { digestOf } from "../../../../src/oci/digest.ts";
import { formatRepo, type RepoRef } from "../../../../src/oci/reference.ts";
import { RepositoryIndex } from "../../../../src/proxy/overview/repository-index.ts";
import { StorageError } from "../../../../src/storage/blob-store.ts";
import type { Repositories } from "../../../../src/storage/repositories.ts";
import { createRepositories } from "../../../../src/storage/repositories-store.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../../support/memory-store.ts";
import { until } from "../../../support/processes.ts";

const call = { signal: new AbortController().signal };
const EVERYTHING = { search: "", upstream: undefined, offset: 0, limit: 100 };
const WALK_MS = 3_600_000;
const APP: RepoRef = { upstream: "a.example", repository: "app" };
const OTHER: RepoRef = { upstream: "b.example", repository: "deep/other" };
const [ONE, TWO] = [digestOf(Buffer.from("one")), digestOf(Buffer.from("two"))];

let clock: ManualClock;
let repositories: Repositories;
/** Of the same store: another Weir's. */
let rival: Repositories;
let index: RepositoryIndex;

beforeEach(() => {
  clock = new ManualClock();
  const objects = createMemorySmallObjects();
  rival = createRepositories(objects, silentLog);
  repositories = createRepositories(objects, silentLog, {
    linking() {},
    changed: (repo, how) => index.changed(repo, how),
  });
  index = indexOf(repositories);
});

afterEach(() => index.stop());

function indexOf(of: Repositories, limits?: { repositories: number; bytes: number }): RepositoryIndex {
  return new RepositoryIndex(
    {
      repositories: of,
      glance: (digest) => (digest === ONE ? { occupied: 4096, usedAtMs: 1000 } : { occupied: 512, usedAtMs: 2000 }),
      visibilityOf: async () => "public",
      walkEveryMs: WALK_MS,
      clock,
      log: silentLog,
    },
    limits,
  );
}

async function names(): Promise<readonly string[]> {
  return (await index.page(EVERYTHING, call)).repositories.map(formatRepo);
}

async function complete(): Promise<void> {
  await until("the names to be gathered", async () => index.complete);
}

/** Lets what goes on in the background go on. */
async function settled(): Promise<void> {
  for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe("gathering", () => {
  test("what lay there before is known a while after the start, and told to be incomplete until then", async () => {
    await rival.linkLayer(OTHER, ONE, call);
    await rival.linkRevision(APP, ONE, call);
    expect(await index.page(EVERYTHING, call)).toEqual({ total: 0, complete: false, repositories: [] });
    index.start();
    await complete();
    expect(await names()).toEqual(["a.example/app", "b.example/deep/other"]);
    expect([index.count("a.example"), index.count("c.example")]).toEqual([1, 0]);
  });

  test("what another Weir writes and removes is seen when the names are gathered again", async () => {
    await rival.linkLayer(APP, ONE, call);
    index.start();
    await complete();
    await rival.linkLayer(OTHER, ONE, call);
    await rival.unlinkLayer(APP, ONE, call);
    expect(await names()).toEqual(["a.example/app"]);
    await clock.sleeping();
    clock.advance(WALK_MS);
    await until("the other to be seen", async () => (await names()).join() === "b.example/deep/other");
  });

  test("so is what nobody has told of, once that is said", async () => {
    index.start();
    await complete();
    await clock.sleeping();
    await rival.linkLayer(OTHER, ONE, call);
    expect(await names()).toEqual([]);
    index.missed();
    await until("it to be seen", async () => (await names()).length === 1);
  });

  test("a storage that fails is asked again, and what is known until then is told", async () => {
    let down = true;
    await rival.linkLayer(APP, ONE, call);
    index = indexOf({
      ...rival,
      // A class's methods are not its own.
      isLinked: (repo, o) => rival.isLinked(repo, o),
      tagNames: (repo, o) => rival.tagNames(repo, o),
      linkNames: (repo, o) => rival.linkNames(repo, o),
      async *linked(o) {
        if (down) throw new StorageError("unavailable", "down");
        yield* rival.linked(o);
      },
    });
    index.changed(OTHER, "came");
    index.start();
    await clock.sleeping();
    expect(await index.page(EVERYTHING, call)).toMatchObject({ total: 1, complete: false });
    down = false;
    clock.advance(60_000);
    await complete();
    // Nobody has written what only was told of.
    expect(await names()).toEqual(["a.example/app"]);
  });

  test("what does not fit is left out, and told", async () => {
    for (const repository of ["a", "b", "c"]) await rival.linkLayer({ ...APP, repository }, ONE, call);
    index = indexOf(rival, { repositories: 2, bytes: 1 << 20 });
    index.start();
    await clock.sleeping();
    expect(await index.page(EVERYTHING, call)).toMatchObject({ total: 2, complete: false });
    expect(await index.line({ ...APP, repository: "c" }, call)).toMatchObject({ repository: "c" });
    expect(await index.line({ ...APP, repository: "d" }, call)).toBeUndefined();
  });
});

describe("keeping up", () => {
  beforeEach(async () => {
    index.start();
    await complete();
  });

  test("what is written is there at once", async () => {
    await repositories.linkRevision(APP, ONE, call);
    expect(await names()).toEqual(["a.example/app"]);
  });

  test("what has lost everything is gone at once, and what has lost something is not", async () => {
    await repositories.linkRevision(APP, ONE, call);
    await repositories.linkRevision(APP, TWO, call);
    await repositories.linkLayer(OTHER, TWO, call);
    await repositories.unlinkRevision(APP, ONE, call);
    expect(await names()).toEqual(["a.example/app", "b.example/deep/other"]);
    await repositories.unlinkLayer(OTHER, TWO, call);
    expect(await names()).toEqual(["a.example/app"]);
    expect(await index.line(OTHER, call)).toBeUndefined();
  });

  test("what nobody looks at goes in the background", async () => {
    await repositories.linkLayer(OTHER, TWO, call);
    await repositories.unlinkLayer(OTHER, TWO, call);
    expect(index.count("b.example")).toBe(1);
    clock.advance(1_000);
    await until("it to be found gone", async () => index.count("b.example") === 0);
  });

  test("what comes back while it is looked for stays", async () => {
    await repositories.linkLayer(OTHER, TWO, call);
    await repositories.unlinkLayer(OTHER, TWO, call);
    const page = index.page(EVERYTHING, call);
    index.changed(OTHER, "came");
    await page;
    expect(index.count("b.example")).toBe(1);
  });

  test("what goes while the names are gathered again is not brought back", async () => {
    await repositories.linkLayer(OTHER, TWO, call);
    const listed = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    await index.stop();
    index = indexOf({
      ...rival,
      isLinked: (repo, o) => rival.isLinked(repo, o),
      tagNames: (repo, o) => rival.tagNames(repo, o),
      linkNames: (repo, o) => rival.linkNames(repo, o),
      async *linked(o) {
        const all: RepoRef[] = [];
        for await (const repo of rival.linked(o)) all.push(repo);
        listed.resolve();
        await goOn.promise;
        yield* all;
      },
    });
    index.start();
    await listed.promise;
    await repositories.unlinkLayer(OTHER, TWO, call);
    expect(await names()).toEqual([]);
    goOn.resolve();
    await complete();
    expect(await names()).toEqual([]);
  });
});

describe("figures", () => {
  beforeEach(async () => {
    await rival.linkRevision(APP, ONE, call);
    await rival.linkLayer(APP, TWO, call);
    await rival.putTag(APP, "1", { digest: ONE, checkedAtMs: 1 }, call);
    index.start();
    await complete();
  });

  test("say what a repository has, and are counted anew when something of it was written", async () => {
    const [line] = (await index.page(EVERYTHING, call)).repositories;
    expect(line).toEqual({
      ...APP,
      visibility: "public",
      tags: 1,
      sizeBytes: 4608,
      lastUsedMs: 2000,
      atLeast: false,
    });
    await repositories.putTag(APP, "2", { digest: ONE, checkedAtMs: 1 }, call);
    expect((await index.page(EVERYTHING, call)).repositories).toMatchObject([{ tags: 2 }]);
  });

  test("a page does not wait for those that take long, and has them when it is looked at again", async () => {
    const gate = Promise.withResolvers<void>();
    await index.stop();
    index = new RepositoryIndex({
      repositories: rival,
      glance: () => undefined,
      async visibilityOf() {
        await gate.promise;
        return "private";
      },
      walkEveryMs: WALK_MS,
      clock,
      log: silentLog,
    });
    index.start();
    await complete();
    const page = index.page(EVERYTHING, call);
    await settled();
    clock.advance(100);
    expect((await page).repositories).toEqual([
      { ...APP, visibility: undefined, tags: undefined, sizeBytes: undefined, lastUsedMs: undefined, atLeast: false },
    ]);
    gate.resolve();
    await settled();
    expect((await index.page(EVERYTHING, call)).repositories).toMatchObject([{ visibility: "private", tags: 1 }]);
  });

  test("stopping ends everything", async () => {
    await index.page(EVERYTHING, call);
    await index.stop();
    expect(clock.sleepers).toBe(0);
  });
});
