import { describe, expect, test } from "vitest";
import type { UpstreamType } from "../../../src/config/types.ts";
import type { Refusal } from "../../../src/upstream/adapters/adapter.ts";
import { adapterOf, normaliseRepository } from "../../../src/upstream/adapters/index.ts";
import { faultOfRefusal } from "../../../src/upstream/fault.ts";
import { headerView } from "../../../src/upstream/header-view.ts";
import type { UpstreamFault } from "../../../src/upstream/upstream.ts";

const NOW_MS = Date.parse("2026-09-01T10:00:00Z");

test.each([
  ["dockerhub", "nginx", "library/nginx"],
  ["dockerhub", "library/nginx", "library/nginx"],
  ["dockerhub", "org/app", "org/app"],
  ["generic", "nginx", "nginx"],
  ["quay", "nginx", "nginx"],
] as const)("%s: %s means %s", (type, repository, expected) => {
  expect(normaliseRepository(type, repository)).toBe(expected);
});

describe("what a refusal means", () => {
  const rows: readonly [row: string, UpstreamType, Partial<Refusal>, UpstreamFault][] = [
    ["rule 7: a realm denies the repository", "generic", { from: "realm", scheme: "none", status: 401 }, "denied"],
    ["rule 7: a realm denies the repository", "generic", { from: "realm", scheme: "basic", status: 403 }, "denied"],
    ["13: bad credentials are 401", "generic", { from: "realm", scheme: "basic", status: 401 }, "credential"],
    ["13: so is a bad refresh token", "acr", { from: "realm", scheme: "token", status: 401 }, "credential"],
    ["a registry refuses Basic", "generic", { scheme: "basic", status: 401 }, "credential"],
    [
      "3: private or absent on Docker Hub",
      "dockerhub",
      { status: 401, challengeError: "insufficient_scope" },
      "denied",
    ],
    ["3: a token that is not understood", "dockerhub", { status: 401, challengeError: "invalid_token" }, "status"],
    [
      "6: GitLab says it of a project one may not read",
      "gitlab",
      { status: 401, challengeError: "invalid_token" },
      "denied",
    ],
    [
      "6: no access at GitLab's realm",
      "gitlab",
      { from: "realm", scheme: "basic", status: 403, code: "DENIED" },
      "denied",
    ],
    ["4: private or absent on Quay", "quay", { status: 401, code: "UNAUTHORIZED" }, "denied"],
    ["4: a namespace that is switched off", "quay", { status: 405, code: "DENIED" }, "denied"],
    ["4: unsupported", "quay", { status: 405, code: "UNSUPPORTED" }, "status"],
    ["4: a proxy cache that fails", "quay", { status: 400, code: "INVALID_REQUEST" }, "status"],
    [
      "5: private or absent on Artifact Registry",
      "gcr",
      { from: "realm", scheme: "none", status: 403, code: "DENIED" },
      "denied",
    ],
    ["7: no permission", "ecr", { scheme: "basic", status: 403, code: "DENIED", message: "not authorized" }, "denied"],
    [
      "7: an expired password",
      "ecr",
      { scheme: "basic", status: 403, message: "Your authorization token has expired. Reauthenticate and try again." },
      "credential",
    ],
    ["7: no or expired password", "ecr", { scheme: "basic", status: 401 }, "credential"],
    ["7: nothing for anonymous callers", "ecr", { scheme: "none", status: 401 }, "denied"],
    [
      "9: private or absent, 2021 to 2024",
      "ghcr",
      { from: "realm", scheme: "basic", status: 403, code: "DENIED" },
      "denied",
    ],
    ["9: private or absent, 2026", "ghcr", { from: "realm", scheme: "basic", status: 401, code: "DENIED" }, "denied"],
    [
      "9: anything else at the realm",
      "ghcr",
      { from: "realm", scheme: "basic", status: 401, code: "UNAUTHORIZED" },
      "credential",
    ],
    ["9: no read:packages", "ghcr", { status: 403, code: "DENIED" }, "denied"],
    ["10: Artifactory for an absent tag", "generic", { scheme: "basic", status: 403 }, "denied"],
    ["10: a POST where only GET is known", "generic", { from: "realm", scheme: "token", status: 405 }, "status"],
  ];

  test.each(rows)("upstreams.md %s (%s): %j is %s", (_, type, refusal, expected) => {
    const usual = {
      from: "registry",
      scheme: "bearer",
      challengeError: undefined,
      code: undefined,
      message: "",
    } as const;
    expect(faultOfRefusal(adapterOf(type, "r.example"), { ...usual, status: 0, ...refusal })).toBe(expected);
  });
});

