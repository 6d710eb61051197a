import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CredentialConfig } from "../../src/config/types.ts";
import { normaliseRepository } from "../../src/upstream/adapters/index.ts";
import { failure, o, readAll, type TestClock, tag } from "../integration/upstream/bench.ts";
import { createAuthority } from "../support/certificates.ts";
import { until } from "../support/processes.ts";
import { startDistributionDouble } from "../support/registries/distribution.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import { startEcrDouble } from "../support/registries/ecr.ts";
import { startEcrPublicDouble } from "../support/registries/ecr-public.ts";
import { startGcrDouble } from "../support/registries/gcr.ts";
import { startGhcrDouble } from "../support/registries/ghcr.ts";
import { startGitlabDouble } from "../support/registries/gitlab.ts";
import { startQuayDouble } from "../support/registries/quay.ts";
import type { RegistryDouble } from "../support/registries/registry-double.ts";
import type { RegistryOptions } from "../support/registries/traits.ts";
import { toolTest } from "../support/tools.ts";
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

/** Scopes of all token requests, in order. */
function scopes(double: RegistryDouble): readonly string[] {
  return double.ledger.filter(({ role }) => role === "token").flatMap(({ query }) => query.getAll("scope"));
}

describe("section 3, Docker Hub", () => {
  test("Names: a repository without a slash gets library/; missing, it shows as 401", async () => {
    const hub = await startHubDouble(stack, options);
    hub.add("library/nginx", image, ["1"]);
    const upstream = over(hub, clock, { type: "dockerhub", name: "docker.io" });
    expect(await fault(upstream.headManifest("nginx", tag("1"), o()))).toBe("denied");
    await upstream.headManifest(normaliseRepository("dockerhub", "nginx"), tag("1"), o());
  });

  test("Token: always 200, also for what one cannot read; the registry's insufficient_scope is the denial, asked once", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub" });
    expect(await fault(upstream.getManifest("team/secret", tag("1"), o()))).toBe("denied");
    expect([hub.count({ role: "token", status: 200 }), hub.lines("registry").length]).toEqual([1, 2]);
  });

  test("Challenge: invalid_token to a fresh token is trouble between the two, and no word about the repository", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const challenge = `Bearer realm="${hub.tokenUrl}",service="registry.docker.io",scope="repository:team/app:pull",error="invalid_token"`;
    hub.fail({ role: "registry", effect: { kind: "status", status: 401, headers: { "www-authenticate": challenge } } });
    const error = await failure(over(hub, clock, { type: "dockerhub" }).headManifest("team/app", tag("1"), o()));
    expect([error.fault, error.trouble]).toEqual(["status", true]);
  });

  test("Blob: 403 of the CDN is its own trouble: manifests go on, and the next request gets a fresh URL", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub" });
    hub.fail({ role: "cdn", nth: [1], effect: { kind: "status", status: 403 } });
    const call = upstream.getBlob("team/app", digest(blob), { ...o(), start: 0 });
    expect(await failure(call)).toMatchObject({ fault: "status", trouble: true, absent: undefined });
    await upstream.headManifest("team/app", tag("1"), o());
    const { body } = await upstream.getBlob("team/app", digest(blob), { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(Buffer.from(blob.bytes));
  });

  test("tags/list: whole without n, by Link with it", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub" });
    expect(await upstream.listTags("team/app", {}, o())).toEqual({ tags: ["1", "2", "multi"], next: undefined });
    const first = await upstream.listTags("team/app", { n: 2 }, o());
    expect(first).toEqual({ tags: ["1", "2"], next: { n: "2", last: "2" } });
  });
});

