import { parseChallenges } from "../../oci/challenge.ts";
import type { QuotaStatus } from "../rate-limit.ts";
import { shareLeft } from "../rate-limit.ts";
import type { UpstreamError } from "../upstream.ts";
import { failed, good, type Verdict, warning } from "./step.ts";

/** Certificates are renewed weeks ahead; what is this near to its end has been forgotten. */
const SOON_DAYS = 14;

/** Tokens and signed URLs allow for about a minute. */
const MAX_SKEW_MS = 60_000;

const DAY_MS = 86_400_000;

/** Below this share a quota may end while an image is being pulled. */
const LOW_SHARE = 0.1;

/** A host name that could not be resolved. */
export function judgeLookup(host: string, code: string): Verdict {
  if (code === "ENOTFOUND") {
    return failed(
      `${host} is unknown (${code})`,
      `check the name under endpoints, and that this machine's DNS servers know ${host}; where only a proxy resolves it, name the proxy`,
    );
  }
  return failed(
    `${host} could not be resolved (${code})`,
    "the DNS servers of this machine do not answer; check /etc/resolv.conf, and that port 53 is open to them",
  );
}

export interface Dialled {
  readonly upstream: string;
  /** Host and port. */
  readonly authority: string;
  /** The same of the proxy on the way; undefined where there is none. */
  readonly proxy: string | undefined;
}

/** A connection that could not be made. */
export function judgeConnect({ upstream, authority, proxy }: Dialled, code: string): Verdict {
  if (proxy !== undefined) {
    return failed(
      `the proxy ${proxy} cannot be reached (${code})`,
      `check the address in upstreams.${upstream}.proxy, or in HTTPS_PROXY and HTTP_PROXY, and that the proxy runs`,
    );
  }
  if (code === "ECONNREFUSED") {
    return failed(
      `${authority} refuses connections`,
      `nothing listens there: check host and port in upstreams.${upstream}.endpoints, and that the registry runs`,
    );
  }
  return failed(
    `no way to ${authority} (${code})`,
    `a firewall is in between, or the network needs a proxy: open the way, or set upstreams.${upstream}.proxy or HTTPS_PROXY`,
  );
}

/** A proxy that answers, and makes no connection. The message names it. */
export function judgeProxy(upstream: string, message: string): Verdict {
  return failed(
    message,
    /\(407\)/.test(message)
      ? `put the proxy's user name and password into its address: upstreams.${upstream}.proxy or HTTPS_PROXY, http://user:password@host:port`
      : `let the proxy connect to this host, or go around it: upstreams.${upstream}.proxy: none, or NO_PROXY`,
  );
}

export interface Handshake {
  readonly upstream: string;
  readonly host: string;
  /** Such as `TLSv1.3`. */
  readonly protocol: string;
  /** Who signed the certificate. */
  readonly issuer: string;
  /** Milliseconds since the epoch. */
  readonly validToMs: number;
  /** Why the certificate is not trusted; undefined where it is. */
  readonly distrust: string | undefined;
  readonly insecureSkipVerify: boolean;
  readonly nowMs: number;
}

/** A certificate as it came. */
export function judgeCertificate(handshake: Handshake): Verdict {
  const { upstream, host, protocol, issuer, validToMs, distrust, insecureSkipVerify, nowMs } = handshake;
  const days = Math.floor((validToMs - nowMs) / DAY_MS);
  const seen = `${protocol}, ${issuer}, ${days} days left`;
  if (distrust !== undefined && insecureSkipVerify) {
    return warning(
      `${seen}, not trusted (${distrust})`,
      `upstreams.${upstream}.tls.insecureSkipVerify accepts any certificate, that of an attacker too: set tls.ca instead`,
    );
  }
  switch (distrust) {
    case undefined:
      return days < SOON_DAYS
        ? warning(seen, `the certificate ends on ${day(validToMs)}: have the registry's operator renew it`)
        : good(seen);
    case "CERT_HAS_EXPIRED":
      return failed(
        `the certificate ended on ${day(validToMs)}`,
        `have the registry's operator renew it; where other registries seem expired as well, this machine's clock is wrong (${day(nowMs)})`,
      );
    case "CERT_NOT_YET_VALID":
      return failed("the certificate is not valid yet", `check this machine's clock, which says ${day(nowMs)}`);
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return failed(
        `the certificate is not for ${host}`,
        "another server answers at this address, or the name is not the one that the certificate was made for: check the name under endpoints, and DNS",
      );
    default:
      return failed(
        `the authority ${issuer} is unknown here (${distrust})`,
        `if it is the registry's own, or that of a firewall which inspects TLS, put its certificate into a file and name that in upstreams.${upstream}.tls.ca`,
      );
  }
}

/** TLS that came to no certificate. */
export function judgeHandshake(host: string, code: string): Verdict {
  return failed(
    `no TLS with ${host} (${code})`,
    "the port does not speak TLS, or wants a client certificate: check the port and http:// or https:// under endpoints, and tls.cert and tls.key",
  );
}

