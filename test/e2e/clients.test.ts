import { afterEach, beforeEach, expect } from "vitest";
import { CONTAINERD_TOOLS, SKOPEO_TOOLS, skopeoCopy, startContainerd } from "../support/engines.ts";
import {
  artifact,
  dockerImage,
  dockerList,
  helmChart,
  type Image,
  multiArchImage,
  push,
  smallImage,
} from "../support/images.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { httpRequest } from "../support/network.ts";
import { type Registry, startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;

const IMAGES: Readonly<Record<string, Image>> = {
  small: smallImage("clients"),
  multi: multiArchImage("clients"),
  docker: dockerImage("clients"),
  "docker-list": dockerList("clients"),
  artifact: artifact("clients"),
  chart: helmChart("clients"),
};

interface World {
  readonly lab: Lab;
  readonly origin: Registry;
  readonly weir: WeirProcess;
}

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** An origin that plays docker.io and quay.io, and a cold cache in front of it, where no client can get past it unseen. */
async function world(): Promise<World> {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  for (const [name, image] of Object.entries(IMAGES)) {
    await push(origin.url, `library/${name}`, "1", image, lab);
    await push(origin.url, `team/${name}`, "1", image, lab);
  }
  const upstream = { type: "generic", endpoints: [origin.url] };
  const weir = await startWeir(stack, {
    network: lab,
    config: { routing: { default: "docker.io" }, upstreams: { "docker.io": upstream, "quay.io": upstream } },
  });
  return { lab, origin, weir };
}

function digestOf(name: string): string {
  return IMAGES[name]?.root.digest ?? "";
}

/** Pulls cold, warm, and by digest with the origin gone. */
async function coldWarmHeld(
  origin: Registry,
  name: string,
  reference: string,
  pull: (reference: string) => Promise<string>,
): Promise<void> {
  expect([reference, await pull(`${reference}:1`)]).toEqual([reference, digestOf(name)]);
  expect([reference, await pull(`${reference}:1`)]).toEqual([reference, digestOf(name)]);
  await origin.stop();
  expect([reference, await pull(`${reference}@${digestOf(name)}`)]).toEqual([reference, digestOf(name)]);
  await origin.start();
}

toolTest(
  CONTAINERD_TOOLS,
  "ctr through a mirror: ?ns= alone says which upstream",
  async () => {
    const { lab, origin, weir } = await world();
    const containerd = await startContainerd(stack, lab);
    const hosts = await containerd.hostsDir("_default", `[host."${weir.url}"]\n  capabilities = ["pull", "resolve"]\n`);
    const pull = (reference: string) => containerd.pull(reference, ["--hosts-dir", hosts]);
    await coldWarmHeld(origin, "small", "docker.io/library/small", pull);
    // The default upstream is another one, so that only the query can have led here.
    await coldWarmHeld(origin, "multi", "quay.io/team/multi", pull);
    await coldWarmHeld(origin, "docker", "quay.io/team/docker", pull);
  },
  TIMEOUT_MS,
);

toolTest(
  CONTAINERD_TOOLS,
  "ctr through a mirror with the upstream in the path (override_path), and with it in front of /v2",
  async () => {
    const { lab, origin, weir } = await world();
    const containerd = await startContainerd(stack, lab);
    const inPath = await containerd.hostsDir(
      "quay.io",
      `[host."${weir.url}/v2/quay.io"]\n  capabilities = ["pull", "resolve"]\n  override_path = true\n`,
    );
    await coldWarmHeld(origin, "small", "quay.io/team/small", (reference) =>
      containerd.pull(reference, ["--hosts-dir", inPath]),
    );
    const inFront = await containerd.hostsDir(
      "quay.io",
      `[host."${weir.url}/quay.io"]\n  capabilities = ["pull", "resolve"]\n`,
    );
    await coldWarmHeld(origin, "multi", "quay.io/team/multi", (reference) =>
      containerd.pull(reference, ["--hosts-dir", inFront]),
    );
  },
  TIMEOUT_MS,
);

toolTest(
  CONTAINERD_TOOLS,
  "ctr straight from the cache by a prefixed reference",
  async () => {
    const { lab, origin, weir } = await world();
    const containerd = await startContainerd(stack, lab);
    const pull = (reference: string) => containerd.pull(reference, ["--plain-http"]);
    await coldWarmHeld(origin, "small", `${weir.host}/docker.io/library/small`, pull);
    await coldWarmHeld(origin, "multi", `${weir.host}/quay.io/team/multi`, pull);
  },
  TIMEOUT_MS,
);

toolTest(
  SKOPEO_TOOLS,
  "skopeo by a prefixed reference: images, whole indexes, artifacts and charts",
  async () => {
    const { lab, origin, weir } = await world();
    const pull = (reference: string) => skopeoCopy(stack, lab, reference);
    const pullAll = (reference: string) => skopeoCopy(stack, lab, reference, ["--all"]);
    await coldWarmHeld(origin, "small", `${weir.host}/docker.io/library/small`, pull);
    await coldWarmHeld(origin, "docker", `${weir.host}/docker.io/library/docker`, pull);
    await coldWarmHeld(origin, "multi", `${weir.host}/docker.io/library/multi`, pullAll);
    await coldWarmHeld(origin, "docker-list", `${weir.host}/docker.io/library/docker-list`, pullAll);
    await coldWarmHeld(origin, "artifact", `${weir.host}/docker.io/library/artifact`, pull);
    await coldWarmHeld(origin, "chart", `${weir.host}/quay.io/team/chart`, pull);
  },
  TIMEOUT_MS,
);

toolTest(
  [...SKOPEO_TOOLS, "docker-registry"],
  "a stock registry, read-only on the cache's folder, serves what was pulled",
  async () => {
    const { lab, weir } = await world();
    const pulled = ["small", "multi", "docker", "artifact"];
    for (const name of pulled) {
      await skopeoCopy(stack, lab, `${weir.host}/docker.io/library/${name}:1`, ["--all"]);
    }
    await weir.stop();
    const stock = await startRegistry(stack, { network: lab, readOnlyRoot: weir.root });
    const get = async (path: string) =>
      await httpRequest(`${stock.url}/v2/${path}`, {
        network: lab,
        headers: {
          accept: Object.values(IMAGES)
            .map((image) => image.root.mediaType)
            .join(", "),
        },
      });
    for (const name of pulled) {
      const image = IMAGES[name] ?? smallImage("");
      const repository = `docker.io/library/${name}`;
      for (const reference of ["1", image.root.digest]) {
        const manifest = await get(`${repository}/manifests/${reference}`);
        expect([name, reference, manifest.status]).toEqual([name, reference, 200]);
        expect(manifest.body.equals(image.root.bytes)).toBe(true);
        expect(manifest.headers["docker-content-digest"]).toBe(image.root.digest);
      }
      for (const manifest of image.manifests) {
        expect((await get(`${repository}/manifests/${manifest.digest}`)).status).toBe(200);
      }
      for (const blob of image.blobs) {
        const reply = await get(`${repository}/blobs/${blob.digest}`);
        expect([name, blob.mediaType, reply.body.equals(blob.bytes)]).toEqual([name, blob.mediaType, true]);
      }
      expect(JSON.parse((await get(`${repository}/tags/list`)).body.toString())).toEqual({
        name: repository,
        tags: ["1"],
      });
    }
    const catalog = JSON.parse((await get("_catalog")).body.toString());
    expect(catalog).toEqual({ repositories: pulled.map((name) => `docker.io/library/${name}`).sort() });
  },
  TIMEOUT_MS,
);
