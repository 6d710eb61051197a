import { fileStamp } from "../../base/file-stamp.ts";
import type { DockerConfigCredentialConfig } from "../../config/types.ts";
import { type DockerConfig, findPlaces, type Place, parseDockerConfig } from "./docker-config-file.ts";
import { dockerHelper } from "./docker-helper.ts";
import { RenewedSource } from "./renewed.ts";
import { readSecretFile } from "./secret-file.ts";
import {
  type CredentialSource,
  NoSecretError,
  type ResolvedSecret,
  type ResolveOptions,
  type SourceDeps,
  SourceError,
} from "./source.ts";

/** What the file said when it had this stamp. */
interface Held {
  readonly stamp: string;
  readonly config: DockerConfig;
}

/** Credentials in a docker config file, or with the helpers that it names. The file is looked at each time, and read when it has changed. */
export class DockerConfigSource implements CredentialSource {
  readonly renews = false;
  readonly #deps: SourceDeps;
  readonly #path: string;
  readonly #hosts: readonly string[];
  readonly #helpers = new Map<string, RenewedSource>();
  #held: Held | undefined;

  /** @param hosts names of the registry, the usual one first */
  constructor({ path }: DockerConfigCredentialConfig, hosts: readonly string[], deps: SourceDeps) {
    this.#path = path;
    this.#hosts = hosts;
    this.#deps = deps;
  }

  async resolve(o: ResolveOptions): Promise<ResolvedSecret> {
    const config = await this.#config(o);
    let none: NoSecretError | undefined;
    for (const place of findPlaces(config, this.#hosts, o.repository)) {
      try {
        return await this.#resolveAt(place, o);
      } catch (error) {
        if (!(error instanceof NoSecretError)) {
          throw error;
        }
        none ??= error;
      }
    }
    throw none ?? this.#nothingThere(o.repository);
  }

  refused(): void {
    for (const helper of this.#helpers.values()) {
      helper.refused();
    }
  }

  close(): void {
    for (const helper of this.#helpers.values()) {
      helper.close();
    }
  }

  async #resolveAt(place: Place, o: ResolveOptions): Promise<ResolvedSecret> {
    if (place.kind === "helper") {
      return await this.#helper(place.helper, place.server).resolve(o);
    }
    const { key, secret, problem } = place.entry;
    if (secret !== undefined) {
      return secret;
    }
    const entry = `${this.#path}: auths[${JSON.stringify(key)}]`;
    throw problem === undefined
      ? new NoSecretError("credential", `${entry} holds no password, and no helper is named`)
      : new SourceError("credential", `${entry} ${problem}`);
  }

  #helper(name: string, server: string): RenewedSource {
    const key = `${name} ${server}`;
    const source = this.#helpers.get(key) ?? new RenewedSource(dockerHelper(name, server), this.#deps);
    this.#helpers.set(key, source);
    return source;
  }

  /** What the file says now. One that cannot be understood leaves in force what it said before: it may be half-written. */
  async #config(o: ResolveOptions): Promise<DockerConfig> {
    const { clock, log, where } = this.#deps;
    const stamp = await fileStamp(this.#path);
    if (this.#held?.stamp === stamp) {
      return this.#held.config;
    }
    const text = await readSecretFile(this.#path, { ...o, clock });
    try {
      const config = parseDockerConfig(text);
      this.#held = { stamp, config };
      return config;
    } catch (error) {
      const message = `${this.#path} is no docker config file: ${error instanceof Error ? error.message : String(error)}`;
      if (this.#held === undefined) {
        throw new SourceError("credential", message);
      }
      log.warn({ where }, `${message}; what it said before stays in force`);
      this.#held = { stamp, config: this.#held.config };
      return this.#held.config;
    }
  }

  #nothingThere(repository: string | undefined): SourceError {
    const [host] = this.#hosts;
    const what = repository === undefined ? host : `${host}/${repository}`;
    return new SourceError(
      "credential",
      `${this.#path} has nothing for ${what}; add it under auths, or say by repositories what this credential is for`,
    );
  }
}
