import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { compileContentRules } from "../../../src/access/content-rules.ts";
import type { Digest } from "../../../src/oci/digest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { signedIn } from "../../support/callers.ts";
import { DAY, HOUR, ProxyBench } from "../../support/proxy-bench.ts";
import { type Reply, request } from "../../support/rules.ts";

const LAYER = "the bytes of a layer";
const STAFF = signedIn("ci").identity;

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

/** As a reload would put it in force. */
function curate(over: { readonly frozen?: boolean; readonly platforms?: readonly string[] }): void {
  const rules = { name: "docker.io", allow: [], deny: [], platforms: [], frozen: false, ...over };
  bench.rules.set(
    "docker.io",
    compileContentRules(rules, (repository) => repository),
  );
}

interface Image {
  readonly manifest: Digest;
  readonly blob: Digest;
}

function push(repository: string, tag: string | undefined, content = LAYER): Image {
  const blob = bench.hub.pushBlob(repository, Buffer.from(content));
  const layers = [{ mediaType: "application/tar", digest: blob, size: content.length }];
  const document = { schemaVersion: 2, repository, layers };
  return { blob, manifest: bench.hub.push(repository, OCI_MANIFEST, document, tag) };
}

async function get(path: string, method: "GET" | "HEAD" = "GET", who = STAFF): Promise<Reply> {
  return await request(bench.proxy, `/v2/docker.io/${path}`, { method, who });
}

