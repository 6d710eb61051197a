/** The numbered rules of upstreams.md section 2, each against the doubles that it follows from. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MANIFEST_ACCEPT } from "../../src/oci/media-types.ts";
import { byDigest, failure, o, readAll, type TestClock, tag } from "../integration/upstream/bench.ts";
import { startAcrDouble } from "../support/registries/acr.ts";
import { startArtifactoryDouble } from "../support/registries/artifactory.ts";
import { startDistributionDouble } from "../support/registries/distribution.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import type { Effect } from "../support/registries/double-server.ts";
import { startEcrDouble } from "../support/registries/ecr.ts";
import { startEcrPublicDouble } from "../support/registries/ecr-public.ts";
import { startGcrDouble } from "../support/registries/gcr.ts";
import { startGhcrDouble } from "../support/registries/ghcr.ts";
import { startGitlabDouble } from "../support/registries/gitlab.ts";
import { startK8sDouble } from "../support/registries/k8s.ts";
import { startNvcrDouble } from "../support/registries/nvcr.ts";
import { startQuayDouble } from "../support/registries/quay.ts";
import type { RegistryOptions } from "../support/registries/traits.ts";
import {
  ACCOUNT,
  blob,
  credentialOf,
  digest,
  doubleBench,
  fault,
  filled,
  image,
  multi,
  over,
} from "./upstream-bench.ts";

let stack: AsyncDisposableStack;
let clock: TestClock;
let options: RegistryOptions;

beforeEach(() => {
  ({ stack, clock, options } = doubleBench());
});

afterEach(() => stack.disposeAsync());

async function blobBytes(upstream: ReturnType<typeof over>, repository: string): Promise<Buffer> {
  return await readAll((await upstream.getBlob(repository, digest(blob), { ...o(), start: 0 })).body);
}

describe("rule 1: never forward Authorization (nor client cookies) to a redirect target with a different host", () => {
  test.each([
    ["ECR, whose S3 answers 400", "ecr", startEcrDouble],
    ["ACR, whose Azure Blob answers 403", "acr", startAcrDouble],
    ["Docker Hub", "dockerhub", startHubDouble],
    ["quay", "quay", startQuayDouble],
    ["gcr.io", "gcr", startGcrDouble],
    ["GitLab", "gitlab", startGitlabDouble],
    ["GHCR", "ghcr", startGhcrDouble],
  ] as const)("%s", async (_name, type, start) => {
    const double = filled(await start(stack, options));
    const login = "passwordFor" in double ? { username: "AWS", password: double.passwordFor(ACCOUNT) } : ACCOUNT;
    const upstream = over(double, clock, { type, credentials: [credentialOf(login)] });
    expect(await blobBytes(upstream, "team/secret")).toEqual(Buffer.from(blob.bytes));
    const there = double.ledger.filter(({ role }) => role === "cdn");
    expect(there).toHaveLength(1);
    expect(there[0]?.headers).not.toHaveProperty("authorization");
    expect(there[0]?.headers).not.toHaveProperty("cookie");
  });
});

describe("rule 2: resolve Location and Link against the request URL", () => {
  test("Artifact Registry's path-relative Location", async () => {
    const gar = filled(await startGcrDouble(stack, { ...options, artifactRegistry: true }));
    expect(await blobBytes(over(gar, clock, { type: "gcr" }), "team/app")).toEqual(Buffer.from(blob.bytes));
    expect(gar.lines("cdn")[0]).toMatch(/^cdn GET \/artifacts-downloads\//);
  });

  test("relative Links (GitLab), absolute ones (older Quay), and one that lacks the repository's prefix (Artifactory)", async () => {
    const doubles = [
      ["gitlab", await startGitlabDouble(stack, options)],
      ["quay", await startQuayDouble(stack, { ...options, oldPaging: true })],
      ["generic", await startArtifactoryDouble(stack, options)],
    ] as const;
    for (const [type, double] of doubles) {
      double.add("team/app", image, ["1", "2", "3"]);
      const upstream = over(double, clock, { type });
      const first = await upstream.listTags("team/app", { n: 2 }, o());
      const next = await upstream.listTags("team/app", { cursor: first.next ?? {} }, o());
      expect([...first.tags, ...next.tags]).toEqual(["1", "2", "3"]);
    }
  });
});

describe("rule 3: compute the digest over the raw body bytes; treat DCD as a hint; on mismatch fail", () => {
  test("ECR omits it on GET", async () => {
    const ecr = filled(await startEcrDouble(stack, options));
    const password = ecr.passwordFor(ACCOUNT);
    const upstream = over(ecr, clock, { type: "ecr", credentials: [credentialOf({ username: "AWS", password })] });
    expect(await upstream.getManifest("team/app", tag("1"), o())).toMatchObject({ digest: image.root.digest });
    ecr.fail({ role: "registry", method: "GET", path: /manifests/, effect: { kind: "wrong-byte", at: 3 } });
    expect(await fault(upstream.getManifest("team/app", byDigest(digest(image.root)), o()))).toBe("bad-answer");
  });

  test("a body that is not what DCD names, asked for by tag", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub" });
    // Within the text of the image's creation date or name: still JSON.
    const at = Buffer.from(image.root.bytes).indexOf("sha256:") + 8;
    hub.fail({ role: "registry", path: /manifests/, effect: { kind: "wrong-byte", at } });
    expect(await fault(upstream.getManifest("team/app", tag("1"), o()))).toBe("bad-answer");
  });
});

test("rule 4: always send a full Accept list upstream, whatever the request, and through redirects", async () => {
  const k8s = await startK8sDouble(stack, options);
  k8s.add("pause", multi, ["multi"]);
  const ghcr = filled(await startGhcrDouble(stack, options));
  const lists: (string | undefined)[] = [];
  for (const [double, type, name, repository] of [
    [k8s, "generic", "registry.k8s.io", "pause"],
    [ghcr, "ghcr", "ghcr.io", "team/app"],
  ] as const) {
    const upstream = over(double, clock, { type, name });
    await upstream.headManifest(repository, tag("multi"), o());
    await upstream.getManifest(repository, tag("multi"), o());
    await upstream.getManifest(repository, byDigest(digest(multi.root)), o());
    await upstream.isPublic(repository, tag("multi"), o());
  }
  for (const { path, accept } of [...k8s.ledger, ...k8s.backing.ledger, ...ghcr.ledger]) {
    if (path.includes("/manifests/")) lists.push(accept);
  }
  expect(lists.length).toBeGreaterThanOrEqual(12);
  expect([...new Set(lists)]).toEqual([MANIFEST_ACCEPT]);
  for (const type of ["vnd.oci.image.index.v1", "vnd.docker.distribution.manifest.list.v2"]) {
    expect(MANIFEST_ACCEPT).toContain(`application/${type}+json`);
  }
});

test.each([
  ["Docker Hub", "dockerhub", startHubDouble],
  ["GHCR", "ghcr", startGhcrDouble],
  ["ECR Public", "ecr-public", startEcrPublicDouble],
] as const)("rule 5: do not reuse a GET-signed URL for HEAD (%s)", async (_name, type, start) => {
  const double = filled(await start(stack, options));
  const upstream = over(double, clock, { type });
  await blobBytes(upstream, "team/app");
  await upstream.headBlob("team/app", digest(blob), o());
  await upstream.blobSize("team/app", digest(blob), o());
  expect(double.count({ role: "cdn", method: "HEAD" })).toBe(0);
});

describe("rule 6: cache tokens per (realm, service, sorted scopes, credential)", () => {
  test.each([
    ["expires_in (Docker Hub)", "dockerhub", startHubDouble, 300],
    ["exp of the JWT (quay)", "quay", startQuayDouble, 3600],
    ["else 60 s (GHCR)", "ghcr", startGhcrDouble, 60],
  ] as const)("lifetime: %s; refreshed early", async (_name, type, start, lifetimeS) => {
    const double = filled(await start(stack, options));
    const upstream = over(double, clock, { type });
    const tokens = async (): Promise<number> => {
      await upstream.headManifest("team/app", tag("1"), o());
      return double.count({ role: "token" });
    };
    expect(await tokens()).toBe(1);
    clock.turn(lifetimeS * 800);
    expect(await tokens()).toBe(1);
    // 95 % of it: the last tenth is not used.
    clock.turn(lifetimeS * 150);
    expect(await tokens()).toBe(2);
    expect(double.count({ role: "registry", status: 401 })).toBe(1);
  });

  test("an anonymous question does not use the credential's token", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub", credentials: [credentialOf(ACCOUNT)] });
    await upstream.headManifest("team/secret", tag("1"), o());
    expect(await upstream.isPublic("team/secret", tag("1"), o())).toBe(false);
    await upstream.headManifest("team/secret", tag("1"), o());
    expect(hub.lines("token").map((line) => line.split(" ")[3])).toEqual(["basic", "none"]);
  });
});

test.each([
  ["GHCR", "ghcr", startGhcrDouble],
  ["gcr.io", "gcr", startGcrDouble],
  ["GitLab", "gitlab", startGitlabDouble],
] as const)(
  "rule 7: 401/403 of the token endpoint is a denial for this repository, not an outage (%s)",
  async (_name, type, start) => {
    const double = filled(await start(stack, options));
    const upstream = over(double, clock, { type });
    for (let i = 0; i < 20; i += 1) {
      const error = await failure(upstream.headManifest(`team/absent-${i}`, tag("1"), o()));
      expect([error.fault, error.trouble, error.breakerOpen]).toEqual(["denied", false, false]);
    }
    await upstream.headManifest("team/app", tag("1"), o());
  },
);

describe("rule 8: on 401 with an existing token: discard it, re-read the challenge, retry once", () => {
  test("nvcr.io names another realm, which refuses anonymous callers, to a stale token", async () => {
    const nvcr = filled(await startNvcrDouble(stack, options));
    const upstream = over(nvcr, clock, { name: "nvcr.io" });
    await upstream.headManifest("team/app", tag("1"), o());
    nvcr.revokeTokens();
    nvcr.clearLedger();
    await upstream.headManifest("team/app", tag("1"), o());
    const path = "/v2/team/app/manifests/1";
    expect(nvcr.lines()).toEqual([
      `registry HEAD ${path} bearer 401`,
      `registry HEAD ${path} none 401`,
      "token GET /proxy_auth none 200",
      `registry HEAD ${path} bearer 200`,
    ]);
  });

  test("a registry that refuses every token is asked twice and no more", async () => {
    const double = filled(await startDistributionDouble(stack, options));
    const upstream = over(double, clock, { name: "registry.example" });
    await upstream.headManifest("team/app", tag("1"), o());
    double.clearLedger();
    const headers = {
      "www-authenticate": `Bearer realm="${double.tokenUrl}",service="registry.example",scope="repository:team/app:pull",error="invalid_token"`,
    };
    double.fail({ role: "registry", effect: { kind: "status", status: 401, headers } });
    expect(await fault(upstream.headManifest("team/app", tag("1"), o()))).toBe("denied");
    expect([double.lines("registry").length, double.lines("token").length]).toEqual([2, 1]);
  });
});

describe("rule 9: 429", () => {
  const cases: readonly [string, Omit<Extract<Effect, { kind: "status" }>, "kind" | "status">, number | undefined][] = [
    ["Retry-After in seconds, JSON body", { headers: { "retry-after": "30" }, body: '{"errors":[]}' }, 30_000],
    ["an HTTP date, text body", { headers: { "retry-after": "Tue, 01 Sep 2026 10:01:30 GMT" }, body: "slow" }, 90_000],
    ["epoch seconds when > 10^9", { headers: { "retry-after": "1788256860" } }, 60_000],
    [
      "a Go duration in the message",
      { body: '{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 1m2.5s"}]}' },
      62_500,
    ],
    ["HTML and no header", { headers: { "content-type": "text/html" }, body: "<html></html>" }, undefined],
  ];

  test.each(cases)("%s", async (_name, effect, retryAfterMs) => {
    const double = filled(await startDistributionDouble(stack, { ...options, auth: "none" }));
    const upstream = over(double, clock, { name: "registry.example" });
    double.fail({ role: "registry", effect: { kind: "status", status: 429, ...effect } });
    const error = await failure(upstream.headManifest("team/app", tag("1"), o()));
    expect(error.fault).toBe("quota");
    // A body comes with GET only.
    const told = await failure(
      over(double, clock, { name: "registry.example" }).getManifest("team/app", tag("1"), o()),
    );
    if (retryAfterMs !== undefined) expect(told.retryAfterMs).toBe(retryAfterMs);
  });
});

test.each([
  ["Docker Hub", "dockerhub", startHubDouble],
  ["quay", "quay", startQuayDouble],
  ["GHCR", "ghcr", startGhcrDouble],
  ["Artifact Registry", "gcr", startGcrDouble],
] as const)("rule 10: what exists and is denied looks like what does not exist (%s)", async (_name, type, start) => {
  const double = filled(await start(stack, options));
  const upstream = over(double, clock, { type });
  const seen = [];
  for (const repository of ["team/secret", "team/absent"]) {
    const { fault: kind, status, absent } = await failure(upstream.getManifest(repository, tag("1"), o()));
    seen.push({ kind, status, absent });
  }
  expect(seen[0]).toEqual(seen[1]);
});

test("rule 11: never enable transparent decompression", async () => {
  const double = filled(await startDistributionDouble(stack, options));
  const upstream = over(double, clock, { name: "registry.example" });
  await upstream.getManifest("team/app", tag("1"), o());
  await blobBytes(upstream, "team/app");
  expect([...new Set(double.ledger.map(({ headers }) => headers["accept-encoding"]))]).toEqual(["identity"]);
  const headers = { "content-encoding": "gzip" };
  double.fail({ role: "cdn", effect: { kind: "status", status: 200, headers, body: "compressed" } });
  const call = upstream.getBlob("team/app", digest(blob), { ...o(), start: 0 });
  expect(await fault(call)).toBe("bad-answer");
});

test("rule 12: allow header blocks of 32 KiB", async () => {
  const double = filled(await startDistributionDouble(stack, { ...options, auth: "none" }));
  const upstream = over(double, clock, { name: "registry.example" });
  const headers = {
    "content-type": image.root.mediaType,
    "docker-content-digest": image.root.digest,
    "x-long": "x".repeat(32 * 1024),
  };
  double.fail({ role: "registry", effect: { kind: "status", status: 200, headers } });
  expect(await upstream.headManifest("team/app", tag("1"), o())).toMatchObject({ digest: image.root.digest });
});

describe("rule 13: ignore bodies of 3xx", () => {
  test.each([301, 302, 303, 307, 308])("accept %i for GET and HEAD", async (status) => {
    const double = filled(await startDistributionDouble(stack, { ...options, auth: "none" }));
    const upstream = over(double, clock, { name: "registry.example" });
    const headers = { location: "1", "content-type": "application/vnd.oci.image.manifest.v1+json" };
    double.fail({ role: "registry", path: /moved$/, effect: { kind: "status", status, headers, body: '{"no":1}' } });
    expect((await upstream.headManifest("team/app", tag("moved"), o())).digest).toBe(image.root.digest);
    expect(await upstream.getManifest("team/app", tag("moved"), o())).toMatchObject({ digest: image.root.digest });
  });

  test("limit to 10 hops", async () => {
    const double = filled(await startDistributionDouble(stack, { ...options, auth: "none" }));
    const upstream = over(double, clock, { name: "registry.example" });
    const headers = { location: "loop" };
    double.fail({ role: "registry", effect: { kind: "status", status: 307, headers } });
    expect(await fault(upstream.headManifest("team/app", tag("loop"), o()))).toBe("bad-answer");
    expect(double.ledger).toHaveLength(11);
  });
});

describe("rule 14: to prove blob access, a 2xx or a redirect answer to the registry-side HEAD is enough", () => {
  test.each([
    ["Docker Hub redirects", "dockerhub", startHubDouble, 307],
    ["quay answers", "quay", startQuayDouble, 200],
  ] as const)("%s: one HEAD, which is not followed", async (_name, type, start, status) => {
    const double = filled(await start(stack, options));
    const upstream = over(double, clock, { type });
    await upstream.headManifest("team/app", tag("1"), o());
    double.clearLedger();
    await upstream.headBlob("team/app", digest(blob), o());
    expect(double.lines()).toEqual([`registry HEAD /v2/team/app/blobs/${blob.digest} bearer ${status}`]);
  });

  test("where HEAD is refused (ECR Public): GET with Range: bytes=0-0", async () => {
    const ecr = filled(await startEcrPublicDouble(stack, options));
    const upstream = over(ecr, clock, { type: "ecr-public" });
    await upstream.headBlob("team/app", digest(blob), o());
    const asked = ecr.ledger.filter(({ path }) => path.includes("/blobs/"));
    expect(asked.every(({ method, range }) => method === "GET" && range === "bytes=0-0")).toBe(true);
    expect(ecr.bytes("cdn")).toBe(1);
  });

  test("not valid for registry.k8s.io, which redirects unknown digests too", async () => {
    const k8s = await startK8sDouble(stack, options);
    k8s.add("pause", image, ["3.9"]);
    const upstream = over(k8s, clock, { name: "registry.k8s.io" });
    await upstream.headBlob("pause", digest(blob), o());
    expect(await fault(upstream.headBlob("pause", digest(multi.root), o()))).toBe("absent:blob");
  });
});

describe("rule 15: a 200 (or 3xx leading to 200) with text/html is not a manifest or index", () => {
  const page: Effect = { kind: "status", status: 200, headers: { "content-type": "text/html" }, body: "<html>Sign in" };

  test("a login page instead of a manifest, a list of tags and a token", async () => {
    const double = filled(await startDistributionDouble(stack, { ...options, auth: "none" }));
    const upstream = over(double, clock, { name: "registry.example" });
    double.fail({ role: "registry", effect: page });
    expect(await fault(upstream.headManifest("team/app", tag("1"), o()))).toBe("bad-answer");
    expect(await fault(upstream.getManifest("team/app", tag("1"), o()))).toBe("bad-answer");
    expect(await fault(upstream.listTags("team/app", {}, o()))).toBe("bad-answer");
    const guarded = filled(await startHubDouble(stack, options));
    guarded.fail({ role: "token", effect: page });
    const hub = over(guarded, clock, { type: "dockerhub" });
    expect(await fault(hub.headManifest("team/app", tag("1"), o()))).toBe("bad-answer");
  });

  test("GHCR's referrers: any answer of the page that it leads to means unsupported, 429, 503 and none too", async () => {
    const ghcr = filled(await startGhcrDouble(stack, options));
    const upstream = over(ghcr, clock, { type: "ghcr", name: "ghcr.io" });
    const unsupported = async (): Promise<void> =>
      expect(await upstream.listReferrers("team/app", digest(image.root), o())).toBeUndefined();
    await unsupported();
    const effects: readonly Effect[] = [
      { kind: "status", status: 429, headers: { "content-type": "text/html" } },
      { kind: "status", status: 503, headers: { "content-type": "text/plain" }, body: "down" },
      { kind: "cut", afterBytes: 0 },
    ];
    for (const effect of effects) {
      const mend = ghcr.fail({ role: "page", effect });
      await unsupported();
      mend();
    }
  });
});
