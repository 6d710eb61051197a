import type { ParkedCredentials } from "../upstream/credentials/parked.ts";
import { parkedCredentialKey } from "./layout.ts";
import { formatRecord, parseParkedRecord } from "./records.ts";
import type { SmallObjects } from "./small-objects.ts";

/** Refused credentials as records beside the rest of what Weir keeps; a record that cannot be understood is none. */
export function createParkedCredentials(objects: SmallObjects): ParkedCredentials {
  return {
    async get(fingerprint, o) {
      const bytes = await objects.get(parkedCredentialKey(fingerprint), o);
      return bytes && parseParkedRecord(bytes);
    },
    async put(fingerprint, state, o) {
      await objects.put(parkedCredentialKey(fingerprint), formatRecord(state), o);
    },
    async delete(fingerprint, o) {
      await objects.delete(parkedCredentialKey(fingerprint), o);
    },
  };
}
