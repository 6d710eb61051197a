/** The small grammars that requests and answers of registries consist of. */
import { createHmac, randomUUID } from "node:crypto";
import type http from "node:http";

/** What a request to the registry names. */
export interface Route {
  readonly repository: string;
  readonly kind: "manifests" | "blobs" | "referrers" | "tags";
  /** A tag or digest; empty for the list of tags. */
  readonly reference: string;
}

export interface Scope {
  readonly name: string;
  readonly actions: readonly string[];
}

export interface Login {
  readonly username: string;
  readonly password: string;
}

const ROUTE = /^\/v2\/(.+)\/(manifests|blobs|referrers)\/([^/]+)$/;
const TAGS_ROUTE = /^\/v2\/(.+)\/tags\/list$/;
/** upstreams.md section 13: the name may contain a host and port, so it ends at the last colon. */
const SCOPE = /^repository(?:\([^)]*\))?:(.+):([a-z_*,]+)$/;

export function routeOf(path: string): Route | undefined {
  const tags = TAGS_ROUTE.exec(path)?.[1];
  if (tags !== undefined) return { repository: tags, kind: "tags", reference: "" };
  const [, repository = "", kind, reference = ""] = ROUTE.exec(path) ?? [];
  return kind === undefined ? undefined : { repository, kind: kind as Route["kind"], reference };
}

/** Repository scopes, in one parameter each or in one with spaces. */
export function scopesOf(asked: URLSearchParams): readonly Scope[] {
  return asked
    .getAll("scope")
    .flatMap((scope) => scope.split(" "))
    .flatMap((scope) => {
      const [, name, actions] = SCOPE.exec(scope) ?? [];
      return name === undefined || actions === undefined ? [] : [{ name, actions: actions.split(",") }];
    });
}

export function basicOf(request: http.IncomingMessage): Login | undefined {
  const encoded = /^basic (.*)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const [username = "", ...password] = Buffer.from(encoded, "base64").toString().split(":");
  return { username, password: password.join(":") };
}

export async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** The path and query of the page after `last`, path-relative as most registries have it. */
export function linkAfter(route: Route, last: string, n: string | number | null): string {
  const query = `last=${encodeURIComponent(last)}${n === null ? "" : `&n=${n}`}`;
  return `/v2/${route.repository}/tags/list?${query}`;
}

/** A signed JWT that says how long it lasts, and nothing else that anybody needs. */
export function jwt(nowMs: number, lifetimeS: number): string {
  const iat = Math.floor(nowMs / 1000);
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ typ: "JWT", alg: "HS256" })}.${part({ jti: randomUUID(), iat, nbf: iat, exp: iat + lifetimeS })}`;
  return `${signed}.${createHmac("sha256", randomUUID()).update(signed).digest("base64url")}`;
}
