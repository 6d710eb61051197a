import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRouteTable, type RoutedCall, routeRequest } from "../../../src/http/route.ts";
import { isDigest } from "../../../src/oci/digest.ts";
import { OciError } from "../../../src/oci/errors.ts";
import { parseRepository } from "../../../src/oci/reference.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";
import { DIGEST, dynamic, get, refusal, strict, summary, UPSTREAMS } from "./route-fixtures.ts";

describe("R1 every client and setting reaches docker.io's library/nginx", () => {
  const rows: [string, string, string, string][] = [
    ["containerd host", "/v2/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    [
      "containerd host with override_path",
      "/v2/docker.io/library/nginx/manifests/1.27?ns=docker.io",
      "ns",
      "docker.io",
    ],
    ["containerd host with a path", "/docker.io/v2/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["old CRI mirror", "/v2/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["old CRI mirror with a path", "/v2/docker.io/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["dockerd graphdriver mirror", "/v2/library/nginx/manifests/1.27", "default", ""],
    ["dockerd graphdriver mirror with a path", "/docker.io/v2/library/nginx/manifests/1.27", "prefix", ""],
    ["dockerd containerd-store mirror", "/v2/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    [
      "dockerd containerd-store with a path",
      "/docker.io/v2/library/nginx/manifests/1.27?ns=docker.io",
      "ns",
      "docker.io",
    ],
    [
      "dockerd containerd-store, /v2 doubled",
      "/v2/docker.io/v2/library/nginx/manifests/1.27?ns=docker.io",
      "ns",
      "docker.io",
    ],
    ["BuildKit mirror", "/v2/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["BuildKit mirror with a path", "/v2/docker.io/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["podman mirror with a path", "/v2/docker.io/library/nginx/manifests/1.27", "prefix", ""],
    ["podman mirror without", "/v2/library/nginx/manifests/1.27", "default", ""],
    [
      "regclient with pathPrefix",
      "/v2/docker.io/library/nginx/manifests/1.27?ns=registry-1.docker.io",
      "ns",
      "registry-1.docker.io",
    ],
    ["k3s endpoint", "/v2/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["k3s rewrite", "/v2/docker.io/library/nginx/manifests/1.27?ns=docker.io", "ns", "docker.io"],
    ["a direct reference", "/v2/docker.io/library/nginx/manifests/1.27", "prefix", ""],
    ["a direct reference without library/", "/v2/docker.io/nginx/manifests/1.27", "prefix", ""],
  ];

  test.each(rows)("R1 %s", (_client, target, form, ns) => {
    expect(get(target)).toEqual({
      form,
      ns: ns === "" ? undefined : ns,
      linkPath: target.replace(/\?.*/, ""),
      linkQuery: ns === "" ? {} : { ns },
      op: "manifest",
      repo: { upstream: "docker.io", repository: "library/nginx" },
      reference: { kind: "tag", tag: "1.27" },
    });
  });

  test("R1 dockerd's ping through a path", () => {
    expect(summary(get("/docker.io/v2/"))).toBe("prefix: ping");
  });
});

describe("forms", () => {
  test.each([
    // Docker Hub's one-component names, in every form
    ["/v2/nginx/manifests/1", "default: docker.io library/nginx 1"],
    ["/v2/nginx/manifests/1?ns=docker.io", "ns: docker.io library/nginx 1"],
    ["/docker.io/v2/nginx/manifests/1", "prefix: docker.io library/nginx 1"],
    ["/v2/index.docker.io/nginx/manifests/1", "prefix: docker.io library/nginx 1"],
    ["/v2/nginx/manifests/1?ns=quay.io", "ns: quay.io nginx 1"],
    // aliases and spellings
    ["/v2/registry-1.docker.io/a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/v2/registry.hub.docker.com/a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/registry-1.docker.io/v2/a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/v2/Docker.IO/a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/v2/docker.io:443/a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/v2/docker.io./a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/v2/reg-alias.example/a/b/manifests/1", "prefix: reg.example:5000 a/b 1"],
    ["/v2/reg.example:5000/a/b/manifests/1", "prefix: reg.example:5000 a/b 1"],
    ["/v2/reg.example%3A5000/a/b/manifests/1", "prefix: reg.example:5000 a/b 1"],
    ["/v2/%64ocker.io/a/b/%6danifests/1", "prefix: docker.io a/b 1"],
    // prefix and ns
    ["/v2/quay.io/coreos/etcd/manifests/v3.5", "prefix: quay.io coreos/etcd v3.5"],
    ["/v2/index.docker.io/a/b/manifests/1?ns=registry-1.docker.io", "ns: docker.io a/b 1"],
    ["/v2/docker.io/docker.io/b/manifests/1?ns=docker.io", "ns: docker.io docker.io/b 1"],
    ["/docker.io/v2/docker.io/b/manifests/1?ns=docker.io", "ns: docker.io docker.io/b 1"],
    ["/docker.io/v2/quay.io/b/manifests/1", "prefix: docker.io quay.io/b 1"],
    ["/v2/quay.io/a/b/manifests/1?ns=docker.io", "ns: docker.io quay.io/a/b 1"],
    ["/quay.io/v2/a/b/manifests/1?ns=docker.io", "ns: docker.io quay.io/a/b 1"],
    ["/v2/unknown.example/b/manifests/1?ns=docker.io", "ns: docker.io unknown.example/b 1"],
    // absolute-form targets
    ["http://m/v2/quay.io/a/b/manifests/1", "prefix: quay.io a/b 1"],
    ["HTTPS://m:5000/v2/a/b/manifests/1?ns=quay.io", "ns: quay.io a/b 1"],
    ["http://hub.mirror.example/v2/a/b/manifests/1", "virtual-host: docker.io a/b 1"],
  ])("%s", (target, expected) => {
    expect(summary(get(target))).toBe(expected);
  });

  test.each([
    ["/v2/registry.gitlab.com/v2/app/manifests/1", "prefix: registry.gitlab.com v2/app 1"],
    ["/v2/v2/app/manifests/1?ns=registry.gitlab.com", "ns: registry.gitlab.com v2/app 1"],
    ["/v2/v2/app/manifests/1", "default: docker.io v2/app 1"],
    ["/registry.gitlab.com/v2/v2/app/manifests/1", "prefix: registry.gitlab.com v2/app 1"],
    ["/registry.gitlab.com/v2/v2/app/manifests/1?ns=registry.gitlab.com", "ns: registry.gitlab.com v2/app 1"],
    ["/v2/registry.gitlab.com/v2/app/manifests/1?ns=docker.io", "ns: docker.io registry.gitlab.com/v2/app 1"],
    ["/v2/registry.gitlab.com/v2/app/manifests/1?ns=registry.gitlab.com", "ns: registry.gitlab.com app 1"],
    ["/v2/registry.gitlab.com/v2/v2/app/manifests/1?ns=registry.gitlab.com", "ns: registry.gitlab.com v2/app 1"],
  ])("R3 %s", (target, expected) => {
    expect(summary(get(target))).toBe(expected);
  });

  test.each([
    ["/v2/a/b/manifests/1", "virtual-host: docker.io a/b 1"],
    ["/v2/nginx/manifests/1", "virtual-host: docker.io library/nginx 1"],
    ["/v2/a/b/manifests/1?ns=registry-1.docker.io", "virtual-host: docker.io a/b 1"],
    ["/v2/docker.io/a/b/manifests/1", "virtual-host: docker.io a/b 1"],
    ["/v2/docker.io/v2/a/b/manifests/1?ns=docker.io", "virtual-host: docker.io a/b 1"],
    ["/v2/docker.io/v2/a/b/manifests/1", "virtual-host: docker.io v2/a/b 1"],
    ["/docker.io/v2/a/b/manifests/1", "virtual-host: docker.io a/b 1"],
    ["/v2/quay.io/a/b/manifests/1", "virtual-host: docker.io quay.io/a/b 1"],
    ["/v2/evil.example/a/b/manifests/1", "virtual-host: docker.io evil.example/a/b 1"],
    ["/quay.io/v2/a/b/manifests/1", "virtual-host: docker.io quay.io/a/b 1"],
    ["/v2/", "virtual-host: ping"],
    ["/v2/_catalog", "virtual-host: catalog of docker.io"],
  ])("R4 on a virtual host %s", (target, expected) => {
    for (const host of [
      "hub.mirror.example",
      "HUB.mirror.example:5000",
      "hub.mirror.example.",
      "hub.mirror.example:443",
    ]) {
      expect(summary(get(target, host))).toBe(expected);
    }
  });

  test.each(["quay.io", "reg.example:5000", "unknown.example", "169.254.169.254"])(
    "R4 on a virtual host ns=%s is refused by name",
    (ns) => {
      const err = refusal(`/v2/a/b/manifests/1?ns=${ns}`, "hub.mirror.example");
      expect([err.status, err.code]).toEqual([404, "NAME_UNKNOWN"]);
      expect(err.message).toContain(ns);
    },
  );

  test("R4 the host of an absolute target counts, not the header", () => {
    const target = "http://gitlab.mirror.example/v2/a/b/manifests/1";
    expect(summary(get(target, "hub.mirror.example"))).toBe("virtual-host: registry.gitlab.com a/b 1");
  });

  test("R4 hosts that are no virtual hosts", () => {
    for (const host of [
      "",
      "mirror.example",
      "x.hub.mirror.example",
      "hub.mirror.example@m",
      "[::1]:5000",
      "__proto__",
    ]) {
      expect(summary(get("/v2/quay.io/a/manifests/1", host))).toBe("prefix: quay.io a 1");
    }
    const noHost = routeRequest({ method: "GET", target: "/v2/a/manifests/1", host: undefined }, strict);
    expect(summary(noHost)).toBe("default: docker.io library/a 1");
  });
});

describe("operations", () => {
  test.each([
    ["/v2", "default: ping"],
    ["/v2/", "default: ping"],
    ["/v2/?ns=docker.io", "ns: ping"],
    ["/docker.io/v2", "prefix: ping"],
    ["/docker.io/v2/", "prefix: ping"],
    ["/v2/docker.io/v2/?ns=docker.io", "ns: ping"],
    ["/v2/_catalog", "default: catalog of all"],
    ["/v2/_catalog?ns=registry-1.docker.io", "ns: catalog of docker.io"],
    ["/docker.io/v2/_catalog", "prefix: catalog of docker.io"],
    ["/v2/a/b/tags/list", "default: docker.io a/b tags"],
    [`/v2/a/b/blobs/${DIGEST}`, "default: docker.io a/b blob"],
    [`/v2/a/b/blobs/${DIGEST.replace(":", "%3A")}`, "default: docker.io a/b blob"],
    [`/v2/a/b/manifests/${DIGEST}`, `default: docker.io a/b ${DIGEST}`],
    [`/v2/a/b/referrers/${DIGEST}`, "default: docker.io a/b referrers"],
    // read from the right
    ["/v2/a/manifests/manifests/manifests", "default: docker.io a/manifests manifests"],
    ["/v2/manifests/blobs/manifests/tags", "default: docker.io manifests/blobs tags"],
    ["/v2/a/tags/list/tags/list", "default: docker.io a/tags/list tags"],
    ["/v2/a/blobs/uploads/manifests/1", "default: docker.io a/blobs/uploads 1"],
    ["/v2/tags/tags/list", "default: docker.io library/tags tags"],
    ["/v2/a/manifests/uploads", "default: docker.io library/a uploads"],
  ])("%s", (target, expected) => {
    expect(summary(get(target))).toBe(expected);
    expect(summary(routeRequest({ method: "HEAD", target, host: "m" }, strict))).toBe(expected);
  });

  test("blobs and referrers carry what was asked", () => {
    expect(get(`/v2/a/b/blobs/${DIGEST}`)).toMatchObject({ digest: DIGEST });
    expect(get(`/v2/a/b/referrers/${DIGEST}?artifactType=application/x%2By`)).toMatchObject({
      digest: DIGEST,
      artifactType: "application/x+y",
    });
    expect(get(`/v2/a/b/referrers/${DIGEST}?artifactType=`)).toMatchObject({ artifactType: undefined });
  });

  test.each([
    ["", { n: undefined, last: undefined, cursor: {} }],
    ["?n=0", { n: 0, last: undefined, cursor: {} }],
    ["?n=1001&last=v1.2", { n: 1001, last: "v1.2", cursor: {} }],
    ["?n=5&ns=quay.io&next_page=gAAA%3D%3D&last=", { n: 5, last: "", cursor: { next_page: "gAAA==" } }],
    ["?last=a%2Fb%20c%26", { n: undefined, last: "a/b c&", cursor: {} }],
    ["?__proto__=x&constructor=y", { n: undefined, last: undefined, cursor: { ["__proto__"]: "x", constructor: "y" } }],
  ])("M11 tags/list%s", (query, page) => {
    expect(get(`/v2/a/b/tags/list${query}`)).toMatchObject(page);
  });

  test("M11 a page's link repeats the path and the ns that were asked", () => {
    const call = get("http://m/v2/quay.io/a/b/tags/list?ns=QUAY.io&n=5&last=x");
    expect([call.linkPath, call.linkQuery]).toEqual(["/v2/quay.io/a/b/tags/list", { ns: "QUAY.io" }]);
    expect(get("/docker.io/v2/_catalog?n=5").linkPath).toBe("/docker.io/v2/_catalog");
  });

  test.each(["n=abc", "n=", "n=-1", "n=1.5", "n=+1", "n=1e3", "n=0x10", "n=1&n=2", "n=%31%00", `n=${"9".repeat(16)}`])(
    "M11 %s is PAGINATION_NUMBER_INVALID",
    (query) => {
      for (const target of [`/v2/a/b/tags/list?${query}`, `/v2/_catalog?${query}`]) {
        const err = refusal(target);
        expect([err.status, err.code]).toEqual([400, "PAGINATION_NUMBER_INVALID"]);
      }
    },
  );

  test.each([
    ["PUT", "/v2/a/b/manifests/1", "default: write to docker.io a/b"],
    ["DELETE", `/v2/quay.io/a/b/blobs/${DIGEST}`, "prefix: write to quay.io a/b"],
    ["DELETE", "/v2/a/b/manifests/1?ns=quay.io", "ns: write to quay.io a/b"],
    ["POST", "/v2/a/b/blobs/uploads/", "default: write to docker.io a/b"],
    ["POST", "/v2/a/b/blobs/uploads", "default: write to docker.io a/b"],
    ["POST", `/v2/a/b/blobs/uploads/?mount=${DIGEST}&from=x`, "default: write to docker.io a/b"],
    ["PATCH", "/v2/a/b/blobs/uploads/some-id", "default: write to docker.io a/b"],
    ["GET", "/v2/a/b/blobs/uploads/some-id", "default: write to docker.io a/b"],
    ["PUT", "/v2/a/b/tags/list", "default: write to docker.io a/b"],
    ["OPTIONS", "/v2/a/b/manifests/1", "default: write to docker.io a/b"],
    ["get", "/v2/a/b/manifests/1", "default: write to docker.io a/b"],
    ["POST", "/v2/", "default: write to nothing"],
    ["DELETE", "/v2/_catalog", "default: write to nothing"],
  ])("%s %s is a write", (method, target, expected) => {
    expect(summary(routeRequest({ method, target, host: "m" }, strict))).toBe(expected);
  });

  test.each([
    "/",
    "",
    "/v1/",
    "/V2/",
    "/v20/",
    "/favicon.ico",
    "*",
    "v2/a/manifests/1",
    "http://m",
    "/a/b/v2/c/manifests/1",
  ])("%j is nothing of ours: 404", (target) => {
    const err = refusal(target);
    expect([err.status, err.code]).toEqual([404, "UNSUPPORTED"]);
  });

  test.each([
    "/v2/a/b",
    "/v2/a/b/manifests",
    "/v2/a/b/tags",
    "/v2/a/b/tags/all",
    "/v2/a/b/blob/x",
    "/v2/a/b/manifests/1/x",
  ])("%s is no route: 404 that no client takes for an absent repository", (target) => {
    const err = refusal(target);
    expect([err.status, err.code]).toEqual([404, "UNSUPPORTED"]);
  });
});

describe("the table", () => {
  const routing = { default: undefined, hosts: new Map<string, string>(), dynamic: { allow: [] } };

  test("without a default, a request has to name its upstream", () => {
    const routes = createRouteTable(routing, UPSTREAMS, normaliseRepository);
    const err = refusal("/v2/library/nginx/manifests/1", "m", routes);
    expect([err.status, err.code]).toEqual([404, "NAME_UNKNOWN"]);
    expect(err.message).toContain("routing.default");
    expect(summary(get("/v2/", "m", routes))).toBe("default: ping");
    expect(summary(get("/v2/_catalog", "m", routes))).toBe("default: catalog of all");
    expect(summary(get("/v2/quay.io/a/manifests/1", "m", routes))).toBe("prefix: quay.io a 1");
    expect(refusal("/v2/UPPER/manifests/1", "m", routes).code).toBe("NAME_INVALID");
  });

  test("a default or a virtual host that names no upstream is an error at once", () => {
    expect(() => createRouteTable({ ...routing, default: "ghcr.io" }, UPSTREAMS, normaliseRepository)).toThrow(
      /routing\.default.*ghcr\.io/,
    );
    const hosts = new Map([["h.example", "ghcr.io"]]);
    expect(() => createRouteTable({ ...routing, hosts }, UPSTREAMS, normaliseRepository)).toThrow(
      /routing\.hosts\.h\.example.*ghcr\.io/,
    );
  });

  test("library/ is a matter of the upstream's type, not of its name", () => {
    const swapped = [
      { name: "docker.io", type: "generic" as const, aliases: [] },
      { name: "hub-copy.example", type: "dockerhub" as const, aliases: [] },
    ];
    const routes = createRouteTable({ ...routing, default: "docker.io" }, swapped, normaliseRepository);
    expect(summary(get("/v2/nginx/manifests/1", "m", routes))).toBe("default: docker.io nginx 1");
    expect(summary(get("/v2/hub-copy.example/nginx/manifests/1", "m", routes))).toBe(
      "prefix: hub-copy.example library/nginx 1",
    );
  });

  test("R5 one name on two upstreams stays two", () => {
    const [a, b] = [get("/v2/quay.io/a/b/manifests/1"), get("/v2/registry.gitlab.com/a/b/manifests/1")];
    expect(a).not.toEqual(b);
  });
});

describe("properties", () => {
  const piece = fc.constantFrom(
    "v2",
    "docker.io",
    "quay.io",
    "r.dyn.example",
    "reg.example%3A5000",
    "library",
    "nginx",
    "manifests",
    "blobs",
    "tags",
    "list",
    "uploads",
    "referrers",
    "_catalog",
    "1.27",
    DIGEST,
    "",
    "..",
    ".",
    "%2F",
    "%00",
    "%",
    "A",
    "[::1]",
    "localhost:22",
    "169.254.169.254",
    "a".repeat(260),
  );
  const ns = fc.constantFrom(
    "",
    "?ns=docker.io",
    "?ns=quay.io",
    "?ns=evil.example",
    "?ns=R.dyn.example",
    "?ns=127.0.0.1",
    "?n=x",
    "?ns=",
  );
  const target = fc.oneof(
    fc.tuple(fc.array(piece, { maxLength: 8 }), ns).map(([pieces, query]) => `/${pieces.join("/")}${query}`),
    fc.tuple(fc.array(piece, { maxLength: 6 }), ns).map(([pieces, query]) => `/v2/${pieces.join("/")}${query}`),
    fc.string({ unit: "binary" }),
  );
  const host = fc.constantFrom(undefined, "m", "hub.mirror.example", "gitlab.mirror.example:5000");
  const known = new Set([...UPSTREAMS.map(({ name }) => name), "r.dyn.example"]);

  function tryRoute(line: { method: string; target: string; host: string | undefined }): RoutedCall | undefined {
    try {
      return routeRequest(line, dynamic);
    } catch (err) {
      expect(err).toBeInstanceOf(OciError);
      return undefined;
    }
  }

  test("nothing but an OciError is thrown, and what comes out satisfies the grammars", () => {
    fc.assert(
      fc.property(fc.constantFrom("GET", "HEAD", "PUT"), target, host, (method, text, name) => {
        const call = tryRoute({ method, target: text, host: name });
        if (call !== undefined && "repo" in call && call.repo !== undefined) {
          expect(parseRepository(call.repo.repository)).toBe(call.repo.repository);
          expect(known).toContain(call.repo.upstream);
        }
        if (call !== undefined && "digest" in call) {
          expect(isDigest(call.digest)).toBe(true);
        }
        if (call !== undefined) {
          expect(text).toContain(call.linkPath);
          expect(call.linkPath).toMatch(/^\//);
        }
      }),
      { numRuns: 10_000 },
    );
  });

  test("R4 no target leads from a virtual host to another upstream", () => {
    fc.assert(
      fc.property(target, (text) => {
        const call = tryRoute({ method: "GET", target: text, host: "hub.mirror.example" });
        if (call !== undefined && "repo" in call && call.repo !== undefined) {
          expect(call.repo.upstream).toBe("docker.io");
        }
        if (call?.op === "catalog") {
          expect(call.upstream).toBe("docker.io");
        }
      }),
      { numRuns: 5_000 },
    );
  });

  test("R3 a repository called v2 is one, also where a doubled /v2 could stand", () => {
    const want = { repo: { upstream: "docker.io", repository: "library/v2" }, op: "manifest" };
    expect(get("/v2/docker.io/v2/manifests/1?ns=docker.io")).toMatchObject(want);
    expect(get("/v2/v2/manifests/1?ns=docker.io")).toMatchObject(want);
  });

  test("every spelling of one image means the same", () => {
    // A repository below one called v2 is what a doubled /v2 looks like (R3).
    const name = fc.stringMatching(/^[a-z0-9]{1,8}(\/[a-z0-9]{1,8}){0,2}$/).filter((text) => !text.startsWith("v2/"));
    const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/);
    fc.assert(
      fc.property(name, tag, (repository, reference) => {
        const rest = `${repository}/manifests/${reference}`;
        const [first, ...others] = [
          `/v2/${rest}`,
          `/v2/${rest}?ns=docker.io`,
          `/v2/docker.io/${rest}`,
          `/v2/Docker.io:443/${rest}?ns=index.docker.io`,
          `/docker.io/v2/${rest}`,
          `/docker.io/v2/${rest}?ns=docker.io`,
          `/v2/docker.io/v2/${rest}?ns=docker.io`,
        ].map((text) => get(text));
        for (const other of others) {
          expect(other).toMatchObject({ repo: first && "repo" in first ? first.repo : {}, op: "manifest" });
        }
      }),
    );
  });
});
