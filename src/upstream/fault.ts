import type { Adapter, Refusal } from "./adapters/adapter.ts";
import type { UpstreamFault } from "./upstream.ts";

/**
 * What an answer other than 2xx, 404 and 429 means (upstreams.md section 2, rules 7 and 10): a registry or realm that says
 * no, says it about the repository; with 401, to a password or refresh token, it says it about the credential.
 */
export function faultOfRefusal(adapter: Adapter, refusal: Refusal): UpstreamFault {
  return adapter.readFault(refusal) ?? usualFault(refusal);
}

function usualFault({ status, scheme }: Refusal): UpstreamFault {
  switch (status) {
    case 401:
      return scheme === "basic" || scheme === "token" ? "credential" : "denied";
    case 403:
      return "denied";
    default:
      return status < 400 ? "bad-answer" : "status";
  }
}
