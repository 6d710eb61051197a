import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseDigest } from "../../../src/oci/digest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import type { Caller } from "../../../src/proxy/answers.ts";
import { RememberedAbsenceError } from "../../../src/proxy/remembered.ts";
import { NOBODY, signedIn } from "../../support/callers.ts";
import { DAY, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";

const TEAM = "docker.io/team/app";
const STAFF = signedIn("ci");
const DENIED = { code: "DENIED", status: 403, detail: { key: "access.privateToAnonymous" } };

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
  bench.hub.credentialed.add("team/app").add("team/site");
  bench.hub.private.add("team/app");
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

const layer = Buffer.from("the layer of a private image");

/** A private image, and the digests of its parts. */
function pushPrivate() {
  const blob = bench.hub.pushBlob("team/app", layer);
  const document = { schemaVersion: 2, layers: [{ mediaType: "application/tar", digest: blob, size: layer.length }] };
  const manifest = bench.hub.push("team/app", OCI_MANIFEST, document, "1");
  return { blob, manifest };
}

async function pullAsStaff({ blob }: { readonly blob: string }): Promise<void> {
  await bench.get(`${TEAM}:1`, { caller: STAFF });
  expect(await bench.pull(`${TEAM}@${blob}`, { caller: STAFF })).toEqual(layer);
}

/** Every route by which an anonymous caller could get at it. */
async function expectAllDenied({
  blob,
  manifest,
}: {
  readonly blob: string;
  readonly manifest: string;
}): Promise<void> {
  const routes = [
    bench.get(`${TEAM}:1`),
    bench.head(`${TEAM}:1`),
    bench.get(`${TEAM}:absent`),
    bench.get(`${TEAM}@${manifest}`),
    bench.head(`${TEAM}@${manifest}`),
    bench.blob(`${TEAM}@${blob}`),
    bench.blob(`${TEAM}@${blob}`, { head: true }),
    bench.blob(`${TEAM}@${blob}`, { range: { kind: "from", start: 0, end: 0 } }),
    bench.referrers(`${TEAM}@${manifest}`),
    bench.referrers(`${TEAM}@${blob}`, { artifactType: "application/spdx+json" }),
    tags(),
  ];
  for (const route of await Promise.allSettled(routes)) {
    expect(route).toMatchObject({ status: "rejected", reason: DENIED });
  }
  expect(await catalog()).not.toContain(TEAM);
}

async function tags(caller?: Caller) {
  return await bench.proxy.tags({
    repo: { upstream: "docker.io", repository: "team/app" },
    n: undefined,
    last: undefined,
    cursor: {},
    caller: caller ?? NOBODY,
    signal: bench.signal,
  });
}

async function catalog(caller?: Caller) {
  const answer = await bench.proxy.catalog({
    n: undefined,
    last: undefined,
    upstream: undefined,
    caller: caller ?? NOBODY,
    signal: bench.signal,
  });
  return answer.repositories;
}

describe("a private repository and an anonymous caller", () => {
  test("A1 403 on every route: cold, warm, stale, negative, after a restart", async () => {
    const image = pushPrivate();
    await expectAllDenied(image);
    await pullAsStaff(image);
    await expectAllDenied(image);
    expect(await catalog(STAFF)).toContain(TEAM);
    await expect(bench.get(`${TEAM}:absent`, { caller: STAFF })).rejects.toMatchObject({ fault: "absent" });
    await expectAllDenied(image);
    await bench.restart();
    await expectAllDenied(image);
    bench.hub.fail("connect");
    await expectAllDenied(image);
    bench.clock.advance(2 * DAY);
    await expectAllDenied(image);
    expect((await bench.get(`${TEAM}:1`, { caller: STAFF })).cache.outcome).toBe("stale");
    await expectAllDenied(image);
  });

  test("A1 while somebody else's pull is under way", async () => {
    const image = pushPrivate();
    let open = () => {};
    bench.fills.gate = new Promise((resolve) => {
      open = resolve;
    });
    await bench.get(`${TEAM}:1`, { caller: STAFF });
    const pull = bench.pull(`${TEAM}@${image.blob}`, { caller: STAFF });
    await expectAllDenied(image);
    open();
    expect(await pull).toEqual(layer);
  });

  test("A1 the same digest asked for by a public repository of the same upstream that does not have it", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    await expect(bench.blob(`docker.io/library/nginx@${blob}`)).rejects.toMatchObject({ fault: "absent" });
    await expect(bench.get(`docker.io/library/nginx@${manifest}`)).rejects.toMatchObject({ fault: "absent" });
  });

  test("access.privateToAnonymous opens it, marked private", async () => {
    const { blob, manifest } = pushPrivate();
    bench.privateToAnonymous = true;
    expect(await bench.get(`${TEAM}:1`)).toMatchObject({ digest: manifest, visibility: "private" });
    expect(await bench.pull(`${TEAM}@${blob}`)).toEqual(layer);
    expect(await catalog()).toContain(TEAM);
    expect((await tags()).tags).toEqual(["1"]);
  });

  test("names that are made up leave nothing in storage", async () => {
    bench.hub.credentialed.add("team/made-up");
    bench.hub.private.add("team/made-up");
    await expect(bench.get("docker.io/team/made-up:1")).rejects.toMatchObject(DENIED);
    await expect(bench.get("docker.io/team/made-up:2")).rejects.toMatchObject(DENIED);
    expect(bench.hub.taken()).toEqual(["ANON team/made-up:1"]);
    const repo = { upstream: "docker.io", repository: "team/made-up" };
    expect(await bench.repositories.getRepoRecord(repo, bench)).toBeUndefined();
  });

  test("what a credential received stays private when the credential is taken away", async () => {
    const image = pushPrivate();
    await pullAsStaff(image);
    bench.hub.credentialed.clear();
    await bench.restart();
    await expectAllDenied(image);
  });
});

