/** The Helm chart: what it renders fits together, and Weir takes the configuration in it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import type { Config } from "../../../src/config/types.ts";
import { imageEnvironment, PROJECT, parseDeployed } from "../../support/deployed-config.ts";
import { CHART_TOOLS, type Chart, type KubernetesObject, openChart } from "../../support/helm/chart.ts";
import { run, tempFolder } from "../../support/processes.ts";
import { missing, toolTest } from "../../support/tools.ts";

const TIMEOUT_MS = 240_000;
const MAIN = new URL("../../../src/main.ts", import.meta.url).pathname;

/** How a configuration takes a text from a mounted Secret. */
function fromFile(path: string): string {
  return `\${file:/run/secrets/${path}}`;
}

const REPLICAS = {
  replicaCount: 3,
  cluster: { secretName: "weir-cluster" },
  secrets: ["s3"],
  config: {
    storage: {
      driver: "s3",
      s3: {
        bucket: "mirror",
        accessKeyId: fromFile("s3/id"),
        secretAccessKey: fromFile("s3/key"),
      },
    },
    state: { driver: "redis", redis: { url: "redis://redis.registry.svc:6379" } },
  },
};
const SECRETS = {
  "weir-cluster/secret": "0123456789abcdef",
  "s3/id": "an id",
  "s3/key": "a key",
  "hub/password": "hub!",
  "weir-admin/token": "the-token-of-a-secret",
  "weir-users/htpasswd": `alice:$2b$04$${"a".repeat(53)}`,
  "otlp/token": "the-collectors-token",
  "redis/password": "redis!",
};

/** What the tests look at; the rest of Kubernetes' own schema is not looked at here. */
const named = z.looseObject({ name: z.string() });
const container = z.looseObject({
  image: z.string(),
  args: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  env: z.array(z.looseObject({ name: z.string(), value: z.string().optional() })).default([]),
  ports: z.array(z.strictObject({ name: z.string(), containerPort: z.number() })).default([]),
  securityContext: z.looseObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.strictObject({ drop: z.tuple([z.literal("ALL")]) }),
  }),
  resources: z.looseObject({ limits: z.looseObject({ memory: z.string() }) }),
  volumeMounts: z.array(named.extend({ mountPath: z.string() })),
});
const podSpec = z.looseObject({
  automountServiceAccountToken: z.literal(false),
  terminationGracePeriodSeconds: z.number(),
  initContainers: z.array(container).default([]),
  containers: z.tuple([container]),
  volumes: z.array(named),
});
const selector = z.record(z.string(), z.string());
const workload = z.looseObject({
  spec: z.looseObject({
    selector: z.strictObject({ matchLabels: selector }),
    template: z.looseObject({ metadata: z.looseObject({ labels: selector, annotations: selector }), spec: podSpec }),
    volumeClaimTemplates: z.array(z.looseObject({ metadata: named })).default([]),
  }),
});

const built = new AsyncDisposableStack();
let stack: AsyncDisposableStack;
let chart: Chart;

beforeAll(async () => {
  if (missing(CHART_TOOLS) === undefined) chart = await openChart(built);
});

afterAll(() => built.disposeAsync());

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** The one object of that kind, by its name where there are several. */
function find(objects: readonly KubernetesObject[], kind: string, name = "weir"): KubernetesObject {
  const found = objects.filter((one) => one.kind === kind && one.metadata.name === name);
  expect([kind, name, found.length]).toEqual([kind, name, 1]);
  return found[0] as KubernetesObject;
}

function kinds(objects: readonly KubernetesObject[]): string[] {
  return objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort();
}

function textOf(objects: readonly KubernetesObject[], name: string, key: string): string {
  return z.looseObject({ data: selector }).parse(find(objects, "ConfigMap", name)).data[key] ?? "";
}

