/** Mirrors that ask nobody who they are, and serve one network only. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { CONTAINERD_TOOLS, createPodman, PODMAN_TOOLS, startContainerd } from "../support/engines.ts";
import { push, smallImage } from "../support/images.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { run, tempFolder } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const IMAGE = smallImage("networks");
const REFERENCE = "docker.io/library/small:1";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

async function world(access: Readonly<Record<string, unknown>>): Promise<{ lab: Lab; weir: WeirProcess }> {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  await push(origin.url, "library/small", "1", IMAGE, lab);
  const weir = await startWeir(stack, {
    network: lab,
    config: { upstreams: { "docker.io": { type: "generic", endpoints: [origin.url] } }, access },
  });
  return { lab, weir };
}

/** Whoever connects to 127.0.0.1 in the laboratory from now on comes from `address`, of 127.0.0.0/8. */
async function comeFrom(lab: Lab, address: string): Promise<void> {
  const route = ["route", "replace", "local", "127.0.0.1", "dev", "lo", "src", address, "table", "local"];
  await run(["ip", "-n", lab.name, ...route]);
}

toolTest(
  CONTAINERD_TOOLS,
  "containerd by ns, with access.allow: pulls from that network, cold and held, and from nowhere else",
  async () => {
    const { lab, weir } = await world({ mode: "anonymous", allow: ["127.0.9.0/24"] });
    const containerd = await startContainerd(stack, lab);
    // With no way past the cache.
    const hosts = await containerd.hostsDir(
      "docker.io",
      `server = "${weir.url}"\n[host."${weir.url}"]\n  capabilities = ["pull", "resolve"]\n`,
    );
    const pull = () => containerd.pull(REFERENCE, ["--hosts-dir", hosts]);
    await expect(pull()).rejects.toThrow(/403/);
    await comeFrom(lab, "127.0.9.7");
    expect(await pull()).toBe(IMAGE.root.digest);
    expect(await pull()).toBe(IMAGE.root.digest);
    await comeFrom(lab, "127.0.8.7");
    await expect(pull()).rejects.toThrow(/403/);
    expect(lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);

toolTest(
  PODMAN_TOOLS,
  "podman, with a network in access.rules: pulls from there and from nowhere else",
  async () => {
    const { lab, weir } = await world({
      rules: [{ effect: "allow", from: ["127.0.9.0/24"], what: ["docker.io/**"] }],
    });
    const conf = join(await tempFolder(stack), "registries.conf");
    await writeFile(conf, `[[registry]]\nprefix = "docker.io"\nlocation = "${weir.host}/docker.io"\ninsecure = true\n`);
    const pull = async () => (await createPodman(stack, lab, { registriesConf: conf })).pull(REFERENCE);
    await expect(pull()).rejects.toThrow(/denied|403|forbidden/i);
    await comeFrom(lab, "127.0.9.7");
    expect(await pull()).toBe(IMAGE.root.digest);
    await comeFrom(lab, "127.0.8.7");
    await expect(pull()).rejects.toThrow(/denied|403|forbidden/i);
    expect(lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);
