import { chmod, mkdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Log } from "../../../../src/base/log.ts";
import { systemClock } from "../../../../src/base/system-clock.ts";
import { DockerConfigSource } from "../../../../src/upstream/credentials/docker-config.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { tempFolder } from "../../../support/processes.ts";

const auth = (text: string): string => Buffer.from(text).toString("base64");
const signal = new AbortController().signal;
const MINUTE_MS = 60_000;

let stack: AsyncDisposableStack;
let folder: string;
const { PATH } = process.env;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
  process.env.PATH = `${folder}${delimiter}${PATH}`;
});

afterEach(async () => {
  process.env.PATH = PATH;
  await stack.disposeAsync();
});

/** A `docker-credential-x` whose body is shell; it counts its runs in a file `runs` beside it. */
async function helper(body: string): Promise<{ runs(): Promise<number> }> {
  const path = join(folder, "docker-credential-x");
  await writeFile(path, `#!/bin/sh\necho run >> "${folder}/runs"\n${body}\n`);
  await chmod(path, 0o755);
  return { runs: async () => (await readFile(join(folder, "runs"), "utf8").catch(() => "")).split("\n").length - 1 };
}

const GIVES = `server=$(cat); printf '{"ServerURL":"%s","Username":"me","Secret":"hunter2 for %s"}' "$server" "$server"`;

function open(path: string, clock: ManualClock | typeof systemClock = new ManualClock()) {
  const logged: string[] = [];
  const note = (fields: unknown, message: string): void => {
    logged.push(`${message} ${JSON.stringify(fields)}`);
  };
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const config = { source: "docker-config", label: "ci", repositories: undefined, path } as const;
  const source = new DockerConfigSource(config, ["quay.io"], { clock, log, where: "upstreams.quay.io (ci)" });
  stack.defer(() => source.close());
  return { source, logged, clock };
}

async function withConfig(config: unknown): Promise<string> {
  const path = join(folder, "config.json");
  await writeFile(path, JSON.stringify(config));
  return path;
}

async function resolved(source: DockerConfigSource, repository: string | undefined = "a/b"): Promise<string> {
  const { form, username, secret } = await source.resolve({ signal, repository });
  return `${form} ${username}:${secret.reveal()}`;
}

const HELPED = { credHelpers: { "quay.io": "x" } };

describe("U10 a credential helper", () => {
  test("is asked once for many, by the server's name on its input, and its answer kept for a while", async () => {
    const { runs } = await helper(GIVES);
    const clock = new ManualClock();
    const { source } = open(await withConfig(HELPED), clock);
    const all = await Promise.all(Array.from({ length: 20 }, () => resolved(source)));
    expect(new Set(all)).toEqual(new Set(["password me:hunter2 for quay.io"]));
    expect(await runs()).toBe(1);
    clock.advance(4 * MINUTE_MS);
    await resolved(source);
    expect(await runs()).toBe(1);
    clock.advance(6 * MINUTE_MS);
    await resolved(source);
    expect(await runs()).toBe(2);
  });

  test("is asked again when the registry refused its answer, once a minute at most", async () => {
    const { runs } = await helper(GIVES);
    const clock = new ManualClock();
    const { source } = open(await withConfig(HELPED), clock);
    await resolved(source);
    source.refused();
    await resolved(source);
    expect(await runs()).toBe(1);
    clock.advance(MINUTE_MS);
    await resolved(source);
    expect(await runs()).toBe(2);
  });

  test("gives an identity token under the user <token>", async () => {
    await helper(`printf '{"ServerURL":"quay.io","Username":"<token>","Secret":"rt"}'`);
    expect(await resolved(open(await withConfig(HELPED)).source)).toBe("identity-token :rt");
  });

  test("that has none leaves it to the file", async () => {
    await helper("echo 'credentials not found in native keychain'; exit 1");
    const config = { ...HELPED, auths: { "quay.io": { auth: auth("me:filed") } } };
    expect(await resolved(open(await withConfig(config)).source)).toBe("password me:filed");
    const alone = open(await withConfig(HELPED)).source;
    await expect(resolved(alone)).rejects.toMatchObject({
      fault: "credential",
      message:
        "the credential helper docker-credential-x has none for quay.io; try: echo quay.io | docker-credential-x get",
    });
  });

  const broken: [string, string, string][] = [
    ["prints rubbish", "echo hunter2", "docker-credential-x wrote something else than its JSON"],
    ["prints other JSON", `echo '{"Secret": "hunter2"}'`, "docker-credential-x wrote something else than its JSON"],
    ["prints a list", `echo '["hunter2"]'`, "docker-credential-x wrote something else than its JSON"],
    ["fails", "echo hunter2; echo hunter2 >&2; exit 3", "docker-credential-x ended with 3"],
    ["is killed", "kill -9 $$", "docker-credential-x ended with a signal"],
    ["prints without end", "while :; do echo hunter2hunter2hunter2hunter2; done", "wrote more than 65536 bytes"],
    ["asks for input", "cat > /dev/null; read answer || exit 7", "docker-credential-x ended with 7"],
    ["asks at the terminal", "read answer < /dev/tty || exit 8", "docker-credential-x ended with"],
    ["ends without reading", "exec < /dev/null; exit 4", "docker-credential-x ended with 4"],
  ];
  test.each(broken)("that %s is an error that says so and holds nothing of it", async (_name, body, expected) => {
    const { runs } = await helper(body);
    const { source, logged } = open(await withConfig(HELPED), systemClock);
    const error: unknown = await resolved(source).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "SourceError", fault: "credential" });
    expect(String(error)).toContain(expected);
    expect(String(error) + JSON.stringify(logged)).not.toContain("hunter2");
    // Nobody waits for it again so soon.
    await expect(resolved(source)).rejects.toBe(error);
    expect(await runs()).toBe(1);
  });

  test("that hangs is killed with all that it has started", async () => {
    const clock = new ManualClock();
    await helper(`sleep 600 & echo $! > "${folder}/child"; echo $$ > "${folder}/parent"; wait`);
    const { source } = open(await withConfig(HELPED), clock);
    const result = resolved(source).catch((reason: unknown) => reason);
    const pids = await Promise.all(["child", "parent"].map((name) => pidIn(join(folder, name))));
    clock.advance(10_000);
    expect(await result).toMatchObject({
      fault: "timeout",
      message:
        "the credential helper docker-credential-x (try: echo quay.io | docker-credential-x get) gave no answer within 10 s",
    });
    for (const pid of pids) {
      await expect.poll(() => isAlive(pid)).toBe(false);
    }
  });

  test("is killed when nobody waits any more", async () => {
    await helper(`echo $$ > "${folder}/parent"; sleep 600`);
    const { source } = open(await withConfig(HELPED));
    const leaving = new AbortController();
    const result = source.resolve({ signal: leaving.signal, repository: "a" }).catch((reason: unknown) => reason);
    const pid = await pidIn(join(folder, "parent"));
    leaving.abort(new Error("the client left"));
    expect(String(await result)).toBe("Error: the client left");
    await expect.poll(() => isAlive(pid)).toBe(false);
  });

  test("that is not installed", async () => {
    await expect(resolved(open(await withConfig({ credsStore: "absent" })).source)).rejects.toMatchObject({
      fault: "credential",
      message: "the credential helper docker-credential-absent is not in PATH; install it where Weir runs",
    });
  });
});

