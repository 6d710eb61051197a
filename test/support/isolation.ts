/** Every spelling of a repository of docker.io, and everything that can be asked of it: the axes of the tests of isolation. */
import { type HttpReply, httpRequest } from "./network.ts";

/** A virtual host that means docker.io, as the tests configure it. */
export const VIRTUAL_HOST = "hub.mirror.example";

export interface Asked {
  readonly path: string;
  readonly host?: string;
}

/** What stands behind the repository's name, and what is asked for it. */
export type Spelling = (repository: string, tail: string) => Asked;

const short = (repository: string): string => repository.replace("library/", "");
const withNs = (path: string, ns: string): string => `${path}${path.includes("?") ? "&" : "?"}ns=${ns}`;

/** The rows: how a repository of docker.io can be spelt. */
export const SPELLINGS: Readonly<Record<string, Spelling>> = {
  prefix: (repository, tail) => ({ path: `/v2/docker.io/${repository}/${tail}` }),
  "prefix, short name": (repository, tail) => ({ path: `/v2/docker.io/${short(repository)}/${tail}` }),
  "prefix in upper case": (repository, tail) => ({ path: `/v2/DOCKER.io/${repository}/${tail}` }),
  "prefix with a trailing dot": (repository, tail) => ({ path: `/v2/docker.io./${repository}/${tail}` }),
  "prefix with the default port": (repository, tail) => ({ path: `/v2/docker.io:443/${repository}/${tail}` }),
  alias: (repository, tail) => ({ path: `/v2/registry-1.docker.io/${repository}/${tail}` }),
  encoded: (repository, tail) => ({ path: `/v2/d%6Fcker.io/${repository.replace("l", "%6C")}/${tail}` }),
  ns: (repository, tail) => ({ path: withNs(`/v2/${repository}/${tail}`, "docker.io") }),
  "ns, alias in upper case, short name": (repository, tail) => ({
    path: withNs(`/v2/${short(repository)}/${tail}`, "INDEX.docker.io"),
  }),
  "ns and prefix": (repository, tail) => ({ path: withNs(`/v2/docker.io/${repository}/${tail}`, "docker.io") }),
  "ns, prefix and a doubled v2": (repository, tail) => ({
    path: withNs(`/v2/docker.io/v2/${repository}/${tail}`, "docker.io"),
  }),
  "prefix in front of v2": (repository, tail) => ({ path: `/docker.io/v2/${repository}/${tail}` }),
  "virtual host": (repository, tail) => ({ path: `/v2/${repository}/${tail}`, host: VIRTUAL_HOST }),
  "virtual host in upper case, with prefix": (repository, tail) => ({
    path: `/v2/docker.io/${repository}/${tail}`,
    host: VIRTUAL_HOST.toUpperCase(),
  }),
  "default upstream": (repository, tail) => ({ path: `/v2/${repository}/${tail}` }),
  "default upstream, short name": (repository, tail) => ({ path: `/v2/${short(repository)}/${tail}` }),
};

export interface Route {
  readonly method: "GET" | "HEAD";
  readonly tail: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Things {
  readonly tag: string;
  readonly manifest: string;
  readonly blob: string;
  readonly large: string;
}

/** The columns: what can be asked of it. */
export function routes({ tag, manifest, blob, large }: Things): Readonly<Record<string, Route>> {
  return {
    "GET manifest by tag": { method: "GET", tail: `manifests/${tag}` },
    "HEAD manifest by tag": { method: "HEAD", tail: `manifests/${tag}` },
    "GET manifest by digest": { method: "GET", tail: `manifests/${manifest}` },
    "HEAD manifest by digest": { method: "HEAD", tail: `manifests/${manifest}` },
    "conditional GET manifest": {
      method: "GET",
      tail: `manifests/${manifest}`,
      headers: { "if-none-match": `"${manifest}"` },
    },
    "GET blob": { method: "GET", tail: `blobs/${blob}` },
    "HEAD blob": { method: "HEAD", tail: `blobs/${blob}` },
    "GET blob, range": { method: "GET", tail: `blobs/${blob}`, headers: { range: "bytes=0-0" } },
    "GET blob, range beyond the end": { method: "GET", tail: `blobs/${blob}`, headers: { range: "bytes=99999999-" } },
    "conditional GET blob": { method: "GET", tail: `blobs/${blob}`, headers: { "if-none-match": `"${blob}"` } },
    "GET large blob": { method: "GET", tail: `blobs/${large}` },
    "HEAD large blob": { method: "HEAD", tail: `blobs/${large}` },
    "GET large blob, range": { method: "GET", tail: `blobs/${large}`, headers: { range: "bytes=0-9" } },
    "GET tags": { method: "GET", tail: "tags/list" },
    "HEAD tags": { method: "HEAD", tail: "tags/list" },
    "GET referrers": { method: "GET", tail: `referrers/${manifest}` },
    "GET referrers of a type": { method: "GET", tail: `referrers/${manifest}?artifactType=application%2Fspdx` },
  };
}

export const CATALOGS: readonly Asked[] = [
  { path: "/v2/_catalog" },
  { path: "/v2/_catalog?ns=docker.io" },
  { path: "/v2/docker.io/_catalog" },
  { path: "/docker.io/v2/_catalog" },
  { path: "/v2/_catalog", host: VIRTUAL_HOST },
  { path: "/v2/_catalog?n=1000&last=docker.io%2Flibrary%2Fsite" },
];

export async function ask(
  weir: { readonly url: string },
  { path, host }: Asked,
  route: Pick<Route, "method" | "headers">,
): Promise<HttpReply> {
  const headers = { ...route.headers, ...(host === undefined ? {} : { host }) };
  return await httpRequest(weir.url + path, { method: route.method, headers });
}

/** Everything of an answer that could tell one case from another. The repository's own name is what was asked for. */
export function told({ status, headers, body }: HttpReply, repository: string): unknown {
  const { date, "x-request-id": requestId, "content-length": length, ...others } = headers;
  const text = body.toString().replaceAll(repository, "REPOSITORY");
  return { status, headers: others, text };
}
