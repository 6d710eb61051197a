import { afterEach, beforeEach, expect, test } from "vitest";
import { type AddressGate, createAddressGate } from "../../../src/access/client-addresses.ts";
import type { DenialReason } from "../../../src/access/denied-error.ts";
import { silentLog } from "../../../src/base/log.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { createAdminServer, type Readiness } from "../../../src/http/admin.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";
import { fakePage } from "../../support/fake-page.ts";
import { fakeUpkeep } from "../../support/fake-upkeep.ts";
import { httpRequest } from "../../support/network.ts";

let stack: AsyncDisposableStack;
let url: string;
let readiness: Readiness;
let gate: AddressGate;
let denied: DenialReason[];
let metrics: { expose(): Promise<{ contentType: string; body: string }> };

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  readiness = { ready: true, reasons: [] };
  gate = createAddressGate("admin", { allow: [], deny: [] });
  denied = [];
  metrics = createMetrics({ version: "1.2.3", isConfigured: () => true });
  const server = createAdminServer({
    config: { listen: { host: "127.0.0.1", port: 0 } },
    metrics: { expose: () => metrics.expose() },
    observer: { denied: (reason) => denied.push(reason) },
    admit: (client) => gate.admit(client),
    ready: () => readiness,
    setup: {
      config: () => ({ routing: { default: undefined, hosts: new Map(), dynamic: { allow: [] } }, upstreams: [] }),
      server: () => ({
        listen: { host: "127.0.0.1", port: 5000 },
        publicUrl: undefined,
        tls: undefined,
        workers: 1,
        trustedProxies: [],
        accelRedirect: undefined,
      }),
    },
    control: { upkeep: fakeUpkeep(), tokens: [] },
    page: fakePage(),
    log: silentLog,
    clock: systemClock,
    newRequestId: () => "id",
  });
  const { port } = await server.listen();
  url = `http://127.0.0.1:${port}`;
  stack.defer(() => server.stop(0));
});

afterEach(() => stack.disposeAsync());

test("/metrics is the exposition in Prometheus' own type", async () => {
  const reply = await httpRequest(`${url}/metrics`);
  expect([reply.status, reply.headers["content-type"]]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  expect(reply.body.toString()).toContain('weir_build_info{version="1.2.3"');
});

test("/healthz is 200 for as long as the process answers", async () => {
  readiness = { ready: false, reasons: ["the storage is read-only"] };
  expect((await httpRequest(`${url}/healthz`)).status).toBe(200);
});

test("O2 /readyz is 503 with the reasons while requests should go elsewhere", async () => {
  expect((await httpRequest(`${url}/readyz`)).status).toBe(200);
  readiness = { ready: false, reasons: ["Weir is stopping"] };
  const reply = await httpRequest(`${url}/readyz`);
  expect([reply.status, JSON.parse(reply.body.toString())]).toEqual([503, readiness]);
});

test("admin.allow closes everything but the health of the process, and names itself", async () => {
  gate = createAddressGate("admin", { allow: ["10.0.0.0/8"], deny: [] });
  for (const path of ["/metrics", "/setup/", "/elsewhere"]) {
    const reply = await httpRequest(url + path);
    const { errors } = JSON.parse(reply.body.toString());
    expect([reply.status, errors[0].code, errors[0].detail.key]).toEqual([403, "DENIED", "admin.allow"]);
  }
  expect(denied).toEqual(["address", "address", "address"]);
  for (const path of ["/healthz", "/readyz"]) expect((await httpRequest(url + path)).status).toBe(200);
});

test.each([
  ["GET", "/", 404],
  ["GET", "/v2/", 404],
  ["POST", "/metrics", 405],
])("%s %s is a JSON error %i", async (method, path, status) => {
  const reply = await httpRequest(url + path, { method });
  expect([reply.status, reply.headers["content-type"]]).toEqual([status, "application/json"]);
  expect(JSON.parse(reply.body.toString())).toMatchObject({ errors: [{ code: "UNSUPPORTED" }] });
});

test("HEAD is offered where GET is", async () => {
  expect((await httpRequest(`${url}/healthz`, { method: "HEAD" })).status).toBe(200);
});

test("a failure inside is a JSON 500", async () => {
  metrics = { expose: () => Promise.reject(new Error("inside")) };
  const reply = await httpRequest(`${url}/metrics`);
  expect(reply.status).toBe(500);
  expect(reply.body.toString()).not.toContain("inside");
});

test.each(["/metrics", "/healthz", "/nowhere", "/control/stats", "/explain?ref=a", "/page", "/setup/"])(
  "%s tells browsers to do nothing with it but show it",
  async (path) => {
    const { headers } = await httpRequest(`${url}${path}`, { headers: { origin: "https://elsewhere.example" } });
    expect(headers).toMatchObject({
      "x-content-type-options": "nosniff",
      "content-security-policy": expect.stringContaining("frame-ancestors 'none'"),
    });
    expect(headers).not.toHaveProperty("access-control-allow-origin");
  },
);

test("what changes something is refused without the token, whatever a browser can be made to send", async () => {
  for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"]) {
    const { status } = await httpRequest(`${url}/control/purge`, {
      method: "POST",
      headers: { "content-type": type, cookie: "weir_session=x", origin: "https://elsewhere.example" },
      body: '{"reference":"docker.io/library/nginx"}',
    });
    expect([type, status]).toEqual([type, 403]);
  }
});
