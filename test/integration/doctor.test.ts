import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { type DoctorOptions, type DoctorWorld, doctor } from "../../src/commands/doctor.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { createAuthority } from "../support/certificates.ts";
import { startConnectProxy } from "../support/connect-proxy.ts";
import { smallImage } from "../support/images.ts";
import { freePort, tempFolder } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import type { RegistryOptions } from "../support/registries/traits.ts";

type Section = Readonly<Record<string, unknown>>;

interface Step {
  readonly name: string;
  readonly credential: string | null;
  readonly status: string;
  readonly detail: string;
  readonly advice: string | null;
  readonly ms: number | null;
}

interface Report {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly steps: readonly Step[];
  /** `name credential status`, as far as they are not ok. */
  readonly trouble: readonly string[];
  step(name: string, credential?: string): Step;
}

const PASSWORD = "hunter2-s3cret";
const ACCOUNT = { username: "robot", password: PASSWORD, repositories: ["team/app"] };

let stack: AsyncDisposableStack;
let folder: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
});

afterEach(() => stack.disposeAsync());

/** Where tokens and blobs come from is a host of its own, and must be allowed for on loopback. */
function hubSection(hub: HubDouble, more: Section = {}): Section {
  return {
    type: "dockerhub",
    endpoints: [hub.url],
    realms: [new URL(hub.tokenUrl).hostname],
    redirects: { allow: ["127.0.0.0/8"] },
    ...more,
  };
}

async function startHub(options: RegistryOptions = {}): Promise<HubDouble> {
  const hub = await startHubDouble(stack, { accounts: [ACCOUNT], ...options });
  hub.add("library/alpine", smallImage("public"), ["latest"]);
  hub.add("team/app", smallImage("private"), ["1"], "private");
  hub.quota = { limit: 100, windowS: 21_600, remaining: 80 };
  return hub;
}

const credentials = (password = PASSWORD) => [{ label: "ci", username: "robot", password }];

/** `weir doctor` over one upstream, `docker.io` if it is not named otherwise. */
async function examine(
  section: Section,
  {
    name = "docker.io",
    words = [],
    env = {},
    world = {},
    ...options
  }: DoctorOptions & { name?: string; words?: readonly string[]; env?: NodeJS.ProcessEnv; world?: DoctorWorld } = {},
): Promise<Report> {
  const file = join(folder, "weir.yaml");
  const storage = { driver: "filesystem", filesystem: { root: join(folder, "data") } };
  await writeFile(file, JSON.stringify({ upstreams: { [name]: section }, storage }));
  const out = { stdout: "", stderr: "" };
  const writer = (key: "stdout" | "stderr") => ({
    write: (text: string) => {
      out[key] += text;
    },
  });
  const terminal = { env, cwd: () => folder, stdout: writer("stdout"), stderr: writer("stderr") };
  const code = await doctor(words, { config: file, json: true, ...options }, terminal, world);
  expect(out.stdout + out.stderr).not.toContain(PASSWORD);
  const steps: Step[] =
    options.json === false || out.stdout === ""
      ? []
      : JSON.parse(out.stdout).endpoints.flatMap((endpoint: { steps: Step[] }) => endpoint.steps);
  for (const { status, advice } of steps) expect(advice !== null).toBe(status === "failed" || status === "warning");
  return {
    code,
    ...out,
    steps,
    trouble: steps
      .filter(({ status }) => status === "failed" || status === "warning")
      .map((step) => [step.name, step.credential ?? "-", step.status].join(" ")),
    step(wanted, credential) {
      const found = steps.find((step) => step.name === wanted && step.credential === (credential ?? null));
      if (found === undefined) throw new Error(`no step ${wanted} in ${out.stdout}`);
      return found;
    },
  };
}

