/** A signed image is verified through the front server and the pull-through: what cosign and its kind read, in their order. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Digest, digestHex } from "../../../src/oci/digest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import { HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";
import { type Front, startFront } from "./front.ts";

const BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json";

/** How a client's paths come to Weir, by how it was pointed at it. */
const FORMS = [
  ["prefix", (path: string) => `/v2/docker.io/team/app/${path}`],
  ["ns", (path: string) => `/v2/team/app/${path}${path.includes("?") ? "&" : "?"}ns=docker.io`],
] as const;

let stack: AsyncDisposableStack;
let bench: ProxyBench;
let front: Front;
let image: Digest;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  bench = new ProxyBench();
  stack.defer(() => bench.stop());
  front = await startFront(stack);
  front.proxy.onManifest = (call) => bench.proxy.manifest(call);
  front.proxy.onReferrers = (call) => bench.proxy.referrers(call);
  image = bench.hub.push("team/app", OCI_MANIFEST, { schemaVersion: 2 }, "1");
});

afterEach(() => stack.disposeAsync());

/**
 * The digests of the manifests of signatures that a verifier finds, in its order: referrers (only a 200 of the index's very
 * type counts, 404 means that there is no such API, anything else ends it), else the tag that stands in for them; then the
 * legacy tag. Each referrer is then read by its digest.
 */
async function verify(form: (path: string) => string): Promise<(string | undefined)[]> {
  const ask = (path: string): Promise<HttpReply> => httpRequest(front.url + form(path));
  const tag = `sha256-${digestHex(image)}`;
  const found: (string | undefined)[] = [];
  expect((await ask("manifests/1")).headers["docker-content-digest"]).toBe(image);
  let list = await ask(`referrers/${image}?artifactType=${encodeURIComponent(BUNDLE)}`);
  if (list.status === 404) {
    expect(list.body.toString()).not.toContain("NAME_UNKNOWN");
    list = await ask(`manifests/${tag}`);
  }
  if (list.status !== 404) {
    expect([list.status, list.headers["content-type"]]).toEqual([200, OCI_INDEX]);
    const { manifests } = JSON.parse(list.body.toString()) as { manifests: { digest: string; artifactType: string }[] };
    for (const { digest, artifactType } of manifests) {
      if (artifactType === BUNDLE)
        found.push((await ask(`manifests/${digest}`)).headers["docker-content-digest"]?.toString());
    }
  }
  const legacy = await ask(`manifests/${tag}.sig`);
  expect([200, 404]).toContain(legacy.status);
  if (legacy.status === 200) found.push(legacy.headers["docker-content-digest"]?.toString());
  return found;
}

describe.each(FORMS)("M12 verified by %s", (_, form) => {
  const tag = () => `sha256-${digestHex(image)}`;

  test("over the referrers API: the upstream is asked once for each thing, and not when it is dead", async () => {
    const signature = bench.hub.attach("team/app", image, BUNDLE);
    bench.hub.attach("team/app", image, "application/spdx+json");
    for (let node = 0; node < 40; node += 1) expect(await verify(form)).toEqual([signature]);
    expect(bench.hub.taken()).toEqual([
      "GET team/app:1",
      `REFERRERS team/app@${image}`,
      `GET team/app@${signature}`,
      `GET team/app:${tag()}.sig`,
    ]);
    bench.hub.fail("connect");
    expect(await verify(form)).toEqual([signature]);
  });

  test("over the tag that stands in for it: the API is asked for once an hour", async () => {
    bench.hub.referrersApi = "none";
    const signature = bench.hub.push("team/app", OCI_MANIFEST, { signature: 1 });
    const entry = { mediaType: OCI_MANIFEST, digest: signature, size: 15, artifactType: BUNDLE };
    bench.hub.push("team/app", OCI_INDEX, { schemaVersion: 2, manifests: [entry] }, tag());
    const legacy = bench.hub.push("team/app", OCI_MANIFEST, { legacy: 1 }, `${tag()}.sig`);
    for (let node = 0; node < 40; node += 1) expect(await verify(form)).toEqual([signature, legacy]);
    expect(bench.hub.taken()).toEqual([
      "GET team/app:1",
      `REFERRERS team/app@${image}`,
      `GET team/app:${tag()}`,
      `GET team/app@${signature}`,
      `GET team/app:${tag()}.sig`,
    ]);
    bench.clock.advance(HOUR - 1);
    await verify(form);
    expect(bench.hub.taken()).not.toContain(`REFERRERS team/app@${image}`);
    bench.clock.advance(1);
    await verify(form);
    expect(bench.hub.taken()).toContain(`REFERRERS team/app@${image}`);

    bench.hub.fail("status", 503);
    bench.clock.advance(2 * HOUR);
    expect(await verify(form)).toEqual([signature, legacy]);
  });

  test("of an image without a signature: what is absent is asked for once in five minutes, not in ten seconds", async () => {
    bench.hub.referrersApi = "none";
    const absent = [`GET team/app:${tag()}`, `GET team/app:${tag()}.sig`];
    expect(await verify(form)).toEqual([]);
    expect(bench.hub.taken()).toEqual(["GET team/app:1", `REFERRERS team/app@${image}`, ...absent]);
    bench.clock.advance(5 * MINUTE - 1);
    expect(await verify(form)).toEqual([]);
    expect(bench.hub.taken()).toEqual([]);
    bench.clock.advance(1);
    expect(await verify(form)).toEqual([]);
    expect(bench.hub.taken()).toEqual(absent);
  });
});

test("M12 the access lines and the metrics tell how a referrers request was answered", async () => {
  bench.hub.referrersApi = "none";
  const path = `/v2/docker.io/team/app/referrers/${image}`;
  const first = await httpRequest(front.url + path);
  const second = await httpRequest(front.url + path);
  expect(first.headers["cache-status"]).toBe("weir; fwd=miss; detail=absent");
  expect(second.headers["cache-status"]).toBe("weir; hit; detail=negative");
  await front.accessLine((line) => line.cache === "negative");
  expect(front.answered).toMatchObject([
    { kind: "referrers", cache: "miss" },
    { kind: "referrers", cache: "negative" },
  ]);
});
