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
  readonly state: StateConfig;
  /** Undefined where replicas do not stream from each other. */
  readonly cluster: ClusterConfig | undefined;
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
  /** Processes that serve; 1 = this one. */
  readonly workers: number;
  /** Where clients reach the server, if not at `listen`: scheme and host, perhaps a port. */
  readonly publicUrl: URL | undefined;
  readonly tls:
    | {
        readonly certFile: string;
        readonly keyFile: string;
        /** Of the authorities that clients' certificates are verified against; undefined = clients are not asked for one. */
        readonly clientCaFile: string | undefined;
      }
    | undefined;
  /** Addresses and CIDRs of proxies in front, whose `X-Forwarded-For` counts. */
  readonly trustedProxies: readonly string[];
  /** Path below which those proxies have the files of the storage; begins and ends in `/`. Undefined where they get bytes. */
  readonly accelRedirect: string | undefined;
}

export interface AdminConfig {
  readonly listen: ListenAddress;
  /** Addresses and CIDRs that may come in; empty = all. */
  readonly allow: readonly string[];
  /** Opens the control routes; undefined where only commands on the same machine may use them. */
  readonly token: Secret | undefined;
}

export interface RoutingConfig {
  /** Name of the upstream for requests that name none; undefined where no default is wanted. */
  readonly default: string | undefined;
  /** Virtual host (lower case, without port) to upstream name. */
  readonly hosts: ReadonlyMap<string, string>;
  readonly dynamic: { readonly allow: readonly string[] };
}

export type UpstreamType = "generic" | "dockerhub" | "quay" | "gcr" | "gitlab" | "ecr" | "ecr-public" | "ghcr" | "acr";

export interface UpstreamConfig {
  /** Lower case; with the port if the reference has one. */
  readonly name: string;
  readonly type: UpstreamType;
  readonly aliases: readonly string[];
  /** Where its repositories can be had, at least one, in the order in which they are tried. */
  readonly endpoints: readonly EndpointConfig[];
  readonly credentials: readonly CredentialConfig[];
  /** Hosts of token realms trusted beyond those that the adapter trusts. */
  readonly realms: readonly string[];
  /** Hosts, addresses and CIDRs a redirect may lead to although they are private, loopback or link-local. */
  readonly redirects: { readonly allow: readonly string[] };
  /** Patterns (oci/image-pattern.ts) of what may be served; empty = all. */
  readonly allow: readonly string[];
  /** The same of what may not; wins over `allow`. */
  readonly deny: readonly string[];
  /** `<os>/<architecture>` of what is served of images for several platforms; empty = all. */
  readonly platforms: readonly string[];
  /** Clients get what is held, and nothing is asked on their behalf. */
  readonly frozen: boolean;
  /** On the way to everything of this upstream; undefined = as the environment says. */
  readonly proxy: ProxyConfig | "none" | undefined;
  /** The global section with this upstream's own `freshness` laid over it (its rules first). */
  readonly freshness: FreshnessConfig;
  readonly timeouts: { readonly connectMs: number; readonly headersMs: number; readonly bodyMs: number };
  readonly maxConnections: number;
  /** Bytes that its repositories' blobs may take up; undefined = as many as all may. */
  readonly maxSize: number | undefined;
  readonly tls: UpstreamTlsConfig;
  /** Status for a spent quota when the request used `ns`: 503 by default, since containerd repeats a 429 at once. */
  readonly budgetStatus: 429 | 503;
  /** How often what is left of its quota is asked for where that is free; undefined = never by itself. */
  readonly quotaProbeMs: number | undefined;
  readonly sendNs: boolean;
}

export interface EndpointConfig {
  /** Where the registry's API is; `http:` is plain HTTP. No path, query or credentials. */
  readonly url: URL;
  /** Stands in front of every repository's name there, without slashes at its ends; empty for none. */
  readonly prefix: string;
  /** How this registry differs from others; the upstream's own type says what names mean. */
  readonly type: UpstreamType;
  /** Labels of those of the upstream's credentials that are for it. */
  readonly credentials: readonly string[];
}

/** An HTTP proxy on the way to an upstream. */
export interface ProxyConfig {
  /** `http:` or `https:`, for the way to the proxy itself; scheme, host and port only. */
  readonly url: URL;
  /** The value of `Proxy-Authorization`, where the proxy wants to know who asks. */
  readonly authorization: Secret | undefined;
}

/** What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say. */
export interface EnvironmentProxies {
  readonly https: ProxyConfig | undefined;
  readonly http: ProxyConfig | undefined;
  /** Hosts that are asked without, as written: names, suffixes, addresses, CIDRs, `*`. */
  readonly except: readonly string[];
}

