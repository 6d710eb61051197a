import { rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Htpasswd } from "../../../src/access/htpasswd.ts";
import { parseHtpasswd } from "../../../src/access/htpasswd-entries.ts";
import { silentLog } from "../../../src/base/log.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { tempFolder } from "../../support/processes.ts";
import { htpasswd } from "../../support/sign-in.ts";

const HASH = `$2y$05$${"a".repeat(53)}`;

describe("an htpasswd file", () => {
  test("has names and bcrypt hashes, comments and empty lines", () => {
    const entries = parseHtpasswd(`# people\r\n\nalice:${HASH}\r\nbob:$2b$10${HASH.slice(6)}  \n`);
    expect([...entries]).toEqual([
      ["alice", { hash: HASH, cost: 5 }],
      ["bob", { hash: `$2b$10${HASH.slice(6)}`, cost: 10 }],
    ]);
  });

  test.each<[string, string, RegExp]>([
    ["MD5", "a:$apr1$salt$hash", /^line 1: the password of "a" is MD5 \(apr1\); only bcrypt is taken, .*htpasswd -B/],
    ["SHA-1", `b:${HASH}\na:{SHA}abc=`, /^line 2: .*SHA-1; only bcrypt/],
    ["SHA-512", "a:$6$salt$hash", /SHA-512; only bcrypt/],
    ["crypt or plain text", "a:hunter2", /not a hash that Weir knows; only bcrypt/],
    ["half a hash", `a:${HASH.slice(0, 40)}`, /not a whole bcrypt hash/],
    ["no colon", `${HASH}`, /^line 1: expected name:hash/],
    ["no name", `:${HASH}`, /expected a name/],
    ["a name with a control character", `a\tb:${HASH}`, /expected a name/],
    ["a long name", `${"a".repeat(256)}:${HASH}`, /expected a name/],
    ["a name twice", `a:${HASH}\nb:${HASH}\na:${HASH}`, /^line 3: "a" is there twice/],
    ["a cost that nobody waits for", `a:$2y$20${HASH.slice(6)}`, /has the cost 20; from 4 to 15/],
    ["no cost at all", `a:$2y$03${HASH.slice(6)}`, /has the cost 3/],
  ])("with %s is refused by line", (_, text, message) => {
    expect(() => parseHtpasswd(text)).toThrow(message);
    expect(() => parseHtpasswd(text)).not.toThrow(/hunter2|salt|aaaa.{50}/);
  });
});

describe("a change of the file", () => {
  let stack: AsyncDisposableStack;
  let folder: string;
  const clock = new ManualClock();

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    folder = await tempFolder(stack);
  });

  afterEach(() => stack.disposeAsync());

  async function opened(path: string): Promise<() => Promise<string[]>> {
    const file = new Htpasswd(path, { clock, log: silentLog });
    return async () => {
      clock.advance(1_000);
      return [...(await file.entries()).keys()];
    };
  }

  test("is seen, by a symbolic link that leads elsewhere too", async () => {
    await writeFile(join(folder, "1"), await htpasswd({ alice: "a" }));
    await writeFile(join(folder, "2"), await htpasswd({ bob: "b" }));
    await symlink("1", join(folder, "current"));
    const names = await opened(join(folder, "current"));
    expect(await names()).toEqual(["alice"]);
    await symlink("2", join(folder, "next"));
    await rename(join(folder, "next"), join(folder, "current"));
    expect(await names()).toEqual(["bob"]);
    await writeFile(join(folder, "2"), await htpasswd({ bob: "b", carol: "c" }));
    expect(await names()).toEqual(["bob", "carol"]);
  });

  test("to something that cannot be used leaves those who were in it", async () => {
    const path = join(folder, "f");
    await writeFile(path, await htpasswd({ alice: "a" }));
    const names = await opened(path);
    await writeFile(path, "alice:$apr1$x$y\n");
    expect(await names()).toEqual(["alice"]);
    await rm(path);
    expect(await names()).toEqual(["alice"]);
    await writeFile(path, await htpasswd({ bob: "b" }));
    expect(await names()).toEqual(["bob"]);
  });

  test("a start without it, or with one that cannot be used, names the key, the file and the line", async () => {
    const path = join(folder, "f");
    await expect(opened(path)).rejects.toThrow(`access.htpasswd.file: ${path} does not exist`);
    await writeFile(path, "# nobody\nalice:plain\n");
    await expect(opened(path)).rejects.toThrow(/access\.htpasswd\.file: .* line 2: .*bcrypt/);
    await writeFile(path, "#".repeat((1 << 20) + 1));
    await expect(opened(path)).rejects.toThrow("has 1048577 bytes, of 1048576 at most");
  });
});
