import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";

/** Azure Container Registry: tokens come from the registry's own host, and lists of tags need an action of their own. */
export const acr: Adapter = {
  ...generic,
  type: "acr",
  trustsSiblingRealms: false,
  tagActions: ["metadata_read"],
};
