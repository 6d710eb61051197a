import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { RememberedAbsenceError } from "../../../src/proxy/remembered.ts";
import { UpstreamError } from "../../../src/upstream/upstream.ts";
import { DAY, FRESHNESS, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";

const NGINX = "docker.io/library/nginx";
const image = (n: number) => ({ schemaVersion: 2, config: { n } });

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

/** Fifty at once. */
async function fifty<T>(ask: () => Promise<T>): Promise<T[]> {
  return await Promise.all(Array.from({ length: 50 }, ask));
}

const push = (n: number, tag: string | undefined = "1") => bench.hub.push("library/nginx", OCI_MANIFEST, image(n), tag);

describe("how often an upstream is asked", () => {
  test("M1 fifty cold GETs of a tag: one GET, no HEAD", async () => {
    const digest = push(1);
    const answers = await fifty(() => bench.get(`${NGINX}:1`));
    expect(bench.hub.taken()).toEqual(["GET library/nginx:1"]);
    expect(answers.map((answer) => answer.digest)).toEqual(Array(50).fill(digest));
    expect(answers.filter(({ cache }) => cache.outcome === "miss")).toHaveLength(1);
    expect(answers.filter(({ cache }) => cache.outcome === "collapsed")).toHaveLength(49);
  });

  test("M1 fifty pulls of a fresh tag: nothing", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.hub.taken();
    bench.clock.advance(9 * MINUTE);
    const [answer] = await fifty(() => bench.get(`${NGINX}:1`));
    expect(answer?.cache).toEqual({ outcome: "hit", ttlS: 60 });
    expect(bench.hub.taken()).toEqual([]);
  });

  test("M1 fifty pulls at expiry: one HEAD; then fresh again", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(10 * MINUTE);
    bench.hub.taken();
    const [answer] = await fifty(() => bench.get(`${NGINX}:1`));
    expect(answer?.cache).toEqual({ outcome: "revalidated", ttlS: 600 });
    await fifty(() => bench.get(`${NGINX}:1`));
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
  });

  test("M1 fifty pulls of a moved tag: one HEAD, one GET by digest", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    const moved = push(2);
    bench.clock.advance(10 * MINUTE);
    bench.hub.taken();
    const answers = await fifty(() => bench.get(`${NGINX}:1`));
    expect(new Set(answers.map(({ digest }) => digest))).toEqual(new Set([moved]));
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1", `GET library/nginx@${moved}`]);
  });

  test("M1 a cold HEAD: one HEAD, and none for those who ask again", async () => {
    const digest = push(1);
    const answers = await fifty(() => bench.head(`${NGINX}:1`));
    const again = await bench.head(`${NGINX}:1`);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
    expect(answers[0]).toMatchObject({ digest, mediaType: OCI_MANIFEST, bytes: undefined });
    expect(again).toMatchObject({ digest, size: answers[0]?.size, cache: { outcome: "hit", ttlS: 600 } });
  });

  test("M1 HEAD and GET of a cold tag at once: one HEAD, one GET", async () => {
    const digest = push(1);
    await Promise.all([fifty(() => bench.head(`${NGINX}:1`)), fifty(() => bench.get(`${NGINX}:1`))]);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1", `GET library/nginx@${digest}`]);
  });

  test("M1 HEAD of a moved tag describes the new manifest; the GET that follows costs one GET", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    const moved = push(22);
    bench.clock.advance(10 * MINUTE);
    bench.hub.taken();
    expect(await bench.head(`${NGINX}:1`)).toMatchObject({ digest: moved, bytes: undefined });
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest: moved });
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1", `GET library/nginx@${moved}`]);
    expect(
      (await bench.repositories.getTag({ upstream: "docker.io", repository: "library/nginx" }, "1", bench))?.digest,
    ).toBe(moved);
  });

  test("a tag that moves to a manifest which is held costs no GET", async () => {
    const first = push(1);
    await bench.get(`${NGINX}:1`);
    push(2, "2");
    await bench.get(`${NGINX}:2`);
    bench.hub.repository("library/nginx").tags.set("2", first);
    bench.clock.advance(10 * MINUTE);
    bench.hub.taken();
    expect(await bench.get(`${NGINX}:2`)).toMatchObject({ digest: first, cache: { outcome: "revalidated" } });
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:2"]);
  });

  test("a client that leaves takes nobody with it", async () => {
    const digest = push(1);
    let open = () => {};
    bench.hub.gate = new Promise((resolve) => {
      open = resolve;
    });
    const leaving = new AbortController();
    const left = bench.get(`${NGINX}:1`, { signal: leaving.signal });
    const stayed = bench.get(`${NGINX}:1`);
    leaving.abort(new Error("the client has gone"));
    await expect(left).rejects.toThrow("the client has gone");
    open();
    expect((await stayed).digest).toBe(digest);
    expect(bench.hub.taken()).toEqual(["GET library/nginx:1"]);
  });

  test("M13 an absent tag asked for a hundred times: one request within `negative`", async () => {
    await expect(bench.get(`${NGINX}:none`)).rejects.toThrow(UpstreamError);
    for (let i = 0; i < 100; i += 1) {
      await expect(bench.get(`${NGINX}:none`)).rejects.toThrow(RememberedAbsenceError);
    }
    expect(bench.hub.taken()).toEqual(["GET library/nginx:none"]);
    bench.clock.advance(10_000);
    await expect(bench.get(`${NGINX}:none`)).rejects.toThrow(UpstreamError);
    expect(bench.hub.taken()).toHaveLength(1);
  });

  test("M12 an absent signature is remembered for five minutes", async () => {
    const tag = `sha256-${"a".repeat(64)}.sig`;
    await expect(bench.head(`${NGINX}:${tag}`)).rejects.toThrow(UpstreamError);
    bench.clock.advance(5 * MINUTE - 1);
    await expect(bench.head(`${NGINX}:${tag}`)).rejects.toThrow(RememberedAbsenceError);
    bench.clock.advance(1);
    await expect(bench.head(`${NGINX}:${tag}`)).rejects.not.toThrow(RememberedAbsenceError);
    expect(bench.hub.taken()).toHaveLength(2);
  });

  test("M13 an absent digest is remembered, too", async () => {
    const absent = digestOf(Buffer.from("absent"));
    await expect(bench.get(`${NGINX}@${absent}`)).rejects.toThrow(UpstreamError);
    await expect(bench.get(`${NGINX}@${absent}`)).rejects.toThrow(RememberedAbsenceError);
    expect(bench.hub.taken()).toHaveLength(1);
  });
});

