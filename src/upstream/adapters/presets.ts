import type { Adapter } from "./adapter.ts";

/** What single registries do differently from the rest of their kind, by the name that stands in image references. */
export const PRESETS: Readonly<Record<string, Partial<Adapter>>> = {
  // It knows no digest: it redirects whatever is asked for.
  "registry.k8s.io": { blobProof: "first-byte", trustsSiblingRealms: false },
  // Served by a CDN, without tokens.
  "mcr.microsoft.com": { trustsSiblingRealms: false },
  // Its realm stands on its own host; the other one, which it names to a stale token, refuses anonymous callers.
  "nvcr.io": { trustsSiblingRealms: false },
  "registry.redhat.io": { trustsSiblingRealms: false },
  // Its web host, and no other of the domain.
  "registry.gitlab.com": { realms: ["gitlab.com"], trustsSiblingRealms: false },
};
