import { Agent } from "node:https";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { Secret } from "../../base/secret.ts";
import type { AwsCredentialConfig } from "../../config/types.ts";
import type { Lease, Lessor } from "./renewed.ts";
import { SourceError, type SourceFault } from "./source.ts";

/** The chain tries one place after the other, and a role may be taken on by another role: some seconds each. */
const TIMEOUT_MS = 20_000;

/** Of one connection and of one answer. */
const CONNECT_MS = 5_000;
const ANSWER_MS = 10_000;

/** What AWS documents, for an answer that does not say. */
const USUAL_LIFETIME_MS = 12 * 3600_000;

/** What GetAuthorizationToken answers, as far as it is of use. `proxyEndpoint` may name another registry than the one that is meant. */
interface Answered {
  readonly token: string | undefined;
  readonly expiresAt: Date | undefined;
  /** When it was answered, by AWS' clock. */
  readonly date: string | undefined;
}

/** What all of the SDK's clients take. */
interface ClientOptions {
  readonly region: string;
  readonly requestHandler: {
    readonly connectionTimeout: number;
    readonly requestTimeout: number;
    readonly httpsAgent: Agent;
  };
}

/** Permissions that the identity needs, for the sentence about their lack. */
const PERMISSIONS = {
  ecr: "ecr:GetAuthorizationToken",
  "ecr-public": "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken",
} as const;

/** Passwords for ECR by `GetAuthorizationToken`, signed in by what AWS' own default chain finds, or by a role. */
export function awsLessor(config: AwsCredentialConfig, { clock }: { readonly clock: Clock }): Lessor {
  return {
    name: "AWS",
    timeoutMs: TIMEOUT_MS,
    async lease(o) {
      try {
        return toLease(await ask(config, o), clock);
      } catch (error) {
        o.signal.throwIfAborted();
        throw error instanceof SourceError ? error : explain(error, config);
      }
    },
  };
}

/** With a client of its own each time: hours lie between two, and what it had read of files and roles is old by then. */
async function ask(config: AwsCredentialConfig, { signal }: CallOptions): Promise<Answered> {
  const { region, endpoint } = config;
  const options: ClientOptions = {
    region,
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      requestTimeout: ANSWER_MS,
      // By HTTPS_PROXY and NO_PROXY, as everything else is reached.
      httpsAgent: new Agent({ proxyEnv: process.env }),
    },
  };
  const clientConfig = {
    ...options,
    credentials: await identity(config, options),
    ...(endpoint === undefined ? {} : { endpoint: endpoint.origin }),
  };
  let date: string | undefined;
  const noteDate = <I, O extends { response: unknown }>(next: (args: I) => Promise<O>) => {
    return async (args: I): Promise<O> => {
      const result = await next(args);
      date = dateOf(result.response);
      return result;
    };
  };
  if (config.api === "ecr-public") {
    const { ECRPUBLICClient, GetAuthorizationTokenCommand } = await import("@aws-sdk/client-ecr-public");
    const client = new ECRPUBLICClient(clientConfig);
    try {
      client.middlewareStack.add(noteDate, { step: "build" });
      const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}), { abortSignal: signal });
      return { token: authorizationData?.authorizationToken, expiresAt: authorizationData?.expiresAt, date };
    } finally {
      client.destroy();
    }
  }
  const { ECRClient, GetAuthorizationTokenCommand } = await import("@aws-sdk/client-ecr");
  const client = new ECRClient(clientConfig);
  try {
    client.middlewareStack.add(noteDate, { step: "build" });
    const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}), { abortSignal: signal });
    return { token: authorizationData?.[0]?.authorizationToken, expiresAt: authorizationData?.[0]?.expiresAt, date };
  } finally {
    client.destroy();
  }
}

