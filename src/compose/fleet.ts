import { randomUUID } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Secret } from "../base/secret.ts";
import { createLeases, type LeaseBoard } from "../cluster/board-leases.ts";
import { createBrokeredBoard } from "../cluster/brokered-board.ts";
import type { Channel } from "../cluster/channel.ts";
import { createPeerClient, type PeerClient } from "../cluster/peer-client.ts";
import { createPeerServer, type InFlight, type PeerObserver, type PeerTrails } from "../cluster/peer-server.ts";
import { createRedisBoard } from "../cluster/redis-board.ts";
import type { ClusterConfig, Config, ListenAddress } from "../config/types.ts";
import { aloneTurns, createFillTurns, type FillTurns } from "../proxy/fill-turn.ts";
import { createTurns, noTurns, type Turns } from "../proxy/turns.ts";
import type { RedisConnection } from "../state/redis-connection.ts";
import type { BlobStore } from "../storage/blob-store.ts";

/** How this process shares its work with others. */
export interface Fleet {
  readonly turns: Turns;
  readonly fillTurns: FillTurns;
}

export interface FleetDeps {
  /** Undefined where the processes share nothing. */
  readonly redis: RedisConnection | undefined;
  readonly inFlight: InFlight;
  readonly store: BlobStore;
  readonly clock: Clock;
  random(): number;
  readonly log: Log;
  readonly observer: PeerObserver;
  /** Undefined where nothing is traced. */
  readonly trails: PeerTrails | undefined;
}

/** What a worker has of its parent, besides what it serves from. */
export interface Membership {
  readonly channel: Channel;
  /** From 0. */
  readonly slot: number;
  /** Signs what the workers of this machine ask of one another; new with every start. */
  readonly secret: Secret;
}

type OnStop = (closer: () => Promise<void>) => void;

/**
 * Joins the fleet: one HEAD for all replicas wherever they share a Redis, and one download where they can also read from each
 * other, as workers of one machine always can. Rejects when `cluster.listen` cannot be had.
 *
 * @param worker undefined in a process that serves alone
 */
export async function joinFleet(
  config: Pick<Config, "cluster" | "state">,
  deps: FleetDeps,
  worker: Membership | undefined,
  onStop: OnStop,
): Promise<Fleet> {
  const { redis, clock, log } = deps;
  const { cluster, state } = config;
  const shared = redis && state.driver === "redis" ? createRedisBoard(redis, state.redis.prefix) : undefined;
  const board = shared ?? (worker && createBrokeredBoard(worker.channel));
  if (board === undefined) {
    return { turns: noTurns, fillTurns: aloneTurns };
  }
  const leasing = { clock, log, newToken: randomUUID };
  const asking = createLeases({ ...leasing, board, address: undefined });
  onStop(() => asking.close());
  const turns = createTurns({ leases: asking, clock, random: deps.random });
  // Only those who can read from each other may leave a download to another.
  const streaming = streamingOf(cluster, shared, worker);
  if (streaming === undefined) {
    return { turns, fillTurns: aloneTurns };
  }
  const peering = await openPeering(streaming, deps, onStop);
  const leases = createLeases({ ...leasing, board: streaming.board, address: peering.address });
  onStop(() => leases.close());
  return { turns, fillTurns: createFillTurns({ ...peering, leases, store: deps.store, clock, log }) };
}

interface Streaming {
  readonly board: LeaseBoard;
  readonly listen: ListenAddress;
  readonly advertise: string | undefined;
  readonly secret: Secret;
}

/** Replicas by `cluster.listen`, each worker on a port of its own; else the workers of this machine among themselves. */
function streamingOf(
  cluster: ClusterConfig | undefined,
  shared: LeaseBoard | undefined,
  worker: Membership | undefined,
): Streaming | undefined {
  if (cluster !== undefined && shared !== undefined) {
    const { listen, advertise, secret } = cluster;
    const slot = worker?.slot ?? 0;
    return {
      board: shared,
      listen: { ...listen, port: listen.port === 0 ? 0 : listen.port + slot },
      advertise: advertise === undefined ? undefined : portMoved(advertise, slot),
      secret,
    };
  }
  return worker === undefined
    ? undefined
    : {
        board: createBrokeredBoard(worker.channel),
        listen: { host: "127.0.0.1", port: 0 },
        advertise: undefined,
        secret: worker.secret,
      };
}

function portMoved(address: string, by: number): string {
  const at = address.lastIndexOf(":");
  return `${address.slice(0, at)}:${Number(address.slice(at + 1)) + by}`;
}

async function openPeering(
  { listen, advertise, secret }: Streaming,
  { inFlight, clock, log, observer, trails }: FleetDeps,
  onStop: OnStop,
): Promise<{ readonly address: string; readonly peers: PeerClient }> {
  const server = createPeerServer({ listen, secret, inFlight, clock, log, observer, trails });
  const { host, port } = await server.listen();
  onStop(() => server.stop());
  const peers = createPeerClient({ secret, clock, observer, newNonce: randomUUID });
  onStop(() => peers.close());
  return { address: advertise ?? `${host.includes(":") ? `[${host}]` : host}:${port}`, peers };
}