/** The configuration, as a pod of the StatefulSet reads it. */
async function weirConfig(objects: readonly KubernetesObject[]): Promise<Config> {
  const [{ env }] = workload.parse(find(objects, "StatefulSet")).spec.template.spec.containers;
  const given = env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value] as const]));
  const environment = { ...Object.fromEntries(given), POD_IP: "10.1.2.3" };
  const result = await parseDeployed(
    await tempFolder(stack),
    textOf(objects, "weir", "weir.yaml"),
    environment,
    SECRETS,
  );
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

/** Mounts lead to volumes, every volume is used, and labels select. */
function expectSound(object: KubernetesObject): z.output<typeof podSpec> {
  const { template, selector: chosen, volumeClaimTemplates } = workload.parse(object).spec;
  expect(template.metadata.labels).toMatchObject(chosen.matchLabels);
  const { containers, initContainers, volumes } = template.spec;
  const mounted = [...initContainers, ...containers].flatMap(({ volumeMounts }) =>
    volumeMounts.map(({ name }) => name),
  );
  const there = [...volumes.map(({ name }) => name), ...volumeClaimTemplates.map(({ metadata }) => metadata.name)];
  expect(new Set(mounted)).toEqual(new Set(there));
  expect(new Set(there).size).toBe(there.length);
  for (const { image } of [...initContainers, ...containers]) expect(image).toMatch(/:(?!latest)[\w.-]+$/);
  return template.spec;
}

toolTest(
  CHART_TOOLS,
  "with the defaults there is one Weir with a volume of its own",
  async () => {
    const objects = await chart.render({});
    expect(kinds(objects)).toEqual([
      "ConfigMap weir",
      "Service weir",
      "Service weir-admin",
      "ServiceAccount weir",
      "StatefulSet weir",
    ]);
    const pod = expectSound(find(objects, "StatefulSet"));
    const config = await weirConfig(objects);
    expect(config.upstreams.map(({ name }) => name)).toContain("docker.io");
    expect(config.cluster).toBeUndefined();
    expect(config.storage.filesystem.root).toBe("/var/lib/weir");
    expect(workload.parse(find(objects, "StatefulSet")).spec.volumeClaimTemplates).toHaveLength(1);
    const [weir] = pod.containers;
    expect(weir.volumeMounts.map(({ mountPath }) => mountPath)).toEqual(["/var/lib/weir", "/etc/weir"]);
    expect(weir.ports.map(({ containerPort }) => containerPort)).toEqual([
      config.server.listen.port,
      config.admin.listen.port,
    ]);
    // The five seconds before it is told to end count too.
    expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(config.shutdown.graceMs + 5_000);
    expect(weir).toMatchObject({
      livenessProbe: { httpGet: { path: "/healthz", port: "admin" } },
      readinessProbe: { httpGet: { path: "/readyz", port: "admin" } },
      lifecycle: { preStop: { exec: { command: ["sleep", "5"] } } },
    });
    expect(pod).toMatchObject({ securityContext: { runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532 } });
    const labels = workload.parse(find(objects, "StatefulSet")).spec.template.metadata.labels;
    for (const name of ["weir", "weir-admin"]) {
      const service = z.looseObject({ spec: z.looseObject({ selector }) }).parse(find(objects, "Service", name));
      expect(labels).toMatchObject(service.spec.selector);
    }
    expect(await chart.notes({})).toContain("No node pulls through it yet");
  },
  TIMEOUT_MS,
);

