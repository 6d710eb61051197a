/** Real clients in front of a Weir that wants to know who they are. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect } from "vitest";
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
import { tempFolder, until } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { basic, htpasswd } from "../support/sign-in.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const IMAGE = smallImage("sign-in");
const PASSWORD = "a-s3cret-of-alice";
const WRONG = "somebody's-docker-hub-password";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface World {
  readonly lab: Lab;
  readonly weir: WeirProcess;
  /** `HOST/quay.io/team/small:1` */
  readonly image: string;
}

/** A cache in front of an origin that plays two registries, which wants alice's password or a token for it. */
async function world(mode: readonly string[]): Promise<World> {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  await push(origin.url, "library/small", "1", IMAGE, lab);
  await push(origin.url, "team/small", "1", IMAGE, lab);
  const upstream = { type: "generic", endpoints: [origin.url] };
  const file = join(await tempFolder(stack), "htpasswd");
  await writeFile(file, await htpasswd({ alice: PASSWORD }));
  const weir = await startWeir(stack, {
    network: lab,
    config: {
      upstreams: { "docker.io": upstream, "quay.io": upstream },
      access: { mode, htpasswd: { file } },
    },
    secrets: [PASSWORD, WRONG, basic("alice", PASSWORD).slice(6), basic("alice", WRONG).slice(6)],
  });
  return { lab, weir, image: `${weir.host}/quay.io/team/small:1` };
}

/** Of the metric, what the admin port says. */
async function failures({ lab, weir }: World): Promise<number> {
  const { body } = await httpRequest(`${weir.adminUrl}/metrics`, { network: lab });
  return Number(/^weir_auth_failures_total (\d+)$/m.exec(body.toString())?.[1]);
}

const MODES = [["htpasswd"], ["htpasswd", "token"], ["anonymous", "htpasswd", "token"]] as const;

describe.each(MODES.map((mode) => [mode.join(", "), mode] as const))("access.mode %s", (_, mode) => {
  const open = mode.includes("anonymous" as never);

  toolTest(
    CONTAINERD_TOOLS,
    "containerd: ctr with a user, with a header in hosts.toml, with neither",
    async () => {
      const at = await world(mode);
      const { lab, weir, image } = at;
      const containerd = await startContainerd(stack, lab);
      const pull = (user: string) => containerd.pull(image, ["--plain-http", "--user", user]);
      expect(await pull(`alice:${PASSWORD}`)).toBe(IMAGE.root.digest);
      const hosts = await containerd.hostsDir(
        "quay.io",
        `server = "${weir.url}"
[host."${weir.url}"]
  capabilities = ["pull", "resolve"]
  [host."${weir.url}".header]
    Authorization = "${basic("alice", PASSWORD)}"
`,
      );
      // The mirror's form, in which only ns says which registry is meant.
      expect(await containerd.pull("quay.io/team/small:1", ["--hosts-dir", hosts])).toBe(IMAGE.root.digest);
      expect(await failures(at)).toBe(0);
      const without = containerd.pull(image, ["--plain-http"]);
      if (open) {
        expect(await without).toBe(IMAGE.root.digest);
        // Nobody asked for its password, so it did not send it.
        expect(await pull(`alice:${WRONG}`)).toBe(IMAGE.root.digest);
      } else {
        await expect(without).rejects.toThrow(/401|authorization failed|no basic auth/i);
        await expect(pull(`alice:${WRONG}`)).rejects.toThrow(/401|authorization failed|unauthorized|no basic auth/i);
        expect(await failures(at)).toBeGreaterThan(0);
      }
    },
    TIMEOUT_MS,
  );

  toolTest(
    SKOPEO_TOOLS,
    "skopeo with --src-creds, and without",
    async () => {
      const { lab, image } = await world(mode);
      const copy = (...options: readonly string[]) => skopeoCopy(stack, lab, image, options);
      expect(await copy("--src-creds", `alice:${PASSWORD}`)).toBe(IMAGE.root.digest);
      await expect(copy("--src-creds", `alice:${WRONG}`)).rejects.toThrow(
        /unauthorized|authentication required|invalid username\/password/i,
      );
      const without = copy();
      if (open) expect(await without).toBe(IMAGE.root.digest);
      else await expect(without).rejects.toThrow(/unauthorized|authentication required|401/i);
    },
    TIMEOUT_MS,
  );

  toolTest(
    PODMAN_TOOLS,
    "podman: login, and a pull of a prefixed reference",
    async () => {
      const { lab, weir, image } = await world(mode);
      const conf = join(await tempFolder(stack), "registries.conf");
      await writeFile(conf, `[[registry]]\nlocation = "${weir.host}"\ninsecure = true\n`);
      const podman = await createPodman(stack, lab, { registriesConf: conf });
      if (open) expect(await podman.pull(image)).toBe(IMAGE.root.digest);
      else await expect(podman.pull(image)).rejects.toThrow(/unauthorized|authentication required|401/i);
      await expect(podman.login(weir.host, "alice", WRONG)).rejects.toThrow(/invalid username\/password|unauthorized/i);
      await podman.login(weir.host, "alice", PASSWORD);
      const other = `${weir.host}/docker.io/library/small:1`;
      expect(await podman.pull(other)).toBe(IMAGE.root.digest);
      await until("the access line", () => weir.output().includes('"account":"alice"'));
    },
    TIMEOUT_MS,
  );

  toolTest(
    DOCKER_TOOLS,
    "dockerd: login, and a pull of a prefixed reference",
    async () => {
      const { lab, weir, image } = await world(mode);
      const docker = await startDocker(stack, lab, weir.url);
      if (open) expect(await docker.pull(image)).toBe(IMAGE.root.digest);
      else await expect(docker.pull(image)).rejects.toThrow(/unauthorized|authentication|no basic auth|401/i);
      await expect(docker.login(weir.host, "alice", WRONG)).rejects.toThrow(/unauthorized|401|incorrect|wrong/i);
      await docker.login(weir.host, "alice", PASSWORD);
      expect(await docker.pull(`${weir.host}/docker.io/library/small:1`)).toBe(IMAGE.root.digest);
      await until("the access line", () => weir.output().includes('"account":"alice"'));
    },
    TIMEOUT_MS,
  );
});
