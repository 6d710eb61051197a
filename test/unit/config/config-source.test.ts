// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ConfigError } from "../../../src/config/config-error.ts";
import { ConfigSource } from "../../../src/config/config-source.ts";
import { passwordOf } from "../../support/credentials.ts";
import { tempFolder } from "../../support/processes.ts";

let stack: AsyncDisposableStack;
let cwd: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  cwd = await tempFolder(stack);
});

afterEach(() => stack.disposeAsync());

async function put(name: string, text: string): Promise<void> {
  await mkdir(join(cwd, name, ".."), { recursive: true });
  await writeFile(join(cwd, name), text);
}

const open = (file?: string): ConfigSource => new ConfigSource({ file, env: {}, cwd });

/** What two looks in a row find. */
async function looks(source: ConfigSource): Promise<[boolean, boolean]> {
  return [await source.changed(), await source.changed()];
}

const WITH_SECRET =
  'upstreams: { quay.io: { credentials: [{ label: ci, username: me, password: "${file:secrets/pw}" }] } }';

describe("O3 a change is seen", () => {
  test("when two looks have found it the same, and not again after it was read", async () => {
    await put("w.yaml", "shutdown: { grace: 1s }");
    const source = open("w.yaml");
    await source.load();
    expect(await looks(source)).toEqual([false, false]);
    await put("w.yaml", "shutdown: { grace: 2");
    expect(await source.changed()).toBe(false);
    await put("w.yaml", "shutdown: { grace: 2s }");
    expect(await looks(source)).toEqual([false, true]);
    expect((await source.load()).config.shutdown.graceMs).toBe(2000);
    expect(await looks(source)).toEqual([false, false]);
  });

  test("that leaves the size as it was", async () => {
    await put("w.yaml", "shutdown: { grace: 1s }");
    const source = open("w.yaml");
    await source.load();
    await put("new.yaml", "shutdown: { grace: 2s }");
    await rename(join(cwd, "new.yaml"), join(cwd, "w.yaml"));
    expect(await looks(source)).toEqual([false, true]);
  });

  test("of a folder to which a symbolic link leads, as Kubernetes mounts files", async () => {
    await put("1/w.yaml", "shutdown: { grace: 1s }");
    await put("2/w.yaml", "shutdown: { grace: 2s }");
    await symlink("1", join(cwd, "..data"));
    await symlink("..data/w.yaml", join(cwd, "w.yaml"));
    const source = open("w.yaml");
    await source.load();
    expect(await looks(source)).toEqual([false, false]);
    await symlink("2", join(cwd, "..tmp"));
    await rename(join(cwd, "..tmp"), join(cwd, "..data"));
    expect(await looks(source)).toEqual([false, true]);
    expect((await source.load()).config.shutdown.graceMs).toBe(2000);
  });

  test("in a file whose content is put in, and in the TLS files of upstreams", async () => {
    await put("w.yaml", WITH_SECRET);
    await put("secrets/pw", "one");
    const source = open("w.yaml");
    const reveal = async () => passwordOf((await source.load()).config.upstreams[0]?.credentials[0]);
    expect(await reveal()).toBe("one");
    await put("secrets/pw", "two");
    expect(await looks(source)).toEqual([false, true]);
    expect(await reveal()).toBe("two");

    await put("w.yaml", "upstreams: { quay.io: { tls: { ca: ca.pem, cert: c.pem, key: k.pem } } }");
    await source.load();
    for (const file of ["ca.pem", "c.pem", "k.pem"]) {
      await put(file, "PEM");
      expect([file, ...(await looks(source))]).toEqual([file, false, true]);
      await source.load();
    }
    // Nobody names it any more.
    await put("secrets/pw", "three");
    expect(await looks(source)).toEqual([false, false]);
  });

  test("in a file that was missing, so that what was refused is tried again", async () => {
    await put("w.yaml", WITH_SECRET);
    const source = open("w.yaml");
    await expect(source.load()).rejects.toThrow(ConfigError);
    expect(await looks(source)).toEqual([false, false]);
    await put("secrets/pw", "one");
    expect(await looks(source)).toEqual([false, true]);
    await source.load();
  });
});

describe("O3 the file in its usual place", () => {
  test("may come later", async () => {
    const source = open();
    expect(await source.load()).toMatchObject({ file: undefined });
    await put("config/weir.yaml", "shutdown: { grace: 2s }");
    expect(await looks(source)).toEqual([false, true]);
    expect(await source.load()).toMatchObject({ file: "config/weir.yaml", config: { shutdown: { graceMs: 2000 } } });
  });

  test("does not give way to the built-in default when it is gone", async () => {
    await put("config/weir.yaml", "shutdown: { grace: 2s }");
    const source = open();
    await source.load();
    await rm(join(cwd, "config/weir.yaml"));
    expect(await looks(source)).toEqual([false, true]);
    await expect(source.load()).rejects.toThrow("config/weir.yaml: there is no such file");
    await put("config/weir.yaml", "shutdown: { grace: 3s }");
    expect(await looks(source)).toEqual([false, true]);
    expect((await source.load()).config.shutdown.graceMs).toBe(3000);
  });
});
