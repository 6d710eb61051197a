import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";

/** GitHub's registry: its token service denies what is private or absent, with or without a credential. */
export const ghcr: Adapter = {
  ...generic,
  type: "ghcr",
  trustsSiblingRealms: false,
  readFault: ({ from, code }) => (from === "realm" && code === "DENIED" ? "denied" : undefined),
  redirectsReferrersToPages: true,
};
