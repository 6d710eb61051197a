/** What travels with every asynchronous call, from the edge to the last socket. */
export interface CallOptions {
  /** Ends the work: the client left, a deadline passed, or the process is stopping. */
  readonly signal: AbortSignal;
  /** The `X-Request-Id` on whose behalf the work is done; stands in the log lines of the upstream exchanges behind it. */
  readonly requestId?: string;
}