describe("tags that move while they are asked for", () => {
  test("M3 the named manifest is gone by the time it is fetched: HEAD once more", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    const second = push(2);
    bench.clock.advance(10 * MINUTE);
    bench.hub.taken();
    let third = second;
    bench.hub.onCall = (line) => {
      if (line === `GET library/nginx@${second}`) {
        bench.hub.repository("library/nginx").manifests.delete(second);
        third = push(3);
      }
    };
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(third);
    expect(third).not.toBe(second);
    expect(bench.hub.taken()).toEqual([
      "HEAD library/nginx:1",
      `GET library/nginx@${second}`,
      "HEAD library/nginx:1",
      `GET library/nginx@${third}`,
    ]);
  });

  test("M3 an upstream that names what it does not have is in trouble: the known manifest is served", async () => {
    const first = push(1);
    await bench.get(`${NGINX}:1`);
    const second = push(2);
    bench.clock.advance(10 * MINUTE);
    const { manifests } = bench.hub.repository("library/nginx");
    const lost = manifests.get(second);
    // HEAD finds it each time, GET never.
    bench.hub.onCall = (line) => {
      if (line.startsWith("GET")) manifests.delete(second);
      else if (lost !== undefined) manifests.set(second, lost);
    };
    const answer = await bench.get(`${NGINX}:1`);
    expect(answer).toMatchObject({ digest: first, cache: { outcome: "stale", detail: "stale-if-error" } });
  });

  test("M9 a link that is newer than its record counts as never checked", async () => {
    const first = push(1);
    await bench.get(`${NGINX}:1`);
    const repo = { upstream: "docker.io", repository: "library/nginx" };
    const second = push(2, "2");
    await bench.get(`${NGINX}:2`);
    const link =
      (await bench.objects.get(`docker/registry/v2/repositories/${NGINX}/_manifests/tags/2/current/link`, bench)) ??
      new Uint8Array();
    await bench.objects.put(`docker/registry/v2/repositories/${NGINX}/_manifests/tags/1/current/link`, link, bench);
    expect(await bench.repositories.getTag(repo, "1", bench)).toMatchObject({ digest: second, checkedAtMs: 0 });
    bench.hub.taken();
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(first);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
  });
});

