/** deploy/helm/weir/files/node-config.sh, which puts hosts.toml files on nodes and takes them away. */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PROJECT } from "../../support/deployed-config.ts";
import { run, start, tempFolder, until } from "../../support/processes.ts";

const SCRIPT = join(PROJECT, "deploy/helm/weir/files/node-config.sh");

let stack: AsyncDisposableStack;
let source: string;
let target: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  source = join(folder, "source");
  target = join(folder, "certs.d");
});

afterEach(() => stack.disposeAsync());

async function write(root: string, name: string, text: string): Promise<void> {
  await mkdir(join(root, name), { recursive: true });
  await writeFile(join(root, name, "hosts.toml"), text);
}

async function script(action: string): Promise<readonly string[]> {
  const { stdout } = await run(["sh", SCRIPT, action, source, target]);
  return stdout.trim().split("\n");
}

/** Name to content of every hosts.toml that is there. */
async function installed(): Promise<Record<string, string>> {
  const names = (await readdir(target)).filter((name) => !name.startsWith("."));
  const read = names.map(async (name) => [name, await readFile(join(target, name, "hosts.toml"), "utf8")] as const);
  return Object.fromEntries(await Promise.all(read));
}

test("what is installed is replaced, removed and left alone as it should be", async () => {
  await write(source, "docker.io", "hub 1");
  await write(source, "quay.io", "quay 1");
  await write(source, "reg.example_5000_", "reg 1");
  await write(target, "quay.io", "somebody else's");
  expect(await script("install")).toEqual([
    "weir: wrote      docker.io",
    "weir: left alone quay.io: there is a hosts.toml that is not Weir's",
    "weir: wrote      reg.example_5000_",
    "weir: install done",
  ]);
  const first = { "docker.io": "hub 1", "quay.io": "somebody else's", "reg.example_5000_": "reg 1" };
  expect(await installed()).toEqual(first);

  // Again: nothing to do.
  expect((await script("install")).filter((line) => line.includes("wrote"))).toEqual([]);
  expect(await installed()).toEqual(first);

  // A changed one is replaced; one that is wanted no more goes, with its folder.
  await write(source, "docker.io", "hub 2");
  await rm(join(source, "reg.example_5000_"), { recursive: true });
  await script("install");
  expect(await installed()).toEqual({ "docker.io": "hub 2", "quay.io": "somebody else's" });

  // One that went missing comes back.
  await rm(join(target, "docker.io"), { recursive: true });
  await script("install");
  expect(await installed()).toEqual({ "docker.io": "hub 2", "quay.io": "somebody else's" });

  expect(await script("remove")).toEqual(["weir: removed    docker.io", "weir: remove done"]);
  expect(await installed()).toEqual({ "quay.io": "somebody else's" });
  expect(await readdir(target)).toEqual(["quay.io"]);
});

test("what somebody has changed since is theirs", async () => {
  await write(source, "docker.io", "hub 1");
  await script("install");
  await write(target, "docker.io", "changed by hand");
  await write(source, "docker.io", "hub 2");
  expect(await script("install")).toContain("weir: left alone docker.io: there is a hosts.toml that is not Weir's");
  expect(await script("remove")).toContain(
    "weir: left alone docker.io: its hosts.toml has been changed since it was installed",
  );
  expect(await installed()).toEqual({ "docker.io": "changed by hand" });
});

test("names that look alike are told apart", async () => {
  await write(source, "a.example", "a");
  await write(source, "aXexample", "b");
  await write(source, "b.a.example", "c");
  await script("install");
  await rm(join(source, "a.example"), { recursive: true });
  await script("install");
  expect(await installed()).toEqual({ aXexample: "b", "b.a.example": "c" });
  await script("remove");
  expect(await installed()).toEqual({});
});

test("a node that died between its steps knows the file again", async () => {
  await write(source, "docker.io", "hub 1");
  await script("install");
  // Noted with both checksums, and the new file not yet in place.
  const note = join(target, ".weir-installed");
  const other = "0".repeat(64);
  await writeFile(note, `${await readFile(note, "utf8")}${other} docker.io\n`);
  await write(source, "docker.io", "hub 2");
  await script("install");
  expect(await installed()).toEqual({ "docker.io": "hub 2" });
  expect(await readFile(note, "utf8")).not.toContain(other);
});

test("with --every it repairs what is missing, and ends when it is told to", async () => {
  await write(source, "docker.io", "hub 1");
  const running = await start(["sh", SCRIPT, "install", "--every", "0.02", source, target]);
  stack.defer(async () => void (await running.stop()));
  const there = async (): Promise<boolean> => "docker.io" in (await installed().catch(() => ({})));
  await until("the file to be there", there);
  await rm(join(target, "docker.io"), { recursive: true });
  await until("the file to be there again", there);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});

test("a wrong command line changes nothing", async () => {
  for (const args of [[], ["install"], ["erase", source, target], ["install", source]]) {
    const { code, stderr } = await run(["sh", SCRIPT, ...args], { allowFailure: true });
    expect([args, code]).toEqual([args, 2]);
    expect(stderr).toContain("usage");
  }
});