describe("section 4, quay.io", () => {
  test("HEAD: full GET work, so it may take 30 s", async () => {
    const quay = filled(await startQuayDouble(stack, options));
    const usual = filled(await startDistributionDouble(stack, { ...options, auth: "none" }));
    for (const double of [quay, usual]) {
      const upstream = over(double, clock, { type: double === quay ? "quay" : "generic" });
      await upstream.headManifest("team/app", tag("1"), o());
      const { promise, resolve } = Promise.withResolvers<void>();
      double.fail({ role: "registry", path: /manifests/, effect: { kind: "hold", until: promise } });
      const head = upstream.headManifest("team/app", tag("2"), o());
      const outcome = fault(head).catch(() => "answered");
      await until("the second HEAD", async () => double.ledger.at(-1)?.path.endsWith("/2") ?? false);
      clock.turn(25_000);
      resolve();
      expect(await outcome).toBe(double === quay ? "answered" : "timeout");
    }
  });

  test("Manifests by tag: with the full Accept nothing is converted", async () => {
    const quay = filled(await startQuayDouble(stack, options));
    const got = await over(quay, clock, { type: "quay" }).getManifest("team/app", tag("multi"), o());
    expect(got).toMatchObject({ digest: multi.root.digest, mediaType: multi.root.mediaType });
  });

  test("Blob: the redirect's Cache-Control is a trap: each request asks the registry anew", async () => {
    const quay = filled(await startQuayDouble(stack, options));
    const upstream = over(quay, clock, { type: "quay" });
    for (let i = 0; i < 2; i += 1) {
      const { body } = await upstream.getBlob("team/app", digest(blob), { ...o(), start: 0 });
      await readAll(body);
    }
    expect(quay.count({ role: "registry", path: /blobs/, status: 302 })).toBe(2);
  });

  test("Errors: TAG_EXPIRED, NAME_UNKNOWN of a repository that is gone, 405 DENIED of a disabled namespace", async () => {
    const quay = filled(await startQuayDouble(stack, options));
    const upstream = over(quay, clock, { type: "quay" });
    quay.removeTag("team/app", "2");
    expect(await fault(upstream.getManifest("team/app", tag("2"), o()))).toBe("absent:manifest");
    await upstream.headManifest("team/other", tag("1"), o());
    quay.removeRepository("team/other");
    expect(await fault(upstream.getManifest("team/other", tag("1"), o()))).toBe("absent:repository");
    quay.disabled.add("team");
    expect(await fault(upstream.getManifest("team/app", tag("1"), o()))).toBe("denied");
  });
});

describe("section 5, gcr.io and Artifact Registry", () => {
  test("Credentials: _json_key and a key of many lines; tokens by GET only", async () => {
    const password = '{\n  "type": "service_account",\n  "private_key": "-----BEGIN\\nü\\n"\n}\n';
    const accounts = [{ username: "_json_key", password }];
    const gar = filled(await startGcrDouble(stack, { ...options, artifactRegistry: true, accounts }));
    const credentials = [credentialOf({ username: "_json_key", password })];
    await over(gar, clock, { type: "gcr", credentials }).getManifest("team/secret", tag("1"), o());
    expect(gar.count({ method: "POST" })).toBe(0);
  });

  test("tags/list: the extras child and manifest do no harm", async () => {
    const gcr = filled(await startGcrDouble(stack, options));
    const page = await over(gcr, clock, { type: "gcr" }).listTags("team/app", { n: 10_000 }, o());
    expect(page).toEqual({ tags: ["1", "2", "multi"], next: undefined });
  });
});

