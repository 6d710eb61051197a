/** The product as its users run it: a process of its own, started by the command line with a configuration file. */
import { readFileSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFailed } from "vitest";
import { answers, hostNetwork, type Network } from "./network.ts";
import { PATIENCE_MS, type ProcessExit, type RunningProcess, ready, start, tempFolder } from "./processes.ts";
import { takeLastWords } from "./recorder/last-words.ts";
import { recorder, Transcript } from "./recorder/recorder.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;

/** What `npm start` and the image give to Node. */
export function usualNodeOptions(): string[] {
  const { scripts } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  const options = String(scripts.start).match(/--\S+/g) ?? [];
  const [, entry = ""] =
    /^ENTRYPOINT (.*)$/m.exec(readFileSync(new URL("../../Dockerfile", import.meta.url), "utf8")) ?? [];
  expect(JSON.parse(entry)).toEqual(["node", ...options, "dist/main.js"]);
  return options;
}

export interface WeirOptions {
  /** The program; the sources', as they are, if left out. */
  readonly main?: string;
  readonly network?: Network;
  /** Sections of the configuration; addresses, storage and downloads that may be slow are filled in where they are left out. */
  readonly config: Readonly<Record<string, unknown>>;
  /** `server.workers`; one if left out. */
  readonly workers?: number;
  /** Data folder; left out, one of its own. */
  readonly root?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Node's own options. */
  readonly nodeOptions?: readonly string[];
  /** What must never stand in the output; looked for when the process ends. */
  readonly secrets?: readonly string[];
}

export interface WeirProcess {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly adminUrl: string;
  readonly root: string;
  /** The configuration file. */
  readonly file: string;
  /** Everything written to standard output and error by the running process, or the last one. */
  output(): string;
  readonly process: RunningProcess;
  /** SIGTERM. Rejects when a secret stands in the output. */
  stop(): Promise<ProcessExit>;
  /** SIGKILL. */
  kill(): Promise<ProcessExit>;
  /** Starts it again on the same ports and data, and waits for `/readyz`. */
  start(): Promise<void>;
}

/** Writes the configuration, starts the process and waits for `/readyz`; all is gone with `stack`. */
export async function startWeir(stack: AsyncDisposableStack, options: WeirOptions): Promise<WeirProcess> {
  const { network = hostNetwork, main = MAIN } = options;
  const folder = await tempFolder(stack);
  const root = options.root ?? join(folder, "data");
  const host = `127.0.0.1:${await network.freePort()}`;
  const admin = `127.0.0.1:${await network.freePort()}`;
  const file = join(folder, "weir.yaml");
  const config = {
    server: { listen: host, workers: options.workers ?? 1 },
    admin: { listen: admin },
    storage: { driver: "filesystem", filesystem: { root } },
    // Bodies are held back for as long as a test, and a busy machine, takes.
    download: { minRate: 0 },
    ...options.config,
  };
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config, undefined, 2));
  const transcript = recorder.watchWeir(new Transcript(config, options.env));
  const adminUrl = `http://${admin}`;
  for (const at of [`http://${host}`, adminUrl]) recorder.answersAt(at, transcript);
  let running: RunningProcess | undefined;
  const current = (): RunningProcess => {
    if (running === undefined) throw new Error("weir has not been started");
    return running;
  };
  const checkSecrets = (): void => {
    const output = current().output();
    // The secret itself is not repeated in the message.
    const leaked = (options.secrets ?? []).findIndex((secret) => output.includes(secret));
    if (leaked !== -1) throw new Error(`secret ${leaked} stands in the output`);
  };
  const weir: WeirProcess = {
    url: `http://${host}`,
    host,
    adminUrl,
    root,
    file,
    output: () => current().output(),
    get process() {
      return current();
    },
    async stop() {
      if (!current().hasExited) {
        const { env = {} } = options;
        await takeLastWords(transcript, { adminUrl, root, file, env, network });
      }
      const exit = await current().stop(PATIENCE_MS);
      transcript.add("the output", current().output());
      checkSecrets();
      return exit;
    },
    async kill() {
      current().kill("SIGKILL");
      const exit = await current().exited;
      transcript.add("the output", current().output());
      return exit;
    },
    async start() {
      running = await start(
        network.command([process.execPath, ...(options.nodeOptions ?? []), main, "serve", "--config", file]),
        {
          ...(options.env === undefined ? {} : { env: options.env }),
        },
      );
      await ready("weir", running, () => answers(`http://${admin}/readyz`, 200, network));
    },
  };
  await weir.start();
  stack.defer(async () => {
    await weir.stop().finally(() => transcript.end());
  });
  // Not in a hook: there no one test owns the process.
  if (expect.getState().currentTestName !== undefined) onTestFailed(() => console.log(weir.output()));
  return weir;
}

/** The processes that a Weir has started. */
export async function workersOf(weir: WeirProcess): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    const status = /^\d+$/.test(name) ? await readFile(`/proc/${name}/status`, "utf8").catch(() => "") : "";
    if (new RegExp(`^PPid:\\s+${weir.process.pid}$`, "m").test(status)) found.push(Number(name));
  }
  return found;
}
