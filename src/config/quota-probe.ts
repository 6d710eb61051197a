import type { UpstreamType } from "./types.ts";
import { durationWithin, value } from "./values.ts";

/** What is older says little of what others behind the same address have left of a quota. */
const DOCKER_HUB_PROBE_MS = 10 * 60_000;

const probeEvery = durationWithin({ min: "1m", max: "1d" });

export const quotaProbe = value(
  "off, or a duration from 1m to 1d, such as 10m",
  (input): number | "off" | undefined =>
    input === "off" ? input : typeof input === "string" ? probeEvery(input) : undefined,
  { type: "string", pattern: "^(off|\\d+(ms|s|m|h|d))$|\\$\\{" },
)
  .optional()
  .describe("How often what is left of the quota is asked for, where that is free, or off; 10m for dockerhub.");

/** Milliseconds; undefined = never. Only Docker Hub has a question that costs nothing and tells what is left. */
export function quotaProbeMs(written: number | "off" | undefined, type: UpstreamType): number | undefined {
  if (written !== undefined) {
    return written === "off" ? undefined : written;
  }
  return type === "dockerhub" ? DOCKER_HUB_PROBE_MS : undefined;
}

/** What is wrong with the key, if anything is. */
export function quotaProbeProblem(written: number | "off" | undefined, type: UpstreamType): string | undefined {
  return typeof written === "number" && type !== "dockerhub"
    ? `has no effect: an upstream of type ${type} has no request that is free and tells what is left; leave it out`
    : undefined;
}
