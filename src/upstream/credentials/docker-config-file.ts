import { Secret } from "../../base/secret.ts";
import type { ResolvedSecret } from "./source.ts";

/** A docker config file (`config.json` of docker login, podman's `auth.json`, a Kubernetes pull secret), as far as it is about signing in. */
export interface DockerConfig {
  readonly auths: readonly AuthEntry[];
  /** Host to the name of the helper that is asked for it. */
  readonly credHelpers: readonly HelperEntry[];
  /** The helper that is asked for all other hosts. */
  readonly credsStore: string | undefined;
}

interface RegistryKey {
  /** As the file has it. */
  readonly key: string;
  /** Lower case, with its port if it has one; `*` stands for any text within a label. */
  readonly host: string;
  /** Repositories that it is for; empty for all. */
  readonly path: string;
}

interface HelperEntry extends RegistryKey {
  readonly helper: string;
}

export interface AuthEntry extends RegistryKey {
  /** Undefined where the entry holds none, since a helper does. */
  readonly secret: ResolvedSecret | undefined;
  /** Why what it holds cannot be used. */
  readonly problem: string | undefined;
}

/** Where a secret may be, in the order in which docker looks. */
export type Place =
  | { readonly kind: "helper"; readonly helper: string; readonly server: string }
  | { readonly kind: "entry"; readonly entry: AuthEntry };

/** Names of helpers become part of a command's name, and lead nowhere else. */
const HELPER_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** User name by which helpers and files say that the secret is an identity token. */
const TOKEN_USER = "<token>";

/** How docker itself writes Docker Hub, in its file and to helpers. */
const DOCKER_HUB = "docker.io";
const DOCKER_HUB_SERVER = "https://index.docker.io/v1/";

/**
 * Reads such a file. What has nothing to do with signing in is passed over.
 *
 * @throws Error with a sentence that holds nothing of the content
 */
export function parseDockerConfig(text: string): DockerConfig {
  const { auths, credHelpers, credsStore } = asMapping(parseJson(text), "the file");
  return {
    auths: Object.entries(asMapping(auths ?? {}, "auths")).map(([key, value]) => ({
      ...registryKey(key),
      ...readEntry(asMapping(value ?? {}, "an entry of auths")),
    })),
    credHelpers: Object.entries(asMapping(credHelpers ?? {}, "credHelpers")).map(([key, helper]) => ({
      ...registryKey(key),
      helper: helperName(helper, "credHelpers"),
    })),
    credsStore: credsStore === undefined || credsStore === "" ? undefined : helperName(credsStore, "credsStore"),
  };
}

/**
 * Where docker, podman and Kubernetes would look for a repository's secret: the helper for its host, the one for all hosts,
 * then the entry with the longest path that it lies in.
 *
 * @param hosts names of the registry, the usual one first
 * @param repository undefined = any of the registry's entries will do
 */
export function findPlaces(
  config: DockerConfig,
  hosts: readonly string[],
  repository: string | undefined,
): readonly Place[] {
  const [usual = ""] = hosts;
  const own = config.credHelpers.find(({ host }) => hosts.some((name) => matchesHost(host, name)));
  const entry = bestEntry(config.auths, hosts, repository);
  const server = entry?.path === "" ? entry.key : usual === DOCKER_HUB ? DOCKER_HUB_SERVER : usual;
  return [
    ...(own === undefined ? [] : [{ kind: "helper", helper: own.helper, server: own.key } as const]),
    ...(config.credsStore === undefined ? [] : [{ kind: "helper", helper: config.credsStore, server } as const]),
    ...(entry === undefined ? [] : [{ kind: "entry", entry } as const]),
  ];
}

/** User name and secret as helpers give them, and `auths` in the clear. */
export function toSecret(username: string, secret: string): ResolvedSecret {
  const token = username === TOKEN_USER;
  return {
    form: token ? "identity-token" : "password",
    username: token ? "" : username,
    secret: new Secret(secret),
    expiresAtMs: undefined,
  };
}