export interface UpstreamTlsConfig {
  /** Paths of PEM files. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly insecureSkipVerify: boolean;
}

/** One credential and where its secret is kept. */
export type CredentialConfig =
  | PasswordCredentialConfig
  | DockerConfigCredentialConfig
  | AwsCredentialConfig
  | GcpCredentialConfig;

interface AnyCredentialConfig {
  readonly label: string;
  /** Globs over repository names of the upstream; undefined = all. */
  readonly repositories: readonly string[] | undefined;
}

export interface PasswordCredentialConfig extends AnyCredentialConfig {
  readonly source: "password";
  readonly username: string;
  readonly password: Secret;
}

export interface DockerConfigCredentialConfig extends AnyCredentialConfig {
  readonly source: "docker-config";
  /** Of the file. */
  readonly path: string;
}

export interface AwsCredentialConfig extends AnyCredentialConfig {
  readonly source: "aws";
  /** Which of the two APIs gives passwords for the registry. */
  readonly api: "ecr" | "ecr-public";
  readonly region: string;
  /** Of the AWS configuration files. */
  readonly profile: string | undefined;
  /** To be taken on, by what AWS' own default chain finds or by the web identity. */
  readonly role:
    | {
        readonly arn: string;
        readonly sessionName: string;
        readonly externalId: string | undefined;
        /** Path of the token that a Kubernetes cluster or another issuer keeps up to date. */
        readonly webIdentityTokenFile: string | undefined;
      }
    | undefined;
  /** Of the API, where it is not AWS' own for the region. */
  readonly endpoint: URL | undefined;
}

export interface GcpCredentialConfig extends AnyCredentialConfig {
  readonly source: "gcp";
  /** Path of a service account's key or of a federation's configuration; undefined = the metadata server. */
  readonly keyFile: string | undefined;
  /** OAuth scopes; undefined = what suffices to pull. */
  readonly scopes: readonly string[] | undefined;
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
  readonly whenBudgetLow: { readonly below: BudgetThreshold };
  /** Of an upstream's section: how many of the rules, and whether the default, stand there and not in the global one. */
  readonly own?: { readonly rules: number; readonly default: boolean };
}

/** How little of an upstream's quota is little: of what one window allows (0 to 1), or so many requests. */
export type BudgetThreshold = { readonly share: number } | { readonly requests: number };

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
  readonly driver: "filesystem" | "s3" | "tiered";
  readonly filesystem: {
    readonly root: string;
    /** Other Weirs use the folder too. */
    readonly shared: boolean;
  };
  /** Set with the drivers `s3` and `tiered`. */
  readonly s3: S3Config | undefined;
  readonly spool: { readonly dir: string };
  readonly room: RoomConfig;
}

/** How much is kept. */
export interface RoomConfig {
  /** Bytes on the disk; undefined = no limit. */
  readonly maxSize: number | undefined;
  /** Shares of that, from 0 to 1: where eviction sets in, and where it ends. */
  readonly highWater: number;
  readonly lowWater: number;
  /** Undefined = what nobody asks for stays, too. */
  readonly maxAgeMs: number | undefined;
  /** As written: globs `<upstream>/<repository>:<tag>`, or without a tag for whole repositories. */
  readonly pins: readonly string[];
}

export interface S3Config {
  readonly bucket: string;
  readonly region: string;
  /** Undefined: the one that AWS has in the region. */
  readonly endpoint: URL | undefined;
  /** What clients are redirected to, where that is not `endpoint`. */
  readonly publicEndpoint: URL | undefined;
  /** Stands in front of every key; empty or ends in `/`. */
  readonly prefix: string;
  /** The bucket stands in the path and not in the host's name. */
  readonly forcePathStyle: boolean;
  /** Undefined: whatever the SDK finds (environment, files, the machine's or the pod's role). */
  readonly credentials:
    | { readonly accessKeyId: string; readonly secretAccessKey: Secret; readonly sessionToken: Secret | undefined }
    | undefined;
  readonly serverSideEncryption: "AES256" | "aws:kms" | "aws:kms:dsse" | undefined;
  readonly kmsKeyId: string | undefined;
  readonly storageClass: string | undefined;
  /** Bytes that the bucket may hold; undefined = no limit. */
  readonly maxSize: number | undefined;
  /** Blobs that are held are answered with the address of their object. */
  readonly redirect: boolean;
  /** Addresses and CIDRs of clients that get the bytes from Weir all the same. */
  readonly redirectExcept: readonly string[];
  /** Connections for the bodies of blobs, each way. */
  readonly maxConnections: number;
  readonly timeouts: { readonly connectMs: number; readonly idleMs: number };
}

export type StateConfig = { readonly driver: "memory" } | { readonly driver: "redis"; readonly redis: RedisConfig };

export interface ClusterConfig {
  readonly listen: ListenAddress;
  /** `host:port` by which the others reach `listen`; undefined = as it is. */
  readonly advertise: string | undefined;
  /** Signs the requests between replicas. */
  readonly secret: Secret;
}

export interface RedisConfig {
  /** Addresses carry no user name and no password. */
  readonly at:
    | { readonly kind: "url"; readonly url: URL }
    | {
        readonly kind: "sentinel";
        /** The master's. */
        readonly name: string;
        readonly nodes: readonly { readonly host: string; readonly port: number }[];
      }
    | { readonly kind: "cluster"; readonly nodes: readonly URL[] };
  readonly username: string | undefined;
  readonly password: Secret | undefined;
  /** Paths of PEM files. */
  readonly tls:
    | { readonly ca: string | undefined; readonly cert: string | undefined; readonly key: string | undefined }
    | undefined;
  /** In front of every key. */
  readonly prefix: string;
}

