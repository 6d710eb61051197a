import type * as Google from "google-auth-library";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { Secret } from "../../base/secret.ts";
import { systemClock } from "../../base/system-clock.ts";
import type { GcpCredentialConfig } from "../../config/types.ts";
import type { Lessor } from "./renewed.ts";
import { readSecretFile } from "./secret-file.ts";
import { SourceError } from "./source.ts";

/** A metadata server that has just started takes some seconds, and federation asks three servers. */
const TIMEOUT_MS = 20_000;

/** Of one answer. */
const ANSWER_MS = 10_000;

/** By which Google's registries know an access token. */
const USERNAME = "oauth2accesstoken";

/** What Artifact Registry and the older gcr.io each want for pulling. */
const PULL_SCOPES = [
  "https://www.googleapis.com/auth/cloud-platform.read-only",
  "https://www.googleapis.com/auth/devstorage.read_only",
];

/** Google's own for access tokens, for an answer that says nothing or whose clock is far from this machine's. */
const USUAL_LIFETIME_MS = 3600_000;

/** The error codes of OAuth 2.0, which say more than the status that comes with them. */
const OAUTH_ERROR =
  /\b(?:invalid_(?:grant|client|scope|request|target)|unauthorized_client|unsupported_grant_type|access_denied)\b/;

const GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token";

/** Access tokens of Google for its registries, by a service account's key, by federation, or by the metadata server. */
export function gcpLessor(config: GcpCredentialConfig, { clock }: { readonly clock: Clock }): Lessor {
  return {
    name: config.keyFile === undefined ? "the metadata server of Google Cloud" : "Google",
    timeoutMs: TIMEOUT_MS,
    async lease(o) {
      try {
        const client = await createClient(config, clock, o);
        const { token } = await client.getAccessToken();
        if (typeof token !== "string" || token === "") {
          throw new SourceError("status", "Google answered without an access token");
        }
        return {
          form: "password",
          username: USERNAME,
          secret: new Secret(token),
          lifetimeMs: lifetimeOf(client.credentials.expiry_date),
          expires: true,
        };
      } catch (error) {
        o.signal.throwIfAborted();
        throw error instanceof SourceError ? error : explain(error, config);
      }
    },
  };
}

/** A new one each time, so that a key that was exchanged is seen. */
async function createClient({ keyFile, scopes }: GcpCredentialConfig, clock: Clock, o: CallOptions) {
  const google = await import("google-auth-library");
  const transporterOptions = { timeout: ANSWER_MS, signal: o.signal };
  if (keyFile === undefined) {
    // Without scopes the metadata server gives those of the instance; it may not give others.
    return new google.Compute({ transporterOptions, ...(scopes === undefined ? {} : { scopes: [...scopes] }) });
  }
  const key = parseKey(await readSecretFile(keyFile, { ...o, clock }), keyFile);
  const wanted = [...(scopes ?? PULL_SCOPES)];
  switch (key.type) {
    case "service_account": {
      const client = new google.JWT({ transporterOptions, scopes: wanted });
      client.fromJSON(key as Google.JWTInput);
      const { token_uri: tokenUrl } = key;
      if (typeof tokenUrl === "string" && tokenUrl !== GOOGLE_TOKEN_URL) {
        // The library always asks Google's public address, although the key may name another way there.
        client.transporter.interceptors.request.add({
          resolved: async (request) => ({ ...request, url: new URL(tokenUrl) }),
        });
      }
      return client;
    }
    case "external_account":
      return federation(google, { ...key, scopes: wanted, transporterOptions });
    default:
      throw new SourceError(
        "credential",
        `${keyFile} is neither a service account's key nor a federation's configuration (type service_account or external_account)`,
      );
  }
}

/** As the library's own `ExternalAccountClient.fromJSON` chooses, which prints a warning each time. */
function federation(google: typeof Google, options: Readonly<Record<string, unknown>>) {
  const source = options.credential_source;
  const has = (key: string): boolean => typeof source === "object" && source !== null && key in source;
  if (has("environment_id")) {
    return new google.AwsClient(options as unknown as Google.AwsClientOptions);
  }
  if (has("executable")) {
    return new google.PluggableAuthClient(options as unknown as Google.PluggableAuthClientOptions);
  }
  return new google.IdentityPoolClient(options as unknown as Google.IdentityPoolClientOptions);
}

function parseKey(text: string, path: string): Readonly<Record<string, unknown>> {
  let key: unknown;
  try {
    key = JSON.parse(text);
  } catch {
    // The parser's own message quotes what stands there.
  }
  if (typeof key !== "object" || key === null) {
    throw new SourceError("credential", `the file ${path} is not the JSON of a key or of a federation's configuration`);
  }
  return key as Readonly<Record<string, unknown>>;
}

/** The library reckons by the machine's own clock, and so must be understood by it. */
function lifetimeOf(expiryMs: number | null | undefined): number {
  const lifetimeMs = (expiryMs ?? 0) - systemClock.now();
  return lifetimeMs > 0 ? lifetimeMs : USUAL_LIFETIME_MS;
}

/** A sentence for the operator. Messages of the library are not repeated: some quote what was sent. */
function explain(error: unknown, { keyFile }: GcpCredentialConfig): SourceError {
  const { name, code, message, status } = partsOf(error);
  if (name === "TimeoutError" || name === "AbortError") {
    return new SourceError("timeout", "Google gave no access token in time");
  }
  if (status === undefined && /^E(?!RR_)[A-Z_]+$/.test(code ?? "") && code !== "ENOENT" && code !== "EACCES") {
    const who = keyFile === undefined ? "the metadata server" : "Google's token service";
    const advice = keyFile === undefined ? "; outside of Google Cloud Weir needs gcp.keyFile" : "";
    return new SourceError("connect", `${who} cannot be reached for an access token (${code})${advice}`);
  }
  if (status !== undefined && (status >= 500 || status === 429)) {
    return new SourceError("status", `Google is in trouble and gives no access token: status ${status}`);
  }
  const why = OAUTH_ERROR.exec(message)?.[0] ?? (status === undefined ? (code ?? name) : `status ${status}`);
  return new SourceError(
    "credential",
    keyFile === undefined
      ? `the metadata server gives Weir no access token (${why}); give its workload or instance a service account`
      : `${keyFile} gets no access token (${why}); was the key deleted, or what it refers to changed, and is the clock right?`,
  );
}

function partsOf(error: unknown) {
  const { name, code, message, response } = (error instanceof Error ? error : {}) as {
    readonly name?: string;
    readonly code?: unknown;
    readonly message?: string;
    readonly response?: { readonly status?: number };
  };
  return {
    name: name ?? "unknown error",
    code: typeof code === "string" ? code : undefined,
    message: message ?? "",
    status: response?.status,
  };
}