describe("a healthy upstream", () => {
  test("anonymously: every step, what is left of the quota, and nothing that counts against it", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub));
    expect([report.code, report.trouble]).toEqual([0, []]);
    expect(report.steps.map(({ name, status }) => `${name} ${status}`)).toEqual([
      "dns ok",
      "connect ok",
      "ping ok",
      "clock ok",
      "token ok",
      "manifest ok",
      "quota ok",
      "visibility ok",
      "blob skipped",
    ]);
    expect(report.step("ping").detail).toBe(`401, bearer at ${new URL(hub.tokenUrl).host}`);
    expect(report.step("quota").detail).toBe("80 of 100 in 6 h, counted for 203.0.113.7");
    expect(report.step("visibility").detail).toBe("public");
    expect(hub.quota?.remaining).toBe(80);
    expect(hub.count({ role: "token" })).toBe(1);
  });

  test("with a credential: a token with it, and whether the image is public", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub, { credentials: credentials() }), { reference: "team/app:1" });
    expect([report.code, report.trouble]).toEqual([0, []]);
    expect(report.step("token", "ci").detail).toBe(`from ${new URL(hub.tokenUrl).host}`);
    expect(report.step("manifest", "ci").detail).toBe("team/app:1");
    expect(report.step("visibility").detail).toContain("private: for clients only where access.privateToAnonymous");
    expect(hub.leaks()).toEqual([]);
  });

  test("--blobs asks for a blob, and says where it comes from", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub), { blobs: true });
    expect([report.code, report.step("blob").detail]).toEqual([0, `from ${new URL(hub.urlOf("cdn")).host}`]);
    expect(hub.bytes("cdn")).toBeLessThan(10);
  });

  test("over TLS: protocol, issuer and days", async () => {
    const authority = await createAuthority(stack);
    const tls = await authority.issue(["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    const hub = await startHub({ tls });
    const report = await examine(hubSection(hub, { tls: { ca: authority.caFile } }));
    expect(report.step("tls")).toMatchObject({ status: "warning", ms: expect.any(Number) });
    expect(report.step("tls").detail).toMatch(/^TLSv1\.3, weir test authority, [12] days left$/);
    expect([report.code, report.trouble]).toEqual([0, ["tls - warning"]]);
  });

  test("through an egress proxy, which resolves the name", async () => {
    const authority = await createAuthority(stack);
    const tls = await authority.issue(["registry-1.docker.io", "127.0.0.2", "127.0.0.3"]);
    const hub = await startHub({ tls });
    const { port } = new URL(hub.url);
    const proxy = await startConnectProxy(stack, {
      account: "me:proxy-s3cret",
      resolve: (host) => (host === "registry-1.docker.io" ? "127.0.0.1" : host),
    });
    const section = hubSection(hub, {
      endpoints: [`https://registry-1.docker.io:${port}`],
      proxy: proxy.url.href.replace("//", "//me:proxy-s3cret@"),
      tls: { ca: authority.caFile },
    });
    const report = await examine(section, { blobs: true });
    expect(report.stdout).not.toContain("proxy-s3cret");
    expect([report.code, report.trouble]).toEqual([0, ["tls - warning"]]);
    expect(report.step("dns").detail).toBe("left to the proxy");
    expect(report.step("connect").detail).toBe(`through the proxy ${proxy.url.host}`);
    expect(report.step("blob").detail).toBe(`from ${new URL(hub.urlOf("cdn")).host}`);
    expect(proxy.lines).toContain(`CONNECT registry-1.docker.io:${port}`);
  });
});