export interface AccessConfig {
  readonly signIn: SignInConfig;
  readonly privateToAnonymous: boolean;
  /** Addresses and CIDRs of clients that may come in; empty = all. */
  readonly allow: readonly string[];
  /** The same of clients that may not; wins over `allow`. */
  readonly deny: readonly string[];
  /** First match wins; empty = no rules, and everybody may have everything. */
  readonly rules: readonly AccessRuleConfig[];
  /** Undefined = no bound. */
  readonly fetchBudget: FetchBudgetConfig | undefined;
}

export interface AccessRuleConfig {
  readonly effect: "allow" | "deny";
  /** Names as they are, or globs. Without accounts, groups, `signedIn` and `anonymous` it fits everybody. */
  readonly accounts: readonly string[];
  readonly groups: readonly string[];
  readonly signedIn: boolean;
  readonly anonymous: boolean;
  /** Addresses and CIDRs; empty = from anywhere. */
  readonly from: readonly string[];
  /** As written: globs `<upstream>/<repository>`, perhaps with a tag, in which `${account}` is the caller's account. */
  readonly what: readonly string[];
  readonly actions: readonly ("pull" | "fetch" | "refresh" | "push")[];
  /** Whether what it allows may be private. */
  readonly private: boolean;
}

/** What may be fetched for one caller that is not held. */
export interface FetchBudgetConfig {
  /** Undefined = any number. */
  readonly bytes: number | undefined;
  readonly repositories: number | undefined;
  readonly perMs: number;
}

/** How clients show who they are. */
export interface SignInConfig {
  /** Whether somebody who does not is let in. */
  readonly anonymous: boolean;
  /** Names and passwords. */
  readonly htpasswd: { readonly file: string } | undefined;
  /** Bearer tokens of the distribution token spec. */
  readonly token: TokenServiceConfig | undefined;
  readonly oidc: OidcConfig | undefined;
  readonly mtls: { readonly account: "cn" | "subject" | "dns" | "uri" | "email" } | undefined;
}

export type TokenServiceConfig = BuiltInTokenServiceConfig | ExternalTokenServiceConfig;

export interface BuiltInTokenServiceConfig {
  readonly kind: "built-in";
  /** The name that clients are told, and the tokens' issuer and audience. */
  readonly service: string;
  readonly lifetimeMs: number;
  readonly refreshLifetimeMs: number;
  /** Path of the key that signs, PEM; undefined = one is made and kept in the storage. */
  readonly key: string | undefined;
  /** Paths of keys whose tokens still count. */
  readonly oldKeys: readonly string[];
}

export interface ExternalTokenServiceConfig {
  readonly kind: "external";
  readonly service: string;
  readonly realm: URL;
  readonly issuer: string;
  /** Path or address of its keys. */
  readonly jwks: string | URL | undefined;
  /** Path of certificates, PEM. */
  readonly certificates: string | undefined;
  /** Path of authorities to trust for the address of its keys. */
  readonly ca: string | undefined;
}

export interface OidcConfig {
  /** With which a token may stand in the place of a password. */
  readonly username: string;
  readonly issuers: readonly OidcIssuerConfig[];
}

export interface OidcIssuerConfig {
  /** As its tokens have it. */
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** Path or address of its keys; undefined = as its discovery document says. */
  readonly jwks: string | URL | undefined;
  /** The names that lead to the claim. */
  readonly account: readonly string[];
  readonly prefix: string;
  readonly groups: readonly string[] | undefined;
  /** Claim to glob. */
  readonly require: ReadonlyMap<string, string>;
  /** Path of authorities to trust for it. */
  readonly ca: string | undefined;
  /** Path of the token that it wants to see. */
  readonly tokenFile: string | undefined;
}

export interface LimitsConfig {
  /** Bytes of one manifest, and of any other document read from an upstream. */
  readonly manifestSize: number;
  /** Bytes of a client's request line and headers together. */
  readonly requestHeaders: number;
  /** Bytes of an upstream's response headers. */
  readonly responseHeaders: number;
  /** Clients' connections that one process has at once. */
  readonly connections: number;
  /** Of those, how many may come from one address; a trusted proxy's may be more. */
  readonly connectionsPerClient: number;
}

export interface TelemetryConfig {
  readonly logLevel: "debug" | "info" | "warn" | "error";
  /** Undefined where nothing is traced. */
  readonly traces: TracesConfig | undefined;
}

/** What the file says of traces; what it leaves out, OpenTelemetry's own variables may say. */
export interface TracesConfig {
  /** The collector's address, without the path of OTLP. */
  readonly endpoint: URL | undefined;
  /** By name; sent to the collector. */
  readonly headers: ReadonlyMap<string, Secret>;
  /** From 0 to 1. */
  readonly sampleRatio: number | undefined;
}
