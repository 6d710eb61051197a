import type { UpstreamType } from "../../config/types.ts";

/** The few things in which one kind of registry differs from the others; data and pure functions. */
export interface Adapter {
  readonly type: UpstreamType;
  /** Hosts of token realms that this kind of registry is known to use. */
  readonly realms: readonly string[];
  /** Whether a token realm of the registry's own registrable domain is trusted as well. */
  readonly trustsSiblingRealms: boolean;
  /** The repository's name as the registry itself has it. */
  normalise(repository: string): string;
  /**
   * Whether a 401 to a fresh token says that the repository is private or absent, rather than that the registry and its
   * token service do not understand each other; `error` is the challenge's parameter of that name.
   */
  denies(error: string | undefined): boolean;
}
