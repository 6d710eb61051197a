import { spawnTool } from "./measure.ts";

export interface WrkResult {
  readonly requests: number;
  readonly perSecond: number;
  readonly p99Ms: number;
}

const UNIT_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000 };

/** Asks one address again and again over keep-alive connections. Throws where anything but success comes back. */
export async function runWrk(
  program: string,
  url: string,
  load: { readonly clients: number; readonly ms: number; readonly accept: string },
): Promise<WrkResult> {
  // wrk knows whole seconds only; interrupted, it reports the time that it really took.
  const args = ["-t1", `-c${load.clients}`, "-d60s", "--timeout=30s", "--latency", "-H", `Accept: ${load.accept}`, url];
  return parseWrk(await spawnTool(program, args, { interruptAfterMs: load.ms }));
}

/** Reads what `wrk --latency` prints. Throws where requests failed, or where it is something else. */
export function parseWrk(output: string): WrkResult {
  const refused = /Non-2xx or 3xx responses: \d+|Socket errors: .*/.exec(output)?.[0];
  if (refused !== undefined) throw new Error(`requests failed: ${refused}`);
  const requests = Number(/^\s*(\d+) requests in /m.exec(output)?.[1]);
  const perSecond = Number(/^Requests\/sec:\s+([\d.]+)/m.exec(output)?.[1]);
  const [, p99 = "", unit = ""] = /^\s*99%\s+([\d.]+)(us|ms|s|m)\s*$/m.exec(output) ?? [];
  const p99Ms = Number(p99) * (UNIT_MS[unit] ?? Number.NaN);
  if (Number.isNaN(requests + perSecond + p99Ms)) throw new Error(`wrk printed something else:\n${output}`);
  return { requests, perSecond, p99Ms };
}
