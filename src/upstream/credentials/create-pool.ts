import type { CredentialConfig } from "../../config/types.ts";
import { awsLessor } from "./aws.ts";
import type { CredentialPool } from "./credential.ts";
import { DockerConfigSource } from "./docker-config.ts";
import { gcpLessor } from "./gcp.ts";
import { passwordSource } from "./password.ts";
import { type CredentialPoolDeps, Credentials } from "./pool.ts";
import { RenewedSource } from "./renewed.ts";
import type { CredentialSource, SourceDeps } from "./source.ts";

/** The pool of the credentials that one of an upstream's endpoints is asked with. Reads nothing and asks nobody yet. */
export function createCredentialPool(deps: Omit<CredentialPoolDeps, "sourceOf">): CredentialPool {
  const { upstream, endpoint, clock, log } = deps;
  const hosts = [...new Set([upstream.name, ...upstream.aliases, endpoint.url.host])];
  return new Credentials({
    ...deps,
    sourceOf: (config) =>
      createSource(config, hosts, { clock, log, where: `upstreams.${upstream.name}.credentials (${config.label})` }),
  });
}

function createSource(config: CredentialConfig, hosts: readonly string[], deps: SourceDeps): CredentialSource {
  switch (config.source) {
    case "password":
      return passwordSource(config.username, config.password);
    case "docker-config":
      return new DockerConfigSource(config, hosts, deps);
    case "aws":
      return new RenewedSource(awsLessor(config, deps), deps);
    case "gcp":
      return new RenewedSource(gcpLessor(config, deps), deps);
  }
}
