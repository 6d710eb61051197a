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
  "admin.listen": ["127.0.0.1:5001", "127.0.0.1:5002"],
  "download.rangeWait": ["1s", "2s"],
  "download.minRate": ["1KiB", "2KiB"],
  "download.stalledAttempts": [1, 2],
  "download.abandon": ["never", "1s"],
  "storage.filesystem.root": ["a", "b"],
  "storage.spool.dir": ["a", "b"],
  "limits.manifestSize": ["1MiB", "2MiB"],
  "limits.requestHeaders": ["16KiB", "32KiB"],
  "limits.responseHeaders": ["16KiB", "32KiB"],
  "shutdown.grace": ["1s", "2s"],
};

/** There is one value to choose from so far. */
const WITHOUT_CHOICE = ["server.workers", "storage.driver", "state.driver"];

const LIVE_SECTIONS = ["routing", "upstreams", "freshness", "access"];
const LIVE_KEYS = ["telemetry.logLevel"];

/** The whole of `server.tls` has to be there when one key is. */
const BESIDE = { server: { tls: { cert: "c.pem", key: "k.pem" } } };

describe("every key is live or needs a restart", () => {
  const keys = schemaKeys().filter(({ live }) => live);

  test.each(keys.map(({ path }) => path.join(".")))("%s", (key) => {
    const isLive = LIVE_KEYS.includes(key) || LIVE_SECTIONS.some((section) => key.startsWith(`${section}.`));
    const known = isLive || WITHOUT_CHOICE.includes(key) || key in FIXED;
    expect([key, known]).toEqual([key, true]);
  });
});

describe("O3 a key that needs a restart is named", () => {
  test.each(Object.entries(FIXED))("%s", (key, values) => {
    const [before, after] = values.map((value) => configOf(withValueAt(BESIDE, key.split("."), value)));
    if (before === undefined || after === undefined) {
      throw new Error("two values are needed");
    }
    expect(keysNeedingRestart(before, before)).toEqual([]);
    // The folder for downloads under way is below the root unless it says otherwise.
    const moved = key === "storage.filesystem.root" ? [key, "storage.spool.dir"] : [key];
    expect(keysNeedingRestart(before, after)).toEqual(moved);
  });

  test("all of them at once, and a key that comes or goes", () => {
    const before = configOf({});
    const after = configOf({ ...BESIDE, shutdown: { grace: "1s" } });
    expect(keysNeedingRestart(before, after)).toEqual(["server.tls.cert", "server.tls.key", "shutdown.grace"]);
    expect(keysNeedingRestart(after, before)).toEqual(["server.tls.cert", "server.tls.key", "shutdown.grace"]);
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