describe("after a restart with nothing but storage", () => {
  test("M2 fresh tags stay fresh, expired ones cost one HEAD, types survive", async () => {
    const type = "application/vnd.example.manifest.v7+json";
    const digest = bench.hub.push("library/nginx", type, image(1), "1");
    await bench.get(`${NGINX}:1`);
    await bench.restart();
    bench.hub.taken();
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest, mediaType: type, cache: { outcome: "hit" } });
    expect(bench.hub.taken()).toEqual([]);
    bench.clock.advance(10 * MINUTE);
    await bench.restart();
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest, mediaType: type });
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
  });

  test("M2 with the upstream dead, what is held is served at once, and goneSince survives", async () => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    bench.hub.forget("library/nginx");
    bench.clock.advance(DAY);
    expect((await bench.get(`${NGINX}:1`)).cache.detail).toBe("gone");
    bench.freshness = { ...FRESHNESS, onGone: { keepMs: 10 * DAY } };
    bench.clock.advance(9 * DAY);
    await bench.restart();
    bench.hub.fail("connect");
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest, cache: { outcome: "stale", detail: "gone" } });
    bench.clock.advance(DAY);
    await expect(bench.get(`${NGINX}:1`)).rejects.toMatchObject({ fault: "connect" });
  });

  test("an adopted tag without a record is asked for, and served when nobody answers", async () => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    await bench.repositories.putTag(
      { upstream: "docker.io", repository: "library/nginx" },
      "1",
      { digest, checkedAtMs: 0 },
      bench,
    );
    bench.hub.fail("timeout");
    const { cache } = await bench.get(`${NGINX}:1`);
    expect(cache.warning).toBe(
      "docker.io/library/nginx:1 is answered as of an unknown time: docker.io is in trouble (timeout)",
    );
  });
});

describe("trouble upstream", () => {
  test.each(["connect", "tls", "timeout", "status", "quota", "bad-answer"] as const)(
    "M4 %s: the held tag, marked stale",
    async (fault) => {
      const digest = push(1);
      await bench.get(`${NGINX}:1`);
      bench.clock.advance(HOUR);
      bench.hub.fail(fault, fault === "status" ? 503 : undefined);
      for (const answer of [await bench.get(`${NGINX}:1`), await bench.head(`${NGINX}:1`)]) {
        expect(answer).toMatchObject({ digest, cache: { outcome: "stale", detail: "stale-if-error" } });
        expect(answer.cache.fwdStatus).toBe(fault === "status" ? 503 : undefined);
        expect(answer.cache.warning).toMatch(
          /^docker\.io\/library\/nginx:1 is answered as of 2026-01-01T00:00:00\.000Z: /,
        );
      }
      expect(bench.stale).toEqual(["stale-if-error", "stale-if-error"]);
    },
  );

  test("M4 nothing held: the upstream's own failure", async () => {
    bench.hub.fail("timeout");
    await expect(bench.get(`${NGINX}:1`)).rejects.toMatchObject({ fault: "timeout" });
  });

  test("M4 too old for staleIfError: the upstream's own failure", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(30 * DAY + 1);
    bench.hub.fail("status", 500);
    await expect(bench.get(`${NGINX}:1`)).rejects.toMatchObject({ fault: "status" });
  });

  test("M4 an upstream that is silent: the held tag after softDeadline, while the question goes on", async () => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    const moved = push(2);
    bench.clock.advance(HOUR);
    let open = () => {};
    bench.hub.gate = new Promise((resolve) => {
      open = resolve;
    });
    bench.hub.taken();
    const asking = bench.get(`${NGINX}:1`);
    await bench.clock.sleeping();
    bench.clock.advance(1500);
    expect(await asking).toMatchObject({ digest, cache: { outcome: "stale", detail: "soft-deadline" } });
    open();
    // Whoever comes now joins the question that is still under way, or finds its answer.
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(moved);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1", `GET library/nginx@${moved}`]);
  });

  test("a question that is still under way ends with the proxy", async () => {
    bench.hub.gate = new Promise(() => {});
    const asking = bench.get(`${NGINX}:1`);
    const ended = expect(asking).rejects.toThrow("the proxy is stopping");
    await bench.stop();
    await ended;
  });

  test("a refused credential: held public content is served, and nothing else", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    bench.hub.fail("credential");
    expect((await bench.get(`${NGINX}:1`)).cache).toMatchObject({ outcome: "stale", detail: "credential" });
    await expect(bench.get(`${NGINX}:2`)).rejects.toMatchObject({ fault: "credential" });
  });
});

