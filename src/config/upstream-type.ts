import type { UpstreamType } from "./types.ts";

export const UPSTREAM_TYPES = [
  "generic",
  "dockerhub",
  "quay",
  "gcr",
  "gitlab",
  "ecr",
  "ecr-public",
  "ghcr",
  "acr",
] as const satisfies readonly UpstreamType[];

/** A registry of Amazon ECR: `<account>.dkr.ecr[-fips].<region>.<suffix>`, or `dkr-ecr` in its dual-stack spelling. */
const ECR_HOST = new RegExp(
  `^\\d{12}\\.dkr[.-]ecr(?:-fips)?\\.([a-z0-9][a-z0-9_-]*)\\.(?:${[
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "sc2s.sgov.gov",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
  ]
    .map((suffix) => suffix.replaceAll(".", "\\."))
    .join("|")})$`,
);

/** The first that fits counts; all else is generic. */
const TYPES_BY_HOST: readonly (readonly [RegExp, UpstreamType])[] = [
  [/^(?:docker\.io|registry-1\.docker\.io)$/, "dockerhub"],
  [/^quay\.io$/, "quay"],
  [/^(?:gcr\.io|.+\.gcr\.io|.+\.pkg\.dev)$/, "gcr"],
  [/^registry\.gitlab\.com$/, "gitlab"],
  [ECR_HOST, "ecr"],
  [/^(?:public\.ecr\.aws|ecr-public\.aws\.com)$/, "ecr-public"],
  [/^ghcr\.io$/, "ghcr"],
  [/^.+\.azurecr\.(?:io|cn|us)$/, "acr"],
];

/** What kind of registry stands behind a host, as far as its name (lower case) tells. */
export function guessType(host: string): UpstreamType {
  return TYPES_BY_HOST.find(([pattern]) => pattern.test(host))?.[1] ?? "generic";
}

/** The AWS region in the name of a registry of ECR; undefined for every other host. */
export function ecrRegion(host: string): string | undefined {
  return ECR_HOST.exec(host)?.[1];
}
