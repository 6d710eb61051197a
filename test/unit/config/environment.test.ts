// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { describe, expect, test } from "vitest";
import { environmentKeys } from "../../../src/config/environment.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import { schemaKeys } from "../../../src/config/schema.ts";
import { passwordOf } from "../../support/credentials.ts";

function problemsOf(env: NodeJS.ProcessEnv, input: unknown = {}): string[] {
  const result = parseConfig(input, env);
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

test("a configuration of variables alone", () => {
  const result = parseConfig(undefined, {
    WEIR_SERVER_LISTEN: ":5000",
    WEIR_ADMIN_LISTEN: ":5001",
    WEIR_STORAGE_FILESYSTEM_ROOT: "/data",
    WEIR_TELEMETRY_LOG_LEVEL: "warn",
    WEIR_ROUTING_DEFAULT: "none",
    WEIR_ACCESS_PRIVATE_TO_ANONYMOUS: "true",
    WEIR_SERVER_TLS_CERT: "/c.pem",
    WEIR_SERVER_TLS_KEY: "/k.pem",
    WEIR_DOWNLOAD_STALLED_ATTEMPTS: "7",
    WEIR_UPSTREAM_DOCKER_IO_USERNAME: "me",
    WEIR_UPSTREAM_DOCKER_IO_PASSWORD: "${OTHER}",
    OTHER: "s3cret",
  });
  expect(result).toMatchObject({
    ok: true,
    config: {
      server: { listen: { host: "0.0.0.0", port: 5000 }, tls: { certFile: "/c.pem", keyFile: "/k.pem" } },
      storage: { filesystem: { root: "/data" }, spool: { dir: "/data/spool" } },
      telemetry: { logLevel: "warn" },
      routing: { default: undefined },
      access: { privateToAnonymous: true },
      download: { stalledAttempts: 7 },
    },
  });
  const hub = result.ok ? result.config.upstreams.find(({ name }) => name === "docker.io") : undefined;
  expect(hub?.credentials).toMatchObject([{ label: "environment", username: "me", repositories: undefined }]);
  expect(passwordOf(hub?.credentials[0])).toBe("s3cret");
});

test("variables win over the file, for credentials as a whole", () => {
  const result = parseConfig(
    {
      server: { listen: "127.0.0.1:1" },
      upstreams: { "Reg.Example:5000": { credentials: [{ label: "file", username: "a", password: "b" }] } },
    },
    {
      WEIR_SERVER_LISTEN: "127.0.0.1:2",
      WEIR_UPSTREAM_REG_EXAMPLE_5000_USERNAME: "c",
      WEIR_UPSTREAM_REG_EXAMPLE_5000_PASSWORD: "d",
    },
  );
  expect(result).toMatchObject({
    ok: true,
    config: {
      server: { listen: { port: 2 } },
      upstreams: [{ name: "reg.example:5000", credentials: [{ label: "environment", username: "c" }] }],
    },
  });
});

test("an empty variable counts as unset", () => {
  expect(problemsOf({ WEIR_SERVER_LISTEN: "", WEIR_NOT_A_KEY: "", WEIR_UPSTREAM_X_USERNAME: "" })).toEqual([]);
});

test("every key of one value outside of upstreams and lists has a variable, and no two share one", () => {
  const expected = schemaKeys().filter(({ kind, path }) => kind === "value" && !/[<[]/.test(path.join()));
  expect([...environmentKeys().values()]).toEqual(expected.map(({ path }) => path));
  expect(environmentKeys().get("WEIR_FRESHNESS_STALE_IF_ERROR")).toEqual(["freshness", "staleIfError"]);
});

describe("problems", () => {
  test("a variable that sets nothing", () => {
    expect(problemsOf({ WEIR_SERVER_LISTN: "x" })).toEqual([
      "WEIR_SERVER_LISTN: this variable sets nothing; did you mean WEIR_SERVER_LISTEN?",
    ]);
    expect(problemsOf({ WEIR_UPSTREAM_DOCKER_IO: "x" })).toEqual([expect.stringContaining("sets nothing")]);
  });

  test("a wrong value names its variable", () => {
    expect(problemsOf({ WEIR_SHUTDOWN_GRACE: "soon" })).toEqual([
      expect.stringMatching(/^shutdown\.grace: expected a duration.*got "soon" \(set by WEIR_SHUTDOWN_GRACE\)$/),
    ]);
  });

  test("credentials of no upstream, of two, and half ones", () => {
    expect(problemsOf({ WEIR_UPSTREAM_DOCKR_IO_USERNAME: "u" })).toEqual([
      expect.stringContaining("expected WEIR_UPSTREAM_DOCKER_IO_USERNAME"),
    ]);
    expect(problemsOf({ WEIR_UPSTREAM_QUAY_IO_PASSWORD: "hunter2" })).toEqual([
      "WEIR_UPSTREAM_QUAY_IO_PASSWORD: needs WEIR_UPSTREAM_QUAY_IO_USERNAME beside it",
    ]);
    expect(problemsOf({ WEIR_UPSTREAM_A_B_C_USERNAME: "u" }, { upstreams: { "a-b.c": null, "a.b.c": null } })).toEqual([
      "WEIR_UPSTREAM_A_B_C_USERNAME: could mean a-b.c or a.b.c; put the credential into the file",
    ]);
  });

  test("a section that is no mapping stays the problem that it is", () => {
    expect(problemsOf({ WEIR_SERVER_LISTEN: ":1" }, { server: "x" })).toEqual([expect.stringContaining("server: ")]);
  });
});

test.each([
  ["WEIR_CONFIG"],
  ["WEIR_TEST_REQUIRE_ALL"],
  // Kubernetes and Docker, for services called weir and weir-admin.
  ["WEIR_SERVICE_HOST"],
  ["WEIR_SERVICE_PORT"],
  ["WEIR_SERVICE_PORT_HTTP"],
  ["WEIR_PORT"],
  ["WEIR_PORT_5000_TCP"],
  ["WEIR_PORT_5000_TCP_ADDR"],
  ["WEIR_PORT_5000_TCP_PROTO"],
  ["WEIR_ADMIN_SERVICE_HOST"],
  ["WEIR_ADMIN_PORT"],
  ["WEIR_ADMIN_PORT_5001_TCP_PORT"],
])("%s is left alone", (variable) => {
  expect(problemsOf({ [variable]: "tcp://10.0.0.1:5000" })).toEqual([]);
});

test("no key's variable looks like one of a service", () => {
  const env = Object.fromEntries([...environmentKeys().keys()].map((variable) => [variable, "\0 no value"]));
  const live = schemaKeys().filter(({ kind, path }) => kind === "value" && !/[<[]/.test(path.join()));
  expect(problemsOf(env)).toHaveLength(live.length);
});