toolTest(
  CHART_TOOLS,
  "replicas share a bucket and a Redis, and find each other by the pods' addresses",
  async () => {
    const objects = await chart.render({
      ...REPLICAS,
      networkPolicy: { enabled: true },
      serviceMonitor: { enabled: true },
    });
    expect(kinds(objects)).toEqual([
      "ConfigMap weir",
      "NetworkPolicy weir",
      "PodDisruptionBudget weir",
      "Service weir",
      "Service weir-admin",
      "ServiceAccount weir",
      "ServiceMonitor weir",
      "StatefulSet weir",
    ]);
    const pod = expectSound(find(objects, "StatefulSet"));
    expect(pod.volumes).toContainEqual({ name: "data", emptyDir: { sizeLimit: "20Gi" } });
    const config = await weirConfig(objects);
    expect(config.cluster).toMatchObject({ advertise: "10.1.2.3:5002", listen: { host: "0.0.0.0", port: 5002 } });
    expect(config.cluster?.secret.reveal()).toBe("0123456789abcdef");
    expect(config.storage.s3?.bucket).toBe("mirror");
    expect(pod.containers[0].env).toContainEqual({
      name: "POD_IP",
      valueFrom: { fieldRef: { fieldPath: "status.podIP" } },
    });
    // The ports that the policy and the monitor name are the pod's and the Service's.
    expect(pod.containers[0].ports.map(({ name }) => name)).toEqual(["http", "admin", "peers"]);
    const { matchLabels } = workload.parse(find(objects, "StatefulSet")).spec.selector;
    expect(find(objects, "NetworkPolicy").spec).toMatchObject({
      podSelector: { matchLabels },
      ingress: [
        { ports: [{ port: "http" }] },
        { ports: [{ port: "peers" }], from: [{ podSelector: { matchLabels } }] },
      ],
    });
    expect(find(objects, "Service", "weir-admin").metadata.labels).toMatchObject({
      "app.kubernetes.io/component": "admin",
    });
    expect(find(objects, "ServiceMonitor").spec).toMatchObject({
      selector: { matchLabels: { ...matchLabels, "app.kubernetes.io/component": "admin" } },
      endpoints: [{ port: "admin", path: "/metrics" }],
    });

    const six = await weirConfig(await chart.render({ ...REPLICAS, ipFamily: "IPv6" }));
    expect([six.server.listen.host, six.cluster?.listen.host]).toEqual(["::", "::"]);
    expect(six.cluster?.advertise).toBe("[10.1.2.3]:5002");
  },
  TIMEOUT_MS,
);

toolTest(
  CHART_TOOLS,
  "credentials come from Secrets, and stand in no rendered object",
  async () => {
    const credentials = [{ label: "hub", username: "me", password: fromFile("hub/password") }];
    const values = { secrets: ["hub"], config: { upstreams: { "docker.io": { credentials } } } };
    const objects = await chart.render(values);
    const pod = expectSound(find(objects, "StatefulSet"));
    expect(pod.volumes).toContainEqual(expect.objectContaining({ secret: { secretName: "hub" } }));
    const [upstream] = (await weirConfig(objects)).upstreams;
    expect(upstream?.credentials).toMatchObject([{ label: "hub" }]);
    expect(JSON.stringify(objects)).not.toContain("hub!");

    const checksum = async (config: Readonly<Record<string, unknown>>): Promise<string | undefined> => {
      const set = find(await chart.render({ config }), "StatefulSet");
      return workload.parse(set).spec.template.metadata.annotations["checksum/restart"];
    };
    // What Weir takes over by itself restarts no pod; all else does.
    const before = await checksum({});
    for (const live of [
      values.config,
      { routing: { default: "none" } },
      { freshness: { default: "1h" } },
      { access: { allow: [] } },
    ]) {
      expect(await checksum(live)).toBe(before);
    }
    expect(await checksum({ download: { abandon: "1m" } })).not.toBe(before);
  },
  TIMEOUT_MS,
);

toolTest(
  CHART_TOOLS,
  "the README's examples work",
  async () => {
    const readme = await readFile(join(PROJECT, "deploy/helm/weir/README.md"), "utf8");
    const examples = [...readme.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ""]) => parse(text));
    expect(examples).toHaveLength(5);
    for (const values of examples) {
      const objects = await chart.render(values);
      expectSound(find(objects, "StatefulSet"));
      await weirConfig(objects);
    }
  },
  TIMEOUT_MS,
);

