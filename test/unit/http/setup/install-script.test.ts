import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createClientSetup, findSetupClient, type SetupClient } from "../../../../src/http/setup/clients.ts";
import { installScript, refusalScript } from "../../../../src/http/setup/install-script.ts";
import { ownFile, type SetupFile, sharedFile } from "../../../../src/http/setup/setup-file.ts";
import { type CommandResult, run, tempFolder } from "../../../support/processes.ts";
import { toolTest } from "../../../support/tools.ts";
import { mirrorOf, THREE_UPSTREAMS } from "./mirrors.ts";

const CLIENT: SetupClient = {
  name: "test",
  aliases: [],
  title: "a test",
  apart: false,
  generate: () => ({ files: [], next: [] }),
};
const MIRROR = mirrorOf(THREE_UPSTREAMS);

let stack: AsyncDisposableStack;
let root: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  root = await tempFolder(stack);
});

afterEach(() => stack.disposeAsync());

function scriptOf(files: readonly SetupFile[], next: readonly string[] = []): string {
  return installScript(CLIENT, MIRROR, { files, next });
}

/** As `curl … | sh -s -- ARGUMENTS` runs it: by the shell that knows least. */
async function pipe(script: string, ...args: readonly string[]): Promise<CommandResult> {
  const file = join(await tempFolder(stack), "script");
  await writeFile(file, script);
  return await run(["sh", "-c", 'dash -s -- "$@" <"$0"', file, ...args], {
    env: { DESTDIR: root, HOME: join(root, "home") },
    cwd: root,
    allowFailure: true,
  });
}

async function before(path: string, content: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), content);
}

const read = async (path: string): Promise<string> => await readFile(join(root, path), "utf8");

/** Every file below the root. */
async function listing(): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}

toolTest(["dash"], "writes what is not there yet, below DESTDIR, the home and the working directory", async () => {
  const result = await pipe(
    scriptOf(
      [
        ownFile("/etc/a/own.toml", "", "own\n"),
        sharedFile("/etc/b/shared.json", "", "{}\n"),
        ownFile("~/.tool/home", "", "home\n"),
        ownFile("here/file.yaml", "", "here\n"),
      ],
      ["restart it"],
    ),
  );
  expect([result.code, result.stderr]).toEqual([0, ""]);
  expect(await listing()).toEqual(["etc/a/own.toml", "etc/b/shared.json", "here/file.yaml", "home/.tool/home"]);
  expect([await read("etc/a/own.toml"), await read("etc/b/shared.json")]).toEqual(["own\n", "{}\n"]);
  expect((await stat(join(root, "etc/a/own.toml"))).mode & 0o777).toBe(0o644);
  expect(result.stdout).toContain(`wrote      ${root}/etc/a/own.toml`);
  expect(result.stdout).toContain("then: restart it");
});

toolTest(["dash"], "changes nothing the second time", async () => {
  const script = scriptOf([ownFile("/etc/own", "", "own\n"), sharedFile("/etc/shared", "", "shared\n")]);
  await pipe(script);
  const result = await pipe(script);
  expect([result.code, result.stderr]).toEqual([0, ""]);
  expect(await listing()).toEqual(["etc/own", "etc/shared"]);
  expect(result.stdout).toContain("unchanged");
});

toolTest(["dash"], "keeps a copy of its own file that somebody has changed", async () => {
  await before("etc/own", "by hand\n");
  const result = await pipe(scriptOf([ownFile("/etc/own", "", "new\n")]));
  expect(result.code).toBe(0);
  const [copy = "", ...others] = (await listing()).filter((path) => path !== "etc/own");
  expect([copy, others]).toEqual([expect.stringMatching(/^etc\/own\.before-weir-\d{8}T\d{6}Z$/), []]);
  expect([await read("etc/own"), await read(copy)]).toEqual(["new\n", "by hand\n"]);
  expect(result.stdout).toContain(copy);
});

