import { later, listenAddress, mapping } from "./values.ts";

export const adminSchema = mapping({
  listen: listenAddress
    .prefault("127.0.0.1:5001")
    .describe("Where /metrics, /healthz and /readyz are; port 0 picks a free one."),
  token: later("the status page with its token"),
})
  .prefault({})
  .describe("The endpoint for operators.");
