import type { Adapter } from "./adapter.ts";

/** Docker Hub: short names live in `library/`, and what is private or absent is a 401 with `insufficient_scope`, never a 404. */
export const dockerhub: Adapter = {
  type: "dockerhub",
  realms: ["auth.docker.io"],
  trustsSiblingRealms: false,
  normalise: (repository) => (repository.includes("/") ? repository : `library/${repository}`),
  denies: (error) => error !== "invalid_token",
};
