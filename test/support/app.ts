/** The whole product within the test's process, behind real sockets: it starts at once, and a test can turn its clock. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startApp } from "../../src/compose.ts";
import { ConfigSource } from "../../src/config/config-source.ts";
import type { ListenAddress } from "../../src/config/types.ts";
import { ManualClock } from "./manual-clock.ts";
import { metricOf } from "./metrics.ts";
import { tempFolder } from "./processes.ts";

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
  /** Sections of the configuration; addresses, storage and a log of errors only are filled in where they are left out. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Left out, the machine's. */
  readonly clock?: ManualClock;
  /** Data folder; left out, one of its own. */
  readonly root?: string;
}

export interface TestApp {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly adminUrl: string;
  readonly root: string;
  /** The sum of the samples of a metric whose labels include these. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  stop(): Promise<void>;
}

/** Starts it; it is stopped with `stack`. */
export async function startTestApp(stack: AsyncDisposableStack, options: TestAppOptions): Promise<TestApp> {
  const folder = await tempFolder(stack);
  const { clock, root = join(folder, "data") } = options;
  const file = join(folder, "weir.yaml");
  const config = {
    server: { listen: "127.0.0.1:0" },
    admin: { listen: "127.0.0.1:0" },
    storage: { driver: "filesystem", filesystem: { root } },
    telemetry: { logLevel: "error" },
    // Its time may never come by this clock.
    shutdown: { grace: "1ms" },
    ...options.config,
  };
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  const source = new ConfigSource({ file, env: {}, cwd: folder });
  const app = await startApp((await source.load()).config, source, clock === undefined ? {} : { clock });
  stack.defer(() => app.stop());
  const adminUrl = urlOf(app.adminAddress);
  return {
    url: urlOf(app.address),
    adminUrl,
    root,
    metric: (name, labels) => metricOf(adminUrl, name, labels),
    stop: () => app.stop(),
  };
}

function urlOf({ host, port }: ListenAddress): string {
  return `http://${host}:${port}`;
}
