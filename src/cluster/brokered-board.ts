import type { LeaseBoard } from "./board-leases.ts";
import type { Channel } from "./channel.ts";
import type { LeaseRow, LeaseTable } from "./lease-table.ts";

/** A parent that is too busy to answer in this time counts as not there: leases spare work only. */
const ANSWER_MS = 2_000;

const ACQUIRE = "lease.acquire";
const RENEW = "lease.renew";
const RELEASE = "lease.release";

/** A worker's board: the parent's. */
export function createBrokeredBoard(channel: Channel): LeaseBoard {
  const ask = async (what: string, name: string, row: LeaseRow): Promise<unknown> => {
    try {
      return await channel.ask(what, [name, row.token, row.address ?? null], {
        signal: AbortSignal.timeout(ANSWER_MS),
      });
    } catch {
      return "unknown";
    }
  };
  return {
    async acquire(name, row) {
      const answer = await ask(ACQUIRE, name, row);
      return answer === "taken" || answer === "unknown" ? answer : rowOf(answer);
    },
    async renew(name, row) {
      const answer = await ask(RENEW, name, row);
      return answer === "held" || answer === "lost" ? answer : "unknown";
    },
    async release(name, token) {
      channel.tell(RELEASE, [name, token]);
    },
  };
}

/** Lets a worker use the parent's table; what it holds is given back when it is gone. */
export function brokerLeases(channel: Channel, table: LeaseTable): void {
  const held = new Set<string>();
  const parsed = (data: unknown): { readonly name: string; readonly row: LeaseRow } => {
    const [name, token, address] = Array.isArray(data) ? data : [];
    return { name: String(name), row: rowOf({ token, address }) };
  };
  channel.onAsked(ACQUIRE, async (data) => {
    const { name, row } = parsed(data);
    const holder = table.acquire(name, row);
    if (holder !== undefined) return { token: holder.token, address: holder.address ?? null };
    held.add(row.token);
    return "taken";
  });
  channel.onAsked(RENEW, async (data) => {
    const { name, row } = parsed(data);
    const renewed = table.renew(name, row);
    if (renewed) held.add(row.token);
    else held.delete(row.token);
    return renewed ? "held" : "lost";
  });
  channel.onTold(RELEASE, (data) => {
    const { name, row } = parsed(data);
    held.delete(row.token);
    table.release(name, row.token);
  });
  channel.closed.addEventListener("abort", () => table.releaseAll(({ token }) => held.has(token)), { once: true });
}

function rowOf(data: unknown): LeaseRow {
  const { token, address } = (typeof data === "object" && data !== null ? data : {}) as Record<string, unknown>;
  return { token: String(token), address: typeof address === "string" && address !== "" ? address : undefined };
}
