import { Secret } from "./secret.ts";

/**
 * A text by which to tell whether two values of one type hold the same: mappings, lists, maps, addresses and what stands in
 * them. Secrets count by their hash, so that none can be read in it.
 */
export function fingerprint(value: unknown): string {
  return JSON.stringify([comparable(value)]);
}

function comparable(value: unknown): unknown {
  if (value instanceof Secret) {
    return value.hash();
  }
  if (value instanceof URL) {
    return value.href;
  }
  if (Array.isArray(value)) {
    return value.map(comparable);
  }
  if (value instanceof Map) {
    return comparable([...value]);
  }
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, comparable(entry)]));
  }
  return value;
}
