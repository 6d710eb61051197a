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
import { hubUpstream } from "../support/hub-weir.ts";
import { bigImage } from "../support/images.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MIB = 1024 * 1024;
const LAYER_BYTES = 300 * MIB;
const CUT_BYTES = 20 * MIB;
/** 300 MiB move about four times, through two cores that other tests use as well. */
const TIMEOUT_MS = 480_000;

const image = bigImage("cut upstream", LAYER_BYTES);
const layer = image.blobs[1] ?? image.root;

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface World {
  readonly lab: Lab;
  readonly hub: HubDouble;
  readonly weir: WeirProcess;
}

/** A Docker Hub whose CDN ends every connection after 20 MiB, and a cold cache in front of it. */
async function world(): Promise<World> {
  const lab = await createLab(stack);
  const hub = await startHubDouble(stack, { network: lab });
  hub.add("library/big", image, ["1"]);
  hub.fail({ role: "cdn", effect: { kind: "cut", afterBytes: CUT_BYTES } });
  const weir = await startWeir(stack, {
    network: lab,
    config: {
      routing: { default: "docker.io" },
      upstreams: {
        "docker.io": hubUpstream(hub),
      },
    },
  });
  return { lab, hub, weir };
}

/** The layer crossed the wire once: each connection took up where the one before it ended. */
function expectFetchedOnce(hub: HubDouble): void {
  const gets = hub.ledger.filter((entry) => entry.role === "cdn" && entry.path.includes(layer.digest.slice(7)));
  expect(gets.length).toBeGreaterThanOrEqual(layer.bytes.length / CUT_BYTES);
  const starts = gets.map((entry) => Number(/^bytes=(\d+)-/.exec(entry.range ?? "")?.[1] ?? 0));
  expect(starts).toEqual([...starts].sort((a, b) => a - b));
  expect(new Set(starts).size).toBe(starts.length);
  // What the double had sent into a connection that ended may not all have been read.
  expect(hub.bytes("cdn")).toBeLessThan(layer.bytes.length * 1.1);
}

toolTest(
  CONTAINERD_TOOLS,
  "ctr pulls 300 MiB through an upstream that cuts every connection after 20 MiB",
  async () => {
    const { lab, hub, weir } = await world();
    const containerd = await startContainerd(stack, lab);
    const hosts = await containerd.hostsDir(
      "docker.io",
      `[host."${weir.url}"]\n  capabilities = ["pull", "resolve"]\n`,
    );
    expect(await containerd.pull("docker.io/library/big:1", ["--hosts-dir", hosts])).toBe(image.root.digest);
    expectFetchedOnce(hub);
  },
  TIMEOUT_MS,
);

toolTest(
  DOCKER_TOOLS,
  "dockerd pulls 300 MiB through an upstream that cuts every connection after 20 MiB",
  async () => {
    const { lab, hub, weir } = await world();
    const docker = await startDocker(stack, lab, weir.url);
    expect(await docker.pull("big:1")).toBe(image.root.digest);
    expectFetchedOnce(hub);
  },
  TIMEOUT_MS,
);

toolTest(
  PODMAN_TOOLS,
  "podman, which cannot resume, pulls 300 MiB through an upstream that cuts every connection after 20 MiB",
  async () => {
    const { lab, hub, weir } = await world();
    const podman = await createPodman(stack, lab, `${weir.host}/docker.io`);
    expect(await podman.pull("docker.io/library/big:1")).toBe(image.root.digest);
    expectFetchedOnce(hub);
  },
  TIMEOUT_MS,
);

toolTest(
  SKOPEO_TOOLS,
  "skopeo, which cannot resume, copies 300 MiB through an upstream that cuts every connection after 20 MiB",
  async () => {
    const { lab, hub, weir } = await world();
    expect(await skopeoCopy(stack, lab, `${weir.host}/docker.io/library/big:1`)).toBe(image.root.digest);
    expectFetchedOnce(hub);
  },
  TIMEOUT_MS,
);