describe("visibility", () => {
  test("a public repository with a credential: asked once as nobody, and again after a day", async () => {
    bench.hub.push("team/site", OCI_MANIFEST, {}, "1");
    expect((await bench.get("docker.io/team/site:1")).visibility).toBe("public");
    await bench.restart();
    await bench.get("docker.io/team/site:1");
    expect(bench.hub.taken()).toEqual(["ANON team/site:1", "GET team/site:1"]);
    bench.clock.advance(DAY);
    await bench.get("docker.io/team/site:1");
    expect(bench.hub.taken()).toEqual(["ANON team/site:1", "HEAD team/site:1"]);
  });

  test("without a credential nobody is asked", async () => {
    bench.hub.push("library/nginx", OCI_MANIFEST, {}, "1");
    expect((await bench.get("docker.io/library/nginx:1")).visibility).toBe("public");
    expect(bench.hub.taken()).toEqual(["GET library/nginx:1"]);
  });

  test("trouble: the last known holds, and what was never known is private, unrecorded", async () => {
    bench.hub.push("team/site", OCI_MANIFEST, {}, "1");
    await bench.get("docker.io/team/site:1");
    bench.clock.advance(2 * DAY);
    bench.hub.fail("timeout");
    expect(await bench.get("docker.io/team/site:1")).toMatchObject({
      visibility: "public",
      cache: { outcome: "stale" },
    });
    await expect(bench.get(`${TEAM}:1`)).rejects.toMatchObject(DENIED);
    bench.hub.failing = undefined;
    bench.hub.private.clear();
    pushPrivate();
    bench.clock.advance(MINUTE);
    expect((await bench.get(`${TEAM}:1`)).visibility).toBe("public");
  });

  test("a slow answer does not hold up what was public yesterday", async () => {
    bench.hub.push("team/site", OCI_MANIFEST, {}, "1");
    await bench.get("docker.io/team/site:1");
    bench.clock.advance(DAY + 1);
    bench.hub.gate = new Promise(() => {});
    const asking = bench.get("docker.io/team/site:1");
    for (let waits = 0; waits < 2; waits += 1) {
      await bench.clock.sleeping();
      bench.clock.advance(1500);
    }
    expect((await asking).cache.detail).toBe("soft-deadline");
  });

  test("turned private: denied within a day", async () => {
    bench.hub.push("team/site", OCI_MANIFEST, {}, "1");
    await bench.get("docker.io/team/site:1");
    bench.hub.private.add("team/site");
    bench.clock.advance(DAY);
    await expect(bench.get("docker.io/team/site:1")).rejects.toMatchObject(DENIED);
  });

  test("an absent tag says nothing about the repository", async () => {
    bench.hub.push("team/site", OCI_MANIFEST, {}, "1");
    await expect(bench.get("docker.io/team/site:absent")).rejects.toMatchObject(DENIED);
    expect((await bench.get("docker.io/team/site:1")).visibility).toBe("public");
    await expect(bench.get("docker.io/team/site:absent")).rejects.toMatchObject({ fault: "absent" });
  });

  test("a tag list of a public repository needs no pull before it", async () => {
    bench.hub.private.clear();
    pushPrivate();
    expect((await tags()).tags).toEqual(["1"]);
    expect(bench.hub.taken()).toEqual(["TAGS team/app?", "ANON team/app:1", "TAGS team/app?"]);
  });
});

