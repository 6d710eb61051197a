/** docker-compose.yml: sound in itself, and what it gives to Weir is a configuration that Weir takes. */
import { cp, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { imageEnvironment, PROJECT, parseDeployed } from "../../support/deployed-config.ts";
import { createLab, LAB_TOOLS } from "../../support/lab.ts";
import { ready, run, start, tempFolder } from "../../support/processes.ts";
import { toolTest } from "../../support/tools.ts";

/** As much of the Compose specification as the file uses: a key that is not here is a mistake, or is to be added. */
const condition = z.enum(["service_healthy", "service_completed_successfully"]);
const texts = z.record(z.string(), z.string());
/** Without a value: what the shell of whoever starts it has. */
const variables = z.record(z.string(), z.string().nullable());
const service = z.strictObject({
  build: z.strictObject({ context: z.string(), args: texts }).optional(),
  image: z.string().regex(/^[a-z0-9./-]+:(?!latest)(?:[A-Za-z0-9.-]+|\$\{WEIR_VERSION:-[0-9.]+\})$/),
  restart: z.literal("unless-stopped").optional(),
  profiles: z.array(z.literal("stack")).optional(),
  hostname: z.string().optional(),
  user: z
    .string()
    .regex(/^\d+:\d+$/)
    .optional(),
  network_mode: z.literal("none").optional(),
  read_only: z.literal(true),
  cap_drop: z.tuple([z.literal("ALL")]),
  cap_add: z.tuple([z.literal("CHOWN")]).optional(),
  security_opt: z.tuple([z.literal("no-new-privileges:true")]),
  stop_grace_period: z
    .string()
    .regex(/^\d+s$/)
    .optional(),
  entrypoint: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  environment: variables.optional(),
  secrets: z.array(z.string()).optional(),
  // Of this machine only.
  ports: z.array(z.string().regex(/^127\.0\.0\.1:\d+:\d+$/)).optional(),
  volumes: z.array(z.string().regex(/^(?:[a-z0-9-]+|\.\/[\w./-]+):\/[\w./-]+(?::ro)?$/)).optional(),
  tmpfs: z.array(z.string()).optional(),
  depends_on: z.record(z.string(), z.strictObject({ condition })).optional(),
  healthcheck: z
    .strictObject({ test: z.array(z.string()), interval: z.string(), timeout: z.string(), retries: z.number() })
    .optional(),
  deploy: z.strictObject({
    resources: z.strictObject({ limits: z.strictObject({ cpus: z.string(), memory: z.string().regex(/^\d+[MG]$/) }) }),
  }),
});
const compose = z.strictObject({
  "x-weir": z.unknown(),
  "x-fleet": z.unknown(),
  services: z.record(z.string(), service),
  secrets: z.record(z.string(), z.strictObject({ file: z.string() })),
  volumes: z.record(z.string(), z.strictObject({})),
});

async function composeFile(): Promise<z.output<typeof compose>> {
  return compose.parse(parse(await readFile(join(PROJECT, "docker-compose.yml"), "utf8"), { merge: true }));
}

const secrets = {
  cluster_secret: "0123456789abcdef",
  admin_token: "the-token-of-a-secret",
  redis_password: "r",
  s3_user: "u",
  s3_password: "p",
};
/** What the operator's shell has as WEIR_ADMIN_TOKEN. */
const SHELL_TOKEN = "the-token-of-a-shell";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

describe("docker-compose.yml", () => {
  test("names nothing that is not there, and leaves nothing unused", async () => {
    const file = await composeFile();
    const services = Object.values(file.services);
    const mounts = services.flatMap(({ volumes = [] }) => volumes.map((mount) => mount.split(":")[0] ?? ""));
    const named = mounts.filter((source) => !source.startsWith("./"));
    expect(new Set(named)).toEqual(new Set(Object.keys(file.volumes)));
    for (const path of mounts.filter((source) => source.startsWith("./"))) {
      expect([path, (await stat(join(PROJECT, path))).size > 0]).toEqual([path, true]);
    }
    expect(new Set(services.flatMap((one) => one.secrets ?? []))).toEqual(new Set(Object.keys(file.secrets)));
    const ports = services.flatMap((one) => one.ports ?? []).map((port) => port.split(":")[1]);
    expect(new Set(ports).size).toBe(ports.length);
  });

  test("starts only what belongs together, each when what it needs is there", async () => {
    const file = await composeFile();
    expect(Object.keys(file.services).filter((name) => file.services[name]?.profiles === undefined)).toEqual(["weir"]);
    for (const [name, { depends_on = {} }] of Object.entries(file.services)) {
      for (const [needed, { condition }] of Object.entries(depends_on)) {
        const other = file.services[needed];
        expect([name, needed, other?.profiles]).toEqual([name, needed, file.services[name]?.profiles]);
        // One that ends is not started again; one that serves says when it does.
        const serves = other?.restart !== undefined;
        expect(condition).toBe(serves ? "service_healthy" : "service_completed_successfully");
        expect([needed, !serves || other.build !== undefined || other.healthcheck !== undefined]).toEqual([
          needed,
          true,
        ]);
      }
    }
  });

  test("gives each Weir a configuration that it takes", async () => {
    const file = await composeFile();
    const weirs = Object.entries(file.services).filter(([, { build }]) => build !== undefined);
    expect(weirs.map(([name]) => name)).toEqual(["weir", "weir-a", "weir-b"]);
    for (const [name, { environment = {}, hostname, volumes = [], stop_grace_period }] of weirs) {
      const mount = volumes.find((one) => one.endsWith(`:${environment.WEIR_CONFIG}:ro`));
      const text = mount === undefined ? "" : await readFile(join(PROJECT, mount.split(":")[0] ?? ""), "utf8");
      const own = Object.entries(environment).map(([variable, value]) => [variable, value ?? SHELL_TOKEN]);
      const env = { ...Object.fromEntries(own), ...(hostname === undefined ? {} : { HOSTNAME: hostname }) };
      const result = await parseDeployed(await tempFolder(stack), text, env, secrets);
      if (!result.ok) throw new Error(`${name}: ${JSON.stringify(result.problems)}`);
      const { config } = result;
      expect(config.admin.token?.reveal()).toBe(hostname === undefined ? SHELL_TOKEN : secrets.admin_token);
      const data = (await imageEnvironment()).WEIR_STORAGE_FILESYSTEM_ROOT ?? "";
      expect(volumes.some((one) => one.endsWith(`:${data}`))).toBe(true);
      expect(config.storage.spool.dir.startsWith(`${data}/`)).toBe(true);
      expect(Number.parseInt(stop_grace_period ?? "", 10) * 1000).toBeGreaterThan(config.shutdown.graceMs);
      if (hostname !== undefined) {
        expect(config.cluster?.advertise).toBe(`${hostname}:5002`);
        expect([config.state.driver, config.storage.driver]).toEqual(["redis", "s3"]);
      }
    }
  });

  test("Prometheus asks every Weir of the stack, and Grafana asks Prometheus", async () => {
    const file = await composeFile();
    const prometheus = parse(await readFile(join(PROJECT, "deploy/compose/prometheus.yml"), "utf8"));
    const admin = (await imageEnvironment()).WEIR_ADMIN_LISTEN?.split(":")[1];
    const weirs = Object.entries(file.services).filter(
      ([, one]) => one.build !== undefined && one.profiles !== undefined,
    );
    expect(prometheus.scrape_configs[0].static_configs[0].targets).toEqual(weirs.map(([name]) => `${name}:${admin}`));
    const provisioning = join(PROJECT, "deploy/compose/grafana/provisioning");
    const sources = parse(await readFile(join(provisioning, "datasources/prometheus.yaml"), "utf8"));
    expect(sources.datasources[0]).toMatchObject({
      type: "prometheus",
      url: "http://prometheus:9090",
      isDefault: true,
    });
    const { providers } = parse(await readFile(join(provisioning, "dashboards/weir.yaml"), "utf8"));
    expect(file.services.grafana?.volumes).toContain(`./dashboards:${providers[0].options.path}:ro`);
    expect(file.services.prometheus?.volumes).toContain("./dashboards:/etc/weir/dashboards:ro");
    const held = await readdir(join(PROJECT, "dashboards"));
    expect(prometheus.rule_files).toEqual(["/etc/weir/dashboards/*.rules.yaml"]);
    expect(held.filter((name) => name.endsWith(".rules.yaml"))).toHaveLength(1);
    expect(held.filter((name) => name.endsWith(".json")).length).toBeGreaterThan(0);
  });

  test("make-secrets.sh makes each secret once", async () => {
    const file = await composeFile();
    const folder = await tempFolder(stack);
    await cp(join(PROJECT, "deploy/compose/make-secrets.sh"), join(folder, "make-secrets.sh"));
    await run(["sh", join(folder, "make-secrets.sh")]);
    const contents = async (): Promise<Record<string, string>> => {
      const names = await readdir(join(folder, "secrets"));
      const read = names.map(async (name) => [name, await readFile(join(folder, "secrets", name), "utf8")] as const);
      return Object.fromEntries(await Promise.all(read));
    };
    const made = await contents();
    expect(Object.keys(made).sort()).toEqual(Object.keys(file.secrets).sort());
    for (const text of Object.values(made)) expect(text).toMatch(/^[0-9a-f]{36}$/);
    expect((await stat(join(folder, "secrets"))).mode & 0o777).toBe(0o700);
    expect((await run(["sh", join(folder, "make-secrets.sh")])).stdout).toBe("");
    expect(await contents()).toEqual(made);
  });

  toolTest(
    [...LAB_TOOLS, "redis-server", "redis-cli"],
    "Redis takes its settings, and only who knows the password",
    async () => {
      const { redis } = (await composeFile()).services;
      const lab = await createLab(stack);
      const folder = await tempFolder(stack);
      await mkdir(join(folder, "secrets"));
      await writeFile(join(folder, "secrets/redis_password"), "a secret of its own");
      const here = (text: string): string => text.replaceAll("$$", "$").replaceAll("/run/secrets", `${folder}/secrets`);
      const server = await start(lab.command((redis?.command ?? []).map(here)), { cwd: folder });
      stack.defer(async () => void (await server.stop()));
      const [kind, check = ""] = redis?.healthcheck?.test ?? [];
      expect(kind).toBe("CMD-SHELL");
      const healthy = async (): Promise<boolean> =>
        (await run(lab.command(["sh", "-c", here(check)]), { allowFailure: true })).code === 0;
      await ready("redis", server, healthy);
      const { stdout } = await run(lab.command(["redis-cli", "ping"]), { allowFailure: true });
      expect(stdout).toContain("NOAUTH");
    },
  );

  toolTest(["docker-compose"], "docker-compose finds nothing wrong with the file", async () => {
    const compose = ["docker-compose", "--file", join(PROJECT, "docker-compose.yml")];
    expect((await run([...compose, "config", "--services"])).stdout.trim().split("\n")).toContain("weir");
    await run([...compose, "--profile", "stack", "config", "--quiet"]);
  });

  toolTest(["promtool"], "promtool finds nothing wrong with Prometheus' configuration", async () => {
    await run(["promtool", "check", "config", join(PROJECT, "deploy/compose/prometheus.yml")]);
  });
});
