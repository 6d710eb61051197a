/**
 * The Dockerfile, built by buildah and run by podman and runc in a laboratory, from which nothing can be fetched. In place of
 * the image that it starts from stands a root of this machine's own files: Node, npm, a shell and what those are linked to.
 */
import { chmod, cp, lstat, mkdir, readFile, realpath, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { LAB_TOOLS, type Lab } from "./lab.ts";
import { type CommandResult, run, tempFolder } from "./processes.ts";
import { requireTool } from "./tools.ts";

/** What a test must ask for (toolTest). */
export const CONTAINER_TOOLS = [...LAB_TOOLS, "buildah", "podman", "runc", "npm", "ldd"];

const PROJECT = join(import.meta.dirname, "../..");
const IMAGE = "localhost/weir:test";
/** Some ten thousand files are unpacked and copied, several times. */
const STEP_MS = 600_000;
/** What RUN and npm's scripts use. */
const PROGRAMS = ["sh", "env", "mkdir"];
/** What the machine's own limits allow in any case. */
const LIMITS = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"];

export interface ImageConfig {
  readonly User: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly Volumes: Readonly<Record<string, unknown>>;
  readonly ExposedPorts: Readonly<Record<string, unknown>>;
  readonly WorkingDir: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly Healthcheck: { readonly Test: readonly string[] };
}

export interface ContainerImage {
  readonly config: ImageConfig;
  /** `podman ARGS`, in the laboratory. */
  podman(args: readonly string[], allowFailure?: boolean): Promise<CommandResult>;
  /**
   * Starts the image with a read-only root, no capabilities, and what it declares as volumes in folders of their own; in the
   * background when `name` is given. Resolves with what it has printed, or the container's id.
   */
  run(options: {
    readonly name?: string;
    readonly flags?: readonly string[];
    readonly args?: readonly string[];
  }): Promise<string>;
}

/** Builds the image from the working tree. Its storage is gone with `stack`. */
export async function buildImage(stack: AsyncDisposableStack, lab: Lab): Promise<ContainerImage> {
  const folder = await tempFolder(stack);
  const env = await engineFiles(folder);
  const engine = (argv: readonly string[], allowFailure = false): Promise<CommandResult> =>
    run(lab.command(argv), { env, cwd: PROJECT, allowFailure, timeoutMs: STEP_MS });

  const { base } = await dockerfileNode();
  const root = join(folder, "base");
  await baseRoot(root);
  const { stdout } = await engine(["buildah", "from", "scratch"]);
  const container = stdout.trim();
  await engine(["buildah", "add", "-q", container, root, "/"]);
  await engine(["buildah", "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container]);
  await engine(["buildah", "commit", "-q", "--disable-compression", container, base]);
  await engine(["buildah", "rm", container]);

  const { stdout: cache } = await run(["npm", "config", "get", "cache"]);
  const npmrc = join(folder, "npmrc");
  await writeFile(npmrc, "offline=true\n");
  const build = ["buildah", "bud", "--isolation", "chroot", "--pull-never", "--network", "host", "--layers=false"];
  // Of the OCI's format HEALTHCHECK is no part.
  const format = ["--format", "docker"];
  const packages = ["-v", `${cache.trim()}:/root/.npm:O`, "-v", `${npmrc}:/root/.npmrc:ro`];
  const bud = [...build, ...format, ...packages, "--build-arg", "VERSION=9.8.7", "-t", IMAGE, "."];
  const built = await engine(bud, true);
  if (built.stderr.includes("ENOTCACHED")) {
    await fillNpmCache(folder, cache.trim());
    await engine(bud);
  } else if (built.code !== 0) {
    throw new Error(`${built.stdout}${built.stderr}`);
  }

  const inspected = await engine(["podman", "image", "inspect", "--format", "{{json .Config}}", IMAGE]);
  const health = await engine(["podman", "image", "inspect", "--format", "{{json .HealthCheck}}", IMAGE]);
  const podman = (args: readonly string[], allowFailure = false): Promise<CommandResult> =>
    engine(["podman", "--runtime", requireTool("runc"), ...args], allowFailure);
  return {
    config: { ...JSON.parse(inspected.stdout), Healthcheck: JSON.parse(health.stdout) },
    podman,
    async run({ name, flags = [], args = [] }) {
      // Health is asked for by the test: podman's timers need systemd.
      const confined = [
        "--network",
        "host",
        "--no-healthcheck",
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop",
        "all",
      ];
      const background = name === undefined ? ["--rm"] : ["-d", "--name", name];
      const result = await podman(["run", ...background, ...confined, ...LIMITS, ...flags, IMAGE, ...args]);
      if (name !== undefined) stack.defer(async () => void (await podman(["rm", "-f", "-v", name])));
      return result.stdout;
    },
  };
}

/** The image that the Dockerfile starts from, with Node's version in it. */
export async function dockerfileNode(): Promise<{ readonly base: string; readonly version: string }> {
  const text = await readFile(join(PROJECT, "Dockerfile"), "utf8");
  const version = /^ARG NODE_VERSION=(\S+)$/m.exec(text)?.[1] ?? "";
  const from = /^FROM (\S+)$/m.exec(text)?.[1] ?? "";
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the Dockerfile's own variable.
  return { base: from.replace("${NODE_VERSION}", version), version };
}

async function engineFiles(folder: string): Promise<Record<string, string>> {
  const storage = join(folder, "storage.conf");
  await writeFile(storage, `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/graph"\nrunroot = "${folder}/run"\n`);
  const containers = join(folder, "containers.conf");
  await writeFile(containers, `[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n`);
  return { CONTAINERS_STORAGE_CONF: storage, CONTAINERS_CONF: containers, TMPDIR: folder };
}

async function baseRoot(root: string): Promise<void> {
  for (const program of PROGRAMS) await addProgram(root, requireTool(program), `/usr/bin/${program}`);
  await addProgram(root, process.execPath, "/usr/local/bin/node");
  await addLibcParts(root);
  await symlink("usr/bin", join(root, "bin"));
  const npm = dirname(dirname(await realpath(requireTool("npm"))));
  await cp(npm, join(root, "usr/local/lib/node_modules/npm"), { recursive: true });
  await symlink("../lib/node_modules/npm/bin/npm-cli.js", join(root, "usr/local/bin/npm"));
  await mkdir(join(root, "etc"));
  await writeFile(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  await writeFile(join(root, "etc/group"), "root:x:0:\n");
  await mkdir(join(root, "root"));
  await mkdir(join(root, "tmp"));
  await chmod(join(root, "tmp"), 0o1777);
}

/** With the libraries that it is linked to, where it looks for them. */
async function addProgram(root: string, from: string, to: string): Promise<void> {
  await addFile(root, from, to);
  const { stdout } = await run(["ldd", from]);
  for (const [library] of stdout.matchAll(/\/\S+/g)) await addFile(root, library, library);
}

/** Debian's libc comes with more than Node is linked to, and packages with native parts are. */
async function addLibcParts(root: string): Promise<void> {
  const { stdout } = await run(["ldd", process.execPath]);
  const libc = /\/\S*\/libc\.so\.6/.exec(stdout)?.[0];
  if (libc === undefined) return;
  const librt = join(dirname(libc), "librt.so.1");
  await addFile(root, librt, librt);
}

async function addFile(root: string, from: string, to: string): Promise<void> {
  const path = join(root, to);
  await mkdir(dirname(path), { recursive: true });
  await cp(await realpath(from), path, { force: false });
  if (!(await lstat(path)).isFile()) throw new Error(`${path} is no file`);
}

/** Installing from the lock file has filled it already, unless the machine's packages came in another way. */
async function fillNpmCache(folder: string, cache: string): Promise<void> {
  const scratch = join(folder, "npm");
  await mkdir(scratch);
  for (const name of ["package.json", "package-lock.json", ".npmrc"])
    await cp(join(PROJECT, name), join(scratch, name));
  const install = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-progress", "--cache", cache];
  await run(install, { cwd: scratch, timeoutMs: STEP_MS });
}
