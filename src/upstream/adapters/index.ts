import type { UpstreamType } from "../../config/types.ts";
import type { Adapter } from "./adapter.ts";
import { dockerhub } from "./dockerhub.ts";
import { generic } from "./generic.ts";

const ADAPTERS: Readonly<Record<UpstreamType, Adapter>> = { generic, dockerhub };

export function adapterOf(type: UpstreamType): Adapter {
  return ADAPTERS[type];
}

/** The repository's name as an upstream of this type has it: on Docker Hub `nginx` means `library/nginx`. */
export function normaliseRepository(type: UpstreamType, repository: string): string {
  return ADAPTERS[type].normalise(repository);
}