/** The answer to `GET /v2/`: a registry says 200, or what to sign in with. */
export function judgePing(upstream: string, status: number, authenticate: readonly string[]): Verdict {
  const challenges = parseChallenges(authenticate).map(({ scheme, parameters }) => {
    const realm = parameters.get("realm") ?? "";
    return URL.canParse(realm) ? `${scheme} at ${new URL(realm).host}` : scheme;
  });
  if (status === 200 || (status === 401 && challenges.length > 0)) {
    return good([status, ...challenges].join(", "));
  }
  if (status === 429) {
    return warning("429", "the registry has had too many requests from this address: wait, and sign in");
  }
  if (status >= 500) {
    return failed(String(status), "the registry is in trouble: look at its status page, or ask its operator");
  }
  return failed(
    `${status}${status === 401 ? " without a challenge" : ""}`,
    `what answers there is no registry, or is not one for this machine: check upstreams.${upstream}.endpoints`,
  );
}

/** This machine's clock by the registry's; undefined where the registry does not say. */
export function judgeClock(date: string | undefined, nowMs: number): Verdict | undefined {
  const theirsMs = Date.parse(date ?? "");
  if (Number.isNaN(theirsMs)) {
    return undefined;
  }
  const aheadMs = nowMs - theirsMs;
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  return Math.abs(aheadMs) <= MAX_SKEW_MS
    ? good(`${seconds} s apart`)
    : warning(
        `${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} the registry's`,
        "set this machine's clock, by NTP for instance: tokens, signed addresses and certificates depend on it",
      );
}

/** What one call failed with. `asked` is the sample, as a reference. */
export function judgeFault(
  error: UpstreamError,
  { asked, realm }: { readonly asked: string; readonly realm: boolean },
): Verdict {
  const { upstream, credential, status } = error;
  const shown = status === undefined ? "" : ` (${status})`;
  switch (error.fault) {
    case "credential":
      return failed(
        error.message,
        `the registry does not take this user name and password: replace what upstreams.${upstream}.credentials has under ${credential ?? "its label"}`,
      );
    case "denied":
      return credential === undefined
        ? failed(
            `not for everybody${shown}`,
            `${asked} is private, or is not there: configure upstreams.${upstream}.credentials, or name another image by --reference`,
          )
        : failed(
            `signed in, but not let in${shown}`,
            `give ${credential} the permission to pull ${asked}, or name an image that it may pull by --reference`,
          );
    case "absent":
      return failed(`there is no ${asked}${shown}`, "name an image that is there by --reference");
    case "quota":
      return failed(
        error.retryAfterMs === undefined
          ? "the quota is spent"
          : `the quota is spent for ${seconds(error.retryAfterMs)}`,
        credential === undefined
          ? `wait, or sign in: upstreams.${upstream}.credentials`
          : `wait, add another credential to upstreams.${upstream}.credentials, or take a larger plan`,
      );
    case "refused":
      return failed(error.message, "list the host under the key that the message names, if it is the registry's");
    case "connect":
    case "tls":
    case "timeout":
      return failed(
        error.message,
        `open the way to this host in the firewall or the proxy${error.fault === "tls" ? ", and check its certificate" : ""}: ${realm ? "tokens" : "blobs, or what redirects lead to,"} come from it`,
      );
    case "status":
    case "bad-answer":
      return failed(
        error.message,
        "the registry is in trouble, or something on the way answers for it: ask its operator",
      );
    case "withheld":
      return failed(error.message, "change the key that the message names");
  }
}

/** Undefined where nothing is known. */
export function judgeQuota(upstream: string, quota: QuotaStatus, nowMs: number): Verdict | undefined {
  const { limit, remaining, windowS, source, credential, closedUntilMs } = quota;
  const more =
    credential === undefined
      ? `sign in by upstreams.${upstream}.credentials for a quota of your own`
      : `add another credential to upstreams.${upstream}.credentials, or take a larger plan`;
  if (closedUntilMs !== undefined && closedUntilMs > nowMs) {
    return failed(`spent for ${seconds(closedUntilMs - nowMs)}`, `wait, or ${more}`);
  }
  if (limit === undefined || remaining === undefined) {
    return undefined;
  }
  const window = windowS === undefined ? "" : ` in ${seconds(windowS * 1000)}`;
  const left = `${remaining} of ${limit}${window}${source === undefined ? "" : `, counted for ${source}`}`;
  if (remaining === 0) {
    return failed(left, `nothing is left until the window ends: wait, or ${more}`);
  }
  return shareLeft({ limit, remaining }) < LOW_SHARE ? warning(left, `little is left: ${more}`) : good(left);
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

function seconds(ms: number): string {
  const s = Math.ceil(ms / 1000);
  return s < 120 ? `${s} s` : s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}
