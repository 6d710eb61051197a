/** A stock docker-registry (distribution 2.8): an origin, a reader of somebody else's folder, or a pull-through cache to compare with. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { answers, hostNetwork, type Network } from "./network.ts";
import { type RunningProcess, ready, start, tempFolder } from "./processes.ts";

export interface RegistryOptions {
  readonly network?: Network;
  /** A folder to serve without writing; left out, the registry is writable and its folder its own. */
  readonly readOnlyRoot?: string;
  /** The section `storage.s3` of its configuration: then it serves that bucket, without writing. */
  readonly readOnlyBucket?: Readonly<Record<string, unknown>>;
  /** Makes it a pull-through cache of this registry. */
  readonly remoteUrl?: string;
}

export interface Registry {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly root: string;
  readonly process: RunningProcess;
  /** Ends the program and leaves the folder; {@link start} brings it back on the same port. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** Starts one and waits until it answers; it is stopped and its folder removed with `stack`. */
export async function startRegistry(stack: AsyncDisposableStack, options: RegistryOptions = {}): Promise<Registry> {
  const network = options.network ?? hostNetwork;
  const folder = await tempFolder(stack);
  const root = options.readOnlyRoot ?? join(folder, "data");
  const readOnly = options.readOnlyRoot !== undefined || options.readOnlyBucket !== undefined;
  const host = `127.0.0.1:${await network.freePort()}`;
  const config = {
    version: "0.1",
    log: { level: "info", accesslog: { disabled: true } },
    storage: {
      ...(options.readOnlyBucket === undefined
        ? { filesystem: { rootdirectory: root } }
        : { s3: options.readOnlyBucket, redirect: { disable: true } }),
      delete: { enabled: true },
      maintenance: {
        readonly: { enabled: readOnly },
        uploadpurging: { enabled: false },
      },
    },
    http: { addr: host },
    ...(options.remoteUrl === undefined ? {} : { proxy: { remoteurl: options.remoteUrl } }),
  };
  const file = join(folder, "config.yml");
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  let running: RunningProcess | undefined;
  const registry: Registry = {
    url: `http://${host}`,
    host,
    root,
    get process() {
      if (running === undefined) throw new Error("the registry is stopped");
      return running;
    },
    async stop() {
      await running?.stop();
      running = undefined;
    },
    async start() {
      // Its S3 driver does not start with authorities of the environment's choice.
      running = await start(network.command(["docker-registry", "serve", file]), { env: { AWS_CA_BUNDLE: "" } });
      await ready("docker-registry", running, () => answers(`http://${host}/v2/`, 200, network));
    },
  };
  stack.defer(() => registry.stop());
  await registry.start();
  return registry;
}
