import { once } from "node:events";
import { copyFile, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Certificate, createAuthority } from "../support/certificates.ts";
import { httpRequest } from "../support/network.ts";
import { type CommandResult, type RunningProcess, ready, run, start, tempFolder, until } from "../support/processes.ts";
import { toolTest } from "../support/tools.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;

/** Any free ports. */
const ANYWHERE = { WEIR_SERVER_LISTEN: "127.0.0.1:0", WEIR_ADMIN_LISTEN: "127.0.0.1:0" };

let stack: AsyncDisposableStack;
let cwd: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  cwd = await tempFolder(stack);
});

afterEach(() => stack.disposeAsync());

async function weir(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandResult> {
  return await run([process.execPath, MAIN, ...args], { cwd, env, allowFailure: true });
}

/** Starts `weir serve` and resolves when it has said where it listens. */
async function serve(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<[RunningProcess, string]> {
  const running = await start([process.execPath, MAIN, "serve", ...args], { cwd, env });
  stack.defer(async () => {
    await running.stop();
  });
  const address = /^weir \S+ is listening on (\S+)$/m;
  await ready("weir", running, async () => address.test(running.output()));
  return [running, address.exec(running.output())?.[1] ?? ""];
}

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error("no port");
  }
  return address.port;
}

describe("the command line", () => {
  test("--version and --help print, and end with 0", async () => {
    const manifest = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
    expect(await weir(["--version"])).toMatchObject({ code: 0, stdout: `${manifest.version}\n`, stderr: "" });
    const help = await weir(["--help"]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    for (const part of ["serve", "check", "Examples:"]) {
      expect(help.stdout).toContain(part);
    }
    expect((await weir(["check", "--help"])).stdout).toContain("--config <file>");
  });

  test.each([
    [[], "Usage: weir"],
    [["chek"], "Did you mean check?"],
    [["check", "--jsno"], "unknown option"],
    [["check", "--config"], "argument missing"],
    [["serve", "now"], "too many arguments"],
  ])("%j is a usage error, 2", async (args, expected) => {
    const result = await weir(args);
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toContain(expected);
  });
});

describe("check", () => {
  test("says ok and what the built-in default comes to, and touches nothing", async () => {
    const result = await weir(["check"]);
    expect(result).toMatchObject({ code: 0, stderr: "" });
    expect(result.stdout).toMatch(/^ok: the built-in default\n/);
    expect(result.stdout).toContain(join(cwd, "data"));
    expect(result.stdout).toMatch(/docker\.io +dockerhub, https:\/\/registry-1\.docker\.io, anonymous/);
    expect(await readdir(cwd)).toEqual([]);
  });

  test("--json names credentials by their label only", async () => {
    const env = { WEIR_UPSTREAM_QUAY_IO_USERNAME: "robot", WEIR_UPSTREAM_QUAY_IO_PASSWORD: "hunter2" };
    const result = await weir(["check", "--json"], env);
    expect(JSON.parse(result.stdout)).toMatchObject({
      ok: true,
      file: null,
      listen: "127.0.0.1:5000",
      admin: "127.0.0.1:5001",
      storage: { driver: "filesystem", root: join(cwd, "data") },
      upstreams: expect.arrayContaining([
        {
          name: "quay.io",
          type: "quay",
          aliases: [],
          endpoints: ["https://quay.io"],
          credentials: ["environment"],
        },
      ]),
    });
    expect(result.stdout).not.toMatch(/hunter2|robot/);
  });

  test("O1 tells all problems at once, and ends with 1", async () => {
    await writeFile(join(cwd, "w.yaml"), "server: { listne: x }\nupstreams: { foo: }\nshutdown: { grace: soon }\n");
    const plain = await weir(["check", "--config", "w.yaml"]);
    expect(plain).toMatchObject({ code: 1, stdout: "" });
    expect(plain.stderr.split("\n").map((line) => line.trim().split(":")[0])).toEqual([
      "weir",
      "server.listne",
      "shutdown.grace",
      "upstreams.foo",
      "",
    ]);
    const json = await weir(["check", "--config", "w.yaml", "--json"]);
    expect(json).toMatchObject({ code: 1, stderr: "" });
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, problems: [{ path: "server.listne" }, {}, {}] });
  });

  test("looks at the files by which clients sign in, and names the line that is wrong", async () => {
    const config = { access: { mode: ["htpasswd", "token"], htpasswd: { file: "people" } } };
    await writeFile(join(cwd, "w.yaml"), JSON.stringify(config));
    const absent = await weir(["check", "--config", "w.yaml"]);
    expect(absent).toMatchObject({ code: 1, stdout: "" });
    expect(absent.stderr).toContain(`  access.htpasswd.file: ${join(cwd, "people")} does not exist\n`);
    await writeFile(join(cwd, "people"), "# people\nalice:hunter2\n");
    const wrong = await weir(["check", "--config", "w.yaml", "--json"]);
    expect(JSON.parse(wrong.stdout).problems).toEqual([
      { path: "access.htpasswd.file", message: expect.stringContaining("line 2: the password of") },
    ]);
    expect(wrong.stdout).not.toContain("hunter2");
    await writeFile(join(cwd, "people"), `alice:$2y$05$${"a".repeat(53)}\n`);
    expect(await weir(["check", "--config", "w.yaml"])).toMatchObject({ code: 0, stderr: "" });
    // Nothing is made for a check, a key neither.
    expect((await readdir(cwd)).sort()).toEqual(["people", "w.yaml"]);
  });

  test("a file that is not there is a problem", async () => {
    expect(await weir(["check"], { WEIR_CONFIG: "no.yaml" })).toMatchObject({
      code: 1,
      stderr: "weir: the configuration has a problem:\n  no.yaml: there is no such file\n",
    });
  });
});

