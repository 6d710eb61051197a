import { choice, later, mapping } from "./values.ts";

export const stateSchema = mapping({
  driver: choice(["memory"], ["redis"]).prefault("memory").describe("Where what only saves work is remembered."),
  redis: later("state shared through Redis"),
})
  .prefault({})
  .describe("What may be lost: freshness, quotas, absent tags.");
