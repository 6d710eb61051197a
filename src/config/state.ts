import { resolve } from "node:path";
import { z } from "zod";
import { Secret } from "../base/secret.ts";
import type { RedisConfig, StateConfig } from "./types.ts";
import { choice, filePath, flag, mapping, text, value } from "./values.ts";

const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26_379;

const redisUrl = value(
  "an address such as redis://redis.example:6379/0, or rediss:// for TLS",
  (input) => (typeof input === "string" ? parseRedisUrl(input) : undefined),
  { type: "string", pattern: "^rediss?://|\\$\\{" },
);

export const stateSchema = mapping({
  driver: choice(["memory", "redis"])
    .prefault("memory")
    .describe("Where what only saves work is remembered: in each process, or in a Redis that replicas share."),
  redis: mapping({
    url: redisUrl.describe("A Redis server, a sentinel, or a node of a cluster; rediss:// is TLS."),
    nodes: z.array(redisUrl).prefault([]).describe("More sentinels, or more nodes of the cluster."),
    sentinel: text.optional().describe("The master's name; then url and nodes are sentinels that know where it is."),
    cluster: flag.prefault(false).describe("Whether it is a Redis Cluster; the nodes that are not named are found."),
    username: text.optional().describe("User name, where Redis has accounts; sentinels are asked without."),
    password: text.optional().describe("Password; better from a variable or a file than written here."),
    tls: mapping({
      ca: filePath.optional().describe("PEM file with the authorities to trust instead of the system's."),
      cert: filePath.optional().describe("PEM file with a client certificate; needs key."),
      key: filePath.optional().describe("PEM file with the client certificate's private key."),
    })
      .prefault({})
      .describe("TLS, where url begins with rediss://."),
    prefix: text.prefault("weir:").describe("In front of every key, so that one Redis can serve several fleets."),
  })
    .optional()
    .describe("For the driver redis."),
})
  .prefault({})
  .describe("What may be lost: freshness, quotas, absent tags, leases.");

type Report = (path: readonly (string | number)[], message: string) => void;

/** Reports what does not go together; memory then. */
export function stateConfig(parsed: z.output<typeof stateSchema>, cwd: string, report: Report): StateConfig {
  const { driver, redis } = parsed;
  if (driver === "memory") {
    if (redis !== undefined) {
      report(["redis"], "has no effect, since state.driver is memory; set it to redis, or leave this out");
    }
    return { driver };
  }
  if (redis === undefined) {
    report(["redis"], "is missing; state.driver: redis needs at least state.redis.url");
    return { driver: "memory" };
  }
  const { url, nodes, sentinel, cluster, tls } = redis;
  if (sentinel !== undefined && cluster) {
    report(["redis", "cluster"], "does not go together with state.redis.sentinel; leave one of them out");
  }
  if (nodes.length > 0 && sentinel === undefined && !cluster) {
    report(["redis", "nodes"], "needs state.redis.sentinel or state.redis.cluster: one server has one address");
  }
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    report(["redis", "tls"], "cert and key go together; one of them is missing");
  }
  const file = (path: string | undefined): string | undefined => (path === undefined ? undefined : resolve(cwd, path));
  const secure = url.protocol === "rediss:";
  if (!secure && Object.values(tls).some((path) => path !== undefined)) {
    report(["redis", "tls"], `has no effect, since ${withoutLogin(url).href} is not rediss://`);
  }
  const password = redis.password ?? (decodeURIComponent(url.password) || undefined);
  return {
    driver,
    redis: {
      at: place([url, ...nodes].map(withoutLogin), sentinel, cluster),
      username: redis.username ?? (decodeURIComponent(url.username) || undefined),
      password: password === undefined ? undefined : new Secret(password),
      tls: secure ? { ca: file(tls.ca), cert: file(tls.cert), key: file(tls.key) } : undefined,
      prefix: redis.prefix,
    },
  };
}

function place(urls: readonly URL[], sentinel: string | undefined, cluster: boolean): RedisConfig["at"] {
  if (sentinel !== undefined) {
    const nodes = urls.map(({ hostname, port }) => ({
      host: hostname.replace(/^\[|\]$/g, ""),
      port: port === "" ? DEFAULT_SENTINEL_PORT : Number(port),
    }));
    return { kind: "sentinel", name: sentinel, nodes };
  }
  const addresses = urls.map((url) => {
    const full = new URL(url);
    full.port ||= String(DEFAULT_PORT);
    return full;
  });
  const [first] = addresses;
  if (cluster || first === undefined) {
    return { kind: "cluster", nodes: addresses };
  }
  return { kind: "url", url: first };
}

/** The password travels as a secret, so that no message about the address can show it. */
function withoutLogin(url: URL): URL {
  const bare = new URL(url);
  bare.username = "";
  bare.password = "";
  return bare;
}

function parseRedisUrl(input: string): URL | undefined {
  if (!/^rediss?:\/\/[^\s\\]+$/i.test(input) || !URL.canParse(input)) {
    return undefined;
  }
  const url = new URL(input);
  const { hostname, pathname, search, hash } = url;
  return hostname === "" || !/^\/?\d{0,3}$/.test(pathname) || search !== "" || hash !== "" ? undefined : url;
}