describe("gone upstream", () => {
  const leave = {
    "404 of the manifest": () => bench.hub.repository("library/nginx").tags.clear(),
    "404 of the repository": () => bench.hub.fail("absent", 404),
    "401 of Docker Hub": () => void bench.hub.denied.add("library/nginx"),
  };

  test.each(Object.entries(leave))("M5 keep, %s: served, and asked for once in a time to live", async (_, go) => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    go();
    bench.hub.taken();
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest, cache: { outcome: "stale", detail: "gone" } });
    bench.clock.advance(10 * MINUTE - 1);
    expect((await bench.get(`${NGINX}:1`)).cache.warning).toContain("does not have it any more");
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
    bench.clock.advance(1);
    await bench.get(`${NGINX}:1`);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
  });

  test.each(Object.entries(leave))("M5 drop, %s: refused and forgotten", async (_, go) => {
    bench.freshness = { ...FRESHNESS, onGone: "drop" };
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    go();
    await expect(bench.get(`${NGINX}:1`)).rejects.toThrow(UpstreamError);
    expect(await bench.repositories.tags({ upstream: "docker.io", repository: "library/nginx" }, bench)).toEqual([]);
    bench.hub.fail("connect");
    bench.clock.advance(HOUR);
    await expect(bench.get(`${NGINX}:1`)).rejects.toMatchObject({ fault: "connect" });
  });

  test("M5 keep for a duration", async () => {
    bench.freshness = { ...FRESHNESS, onGone: { keepMs: DAY } };
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    bench.hub.forget("library/nginx");
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(DAY - 1);
    expect((await bench.get(`${NGINX}:1`)).cache.detail).toBe("gone");
    bench.clock.advance(HOUR);
    await expect(bench.get(`${NGINX}:1`)).rejects.toThrow(UpstreamError);
  });

  test("M5 a tag that comes back is served as ever", async () => {
    push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    bench.hub.repository("library/nginx").tags.clear();
    await bench.get(`${NGINX}:1`);
    const back = push(1);
    bench.clock.advance(HOUR);
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest: back, cache: { outcome: "revalidated" } });
    bench.hub.taken();
    expect((await bench.get(`${NGINX}:1`)).cache.outcome).toBe("hit");
    expect(bench.hub.taken()).toEqual([]);
  });

  test("M5 what is held by digest is served without asking", async () => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    bench.hub.forget("library/nginx");
    bench.hub.taken();
    bench.clock.advance(90 * DAY);
    expect((await bench.get(`${NGINX}@${digest}`)).cache).toEqual({ outcome: "hit" });
    expect(bench.hub.taken()).toEqual([]);
  });
});