/** Who asks: the default chain, or a role that it, or a web identity, takes on. */
async function identity({ profile, role }: AwsCredentialConfig, clientConfig: ClientOptions) {
  const { fromNodeProviderChain, fromTemporaryCredentials, fromTokenFile } = await import(
    "@aws-sdk/credential-providers"
  );
  // The files are read again: an operator may have changed them.
  const chain = () =>
    fromNodeProviderChain({ clientConfig, ignoreCache: true, ...(profile === undefined ? {} : { profile }) });
  if (role === undefined) {
    return chain();
  }
  const { arn: roleArn, sessionName: roleSessionName, externalId, webIdentityTokenFile } = role;
  if (webIdentityTokenFile !== undefined) {
    return fromTokenFile({ clientConfig, roleArn, roleSessionName, webIdentityTokenFile });
  }
  return fromTemporaryCredentials({
    clientConfig,
    masterCredentials: chain(),
    params: {
      RoleArn: roleArn,
      RoleSessionName: roleSessionName,
      ...(externalId === undefined ? {} : { ExternalId: externalId }),
    },
  });
}

function toLease({ token, expiresAt, date }: Answered, clock: Clock): Lease {
  const text = Buffer.from(token ?? "", "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 1) {
    throw new SourceError("status", "AWS answered GetAuthorizationToken without a user name and password");
  }
  const answeredMs = Date.parse(date ?? "");
  const nowMs = Number.isNaN(answeredMs) ? clock.now() : answeredMs;
  return {
    form: "password",
    username: text.slice(0, colon),
    secret: new Secret(text.slice(colon + 1)),
    lifetimeMs: expiresAt === undefined ? USUAL_LIFETIME_MS : Math.max(expiresAt.getTime() - nowMs, 0),
    expires: true,
  };
}

function dateOf(response: unknown): string | undefined {
  const headers = (response as { readonly headers?: Readonly<Record<string, string>> } | undefined)?.headers;
  return headers?.date;
}

/** A sentence for the operator. Messages of AWS are not repeated: some quote the request with what signed it. */
function explain(error: unknown, config: AwsCredentialConfig): SourceError {
  const { name, code, message, status } = partsOf(error);
  const fail = (fault: SourceFault, what: string): SourceError => new SourceError(fault, `${what} (${name})`);
  const { role } = config;
  if (name === "CredentialsProviderError" || name === "TokenProviderError") {
    return fail(
      "credential",
      "AWS' default chain finds nothing to sign in with; give Weir a role of its workload or instance, AWS_* variables, or aws.profile",
    );
  }
  if (name === "AccessDenied" && role !== undefined) {
    return fail(
      "credential",
      `AWS does not let Weir take on ${role.arn}; its trust policy must allow Weir's own identity${arnIn(message)}`,
    );
  }
  if (/^AccessDenied/.test(name)) {
    return fail(
      "credential",
      `AWS does not let Weir have passwords; allow ${PERMISSIONS[config.api]}${arnIn(message)}`,
    );
  }
  if (code === "ENOENT" || code === "EACCES") {
    return fail("credential", `a file to sign in to AWS with cannot be read (${code}); see aws.webIdentityTokenFile`);
  }
  if (status === undefined) {
    return new SourceError(
      name === "TimeoutError" ? "timeout" : "connect",
      `AWS cannot be reached for a password (${code ?? name}); is there a way to the APIs of ECR and STS in ${config.region}?`,
    );
  }
  if (status >= 500 || status === 429 || /thrott|TooManyRequests/i.test(name)) {
    return fail("status", `AWS is in trouble and gives no password: status ${status}`);
  }
  return fail("credential", "AWS refuses what Weir signs in with; look at its keys, its token file and the clock");
}

function partsOf(error: unknown) {
  const { name, code, message, $metadata } = (error instanceof Error ? error : {}) as {
    readonly name?: string;
    readonly code?: unknown;
    readonly message?: string;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  return {
    name: name ?? "unknown error",
    code: typeof code === "string" ? code : undefined,
    message: message ?? "",
    status: $metadata?.httpStatusCode,
  };
}

/** Who was denied, which is what one looks for first. */
function arnIn(message: string): string {
  const arn = /arn:[\w-]+:(?:iam|sts)::[\w:/+=,.@-]{1,200}/.exec(message)?.[0];
  return arn === undefined ? "" : `; it signs in as ${arn}`;
}