describe("serve", () => {
  test.each([["SIGTERM"], ["SIGINT"]] as const)("O2 serves until %s, and ends with 0", async (signal) => {
    const [running, url] = await serve([], ANYWHERE);
    expect((await httpRequest(`${url}/v2/`)).status).toBe(200);
    await until("what to try", () => running.output().includes("docker pull 127.0.0.1:"));
    running.kill(signal);
    expect(await running.exited).toEqual({ code: 0, signal: null });
  });

  test("O2 a second SIGTERM does not wait for the answer under way", async () => {
    const asked = Promise.withResolvers<void>();
    const silent = createServer(() => asked.resolve());
    const upstream = `127.0.0.1:${await listening(silent)}`;
    await writeFile(join(cwd, "w.yaml"), `upstreams: {"${upstream}": {endpoints: ["http://${upstream}"]}}`);
    const [running, url] = await serve(["--config", "w.yaml"], ANYWHERE);
    const answer = httpRequest(`${url}/v2/${upstream}/app/manifests/1`);
    const reset = expect(answer).rejects.toThrow();
    await asked.promise;
    running.kill("SIGTERM");
    // Weir is seen to be stopping when it takes no connection any more.
    await until("weir to stop listening", async () => {
      return await httpRequest(`${url}/v2/`).then(
        () => false,
        () => true,
      );
    });
    expect(running.hasExited).toBe(false);
    running.kill("SIGTERM");
    expect(await running.exited).toEqual({ code: 143, signal: null });
    await reset;
  });

  test("O1 a wrong configuration starts nothing", async () => {
    const result = await weir(["serve"], { ...ANYWHERE, WEIR_LIMITS_MANIFEST_SIZE: "much", WEIR_SHUTDOWN_GRACE: "x" });
    expect(result).toMatchObject({ code: 1, stdout: "" });
    expect(result.stderr).toContain("weir: the configuration has 2 problems:\n");
    expect(await readdir(cwd)).toEqual([]);
  });

  test.each([
    ["server.listen", "WEIR_SERVER_LISTEN"],
    ["admin.listen", "WEIR_ADMIN_LISTEN"],
  ])("O1 a taken %s is told in one sentence, and nothing is left running", async (key, variable) => {
    const address = `127.0.0.1:${await listening(createServer())}`;
    const result = await weir(["serve"], { ...ANYWHERE, [variable]: address });
    expect(result.code).toBe(1);
    expect(result.stderr).toBe(
      `weir: cannot start: ${address} is taken by another process; stop that one, or set ${key} to another address\n`,
    );
    // The root is free again for the next one.
    const [running] = await serve([], ANYWHERE);
    running.kill("SIGTERM");
    expect(await running.exited).toEqual({ code: 0, signal: null });
  });

  test("O1 a root that is no folder is told in one sentence", async () => {
    await writeFile(join(cwd, "taken"), "");
    const result = await weir(["serve"], { ...ANYWHERE, WEIR_STORAGE_FILESYSTEM_ROOT: "taken" });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/^weir: cannot start: [^\n]*taken[^\n]*\n$/);
  });

  toolTest(["openssl"], "SIGHUP reads the certificate again", async () => {
    const authority = await createAuthority(stack);
    const put = async ({ certFile, keyFile }: Certificate): Promise<void> => {
      await copyFile(certFile, join(cwd, "tls.crt"));
      await copyFile(keyFile, join(cwd, "tls.key"));
    };
    await put(await authority.issue(["first.example"]));
    const env = { ...ANYWHERE, WEIR_SERVER_TLS_CERT: "tls.crt", WEIR_SERVER_TLS_KEY: "tls.key" };
    const [running, url] = await serve([], env);
    expect(url).toMatch(/^https:/);
    expect(await servedName(url)).toBe("DNS:first.example");
    await put(await authority.issue(["second.example"]));
    running.kill("SIGHUP");
    await until("the certificate to be read", () => running.output().includes("the TLS certificate was read again"));
    expect(await servedName(url)).toBe("DNS:second.example");
  });
});

async function servedName(url: string): Promise<string | undefined> {
  const socket = connect({ host: "127.0.0.1", port: Number(new URL(url).port), rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const names = socket.getPeerCertificate().subjectaltname;
  socket.destroy();
  return names;
}
