import type { Answer } from "./answer.ts";
import { formatCacheStatus, formatWarning } from "./cache-status.ts";
import type { RoutedCall } from "./route.ts";

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

const PRINTABLE = /^[\x21-\x7e]+$/;

/** What an answer says of its request. @param close whether the connection ends with it */
export function requestHeaders(call: RoutedCall | undefined, close: boolean): Record<string, string> {
  const headers: Record<string, string> = {};
  const ns = call?.ns;
  if (ns !== undefined && PRINTABLE.test(ns)) {
    headers["OCI-Namespace"] = ns;
  }
  if (close) {
    headers.Connection = "close";
  }
  return headers;
}