describe("bytes and types", () => {
  const documents: Record<string, readonly [string, Uint8Array]> = {
    "index without mediaType": [OCI_INDEX, Buffer.from('{"schemaVersion":2,"manifests":[]}')],
    "OCI artifact manifest": ["application/vnd.oci.artifact.manifest.v1+json", Buffer.from('{"blobs":[]}')],
    "unknown media type": ["application/vnd.example.v1+json", Buffer.from('{"a":1}')],
    "duplicate keys": [OCI_MANIFEST, Buffer.from('{"a":1,"a":2}')],
    "UTF-8 BOM": [OCI_MANIFEST, Buffer.from("\uFEFF{}")],
    "trailing newline": [OCI_MANIFEST, Buffer.from('{"schemaVersion":2}\n')],
    "4 MiB": [OCI_MANIFEST, Buffer.from(`{"a":"${"x".repeat((4 << 20) - 9)}"}`)],
  };

  test.each(Object.entries(documents))(
    "M6 %s: bytes out equal bytes in, also after a restart",
    async (_, [type, bytes]) => {
      const digest = bench.hub.push("library/nginx", type, bytes, "1");
      for (const answer of [
        await bench.get(`${NGINX}:1`),
        await bench.get(`${NGINX}:1`),
        await bench.get(`${NGINX}@${digest}`),
      ]) {
        expect(Buffer.from(answer.bytes ?? []).equals(bytes)).toBe(true);
        expect(answer).toMatchObject({ digest, mediaType: type, size: bytes.length });
      }
      await bench.restart();
      expect(await bench.get(`${NGINX}:1`)).toMatchObject({ mediaType: type, cache: { outcome: "hit" } });
    },
  );

  test("M6 adopted content without a record is of the type that it looks like", async () => {
    const digest = bench.hub.push("library/nginx", OCI_INDEX, { schemaVersion: 2, manifests: [] }, "1");
    await bench.get(`${NGINX}:1`);
    const hex = digest.slice("sha256:".length);
    await bench.objects.delete(`weir/v1/manifests/sha256/${hex.slice(0, 2)}/${hex}.json`, bench);
    expect((await bench.get(`${NGINX}:1`)).mediaType).toBe(OCI_INDEX);
  });

  test("M7 HEAD, GET, schema2-only, */* and none: right types, one GET of each manifest", async () => {
    const child = bench.hub.push("library/nginx", DOCKER_MANIFEST, { schemaVersion: 2, config: {} });
    const index = bench.hub.push(
      "library/nginx",
      DOCKER_LIST,
      {
        schemaVersion: 2,
        mediaType: DOCKER_LIST,
        manifests: [
          {
            mediaType: DOCKER_MANIFEST,
            digest: digestOf(Buffer.from("arm")),
            size: 3,
            platform: { os: "linux", architecture: "arm64" },
          },
          { mediaType: DOCKER_MANIFEST, digest: child, size: 32, platform: { os: "linux", architecture: "amd64" } },
        ],
      },
      "1",
    );
    expect(await bench.head(`${NGINX}:1`, { accept: `${DOCKER_LIST}, ${DOCKER_MANIFEST}` })).toMatchObject({
      digest: index,
    });
    expect(await bench.get(`${NGINX}:1`, { accept: `${DOCKER_LIST}, ${DOCKER_MANIFEST}` })).toMatchObject({
      digest: index,
    });
    const single = await bench.get(`${NGINX}:1`, { accept: DOCKER_MANIFEST });
    expect(single).toMatchObject({ digest: child, mediaType: DOCKER_MANIFEST });
    expect(await bench.head(`${NGINX}:1`, { accept: DOCKER_MANIFEST })).toMatchObject({
      digest: child,
      size: single.size,
    });
    expect(await bench.get(`${NGINX}:1`, { accept: "*/*" })).toMatchObject({ digest: index });
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest: index });
    expect(await bench.get(`${NGINX}@${index}`, { accept: DOCKER_MANIFEST })).toMatchObject({ digest: index });
    expect(bench.hub.taken()).toEqual([
      "HEAD library/nginx:1",
      `GET library/nginx@${index}`,
      `GET library/nginx@${child}`,
    ]);
    await expect(bench.get(`${NGINX}:1`, { accept: OCI_MANIFEST })).rejects.toThrow(
      `docker.io/library/nginx:1 is of type ${DOCKER_LIST}, which the request's Accept does not include`,
    );
    await expect(bench.head(`${NGINX}:1`, { accept: "text/html" })).rejects.toMatchObject({
      code: "MANIFEST_UNKNOWN",
      status: 404,
    });
  });

  test("M8 no digest on HEAD: GET with If-None-Match where there is an entity tag, and a plain GET where there is none", async () => {
    bench.hub.namesDigest = false;
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    bench.hub.taken();
    expect((await bench.get(`${NGINX}:1`)).cache.outcome).toBe("miss");
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1", "GET library/nginx:1"]);
    bench.hub.sendsEtag = true;
    bench.clock.advance(HOUR);
    await bench.get(`${NGINX}:1`);
    bench.clock.advance(HOUR);
    expect(await bench.get(`${NGINX}:1`)).toMatchObject({ digest, cache: { outcome: "revalidated" } });
  });

  test("M8 a cold HEAD that names no digest is answered from the manifest itself", async () => {
    bench.hub.namesDigest = false;
    const digest = push(1);
    expect(await bench.head(`${NGINX}:1`)).toMatchObject({ digest, mediaType: OCI_MANIFEST });
    expect((await bench.get(`${NGINX}:1`)).cache.outcome).toBe("hit");
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1", "GET library/nginx:1"]);
  });

  test("B15 a manifest whose bytes are damaged or gone heals from the upstream", async () => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    await bench.blobs.delete(digest, bench);
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(digest);
    await bench.blobs.delete(digest, bench);
    expect((await bench.head(`${NGINX}@${digest}`)).digest).toBe(digest);
    expect(bench.hub.taken()).toEqual([
      "GET library/nginx:1",
      `GET library/nginx@${digest}`,
      `GET library/nginx@${digest}`,
    ]);
  });
});

