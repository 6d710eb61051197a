import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../../src/config/config-error.ts";
import { loadConfig, loadConfigFrom } from "../../../src/config/load.ts";
import { tempFolder } from "../../support/processes.ts";

async function folderWith(
  stack: AsyncDisposableStack,
  files: Readonly<Record<string, string | Buffer>>,
): Promise<string> {
  const folder = await tempFolder(stack);
  await mkdir(join(folder, "config"));
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), content);
  }
  return folder;
}

/** `path: message` of every problem of a file with this text. */
async function problemsOf(content: string | Buffer): Promise<string[]> {
  await using stack = new AsyncDisposableStack();
  const cwd = await folderWith(stack, { "w.yaml": content });
  try {
    await loadConfig({ file: "w.yaml", env: {}, cwd });
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error instanceof ConfigError ? error.problems.map(({ path, message }) => `${path}: ${message}`) : [];
  }
}

const listening = (port: number): string => `server: { listen: "127.0.0.1:${port}" }\n`;

describe("which file", () => {
  test("the command line's, else WEIR_CONFIG's, else config/weir.yaml, else none", async () => {
    await using stack = new AsyncDisposableStack();
    const cwd = await folderWith(stack, {
      "option.yaml": listening(1001),
      "variable.yaml": listening(1002),
      "config/weir.yaml": listening(1003),
    });
    const env = { WEIR_CONFIG: "variable.yaml" };
    const port = async (o: { file?: string; env: NodeJS.ProcessEnv; cwd: string }) => {
      const { config, file } = await loadConfigFrom(o);
      return [config.server.listen.port, file];
    };
    expect(await port({ file: "option.yaml", env, cwd })).toEqual([1001, "option.yaml"]);
    expect(await port({ env, cwd })).toEqual([1002, "variable.yaml"]);
    expect(await port({ env: { WEIR_CONFIG: "" }, cwd })).toEqual([1003, "config/weir.yaml"]);
    expect(await port({ env: {}, cwd: join(cwd, "config") })).toEqual([5000, undefined]);
  });

  test("relative paths start in the working directory, not beside the file", async () => {
    await using stack = new AsyncDisposableStack();
    const cwd = await folderWith(stack, { "config/weir.yaml": "storage: { filesystem: { root: here } }" });
    expect((await loadConfig({ env: {}, cwd })).storage.filesystem.root).toBe(join(cwd, "here"));
  });

  test("one that was asked for must be there", async () => {
    await using stack = new AsyncDisposableStack();
    const cwd = await tempFolder(stack);
    await expect(loadConfig({ file: "no.yaml", env: {}, cwd })).rejects.toThrow("no.yaml: there is no such file");
    await expect(loadConfig({ env: { WEIR_CONFIG: "no.yaml" }, cwd })).rejects.toThrow(
      "no.yaml: there is no such file",
    );
    await expect(loadConfig({ file: ".", env: {}, cwd })).rejects.toThrow(".: is a folder, not a file");
  });
});

describe("YAML", () => {
  test.each([
    ["", []],
    ["# nothing but a comment\n", []],
    ["---\n", []],
    ["\uFEFFshutdown: { grace: 1s }\n", []],
    ["a: &x 1s\nshutdown: { grace: *x }\n", ["a: there is no such key; expected one of "]],
  ])("%j", async (text, expected) => {
    expect((await problemsOf(text)).map((line) => line.slice(0, expected[0]?.length))).toEqual(expected);
  });

  test.each([
    ["server:\n  listen: a\n  listen: b\n", "w.yaml:3:3: the key is there twice"],
    ["server: {}\nserver: {}\n", "w.yaml:2:1: the key is there twice"],
    ["server:\n  listen: [1\nadmin: {}\n", "w.yaml:"],
    ["server:\n\tlisten: x\n", "w.yaml:2:1: this is not YAML: indentation is made of spaces"],
    ["a: *nope\n", "w.yaml:1:4: there is no such anchor"],
    ["server: !secret x\n", "w.yaml:1:9: tags have no meaning here"],
    ["a: 1\n---\nb: 2\n", "w.yaml:2:1: a second document starts here"],
  ])("%j is refused with line and column", async (text, expected) => {
    const [first] = await problemsOf(text);
    expect(first).toContain(expected);
    expect(first).toMatch(/^w\.yaml:\d+:\d+: /);
  });

  test("faults do not repeat the text around them, which may be a password", async () => {
    for (const text of [
      'password: "hunter2\n',
      "password: hunter2: x\n",
      "password: | hunter2\n",
      'p: "\\qhunter2"\n',
    ]) {
      const found = await problemsOf(text);
      expect(found.length).toBeGreaterThan(0);
      expect(found.join()).not.toContain("hunter2");
    }
  });

  test("aliases of aliases are bounded, and a cycle is no way to hang", async () => {
    const level = (name: string, inner: string) => `${name}: &${name} [${Array(10).fill(`*${inner}`).join()}]\n`;
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x,x]\n${level("b", "a")}${level("c", "b")}${level("d", "c")}${level("e", "d")}`;
    expect(await problemsOf(bomb)).toEqual([expect.stringContaining("w.yaml: cannot be read as YAML")]);
    const cycle = "this alias is part of what it stands for";
    expect(await problemsOf("upstreams: &a\n  x.y: *a\n")).toEqual([`w.yaml:2:8: ${cycle}`]);
    expect(await problemsOf("access: &a [[*a]]\n")).toEqual([`w.yaml:1:14: ${cycle}`]);
  });

  test("nesting without end is refused", async () => {
    expect(await problemsOf(`server: ${"[".repeat(100_000)}${"]".repeat(100_000)}`)).not.toEqual([]);
  });

  test("what is no text, or far too much of it, is refused", async () => {
    expect(await problemsOf(Buffer.from([0x61, 0xff, 0xfe]))).toEqual(["w.yaml: is not UTF-8 text"]);
    expect(await problemsOf(Buffer.alloc(2 ** 20 + 1, "#"))).toEqual([expect.stringContaining("has 1048577 bytes")]);
  });
});

test("a ConfigError tells all its problems, also as text", () => {
  const error = new ConfigError([
    { path: "a", message: "is wrong" },
    { path: "b", message: "too" },
  ]);
  expect(error.message).toBe("the configuration has 2 problems:\n  a: is wrong\n  b: too");
});
