import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import { keysNeedingRestart } from "../../../src/config/reload-keys.ts";
import { schemaKeys } from "../../../src/config/schema.ts";
import { withValueAt } from "../../../src/config/tree.ts";
import type { Config } from "../../../src/config/types.ts";

function configOf(input: unknown): Config {
  const result = parseConfig(input, {}, "/srv/weir");
  if (!result.ok) {
    throw new Error(JSON.stringify(result.problems));
  }
  return result.config;
}

/** Two values of each key that only a start puts in force. */
const FIXED: Readonly<Record<string, readonly [unknown, unknown]>> = {
  "server.listen": ["127.0.0.1:5000", "127.0.0.1:5002"],
  "server.publicUrl": ["http://a.example", "http://b.example"],
  "server.tls.cert": ["a.pem", "b.pem"],
  "server.tls.key": ["a.key", "b.key"],
  "server.tls.clientCa": ["a.ca", "b.ca"],
  "server.trustedProxies": [[], ["10.0.0.0/8"]],
  "server.accelRedirect": ["/a/", "/b/"],
  "admin.allow": [[], ["10.0.0.0/8"]],
  "admin.listen": ["127.0.0.1:5001", "127.0.0.1:5002"],
  "admin.token": ["one-token-of-some-length", "another-token-of-some-length"],
  "download.rangeWait": ["1s", "2s"],
  "download.minRate": ["1KiB", "2KiB"],
  "download.stalledAttempts": [1, 2],
  "download.abandon": ["never", "1s"],
  "server.workers": [1, 2],
  "cluster.listen": ["10.0.0.1:5002", "10.0.0.2:5002"],
  "cluster.advertise": ["a:5002", "b:5002"],
  "cluster.secret": ["a secret of the replicas", "another of the replicas"],
  "state.redis.url": ["rediss://a", "rediss://b"],
  "state.redis.nodes": [["rediss://c"], ["rediss://d"]],
  "state.redis.sentinel": ["one", "another"],
  "state.redis.cluster": [false, true],
  "state.redis.username": ["a", "b"],
  "state.redis.password": ["a", "b"],
  "state.redis.tls.ca": ["a", "b"],
  "state.redis.tls.cert": ["a", "b"],
  "state.redis.tls.key": ["a", "b"],
  "state.redis.prefix": ["a", "b"],
  "storage.filesystem.root": ["a", "b"],
  "storage.filesystem.shared": [false, true],
  "storage.spool.dir": ["a", "b"],
  "storage.driver": ["filesystem", "s3"],
  "storage.s3.bucket": ["one-bucket", "another"],
  "storage.s3.region": ["eu-north-1", "eu-west-1"],
  "storage.s3.endpoint": ["https://a.example", "https://b.example"],
  "storage.s3.publicEndpoint": ["https://a.example", "https://b.example"],
  "storage.s3.prefix": ["a", "b"],
  "storage.s3.forcePathStyle": [true, false],
  "storage.s3.accessKeyId": ["a", "b"],
  "storage.s3.secretAccessKey": ["a", "b"],
  "storage.s3.sessionToken": ["a", "b"],
  "storage.s3.serverSideEncryption": ["aws:kms", "aws:kms:dsse"],
  "storage.s3.kmsKeyId": ["a", "b"],
  "storage.s3.storageClass": ["STANDARD", "GLACIER_IR"],
  "storage.s3.redirect": [false, true],
  "storage.s3.redirectExcept": [[], ["10.0.0.0/8"]],
  "storage.s3.maxConnections": [1, 2],
  "storage.s3.timeouts.connect": ["1s", "2s"],
  "storage.s3.timeouts.idle": ["1s", "2s"],
  "limits.manifestSize": ["1MiB", "2MiB"],
  "limits.requestHeaders": ["16KiB", "32KiB"],
  "limits.responseHeaders": ["16KiB", "32KiB"],
  "limits.connections": [100, 200],
  "limits.connectionsPerClient": [10, 20],
  "telemetry.otlpEndpoint": ["http://a:4318", "http://b:4318"],
  "telemetry.otlpHeaders": [{ authorization: "a" }, { authorization: "b" }],
  "telemetry.sampleRatio": [0.1, 0.2],
  "shutdown.grace": ["1s", "2s"],
};

/** Another value comes with keys of its own. */
const TESTED_APART = ["state.driver"];

const LIVE_SECTIONS = ["routing", "upstreams", "freshness", "access"];
const LIVE_KEYS = [
  "storage.maxSize",
  "storage.highWater",
  "storage.lowWater",
  "storage.maxAge",
  "storage.pins",
  "storage.s3.maxSize",
  "telemetry.logLevel",
];

