/** The commands on what is held, as their users run them: beside a running server, and without one. */
import { mkdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { type CommandResult, run, tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { blobFile, heldBlobs, unsound } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;
const TOKEN = "an-admin-token-of-some-length";

let stack: AsyncDisposableStack;
let hub: HubDouble;
let weir: WeirProcess;
const first = smallImage("first");
const second = smallImage("second");
/** A second repository with the same content. */
const shared = first;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", first, ["1", "latest"]);
  hub.add("team/other", second, ["2"]);
  hub.add("team/copy", shared, ["3"]);
  weir = await startWeir(stack, {
    config: {
      upstreams: { "docker.io": { ...hubUpstream(hub), aliases: ["hub.example"] } },
      freshness: { default: "1h" },
    },
    secrets: [TOKEN],
  });
  await pullByHead(weir.url, "library/app", "1", first);
  await pullByHead(weir.url, "library/app", "latest", first);
  await pullByHead(weir.url, "team/other", "2", second);
  await pullByHead(weir.url, "team/copy", "3", shared);
  await fillsOver(weir);
  hub.clearLedger();
});

afterEach(() => stack.disposeAsync());

async function command(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandResult> {
  return await run([process.execPath, MAIN, ...args, "--config", weir.file], { env, allowFailure: true });
}

/** Its lines of JSON, the last of which says that it is done. */
async function json(...args: readonly string[]): Promise<readonly Record<string, unknown>[]> {
  const { stdout, stderr } = await command([...args, "--json"]);
  expect(stderr).toBe("");
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

async function last(...args: readonly string[]): Promise<Record<string, unknown>> {
  return (await json(...args)).at(-1) ?? {};
}

const BOTH = [
  ["beside a running server", true],
  ["without a server", false],
] as const;

describe.each(BOTH)("%s", (_, running) => {
  beforeEach(async () => {
    if (!running) await weir.stop();
  });

  afterEach(async () => {
    // Whatever was done, what is left is whole.
    expect(await unsound(weir.root)).toEqual([]);
    if (running) expect((await httpRequest(`${weir.adminUrl}/healthz`)).status).toBe(200);
  });

  test("stats: what is held, shared once, and what was saved", async () => {
    const blobs = new Set(
      [...first.blobs, ...first.manifests, ...second.blobs, ...second.manifests].map((b) => b.digest),
    );
    expect(await last("stats", "--repositories", "2")).toMatchObject({
      done: true,
      blobs: blobs.size,
      tags: 4,
      manifests: 2,
      repositories: 3,
      upstreams: [{ name: "docker.io", repositories: 3, tags: 4, blobs: blobs.size }],
      largest: [{ tags: expect.any(Number) }, {}],
      saved: { savedRequests: expect.any(Number) },
    });
    const { saved } = (await last("stats")) as {
      saved: { requests: number; savedRequests: number; savedBytes: number };
    };
    // The second tag was pulled from what the first had brought.
    expect(saved.savedRequests).toBeGreaterThan(0);
    expect(saved.savedRequests).toBeLessThan(saved.requests);
    expect(saved.savedBytes).toBeGreaterThan(0);
    const { stdout } = await command(["stats", "--repositories"]);
    expect(stdout).toMatch(/^UPSTREAM +REPOSITORIES/);
    expect(stdout).toContain("docker.io/library/app");
    expect(hub.ledger).toEqual([]);
  });

  test("verify finds nothing, then a planted damage, puts it aside, and the next pull heals it", async () => {
    expect((await command(["verify", "--rate", "1GiB"])).code).toBe(0);
    const digest = first.blobs.at(-1)?.digest ?? "";
    await truncate(blobFile(weir.root, digest), 3);
    const found = await command(["verify"]);
    expect(found.code).toBe(1);
    expect(found.stdout).toContain(`${digest.slice(7)}/data`);
    expect(found.stdout).toContain("quarantined");
    expect(await heldBlobs(weir.root)).not.toContain(digest);
    expect(await command(["verify"])).toMatchObject({ code: 0 });
    if (!running) await weir.start();
    await pullByHead(weir.url, "library/app", "1", first);
    await fillsOver(weir);
    expect(await heldBlobs(weir.root)).toContain(digest);
    expect((await command(["verify", "--rate", "lots"])).code).toBe(2);
  });

  test("gc says what, and does it", async () => {
    const orphan = smallImage("orphan").blobs[0];
    if (orphan === undefined) throw new Error("an image has blobs");
    const path = blobFile(weir.root, orphan.digest);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, orphan.bytes);
    // What is younger than an hour may be about to be linked.
    expect(await last("gc", "--dry-run")).toMatchObject({ done: true, dryRun: true });
    expect(await last("gc")).toMatchObject({ done: true, dryRun: false });
    const { stdout } = await command(["gc"]);
    expect(stdout).toMatch(/\n$/);
    expect(await heldBlobs(weir.root)).toEqual(expect.arrayContaining(first.blobs.map((blob) => blob.digest)));
  });

  test("purge of a tag: it is asked for anew; the content stays", async () => {
    const before = await heldBlobs(weir.root);
    const dry = await command(["purge", "app:1", "--dry-run"]);
    expect([dry.code, dry.stdout]).toEqual([0, expect.stringContaining("would purge docker.io/library/app:1\n")]);
    const { code, stdout } = await command(["purge", "hub.example/app:1"]);
    expect([code, stdout]).toEqual([0, expect.stringContaining("purged docker.io/library/app:1\n")]);
    expect(stdout).toContain("removed 1 tag, 0 manifests, 0 layer links; deleted 0 blobs");
    expect(await heldBlobs(weir.root)).toEqual(before);
    expect((await command(["purge", "app:1"])).stdout).toBe("nothing is held of app:1\n");
    if (!running) await weir.start();
    await pullByHead(weir.url, "library/app", "1", first);
    expect(hub.ledger.filter(({ path, status }) => path.includes("/manifests/1") && status === 200)).toHaveLength(1);
  });

  test("purge of a repository: what others share stays, the rest goes", async () => {
    expect(await last("purge", "library/app", "--dry-run")).toMatchObject({ tags: 2, manifests: 1, blobs: 0 });
    const done = await last("purge", "docker.io/library/app");
    expect(done).toMatchObject({ repositories: 1, tags: 2, manifests: 1, blobs: 0, bytes: 0 });
    expect(done.shared).toBe(first.blobs.length + 1);
    const gone = await last("purge", "team/copy");
    expect(gone).toMatchObject({ repositories: 1, blobs: first.blobs.length + 1, shared: 0 });
    expect(gone.bytes).toBeGreaterThan(0);
    expect((await heldBlobs(weir.root)).sort()).toEqual(
      [...second.blobs, ...second.manifests].map(({ digest }) => digest).sort(),
    );
    if (!running) await weir.start();
    await pullByHead(weir.url, "library/app", "1", first);
    await fillsOver(weir);
    expect(await last("verify")).toMatchObject({ sound: true, notHeld: 0 });
  });

  test("purge of a digest takes its tags and what only it lists", async () => {
    const done = await last("purge", `team/other@${second.root.digest}`);
    expect(done).toMatchObject({ tags: 1, manifests: 1, layers: second.blobs.length, blobs: second.blobs.length + 1 });
    expect(await last("stats")).toMatchObject({ repositories: expect.any(Number), tags: 3 });
  });

  test("purge of a pattern", async () => {
    const lines = await json("purge", "docker.io/**:?");
    expect(lines.filter(({ kind }) => kind === "tag").map(({ what }) => what)).toEqual([
      "docker.io/library/app:1",
      "docker.io/team/copy:3",
      "docker.io/team/other:2",
    ]);
    expect(await last("purge", "docker.io/team/*")).toMatchObject({ repositories: 2 });
  });

  test("refresh: one question a tag; same, moved, gone, failed", async () => {
    hub.add("team/other", first, ["2"]);
    hub.removeTag("team/copy", "3");
    const lines = await json("refresh", "docker.io/**");
    const outcomes = Object.fromEntries(lines.slice(0, -1).map(({ tag, outcome }) => [tag, outcome]));
    expect(outcomes).toEqual({
      "docker.io/library/app:1": "same",
      "docker.io/library/app:latest": "same",
      "docker.io/team/copy:3": "gone",
      "docker.io/team/other:2": "moved",
    });
    expect(lines.at(-1)).toMatchObject({ done: true, tags: 4, outcomes: { same: 2, moved: 1, gone: 1 } });
    const heads = hub.ledger.filter(({ role, method }) => role === "registry" && method === "HEAD");
    expect(new Set(heads.map(({ path }) => path)).size).toBe(4);
    if (!running) await weir.start();
    hub.clearLedger();
    await pullByHead(weir.url, "library/app", "1", first);
    expect(hub.ledger).toEqual([]);
    await hub.close();
    const failed = await command(["refresh", "app:1"]);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(/^failed +docker\.io\/library\/app:1 /);
    expect((await command(["refresh", "docker.io/library/none"])).stdout).toContain("no tag is held");
  });

  test("pin, unpin, and what is pinned", async () => {
    expect(await command(["pin", "hub.example/app:1"])).toMatchObject({
      code: 0,
      stdout: "pinned docker.io/library/app:1\n",
    });
    expect(await last("pin", "app:1")).toEqual({ done: true, pin: "docker.io/library/app:1", changed: false });
    // A command that ends at once has not counted what is held, and says nothing of what would go when.
    if (running) expect((await command(["explain", "app:1"])).stdout).toContain("never: weir pin keeps it");
    expect((await command(["pin"])).stdout).toMatch(/^docker\.io\/library\/app:1 {2}weir pin, since \S+Z\n$/);
    expect((await command(["unpin", "app:1"])).stdout).toBe("unpinned docker.io/library/app:1\n");
    expect(await last("pin")).toEqual({ done: true, pins: [] });
    expect((await command(["pin", "app:!"])).code).toBe(2);
    expect(hub.ledger).toEqual([]);
  });

  test("what is no reference is told in one sentence, with 2", async () => {
    for (const args of [
      ["purge", "https://docker.io/app"],
      ["refresh", `app@${first.root.digest}`],
    ]) {
      const { code, stdout, stderr } = await command(args);
      expect([code, stdout]).toEqual([2, ""]);
      expect(stderr).toMatch(/^weir: [^\n]+\n$/);
    }
  });
});

describe("who may", () => {
  test("the token that the server leaves in its storage is its user's only, and is gone with it", async () => {
    const holder = join(weir.root, "weir/v1/holder");
    expect((await stat(holder)).mode & 0o777).toBe(0o600);
    const { pid, token, admin } = JSON.parse(await readFile(holder, "utf8"));
    expect(pid).toBe(weir.process.pid);
    expect(`http://${admin.host}:${admin.port}`).toBe(weir.adminUrl);
    expect(weir.output()).not.toContain(token);
    const asked = await httpRequest(`${weir.adminUrl}/control/stats`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expectStatus(200, asked);
    expect((await httpRequest(`${weir.adminUrl}/control/stats`)).status).toBe(401);
    await weir.stop();
    await expect(stat(holder)).rejects.toThrow("ENOENT");
  });

  test("without it, admin.token opens; a wrong one is told, and neither stands in any output", async () => {
    await weir.stop();
    const config = JSON.parse(await readFile(weir.file, "utf8"));
    config.admin.token = TOKEN;
    await writeFile(weir.file, JSON.stringify(config));
    await weir.start();
    // It is ready a moment before it has left its token.
    await until("the token to be left", async () =>
      (await readFile(join(weir.root, "weir/v1/holder"), "utf8")).includes("token"),
    );
    // As another user finds it.
    await rm(join(weir.root, "weir/v1/holder"));
    expect((await command(["stats"])).code).toBe(0);
    const wrong = await command(["stats"], { WEIR_ADMIN_TOKEN: "not-the-right-token-at-all" });
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/^weir: .*admin\.token.*\n$/);
    const none = await command(["check"]);
    for (const { stdout, stderr } of [wrong, none]) expect(stdout + stderr).not.toContain(TOKEN);
  });

  test("a storage whose server cannot be reached", async () => {
    const holder = join(weir.root, "weir/v1/holder");
    const told = JSON.parse(await readFile(holder, "utf8"));
    await writeFile(holder, JSON.stringify({ ...told, admin: { host: "127.0.0.1", port: 1 } }));
    const { code, stderr } = await command(["gc"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^weir: the server that has the storage \(process \d+ on .+\) cannot be reached at 127\.0\.0\.1:1 \(ECONNREFUSED\): run this on its machine.*\n$/,
    );
    await rm(holder);
    const unknown = await command(["gc"]);
    expect(unknown.code).toBe(1);
    expect(unknown.stderr).toMatch(/^weir: .* is in use .*admin\.token.*\n$/);
  });

  test("a folder that is not there is told, and not made", async () => {
    const folder = await tempFolder(stack);
    const missing = join(folder, "data");
    const { code, stderr } = await command(["verify"], { WEIR_STORAGE_FILESYSTEM_ROOT: missing });
    expect([code, stderr]).toEqual([
      1,
      `weir: storage.filesystem.root: there is no folder ${missing}: nothing is held\n`,
    ]);
    await expect(stat(missing)).rejects.toThrow("ENOENT");
  });
});
