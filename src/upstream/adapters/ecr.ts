import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";

/** Amazon ECR: `Basic` with a password of 12 h, nothing for anonymous callers, and 1000 tags on a page at most. */
export const ecr: Adapter = {
  ...generic,
  type: "ecr",
  trustsSiblingRealms: false,
  basicOnly: true,
  readFault: ({ from, status, message }) =>
    from === "registry" && status === 403 && /authorization token has expired/i.test(message)
      ? "credential"
      : undefined,
  maxTags: 1000,
};