function bestEntry(
  auths: readonly AuthEntry[],
  hosts: readonly string[],
  repository: string | undefined,
): AuthEntry | undefined {
  const fitting = auths.filter(
    ({ host, path }) => hosts.some((name) => matchesHost(host, name)) && (path === "" || isIn(repository, path)),
  );
  const rank = ({ host }: AuthEntry): number => (hosts.indexOf(host) === -1 ? hosts.length : hosts.indexOf(host));
  return fitting.toSorted((a, b) => b.path.length - a.path.length || rank(a) - rank(b))[0];
}

function isIn(repository: string | undefined, path: string): boolean {
  return repository === undefined || repository === path || repository.startsWith(`${path}/`);
}

/** Kubernetes lets `*` stand for text within one label of the host. */
function matchesHost(pattern: string, host: string): boolean {
  if (!pattern.includes("*")) {
    return pattern === host;
  }
  const labels = host.split(".");
  const wanted = pattern.split(".");
  return wanted.length === labels.length && wanted.every((label, i) => matchesLabel(label, labels[i] ?? ""));
}

/** Every part between the stars is looked for behind the one before: no way is tried twice. */
function matchesLabel(pattern: string, label: string): boolean {
  const [head = "", ...rest] = pattern.split("*");
  const tail = rest.pop();
  if (tail === undefined) {
    return pattern === label;
  }
  if (!label.startsWith(head) || !label.endsWith(tail) || label.length < head.length + tail.length) {
    return false;
  }
  let middle = label.slice(head.length, label.length - tail.length);
  return rest.every((part) => {
    const at = middle.indexOf(part);
    middle = middle.slice(at + part.length);
    return at !== -1;
  });
}

/** `https://index.docker.io/v1/`, `quay.io`, `reg.example:5000/team/app` */
function registryKey(key: string): RegistryKey {
  const bare = key.replace(/^https?:\/\//i, "").replace(/\/+$/, "");
  const slash = bare.indexOf("/");
  const host = slash === -1 ? bare : bare.slice(0, slash);
  const path = slash === -1 ? "" : bare.slice(slash + 1);
  return {
    key,
    host: host.toLowerCase().replace(/:443$/, ""),
    // The address of the registry's API is that of the whole registry.
    path: /^v[12]$/.test(path) ? "" : path,
  };
}

function readEntry(entry: Readonly<Record<string, unknown>>): Pick<AuthEntry, "secret" | "problem"> {
  const unusable = (problem: string) => ({ secret: undefined, problem });
  const decoded = isText(entry.auth) ? splitAuth(entry.auth) : undefined;
  const username = isText(entry.username) ? entry.username : (decoded?.username ?? "");
  const password = isText(entry.password) ? entry.password : (decoded?.password ?? "");
  if (isText(entry.identitytoken)) {
    const { identitytoken } = entry;
    return { secret: { ...toSecret(TOKEN_USER, identitytoken), username }, problem: undefined };
  }
  if (isText(entry.registrytoken)) {
    return unusable("holds a registrytoken, which ends with nothing to renew it by; sign in with a password instead");
  }
  if (isText(entry.auth) && decoded === undefined) {
    return unusable("has an auth that is not the base64 of a user name, a colon and a password");
  }
  if (password === "") {
    return { secret: undefined, problem: undefined };
  }
  return username === "" ? unusable("has no user name") : { secret: toSecret(username, password), problem: undefined };
}

/** Docker's own reader cuts NULs off the end as well. */
function splitAuth(auth: string): { readonly username: string; readonly password: string } | undefined {
  const text = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  return colon < 1 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function helperName(value: unknown, key: string): string {
  if (typeof value !== "string" || !HELPER_NAME.test(value)) {
    throw new Error(`${key} holds something else than the name of a credential helper`);
  }
  return value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message quotes what stands there.
    throw new Error("the file is not JSON");
  }
}

function asMapping(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${what} is not a mapping`);
  }
  return value as Readonly<Record<string, unknown>>;
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}
