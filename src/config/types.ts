/**
 * The configuration after checking: defaults filled in, durations in milliseconds, sizes in bytes, secrets wrapped.
 * Frozen; nothing below config/ sees YAML or environment variables.
 */
import type { Secret } from "../base/secret.ts";

export interface Config {
  readonly server: ServerConfig;
  readonly admin: AdminConfig;
  readonly routing: RoutingConfig;
  readonly upstreams: readonly UpstreamConfig[];
  readonly freshness: FreshnessConfig;
  readonly download: DownloadConfig;
  readonly storage: StorageConfig;
  readonly access: AccessConfig;
  readonly limits: LimitsConfig;
  readonly telemetry: TelemetryConfig;
  readonly shutdown: { readonly graceMs: number };
}

export interface ListenAddress {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
}

export interface ServerConfig {
  readonly listen: ListenAddress;
  /** Where clients reach the server, if not at `listen`: scheme and host, perhaps a port. */
  readonly publicUrl: URL | undefined;
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
}

export interface AdminConfig {
  readonly listen: ListenAddress;
}

export interface RoutingConfig {
  /** Name of the upstream for requests that name none; undefined where no default is wanted. */
  readonly default: string | undefined;
  /** Virtual host (lower case, without port) to upstream name. */
  readonly hosts: ReadonlyMap<string, string>;
  readonly dynamic: { readonly allow: readonly string[] };
}

export type UpstreamType = "generic" | "dockerhub";

export interface UpstreamConfig {
  /** Lower case; with the port if the reference has one. */
  readonly name: string;
  readonly type: UpstreamType;
  readonly aliases: readonly string[];
  /** Where the registry's API is; `http:` is plain HTTP. No path, query or credentials. */
  readonly endpoint: URL;
  readonly credentials: readonly CredentialConfig[];
  /** Hosts of token realms trusted beyond those that the adapter trusts. */
  readonly realms: readonly string[];
  /** Hosts, addresses and CIDRs a redirect may lead to although they are private, loopback or link-local. */
  readonly redirects: { readonly allow: readonly string[] };
  /** The global section with this upstream's own `freshness` laid over it (its rules first). */
  readonly freshness: FreshnessConfig;
  readonly timeouts: { readonly connectMs: number; readonly headersMs: number; readonly bodyMs: number };
  readonly maxConnections: number;
  readonly tls: UpstreamTlsConfig;
  /** Status for a spent quota when the request used `ns`: 503 by default, since containerd repeats a 429 at once. */
  readonly budgetStatus: 429 | 503;
  readonly sendNs: boolean;
}

export interface UpstreamTlsConfig {
  /** Paths of PEM files. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly insecureSkipVerify: boolean;
}

export interface CredentialConfig {
  readonly label: string;
  readonly username: string;
  readonly password: Secret;
  /** Globs over repository names of the upstream; undefined = all. */
  readonly repositories: readonly string[] | undefined;
}

export interface FreshnessRule {
  /** As written: `<upstream>/<repository>:<tag>` glob, the tag part perhaps a `/regex/`. */
  readonly match: string;
  readonly ttlMs: number;
}

export interface FreshnessConfig {
  readonly defaultMs: number;
  /** First match wins. */
  readonly rules: readonly FreshnessRule[];
  readonly staleIfErrorMs: number;
  readonly softDeadlineMs: number;
  /** `"keep"` for ever, `"drop"`, or keep for so many milliseconds. */
  readonly onGone: "keep" | "drop" | { readonly keepMs: number };
  readonly negativeMs: number;
  readonly proofTtlMs: number;
}

export interface DownloadConfig {
  /** How long a range request waits for the fill to reach it before it is passed through. */
  readonly rangeWaitMs: number;
  /** Bytes per second over 30 s below which a body counts as stalled. */
  readonly minRate: number;
  /** Attempts without progress before a fill is given up. */
  readonly stalledAttempts: number;
  /** When all readers have left: `never` (finish the fill) or after so many milliseconds. */
  readonly abandon: "never" | { readonly afterMs: number };
}

export interface StorageConfig {
  readonly driver: "filesystem";
  readonly filesystem: { readonly root: string };
  readonly spool: { readonly dir: string };
}

export interface AccessConfig {
  readonly mode: "anonymous";
  readonly privateToAnonymous: boolean;
}

export interface LimitsConfig {
  /** Bytes of one manifest, and of any other document read from an upstream. */
  readonly manifestSize: number;
  /** Bytes of a client's request line and headers together. */
  readonly requestHeaders: number;
  /** Bytes of an upstream's response headers. */
  readonly responseHeaders: number;
}

export interface TelemetryConfig {
  readonly logLevel: "debug" | "info" | "warn" | "error";
}
