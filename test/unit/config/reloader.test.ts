import { describe, expect, test } from "vitest";
import type { Log } from "../../../src/base/log.ts";
import { ConfigError } from "../../../src/config/config-error.ts";
import type { LoadedConfig } from "../../../src/config/load.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import { Reloader } from "../../../src/config/reloader.ts";
import type { Config } from "../../../src/config/types.ts";
import { ManualClock } from "../../support/manual-clock.ts";

function configOf(input: unknown): Config {
  const result = parseConfig(input, {}, "/srv/weir");
  if (!result.ok) {
    throw new Error(JSON.stringify(result.problems));
  }
  return result.config;
}

const BEFORE = configOf({});
const LIVE = configOf({ telemetry: { logLevel: "debug" } });

class Bench {
  readonly clock = new ManualClock();
  readonly applied: Config[] = [];
  readonly reported: boolean[] = [];
  readonly lines: { readonly level: string; readonly fields: unknown; readonly message: string }[] = [];
  load: () => Promise<Config> = async () => LIVE;
  apply: (config: Config) => void = () => {};
  changed = false;
  loads = 0;
  looks = 0;

  readonly reloader = new Reloader(BEFORE, {
    source: {
      load: async (): Promise<LoadedConfig> => {
        this.loads += 1;
        this.changed = false;
        return { config: await this.load(), file: "w.yaml" };
      },
      changed: async () => {
        this.looks += 1;
        return this.changed;
      },
    },
    apply: (config) => {
      this.apply(config);
      this.applied.push(config);
      return { upstreams: "none" };
    },
    observer: { configReloaded: (inForce) => this.reported.push(inForce) },
    clock: this.clock,
    log: this.#log(),
  });

  #log(): Log {
    const at =
      (level: string): Log["info"] =>
      (fields, message) =>
        this.lines.push({ level, fields, message });
    return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  }
}

describe("O3 a reload", () => {
  test("puts in force what may change, and says so", async () => {
    const bench = new Bench();
    await bench.reloader.reload();
    expect(bench.applied).toEqual([LIVE]);
    expect(bench.reported).toEqual([true]);
    expect(bench.lines).toEqual([
      {
        level: "info",
        fields: { file: "w.yaml", upstreams: "none" },
        message: "the configuration was read again and is in force",
      },
    ]);
  });

  test.each([
    [{ server: { listen: ":6000" } }, "server.listen needs a restart", ["server.listen"]],
    [
      { admin: { listen: ":6000" }, shutdown: { grace: "1s" }, telemetry: { logLevel: "debug" } },
      "admin.listen, shutdown.grace need a restart",
      ["admin.listen", "shutdown.grace"],
    ],
  ])("that would need a restart is refused as a whole, by name: %j", async (input, sentence, keys) => {
    const bench = new Bench();
    bench.load = async () => configOf(input);
    await bench.reloader.reload();
    expect(bench.applied).toEqual([]);
    expect(bench.reported).toEqual([false]);
    expect(bench.lines).toEqual([
      {
        level: "error",
        fields: { keys },
        message: `the configuration is refused: ${sentence}; the one in force stays`,
      },
    ]);
    bench.load = async () => LIVE;
    await bench.reloader.reload();
    expect(bench.applied).toEqual([LIVE]);
    expect(bench.reported).toEqual([false, true]);
  });

  test("of a broken file changes nothing, and says what is wrong with it", async () => {
    const bench = new Bench();
    const problems = [{ path: "upstreams", message: "is empty" }];
    bench.load = async () => {
      throw new ConfigError(problems);
    };
    await bench.reloader.reload();
    expect([bench.applied, bench.reported]).toEqual([[], [false]]);
    expect(bench.lines).toEqual([
      {
        level: "error",
        fields: { problems },
        message: "the configuration is refused: it cannot be used; the one in force stays",
      },
    ]);
  });

  test("that cannot be put in force leaves what is compared with as it was", async () => {
    const bench = new Bench();
    const failure = new Error("upstreams.quay.io.tls.ca: cannot read ca.pem");
    bench.apply = () => {
      throw failure;
    };
    await bench.reloader.reload();
    expect([bench.applied, bench.reported]).toEqual([[], [false]]);
    expect(bench.lines[0]).toMatchObject({ level: "error", fields: { err: failure } });
  });

  test("waits for the one before it", async () => {
    const bench = new Bench();
    const first = Promise.withResolvers<Config>();
    bench.load = () => first.promise;
    const both = [bench.reloader.reload(), bench.reloader.reload()];
    await Promise.resolve();
    expect(bench.loads).toBe(1);
    bench.load = async () => BEFORE;
    first.resolve(LIVE);
    await Promise.all(both);
    expect(bench.applied).toEqual([LIVE, BEFORE]);
  });
});

describe("O3 files that are watched", () => {
  test("are read again when they have changed, and looked at for as long as Weir runs", async () => {
    const bench = new Bench();
    bench.reloader.watch();
    for (const changed of [false, true, false, true]) {
      await bench.clock.sleeping();
      bench.changed = changed;
      bench.clock.advance(2_000);
    }
    await bench.clock.sleeping();
    expect([bench.looks, bench.loads]).toEqual([4, 2]);
    await bench.reloader.stop();
    expect(bench.clock.sleepers).toBe(0);
  });

  test("are not when Weir stops: a reload under way is awaited, and none begins", async () => {
    const bench = new Bench();
    const loaded = Promise.withResolvers<Config>();
    bench.load = () => loaded.promise;
    bench.reloader.watch();
    const reload = bench.reloader.reload();
    await Promise.resolve();
    let stopped = false;
    const stop = bench.reloader.stop().then(() => {
      stopped = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(stopped).toBe(false);
    loaded.resolve(LIVE);
    await Promise.all([reload, stop]);
    await bench.reloader.reload();
    await bench.reloader.stop();
    expect(bench.loads).toBe(1);
  });
});
