/** The whole product within the test's process, behind real sockets: it starts at once, and a test can turn its clock. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startApp } from "../../src/compose.ts";
import { ConfigSource } from "../../src/config/config-source.ts";
import type { ListenAddress } from "../../src/config/types.ts";
import { createLog, type LevelledLog } from "../../src/telemetry/log.ts";
import { ManualClock } from "./manual-clock.ts";
import { metricOf } from "./metrics.ts";
import { tempFolder } from "./processes.ts";
import { takeLastWords } from "./recorder/last-words.ts";
import { recorder, Transcript } from "./recorder/recorder.ts";

/** Pauses before a retry are shorter, and everything that a test wants to wait for itself is longer. */
const LONGEST_PAUSE_MS = 1_000;

/** Stands still but for pauses, which pass at once: what is tried again is tried again without the test's doing. */
export class PausingClock extends ManualClock {
  override async sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (ms >= LONGEST_PAUSE_MS) return await super.sleep(ms, signal);
    signal.throwIfAborted();
    this.advance(ms);
  }
}

export interface TestAppOptions {
  /** Sections of the configuration; addresses, storage, a log of errors only and downloads that may be slow are filled in where they are left out. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Left out, the machine's. */
  readonly clock?: ManualClock;
  /** Data folder; left out, one of its own. */
  readonly root?: string;
  /** Variables; none if left out. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface TestApp {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly adminUrl: string;
  readonly root: string;
  /** The sum of the samples of a metric whose labels include these. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  /** Puts these sections in the place of those that it was started with, and waits until they are in force. */
  configure(sections: Readonly<Record<string, unknown>>): Promise<void>;
  stop(): Promise<void>;
}

/** Starts it; it is stopped with `stack`. */
export async function startTestApp(stack: AsyncDisposableStack, options: TestAppOptions): Promise<TestApp> {
  const folder = await tempFolder(stack);
  const { clock, root = join(folder, "data"), env = {} } = options;
  const file = join(folder, "weir.yaml");
  const config = {
    server: { listen: "127.0.0.1:0" },
    admin: { listen: "127.0.0.1:0" },
    storage: { driver: "filesystem", filesystem: { root } },
    telemetry: { logLevel: "error" },
    // Its time may never come by this clock.
    shutdown: { grace: "1ms" },
    // Bodies are held back for as long as a test, and a busy machine, takes.
    download: { minRate: 0 },
    ...options.config,
  };
  const write = async (sections: Readonly<Record<string, unknown>>): Promise<void> => {
    // JSON is YAML.
    await writeFile(file, JSON.stringify({ ...config, ...sections }));
  };
  await write({});
  const source = new ConfigSource({ file, env, cwd: folder });
  const loaded = (await source.load()).config;
  const transcript = recorder.watchWeir(new Transcript(config, env));
  const log = heardBy(transcript, createLog({ level: loaded.telemetry.logLevel }));
  const app = await startApp(loaded, source, clock === undefined ? { log, env } : { clock, log, env });
  const adminUrl = urlOf(app.adminAddress);
  const url = urlOf(app.address);
  for (const at of [url, adminUrl]) recorder.answersAt(at, transcript);
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= takeLastWords(transcript, { adminUrl, root, file })
      .then(() => app.stop())
      .finally(() => transcript.end());
    return stopped;
  };
  stack.defer(stop);
  return {
    url,
    adminUrl,
    root,
    metric: (name, labels) => metricOf(adminUrl, name, labels),
    async configure(sections) {
      await write(sections);
      await app.reload();
    },
    stop,
  };
}

/** The log, and beside it everything that it would say at its most talkative. */
function heardBy(transcript: Transcript, log: LevelledLog): LevelledLog {
  const loud = createLog({
    level: "debug",
    destination: { write: (line) => transcript.addRepeated("a log line", line) },
  });
  const both =
    (level: "debug" | "info" | "warn" | "error"): LevelledLog["info"] =>
    (fields, message) => {
      log[level](fields, message);
      loud[level](fields, message);
    };
  return {
    debug: both("debug"),
    info: both("info"),
    warn: both("warn"),
    error: both("error"),
    setLevel: (level) => log.setLevel(level),
  };
}

function urlOf({ host, port }: ListenAddress): string {
  return `http://${host}:${port}`;
}
