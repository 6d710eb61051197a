import type { CredentialConfig } from "../../src/config/types.ts";

/** The password of a configured credential; undefined where its secret is kept elsewhere. */
export function passwordOf(credential: CredentialConfig | undefined): string | undefined {
  return credential?.source === "password" ? credential.password.reveal() : undefined;
}