/** The whole of `server.tls` has to be there when one key is. */
const BESIDE = { server: { tls: { cert: "c.pem", key: "k.pem" } } };

/** What keys of replicas go together with. */
const FLEET_BESIDE = {
  state: { driver: "redis", redis: { url: "rediss://redis.example", tls: { cert: "c.pem", key: "k.pem" } } },
  cluster: { listen: "10.0.0.9:5002", secret: "a secret of the replicas" },
};

/** What one key needs that another could not have. */
function besideOf(key: string): unknown {
  const common = {
    ...BESIDE,
    ...FLEET_BESIDE,
    storage: { s3: S3_BESIDE },
    telemetry: { otlpEndpoint: "http://c:4318" },
  };
  if (key === "server.accelRedirect") return withValueAt(common, ["server", "trustedProxies"], ["127.0.0.1"]);
  if (key === "state.redis.nodes") return withValueAt(common, ["state", "redis", "sentinel"], "main");
  return key === "storage.filesystem.shared" ? withValueAt(common, ["storage", "spool", "dir"], "spool") : common;
}

/** What keys of `storage.s3` go together with. */
const S3_BESIDE = {
  bucket: "bucket",
  forcePathStyle: true,
  accessKeyId: "key",
  secretAccessKey: "secret",
  serverSideEncryption: "aws:kms",
};

describe("every key is live or needs a restart", () => {
  test.each(schemaKeys().map(({ path }) => path.join(".")))("%s", (key) => {
    const isLive = LIVE_KEYS.includes(key) || LIVE_SECTIONS.some((section) => key.startsWith(`${section}.`));
    const known = isLive || TESTED_APART.includes(key) || key in FIXED;
    expect([key, known]).toEqual([key, true]);
  });
});

describe("O3 a key that needs a restart is named", () => {
  test.each(Object.entries(FIXED))("%s", (key, values) => {
    const [before, after] = values.map((value) => configOf(withValueAt(besideOf(key), key.split("."), value)));
    if (before === undefined || after === undefined) {
      throw new Error("two values are needed");
    }
    expect(keysNeedingRestart(before, before)).toEqual([]);
    // The folder for downloads under way is below the root unless it says otherwise.
    const moved = key === "storage.filesystem.root" ? [key, "storage.spool.dir"] : [key];
    // The address says how it is reached, one server or several.
    const place = ["state.redis.url", "state.redis.nodes", "state.redis.sentinel", "state.redis.cluster"];
    expect(keysNeedingRestart(before, after)).toEqual(place.includes(key) ? place : moved);
  });

  test("all of them at once, and a key that comes or goes", () => {
    const before = configOf({});
    const after = configOf({ ...BESIDE, shutdown: { grace: "1s" } });
    expect(keysNeedingRestart(before, after)).toEqual(["server.tls.cert", "server.tls.key", "shutdown.grace"]);
    expect(keysNeedingRestart(after, before)).toEqual(["server.tls.cert", "server.tls.key", "shutdown.grace"]);
  });

  test("another place for what is shared", () => {
    const named = keysNeedingRestart(configOf({}), configOf({ state: FLEET_BESIDE.state }));
    expect(named.slice(0, 2)).toEqual(["state.driver", "state.redis.url"]);
  });

  test("a default that is written out is no change", () => {
    const written = configOf({ server: { listen: "127.0.0.1:5000" }, storage: { filesystem: { root: "./data" } } });
    expect(keysNeedingRestart(configOf({}), written)).toEqual([]);
  });
});

test("O3 nothing that is live is named", () => {
  const after = configOf({
    routing: { default: "none", hosts: { "hub.example": "quay.io" }, dynamic: { allow: ["*.example"] } },
    upstreams: {
      "quay.io": {
        aliases: ["q.example"],
        endpoints: ["https://other.example"],
        credentials: [{ label: "ci", username: "me", password: "x" }],
        realms: ["a.example"],
        redirects: { allow: ["10.0.0.0/8"] },
        freshness: { default: "1m", rules: [{ match: "**:x", ttl: "1m" }] },
        timeouts: { connect: "1s", headers: "1s", body: "1s" },
        maxConnections: 3,
        tls: { ca: "ca.pem", insecureSkipVerify: true },
        budgetStatus: 429,
        sendNs: true,
      },
    },
    freshness: { default: "1m", onGone: "drop" },
    access: { privateToAnonymous: true },
    telemetry: { logLevel: "debug" },
  });
  expect(keysNeedingRestart(configOf({}), after)).toEqual([]);
});
