import type { Adapter } from "./adapter.ts";

/** Any registry that follows the distribution spec and whatever challenge it sends. */
export const generic: Adapter = {
  type: "generic",
  realms: [],
  trustsSiblingRealms: true,
  normalise: (repository) => repository,
  // GitLab says invalid_token for a project that one may not read, so the parameter decides nothing here.
  denies: () => true,
};
