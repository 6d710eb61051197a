import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";

const ENV = { REDIS_PASSWORD: "hunter2-redis", CLUSTER_SECRET: "between the members" };

function parsed(sections: Readonly<Record<string, unknown>>) {
  return parseConfig(sections, {}, "/srv/weir");
}

function configOf(sections: Readonly<Record<string, unknown>>) {
  const result = parsed(sections);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

function problems(sections: Readonly<Record<string, unknown>>): readonly string[] {
  const result = parsed(sections);
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

function redis(section: Readonly<Record<string, unknown>>) {
  const { state } = configOf({ state: { driver: "redis", redis: section } });
  if (state.driver !== "redis") throw new Error("no Redis");
  return state.redis;
}

describe("state", () => {
  test("is memory unless the file says otherwise", () => {
    expect(configOf({}).state).toEqual({ driver: "memory" });
  });

  test("one server: the password leaves the address", () => {
    const config = redis({ url: "redis://me:p%40ss@redis.example/2" });
    expect(config.at).toEqual({ kind: "url", url: new URL("redis://redis.example:6379/2") });
    expect(config.username).toBe("me");
    expect(config.password?.reveal()).toBe("p@ss");
    expect(config.tls).toBeUndefined();
    expect(config.prefix).toBe("weir:");
  });

  test("a password of its own wins, and is a secret", () => {
    const config = redis({ url: "rediss://redis.example:6380", password: ENV.REDIS_PASSWORD, tls: { ca: "ca.pem" } });
    expect(config.password?.reveal()).toBe("hunter2-redis");
    expect(JSON.stringify(config)).not.toContain("hunter2");
    expect(config.tls).toEqual({ ca: "/srv/weir/ca.pem", cert: undefined, key: undefined });
  });

  test("sentinels and clusters", () => {
    expect(redis({ url: "redis://s1", nodes: ["redis://s2:1"], sentinel: "main" }).at).toEqual({
      kind: "sentinel",
      name: "main",
      nodes: [
        { host: "s1", port: 26_379 },
        { host: "s2", port: 1 },
      ],
    });
    expect(redis({ url: "redis://[::1]:7000", nodes: ["redis://n2"], cluster: true }).at).toEqual({
      kind: "cluster",
      nodes: [new URL("redis://[::1]:7000"), new URL("redis://n2:6379")],
    });
  });

  test.each<[string, unknown, string]>([
    ["no address", undefined, "state.redis: is missing"],
    ["an address of something else", { url: "https://redis.example" }, "state.redis.url: "],
    ["a query", { url: "redis://redis.example?x=1" }, "state.redis.url: "],
    ["nodes of one server", { url: "redis://a", nodes: ["redis://b"] }, "state.redis.nodes: "],
    ["both", { url: "redis://a", sentinel: "main", cluster: true }, "state.redis.cluster: "],
    ["half a certificate", { url: "rediss://a", tls: { cert: "c.pem" } }, "state.redis.tls: "],
    ["TLS without TLS", { url: "redis://a", tls: { ca: "c.pem" } }, "state.redis.tls: "],
    ["an unknown key", { url: "redis://a", port: 1 }, "state.redis.port: "],
  ])("O1 refuses %s", (_, section, expected) => {
    const found = problems({ state: { driver: "redis", ...(section === undefined ? {} : { redis: section }) } });
    expect(found.map((line) => line.slice(0, expected.length))).toEqual([expected]);
  });

  test("O1 a Redis that would not be used is said to be without effect", () => {
    expect(problems({ state: { redis: { url: "redis://a" } } })).toEqual([
      "state.redis: has no effect, since state.driver is memory; set it to redis, or leave this out",
    ]);
  });
});

describe("cluster", () => {
  const state = { driver: "redis", redis: { url: "redis://redis.example" } };

  test("is off unless it listens", () => {
    expect(configOf({}).cluster).toBeUndefined();
  });

  test("an address, the same for the others, and a secret", () => {
    const { cluster } = configOf({ state, cluster: { listen: "10.1.2.3:5002", secret: ENV.CLUSTER_SECRET } });
    expect(cluster?.listen).toEqual({ host: "10.1.2.3", port: 5002 });
    expect(cluster?.advertise).toBeUndefined();
    expect(cluster?.secret.reveal()).toBe("between the members");
    expect(JSON.stringify(cluster)).not.toContain("members");
  });

  test.each<[string, Readonly<Record<string, unknown>>, string]>([
    ["no secret", { cluster: { listen: "10.1.2.3:5002" }, state }, "cluster.secret: "],
    ["a short secret", { cluster: { listen: "10.1.2.3:5002", secret: "short" }, state }, "cluster.secret: "],
    ["no shared state", { cluster: { listen: "10.1.2.3:5002", secret: ENV.CLUSTER_SECRET } }, "cluster.listen: "],
    ["every address", { cluster: { listen: ":5002", secret: ENV.CLUSTER_SECRET }, state }, "cluster.advertise: "],
    ["a secret for nothing", { cluster: { secret: ENV.CLUSTER_SECRET }, state }, "cluster.secret: "],
    [
      "an address without port",
      { cluster: { listen: "10.1.2.3:5002", advertise: "weir-0", secret: ENV.CLUSTER_SECRET }, state },
      "cluster.advertise: ",
    ],
  ])("O1 refuses %s", (_, sections, expected) => {
    expect(problems(sections).map((line) => line.slice(0, expected.length))).toEqual([expected]);
  });
});
