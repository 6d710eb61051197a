import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";

/** quay.io and self-hosted Quay: a HEAD is a whole GET inside, and a namespace that is switched off is a 405. */
export const quay: Adapter = {
  ...generic,
  type: "quay",
  trustsSiblingRealms: false,
  readFault: ({ from, status, code }) =>
    from === "registry" && status === 405 && code === "DENIED" ? "denied" : undefined,
  maxTags: 100,
  manifestHeadMs: 30_000,
};
