import { baseMediaType } from "../../oci/media-types.ts";
import { parseErrorBody } from "../error-body.ts";
import type { HeaderView } from "../header-view.ts";
import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";
import { rateLimitReader } from "./rate-limit-reader.ts";

/** The pull limit speaks JSON, the abuse limit does not; the answer to a HEAD has the type alone. */
function saysSpent(headers: HeaderView, bodyText: string): boolean {
  return bodyText === ""
    ? baseMediaType(headers.get("content-type") ?? "") === "application/json"
    : parseErrorBody(Buffer.from(bodyText)).code === "TOOMANYREQUESTS";
}

/**
 * Docker Hub: short names live in `library/`, what is private or absent is a 401 with `insufficient_scope` and never a 404,
 * and pulls are counted by manifest GETs.
 */
export const dockerhub: Adapter = {
  ...generic,
  type: "dockerhub",
  normalise: (repository) => (repository.includes("/") ? repository : `library/${repository}`),
  realms: ["auth.docker.io"],
  trustsSiblingRealms: false,
  readFault: ({ from, status, challengeError }) =>
    from === "registry" && status === 401 && challengeError === "invalid_token" ? "status" : undefined,
  readRateLimit: rateLimitReader("docker-ratelimit-source"),
  classify429: ({ kind, headers, bodyText }) =>
    kind === "manifest" && saysSpent(headers, bodyText) ? "quota" : "abuse",
  countsAgainstQuota: (kind, method) => kind === "manifest" && method === "GET",
  quotaProbe: { method: "HEAD", repository: "ratelimitpreview/test", reference: "latest" },
};