describe("U10 the file", () => {
  test("is read again when Kubernetes swaps the folder behind its symbolic link", async () => {
    const mount = join(folder, "secret");
    await mkdir(join(mount, "..1"), { recursive: true });
    await mkdir(join(mount, "..2"));
    const pull = (password: string) => JSON.stringify({ auths: { "quay.io": { auth: auth(`me:${password}`) } } });
    await writeFile(join(mount, "..1", ".dockerconfigjson"), pull("one"));
    await writeFile(join(mount, "..2", ".dockerconfigjson"), pull("two"));
    await symlink("..1", join(mount, "..data"));
    await symlink(join("..data", ".dockerconfigjson"), join(mount, "config.json"));
    const { source } = open(join(mount, "config.json"));
    expect(await resolved(source)).toBe("password me:one");
    await symlink("..2", join(mount, "..data_tmp"));
    await rename(join(mount, "..data_tmp"), join(mount, "..data"));
    expect(await resolved(source)).toBe("password me:two");
  });

  test("that is half-written leaves in force what it said before, and says so once", async () => {
    const path = await withConfig({ auths: { "quay.io": { auth: auth("me:hunter2") } } });
    const { source, logged } = open(path);
    await resolved(source);
    await writeFile(path, '{"auths": {"quay.io": {"auth": "hunter2');
    expect(await resolved(source)).toBe("password me:hunter2");
    expect(await resolved(source)).toBe("password me:hunter2");
    expect(logged).toHaveLength(1);
    expect(logged[0]).toContain(
      `${path} is no docker config file: the file is not JSON; what it said before stays in force`,
    );
    expect(logged.join()).not.toContain("hunter2");
    await writeFile(path, JSON.stringify({ auths: { "quay.io": { auth: auth("me:new") } } }));
    expect(await resolved(source)).toBe("password me:new");
  });

  test("gives each repository what stands for it, and says where nothing does", async () => {
    const path = await withConfig({
      auths: { "quay.io/a": { auth: auth("a:1") }, "quay.io/b": { auth: auth("b:2") }, "quay.io/c": {} },
    });
    const { source } = open(path);
    expect(await resolved(source, "a/x")).toBe("password a:1");
    expect(await resolved(source, "b/x")).toBe("password b:2");
    await expect(resolved(source, "c/x")).rejects.toMatchObject({
      fault: "credential",
      message: `${path}: auths["quay.io/c"] holds no password, and no helper is named`,
    });
    await expect(resolved(source, "d/x")).rejects.toMatchObject({
      fault: "credential",
      message: `${path} has nothing for quay.io/d/x; add it under auths, or say by repositories what this credential is for`,
    });
  });

  test.each([
    ["that is not there", async () => join(folder, "absent.json"), "(ENOENT); is it mounted, and may Weir read it?"],
    ["that is a folder", async () => folder, "(EISDIR); is it mounted, and may Weir read it?"],
    [
      "that is far too large",
      async () => {
        const path = join(folder, "large.json");
        await writeFile(path, " ".repeat(1024 * 1024 + 1));
        return path;
      },
      "has 1048577 bytes, of 1048576 at most",
    ],
    ["that is none", async () => withConfig([1]), "is no docker config file: the file is not a mapping"],
  ])("%s is an error that names it", async (_name, make, expected) => {
    const path = await make();
    const error: unknown = await resolved(open(path).source).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "SourceError", fault: "credential" });
    expect(String(error)).toContain(path);
    expect(String(error)).toContain(expected);
  });
});

async function pidIn(path: string): Promise<number> {
  let pid = 0;
  await expect
    .poll(async () => {
      pid = Number(await readFile(path, "utf8").catch(() => ""));
      return pid;
    })
    .toBeGreaterThan(0);
  return pid;
}

/** What was killed may stay behind as a name without a process until somebody asks for its exit code. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return stat !== "" && !/\) Z /.test(stat);
}
