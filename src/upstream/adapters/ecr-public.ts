import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";

/** Amazon ECR Public: one scope for everything, and a HEAD of a blob is refused although its GET is not. */
export const ecrPublic: Adapter = {
  ...generic,
  type: "ecr-public",
  realms: ["public.ecr.aws", "ecr-public.aws.com"],
  trustsSiblingRealms: false,
  blobProof: "first-byte",
  maxTags: 1000,
};
