/** The image that the Dockerfile makes, built and run as a cluster would run it: no root, no capability, nothing writable. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildImage, CONTAINER_TOOLS, dockerfileNode } from "../support/container-image.ts";
import { push, smallImage } from "../support/images.ts";
import { createLab } from "../support/lab.ts";
import { answers, httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { basic, htpasswd } from "../support/sign-in.ts";
import { toolTest } from "../support/tools.ts";

const PROJECT = join(import.meta.dirname, "../..");
const TOKEN = "the-token-of-the-operator-0123456789";
/** The packages are installed twice, and copied as often. */
const TIMEOUT_MS = 900_000;

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

test("the image's Node is the one that the tests run on", async () => {
  const lock = JSON.parse(await readFile(join(PROJECT, "package-lock.json"), "utf8"));
  const { base, version } = await dockerfileNode();
  expect(version).toBe(lock.packages["node_modules/node"].version);
  expect(base).toBe(`docker.io/library/node:${version}-slim`);
});

test("what the Dockerfile copies is what .dockerignore lets through, and no more", async () => {
  const dockerfile = await readFile(join(PROJECT, "Dockerfile"), "utf8");
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(
    ([, names]) => names?.split(" ") ?? [],
  );
  const ignore = await readFile(join(PROJECT, ".dockerignore"), "utf8");
  const rules = ignore.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  expect(rules[0]).toBe("*");
  expect(new Set(rules.slice(1))).toEqual(new Set(copied.map((name) => `!${name}`)));
});

/** Tries to write in each folder; prints those where it could. */
const WRITES = `
  for (const folder of ["/", "/app", "/etc", "/tmp", "/usr", "/var", "/var/lib", "/var/lib/weir"]) {
    try {
      require("node:fs").writeFileSync(folder + "/probe", "");
      console.log(folder);
    } catch {}
  }
`;

toolTest(
  CONTAINER_TOOLS,
  "the image builds, and serves as uid 65532 with nothing writable but its volume",
  async () => {
    const lab = await createLab(stack);
    const image = await buildImage(stack, lab);
    const { config } = image;
    expect(config.User).toBe("65532:65532");
    expect(Object.keys(config.Volumes)).toEqual(["/var/lib/weir"]);
    expect(Object.keys(config.ExposedPorts)).toEqual(["5000/tcp", "5001/tcp"]);
    expect(config.Labels["org.opencontainers.image.version"]).toBe("9.8.7");

    const list = ["-e", "console.log(require('node:fs').globSync('node_modules/{*,@*/*}').join('\\n'))"];
    const listed = await image.run({ flags: ["--entrypoint", "node"], args: list });
    const packages = new Set(listed.split("\n"));
    const { packages: locked } = JSON.parse(await readFile(join(PROJECT, "package-lock.json"), "utf8"));
    const { dependencies } = JSON.parse(await readFile(join(PROJECT, "package.json"), "utf8"));
    expect(Object.keys(dependencies).filter((name) => !packages.has(`node_modules/${name}`))).toEqual([]);
    // Nothing that only development needs.
    expect(Object.keys(locked).filter((name) => locked[name].dev === true && packages.has(name))).toEqual([]);
    expect(await image.run({ args: ["check"] })).toContain("ok: the built-in default");

    const content = smallImage("container");
    const origin = await startRegistry(stack, { network: lab });
    await push(origin.url, "team/small", "1", content, lab);
    const folder = await tempFolder(stack);
    const file = join(folder, "weir.yaml");
    const upstreams = { "reg.example": { type: "generic", endpoints: [origin.url] } };
    const access = { mode: ["anonymous", "htpasswd"], htpasswd: { file: "/etc/weir/htpasswd" } };
    await writeFile(file, JSON.stringify({ upstreams, access }));
    const passwords = join(folder, "htpasswd");
    await writeFile(passwords, await htpasswd({ alice: "right" }));
    const mounted = [
      ...["-e", "WEIR_CONFIG=/etc/weir/weir.yaml", "-v", `${file}:/etc/weir/weir.yaml:ro`],
      ...["-e", `WEIR_ADMIN_TOKEN=${TOKEN}`, "-v", `${passwords}:/etc/weir/htpasswd:ro`],
    ];
    await image.run({ name: "weir", flags: mounted });
    await until("the container to be ready", () => answers("http://127.0.0.1:5001/readyz", 200, lab));

    const health = (): Promise<number | null> =>
      image.podman(["exec", "weir", ...config.Healthcheck.Test.slice(1)], true).then(({ code }) => code);
    expect(await health()).toBe(0);
    const probe = await image.podman(["exec", "weir", "node", "-e", `console.log(process.getuid()); ${WRITES}`]);
    expect(probe.stdout.trim().split("\n")).toEqual(["65532", "/var/lib/weir"]);

    const stats = await image.podman(["exec", "weir", "node", "dist/main.js", "stats", "--json"]);
    expect(JSON.parse(stats.stdout.trim().split("\n").at(-1) ?? "")).toMatchObject({ done: true });

    const path = "/v2/reg.example/team/small";
    const manifest = await httpRequest(`http://127.0.0.1:5000${path}/manifests/1`, { network: lab });
    expect([manifest.status, manifest.headers["docker-content-digest"]]).toEqual([200, content.root.digest]);
    // The package that compares passwords is a binary of the image's architecture.
    const statusFor = async (password: string): Promise<number> => {
      const headers = { authorization: basic("alice", password) };
      return (await httpRequest(`http://127.0.0.1:5000${path}/manifests/1`, { network: lab, headers })).status;
    };
    expect([await statusFor("right"), await statusFor("wrong")]).toEqual([200, 401]);

    const admin = (at: string) =>
      httpRequest(`http://127.0.0.1:5001${at}`, { network: lab, headers: { authorization: `Bearer ${TOKEN}` } });
    const page = await admin("/page");
    expect([page.status, page.body.toString()]).toEqual([200, expect.stringContaining("reg.example")]);
    const assets = [...page.body.toString().matchAll(/"(\/page\/assets\/[^"]+)"/g)].map(([, at = ""]) => at);
    expect(assets.length).toBeGreaterThan(1);
    for (const at of assets) {
      const { status, body } = await admin(at);
      expect([at, status, body.length > 0]).toEqual([at, 200, true]);
    }
    await image.podman(["stop", "-t", "40", "weir"]);
    const state = await image.podman(["inspect", "-f", "{{.State.ExitCode}}", "weir"]);
    expect(state.stdout.trim()).toBe("0");
    const { stdout, stderr } = await image.podman(["logs", "weir"]);
    expect(`${stdout}${stderr}`).not.toContain("EROFS");
  },
  TIMEOUT_MS,
);
