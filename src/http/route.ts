import { compileGlob } from "../base/glob.ts";
import { quote } from "../base/quote.ts";
import type { RoutingConfig, UpstreamConfig, UpstreamType } from "../config/types.ts";
import { type Digest, parseDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseReference, parseRepository, type Reference, type RepoRef } from "../oci/reference.ts";
import { foldHost, isDialable, isHost, looksLikeHost } from "./host-name.ts";
import { RememberedRoutes } from "./remembered-routes.ts";

/** What of a request decides where it goes. */
export interface RequestLine {
  readonly method: string;
  /** As it stands in the request line: a path with its query, or an absolute URL (RFC 9112 3.2). */
  readonly target: string;
  /** The `Host` header. */
  readonly host: string | undefined;
}

/** The names that requests may use. Keys into the configuration, never addresses. */
export interface RouteTable {
  /** The upstream that a name or alias means; folds case, a trailing dot and the default port. */
  upstream(name: string): string | undefined;
  /** For requests that name no upstream. */
  readonly defaultUpstream: string | undefined;
  /** The only upstream that a `Host` (with or without port) can mean, where it is a virtual host. */
  virtualHost(host: string): string | undefined;
  /** Whether an upstream may be made for a host that is not configured; never for an IP address or a name without a dot. */
  dynamic(host: string): boolean;
  /** The repository's full name at the upstream: on Docker Hub, `nginx` is `library/nginx`. */
  normalise(upstream: string, repository: string): string;
  /** What requests meant by these names. */
  readonly remembered: RememberedRoutes;
}

/** What a request asks for. */
export type RoutedCall = RoutedForm & RoutedOperation;

export interface RoutedForm {
  /** How the request said which upstream it means. */
  readonly form: "virtual-host" | "ns" | "prefix" | "default";
  /** The `ns` parameter as it came, to be echoed in `OCI-Namespace`. */
  readonly ns: string | undefined;
  /** The path as it was asked, prefix included; a next page's `Link` is this with another query. */
  readonly linkPath: string;
  /** Parameters that such a `Link` has to repeat. */
  readonly linkQuery: Readonly<Record<string, string>>;
}

export type RoutedOperation =
  | { readonly op: "ping" }
  | { readonly op: "manifest"; readonly repo: RepoRef; readonly reference: Reference }
  | { readonly op: "blob"; readonly repo: RepoRef; readonly digest: Digest }
  | ({ readonly op: "tags"; readonly repo: RepoRef; readonly cursor: Readonly<Record<string, string>> } & RoutedPage)
  | {
      readonly op: "referrers";
      readonly repo: RepoRef;
      readonly digest: Digest;
      readonly artifactType: string | undefined;
    }
  /** `upstream` is undefined for the catalog of all of them. */
  | ({ readonly op: "catalog"; readonly upstream: string | undefined } & RoutedPage)
  /** Any method but GET and HEAD, and everything about uploads. */
  | { readonly op: "write"; readonly repo: RepoRef | undefined };

export interface RoutedPage {
  readonly n: number | undefined;
  readonly last: string | undefined;
}

export function createRouteTable(
  routing: RoutingConfig,
  upstreams: readonly Pick<UpstreamConfig, "name" | "aliases" | "type">[],
  normaliseRepository: (type: UpstreamType, repository: string) => string,
): RouteTable {
  const byName = new Map<string, string>();
  for (const { name, aliases } of upstreams) {
    for (const spelling of [name, ...aliases]) {
      byName.set(foldHost(spelling), name);
    }
  }
  const types = new Map(upstreams.map(({ name, type }) => [name, type]));
  const upstream = (name: string): string | undefined => byName.get(foldHost(name));
  const known = (name: string, key: string): string => {
    const found = upstream(name);
    if (found === undefined) {
      throw new Error(`${key} names ${quote(name)}, which is no configured upstream`);
    }
    return found;
  };
  const virtualHosts = new Map(
    [...routing.hosts].map(([host, name]) => [foldHost(host), known(name, `routing.hosts.${host}`)]),
  );
  const allowed = routing.dynamic.allow.map(compileDynamicHost);
  return {
    upstream,
    defaultUpstream: routing.default === undefined ? undefined : known(routing.default, "routing.default"),
    virtualHost: (host) => virtualHosts.get(foldHost(host.replace(/:\d*$/, ""))),
    dynamic: (host) => isDialable(host) && allowed.some((matches) => matches(foldHost(host))),
    normalise(name, repository) {
      const type = types.get(name);
      return type === undefined ? repository : normaliseRepository(type, repository);
    },
    remembered: new RememberedRoutes(),
  };
}

/**
 * What a request means (design, section 1). Pure: the same line and table always give the same value.
 *
 * @throws OciError with the status for the client: 400 for what is malformed, 404 for what names nothing
 */
export function routeRequest(line: RequestLine, table: RouteTable): RoutedCall {
  const known = table.remembered.get(line);
  if (known !== undefined) {
    return known;
  }
  const call = readRequest(line, table);
  table.remembered.keep(line, call);
  return call;
}