describe("permission to read a private repository", () => {
  test("M5 revoked: stops within proofTtl, by tag and by digest", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    bench.hub.denied.add("team/app");
    bench.clock.advance(HOUR - 1);
    expect((await bench.get(`${TEAM}@${manifest}`, { caller: STAFF })).cache.outcome).toBe("hit");
    expect(await bench.pull(`${TEAM}@${blob}`, { caller: STAFF })).toEqual(layer);
    bench.clock.advance(1);
    for (const ask of [
      () => bench.get(`${TEAM}:1`, { caller: STAFF }),
      () => bench.get(`${TEAM}@${manifest}`, { caller: STAFF }),
      () => bench.blob(`${TEAM}@${blob}`, { caller: STAFF }),
      () => bench.blob(`${TEAM}@${blob}`, { caller: STAFF, head: true }),
    ]) {
      await expect(ask()).rejects.toMatchObject({ fault: "denied" });
    }
    bench.hub.taken();
    await expect(bench.get(`${TEAM}@${manifest}`, { caller: STAFF })).rejects.toThrow(RememberedAbsenceError);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("M5 a refusal by tag ends the rest of the hour by digest, too", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    bench.hub.denied.add("team/app");
    bench.clock.advance(10 * MINUTE);
    await expect(bench.get(`${TEAM}:1`, { caller: STAFF })).rejects.toMatchObject({ fault: "denied" });
    await expect(bench.get(`${TEAM}@${manifest}`, { caller: STAFF })).rejects.toMatchObject({ fault: "denied" });
  });

  test("M5 a refused tag does not come back with the next outage", async () => {
    const { blob } = pushPrivate();
    await pullAsStaff({ blob });
    bench.hub.denied.add("team/app");
    bench.clock.advance(HOUR);
    await expect(bench.get(`${TEAM}:1`, { caller: STAFF })).rejects.toMatchObject({ fault: "denied" });
    bench.clock.advance(HOUR);
    bench.hub.fail("connect");
    await expect(bench.get(`${TEAM}:1`, { caller: STAFF })).rejects.toMatchObject({ fault: "connect" });
  });

  test("proved anew by one HEAD for fifty callers, and good for another hour", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    bench.clock.advance(HOUR);
    bench.hub.taken();
    await Promise.all(Array.from({ length: 50 }, () => bench.get(`${TEAM}@${manifest}`, { caller: STAFF })));
    expect(await bench.pull(`${TEAM}@${blob}`, { caller: STAFF })).toEqual(layer);
    expect(bench.hub.taken()).toEqual([`HEAD team/app@${manifest}`]);
  });

  test("trouble upstream is no refusal", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    bench.clock.advance(DAY);
    bench.hub.fail("status", 503);
    expect((await bench.get(`${TEAM}@${manifest}`, { caller: STAFF })).cache).toMatchObject({
      outcome: "stale",
      detail: "stale-if-error",
      fwdStatus: 503,
    });
    expect(await bench.pull(`${TEAM}@${blob}`, { caller: STAFF })).toEqual(layer);
  });
});

