import { describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { createClientSetup, findSetupClient, SETUP_CLIENTS } from "../../../../src/http/setup/clients.ts";
import type { Mirror } from "../../../../src/http/setup/mirror.ts";
import { SetupError } from "../../../../src/http/setup/setup-error.ts";
import type { ClientSetup } from "../../../../src/http/setup/setup-file.ts";
import { contentOf, mirrorOf, NAMES, readToml, THREE_UPSTREAMS } from "./mirrors.ts";

/** Those that can stand in a mirror's path. */
const TELLABLE = NAMES.filter((name) => name !== "plain.example:8080");

const HTTP = mirrorOf(THREE_UPSTREAMS);
const HTTPS = mirrorOf(THREE_UPSTREAMS, { url: "https://weir.example" });
const ONLY = mirrorOf(THREE_UPSTREAMS, { only: true });
const DYNAMIC = mirrorOf({ ...THREE_UPSTREAMS, routing: { dynamic: { allow: ["*.pkg.dev"] } } });
const DYNAMIC_ALONE = mirrorOf({ upstreams: {}, routing: { dynamic: { allow: ["*.pkg.dev"] } } });

function setupOf(word: string, mirror: Mirror): ClientSetup {
  const client = findSetupClient(word);
  if (client === undefined) throw new Error(`no client ${word}`);
  return createClientSetup(client, mirror);
}

function pathsOf(word: string, mirror: Mirror): string[] {
  return setupOf(word, mirror).files.map(({ path }) => path);
}

describe("containerd", () => {
  const toml = (mirror: Mirror, folder: string) =>
    readToml(contentOf(setupOf("containerd", mirror).files, `/etc/containerd/certs.d/${folder}/hosts.toml`));

  test("has a folder for each name, where a port is written as containerd looks for it first", () => {
    expect(pathsOf("containerd", HTTP)).toEqual(
      NAMES.map((name) => `/etc/containerd/certs.d/${name.replace(/:(\d+)/, "_$1_")}/hosts.toml`),
    );
  });

  test("asks the cache, which may not be pushed to, and then the registry", () => {
    expect(toml(HTTP, "docker.io")).toEqual([
      { name: "", values: { server: "https://registry-1.docker.io" } },
      { name: 'host."http://weir.example:5000"', values: { capabilities: ["pull", "resolve"] } },
    ]);
    expect(toml(HTTPS, "reg.example_5000_")).toEqual([
      { name: "", values: { server: "https://reg.example:5000" } },
      { name: 'host."https://weir.example"', values: { capabilities: ["pull", "resolve"] } },
    ]);
  });

  test("asks nobody but the cache with --only", () => {
    expect(toml(ONLY, "docker.io")[0]?.values).toEqual({ server: "http://weir.example:5000" });
  });

  test("has a _default only where the cache serves registries that nobody listed", () => {
    expect(pathsOf("containerd", HTTP).join()).not.toContain("_default");
    // Without `server` containerd goes on to whatever registry the reference names.
    expect(toml(DYNAMIC, "_default")[0]?.values).toEqual({});
    expect(pathsOf("containerd", DYNAMIC_ALONE)).toEqual(["/etc/containerd/certs.d/_default/hosts.toml"]);
  });
});

describe("docker", () => {
  const json = (mirror: Mirror) => JSON.parse(contentOf(setupOf("docker", mirror).files, "/etc/docker/daemon.json"));

  test("has the mirror in daemon.json and the containerd store's tree", () => {
    expect(json(HTTP)).toEqual({
      "registry-mirrors": ["http://weir.example:5000"],
      "insecure-registries": ["weir.example:5000"],
    });
    expect(json(HTTPS)).toEqual({ "registry-mirrors": ["https://weir.example"] });
    expect(pathsOf("docker", HTTP)).toContain("/etc/docker/certs.d/reg.example_5000_/hosts.toml");
  });

  test("has no mirror where Docker Hub is not served, and no daemon.json where there is nothing to say", () => {
    const upstreams = { "quay.io": {} };
    expect(json(mirrorOf({ upstreams }))).toEqual({ "insecure-registries": ["weir.example:5000"] });
    expect(pathsOf("docker", mirrorOf({ upstreams }, { url: "https://weir.example" }))).toEqual([
      "/etc/docker/certs.d/quay.io/hosts.toml",
    ]);
  });

  test("warns of the path that old versions refuse only where there is one", () => {
    const noDefault = mirrorOf({ ...THREE_UPSTREAMS, routing: { default: "none" } });
    expect(setupOf("docker", noDefault).next.join()).toContain("before 24");
    expect(setupOf("docker", HTTP).next.join()).not.toContain("before 24");
  });
});

describe.each([
  ["podman", "/etc/containers/registries.conf.d/50-weir.conf"],
  ["crio", "/etc/containers/registries.conf.d/50-weir.conf"],
  ["minikube", "~/.minikube/files/etc/containers/registries.conf.d/50-weir.conf"],
])("%s", (client, path) => {
  const toml = (mirror: Mirror) => readToml(contentOf(setupOf(client, mirror).files, path));

  test("names the registry in the mirror's path, since it sends no ns", () => {
    const tables = toml(HTTP).slice(1);
    expect(tables.filter(({ name }) => name === "registry").map(({ values }) => values.prefix)).toEqual(TELLABLE);
    expect(tables.slice(0, 2)).toEqual([
      { name: "registry", values: { prefix: "docker.io", location: "docker.io" } },
      { name: "registry.mirror", values: { location: "weir.example:5000/docker.io", insecure: true } },
    ]);
  });

  test("says a name with a port by an alias without one, and leaves it out where there is none: such a path fails every pull", () => {
    const { files, next } = setupOf(client, HTTP);
    expect(contentOf(files, path)).not.toContain("plain.example");
    expect(next.join("\n")).toContain("plain.example:8080 is left out");
    expect(toml(HTTP)[9]?.values).toEqual({ prefix: "reg.example:5000", location: "reg.example:5000" });
    expect(toml(HTTP)[10]?.values).toMatchObject({ location: "weir.example:5000/old.example" });
  });

  test("needs no path at a virtual host, where a port is no obstacle", () => {
    const hosts = { "plain.weir.example": "plain.example:8080" };
    const mirror = mirrorOf({ ...THREE_UPSTREAMS, routing: { hosts } }, { url: "https://plain.weir.example" });
    expect(toml(mirror).slice(1)).toEqual([
      { name: "registry", values: { prefix: "plain.example:8080", location: "plain.example:8080", insecure: true } },
      { name: "registry.mirror", values: { location: "plain.weir.example" } },
    ]);
  });

  test("verifies an https cache", () => {
    expect(toml(HTTPS)[2]).toEqual({ name: "registry.mirror", values: { location: "weir.example/docker.io" } });
  });

  test("has the registry live at the cache with --only, since the registry itself is always asked last", () => {
    const tables = toml(ONLY).slice(1);
    expect(tables.map(({ name }) => name)).toEqual(TELLABLE.map(() => "registry"));
    expect(tables[0]?.values).toEqual({ prefix: "docker.io", location: "weir.example:5000/docker.io", insecure: true });
  });
});

describe.each([
  ["k3s", "/etc/rancher/k3s/registries.yaml"],
  ["rke2", "/etc/rancher/rke2/registries.yaml"],
  ["k3d", "weir-k3d.yaml"],
])("%s", (client, path) => {
  const yaml = (mirror: Mirror) => parseYaml(contentOf(setupOf(client, mirror).files, path));

  test("has an endpoint for each name, and * for registries that nobody listed", () => {
    const entry = { endpoint: ["http://weir.example:5000"] };
    expect(yaml(HTTP)).toEqual({ mirrors: Object.fromEntries(NAMES.map((name) => [name, entry])) });
    expect(Object.keys(yaml(DYNAMIC).mirrors)).toEqual([...NAMES, "*"]);
  });
});

test("talos patches the machine configuration, and skips the registry itself only with --only", () => {
  const yaml = (mirror: Mirror) => parseYaml(contentOf(setupOf("talos", mirror).files, "weir-talos.yaml"));
  const { mirrors } = yaml(HTTPS).machine.registries;
  expect(Object.keys(mirrors)).toEqual(NAMES);
  expect(mirrors["reg.example:5000"]).toEqual({ endpoints: ["https://weir.example"] });
  expect(yaml(ONLY).machine.registries.mirrors["docker.io"]).toEqual({
    endpoints: ["http://weir.example:5000"],
    skipFallback: true,
  });
});

test("buildkit is told of the cache under each name, and how the cache is spoken to under the cache's own", () => {
  const toml = (mirror: Mirror) =>
    readToml(contentOf(setupOf("buildkit", mirror).files, "/etc/buildkit/buildkitd.toml"));
  const tables = toml(HTTP);
  expect(tables[1]).toEqual({ name: 'registry."docker.io"', values: { mirrors: ["weir.example:5000"] } });
  expect(tables.at(-2)?.values).toEqual({ mirrors: ["weir.example:5000"], http: true });
  expect(tables.at(-1)).toEqual({ name: 'registry."weir.example:5000"', values: { http: true } });
  expect(toml(HTTPS)).toHaveLength(1 + NAMES.length);
});

test("kind mounts the tree that comes with it", () => {
  const { files } = setupOf("kind", HTTP);
  const cluster = parseYaml(contentOf(files, "weir-kind/kind.yaml"));
  const [mount] = cluster.nodes[0].extraMounts;
  expect(mount).toEqual({ hostPath: "weir-kind/certs.d", containerPath: "/etc/containerd/certs.d", readOnly: true });
  expect(readToml(cluster.containerdConfigPatches[0]).at(-1)?.values).toEqual({ config_path: mount.containerPath });
  expect(files.map(({ path }) => path)).toContain(`${mount.hostPath}/docker.io/hosts.toml`);
});

test("minikube's Docker is told by options", () => {
  const next = (mirror: Mirror) => setupOf("minikube", mirror).next.join("\n");
  expect(next(HTTP)).toContain("--registry-mirror=http://weir.example:5000 --insecure-registry=weir.example:5000");
  expect(next(HTTPS)).toMatch(/--registry-mirror=https:\/\/weir\.example$/);
});

describe("of all clients", () => {
  test("names and aliases are different words", () => {
    const words = SETUP_CLIENTS.flatMap(({ name, aliases }) => [name, ...aliases]);
    expect(new Set(words).size).toBe(words.length);
    for (const word of words) expect(findSetupClient(word)).toBeDefined();
    expect(findSetupClient("rpm")).toBeUndefined();
  });

  test.each(SETUP_CLIENTS.map(({ name }) => name))(
    "%s: paths differ, files end with a newline and all may read them",
    (name) => {
      const { files, next } = setupOf(name, DYNAMIC);
      expect(new Set(files.map(({ path }) => path)).size).toBe(files.length);
      for (const { content, mode } of files) {
        expect(content).toMatch(/[^\n]\n$/);
        expect(mode).toBe(0o644);
      }
      expect(next.length).toBeGreaterThan(0);
    },
  );

  test.each(["/etc/docker/daemon.json", "/etc/rancher/k3s/registries.yaml", "/etc/buildkit/buildkitd.toml"])(
    "%s may hold other settings, a file of our own name may not",
    (path) => {
      const files = SETUP_CLIENTS.flatMap((client) => createClientSetup(client, HTTP).files);
      expect(files.find((file) => file.path === path)?.shared).toBe(true);
      expect(files.find((file) => file.path.endsWith("50-weir.conf"))?.shared).toBe(false);
    },
  );

  test.each(["kind", "k3d", "minikube", "talos"])(
    "%s is not given a loopback address, which is another one inside",
    (name) => {
      expect(() => setupOf(name, mirrorOf({}, { url: "http://127.0.0.1:5000" }))).toThrow(SetupError);
      expect(() => setupOf("containerd", mirrorOf({}, { url: "http://127.0.0.1:5000" }))).not.toThrow();
    },
  );

  test.each(["podman", "crio", "buildkit"])(
    "%s, which knows no wildcard, is refused where no registry is listed",
    (name) => {
      expect(() => setupOf(name, DYNAMIC_ALONE)).toThrow("list some under upstreams");
    },
  );
});
