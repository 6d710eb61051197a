import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { repositoryScope, type Scope } from "../oci/scope.ts";

/** What the names in scopes mean: the same as in requests. */
export interface ScopeNames {
  /** The repository that a scope's name, such as `docker.io/nginx`, stands for; undefined where it stands for none. */
  repoOf(name: string): RepoRef | undefined;
}

/** More than any image needs at once; a token lists every one of them. */
export const MAX_SCOPES = 100;

/** Scopes of one token that are looked at: its header bounds its length, and this what each request costs. */
const MAX_GRANTS = 1_000;

/** Reading the catalog, as the distribution registry asks for it. */
export const CATALOG_SCOPE: Scope = { type: "registry", name: "catalog", actions: ["*"] };

export function grantsCatalog(grants: readonly Scope[]): boolean {
  return grants.some(({ type, name, actions }) => type === "registry" && name === "catalog" && actions.includes("*"));
}

/** The repository that a scope is about; undefined for a scope of another kind (`repository(plugin)`), or of none of ours. */
export function repoOfScope({ type, class: kind, name }: Scope, names: ScopeNames): RepoRef | undefined {
  return type === "repository" && kind === undefined ? names.repoOf(name) : undefined;
}

/**
 * The `access` claim of a registry token (distribution token spec), with repositories named in full: `docker.io/library/nginx`.
 * What is no scope of ours is left out.
 */
export function readAccessClaim(claim: unknown, names: ScopeNames): readonly Scope[] {
  const entries: readonly unknown[] = Array.isArray(claim) ? claim.slice(0, MAX_GRANTS) : [];
  return entries.flatMap((entry) => {
    const scope = asScope(entry);
    if (scope?.type === "registry") return [scope];
    const repo = scope && repoOfScope(scope, names);
    return scope === undefined || repo === undefined ? [] : [repositoryScope(formatRepo(repo), scope.actions)];
  });
}

function asScope(entry: unknown): Scope | undefined {
  if (typeof entry !== "object" || entry === null) {
    return undefined;
  }
  const { type, name, actions } = entry as Readonly<Record<string, unknown>>;
  const areTexts = Array.isArray(actions) && actions.every((action) => typeof action === "string");
  return typeof type === "string" && typeof name === "string" && areTexts ? { type, name, actions } : undefined;
}