describe("upstreams.md 12: what an answer tells of limits", () => {
  const told = (type: UpstreamType, headers: Record<string, string>) =>
    adapterOf(type, "r.example").readRateLimit(headerView(headers), NOW_MS);

  test("Docker Hub: the window beside the number, and whom it counts", () => {
    expect(
      told("dockerhub", {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "203.0.113.7",
      }),
    ).toEqual({ limit: 100, remaining: 76, windowS: 21_600, source: "203.0.113.7" });
  });

  test("Docker Hub: whom it counts is cut to what such names take, and printable", () => {
    const source = `\u0085${"x".repeat(10_000)}`;
    expect(
      told("dockerhub", {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": source,
      })?.source,
    ).toMatch(/^\??x{99,100}$/);
  });

  test("Docker Hub: no numbers, as on paid accounts and on a 401", () => {
    expect(told("dockerhub", { "docker-ratelimit-source": "203.0.113.7" })).toBeUndefined();
  });

  test("GitLab: its realm's numbers, the reset in epoch seconds, and the name of the throttle", () => {
    expect(
      told("gitlab", {
        "ratelimit-limit": "500",
        "ratelimit-remaining": "499",
        "ratelimit-observed": "1",
        "ratelimit-reset": String(NOW_MS / 1000 + 47),
        "ratelimit-name": "throttle_unauthenticated_web",
      }),
    ).toEqual({
      limit: 500,
      remaining: 499,
      windowS: undefined,
      resetAtMs: NOW_MS + 47_000,
      source: "throttle_unauthenticated_web",
    });
  });

  test("others are read as far as they speak the same way", () => {
    expect(told("generic", { "ratelimit-limit": "10", "ratelimit-remaining": "9" })).toMatchObject({ limit: 10 });
    expect(told("quay", {})).toBeUndefined();
  });
});

describe("upstreams.md 12: what a 429 means", () => {
  const PULLS =
    '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"}]}';

  test.each([
    ["dockerhub", "manifest", PULLS, "quota"],
    ["dockerhub", "manifest", "Too Many Requests", "abuse"],
    ["dockerhub", "manifest", "Too Many Requests (HAP429)", "abuse"],
    ["dockerhub", "token", PULLS, "abuse"],
    ["quay", "manifest", "<html><h1>429 Too Many Requests</h1></html>", "abuse"],
    ["gitlab", "token", "Retry later", "quota"],
    ["gitlab", "manifest", "", "abuse"],
    ["ecr", "manifest", '{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}', "abuse"],
    ["ecr-public", "blob", '{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}', "abuse"],
    ["ghcr", "manifest", '{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 880.092\u00b5s"}]}', "abuse"],
    ["acr", "manifest", '{"errors":[{"code":"TOOMANYREQUESTS"}]}', "abuse"],
    ["gcr", "manifest", "RESOURCE_EXHAUSTED", "abuse"],
    ["generic", "manifest", "", "abuse"],
  ] as const)("%s, %s: %s", (type, kind, bodyText, expected) => {
    expect(adapterOf(type, "r.example").classify429({ headers: headerView({}), kind, bodyText })).toBe(expected);
  });

  test("on Docker Hub manifests count, by GET alone; elsewhere a HEAD costs what a GET costs", () => {
    const counted = (type: UpstreamType): readonly string[] =>
      (["manifest", "blob", "tags", "token"] as const).flatMap((kind) =>
        (["GET", "HEAD"] as const)
          .filter((method) => adapterOf(type, "r.example").countsAgainstQuota(kind, method))
          .map((method) => `${method} ${kind}`),
      );
    expect(counted("dockerhub")).toEqual(["GET manifest"]);
    expect(counted("gitlab")).toEqual(["GET token", "HEAD token"]);
    expect(counted("quay")).toEqual([
      "GET manifest",
      "HEAD manifest",
      "GET blob",
      "HEAD blob",
      "GET tags",
      "HEAD tags",
    ]);
  });
});

describe("presets", () => {
  test("registry.k8s.io redirects whatever it is asked for, which proves nothing (rule 14)", () => {
    expect(adapterOf("generic", "registry.k8s.io").blobProof).toBe("first-byte");
    expect(adapterOf("generic", "registry.example").blobProof).toBe("head");
  });

  test("upstreams.md 6: gitlab.com is trusted by registry.gitlab.com alone, and that trusts no other host", () => {
    expect(adapterOf("gitlab", "registry.gitlab.com")).toMatchObject({
      type: "gitlab",
      realms: ["gitlab.com"],
      trustsSiblingRealms: false,
    });
    expect(adapterOf("gitlab", "registry.gitlab.example")).toMatchObject({ realms: [], trustsSiblingRealms: true });
  });

  test("no name reaches what an object has by nature", () => {
    expect(adapterOf("generic", "constructor")).toBe(adapterOf("generic", "registry.example"));
  });
});
