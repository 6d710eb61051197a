import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { UpstreamConfig } from "../../../src/config/types.ts";

const CREDENTIALS = [
  { label: "ci", username: "me", password: "s3cret" },
  { label: "mirror", username: "weir", password: "s3cret" },
];

function parse(upstream: unknown, name = "reg.example"): ReturnType<typeof parseConfig> {
  return parseConfig({ upstreams: { [name]: upstream } }, {}, "/srv/weir");
}

function only(upstream: unknown, name?: string): UpstreamConfig {
  const result = parse(upstream, name);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  const [found] = result.config.upstreams;
  if (found === undefined) throw new Error("no upstream");
  return found;
}

function problems(upstream: unknown): readonly string[] {
  const result = parse(upstream);
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

describe("the type that a name tells", () => {
  test.each([
    ["docker.io", "dockerhub"],
    ["quay.io", "quay"],
    ["quay.io.example", "generic"],
    ["gcr.io", "gcr"],
    ["eu.gcr.io", "gcr"],
    ["mirror.gcr.io", "gcr"],
    ["notgcr.io", "generic"],
    ["europe-docker.pkg.dev", "gcr"],
    ["registry.gitlab.com", "gitlab"],
    ["registry.gitlab.example", "generic"],
    ["public.ecr.aws", "ecr-public"],
    ["ecr-public.aws.com", "ecr-public"],
    ["ghcr.io", "ghcr"],
    ["team.azurecr.io", "acr"],
    ["team.azurecr.cn", "acr"],
    ["azurecr.io", "generic"],
    ["registry.k8s.io", "generic"],
    ["mcr.microsoft.com", "generic"],
    ["nvcr.io", "generic"],
    ["registry.example:5000", "generic"],
  ])("%s: %s", (name, type) => {
    expect(only(null, name).type).toBe(type);
  });

  test.each([
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
    "123456789012.dkr-ecr.eu-west-1.on.aws",
    "123456789012.dkr-ecr-fips.us-east-1.on.aws",
    "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
    "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
    "123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
    "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
    "123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
    "123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
  ])("ECR of every partition, upstreams.md 7: %s", (name) => {
    expect(only(null, name).type).toBe("ecr");
  });

  test.each([
    "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
    "123456789012.dkr.ecr.eu-west-1.example.com",
    "123456789012.dkr.ecr.eu.west.amazonaws.com",
    "api.ecr.eu-west-1.amazonaws.com",
  ])("and nothing else: %s", (name) => {
    expect(only(null, name).type).toBe("generic");
  });

  test("what is written down wins", () => {
    expect(only({ type: "quay" }, "registry.example").type).toBe("quay");
    expect(problems({ type: "nexus" })).toEqual([
      'upstreams["reg.example"].type: expected one of generic, dockerhub, quay, gcr, gitlab, ecr, ecr-public, ghcr, acr, got "nexus"',
    ]);
  });
});

describe("endpoints", () => {
  test("left out, it is the name itself; for Docker Hub, whose name is a web site, its API", () => {
    expect(only({ credentials: CREDENTIALS }).endpoints).toEqual([
      { url: new URL("https://reg.example"), prefix: "", type: "generic", credentials: ["ci", "mirror"] },
    ]);
    expect(only(null, "docker.io").endpoints[0]?.url.href).toBe("https://registry-1.docker.io/");
    expect(only({ type: "dockerhub" }).endpoints[0]?.url.href).toBe("https://registry-1.docker.io/");
  });

  test("addresses and mappings, in order; only the first has the credentials without being told", () => {
    const endpoints = [
      "https://registry-1.docker.io",
      {
        url: "https://gitlab.example",
        prefix: "/group/dependency_proxy/containers/",
        type: "gitlab",
        credentials: ["mirror"],
      },
      "https://mirror.gcr.io",
      { url: "http://127.0.0.1:5000" },
    ];
    expect(only({ endpoints, credentials: CREDENTIALS }, "docker.io").endpoints).toEqual([
      { url: new URL("https://registry-1.docker.io"), prefix: "", type: "dockerhub", credentials: ["ci", "mirror"] },
      {
        url: new URL("https://gitlab.example"),
        prefix: "group/dependency_proxy/containers",
        type: "gitlab",
        credentials: ["mirror"],
      },
      { url: new URL("https://mirror.gcr.io"), prefix: "", type: "gcr", credentials: [] },
      { url: new URL("http://127.0.0.1:5000"), prefix: "", type: "generic", credentials: [] },
    ]);
  });

  test("the first may do with fewer credentials, or none", () => {
    const credentialsOf = (credentials: unknown) =>
      only({ endpoints: [{ url: "https://a.example", credentials }], credentials: CREDENTIALS }).endpoints[0]
        ?.credentials;
    expect(credentialsOf(["mirror"])).toEqual(["mirror"]);
    expect(credentialsOf([])).toEqual([]);
  });

  const KEY = 'upstreams["reg.example"]';
  const A = "https://a.example";

  test.each([
    ["neither", [7], `${KEY}.endpoints[0]: expected an address such as`],
    ["a mapping without an address", [{ prefix: "x" }], `${KEY}.endpoints[0].url: is missing`],
    ["an address with a path", [A, { url: "https://b.example/path" }], `${KEY}.endpoints[1].url: expected an address`],
    [
      "a misspelt key",
      [{ url: A, perfix: "x" }],
      `${KEY}.endpoints[0].perfix: there is no such key; did you mean prefix?`,
    ],
    ["a prefix that is none", [{ url: A, prefix: "Group/../x" }], `${KEY}.endpoints[0].prefix: expected a path`],
    [
      "a prefix that leaves no room",
      [{ url: A, prefix: "x".repeat(129) }],
      `${KEY}.endpoints[0].prefix: expected a path`,
    ],
    ["an unknown type", [{ url: A, type: "nexus" }], `${KEY}.endpoints[0].type: expected one of`],
    [
      "an unknown label",
      [A, { url: "https://b.example", credentials: ["ci", "who"] }],
      `${KEY}.endpoints[1].credentials[1]: no credential of this upstream has this label`,
    ],
    [
      "the same twice",
      [A, "https://A.example:443/"],
      `${KEY}.endpoints[1]: another endpoint of this upstream is the same`,
    ],
    [
      "a password in the clear",
      [A, { url: "http://b.example", credentials: ["ci"] }],
      `${KEY}.endpoints[1].credentials: the password would travel in the clear to http://b.example`,
    ],
  ])("%s", (_, endpoints, expected) => {
    const found = problems({ endpoints, credentials: CREDENTIALS });
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(expected);
  });

  test("TLS settings have no effect only where every endpoint is plain", () => {
    expect(problems({ endpoints: ["http://a.example"], tls: { ca: "x" } })[0]).toContain("no effect");
    expect(problems({ endpoints: ["http://a.example", A], tls: { ca: "x" } })).toEqual([]);
  });
});
