import { spawnTool } from "./measure.ts";

/** What the client of discard.py was given, and what it cost. */
export interface Discarded {
  /** When the first connection was made, in milliseconds since the epoch. */
  readonly startedMs: number;
  readonly seconds: number;
  /** Of whole answers by rate, headers included: some 300 bytes each. */
  readonly bytes: number;
  readonly requests: number;
  /** From each request to the first byte of its body; only where `requests` were asked for. */
  readonly firstByteMs: readonly number[];
  /** To the last byte. */
  readonly wholeMs: readonly number[];
  /** Of the client itself. */
  readonly cpuSeconds: number;
}

/** What is asked for, and how; see discard.py. */
export interface DiscardLoad {
  readonly paths: readonly string[];
  readonly clients: number;
  readonly seconds?: number;
  readonly requests?: number;
  readonly rate?: number;
}

const SCRIPT = new URL("discard.py", import.meta.url).pathname;

/** Downloads and throws the bytes away, cheaper than Node or wrk could. Throws where anything but success comes back. */
export async function discard(python: string, base: string, load: DiscardLoad): Promise<Discarded> {
  const { hostname, port } = new URL(base);
  const order = JSON.stringify({ host: hostname, port: Number(port), ...load });
  return JSON.parse(await spawnTool(python, ["-I", SCRIPT, order])) as Discarded;
}
