import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { UpstreamConfig } from "../../../src/config/types.ts";
import { createUpstreams } from "../../../src/upstream/upstreams.ts";
import { FakeUpstream } from "../../support/fake-upstream.ts";
import { tempFolder } from "../../support/processes.ts";

function configsOf(upstreams: unknown, more: object = {}): readonly UpstreamConfig[] {
  const result = parseConfig({ upstreams, routing: { dynamic: { allow: ["*.example"] } }, ...more }, {}, "/srv/weir");
  if (!result.ok) {
    throw new Error(JSON.stringify(result.problems));
  }
  return result.config.upstreams;
}

function bench(create: (config: UpstreamConfig) => FakeUpstream = ({ name }) => new FakeUpstream(name)) {
  const allowed = { hosts: ["dynamic.example"] };
  const upstreams = createUpstreams({
    create,
    allowsDynamic: (host) => allowed.hosts.includes(host),
    createDynamic: (host) => new FakeUpstream(host),
  });
  const put = (configs: readonly UpstreamConfig[]) => {
    const { putInForce, ...effect } = upstreams.prepare(configs);
    putInForce();
    return effect;
  };
  return { upstreams, put, allowed };
}

const credentials = (password: string) => ({ credentials: [{ label: "ci", username: "me", password }] });

describe("O3 another configuration", () => {
  test("adds, removes and replaces, and leaves what it does not change", () => {
    const { upstreams, put } = bench();
    const first = { "a.example": {}, "b.example": credentials("one"), "c.example": {} };
    expect(put(configsOf(first))).toEqual({
      added: ["a.example", "b.example", "c.example"],
      replaced: [],
      removed: [],
    });
    const [a, b, c] = Object.keys(first).map((name) => upstreams.get(name));
    const next = { "a.example": {}, "b.example": credentials("two"), "d.example": {} };
    expect(put(configsOf(next))).toEqual({ added: ["d.example"], replaced: ["b.example"], removed: ["c.example"] });
    expect(upstreams.get("a.example")).toBe(a);
    expect(upstreams.get("b.example")).not.toBe(b);
    expect(upstreams.get("c.example")).toBeUndefined();
    expect(upstreams.get("d.example")).toBeDefined();
    expect([a, b, c].map((upstream) => upstream instanceof FakeUpstream && upstream.retired)).toEqual([
      false,
      true,
      true,
    ]);
  });

  test("that differs in freshness only replaces nothing", () => {
    const { put } = bench();
    put(configsOf({ "a.example": credentials("one") }));
    const effect = put(
      configsOf(
        { "a.example": { ...credentials("one"), freshness: { onGone: "drop" } } },
        { freshness: { default: "1s" } },
      ),
    );
    expect(effect).toEqual({ added: [], replaced: [], removed: [] });
  });

  test.each<[string, object]>([
    ["endpoints", { endpoints: ["https://other.example"] }],
    ["realms", { realms: ["other.example"] }],
    ["redirects", { redirects: { allow: ["10.0.0.0/8"] } }],
    ["timeouts", { timeouts: { body: "1s" } }],
    ["maxConnections", { maxConnections: 1 }],
    ["tls", { tls: { insecureSkipVerify: true } }],
    ["sendNs", { sendNs: true }],
    ["type", { type: "dockerhub", endpoints: ["https://a.example"] }],
  ])("that differs in %s replaces the upstream", (_key, change) => {
    const { put } = bench();
    put(configsOf({ "a.example": {}, "b.example": {} }));
    expect(put(configsOf({ "a.example": change, "b.example": {} })).replaced).toEqual(["a.example"]);
  });

  test("that names the same TLS files replaces the upstream only where their content differs", async () => {
    await using stack = new AsyncDisposableStack();
    const ca = join(await tempFolder(stack), "ca.pem");
    await writeFile(ca, "one");
    const { put } = bench();
    const configs = configsOf({ "a.example": { tls: { ca } } });
    put(configs);
    expect(put(configs).replaced).toEqual([]);
    await writeFile(ca, "two");
    expect(put(configs).replaced).toEqual(["a.example"]);
  });

  test("changes nothing before it is put in force, and nothing when an upstream of it cannot be made", () => {
    const { upstreams, put } = bench((config) => {
      if (config.sendNs) throw new Error("cannot be made");
      return new FakeUpstream(config.name);
    });
    put(configsOf({ "a.example": {} }));
    const a = upstreams.get("a.example");
    upstreams.prepare(configsOf({ "b.example": {} }));
    expect(() =>
      upstreams.prepare(configsOf({ "a.example": { maxConnections: 1 }, "b.example": { sendNs: true } })),
    ).toThrow("cannot be made");
    expect(upstreams.get("a.example")).toBe(a);
    expect(upstreams.get("b.example")).toBeUndefined();
    expect(a instanceof FakeUpstream && a.retired).toBe(false);
  });
});

test("O3 a host that was served without being configured is not, once that is not allowed any more", () => {
  const { upstreams, allowed } = bench();
  const made = upstreams.get("dynamic.example");
  expect(made).toBeDefined();
  expect(upstreams.get("dynamic.example")).toBe(made);
  allowed.hosts = [];
  expect(upstreams.get("dynamic.example")).toBeUndefined();
});
