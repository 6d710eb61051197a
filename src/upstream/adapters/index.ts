import type { UpstreamType } from "../../config/types.ts";
import { acr } from "./acr.ts";
import type { Adapter } from "./adapter.ts";
import { dockerhub } from "./dockerhub.ts";
import { ecr } from "./ecr.ts";
import { ecrPublic } from "./ecr-public.ts";
import { gcr } from "./gcr.ts";
import { generic } from "./generic.ts";
import { ghcr } from "./ghcr.ts";
import { gitlab } from "./gitlab.ts";
import { PRESETS } from "./presets.ts";
import { quay } from "./quay.ts";

const ADAPTERS: Readonly<Record<UpstreamType, Adapter>> = {
  generic,
  dockerhub,
  quay,
  gcr,
  gitlab,
  ecr,
  "ecr-public": ecrPublic,
  ghcr,
  acr,
};

/** @param host the registry's name in image references, or its address: some registries have habits of their own */
export function adapterOf(type: UpstreamType, host: string): Adapter {
  return Object.hasOwn(PRESETS, host) ? { ...ADAPTERS[type], ...PRESETS[host] } : ADAPTERS[type];
}

/** The repository's name as an upstream of this type has it: on Docker Hub `nginx` means `library/nginx`. */
export function normaliseRepository(type: UpstreamType, repository: string): string {
  return ADAPTERS[type].normalise(repository);
}