describe("section 6, GitLab", () => {
  test("Hosts: the credential goes to the realm on the web host, and to nobody else", async () => {
    const gitlab = filled(await startGitlabDouble(stack, options));
    const config = { type: "gitlab", name: "registry.gitlab.com", credentials: [credentialOf(ACCOUNT)] } as const;
    await over(gitlab, clock, config).getManifest("team/secret", tag("1"), o());
    const told = gitlab.ledger.filter(({ authorization }) => authorization === "basic");
    expect(told.map(({ role, path }) => `${role} ${path}`)).toEqual(["token /jwt/auth"]);
  });

  toolTest(["openssl"], "Hosts: two of them, each with its own certificate; all of it https", async () => {
    const authority = await createAuthority(stack);
    const tls = await authority.issue(["registry.gitlab.com", "gitlab.com", "cdn.registry.gitlab-static.net"]);
    const gitlab = filled(await startGitlabDouble(stack, { ...options, tls }));
    const upstream = over(gitlab, clock, {
      type: "gitlab",
      name: "registry.gitlab.com",
      credentials: [credentialOf(ACCOUNT)],
      tls: { ca: authority.caFile, cert: undefined, key: undefined, insecureSkipVerify: false },
    });
    const { body } = await upstream.getBlob("team/secret", digest(blob), { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(Buffer.from(blob.bytes));
    expect(gitlab.lines().map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
      "registry GET",
      "token GET",
      "registry GET",
      "cdn GET",
    ]);
  });

  test("Ban: a hundred pulls with a bad password do not ban the address", async () => {
    const gitlab = filled(await startGitlabDouble(stack, { ...options, banAfter: 3 } as RegistryOptions));
    const config = { type: "gitlab", credentials: [credentialOf({ ...ACCOUNT, password: "bad" })] } as const;
    const upstream = over(gitlab, clock, config);
    const faults = [];
    for (let i = 0; i < 100; i += 1) faults.push(await fault(upstream.headManifest("team/app", tag("1"), o())));
    expect([...new Set(faults)]).toEqual(["credential"]);
    expect([gitlab.banned, gitlab.count({ authorization: "basic" })]).toEqual([false, 1]);
    await over(gitlab, clock, { type: "gitlab" }).headManifest("team/app", tag("1"), o());
  });

  test("Rate limit: two hosts, two rate limiters: 429 of the realm does not close the registry", async () => {
    const gitlab = filled(await startGitlabDouble(stack, options));
    const upstream = over(gitlab, clock, { type: "gitlab" });
    await upstream.headManifest("team/app", tag("1"), o());
    gitlab.throttled = true;
    expect(await failure(upstream.headManifest("team/other", tag("1"), o()))).toMatchObject({
      fault: "quota",
      retryAfterMs: 47_000,
    });
    expect(gitlab.count({ role: "token" })).toBe(2);
    // Who has a token for the registry needs nothing of the realm.
    await upstream.getManifest("team/app", tag("1"), o());
  });

  test("Rate limit: RateLimit-* of the realm is what quotaStatus tells", async () => {
    const gitlab = filled(await startGitlabDouble(stack, options));
    const upstream = over(gitlab, clock, { type: "gitlab" });
    await upstream.headManifest("team/app", tag("1"), o());
    expect(upstream.quotaStatus()).toMatchObject([{ limit: 500, remaining: 499 }]);
  });
});

describe("section 7, ECR", () => {
  function credentials(password: string): readonly CredentialConfig[] {
    return [credentialOf({ username: "AWS", password })];
  }

  test("Challenge: Basic, known beforehand: no 401, and no Bearer", async () => {
    const ecr = filled(await startEcrDouble(stack, options));
    const upstream = over(ecr, clock, { type: "ecr", credentials: credentials(ecr.passwordFor(ACCOUNT)) });
    await upstream.headManifest("team/app", tag("1"), o());
    expect(ecr.lines()).toEqual(["registry HEAD /v2/team/app/manifests/1 basic 200"]);
  });

  test.each([401, 403] as const)(
    "Errors: an expired password (%i) is the credential's fault",
    async (expiredStatus) => {
      const ecr = filled(await startEcrDouble(stack, { ...options, expiredStatus } as RegistryOptions));
      const upstream = over(ecr, clock, { type: "ecr", credentials: credentials(ecr.passwordFor(ACCOUNT)) });
      await upstream.getManifest("team/app", tag("1"), o());
      clock.turn(12 * 3600_000);
      expect(await fault(upstream.getManifest("team/app", tag("1"), o()))).toBe("credential");
    },
  );

  test("tags/list: more than 1000 are not asked for; `last` is an opaque token", async () => {
    const ecr = filled(await startEcrDouble(stack, options));
    const upstream = over(ecr, clock, { type: "ecr", credentials: credentials(ecr.passwordFor(ACCOUNT)) });
    expect((await upstream.listTags("team/app", { n: 5000 }, o())).tags).toEqual(["1", "2", "multi"]);
    const first = await upstream.listTags("team/app", { n: 1 }, o());
    expect(first.next?.last).toBe(Buffer.from("1").toString("base64url"));
    expect((await upstream.listTags("team/app", { cursor: first.next ?? {} }, o())).tags).toEqual(["2"]);
  });
});

describe("section 8, ECR Public", () => {
  test("Anonymous token: the scope is aws, and one token is good for every repository", async () => {
    const ecr = filled(await startEcrPublicDouble(stack, options));
    const upstream = over(ecr, clock, { type: "ecr-public", name: "public.ecr.aws" });
    for (const repository of ["team/app", "team/other"]) await upstream.headManifest(repository, tag("1"), o());
    await upstream.listTags("team/app", {}, o());
    expect([scopes(ecr), ecr.count({ status: 401 })]).toEqual([["aws"], 1]);
  });

  test("Authenticated: user AWS at the realm; the anonymous token is another one", async () => {
    const ecr = filled(await startEcrPublicDouble(stack, options));
    const credentials = [credentialOf({ username: "AWS", password: ecr.passwordFor(ACCOUNT) })];
    const upstream = over(ecr, clock, { type: "ecr-public", name: "public.ecr.aws", credentials });
    await upstream.headManifest("team/app", tag("1"), o());
    expect(await upstream.isPublic("team/app", tag("1"), o())).toBe(true);
    expect(ecr.lines("token").map((line) => line.split(" ")[3])).toEqual(["basic", "none"]);
  });
});

describe("section 9, GHCR", () => {
  test("Challenge: the placeholder scope of /v2/ is never used", async () => {
    const ghcr = filled(await startGhcrDouble(stack, options));
    const upstream = over(ghcr, clock, { type: "ghcr", name: "ghcr.io" });
    for (const repository of ["team/app", "team/other"]) await upstream.headManifest(repository, tag("1"), o());
    expect(scopes(ghcr)).toEqual(["repository:team/app:pull", "repository:team/other:pull"]);
  });

  test("Token: a credential whose rights do not suffice, or whose repository is absent, is not refused itself", async () => {
    for (const denial of [401, 403] as const) {
      const accounts = [{ ...ACCOUNT, repositories: [] }];
      const ghcr = filled(await startGhcrDouble(stack, { ...options, accounts, denial } as RegistryOptions));
      const upstream = over(ghcr, clock, { type: "ghcr", name: "ghcr.io", credentials: [credentialOf(ACCOUNT)] });
      expect(await fault(upstream.getManifest("team/secret", tag("1"), o()))).toBe("denied");
      expect(await fault(upstream.getManifest("team/absent", tag("1"), o()))).toBe("denied");
      await upstream.getManifest("team/app", tag("1"), o());
      expect(upstream.credentialStatus()).toMatchObject([{ label: "ci", parkedUntilMs: undefined }]);
    }
  });

  test("tags/list: the order is creation, and stays", async () => {
    const ghcr = await startGhcrDouble(stack, options);
    ghcr.add("team/app", image, ["z", "b", "a"]);
    const upstream = over(ghcr, clock, { type: "ghcr", name: "ghcr.io" });
    const first = await upstream.listTags("team/app", { n: 2 }, o());
    expect(first.tags).toEqual(["z", "b"]);
    expect((await upstream.listTags("team/app", { cursor: first.next ?? {} }, o())).tags).toEqual(["a"]);
  });

  test("Rate limit: the delay is a Go duration in the message", async () => {
    const ghcr = filled(await startGhcrDouble(stack, options));
    ghcr.throttled = true;
    ghcr.retryAfter = "1m30.5s";
    const error = await failure(over(ghcr, clock, { type: "ghcr" }).getManifest("team/app", tag("1"), o()));
    expect(error.retryAfterMs).toBe(90_500);
  });
});
