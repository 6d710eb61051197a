import { resolve } from "node:path";
import { z } from "zod";
import { Secret } from "../base/secret.ts";
import type { Path } from "./tree.ts";
import type {
  AwsCredentialConfig,
  CredentialConfig,
  DockerConfigCredentialConfig,
  GcpCredentialConfig,
  PasswordCredentialConfig,
  UpstreamConfig,
} from "./types.ts";
import { ecrRegion } from "./upstream-type.ts";
import { endpoint, filePath, glob, mapping, text } from "./values.ts";

/** ECR Public hands out its passwords in one region only. */
const ECR_PUBLIC_REGION = "us-east-1";

/** What AWS takes as the name of a session. */
const SESSION_NAME = /^[\w+=,.@-]{2,64}$/;

const awsSchema = mapping({
  region: text.optional().describe("AWS region of the registry; read from the upstream's name when left out."),
  profile: text.optional().describe("Profile of the AWS configuration files that is signed in with."),
  roleArn: text.optional().describe("ARN of an IAM role to take on."),
  roleSessionName: text
    .optional()
    .describe("Names Weir in AWS' records of the role; weir when left out. Needs roleArn."),
  externalId: text.optional().describe("External ID that the role asks for. Needs roleArn."),
  webIdentityTokenFile: filePath
    .optional()
    .describe("File with a token of a web identity that may take on the role. Needs roleArn."),
  endpoint: endpoint.optional().describe("Address of the ECR API where it is not AWS' own, such as a VPC endpoint."),
});

const gcpSchema = mapping({
  keyFile: filePath
    .optional()
    .describe(
      "JSON file with a service account's key or a federation's configuration; the metadata server when left out.",
    ),
  scopes: z.array(text).min(1).optional().describe("OAuth scopes to ask for; what suffices to pull when left out."),
});

export const credentialSchema = mapping({
  label: text.describe("Names the credential in errors, logs and metrics."),
  username: text.optional().describe("User name. Needs password."),
  password: text
    .optional()
    .describe("Password or access token; better from a variable or a file than written here. Needs username."),
  dockerConfig: filePath
    .optional()
    .describe("Docker config file, as docker login or a Kubernetes pull secret has it; read again when it changes."),
  aws: awsSchema.optional().describe("Passwords for ECR, by AWS' own ways of signing in."),
  gcp: gcpSchema.optional().describe("Access tokens for gcr.io and pkg.dev; {} asks the metadata server."),
  repositories: z
    .array(glob)
    .min(1)
    .optional()
    .describe("Globs over the upstream's repositories that it is for; all of them when left out."),
});

type ParsedCredential = z.output<typeof credentialSchema>;

/** The upstream that they are for. */
export interface CredentialContext {
  readonly upstream: Pick<UpstreamConfig, "name" | "endpoints">;
  readonly cwd: string;
}

type Report = (path: Path, message: string) => void;

const SOURCES = "username with password, dockerConfig, aws or gcp";

/** Each credential has a label of its own and one source. `report` takes paths below the list. */
export function credentialConfigs(
  parsed: readonly ParsedCredential[],
  context: CredentialContext,
  report: Report,
): readonly CredentialConfig[] {
  const seen = new Set<string>();
  return parsed.flatMap((credential, i) => {
    if (seen.has(credential.label)) {
      report([i, "label"], "another credential of this upstream has the same label");
    }
    seen.add(credential.label);
    const config = credentialConfig(credential, context, (path, message) => report([i, ...path], message));
    return config === undefined ? [] : [config];
  });
}

function credentialConfig(
  parsed: ParsedCredential,
  context: CredentialContext,
  report: Report,
): CredentialConfig | undefined {
  const { label, repositories, username, password, dockerConfig, aws, gcp } = parsed;
  const hasPassword = username !== undefined || password !== undefined;
  const sources = [
    ...(hasPassword ? ["username and password"] : []),
    ...(dockerConfig === undefined ? [] : ["dockerConfig"]),
    ...(aws === undefined ? [] : ["aws"]),
    ...(gcp === undefined ? [] : ["gcp"]),
  ];
  if (sources.length !== 1) {
    const got = sources.length === 0 ? "none" : sources.join(" and ");
    report([], `expected one of ${SOURCES}, got ${got}`);
    return undefined;
  }
  const common = { label, repositories };
  if (dockerConfig !== undefined) {
    return {
      ...common,
      source: "docker-config",
      path: resolve(context.cwd, dockerConfig),
    } satisfies DockerConfigCredentialConfig;
  }
  if (aws !== undefined) {
    return awsConfig(common, aws, context, (path, message) => report(["aws", ...path], message));
  }
  if (gcp !== undefined) {
    const keyFile = gcp.keyFile === undefined ? undefined : resolve(context.cwd, gcp.keyFile);
    return { ...common, source: "gcp", keyFile, scopes: gcp.scopes } satisfies GcpCredentialConfig;
  }
  if (username === undefined || password === undefined) {
    report([username === undefined ? "username" : "password"], "is missing: user name and password go together");
    return undefined;
  }
  return { ...common, source: "password", username, password: new Secret(password) } satisfies PasswordCredentialConfig;
}

function awsConfig(
  common: Pick<AwsCredentialConfig, "label" | "repositories">,
  aws: z.output<typeof awsSchema>,
  { upstream, cwd }: CredentialContext,
  report: Report,
): AwsCredentialConfig | undefined {
  const { roleArn, roleSessionName, externalId, webIdentityTokenFile } = aws;
  for (const [key, value] of Object.entries({ roleSessionName, externalId, webIdentityTokenFile })) {
    if (value !== undefined && roleArn === undefined) {
      report([key], "has no effect without roleArn");
    }
  }
  if (roleArn !== undefined && webIdentityTokenFile !== undefined) {
    for (const [key, value] of Object.entries({ externalId, profile: aws.profile })) {
      if (value !== undefined) {
        report([key], "has no effect beside webIdentityTokenFile; leave one of the two out");
      }
    }
  }
  if (roleSessionName !== undefined && !SESSION_NAME.test(roleSessionName)) {
    report(["roleSessionName"], "expected 2 to 64 letters, digits or characters of _+=,.@-");
  }
  const endpoints = upstream.endpoints.filter(({ credentials }) => credentials.includes(common.label));
  const hosts = [upstream.name, ...endpoints.map(({ url }) => url.host)];
  const ecrPublic = endpoints.some(({ type }) => type === "ecr-public");
  const region = ecrPublic
    ? ECR_PUBLIC_REGION
    : (aws.region ?? hosts.map(ecrRegion).find((found) => found !== undefined));
  if (region === undefined) {
    report(["region"], "is missing: the upstream's name is none of ECR's, which hold the region; write it here");
    return undefined;
  }
  if (ecrPublic && aws.region !== undefined && aws.region !== ECR_PUBLIC_REGION) {
    report(
      ["region"],
      `expected ${ECR_PUBLIC_REGION}, the one region that gives passwords for ECR Public; leave the key out`,
    );
  }
  return {
    ...common,
    source: "aws",
    api: ecrPublic ? "ecr-public" : "ecr",
    region,
    profile: aws.profile,
    role:
      roleArn === undefined
        ? undefined
        : {
            arn: roleArn,
            sessionName: roleSessionName ?? "weir",
            externalId,
            webIdentityTokenFile: webIdentityTokenFile === undefined ? undefined : resolve(cwd, webIdentityTokenFile),
          },
    endpoint: aws.endpoint,
  };
}
