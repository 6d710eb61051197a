import { later, mapping } from "./values.ts";

export const clusterSchema = mapping({
  listen: later("streaming between replicas"),
  advertise: later("streaming between replicas"),
  secret: later("streaming between replicas"),
})
  .prefault({})
  .describe("Replicas that stream from each other.");
