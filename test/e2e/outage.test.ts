import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
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
import { hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { type Image, multiArchImage } from "../support/images.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { Timings } from "../support/timings.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const TOOLS = [...new Set([...CONTAINERD_TOOLS, ...DOCKER_TOOLS, ...PODMAN_TOOLS, ...SKOPEO_TOOLS])];

/** The Weir that saw the outage come, and one that was started in the midst of it. */
const ROUNDS = ["running", "restarted"] as const;
type Round = (typeof ROUNDS)[number];

interface Outage {
  readonly name: string;
  /** What the registry answers meanwhile; 0 where it does not. */
  readonly statuses: readonly number[];
  /** What `Cache-Status` ends with. */
  readonly mark: RegExp;
  /** Begins it; what is returned ends it. */
  begin(hub: HubDouble): Promise<() => Promise<void>>;
}

const OUTAGES: readonly Outage[] = [
  {
    name: "refuses connections",
    statuses: [],
    mark: /; detail=stale-if-error$/,
    async begin(hub) {
      await hub.close();
      return () => hub.listen();
    },
  },
  {
    name: "accepts and is silent",
    statuses: [0],
    mark: /; detail=(soft-deadline|stale-if-error)$/,
    async begin(hub) {
      const ends = (["registry", "token", "cdn"] as const).map((role) =>
        hub.fail({ role, effect: { kind: "stall", afterBytes: 0 } }),
      );
      return async () => {
        for (const end of ends) end();
      };
    },
  },
  {
    name: "answers 500",
    statuses: [500],
    mark: /(; fwd-status=500)?; detail=stale-if-error$/,
    async begin(hub) {
      const ends = (["registry", "token", "cdn"] as const).map((role) =>
        hub.fail({ role, effect: { kind: "status", status: 500 } }),
      );
      return async () => {
        for (const end of ends) end();
      };
    },
  },
  {
    name: "answers 429",
    statuses: [429],
    mark: /(; fwd-status=429)?; detail=stale-if-error$/,
    async begin(hub) {
      hub.abuse = true;
      return async () => {
        hub.abuse = false;
      };
    },
  },
  {
    name: "has lost the repository",
    statuses: [401],
    mark: /; fwd-status=401; detail=gone$/,
    async begin(hub) {
      for (const round of ROUNDS) hub.removeRepository(repositoryOf(this.name, round));
      return async () => {};
    },
  },
];

/** How each client names itself, and pulls. */
interface Client {
  readonly name: string;
  readonly userAgent: RegExp;
  pull(reference: string): Promise<string>;
}

interface World {
  readonly lab: Lab;
  readonly hub: HubDouble;
  readonly weir: WeirProcess;
  readonly clients: readonly Client[];
}

const stack = new AsyncDisposableStack();
const timings = new Timings();
let built: Promise<World> | undefined;

afterAll(async () => {
  timings.print();
  await stack.disposeAsync();
});

function repositoryOf(outage: string, round: Round): string {
  return `library/${outage.replaceAll(" ", "-")}-${round}`;
}

/** Engines keep what they have pulled: each outage and round has an image of its own. */
function imageOf(outage: string, round: Round): Image {
  return multiArchImage(`${outage} ${round}`);
}

/** One laboratory, one Weir that holds everything, and one of each client, for all outages. */
async function build(): Promise<World> {
  const lab = await createLab(stack);
  const hub = await startHubDouble(stack, { network: lab });
  const weir = await startWeir(stack, {
    network: lab,
    config: { upstreams: { "docker.io": hubUpstream(hub) }, freshness: { default: "0s" } },
  });
  for (const { name } of OUTAGES) {
    for (const round of ROUNDS) {
      const image = imageOf(name, round);
      hub.add(repositoryOf(name, round), image, ["1"]);
      await pullByHead(weir.url, repositoryOf(name, round), "1", image, lab);
    }
  }
  const registries = join(await tempFolder(stack), "registries.conf");
  await writeFile(
    registries,
    `[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "${weir.host}/docker.io"
insecure = true
`,
  );
  const containerd = await startContainerd(stack, lab);
  const hosts = await containerd.hostsDir("docker.io", `[host."${weir.url}"]\n  capabilities = ["pull", "resolve"]\n`);
  const docker = await startDocker(stack, lab, weir.url);
  const podman = await createPodman(stack, lab, { registriesConf: registries });
  return {
    lab,
    hub,
    weir,
    clients: [
      { name: "ctr", userAgent: /^containerd\//, pull: (ref) => containerd.pull(ref, ["--hosts-dir", hosts]) },
      { name: "dockerd", userAgent: /^docker\//, pull: (ref) => docker.pull(ref) },
      { name: "podman", userAgent: /^containers\//, pull: (ref) => podman.pull(ref) },
      {
        name: "skopeo",
        userAgent: /^skopeo\//,
        pull: (ref) => skopeoCopy(stack, lab, ref, ["--registries-conf", registries, "--all"]),
      },
    ],
  };
}

interface AccessLine {
  readonly msg: string;
  readonly kind: string;
  readonly repository: string;
  readonly reference: string;
  readonly status: number;
  readonly cache: string;
  readonly userAgent: string;
}

function accessLines(weir: WeirProcess, repository: string): AccessLine[] {
  // The last one may not be there as a whole.
  const lines = weir.output().split("\n").slice(0, -1);
  return lines
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as AccessLine)
    .filter((line) => line.msg === "request" && line.repository === repository);
}

async function pullByAll({ lab, hub, weir, clients }: World, outage: Outage, round: Round): Promise<void> {
  const repository = repositoryOf(outage.name, round);
  const { digest } = imageOf(outage.name, round).root;
  hub.clearLedger();
  for (const { name, pull } of clients) {
    const pulled = await timings.take(`${outage.name}, Weir ${round}`, name, () => pull(`docker.io/${repository}:1`));
    expect([name, pulled]).toEqual([name, digest]);
  }

  const ofClient = (userAgent: RegExp): AccessLine[] =>
    accessLines(weir, repository).filter((line) => userAgent.test(line.userAgent));
  for (const { name, userAgent } of clients) {
    await until(`the access lines of ${name}`, () => ofClient(userAgent).some(({ reference }) => reference === "1"));
    const own = ofClient(userAgent);
    const byTag = own.filter(({ reference }) => reference === "1");
    expect([name, byTag.map(({ cache }) => cache)]).toEqual([name, ["stale"]]);
    expect([name, own.filter(({ cache, status }) => (cache !== "hit" && cache !== "stale") || status !== 200)]).toEqual(
      [name, []],
    );
  }
  const head = await httpRequest(`${weir.url}/v2/docker.io/${repository}/manifests/1`, {
    method: "HEAD",
    network: lab,
  });
  expect(head.headers["cache-status"]).toMatch(outage.mark);
  expect(head.headers["cache-status"]).toMatch(/^weir; fwd=stale; /);
  expect(head.headers.warning).toMatch(new RegExp(`^299 - "docker\\.io/${repository}:1 is answered as of 20`));
  const stale = await metricOf(weir.adminUrl, "weir_stale_served_total", { upstream: "docker.io" }, lab);
  expect(stale).toBeGreaterThanOrEqual(clients.length + 1);

  // Asked is what the tag is, if anything; and nothing was fetched.
  const asked = hub.ledger.filter(({ role }) => role !== "token");
  expect(
    asked.filter(({ role, method, path }) => role === "cdn" || method !== "HEAD" || !path.endsWith("/manifests/1")),
  ).toEqual([]);
  expect(asked.filter(({ status }) => !outage.statuses.includes(status))).toEqual([]);
  expect(lab.fallbacks).toEqual([]);
}

for (const outage of OUTAGES) {
  toolTest(
    TOOLS,
    `M4 the upstream ${outage.name}: every client pulls what is held, also from a Weir that was started meanwhile (M2)`,
    async () => {
      built ??= build();
      const world = await built;
      const { lab, hub, weir } = world;
      // What an earlier outage has left in its memory is not to help or to hurt.
      await weir.kill();
      await weir.start();
      const url = `${weir.url}/v2/docker.io/${repositoryOf(outage.name, "running")}/manifests/1`;
      // A busy machine's registry may be later than a held answer is kept back for it.
      await until("the upstream to be well", async () => {
        const { headers } = await httpRequest(url, { network: lab });
        return headers["cache-status"] === "weir; fwd=stale; ttl=0; detail=revalidated";
      });

      const end = await outage.begin(hub);
      try {
        await pullByAll(world, outage, "running");
        // Its configuration file and the storage root are all that a process finds.
        await weir.kill();
        await weir.start();
        await pullByAll(world, outage, "restarted");
      } finally {
        await end();
      }
    },
    TIMEOUT_MS,
  );
}
