import { anonymous, type Identity } from "../../src/access/identity.ts";
import type { SignInConfig } from "../../src/config/types.ts";
import type { Caller } from "../../src/proxy/answers.ts";

/** The mode `anonymous`. */
export const NO_SIGN_IN: SignInConfig = {
  anonymous: true,
  htpasswd: undefined,
  token: undefined,
  oidc: undefined,
  mtls: undefined,
};

/** Somebody anonymous, from no address that counts. */
export const NOBODY: Caller = { identity: anonymous(undefined), client: "test" };

/** Somebody who has signed in. */
export function signedIn(account: string, identity: Partial<Identity> = {}): Caller {
  return { identity: { ...anonymous(undefined), account, via: "password", ...identity }, client: "test" };
}
