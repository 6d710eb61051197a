/** Real registry clients inside a laboratory. Each pull starts from nothing: what an engine kept of an earlier one does not count. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256 } from "./images.ts";
import { LAB_TOOLS, type Lab } from "./lab.ts";
import { ready, run, start, tempFolder } from "./processes.ts";

/** What a test must ask for (toolTest) to use each of them. */
export const CONTAINERD_TOOLS = [...LAB_TOOLS, "containerd", "ctr"];
export const DOCKER_TOOLS = [...LAB_TOOLS, "dockerd", "docker"];
export const PODMAN_TOOLS = [...LAB_TOOLS, "podman"];
export const SKOPEO_TOOLS = [...LAB_TOOLS, "skopeo"];

export interface Containerd {
  /** `ctr images pull`; resolves with the digest that the image then has. Each pull has a namespace of its own. */
  pull(reference: string, options: readonly string[]): Promise<string>;
  /** Writes `<name>/hosts.toml` into a new hosts folder and returns the folder. */
  hostsDir(name: string, toml: string): Promise<string>;
}

export async function startContainerd(stack: AsyncDisposableStack, lab: Lab): Promise<Containerd> {
  const folder = await tempFolder(stack);
  const socket = join(folder, "c.sock");
  const file = join(folder, "config.toml");
  await writeFile(
    file,
    `version = 2
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${socket}"
[plugins."io.containerd.metadata.v1.bolt"]
  # Else a second namespace would find the first one's blobs and pull nothing.
  content_sharing_policy = "isolated"
`,
  );
  const daemon = await start(lab.command(["containerd", "-c", file]), { env: lab.env });
  stack.defer(async () => {
    await daemon.stop();
  });
  const ctr = (args: readonly string[]): readonly string[] => lab.command(["ctr", "-a", socket, ...args]);
  await ready("containerd", daemon, async () => (await run(ctr(["version"]), { allowFailure: true })).code === 0);
  let pulls = 0;
  let hostsFolders = 0;
  return {
    async pull(reference, options) {
      pulls += 1;
      const namespace = ["-n", `pull${pulls}`];
      // The native snapshotter needs no overlay mounts.
      const pull = ["images", "pull", "--snapshotter", "native", ...options, reference];
      await run(ctr([...namespace, ...pull]), { env: lab.env });
      const { stdout } = await run(ctr([...namespace, "images", "list", `name==${reference}`]));
      const digest = /sha256:[0-9a-f]{64}/.exec(stdout.split("\n").slice(1).join("\n"))?.[0];
      if (digest === undefined) throw new Error(`ctr holds no ${reference}:\n${stdout}`);
      return digest;
    },
    async hostsDir(name, toml) {
      hostsFolders += 1;
      const hosts = join(folder, `hosts${hostsFolders}`);
      await mkdir(join(hosts, name), { recursive: true });
      await writeFile(join(hosts, name, "hosts.toml"), toml);
      return hosts;
    },
  };
}

export interface Docker {
  /** `docker login`; rejects with what it prints where it fails. */
  login(host: string, username: string, password: string): Promise<void>;
  /** `docker pull`; resolves with the digest that Docker notes for it. */
  pull(reference: string): Promise<string>;
  /** What `docker info --format` prints. */
  info(format: string): Promise<string>;
}

/** dockerd with `registry-mirrors`, as an address or in a daemon.json; the mirror serves docker.io. */
export async function startDocker(
  stack: AsyncDisposableStack,
  lab: Lab,
  mirror: string | { readonly daemonJson: string },
): Promise<Docker> {
  const folder = await tempFolder(stack);
  const socket = `unix://${join(folder, "d.sock")}`;
  const daemon = await start(
    lab.command([
      ...["dockerd", "--data-root", join(folder, "data"), "--exec-root", join(folder, "exec"), "-H", socket],
      ...["--pidfile", join(folder, "pid"), "--iptables=false", "--bridge=none", "-s", "vfs"],
      ...(typeof mirror === "string" ? ["--registry-mirror", mirror] : ["--config-file", mirror.daemonJson]),
    ]),
    { env: lab.env },
  );
  stack.defer(async () => {
    await daemon.stop(15_000);
  });
  const env = { ...lab.env, DOCKER_CONFIG: folder };
  const docker = (args: readonly string[]): readonly string[] => lab.command(["docker", "-H", socket, ...args]);
  await ready("dockerd", daemon, async () => (await run(docker(["version"]), { env, allowFailure: true })).code === 0);
  return {
    async login(host, username, password) {
      await run(docker(["login", "--username", username, "--password", password, host]), { env });
    },
    async pull(reference) {
      const { stdout } = await run(docker(["pull", reference]), { env });
      const digest = /^Digest: (sha256:[0-9a-f]{64})$/m.exec(stdout)?.[1];
      if (digest === undefined) throw new Error(`docker named no digest:\n${stdout}`);
      return digest;
    },
    async info(format) {
      return (await run(docker(["info", "--format", format]), { env })).stdout.trim();
    },
  };
}

export interface Podman {
  /** `podman login`, without TLS; rejects with what it prints where it fails. */
  login(host: string, username: string, password: string): Promise<void>;
  /** `podman pull`; resolves with the digest that podman notes for it. */
  pull(reference: string): Promise<string>;
}

/** Podman with a mirror for docker.io, `HOST:PORT` and perhaps a path, spoken to without TLS; or with a registries.conf. */
export async function createPodman(
  stack: AsyncDisposableStack,
  lab: Lab,
  mirror: string | { readonly registriesConf: string },
): Promise<Podman> {
  const folder = await tempFolder(stack);
  const storage = join(folder, "storage.conf");
  const registries = typeof mirror === "string" ? await dockerMirrorConf(folder, mirror) : mirror.registriesConf;
  await writeFile(storage, `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/graph"\nrunroot = "${folder}/run"\n`);
  const env = {
    ...lab.env,
    CONTAINERS_REGISTRIES_CONF: registries,
    CONTAINERS_STORAGE_CONF: storage,
    REGISTRY_AUTH_FILE: await authFile(folder),
    TMPDIR: folder,
  };
  return {
    async login(host, username, password) {
      const account = ["--username", username, "--password", password];
      await run(lab.command(["podman", "login", "--tls-verify=false", ...account, host]), { env });
    },
    async pull(reference) {
      await run(lab.command(["podman", "pull", "--quiet", reference]), { env });
      const inspect = ["podman", "image", "inspect", "--format", "{{.Digest}}", reference];
      const { stdout } = await run(lab.command(inspect), { env });
      return stdout.trim();
    },
  };
}

async function dockerMirrorConf(folder: string, mirror: string): Promise<string> {
  const file = join(folder, "registries.conf");
  await writeFile(
    file,
    `[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "${mirror}"
insecure = true
`,
  );
  return file;
}

/** `skopeo copy docker://REFERENCE dir:...`, without TLS; resolves with the digest of the manifest that arrived. */
export async function skopeoCopy(
  stack: AsyncDisposableStack,
  lab: Lab,
  reference: string,
  options: readonly string[] = [],
): Promise<string> {
  const folder = await tempFolder(stack);
  const copy = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", ...options];
  await run(lab.command([...copy, `docker://${reference}`, `dir:${folder}/out`]), {
    env: { ...lab.env, TMPDIR: folder, REGISTRY_AUTH_FILE: await authFile(folder) },
  });
  return sha256(await readFile(join(folder, "out", "manifest.json")));
}

/** An empty login file, so that none of the machine's own is read. */
async function authFile(folder: string): Promise<string> {
  const file = join(folder, "auth.json");
  await writeFile(file, "{}");
  return file;
}
