import type { Answer } from "./answer.ts";
import { formatCacheStatus, formatWarning } from "./cache-status.ts";

/** What stands on every answer, errors and refusals included. */
export function commonHeaders(answer: Answer, requestId: string): Record<string, string> {
  const headers: Record<string, string> = {
    "Docker-Distribution-API-Version": "registry/2.0",
    "Cache-Status": formatCacheStatus(answer.cache),
    "X-Request-Id": requestId,
  };
  if (answer.cache.warning !== undefined) {
    headers.Warning = formatWarning(answer.cache.warning);
  }
  return headers;
}