describe("frozen", () => {
  const KEY = "upstreams.docker.io.frozen";

  test("what is held is served, what is not is 403 with the reason, and nothing is asked; live both ways", async () => {
    const image = push("team/app", "1");
    curate({ frozen: true });
    for (const path of ["manifests/1", `manifests/${image.manifest}`, `blobs/${image.blob}`, "tags/list"]) {
      const reply = await get(`team/app/${path}`);
      expect(reply).toMatchObject({ status: 403, key: KEY });
      expect(reply.body).toContain(`Weir serves what it holds of docker.io, and no more: ${KEY} is true`);
    }
    expect(bench.hub.taken()).toEqual([]);

    curate({ frozen: false });
    expect((await get("team/app/manifests/1")).status).toBe(200);
    expect((await get(`team/app/blobs/${image.blob}`)).body).toBe(LAYER);
    push("team/app", "2");
    bench.hub.taken();

    curate({ frozen: true });
    bench.clock.advance(400 * DAY);
    expect(await get("team/app/manifests/1")).toMatchObject({ status: 200, cache: "stale" });
    expect((await get("team/app/manifests/1", "HEAD")).status).toBe(200);
    expect(await get(`team/app/manifests/${image.manifest}`)).toMatchObject({ status: 200, cache: "hit" });
    expect((await get(`team/app/blobs/${image.blob}`)).body).toBe(LAYER);
    expect(JSON.parse((await get("team/app/tags/list")).body).tags).toEqual(["1"]);
    expect((await get("team/app/manifests/2")).key).toBe(KEY);
    expect((await get(`team/app/referrers/${image.manifest}`)).key).toBe(KEY);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("an operator's refresh asks nothing either", async () => {
    push("team/app", "1");
    await get("team/app/manifests/1");
    bench.hub.taken();
    curate({ frozen: true });
    const refresh = bench.proxy.refreshTag({ upstream: "docker.io", repository: "team/app" }, "1", bench);
    await expect(refresh).rejects.toMatchObject({ fault: "withheld", message: expect.stringContaining(KEY) });
    expect(bench.hub.taken()).toEqual([]);
  });

  test("M5 what is private is served on the upstream's last word, if that was no refusal", async () => {
    const image = push("team/app", "1");
    bench.hub.credentialed.add("team/app");
    bench.hub.private.add("team/app");
    await get("team/app/manifests/1");
    await get(`team/app/blobs/${image.blob}`);
    curate({ frozen: true });
    bench.clock.advance(30 * DAY);
    bench.hub.taken();
    expect((await get(`team/app/blobs/${image.blob}`)).body).toBe(LAYER);
    expect((await get("team/app/manifests/1")).status).toBe(200);
    expect((await get("team/app/manifests/1", "GET", { ...STAFF, account: undefined })).key).toBe(
      "access.privateToAnonymous",
    );
    expect(bench.hub.taken()).toEqual([]);

    curate({ frozen: false });
    bench.hub.denied.add("team/app");
    expect((await get("team/app/manifests/1")).status).toBe(404);
    curate({ frozen: true });
    bench.clock.advance(HOUR);
    expect((await get("team/app/manifests/1")).key).toBe(KEY);
    expect((await get(`team/app/blobs/${image.blob}`)).key).toBe(KEY);
  });

  test("another upstream is as it was", async () => {
    curate({ frozen: true });
    const blob = bench.other.pushBlob("team/app", Buffer.from(LAYER));
    expect((await request(bench.proxy, `/v2/other.example/team/app/blobs/${blob}`)).body).toBe(LAYER);
  });
});

describe("platforms", () => {
  const KEY = "upstreams.docker.io.platforms";

  function pushIndex() {
    const images = {
      amd64: push("team/app", undefined, "for amd64"),
      s390x: push("team/app", "1-s390x", "for s390x"),
      attestation: push("team/app", undefined, "an attestation"),
      plain: push("team/app", undefined, "for nothing in particular"),
    };
    const entry = ({ manifest }: Image, platform?: { readonly os: string; readonly architecture: string }) => ({
      mediaType: OCI_MANIFEST,
      digest: manifest,
      size: 1,
      ...(platform === undefined ? {} : { platform }),
    });
    const document = {
      schemaVersion: 2,
      manifests: [
        entry(images.amd64, { os: "linux", architecture: "amd64" }),
        entry(images.s390x, { os: "linux", architecture: "s390x" }),
        entry(images.attestation, { os: "unknown", architecture: "unknown" }),
        entry(images.plain),
      ],
    };
    return { ...images, index: bench.hub.push("team/app", OCI_INDEX, document, "1"), document };
  }

  test("the index is served byte for byte; its other platforms are refused, before the upstream is asked", async () => {
    const { index, document, amd64, s390x, attestation, plain } = pushIndex();
    curate({ platforms: ["linux/amd64"] });
    expect((await get("team/app/manifests/1")).body).toBe(JSON.stringify(document));
    expect((await get(`team/app/manifests/${index}`)).body).toBe(JSON.stringify(document));
    bench.hub.taken();
    for (const method of ["GET", "HEAD"] as const) {
      const path = `team/app/manifests/${s390x.manifest}`;
      expect(await get(path, method)).toMatchObject({ status: 403, key: KEY });
    }
    expect(bench.hub.taken()).toEqual([]);
    expect((await get(`team/app/manifests/${s390x.manifest}`)).body).toContain(`${KEY} does not list it`);
    for (const { manifest, blob } of [amd64, attestation, plain]) {
      expect((await get(`team/app/manifests/${manifest}`)).status).toBe(200);
      expect((await get(`team/app/blobs/${blob}`)).status).toBe(200);
    }
  });

  test("what was held before is refused with its blobs, also under a tag of its own; a shared blob is not", async () => {
    const { amd64, s390x } = pushIndex();
    const shared = bench.hub.pushBlob("team/app", Buffer.from("shared"));
    const layers = [{ mediaType: "application/tar", digest: shared, size: 6 }];
    const document = { schemaVersion: 2, layers };
    bench.hub.push("team/app", OCI_MANIFEST, document, "shared");
    for (const path of ["1", amd64.manifest, s390x.manifest, "shared"]) {
      expect((await get(`team/app/manifests/${path}`)).status).toBe(200);
    }
    for (const blob of [s390x.blob, shared]) {
      await get(`team/app/blobs/${blob}`);
    }
    curate({ platforms: ["linux/amd64"] });
    expect((await get("team/app/manifests/1-s390x")).key).toBe(KEY);
    expect((await get(`team/app/manifests/${s390x.manifest}`)).key).toBe(KEY);
    expect((await get(`team/app/blobs/${s390x.blob}`)).key).toBe(KEY);
    expect((await get(`team/app/blobs/${shared}`)).body).toBe("shared");
    curate({ platforms: ["linux/amd64", "linux/s390x"] });
    expect((await get(`team/app/blobs/${s390x.blob}`)).body).toBe("for s390x");
  });

  test("what no held index lists passes by its digest", async () => {
    const { s390x } = pushIndex();
    curate({ platforms: ["linux/amd64"] });
    expect((await get(`team/app/manifests/${s390x.manifest}`)).status).toBe(200);
  });

  test("A1 who may not read the repository is not told that it holds another platform", async () => {
    const { s390x } = pushIndex();
    bench.hub.credentialed.add("team/app");
    bench.hub.private.add("team/app");
    for (const path of ["1", s390x.manifest]) {
      expect((await get(`team/app/manifests/${path}`)).status).toBe(200);
    }
    await get(`team/app/blobs/${s390x.blob}`);
    curate({ platforms: ["linux/amd64"] });
    const nobody = { ...STAFF, account: undefined };
    for (const path of [`manifests/${s390x.manifest}`, `blobs/${s390x.blob}`, "manifests/1-s390x"]) {
      expect((await get(`team/app/${path}`, "GET", nobody)).key).toBe("access.privateToAnonymous");
      expect((await get(`team/app/${path}`)).key).toBe(KEY);
    }
  });

  test("an index that lists it for a platform that is kept, or for none, is enough", async () => {
    const { s390x } = pushIndex();
    const entry = { mediaType: OCI_MANIFEST, digest: s390x.manifest, size: 1 };
    const platform = { os: "linux", architecture: "amd64" };
    bench.hub.push("team/app", OCI_INDEX, { schemaVersion: 2, manifests: [{ ...entry, platform }] }, "2");
    curate({ platforms: ["linux/amd64"] });
    await get("team/app/manifests/1");
    expect((await get(`team/app/manifests/${s390x.manifest}`)).key).toBe(KEY);
    await get("team/app/manifests/2");
    expect((await get(`team/app/manifests/${s390x.manifest}`)).status).toBe(200);
  });

  test("a client that reads no index is not given the platform that is not kept", async () => {
    pushIndex();
    curate({ platforms: ["linux/s390x"] });
    const single = bench.get("docker.io/team/app:1", { accept: OCI_MANIFEST });
    await expect(single).rejects.toMatchObject({ code: "DENIED", detail: { key: KEY } });
  });
});
