// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ConfigProblem } from "../../../src/config/config-error.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import type { Config, UpstreamConfig } from "../../../src/config/types.ts";
import { NO_SIGN_IN } from "../../support/callers.ts";
import { passwordOf } from "../../support/credentials.ts";

function parsed(input: unknown, env: NodeJS.ProcessEnv = {}): Config {
  const result = parseConfig(input, env, "/srv/weir");
  if (!result.ok) {
    throw new Error(JSON.stringify(result.problems));
  }
  return result.config;
}

function problems(input: unknown, env: NodeJS.ProcessEnv = {}): readonly ConfigProblem[] {
  const result = parseConfig(input, env, "/srv/weir");
  return result.ok ? [] : result.problems;
}

/** `path: message` of the only problem there is. */
function problem(input: unknown, env: NodeJS.ProcessEnv = {}): string {
  const found = problems(input, env).map(({ path, message }) => `${path}: ${message}`);
  expect(found).toHaveLength(1);
  return found.join();
}

function upstream(config: Config, name: string): UpstreamConfig {
  const found = config.upstreams.find((candidate) => candidate.name === name);
  if (found === undefined) {
    throw new Error(`no upstream ${name}`);
  }
  return found;
}

const credential = { label: "ci", username: "me", password: "s3cret" };

