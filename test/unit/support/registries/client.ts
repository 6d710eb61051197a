/** A client of registries that knows the token spec and nothing else, for the tests of the doubles. */
import { type HttpReply, httpRequest } from "../../../support/network.ts";
import type { RegistryDouble } from "../../../support/registries/registry-double.ts";

/** What a client that knows all formats sends. */
export const FULL_ACCEPT = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

export interface Reply extends HttpReply {
  readonly text: string;
}

export interface AskOptions {
  readonly method?: string;
  /** `user:password`. */
  readonly login?: string;
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** One request to the double, or to an absolute URL. */
export async function ask(double: RegistryDouble, path: string, options: AskOptions = {}): Promise<Reply> {
  const { login, token } = options;
  const authorization = token === undefined ? login && basic(login) : `Bearer ${token}`;
  const reply = await httpRequest(path.startsWith("/") ? `${double.url}${path}` : path, {
    method: options.method ?? "GET",
    headers: { accept: FULL_ACCEPT, ...(authorization === undefined ? {} : { authorization }), ...options.headers },
    ...(options.body === undefined ? {} : { body: options.body }),
  });
  return { ...reply, text: reply.body.toString() };
}

/** The first realm and its parameters that a challenge names. */
export function challengeOf(reply: HttpReply): Readonly<Record<string, string>> {
  const header = reply.headers["www-authenticate"] ?? "";
  const bearer = /Bearer (.*)$/.exec(header)?.[1] ?? "";
  return Object.fromEntries([...bearer.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = "", value = ""]) => [name, value]));
}

/** Asks the realm of a challenge as it says. */
export async function askRealm(double: RegistryDouble, challenged: HttpReply, login?: string): Promise<Reply> {
  const { realm = "", service, scope } = challengeOf(challenged);
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set("service", service);
  if (scope !== undefined) url.searchParams.set("scope", scope);
  return await ask(double, url.href, login === undefined ? {} : { login });
}

/** A token for what is at the path. */
export async function tokenFor(double: RegistryDouble, path: string, login?: string): Promise<string> {
  const reply = await askRealm(double, await ask(double, path), login);
  const { token, access_token } = JSON.parse(reply.text) as { token?: string; access_token?: string };
  return token ?? access_token ?? "";
}

/** Asks with a token that was fetched for the path. */
export async function pull(double: RegistryDouble, path: string, options: AskOptions = {}): Promise<Reply> {
  const { login, ...rest } = options;
  return await ask(double, path, { ...rest, token: await tokenFor(double, path, login) });
}

export function codeOf(reply: Reply): string {
  return (JSON.parse(reply.text) as { errors: readonly { code: string }[] }).errors[0]?.code ?? "";
}

export function tagsOf(reply: Reply): readonly string[] {
  return (JSON.parse(reply.text) as { tags: readonly string[] }).tags;
}

/** The URL of the next page, as the `Link` has it. */
export function nextOf(reply: Reply): string | undefined {
  return /^<([^>]*)>; rel="next"$/.exec(String(reply.headers.link ?? ""))?.[1];
}

export function basic(login: string): string {
  return `Basic ${Buffer.from(login).toString("base64")}`;
}

/** `t000`, `t001` and so on. */
export function manyTags(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `t${String(i).padStart(4, "0")}`);
}
