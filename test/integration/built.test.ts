/** What `npm run build` makes: it does what the sources do, and a start reads no more than it needs. */
import { readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { packageVersion } from "../../src/base/package-version.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { startCollector } from "../support/otlp.ts";
import { run, tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const PROJECT = new URL("../../", import.meta.url).pathname;
const IMAGE = smallImage("built");

/** Says on standard error which packages, and which large part of Node, a process has loaded until it ends. */
const TELLS_LOADED = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from "node:module";
  const loaded = new Set();
  registerHooks({
    load(url, context, next) {
      const [, name] = /.*\\/node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(url) ?? [];
      if (name !== undefined) loaded.add(name);
      return next(url, context);
    },
  });
  process.on("exit", () => {
    if (process.moduleLoadList.some((name) => name.includes("deps/undici"))) loaded.add("node's own undici");
    process.stderr.write("loaded: " + [...loaded].sort().join(", ") + ".\\n");
  });
`)}`;

const built = new AsyncDisposableStack();
let main: string;
let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeAll(async () => {
  const folder = await tempFolder(built);
  const dist = join(folder, "dist");
  // A warning may be of something that is missing.
  expect(await run([process.execPath, join(PROJECT, "scripts/build.ts"), "--out", dist])).toMatchObject({
    stdout: "",
    stderr: "",
  });
  await symlink(join(PROJECT, "node_modules"), join(folder, "node_modules"));
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  main = join(dist, "main.js");
});

afterAll(() => built.disposeAsync());

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", IMAGE, ["1"]);
});

afterEach(() => stack.disposeAsync());

interface Started {
  readonly workers?: number;
  readonly telemetry?: object;
}

function start({ workers = 1, telemetry = {} }: Started = {}): Promise<WeirProcess> {
  return startWeir(stack, {
    main,
    workers,
    nodeOptions: ["--import", TELLS_LOADED],
    env: { OTEL_BSP_SCHEDULE_DELAY: "20" },
    config: { upstreams: { "docker.io": hubUpstream(hub) }, telemetry },
  });
}

test("a start, a pull and a hit load no package that is not built in", async () => {
  const weir = await start();
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  const asked = hub.ledger.length;
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  expect(hub.ledger).toHaveLength(asked);
  expectStatus(200, await httpRequest(`${weir.adminUrl}/metrics`));
  expect(await weir.stop()).toMatchObject({ code: 0 });
  expect(weir.output().match(/^loaded: .*$/gm)).toEqual(["loaded: ."]);
});

test("what is configured is loaded: traces reach their collector", async () => {
  const collector = await startCollector(stack);
  const weir = await start({ telemetry: { otlpEndpoint: collector.url } });
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  await until("a span", () => collector.spans.some(({ kind }) => kind === "server"));
  expect(await weir.stop()).toMatchObject({ code: 0 });
  expect(weir.output()).toMatch(/^loaded: .*@opentelemetry\/sdk-node/m);
});

test("workers start from it", async () => {
  const weir = await start({ workers: 2 });
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  expect(await weir.stop()).toMatchObject({ code: 0 });
  expect(weir.output().match(/^loaded: .*$/gm)).toEqual(Array(3).fill("loaded: ."));
});

test("the status page has its files", async () => {
  const weir = await start();
  // Closed, as there is no token.
  const page = expectStatus(403, await httpRequest(`${weir.adminUrl}/page`));
  const [, style] = /href="([^"]*style\.css)"/.exec(page.body.toString()) ?? [];
  const { body } = expectStatus(200, await httpRequest(`${weir.adminUrl}${style}`));
  expect(body).toEqual(await readFile(join(PROJECT, "src/http/page/assets/style.css")));
});

test("what Node has compiled is kept beside it, for the next start", async () => {
  const compiled = join(dirname(main), "compiled");
  await rm(compiled, { recursive: true, force: true });
  await (await start()).stop();
  const [kept = ""] = await readdir(compiled);
  expect(await readdir(join(compiled, kept))).not.toEqual([]);
});

test("it starts where what is compiled cannot be kept", async () => {
  const compiled = join(dirname(main), "compiled");
  await rm(compiled, { recursive: true, force: true });
  await writeFile(compiled, "in the way");
  const weir = await start();
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  expect(await weir.stop()).toMatchObject({ code: 0 });
  expect(weir.output()).not.toMatch(/compil/i);
  await rm(compiled);
});

test("it knows its version", async () => {
  expect((await run([process.execPath, main, "--version"])).stdout).toBe(`${packageVersion()}\n`);
});