describe("what is wrong, and what to do", () => {
  test("a name that is unknown", async () => {
    const lookup = async (host: string): Promise<never> => {
      throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: "ENOTFOUND" });
    };
    const report = await examine({ endpoints: ["https://reg.example"] }, { name: "reg.example", world: { lookup } });
    expect([report.code, report.trouble]).toEqual([1, ["dns - failed"]]);
    expect(report.step("dns").advice).toContain("DNS servers know reg.example");
  });

  test("a look-up that never ends", async () => {
    const lookup = (): Promise<never> => new Promise(() => {});
    const report = await examine(
      { endpoints: ["https://reg.example"] },
      { name: "reg.example", timeout: "50ms", world: { lookup } },
    );
    expect(report.step("dns")).toMatchObject({
      status: "failed",
      detail: "reg.example could not be resolved (timeout)",
    });
  });

  test("a port that is closed", async () => {
    const report = await examine({ endpoints: [`http://127.0.0.1:${await freePort()}`] });
    expect([report.code, report.trouble]).toEqual([1, ["connect - failed"]]);
    expect(report.step("connect").advice).toContain(
      "nothing listens there: check host and port in upstreams.docker.io",
    );
  });

  test("a proxy that is not there, and one that refuses", async () => {
    const closed = await examine({ proxy: `http://127.0.0.1:${await freePort()}` });
    expect(closed.trouble).toEqual(["connect - failed"]);
    expect(closed.step("connect").advice).toContain("upstreams.docker.io.proxy");
    const proxy = await startConnectProxy(stack, { account: "me:x" });
    const refused = await examine({}, { env: { HTTPS_PROXY: proxy.url.href } });
    expect(refused.step("connect").detail).toContain("wants a user name and password");
    expect(refused.step("connect").advice).toContain("http://user:password@host:port");
  });

  test("an expired certificate, one of an unknown authority, one for another name", async () => {
    const authority = await createAuthority(stack);
    const names = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    const expired = await startHub({ tls: await authority.issue(names, { expired: true }) });
    const report = await examine(hubSection(expired, { tls: { ca: authority.caFile } }));
    expect([report.code, report.trouble]).toEqual([1, ["tls - failed"]]);
    expect(report.step("tls").advice).toContain("have the registry's operator renew it");
    const hub = await startHub({ tls: await authority.issue(names) });
    const unknown = await examine(hubSection(hub));
    expect(unknown.step("tls").detail).toContain("the authority weir test authority is unknown here");
    expect(unknown.step("tls").advice).toContain("upstreams.docker.io.tls.ca");
    const other = await startHub({ tls: await authority.issue(["other.example"]) });
    const misnamed = await examine(hubSection(other, { tls: { ca: authority.caFile } }));
    expect(misnamed.step("tls").detail).toBe("the certificate is not for 127.0.0.1");
    const skipped = await examine(hubSection(other, { tls: { insecureSkipVerify: true } }));
    expect(skipped.step("tls")).toMatchObject({ status: "warning" });
  });

  test("https asked of a port that speaks http", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub, { endpoints: [hub.url.replace("http:", "https:")] }));
    expect(report.trouble).toEqual(["tls - failed"]);
    expect(report.step("tls").advice).toContain("the port does not speak TLS");
  });

  test("U4 a wrong password, once for each credential", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub, { credentials: credentials("wrong-s3cret") }));
    expect(report.stdout).not.toContain("wrong-s3cret");
    expect([report.code, report.trouble]).toEqual([1, ["token ci failed"]]);
    expect(report.step("token", "ci").advice).toContain("replace what upstreams.docker.io.credentials has under ci");
    expect(report.step("manifest", "ci").status).toBe("skipped");
    expect(hub.count({ role: "token", authorization: "basic" })).toBe(1);
  });

  test("an account without the permission", async () => {
    const hub = await startHub();
    hub.add("other/app", smallImage("of others"), ["1"], "private");
    const report = await examine(hubSection(hub, { credentials: credentials() }), { reference: "other/app:1" });
    expect([report.code, report.trouble]).toEqual([1, ["manifest ci failed"]]);
    expect(report.step("manifest", "ci").advice).toContain("give ci the permission to pull other/app:1");
  });

  test("an image that is not for everybody, asked for without a credential", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub), { reference: "docker.io/team/app:1" });
    expect([report.code, report.trouble]).toEqual([1, ["manifest - failed"]]);
    expect(report.step("manifest").advice).toContain("configure upstreams.docker.io.credentials");
  });

  test("a tag that is not there", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub), { reference: "alpine:absent" });
    expect(report.step("manifest")).toMatchObject({ detail: "there is no library/alpine:absent (404)" });
  });

  test("U6 a quota that is spent, and one that is nearly", async () => {
    const hub = await startHub();
    hub.quota = { limit: 100, windowS: 21_600, remaining: 0 };
    const spent = await examine(hubSection(hub));
    expect([spent.code, spent.trouble]).toEqual([1, ["quota - failed"]]);
    expect(spent.step("quota").advice).toContain("sign in by upstreams.docker.io.credentials");
    hub.quota = { limit: 100, windowS: 21_600, remaining: 5 };
    const low = await examine(hubSection(hub));
    expect([low.code, low.trouble]).toEqual([0, ["quota - warning"]]);
  });

  test("U7 manifests that come while blobs do not", async () => {
    const hub = await startHub();
    hub.fail({ role: "cdn", effect: { kind: "cut", afterBytes: 0 } });
    const report = await examine(hubSection(hub), { blobs: true });
    expect([report.code, report.trouble]).toEqual([1, ["blob - failed"]]);
    expect(report.step("blob").detail).toContain(new URL(hub.urlOf("cdn")).host);
    expect(report.step("blob").advice).toContain("blobs, or what redirects lead to, come from it");
  });

  test("U3 blobs at an address that may not be asked", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub, { redirects: { allow: [] } }), {
      blobs: true,
      world: { classifyAddress: (ip) => (ip === "127.0.0.3" ? "private" : "public") },
    });
    expect(report.trouble).toEqual(["blob - failed"]);
    expect(report.step("blob").detail).toContain("upstreams.docker.io.redirects.allow");
  });

  test("something else that answers", async () => {
    const hub = await startHub();
    hub.fail({ role: "registry", path: /^\/v2\/$/, effect: { kind: "status", status: 404 } });
    const report = await examine(hubSection(hub));
    expect([report.code, report.trouble.slice(0, 1)]).toEqual([1, ["ping - failed"]]);
    expect(report.step("ping").advice).toContain("is no registry");
  });

  test("an answer that does not come in time", async () => {
    const hub = await startHub();
    hub.fail({ role: "registry", path: /manifests/, effect: { kind: "stall", afterBytes: 0 } });
    const report = await examine(hubSection(hub), { timeout: "200ms" });
    expect(report.trouble).toEqual(["manifest - failed"]);
  });

  test("a TLS file that cannot be read", async () => {
    const report = await examine({ tls: { ca: join(folder, "absent.pem") } });
    expect(report.step("tls").detail).toContain("upstreams.docker.io.tls.ca: cannot read");
  });
});

