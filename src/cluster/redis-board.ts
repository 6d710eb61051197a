import { createHash } from "node:crypto";
import type { LeaseBoard } from "./board-leases.ts";
import { LEASE_MS, type LeaseRow } from "./lease-table.ts";

/** Takes the lease, or gives what its holder has written. One step, and for every version of Redis. */
const ACQUIRE = `
local holder = redis.call("GET", KEYS[1])
if holder then return holder end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return false`;

/** A lease that ran out, or was flushed, is taken again unless somebody else has it. */
const RENEW = `
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return 1`;

/** Deletes only what the holder has written: a lease that was lost belongs to somebody else. */
const RELEASE = `
local holder = redis.call("GET", KEYS[1])
if holder and cjson.decode(holder)[1] == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0`;

/** What leases need of Redis; the connection of state/ has it. */
export interface LeaseStore {
  readonly client: {
    eval(script: string, options: { readonly keys: string[]; readonly arguments: string[] }): Promise<unknown>;
  };
  /** Undefined where Redis cannot be asked. */
  run<T>(work: () => Promise<T>): Promise<{ readonly value: T } | undefined>;
}

/**
 * Leases in Redis: one key each, which goes with its holder.
 *
 * @param prefix in front of every key
 */
export function createRedisBoard(store: LeaseStore, prefix: string): LeaseBoard {
  const run = (script: string, name: string, ...args: string[]): Promise<{ readonly value: unknown } | undefined> =>
    store.run(() => store.client.eval(script, { keys: [keyOf(prefix, name)], arguments: args }));
  return {
    async acquire(name, row) {
      const answer = await run(ACQUIRE, name, format(row), String(LEASE_MS));
      if (answer === undefined) {
        return "unknown";
      }
      return typeof answer.value === "string" ? parse(answer.value) : "taken";
    },
    async renew(name, row) {
      const answer = await run(RENEW, name, format(row), String(LEASE_MS));
      if (answer === undefined) {
        return "unknown";
      }
      return answer.value === 0 ? "lost" : "held";
    },
    async release(name, token) {
      await run(RELEASE, name, token);
    },
  };
}

/** Names hold what clients wrote, and are of any length. */
function keyOf(prefix: string, name: string): string {
  return `${prefix}lease:${createHash("sha256").update(name).digest("hex")}`;
}

function format({ token, address }: LeaseRow): string {
  return JSON.stringify([token, address ?? null]);
}

/** What another process has written is not more trusted than it must be. */
function parse(value: string): LeaseRow {
  try {
    const parsed: unknown = JSON.parse(value);
    const [token, address] = Array.isArray(parsed) ? parsed : [];
    return { token: String(token), address: typeof address === "string" && address !== "" ? address : undefined };
  } catch {
    return { token: "", address: undefined };
  }
}
