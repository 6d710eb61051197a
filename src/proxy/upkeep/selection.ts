import { compileGlob } from "../../base/glob.ts";
import { quote } from "../../base/quote.ts";
import { type Digest, parseDigest } from "../../oci/digest.ts";
import { formatRepo, parseRepository, parseTag, type RepoRef } from "../../oci/reference.ts";
import { UpkeepError } from "./upkeep.ts";

/** The names that references may use, as routing has them. */
export interface UpstreamNames {
  /** The upstream that a name or alias means. */
  upstream(name: string): string | undefined;
  readonly defaultUpstream: string | undefined;
  /** The repository's full name at the upstream: on Docker Hub, `nginx` is `library/nginx`. */
  normalise(upstream: string, repository: string): string;
}

/** What an operator's REF means. */
export type Selection =
  | { readonly kind: "tag"; readonly repo: RepoRef; readonly tag: string }
  | { readonly kind: "digest"; readonly repo: RepoRef; readonly digest: Digest }
  | { readonly kind: "repository"; readonly repo: RepoRef }
  | {
      readonly kind: "pattern";
      matches(repo: RepoRef): boolean;
      /** Undefined where the pattern is one of whole repositories. */
      readonly matchesTag: ((tag: string) => boolean) | undefined;
    };

const WILD = /[*?]/;

/**
 * Reads `docker.io/library/nginx:1.27`, `...@sha256:...`, a repository, or a glob such as `quay.io/acme/**:dev-*`. Names mean
 * what they mean in a pull: aliases, `library/`, the default upstream.
 *
 * @throws UpkeepError with one sentence
 */
export function parseSelection(text: string, names: UpstreamNames): Selection {
  try {
    return parse(text, names);
  } catch (error) {
    if (error instanceof UpkeepError) throw error;
    throw new UpkeepError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function parse(text: string, names: UpstreamNames): Selection {
  if (text === "" || text.includes("://") || /\s/.test(text)) {
    throw new UpkeepError(
      `${quote(text)} is no reference: expected one such as docker.io/library/nginx:1.27, without a scheme`,
    );
  }
  const [name = "", digest, ...more] = text.split("@");
  if (more.length > 0) throw new UpkeepError(`${quote(text)} has more than one @`);
  const colon = name.indexOf(":", name.lastIndexOf("/") + 1);
  const path = colon === -1 ? name : name.slice(0, colon);
  const tag = colon === -1 ? undefined : name.slice(colon + 1);
  if (digest === undefined && WILD.test(name)) return pattern(path, tag, names);
  const repo = repository(path, names);
  if (digest !== undefined) return { kind: "digest", repo, digest: parseDigest(digest) };
  return tag === undefined ? { kind: "repository", repo } : { kind: "tag", repo, tag: parseTag(tag) };
}

function repository(path: string, names: UpstreamNames): RepoRef {
  const { upstream, rest } = split(path, names);
  return { upstream, repository: parseRepository(names.normalise(upstream, rest)) };
}

function pattern(path: string, tag: string | undefined, names: UpstreamNames): Selection {
  const [first = ""] = path.split("/");
  let glob = path;
  // A glob over upstreams says so by what stands behind it; a bare one is of the default upstream's repositories.
  if (!WILD.test(first) || (path === first && !path.includes("**"))) {
    const { upstream, rest } = split(path, names);
    // `**` is any number of parts, also where the upstream puts one in front of short names.
    glob = `${upstream}/${rest.includes("**") ? rest : names.normalise(upstream, rest)}`;
  }
  const matches = compileGlob(glob);
  return {
    kind: "pattern",
    matches: (repo) => matches(formatRepo(repo)),
    matchesTag: tag === undefined ? undefined : compileGlob(tag),
  };
}

/** The upstream that a path begins with, or the default one. An unknown host stands for itself: what it left may be held. */
function split(path: string, names: UpstreamNames): { readonly upstream: string; readonly rest: string } {
  const [first = "", ...others] = path.split("/");
  const known = names.upstream(first);
  const isHost = known !== undefined || /[.:]/.test(first) || first === "localhost";
  if (isHost && others.length > 0) return { upstream: known ?? first.toLowerCase(), rest: others.join("/") };
  if (isHost) {
    throw new UpkeepError(`${quote(path)} names an upstream and no repository: ${first}/** is everything of it`);
  }
  if (names.defaultUpstream === undefined) {
    throw new UpkeepError(
      `${quote(path)} names no upstream and routing.default is not set: put the registry's host in front of it`,
    );
  }
  return { upstream: names.defaultUpstream, rest: path };
}