toolTest(
  ["dash"],
  "leaves a file alone that holds other settings, says so and fails; the rest is written",
  async () => {
    await before("etc/shared", "mine\n");
    const result = await pipe(scriptOf([sharedFile("/etc/shared", "", "new\n"), ownFile("/etc/own", "", "own\n")]));
    expect(result.code).toBe(1);
    expect(result.stdout).toContain("left alone");
    expect([await read("etc/shared"), await read("etc/shared.weir-new"), await read("etc/own")]).toEqual([
      "mine\n",
      "new\n",
      "own\n",
    ]);
  },
);

toolTest(["dash"], "replaces that too when told so, and keeps a copy", async () => {
  await before("etc/shared", "mine\n");
  const result = await pipe(scriptOf([sharedFile("/etc/shared", "", "new\n")]), "--replace");
  expect(result.code).toBe(0);
  const copy = (await listing()).find((path) => path.includes("before-weir")) ?? "";
  expect([await read("etc/shared"), await read(copy)]).toEqual(["new\n", "mine\n"]);
});

toolTest(["dash"], "knows no other option, and does nothing when it gets one", async () => {
  const result = await pipe(scriptOf([ownFile("/etc/own", "", "own\n")]), "--force");
  expect([result.code, await listing()]).toEqual([2, []]);
  expect(result.stderr).toContain("--force");
});

toolTest(["dash"], "stops with an error where it may not write", async () => {
  // Not even root makes a folder below a file.
  await before("etc", "a file\n");
  const result = await pipe(scriptOf([ownFile("/etc/own", "", "own\n"), ownFile("/other", "", "other\n")]));
  expect(result.code).not.toBe(0);
  expect(result.stderr).not.toBe("");
  expect(await listing()).toEqual(["etc"]);
});

toolTest(["dash"], "does nothing when it arrives cut off, wherever", async () => {
  const script = scriptOf([ownFile("/etc/own", "", "own\n")], ["restart it"]);
  const end = script.indexOf('main "$@"');
  for (let length = 0; length <= end + "mai".length; length += 37) {
    await pipe(script.slice(0, length));
    expect([length, await listing()]).toEqual([length, []]);
  }
  await pipe(script.slice(0, end + 'main "$@"'.length));
  expect(await listing()).toEqual(["etc/own"]);
});

toolTest(["dash"], "takes nothing in a file, a path or a sentence for a command", async () => {
  const hostile = `'"\`touch ${root}/owned\`$(touch ${root}/owned)\\\n$HOME\nWEIR_END\ntouch ${root}/owned\n`;
  const path = `/etc/it's $(touch ${root}/owned) "so"`;
  const result = await pipe(
    scriptOf([ownFile(path, "", hostile)], [`it's $(touch ${root}/owned) 100%d \\n \`touch ${root}/owned\``]),
  );
  expect([result.code, result.stderr]).toEqual([0, ""]);
  expect(await readFile(root + path, "utf8")).toBe(hostile);
  expect(result.stdout).toContain(`it's $(touch ${root}/owned) 100%d \\n`);
  await expect(stat(join(root, "owned"))).rejects.toThrow("ENOENT");
});

toolTest(["dash"], "a refusal says why, and fails", async () => {
  const result = await pipe(refusalScript("it's $(date) 100%"));
  expect([result.code, result.stdout, result.stderr]).toEqual([1, "", "weir: it's $(date) 100%\n"]);
});

toolTest(["dash"], "replaces a link by a file and leaves what it led to as it was", async () => {
  await before("etc/elsewhere", "theirs\n");
  await symlink("elsewhere", join(root, "etc/own"));
  await pipe(scriptOf([ownFile("/etc/own", "", "new\n")]));
  expect([await read("etc/own"), await read("etc/elsewhere")]).toEqual(["new\n", "theirs\n"]);
});

test.each(["containerd", "docker", "minikube", "kind"])("%s: the script holds every file as it is", (word) => {
  const client = findSetupClient(word) ?? CLIENT;
  const setup = createClientSetup(client, MIRROR);
  const script = installScript(client, MIRROR, setup);
  for (const { content } of setup.files) expect(script).toContain(`\n${content}WEIR_END\n`);
});
