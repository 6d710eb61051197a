import type { ParkedCredentials, ParkedState } from "../../src/upstream/credentials/parked.ts";

/** Parked credentials in memory; hand the same map to two upstreams, and the second is the first after a restart. */
export function memoryParkedCredentials(records = new Map<string, ParkedState>()): ParkedCredentials {
  return {
    get: async (fingerprint) => records.get(fingerprint),
    async put(fingerprint, state) {
      records.set(fingerprint, state);
    },
    async delete(fingerprint) {
      records.delete(fingerprint);
    },
  };
}
