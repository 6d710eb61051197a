import type { Secret } from "../../base/secret.ts";
import type { CredentialSource, ResolvedSecret } from "./source.ts";

/** User name and password as configured. A `${file:…}` in them is read again by the configuration's own reload. */
export function passwordSource(username: string, password: Secret): CredentialSource {
  const resolved: ResolvedSecret = { form: "password", username, secret: password, expiresAtMs: undefined };
  return { renews: false, resolve: async () => resolved, refused() {}, close() {} };
}
