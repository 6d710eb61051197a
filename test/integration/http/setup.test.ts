import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import { createAdminServer } from "../../../src/http/admin.ts";
import { SETUP_CLIENTS } from "../../../src/http/setup/clients.ts";
import { fakePage } from "../../support/fake-page.ts";
import { fakeUpkeep } from "../../support/fake-upkeep.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import { run, tempFolder } from "../../support/processes.ts";
import { toolTest } from "../../support/tools.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** The address of an operators' port for such a configuration. */
async function adminFor(input: unknown): Promise<string> {
  const parsed = parseConfig(input, {});
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const server = createAdminServer({
    config: { listen: { host: "127.0.0.1", port: 0 } },
    metrics: { expose: () => Promise.reject(new Error("not asked for")) },
    observer: { denied: () => {} },
    admit: () => {},
    ready: () => ({ ready: true, reasons: [] }),
    setup: { config: () => parsed.config, server: () => parsed.config.server },
    control: { upkeep: fakeUpkeep(), tokens: [] },
    page: fakePage(),
    log: silentLog,
    clock: systemClock,
    newRequestId: () => "id",
  });
  const { port } = await server.listen();
  stack.defer(() => server.stop(0));
  return `http://127.0.0.1:${port}`;
}

const bodyOf = (reply: HttpReply): string => reply.body.toString();

const EVERYWHERE = { server: { listen: ":5000" } };

test.each(["/setup", "/setup/"])("%s lists a command for each client", async (path) => {
  const admin = await adminFor({ server: { listen: "10.1.2.3:5000" } });
  const reply = await httpRequest(admin + path);
  expect([reply.status, reply.headers["content-type"]]).toEqual([200, "text/plain; charset=utf-8"]);
  for (const { name } of SETUP_CLIENTS) expect(bodyOf(reply)).toContain(`curl -fsS '${admin}/setup/${name}' | `);
  expect(bodyOf(reply)).toContain("http://10.1.2.3:5000");
});

test("the list says which clients cannot use a loopback address, instead of a command", async () => {
  const admin = await adminFor({});
  const text = bodyOf(await httpRequest(`${admin}/setup/`));
  expect(text).toContain(`curl -fsS '${admin}/setup/containerd' | sudo sh`);
  expect(text).not.toContain("/setup/kind");
  expect(text).toMatch(/kind\n {2}not now: .*loopback/);
});

test("a server that listens everywhere is named as the asker has named this machine", async () => {
  const admin = await adminFor(EVERYWHERE);
  const reply = await httpRequest(`${admin}/setup/podman`, { headers: { host: "weir.example:5001" } });
  expect(bodyOf(reply)).toContain('location = "weir.example:5000/docker.io"');
  expect(reply.headers["cache-control"]).toBe("no-store");
});

test("server.publicUrl goes before what the asker says", async () => {
  const admin = await adminFor({ server: { listen: ":5000", publicUrl: "https://cache.example" } });
  const reply = await httpRequest(`${admin}/setup/podman`, { headers: { host: "weir.example:5001" } });
  expect(bodyOf(reply)).toContain('location = "cache.example/docker.io"');
  expect(bodyOf(reply)).not.toContain("weir.example");
});

test.each(["a b", "$(touch owned)", "'; touch owned; '", "x/../y", '"'])(
  "no Host header gets into a script: %s",
  async (host) => {
    const admin = new URL(await adminFor(EVERYWHERE));
    for (const path of ["/setup/containerd", "/setup/"]) {
      // As raw bytes: a client library would not send such a header.
      const socket = connect(Number(admin.port), admin.hostname);
      socket.end(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      let text = "";
      socket.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      await once(socket, "close");
      expect(text).toMatch(/^HTTP\/1\.1 4\d\d /);
      expect(text).not.toContain(host);
    }
  },
);

test("?only=true is for clients that may not go past the cache, and nothing else is understood", async () => {
  const admin = await adminFor({ upstreams: { "quay.io": {} } });
  const only = bodyOf(await httpRequest(`${admin}/setup/containerd?only=true`));
  expect(only).toContain('server = "http://127.0.0.1:5000"');
  expect(bodyOf(await httpRequest(`${admin}/setup/containerd`))).toContain('server = "https://quay.io"');
  expect(bodyOf(await httpRequest(`${admin}/setup/?only=true`))).toContain("/setup/containerd?only=true'");
  expect((await httpRequest(`${admin}/setup/containerd?only=false`)).status).toBe(409);
});

test("HEAD is offered, and nothing that writes", async () => {
  const admin = await adminFor({});
  expect((await httpRequest(`${admin}/setup/containerd`, { method: "HEAD" })).status).toBe(200);
  expect((await httpRequest(`${admin}/setup/containerd`, { method: "POST" })).status).toBe(405);
});

toolTest(
  ["dash"],
  "what cannot be had is a script that says why and fails, whoever pipes it into a shell",
  async () => {
    const admin = await adminFor({});
    const file = join(await tempFolder(stack), "script");
    for (const [path, status, word] of [
      ["/setup/rpm", 404, "containerd, docker"],
      ["/setup/kind", 409, "loopback"],
    ] as const) {
      const reply = await httpRequest(admin + path);
      expect(reply.status).toBe(status);
      await writeFile(file, reply.body);
      const result = await run(["dash", file], { allowFailure: true });
      expect([result.code, result.stdout]).toEqual([1, ""]);
      expect(result.stderr).toContain(word);
    }
  },
);