function readRequest(line: RequestLine, table: RouteTable): RoutedCall {
  const { path, query, host } = splitTarget(line);
  const { front, components } = splitPath(path);
  const ns = parseNs(query);
  const place = resolvePlace({ host, ns, front, components }, table);
  return {
    form: place.form,
    ns,
    linkPath: path,
    linkQuery: ns === undefined ? {} : { ns },
    ...parseOperation(line.method, place, query, table),
  };
}

/**
 * The repository that a token's scope names, as in paths: with its upstream in front, or at the default one. Undefined where
 * there is none of that name.
 */
export function repoOfName(name: string, table: RouteTable): RepoRef | undefined {
  try {
    const { upstream, components } = resolveFirstComponent(name.split("/"), table);
    return parseRepo(components, upstream, table);
  } catch (err) {
    if (err instanceof OciError) return undefined;
    throw err;
  }
}

interface Target {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly host: string | undefined;
}

/** The host of an absolute URL counts instead of the header (RFC 9112 3.2.2). */
function splitTarget({ target, host }: RequestLine): Target {
  const absolute = /^https?:\/\/([^/?]*)/i.exec(target);
  const origin = absolute === null ? target : target.slice(absolute[0].length);
  const queryStart = origin.indexOf("?");
  return {
    path: queryStart === -1 ? origin : origin.slice(0, queryStart),
    query: new URLSearchParams(queryStart === -1 ? "" : origin.slice(queryStart)),
    host: absolute?.[1] ?? host,
  };
}

interface Path {
  /** What stands in front of `/v2`. */
  readonly front: string | undefined;
  /** What stands behind it, decoded. */
  readonly components: readonly string[];
}

function splitPath(path: string): Path {
  const [root, ...components] = path.split("/").map(decodeComponent);
  if (root === "" && components[0] === "v2") {
    return { front: undefined, components: components.slice(1) };
  }
  if (root === "" && components[1] === "v2") {
    return { front: components[0], components: components.slice(2) };
  }
  throw nothingHere(path);
}

/** Exactly once, and before any grammar is applied. What cannot be decoded stays: no grammar allows its `%`. */
function decodeComponent(component: string): string {
  try {
    return decodeURIComponent(component);
  } catch {
    return component;
  }
}

function parseNs(query: URLSearchParams): string | undefined {
  const [ns, ...others] = query.getAll("ns");
  if (ns === undefined) {
    return undefined;
  }
  if (others.length > 0) {
    throw new OciError("NAME_INVALID", "the query names ns more than once");
  }
  if (!isHost(ns)) {
    throw new OciError("NAME_INVALID", `ns=${quote(ns)} is not a registry's host name`);
  }
  return ns;
}

/** Where a request leads, and what is left of its path when that is known. */
interface Place {
  readonly form: RoutedForm["form"];
  /** Undefined where the request names none and there is no default. */
  readonly upstream: string | undefined;
  readonly components: readonly string[];
}

interface Clues extends Path {
  readonly host: string | undefined;
  readonly ns: string | undefined;
}

function resolvePlace(clues: Clues, table: RouteTable): Place {
  const named = clues.ns === undefined ? undefined : requireUpstream(clues.ns, table);
  const boundary = clues.host === undefined ? undefined : table.virtualHost(clues.host);
  if (boundary !== undefined) {
    if (named !== undefined && named !== boundary) {
      throw new OciError("NAME_UNKNOWN", `this host serves ${boundary} only, not ${quote(clues.ns ?? "")}`);
    }
    return { form: "virtual-host", upstream: boundary, components: dropPrefix(clues, boundary, table) };
  }
  if (named !== undefined) {
    return { form: "ns", upstream: named, components: dropPrefix(clues, named, table) };
  }
  if (clues.front !== undefined) {
    return { form: "prefix", upstream: requireUpstream(clues.front, table), components: clues.components };
  }
  return resolveFirstComponent(clues.components, table);
}

/**
 * What is left when the upstream is known already: a prefix that means the same upstream is dropped once, and behind it,
 * together with an equal `ns`, a doubled `v2` (a mirror path to which the client appended `/v2` once more). A prefix that
 * means another upstream belongs to the repository's name.
 */
function dropPrefix({ front, ns, components }: Clues, upstream: string, table: RouteTable): readonly string[] {
  if (front !== undefined) {
    return requireUpstream(front, table) === upstream ? components : [front, ...components];
  }
  const [first, second] = components;
  if (first === undefined || findUpstream(first, table) !== upstream) {
    return components;
  }
  // With nothing but `manifests/<reference>` and the like behind it, `v2` is the repository.
  const doubled = ns !== undefined && second === "v2" && components.length !== 4;
  return components.slice(doubled ? 2 : 1);
}

function resolveFirstComponent(components: readonly string[], table: RouteTable): Place {
  const [first] = components;
  const upstream = first === undefined ? undefined : findUpstream(first, table);
  if (upstream !== undefined) {
    return { form: "prefix", upstream, components: components.slice(1) };
  }
  if (first !== undefined && looksLikeHost(first)) {
    throw unknownUpstream(first);
  }
  return { form: "default", upstream: table.defaultUpstream, components };
}

