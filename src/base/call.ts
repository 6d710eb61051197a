import type { Trail } from "./trail.ts";

/** What travels with every asynchronous call, from the edge to the last socket. */
export interface CallOptions {
  /** Ends the work: the client left, a deadline passed, or the process is stopping. */
  readonly signal: AbortSignal;
  /** The `X-Request-Id` on whose behalf the work is done; stands in the log lines of the upstream exchanges behind it. */
  readonly requestId?: string;
  /** Where what is done on that request's behalf is taken down. */
  readonly trail?: Trail;
  /** Reads past what this process remembers of storage: another one may have written since. */
  readonly latest?: boolean;
}

/** On whose behalf work is done that outlives the call which began it. */
export type OnBehalf = Pick<CallOptions, "requestId" | "trail">;

export function onBehalfOf({ requestId, trail }: CallOptions): OnBehalf {
  return { ...(requestId === undefined ? {} : { requestId }), ...(trail === undefined ? {} : { trail }) };
}