toolTest(
  CHART_TOOLS,
  "values that cannot work are refused, with what to do",
  async () => {
    const refused: [Readonly<Record<string, unknown>>, string][] = [
      [{ replicas: 2 }, "Additional property replicas is not allowed"],
      [{ replicaCount: 0 }, "replicaCount: Must be greater than or equal to 1"],
      [{ image: { repository: "a/weir", tag: "latest" } }, "image.tag"],
      [{ persistence: { size: "50GiB" } }, "persistence.size"],
      [{ config: { server: { listen: ":80" } } }, "config.server"],
      [{ config: { cluster: { listen: ":1" } } }, "config"],
      [{ ...REPLICAS, config: { state: REPLICAS.config.state } }, "needs config.storage.driver: s3"],
      [{ ...REPLICAS, config: { storage: REPLICAS.config.storage } }, "needs config.state.driver: redis"],
      [{ ...REPLICAS, cluster: { secretName: "" } }, "needs cluster.secretName"],
      [{ nodeConfig: { enabled: true } }, "needs nodeConfig.url"],
    ];
    for (const [values, message] of refused) await expect(chart.render(values), message).rejects.toThrow(message);
  },
  TIMEOUT_MS,
);

toolTest(
  CHART_TOOLS,
  "nodes get what weir hosts makes of the configuration, and no credential",
  async () => {
    const values = {
      nodeConfig: { enabled: true, url: "http://127.0.0.1:30500" },
      config: {
        upstreams: {
          "docker.io": {
            credentials: [{ label: "hub", username: "me", password: fromFile("hub/password") }],
            endpoints: ["https://registry-1.docker.io", { url: "https://mirror.example", credentials: ["hub"] }],
          },
          "reg.example:5000": { aliases: ["old.example"] },
        },
      },
    };
    const objects = await chart.render(values);
    const nodes = find(objects, "DaemonSet", "weir-nodes");
    const pod = expectSound(nodes);
    expect(workload.parse(nodes).spec.selector.matchLabels).not.toEqual(
      workload.parse(find(objects, "StatefulSet")).spec.selector.matchLabels,
    );
    expect(textOf(objects, "weir-nodes", "weir.yaml")).not.toContain("hub/password");
    const script = await readFile(join(PROJECT, "deploy/helm/weir/files/node-config.sh"), "utf8");
    expect(textOf(objects, "weir-nodes", "node-config.sh").trim()).toBe(script.trim());

    // Both containers' commands, with the mounted folders put where they lead here.
    const folder = await tempFolder(stack);
    const [generate] = pod.initContainers;
    const [install] = pod.containers;
    const here = (argv: readonly string[] = []): string[] =>
      argv.map((word) =>
        word
          .replace(/^\/etc\/weir\/node-config\.sh$/, join(PROJECT, "deploy/helm/weir/files/node-config.sh"))
          .replace(/^\/(etc\/weir|generated|certs\.d)/, `${folder}/$1`),
      );
    await run(["mkdir", "-p", join(folder, "etc/weir")]);
    await run([
      "sh",
      "-c",
      `cat >"${folder}/etc/weir/weir.yaml" <<'END'\n${textOf(objects, "weir-nodes", "weir.yaml")}\nEND`,
    ]);
    await run([process.execPath, MAIN, ...here(generate?.args)], { env: await imageEnvironment() });
    const once = here(install.command).filter((word) => word !== "--every" && word !== "600");
    await run(once);
    const hub = await readFile(join(folder, "certs.d/docker.io/hosts.toml"), "utf8");
    expect(hub).toContain('[host."http://127.0.0.1:30500"]');
    expect(await readFile(join(folder, "certs.d/reg.example_5000_/hosts.toml"), "utf8")).toContain("reg.example:5000");
    expect(await readFile(join(folder, "certs.d/old.example/hosts.toml"), "utf8")).toContain("30500");

    const gone = await chart.render({ ...values, nodeConfig: { ...values.nodeConfig, remove: true } });
    expect(expectSound(find(gone, "DaemonSet", "weir-nodes")).containers[0].command).toContain("remove");
  },
  TIMEOUT_MS,
);
