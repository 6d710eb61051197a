import type { z } from "zod";
import type { DownloadConfig } from "./types.ts";
import { duration, durationWithin, integer, mapping, size, value } from "./values.ts";

const abandonAfter = durationWithin({ min: "0s", max: "1h" });

export const downloadSchema = mapping({
  rangeWait: duration({ min: "0s", max: "1h" })
    .prefault("30s")
    .describe("How long a range request waits for the running download to reach it before it is passed through."),
  minRate: size({ min: 0, max: 2 ** 40 })
    .prefault("64KiB")
    .describe(
      "Bytes a second, over 30 s, below which an upstream's body counts as stalled and is resumed; 0 for no floor.",
    ),
  stalledAttempts: integer({ min: 1, max: 1000 })
    .prefault(5)
    .describe("Attempts without a single new byte before a download is given up."),
  abandon: value(
    "never, or a duration up to 1h after which a download without readers ends",
    (input): DownloadConfig["abandon"] | undefined => {
      if (input === "never") {
        return "never";
      }
      const afterMs = typeof input === "string" ? abandonAfter(input) : undefined;
      return afterMs === undefined ? undefined : { afterMs };
    },
    { type: "string", pattern: "^(never|\\d+(ms|s|m|h))$|\\$\\{" },
  )
    .prefault("never")
    .describe(
      "When a download whose clients have all left ends: never (it is finished and kept), or after a duration.",
    ),
})
  .prefault({})
  .describe("Blobs on their way from an upstream.");

export function downloadConfig(parsed: z.output<typeof downloadSchema>): DownloadConfig {
  return {
    rangeWaitMs: parsed.rangeWait,
    minRate: parsed.minRate,
    stalledAttempts: parsed.stalledAttempts,
    abandon: parsed.abandon,
  };
}
