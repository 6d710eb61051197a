import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type HostsOptions, hosts } from "../../../src/commands/hosts.ts";
import { SETUP_CLIENTS } from "../../../src/http/setup/clients.ts";
import { tempFolder } from "../../support/processes.ts";

let stack: AsyncDisposableStack;
let folder: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
});

afterEach(() => stack.disposeAsync());

async function run(
  client: string | undefined,
  options: HostsOptions = {},
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: "", stderr: "" };
  const code = await hosts(client, options, {
    env,
    cwd: () => folder,
    stdout: {
      write(text) {
        written.stdout += text;
      },
    },
    stderr: {
      write(text) {
        written.stderr += text;
      },
    },
  });
  return { code, ...written };
}

const URL_OPTION = { url: "http://weir.example:5000" };

test("one client is printed, with what is not its file's content as comment", async () => {
  const { code, stdout, stderr } = await run("k3s", URL_OPTION);
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("# --- /etc/rancher/k3s/registries.yaml");
  const comments = stdout.split("\n").filter((line) => line.startsWith("#"));
  expect(comments.join("\n")).toContain("systemctl restart k3s");
});

test("a client may be asked for by another word", async () => {
  expect((await run("skopeo", URL_OPTION)).stdout).toBe((await run("podman", URL_OPTION)).stdout);
});

test("all clients come without a name", async () => {
  const { code, stdout, stderr } = await run(undefined, URL_OPTION);
  expect([code, stderr]).toEqual([0, ""]);
  for (const { title } of SETUP_CLIENTS) expect(stdout).toContain(`# ${title}\n`);
});

test("of all clients those that it cannot work for are left out aloud; asked for alone that is a failure", async () => {
  // The default listens on the loopback.
  const all = await run(undefined);
  expect(all.code).toBe(0);
  expect(all.stderr).toContain("left out kind: ");
  expect(all.stdout).toContain("http://127.0.0.1:5000");
  expect(await run("kind")).toMatchObject({ code: 1, stdout: "" });
});

test("--only leaves clients no way past the cache", async () => {
  expect((await run("containerd", { ...URL_OPTION, only: true })).stdout).not.toContain('server = "https:');
});

test("--json has the files, and what is to be done with them", async () => {
  const result = JSON.parse((await run(undefined, { json: true })).stdout);
  expect(result).toMatchObject({ url: "http://127.0.0.1:5000", only: false });
  expect(result.clients.map(({ client }: { client: string }) => client)).toEqual(SETUP_CLIENTS.map(({ name }) => name));
  const [podman] = result.clients.filter(({ client }: { client: string }) => client === "podman");
  expect(podman.files).toEqual([
    {
      path: "/etc/containers/registries.conf.d/50-weir.conf",
      content: expect.stringContaining("[[registry]]"),
      mode: "0644",
      note: expect.stringContaining("docker.io"),
      shared: false,
    },
  ]);
  const [kind] = result.clients.filter(({ client }: { client: string }) => client === "kind");
  expect(kind).toMatchObject({ files: [], refused: expect.stringContaining("loopback") });
});

describe("--out", () => {
  test("writes each client's files below a folder of its own, and again over them", async () => {
    await writeFile(join(folder, "weir.yaml"), "upstreams: { quay.io: }");
    const options = { ...URL_OPTION, out: "out", config: "weir.yaml" };
    await run(undefined, { ...options, url: "http://old.example" });
    const { code, stdout } = await run(undefined, options);
    expect(code).toBe(0);
    const entries = await readdir(join(folder, "out"), { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    const listed = stdout.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    expect(listed.sort()).toEqual(files.sort());
    expect(files).toContain(join(folder, "out/containerd/etc/containerd/certs.d/quay.io/hosts.toml"));
    expect(files).toContain(join(folder, "out/minikube/.minikube/files/etc/containerd/certs.d/quay.io/hosts.toml"));
    for (const file of files) expect(await readFile(file, "utf8")).not.toContain("old.example");
  });

  test("says so where it cannot write", async () => {
    await writeFile(join(folder, "out"), "a file");
    const { code, stdout, stderr } = await run("k3d", { ...URL_OPTION, out: "out" });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`cannot write below ${join(folder, "out")}`);
  });

  test("with --json says where each file went", async () => {
    const result = JSON.parse((await run("k3d", { ...URL_OPTION, out: "out", json: true })).stdout);
    const [file] = result.clients[0].files;
    expect(file.written).toBe(join(folder, "out/k3d/weir-k3d.yaml"));
    expect(await readFile(file.written, "utf8")).toBe(file.content);
  });
});

describe("what cannot be told", () => {
  test("a client that nobody knows is a wrong command line, which names those that there are", async () => {
    const { code, stdout, stderr } = await run("rpm");
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("containerd, docker");
  });

  test.each(["weir.example:5000", "http://weir.example/path", "ftp://weir.example"])(
    "--url %s is one too",
    async (url) => {
      const { code, stderr } = await run("containerd", { url });
      expect(code).toBe(2);
      expect(stderr).toContain("--url");
    },
  );

  test("an address of every interface is no address for clients", async () => {
    const { code, stdout, stderr } = await run("containerd", {}, { WEIR_SERVER_LISTEN: ":5000" });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain("every address of this machine (0.0.0.0:5000)");
  });

  test("a broken configuration is told as weir check tells it", async () => {
    const { code, stderr } = await run("containerd", URL_OPTION, { WEIR_SERVER_LISTEN: "nowhere" });
    expect(code).toBe(1);
    expect(stderr).toContain("server.listen");
  });
});

test("server.publicUrl is where clients are sent", async () => {
  const { stdout } = await run("containerd", {}, { WEIR_SERVER_PUBLIC_URL: "https://cache.example" });
  expect(stdout).toContain('[host."https://cache.example"]');
});
