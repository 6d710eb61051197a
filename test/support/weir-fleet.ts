/** Several Weirs as their users run them: processes of their own over one folder and one Redis. */
import { join } from "node:path";
import { tempFolder } from "./processes.ts";
import type { RedisServer } from "./redis.ts";
import { startWeir, type WeirProcess } from "./weir.ts";

export const CLUSTER_SECRET = "known to every replica of the test";

export interface FleetOptions {
  readonly replicas: number;
  readonly redis: RedisServer | { readonly url: string } | undefined;
  readonly config: Readonly<Record<string, unknown>>;
  /** What they store to; one folder if left out. */
  readonly storage?: Readonly<Record<string, unknown>>;
  /** `cluster` of each, by its number; a port of its own if left out. */
  readonly cluster?: (replica: number) => Readonly<Record<string, unknown>>;
  /** The Redis of each, by its number; the same if left out. */
  readonly redisUrl?: (replica: number) => string;
  /** `server.workers` of each; one if left out. */
  readonly workers?: number;
  /** Node's own options. */
  readonly nodeOptions?: readonly string[];
  /** False for replicas that share Redis but do not stream from each other. */
  readonly streaming?: boolean;
}

export async function startWeirs(stack: AsyncDisposableStack, o: FleetOptions): Promise<readonly WeirProcess[]> {
  const root = join(await tempFolder(stack), "data");
  const { redis, storage = { driver: "filesystem", filesystem: { root, shared: true } } } = o;
  const fleetOf = (replica: number): Readonly<Record<string, unknown>> =>
    redis === undefined
      ? {}
      : {
          state: { driver: "redis", redis: { url: o.redisUrl?.(replica) ?? redis.url } },
          ...(o.streaming === false
            ? {}
            : { cluster: { listen: "127.0.0.1:0", secret: CLUSTER_SECRET, ...o.cluster?.(replica) } }),
        };
  return await Promise.all(
    Array.from({ length: o.replicas }, async (_, replica) =>
      startWeir(stack, {
        root,
        secrets: [CLUSTER_SECRET],
        ...(o.workers === undefined ? {} : { workers: o.workers }),
        ...(o.nodeOptions === undefined ? {} : { nodeOptions: o.nodeOptions }),
        config: {
          storage: { ...storage, spool: { dir: join(await tempFolder(stack), "spool") } },
          ...fleetOf(replica),
          ...o.config,
        },
      }),
    ),
  );
}
