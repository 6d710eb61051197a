// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import { keysNeedingRestart } from "../../../src/config/reload-keys.ts";
import type { Config, UpstreamConfig } from "../../../src/config/types.ts";

function parsed(input: unknown, env: NodeJS.ProcessEnv = {}): Config {
  const result = parseConfig(input, env, "/srv/weir");
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

/** `path: message` of each problem. */
function problems(input: unknown): readonly string[] {
  const result = parseConfig(input, {}, "/srv/weir");
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

const named = ({ upstreams }: Config, name: string): UpstreamConfig | undefined =>
  upstreams.find((upstream) => upstream.name === name);

describe("freshness.whenBudgetLow.below", () => {
  test.each<[unknown, unknown]>([
    ["10%", { share: 0.1 }],
    ["2.5%", { share: 0.025 }],
    ["0%", { share: 0 }],
    ["100%", { share: 1 }],
    ["20", { requests: 20 }],
    [20, { requests: 20 }],
    [0, { requests: 0 }],
    ["${LOW}", { requests: 7 }],
  ])("%j", (below, expected) => {
    const { freshness } = parsed({ freshness: { whenBudgetLow: { below } } }, { LOW: "7" });
    expect(freshness.whenBudgetLow.below).toEqual(expected);
  });

  test.each([["101%"], ["-1"], [-1], ["10 %"], ["1.5"], [1.5], ["ten"], [""], ["9999999999"], [true], ["1e3"], ["%"]])(
    "%j is refused",
    (below) => {
      expect(problems({ freshness: { whenBudgetLow: { below } } })).toEqual([
        expect.stringMatching(
          /^freshness\.whenBudgetLow\.below: expected a share such as 10%, or a number of requests/,
        ),
      ]);
    },
  );

  test("an upstream's own wins there, and the global one elsewhere", () => {
    const config = parsed({
      freshness: { whenBudgetLow: { below: 5 } },
      upstreams: { "docker.io": { freshness: { whenBudgetLow: { below: "50%" } } }, "quay.io": { freshness: {} } },
    });
    expect(named(config, "docker.io")?.freshness.whenBudgetLow.below).toEqual({ share: 0.5 });
    expect(named(config, "quay.io")?.freshness.whenBudgetLow.below).toEqual({ requests: 5 });
  });

  test("by its variable", () => {
    const { freshness } = parsed(undefined, { WEIR_FRESHNESS_WHEN_BUDGET_LOW_BELOW: "25%" });
    expect(freshness.whenBudgetLow.below).toEqual({ share: 0.25 });
  });
});

describe("upstreams.<name>.quotaProbe", () => {
  const probeOf = (upstream: unknown, name = "docker.io") =>
    named(parsed({ upstreams: { [name]: upstream } }), name)?.quotaProbeMs;

  test("ten minutes on Docker Hub, under whatever name; never elsewhere", () => {
    expect(probeOf(null)).toBe(600_000);
    expect(probeOf({ type: "dockerhub" }, "hub.example")).toBe(600_000);
    expect(probeOf(null, "quay.io")).toBeUndefined();
  });

  test("as it is written", () => {
    expect(probeOf({ quotaProbe: "1h" })).toBe(3_600_000);
    expect(probeOf({ quotaProbe: "off" })).toBeUndefined();
    expect(probeOf({ quotaProbe: "off" }, "quay.io")).toBeUndefined();
  });

  test.each([["59s"], ["25h"], ["on"], [false], [600]])("%j is refused", (quotaProbe) => {
    expect(problems({ upstreams: { "docker.io": { quotaProbe } } })).toEqual([
      expect.stringContaining('upstreams["docker.io"].quotaProbe: expected off, or a duration from 1m to 1d'),
    ]);
  });

  test("where nothing free can be asked it would have no effect", () => {
    expect(problems({ upstreams: { "reg.example": { quotaProbe: "10m" } } })).toEqual([
      expect.stringContaining('upstreams["reg.example"].quotaProbe: has no effect'),
    ]);
  });
});

test("O3 both are live", () => {
  const after = parsed({
    freshness: { whenBudgetLow: { below: 1 } },
    upstreams: { "docker.io": { quotaProbe: "off", freshness: { whenBudgetLow: { below: 2 } } } },
  });
  expect(keysNeedingRestart(parsed({}), after)).toEqual([]);
});
