const SANE_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** The client's own `X-Request-Id` where it is safe to repeat in headers and logs; otherwise a new one. */
export function requestIdOf(header: string | readonly string[] | undefined, newRequestId: () => string): string {
  return typeof header === "string" && SANE_ID.test(header) ? header : newRequestId();
}