function requireUpstream(name: string, table: RouteTable): string {
  if (!isHost(name)) {
    throw new OciError("NAME_INVALID", `${quote(name)} is not a registry's host name`);
  }
  const found = findUpstream(name, table);
  if (found === undefined) {
    throw unknownUpstream(name);
  }
  return found;
}

function findUpstream(name: string, table: RouteTable): string | undefined {
  if (!isHost(name)) {
    return undefined;
  }
  return table.upstream(name) ?? (table.dynamic(name) ? foldHost(name) : undefined);
}

function parseOperation(method: string, place: Place, query: URLSearchParams, table: RouteTable): RoutedOperation {
  const { components } = place;
  const reads = method === "GET" || method === "HEAD";
  const path = components.join("/");
  if (path === "") {
    return reads ? { op: "ping" } : { op: "write", repo: undefined };
  }
  if (path === "_catalog") {
    const upstream = place.form === "default" ? undefined : place.upstream;
    return reads ? { op: "catalog", upstream, ...parsePage(query) } : { op: "write", repo: undefined };
  }
  const route = matchRoute(components);
  const repo = parseRepo(route?.repository ?? components, place.upstream, table);
  if (route === undefined) {
    throw nothingHere(path);
  }
  if (!reads || route.kind === "uploads") {
    return { op: "write", repo };
  }
  switch (route.kind) {
    case "manifests":
      return { op: "manifest", repo, reference: parseReference(route.last) };
    case "blobs":
      return { op: "blob", repo, digest: parseDigest(route.last) };
    case "tags":
      return { op: "tags", repo, ...parsePage(query), cursor: parseCursor(query) };
    case "referrers":
      return {
        op: "referrers",
        repo,
        digest: parseDigest(route.last),
        artifactType: query.get("artifactType") || undefined,
      };
  }
}

interface Route {
  readonly kind: "manifests" | "blobs" | "tags" | "referrers" | "uploads";
  readonly repository: readonly string[];
  /** The reference, digest, or upload behind it. */
  readonly last: string;
}

/** Reads from the right, since `manifests`, `blobs` and `tags` may also be parts of a repository's name. */
function matchRoute(components: readonly string[]): Route | undefined {
  const last = components.at(-1) ?? "";
  const kind = components.at(-2);
  if (kind === "uploads" && components.at(-3) === "blobs") {
    return { kind, repository: components.slice(0, -3), last };
  }
  const repository = components.slice(0, -2);
  if (kind === "blobs" && last === "uploads") {
    return { kind: last, repository, last };
  }
  if (kind === "manifests" || kind === "blobs" || kind === "referrers" || (kind === "tags" && last === "list")) {
    return { kind, repository, last };
  }
  return undefined;
}

function parseRepo(components: readonly string[], upstream: string | undefined, table: RouteTable): RepoRef {
  const encodedSlash = components.find((component) => component.includes("/"));
  if (encodedSlash !== undefined) {
    throw new OciError(
      "NAME_INVALID",
      `${quote(encodedSlash)} is not a part of a repository name: it holds an encoded slash`,
    );
  }
  const repository = components.join("/");
  if (upstream === undefined) {
    parseRepository(repository);
    throw new OciError(
      "NAME_UNKNOWN",
      `${quote(repository)} names no upstream and routing.default is not set: put the registry's host in front of it, or use ns`,
    );
  }
  return { upstream, repository: parseRepository(table.normalise(upstream, repository)) };
}

function parsePage(query: URLSearchParams): RoutedPage {
  const [n, ...others] = query.getAll("n");
  if (n !== undefined && (others.length > 0 || !/^\d{1,15}$/.test(n))) {
    throw new OciError("PAGINATION_NUMBER_INVALID", `n=${quote(n)} is not a whole number from 0 on, given once`);
  }
  return { n: n === undefined ? undefined : Number(n), last: query.get("last") ?? undefined };
}

/** Registries page with parameters of their own; whatever is not ours is theirs. */
function parseCursor(query: URLSearchParams): Readonly<Record<string, string>> {
  return Object.fromEntries([...query].filter(([name]) => name !== "ns" && name !== "n" && name !== "last"));
}

/** A glob without a port allows the default port only. */
function compileDynamicHost(pattern: string): (host: string) => boolean {
  const matches = compileGlob(pattern.toLowerCase());
  const withPort = pattern.includes(":");
  return (host) => host.includes(":") === withPort && matches(host);
}

function unknownUpstream(host: string): OciError {
  return new OciError("NAME_UNKNOWN", `${quote(host)} is not an upstream of this cache`, {
    detail: { host },
  });
}

/** Not NAME_UNKNOWN: clients that look for an API which is not there would take that for an answer about a repository. */
function nothingHere(path: string): OciError {
  return new OciError("UNSUPPORTED", `there is nothing at ${quote(path)}: the registry API is under /v2/`, {
    status: 404,
  });
}
