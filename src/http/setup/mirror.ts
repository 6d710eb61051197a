import type { Config, UpstreamConfig } from "../../config/types.ts";
import { SetupError } from "./setup-error.ts";

/** The cache as clients are told of it, and whose place it takes. */
export interface Mirror {
  /** `http://weir.example:5000`: no path, no slash at the end. */
  readonly url: string;
  /** `weir.example:5000`. */
  readonly host: string;
  readonly plainHttp: boolean;
  /** Clients may not ask the registries themselves when the cache cannot answer. */
  readonly only: boolean;
  readonly registries: readonly MirroredRegistry[];
  /** The cache also answers for registries that are not among `registries` (`routing.dynamic`). */
  readonly dynamic: boolean;
  /** What dockerd's `registry-mirrors` takes, which are for Docker Hub alone; undefined where the cache does not serve it. */
  readonly dockerHubUrl: string | undefined;
}

/** A registry by one of its names: an upstream with two aliases is three of these. */
export interface MirroredRegistry {
  /** As it stands in image references. */
  readonly name: string;
  /** Where clients find the registry itself: `https://quay.io`. */
  readonly server: string;
  /**
   * What stands behind the cache's host in a reference that means this registry: `/quay.io`, nothing at a virtual host.
   * Undefined where none can: a port is allowed in a reference's host only.
   */
  readonly referencePath: string | undefined;
}

const DOCKER_HUB = "docker.io";
/** docker.io itself is a web site. */
const DOCKER_HUB_SERVER = "https://registry-1.docker.io";

/**
 * @param base where clients reach the cache; a virtual host stands for its one upstream
 * @throws SetupError where the configuration leaves nothing to tell clients
 */
export function createMirror(
  config: Pick<Config, "routing" | "upstreams">,
  base: URL,
  options: { readonly only: boolean },
): Mirror {
  const { hosts, dynamic, default: defaultUpstream } = config.routing;
  const boundary = hosts.get(base.hostname.replace(/\.$/, ""));
  const served = config.upstreams.filter(({ name }) => boundary === undefined || name === boundary);
  const mirror = {
    url: base.origin,
    host: base.host,
    plainHttp: base.protocol === "http:",
    only: options.only,
    registries: served.flatMap((upstream) => mirroredRegistries(upstream, boundary !== undefined)),
    dynamic: boundary === undefined && dynamic.allow.length > 0,
    dockerHubUrl: served.some(({ name }) => name === DOCKER_HUB)
      ? dockerHubUrl(base, boundary ?? defaultUpstream)
      : undefined,
  };
  if (mirror.registries.length === 0 && !mirror.dynamic) {
    throw new SetupError("no upstream is configured, so there is nothing that clients could be pointed at");
  }
  return mirror;
}

export function registryNames(mirror: Mirror): string[] {
  return mirror.registries.map(({ name }) => name);
}

/** For clients that have a name for all other registries: `*` where the cache serves those. */
export function mirroredNames(mirror: Mirror): string[] {
  return [...registryNames(mirror), ...(mirror.dynamic ? ["*"] : [])];
}

/** What a file does that holds so many names of registries. */
export function mirroringNote(mirror: Mirror, names: readonly string[]): string {
  const [first, ...others] = names;
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  return `sends pulls of ${first === "*" ? "every registry" : first}${more} to ${mirror.url}`;
}

function mirroredRegistries(upstream: UpstreamConfig, atVirtualHost: boolean): MirroredRegistry[] {
  const names = [upstream.name, ...upstream.aliases];
  const withoutPort = names.find((name) => !name.includes(":"));
  return names.map((name) => {
    const inPath = name.includes(":") ? withoutPort : name;
    return {
      name,
      server: directServer(name, upstream.endpoints),
      referencePath: atVirtualHost ? "" : inPath && `/${inPath}`,
    };
  });
}

/** What a client without the cache would ask; by plain HTTP where Weir is told so of this very host. */
function directServer(name: string, endpoints: UpstreamConfig["endpoints"]): string {
  if (name === DOCKER_HUB) {
    return DOCKER_HUB_SERVER;
  }
  const own = endpoints.find(({ url }) => new URL(`${url.protocol}//${name}`).host === url.host);
  return own?.url.origin ?? `https://${name}`;
}

/** dockerd names no upstream; what a path in front of `/v2` says is needed only where Docker Hub is not what that means. */
function dockerHubUrl(base: URL, unnamed: string | undefined): string {
  return unnamed === DOCKER_HUB ? base.origin : `${base.origin}/${DOCKER_HUB}`;
}