describe("A2 an upstream that a tenant controls", () => {
  beforeEach(() => {
    bench.other.confirmsEverything = true;
  });

  test("confirms a foreign private blob: no byte of it comes out", async () => {
    const { blob } = pushPrivate();
    await pullAsStaff({ blob });
    await expect(bench.blob(`other.example/evil/repo@${blob}`)).rejects.toMatchObject({ fault: "absent" });
    expect(bench.other.taken()).toEqual([`GET blob evil/repo@${blob}`]);
  });

  test("lists a foreign private blob and manifest in a manifest of its own: no byte of them comes out", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    const descriptors = {
      layers: [{ mediaType: "application/tar", digest: blob, size: layer.length }],
      manifests: [{ mediaType: OCI_MANIFEST, digest: manifest, size: 1 }],
    };
    bench.other.push("evil/repo", OCI_INDEX, descriptors, "1");
    await bench.get("other.example/evil/repo:1");
    await expect(bench.blob(`other.example/evil/repo@${blob}`)).rejects.toMatchObject({ fault: "absent" });
    await expect(bench.get(`other.example/evil/repo@${manifest}`)).rejects.toMatchObject({ fault: "absent" });
  });

  test("confirms a blob while its true owner's download runs", async () => {
    const { blob } = pushPrivate();
    let open = () => {};
    bench.fills.gate = new Promise((resolve) => {
      open = resolve;
    });
    await bench.get(`${TEAM}:1`, { caller: STAFF });
    const pull = bench.pull(`${TEAM}@${blob}`, { caller: STAFF });
    const stolen = bench.pull(`other.example/evil/repo@${blob}`);
    const refused = expect(stolen).rejects.toMatchObject({ fault: "absent" });
    open();
    await refused;
    expect(await pull).toEqual(layer);
    await expect(bench.pull(`other.example/evil/repo@${blob}`)).rejects.toMatchObject({ fault: "absent" });
  });

  test("names a foreign private manifest as what its tag means", async () => {
    const { blob, manifest } = pushPrivate();
    await pullAsStaff({ blob });
    const own = bench.other.push("evil/repo", OCI_MANIFEST, { n: 1 }, "1");
    await bench.get("other.example/evil/repo:1");
    bench.clock.advance(HOUR);
    bench.other.repository("evil/repo").manifests.set(parseDigest(manifest), { mediaType: OCI_MANIFEST, bytes: layer });
    bench.other.repository("evil/repo").tags.set("1", parseDigest(manifest));
    const answer = await bench.get("other.example/evil/repo:1");
    expect(answer).toMatchObject({ digest: own, cache: { outcome: "stale" } });
    await expect(bench.get(`other.example/evil/repo@${manifest}`)).rejects.toMatchObject({ fault: "bad-answer" });
  });

  test("delivers the bytes itself: then they are its own", async () => {
    const { blob } = pushPrivate();
    await pullAsStaff({ blob });
    bench.other.pushBlob("true/owner", layer);
    expect(await bench.pull(`other.example/true/owner@${blob}`)).toEqual(layer);
    expect((await bench.blob(`other.example/true/owner@${blob}`)).cache.outcome).toBe("hit");
  });
});
