import { OciError } from "../oci/errors.ts";

/** What a challenge says of a token (RFC 6750, 3.1). */
export type TokenProblem = "invalid_token" | "insufficient_scope";

export interface SignInErrorOptions {
  readonly problem?: TokenProblem;
  /** Nobody is to blame: nothing was sent, or a token has run out, as tokens do. */
  readonly harmless?: boolean;
}

/** 401 UNAUTHORIZED. Says nothing of what was sent. */
export class SignInError extends OciError {
  readonly problem: TokenProblem | undefined;
  /** Counts as a failure: somebody has sent what is wrong. */
  readonly counts: boolean;

  constructor(message: string, { problem, harmless = false }: SignInErrorOptions = {}) {
    super("UNAUTHORIZED", message);
    this.problem = problem;
    this.counts = !harmless;
  }
}

/** For any token that cannot be one of ours; `why` completes "the token ...". */
export function badToken(why: string, harmless = false): SignInError {
  return new SignInError(`the token ${why}`, { problem: "invalid_token", harmless });
}
