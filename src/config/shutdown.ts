import { duration, mapping } from "./values.ts";

export const shutdownSchema = mapping({
  grace: duration({ min: "0s", max: "1h" })
    .prefault("30s")
    .describe("How long answers under way may take to finish after SIGTERM."),
})
  .prefault({})
  .describe("How Weir ends.");
