/** What `weir hosts` writes, read by the clients that it is for. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import {
  CONTAINERD_TOOLS,
  createPodman,
  DOCKER_TOOLS,
  PODMAN_TOOLS,
  SKOPEO_TOOLS,
  skopeoCopy,
  startContainerd,
  startDocker,
} from "../support/engines.ts";
import { push, smallImage } from "../support/images.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { httpRequest } from "../support/network.ts";
import { run, tempFolder } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;
const IMAGE = smallImage("hosts");

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface World {
  readonly lab: Lab;
  readonly weir: WeirProcess;
  /** `weir hosts CLIENT … --out`; resolves with the folder of that client's files. */
  hosts(client: string, ...options: readonly string[]): Promise<string>;
}

/** A cache that serves Docker Hub, a registry whose name has a port, and an alias, none of which can be reached but through it. */
async function world(): Promise<World> {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  await push(origin.url, "library/small", "1", IMAGE, lab);
  await push(origin.url, "team/small", "1", IMAGE, lab);
  const upstream = { type: "generic", endpoints: [origin.url] };
  const weir = await startWeir(stack, {
    network: lab,
    config: { upstreams: { "docker.io": upstream, "reg.example:5000": { ...upstream, aliases: ["old.example"] } } },
  });
  return {
    lab,
    weir,
    async hosts(client, ...options) {
      const out = await tempFolder(stack);
      await run([process.execPath, MAIN, "hosts", client, "--config", weir.file, "--out", out, ...options]);
      return join(out, client);
    },
  };
}

const REFERENCES = [
  "docker.io/library/small:1",
  "registry-1.docker.io/library/small:1",
  "reg.example:5000/team/small:1",
  "old.example/team/small:1",
];

toolTest(
  CONTAINERD_TOOLS,
  "ctr pulls every name through the certs.d tree",
  async () => {
    const { lab, hosts } = await world();
    const containerd = await startContainerd(stack, lab);
    const certs = join(await hosts("containerd"), "etc/containerd/certs.d");
    for (const reference of REFERENCES) {
      const digest = await containerd.pull(reference, ["--hosts-dir", certs]);
      expect([reference, digest]).toEqual([reference, IMAGE.root.digest]);
    }
  },
  TIMEOUT_MS,
);

toolTest(
  CONTAINERD_TOOLS,
  "ctr with --only pulls through the cache, and past it not even when the cache is gone",
  async () => {
    const { lab, weir, hosts } = await world();
    const containerd = await startContainerd(stack, lab);
    const certs = join(await hosts("containerd", "--only"), "etc/containerd/certs.d");
    const pull = (reference: string) => containerd.pull(reference, ["--hosts-dir", certs]);
    expect(await pull("docker.io/library/small:1")).toBe(IMAGE.root.digest);
    await weir.kill();
    await expect(pull("docker.io/library/small:1")).rejects.toThrow("connection refused");
    expect(lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);

toolTest(
  DOCKER_TOOLS,
  "dockerd starts with the daemon.json, lists the mirror and pulls through it",
  async () => {
    const { lab, weir, hosts } = await world();
    const daemonJson = join(await hosts("docker"), "etc/docker/daemon.json");
    const docker = await startDocker(stack, lab, { daemonJson });
    expect(JSON.parse(await docker.info("{{json .RegistryConfig.Mirrors}}"))).toEqual([`${weir.url}/`]);
    expect(await docker.info("{{json .RegistryConfig.IndexConfigs}}")).toContain(`"${weir.host}"`);
    expect(await docker.pull("small:1")).toBe(IMAGE.root.digest);
    // By the cache's own name, which is an insecure registry.
    expect(await docker.pull(`${weir.host}/old.example/team/small:1`)).toBe(IMAGE.root.digest);
  },
  TIMEOUT_MS,
);

toolTest(
  PODMAN_TOOLS,
  "podman pulls every name through the drop-in",
  async () => {
    const { lab, hosts } = await world();
    const conf = join(await hosts("podman"), "etc/containers/registries.conf.d/50-weir.conf");
    for (const reference of REFERENCES) {
      const podman = await createPodman(stack, lab, { registriesConf: conf });
      expect([reference, await podman.pull(reference)]).toEqual([reference, IMAGE.root.digest]);
    }
  },
  TIMEOUT_MS,
);

toolTest(
  PODMAN_TOOLS,
  "podman with --only pulls through the cache, and past it not even when the cache is gone",
  async () => {
    const { lab, weir, hosts } = await world();
    const conf = join(await hosts("podman", "--only"), "etc/containers/registries.conf.d/50-weir.conf");
    const podman = await createPodman(stack, lab, { registriesConf: conf });
    expect(await podman.pull("docker.io/library/small:1")).toBe(IMAGE.root.digest);
    await weir.kill();
    const other = await createPodman(stack, lab, { registriesConf: conf });
    await expect(other.pull("docker.io/library/small:1")).rejects.toThrow("connection refused");
    expect(lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);

toolTest(
  [...SKOPEO_TOOLS, "dash"],
  "the script of /setup/podman puts the drop-in where skopeo then finds its mirrors",
  async () => {
    const { lab, weir } = await world();
    const script = await httpRequest(`${weir.adminUrl}/setup/podman`, { network: lab });
    expect(script.status).toBe(200);
    const root = await tempFolder(stack);
    const file = join(root, "script");
    await writeFile(file, script.body);
    await run(["dash", file], { env: { DESTDIR: root } });
    const conf = join(root, "etc/containers/registries.conf.d/50-weir.conf");
    for (const reference of REFERENCES) {
      const digest = await skopeoCopy(stack, lab, reference, ["--registries-conf", conf]);
      expect([reference, digest]).toEqual([reference, IMAGE.root.digest]);
    }
  },
  TIMEOUT_MS,
);