describe("by digest", () => {
  const DESCRIPTOR = { mediaType: OCI_MANIFEST, platform: { os: "linux", architecture: "amd64" } };

  test("M10 the index first, then the child: one GET each, and none again", async () => {
    const child = push(1, undefined);
    const index = bench.hub.push("library/nginx", OCI_INDEX, {
      manifests: [{ ...DESCRIPTOR, digest: child, size: 9 }],
    });
    for (const digest of [index, child, index, child]) {
      expect((await bench.get(`${NGINX}@${digest}`)).digest).toBe(digest);
    }
    expect(bench.hub.taken()).toEqual([`GET library/nginx@${index}`, `GET library/nginx@${child}`]);
  });

  test("M10 fifty at once: one GET", async () => {
    const digest = push(1, undefined);
    await fifty(() => bench.get(`${NGINX}@${digest}`));
    expect(bench.hub.taken()).toEqual([`GET library/nginx@${digest}`]);
  });

  test("M10 the same manifest in a second repository: confirmed by HEAD, or listed there; never without proof", async () => {
    const digest = push(1);
    await bench.get(`${NGINX}:1`);
    bench.hub.taken();
    await expect(bench.get(`docker.io/evil/repo@${digest}`)).rejects.toMatchObject({ fault: "absent" });
    expect(bench.hub.taken()).toEqual([`HEAD evil/repo@${digest}`]);
    bench.hub.push("good/repo", OCI_MANIFEST, image(1));
    expect((await bench.get(`docker.io/good/repo@${digest}`)).cache.outcome).toBe("revalidated");
    expect((await bench.get(`docker.io/good/repo@${digest}`)).cache.outcome).toBe("hit");
    expect(bench.hub.taken()).toEqual([`HEAD good/repo@${digest}`]);
    bench.hub.push("listing/repo", OCI_INDEX, { manifests: [{ ...DESCRIPTOR, digest, size: 9 }] }, "1");
    await bench.get("docker.io/listing/repo:1");
    bench.hub.taken();
    expect((await bench.get(`docker.io/listing/repo@${digest}`)).cache.outcome).toBe("hit");
    expect(bench.hub.taken()).toEqual([]);
  });
});

test("R5 the same name on two upstreams: nothing is shared but bytes", async () => {
  const here = bench.hub.push("a/b", OCI_MANIFEST, image(1), "1");
  const there = bench.other.push("a/b", OCI_MANIFEST, image(2), "1");
  expect((await bench.get("docker.io/a/b:1")).digest).toBe(here);
  expect((await bench.get("other.example/a/b:1")).digest).toBe(there);
  await expect(bench.get("docker.io/a/b:2")).rejects.toThrow(UpstreamError);
  bench.other.push("a/b", OCI_MANIFEST, image(3), "2");
  await bench.get("other.example/a/b:2");
  await expect(bench.get(`docker.io/a/b@${there}`)).rejects.toThrow(UpstreamError);
  bench.hub.fail("connect");
  bench.clock.advance(HOUR);
  expect((await bench.get("other.example/a/b:1")).cache.outcome).toBe("revalidated");
  await expect(bench.get("nowhere.example/a/b:1")).rejects.toMatchObject({ code: "NAME_UNKNOWN" });
});
