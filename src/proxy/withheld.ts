import type { AccessDeniedError } from "../access/denied-error.ts";
import { UpstreamError } from "../upstream/upstream.ts";

/** The upstream is not asked on a caller's behalf. */
export interface Withheld {
  /** Nobody is to ask, not even whether Weir may still read what is private. */
  readonly frozen: boolean;
  /** What takes the place of asking; made only where something was to be asked. */
  error(): WithheldError;
}

/**
 * To whatever weighs what is held against asking for it, one more way in which asking fails; who gets nothing for it is told
 * {@link denial}.
 */
export class WithheldError extends UpstreamError {
  readonly denial: AccessDeniedError;

  constructor(upstream: string, denial: AccessDeniedError) {
    super(upstream, "withheld", denial.message, { cause: denial });
    this.denial = denial;
  }
}