describe("the built-in default", () => {
  test.each([[undefined], [null], [{}], [{ upstreams: null, server: null }]])("stands for %j", (input) => {
    const config = parsed(input);
    expect(config.upstreams.map(({ name, type }) => `${name} ${type}`)).toEqual([
      "docker.io dockerhub",
      "quay.io quay",
      "gcr.io gcr",
      "registry.gitlab.com gitlab",
      "public.ecr.aws ecr-public",
      "ghcr.io ghcr",
      "registry.k8s.io generic",
      "mcr.microsoft.com generic",
    ]);
    expect(config.upstreams.every(({ credentials }) => credentials.length === 0)).toBe(true);
    expect(config.server).toEqual({
      listen: { host: "127.0.0.1", port: 5000 },
      workers: 1,
      publicUrl: undefined,
      tls: undefined,
      trustedProxies: [],
      accelRedirect: undefined,
    });
    expect(config.admin).toEqual({ listen: { host: "127.0.0.1", port: 5001 }, allow: [], token: undefined });
    expect(config.routing).toEqual({ default: "docker.io", hosts: new Map(), dynamic: { allow: [] } });
    expect(config.storage).toEqual({
      driver: "filesystem",
      filesystem: { root: "/srv/weir/data", shared: false },
      room: { maxSize: 50 * 2 ** 30, highWater: 0.95, lowWater: 0.85, maxAgeMs: undefined, pins: [] },
      spool: { dir: "/srv/weir/data/spool" },
    });
    expect(config.access).toEqual({
      signIn: NO_SIGN_IN,
      privateToAnonymous: false,
      allow: [],
      deny: [],
      rules: [],
      fetchBudget: undefined,
    });
  });

  test("has the times and bounds of the design", () => {
    const config = parsed({});
    expect(config.freshness).toEqual({
      defaultMs: 600_000,
      rules: [
        { match: "**:latest", ttlMs: 60_000 },
        { match: String.raw`**:/v?\d+\.\d+\.\d+/`, ttlMs: 7 * 86_400_000 },
      ],
      staleIfErrorMs: 30 * 86_400_000,
      softDeadlineMs: 1500,
      onGone: "keep",
      negativeMs: 10_000,
      proofTtlMs: 3_600_000,
      whenBudgetLow: { below: { share: 0.1 } },
    });
    expect(config.download).toEqual({ rangeWaitMs: 30_000, minRate: 65_536, stalledAttempts: 5, abandon: "never" });
    expect(config.limits.manifestSize).toBe(4 * 2 ** 20);
    expect(config.shutdown).toEqual({ graceMs: 30_000 });
    const hub = upstream(config, "docker.io");
    expect(hub.endpoints[0]?.url.href).toBe("https://registry-1.docker.io/");
    expect(hub.aliases).toEqual(["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"]);
    expect(hub.timeouts).toEqual({ connectMs: 5000, headersMs: 15_000, bodyMs: 30_000 });
    expect(hub.maxConnections).toBe(64);
    expect(hub.budgetStatus).toBe(503);
    expect(hub.freshness).toEqual(config.freshness);
  });

  test("is frozen all the way down", () => {
    const config = parsed({ upstreams: { "docker.io": { credentials: [credential] } } });
    const hub = upstream(config, "docker.io");
    for (const part of [config, config.server.listen, config.upstreams, hub, hub.credentials, hub.credentials[0]]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
  });
});

describe("upstreams", () => {
  test("a section replaces the built-in ones, and a name by itself is an upstream", () => {
    const config = parsed({ upstreams: { "Registry.Example:5000": null } });
    expect(config.upstreams.map(({ name, type, endpoints }) => [name, type, endpoints[0]?.url.origin])).toEqual([
      ["registry.example:5000", "generic", "https://registry.example:5000"],
    ]);
    expect(config.routing.default).toBeUndefined();
  });

  test("every key arrives", () => {
    const config = parsed({
      upstreams: {
        "reg.example": {
          type: "dockerhub",
          aliases: ["Other.Example."],
          endpoints: ["https://10.0.0.1:8443/"],
          credentials: [{ ...credential, repositories: ["myorg/*"] }],
          realms: ["Auth.Example:8443"],
          redirects: { allow: ["10.0.0.0/8", "MinIO.internal", "fd00::1"] },
          freshness: { default: "1h", rules: [{ match: "reg.example/**:edge", ttl: "5s" }], onGone: "keep:30d" },
          timeouts: { connect: "1s", headers: "2s", body: "3s" },
          maxConnections: 8,
          tls: { ca: "ca.pem", cert: "c.pem", key: "/k.pem", insecureSkipVerify: true },
          budgetStatus: 429,
          sendNs: true,
        },
      },
      freshness: { negative: "1m" },
    });
    const found = upstream(config, "reg.example");
    expect(found).toMatchObject({
      type: "dockerhub",
      aliases: ["other.example"],
      realms: ["auth.example:8443"],
      redirects: { allow: ["10.0.0.0/8", "minio.internal", "fd00::1"] },
      timeouts: { connectMs: 1000, headersMs: 2000, bodyMs: 3000 },
      maxConnections: 8,
      tls: { ca: "/srv/weir/ca.pem", cert: "/srv/weir/c.pem", key: "/k.pem", insecureSkipVerify: true },
      budgetStatus: 429,
      sendNs: true,
    });
    expect(found.endpoints[0]?.url.origin).toBe("https://10.0.0.1:8443");
    expect(found.credentials[0]).toMatchObject({ label: "ci", username: "me", repositories: ["myorg/*"] });
    expect(passwordOf(found.credentials[0])).toBe("s3cret");
    expect(found.freshness).toMatchObject({
      defaultMs: 3_600_000,
      negativeMs: 60_000,
      onGone: { keepMs: 30 * 86_400_000 },
    });
    expect(found.freshness.rules.map(({ match }) => match)).toEqual([
      "reg.example/**:edge",
      "**:latest",
      String.raw`**:/v?\d+\.\d+\.\d+/`,
    ]);
  });

  test.each([
    ["foo", "host name as it stands in image references"],
    ["under_score.example", "host name as it stands"],
    ["reg.example:0", "host name as it stands"],
    ["reg.example:65536", "host name as it stands"],
    ["https://reg.example", "host name as it stands"],
    ["reg.example/path", "host name as it stands"],
    ["[::1]:5000", "host name as it stands"],
    ["registry-1.docker.io", "another name of docker.io"],
  ])("the name %s is refused", (name, expected) => {
    const found = problem({ upstreams: { [name]: null } });
    expect(found).toContain(`upstreams[${JSON.stringify(name)}]`.replace('["foo"]', ".foo"));
    expect(found).toContain(expected);
  });

  test.each([
    ["two names in different case", { "quay.io": null, "Quay.IO": null }, "two upstreams of this name"],
    ["the default port", { "quay.io": null, "quay.io:443": null }, "two upstreams of this name"],
    [
      "an alias that is another's name",
      { "a.example": { aliases: ["b.example"] }, "b.example": null },
      "b.example already means",
    ],
    [
      "an alias of two",
      { "a.example": { aliases: ["x.example"] }, "b.example": { aliases: ["x.example"] } },
      "already means",
    ],
    [
      "an alias of Docker Hub",
      { "docker.io": null, "quay.io": { aliases: ["index.docker.io"] } },
      "already means the upstream docker.io",
    ],
  ])("%s collides", (_, upstreams, expected) => {
    expect(problem({ upstreams })).toContain(expected);
  });

  test.each([
    ["http://reg.example", true],
    ["http://10.0.0.1:5000", true],
    ["http://localhost.example", true],
    ["http://127.0.0.1:5000", false],
    ["http://localhost:5000", false],
    ["http://[::1]:5000", false],
    ["https://reg.example", false],
  ])("a password to %s would travel in the clear: %s", (endpoint, refused) => {
    const found = problems({ upstreams: { "reg.example": { endpoints: [endpoint], credentials: [credential] } } });
    expect(found.map(({ message }) => message.includes("in the clear"))).toEqual(refused ? [true] : []);
  });

  test("what does not go together is told", () => {
    expect(problem({ upstreams: { "a.b": { credentials: [credential, credential] } } })).toContain(
      "credentials[1].label",
    );
    expect(problem({ upstreams: { "a.b": { tls: { cert: "x" } } } })).toContain("go together");
    expect(problem({ upstreams: { "a.b": { endpoints: ["http://a.b"], tls: { ca: "x" } } } })).toContain("no effect");
    expect(problem({ upstreams: { "a.b": { endpoints: [] } } })).toContain("at least one entry");
    expect(problem({ upstreams: {} })).toContain("nothing could be pulled");
    expect(problems({ upstreams: {}, routing: { dynamic: { allow: ["*.example"] } } })).toEqual([]);
  });
});

describe("routing", () => {
  test("resolves names and aliases", () => {
    const { routing } = parsed({
      routing: {
        default: "Index.docker.io",
        hosts: { "Hub.Mirror.Example.": "registry-1.docker.io", quay: "quay.io" },
      },
    });
    expect(routing.default).toBe("docker.io");
    expect([...routing.hosts]).toEqual([
      ["hub.mirror.example", "docker.io"],
      ["quay", "quay.io"],
    ]);
  });

  test("none is no default", () => {
    expect(parsed({ routing: { default: "none" } }).routing.default).toBeUndefined();
  });

  test.each([
    [{ default: "nope.example" }, "routing.default: no upstream is called nope.example"],
    [{ hosts: { "a.example": "nope.example" } }, 'routing.hosts["a.example"]: no upstream is called nope.example'],
    [{ hosts: { "a.example:80": "quay.io" } }, "without port"],
    [{ hosts: { "a.example": "quay.io", "A.example": "quay.io" } }, "there twice"],
    [{ dynamic: { allow: ["{a,b}.example"] } }, "routing.dynamic.allow[0]"],
  ])("%j is refused", (routing, expected) => {
    expect(problem({ routing })).toContain(expected);
  });

  test("a target whose own entry is wrong is not called unknown as well", () => {
    expect(problem({ upstreams: { "a.b": { maxConnections: 0 } }, routing: { default: "a.b" } })).toContain(
      "maxConnections",
    );
  });
});

test.each([
  [{ server: { listen: ":5000" }, admin: { listen: "127.0.0.1:5000" } }],
  [{ server: { listen: "127.0.0.1:5001" } }],
  [{ admin: { listen: "[::]:5000" } }],
])("listeners that overlap are refused: %j", (input) => {
  expect(problem(input)).toContain("admin.listen: overlaps with server.listen");
});

test.each([
  [{ server: { listen: "127.0.0.1:0" }, admin: { listen: "127.0.0.1:0" } }],
  [{ server: { listen: "127.0.0.1:7000" }, admin: { listen: "127.0.0.2:7000" } }],
])("listeners that do not overlap are fine: %j", (input) => {
  expect(problems(input)).toEqual([]);
});

describe("problems", () => {
  test("O1 all of them are told at once, each with path, value and what was expected", () => {
    const found = problems({
      servr: {},
      server: { listen: 5000, listne: "x" },
      routing: { default: "nope.example" },
      upstreams: { "docker.io": { type: "quya", maxConnections: 0 }, foo: null },
      freshness: { default: "10 minutes" },
      download: { stalledAttempts: "five" },
    });
    expect(found.map(({ path }) => path)).toEqual([
      "server.listen",
      "server.listne",
      'upstreams["docker.io"].type',
      'upstreams["docker.io"].maxConnections',
      "freshness.default",
      "download.stalledAttempts",
      "servr",
      "upstreams.foo",
    ]);
    expect(Object.fromEntries(found.map(({ path, message }) => [path, message]))).toMatchObject({
      "server.listen": expect.stringMatching(/^expected an address such as .*, got 5000$/),
      "server.listne": "there is no such key; did you mean listen?",
      'upstreams["docker.io"].type':
        'expected one of generic, dockerhub, quay, gcr, gitlab, ecr, ecr-public, ghcr, acr, got "quya"',
      "freshness.default": expect.stringContaining('got "10 minutes"'),
      servr: "there is no such key; did you mean server?",
    });
  });

  test("a key that is close to none gets the list", () => {
    expect(problem({ shutdown: { zzz: 1 } })).toBe("shutdown.zzz: there is no such key; expected one of grace");
  });

  test("an unknown key without a value is a problem too", () => {
    expect(problem({ shutdown: { gracee: null } })).toContain("did you mean grace?");
  });

  test.each([
    [[], "the file"],
    ["text", "the file"],
    [{ server: 5 }, "server"],
    [{ upstreams: ["docker.io"] }, "upstreams"],
    [{ upstreams: { "docker.io": "https://x" } }, 'upstreams["docker.io"]'],
    [{ upstreams: { "docker.io": { credentials: { a: 1 } } } }, 'upstreams["docker.io"].credentials'],
    [{ freshness: { rules: [null] } }, "freshness.rules[0]"],
    [{ server: { tls: { cert: "x" } } }, "server.tls.key"],
  ])("%j is a problem of %s", (input, path) => {
    expect(problems(input).map((found) => found.path)).toEqual([path]);
  });

  test("the value of a secret is never repeated", () => {
    const found = problems({
      upstreams: {
        "docker.io": {
          credentials: [{ label: "a", username: "u", password: 424242 }],
          endpoints: ["https://u:hunter2@x.io"],
        },
        "a.b": { credentials: [{ label: "a", username: "u", password: "${UNSET_PASSWORD}", tokn: "hunter3" }] },
      },
      cluster: { secret: "hunter4" },
      admin: { token: "hunter5" },
    });
    expect(found.length).toBe(5);
    expect(JSON.stringify(found)).not.toMatch(/hunter|424242/);
  });

  test("`__proto__` is an unknown key like any other", () => {
    expect(problem(JSON.parse('{"server": {"__proto__": {"listen": ":1"}}}'))).toContain("server.__proto__");
  });
});

describe("server.accelRedirect", () => {
  const trustedProxies = ["127.0.0.1"];

  test.each(["/internal-blobs/", "/a/b-c_d~e.f/"])("may be %s", (accelRedirect) => {
    expect(parsed({ server: { accelRedirect, trustedProxies } }).server.accelRedirect).toBe(accelRedirect);
  });

  test.each([
    ...[
      "internal-blobs/",
      "/internal-blobs",
      "/",
      "//",
      "//host/",
      "/a//b/",
      "/../",
      "/a/./b/",
      "/.hidden/",
      "/a b/",
      "/%41/",
    ],
    ...["/a?b/", "/a#/", "/a\n/", "https://files.example/", "", true, 7],
  ])("is not %j", (accelRedirect) => {
    expect(problem({ server: { accelRedirect, trustedProxies } })).toMatch(
      /^server\.accelRedirect: expected a path that begins and ends with \/ .*such as \/internal-blobs\/, got /,
    );
  });

  test("is not where clients are answered", () => {
    expect(problem({ server: { accelRedirect: "/v2/blobs/", trustedProxies } })).toMatch(
      /^server\.accelRedirect: is where clients send their requests/,
    );
  });

  test("needs a proxy that is trusted, and a disk", () => {
    const accelRedirect = "/internal-blobs/";
    expect(problem({ server: { accelRedirect } })).toMatch(/^server\.accelRedirect: .*server\.trustedProxies/);
    const s3 = { bucket: "a-bucket" };
    expect(problem({ server: { accelRedirect, trustedProxies }, storage: { driver: "s3", s3 } })).toMatch(
      /^server\.accelRedirect: needs files on a disk.*storage\.s3\.redirect/,
    );
    expect(problems({ server: { accelRedirect, trustedProxies }, storage: { driver: "tiered", s3 } })).toEqual([]);
  });
});

describe("values", () => {
  test.each([
    [":5000", { host: "0.0.0.0", port: 5000 }],
    ["[::1]:0", { host: "::1", port: 0 }],
    ["Weir.Example:65535", { host: "weir.example", port: 65_535 }],
  ])("the address %s", (written, expected) => {
    expect(parsed({ server: { listen: written } }).server.listen).toEqual(expected);
  });

  test.each([[""], ["5000"], ["127.0.0.1"], ["127.0.0.1:65536"], ["::1:5000"], ["[::g]:1"], ["http://x:1"], ["a b:1"]])(
    "the address %j is refused",
    (written) => {
      expect(problem({ server: { listen: written } })).toContain("server.listen");
    },
  );

  test.each([
    ["https://reg.example/v2/"],
    ["https://reg.example?x"],
    ["https://u@reg.example"],
    ["ftp://reg.example"],
    ["reg.example"],
    ["https://"],
    ["https://a b"],
  ])("the endpoint %j is refused", (written) => {
    expect(problem({ upstreams: { "a.b": { endpoints: [written] } } })).toContain("endpoints[0]");
  });

  test.each([["0ms"], ["2h"], ["1.5s"], ["-1s"], ["10"], [""], [10]])("the timeout %j is refused", (written) => {
    expect(problem({ upstreams: { "a.b": { timeouts: { body: written } } } })).toContain("a duration from 1ms to 1h");
  });

  test("numbers and truth may come as text, as variables give them", () => {
    const config = parsed(
      {
        upstreams: { "a.b": { maxConnections: "${N}", sendNs: "${YES}", budgetStatus: "${STATUS}" } },
        limits: { manifestSize: 65_536 },
      },
      { N: "12", YES: "true", STATUS: "429" },
    );
    expect(upstream(config, "a.b")).toMatchObject({ maxConnections: 12, sendNs: true, budgetStatus: 429 });
    expect(config.limits.manifestSize).toBe(65_536);
  });

  test("abandon and onGone", () => {
    expect(parsed({ download: { abandon: "10s" } }).download.abandon).toEqual({ afterMs: 10_000 });
    expect(parsed({ freshness: { onGone: "drop" } }).freshness.onGone).toBe("drop");
    expect(problem({ freshness: { onGone: "keep:" } })).toContain("expected keep, drop, or keep:30d");
    expect(problem({ download: { abandon: "always" } })).toContain("expected never, or a duration");
  });

  test("the public address", () => {
    expect(parsed({ server: { publicUrl: "https://Weir.Example" } }).server.publicUrl?.origin).toBe(
      "https://weir.example",
    );
    expect(problem({ server: { publicUrl: "weir.example" } })).toContain("server.publicUrl: expected an address");
  });

  test("paths start in the working directory", () => {
    const { server, storage } = parsed({
      server: { tls: { cert: "tls/a.pem", key: "/b.pem" } },
      storage: { filesystem: { root: "/data" }, spool: { dir: "spool" } },
    });
    expect(server.tls).toEqual({ certFile: join("/srv/weir", "tls/a.pem"), keyFile: "/b.pem" });
    expect(storage.spool.dir).toBe("/srv/weir/spool");
  });
});

describe("admin.token", () => {
  test("is a secret", () => {
    const token = "0123456789abcdef-._~+/=";
    const result = parseConfig({ admin: { token } }, {});
    if (!result.ok) throw new Error(JSON.stringify(result.problems));
    expect(result.config.admin.token?.reveal()).toBe(token);
    expect(JSON.stringify(result.config)).not.toContain(token);
  });

  test.each(["short", "with a space in the middle", "0123456789abcdé-", 1234567890123456])(
    "%j is refused, and not repeated",
    (token) => {
      const result = parseConfig({ admin: { token } }, {});
      expect(result.ok).toBe(false);
      expect(JSON.stringify(result)).toContain("at least 16");
      expect(JSON.stringify(result)).not.toContain(String(token));
    },
  );
});