describe("each endpoint by itself", () => {
  test("the second gets no credential, and what is wrong with it is its own", async () => {
    const hub = await startHub();
    const mirror = await startHub();
    const closed = `http://127.0.0.1:${await freePort()}`;
    const section = hubSection(hub, {
      endpoints: [hub.url, closed, mirror.url],
      credentials: credentials(),
    });
    const report = await examine(section);
    const endpoints: { endpoint: string; ok: boolean }[] = JSON.parse(report.stdout).endpoints;
    expect(endpoints.map(({ endpoint, ok }) => [endpoint, ok])).toEqual([
      [hub.url, true],
      [closed, false],
      [mirror.url, true],
    ]);
    expect(mirror.count({ authorization: "basic" })).toBe(0);
    expect(report.code).toBe(1);
  });
});

describe("what is asked for", () => {
  test("an image that is held, where none is known", async () => {
    const hub = await startHub();
    const root = join(folder, "data");
    const repositories = createRepositories(await createFsSmallObjects({ root }), silentLog);
    const [repo, o] = [
      { upstream: "reg.example", repository: "library/alpine" },
      { signal: new AbortController().signal },
    ];
    const digest = parseDigest(smallImage("public").root.digest);
    await repositories.linkRevision(repo, digest, o);
    await repositories.putTag(repo, "latest", { digest, checkedAtMs: 0 }, o);
    const report = await examine(hubSection(hub), { name: "reg.example" });
    expect([report.code, report.step("manifest").detail]).toEqual([0, "library/alpine:latest"]);
  });

  test("nothing, where there is none: credentials are only looked for", async () => {
    const hub = await startHub();
    const report = await examine(hubSection(hub, { credentials: credentials() }), { name: "reg.example" });
    expect([report.code, report.trouble]).toEqual([0, []]);
    expect(report.step("token", "ci").detail).toBe("found, and not tried");
    expect(report.step("manifest").detail).toContain("--reference");
  });

  test.each([
    [{ words: ["quay.io"] }, 'there is no upstream "quay.io"; there is docker.io'],
    [{ timeout: "ten" }, "--timeout: expected a duration"],
    [{ timeout: "2m" }, "--timeout: expected a duration up to 60s"],
    [{ reference: "UPPER:1" }, '--reference "UPPER:1"'],
    [{ env: { HTTPS_PROXY: "socks5://me:hunter2-s3cret@x" } }, "HTTPS_PROXY is not a proxy's address"],
  ])("O1 %j is a wrong command line", async (options, sentence) => {
    const report = await examine({}, options);
    expect([report.code, report.stdout]).toEqual([2, ""]);
    expect(report.stderr).toContain(sentence);
  });

  test("O1 a wrong configuration is told as `weir check` does", async () => {
    const report = await examine({ typo: true });
    expect([report.code, report.stderr]).toEqual([1, expect.stringContaining("typo")]);
  });
});

test("the table for people has a line a step, and what to do below it", async () => {
  const hub = await startHub();
  const report = await examine(hubSection(hub, { credentials: credentials("wrong") }), { json: false });
  const lines = report.stdout.replace(/ +\d+ ms/g, " N ms").split("\n");
  expect(lines[0]).toBe(`docker.io  ${hub.url}, asked for library/alpine:latest`);
  expect(lines.find((line) => line.includes("token (ci)"))).toMatch(/^ {2}token \(ci\) +failed +N ms {2}docker\.io: /);
  expect(report.stdout).toContain("-> the registry does not take this user name and password: replace");
  expect(lines.at(-2)).toBe("1 endpoint: not all is well with docker.io");
});
