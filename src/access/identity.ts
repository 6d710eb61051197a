import type { Scope } from "../oci/scope.ts";

/** Who asks, as far as it is known. */
export interface Identity {
  /** The account's name; undefined = anonymous. */
  readonly account: string | undefined;
  readonly groups: readonly string[];
  /** How the caller showed who it is. */
  readonly via: "anonymous" | "password" | "token" | "oidc" | "certificate";
  /** The client's address, behind trusted proxies too; undefined where it cannot be known. */
  readonly address: string | undefined;
  /** What a registry token grants at most, as its `access` claim lists it; undefined = the rules alone decide. */
  readonly grants: readonly Scope[] | undefined;
}

/** Somebody who has not shown who it is. */
export function anonymous(address: string | undefined): Identity {
  return { account: undefined, groups: [], via: "anonymous", address, grants: undefined };
}
