/** What tests of sign-in share: an htpasswd file, keys, tokens as others would make them, and the parts put together. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import bcrypt from "bcrypt";
import { type JWTHeaderParameters, type JWTPayload, SignJWT } from "jose";
import { expect } from "vitest";
import { type Access, type AccessDeps, createAccess } from "../../src/access/create-access.ts";
import type { Identity } from "../../src/access/identity.ts";
import { makeSigningKey } from "../../src/access/token-keys.ts";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { parseConfig } from "../../src/config/parse.ts";
import type { SignInConfig } from "../../src/config/types.ts";
import type { RepoRef } from "../../src/oci/reference.ts";
import { ManualClock } from "./manual-clock.ts";
import { tempFolder } from "./processes.ts";

/** The least that bcrypt knows: tests have no need of its slowness. */
const COST = 4;

/** Lines of an htpasswd file, a password for each name. */
export async function htpasswd(passwords: Readonly<Record<string, string>>): Promise<string> {
  const lines = await Promise.all(
    Object.entries(passwords).map(async ([name, password]) => `${name}:${await bcrypt.hash(password, COST)}\n`),
  );
  return lines.join("");
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

/** A key pair as an issuer has it. */
export interface IssuerKey {
  readonly alg: "ES256" | "RS256";
  readonly kid: string;
  readonly private: KeyObject;
  /** As the issuer publishes it. */
  readonly jwk: Readonly<Record<string, unknown>>;
}

export function issuerKey(kid: string, alg: IssuerKey["alg"] = "ES256"): IssuerKey {
  const pair =
    alg === "ES256"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...createPublicKey(pair.privateKey).export({ format: "jwk" }), kid, alg, use: "sig" };
  return { alg, kid, private: pair.privateKey, jwk };
}

/** A token that `key` has signed, whatever it claims. */
export async function signed(
  key: Pick<IssuerKey, "alg" | "kid" | "private">,
  claims: JWTPayload,
  header: Partial<JWTHeaderParameters> = {},
): Promise<string> {
  return await new SignJWT(claims)
    .setProtectedHeader({ typ: "JWT", alg: key.alg, kid: key.kid, ...header })
    .sign(key.private);
}

/** A token that nobody has signed, in the three parts that a signed one has. */
export function unsigned(header: unknown, claims: unknown, signature = ""): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part(header)}.${part(claims)}.${signature}`;
}

export function claimsOf(token: string): Readonly<Record<string, unknown>> {
  return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
}

/** `access` of a configuration, checked beside this `server`. */
export function signInOf(
  access: Readonly<Record<string, unknown>>,
  server: Readonly<Record<string, unknown>> = {},
): SignInConfig {
  const result = parseConfig({ server, access }, {}, "/");
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config.access.signIn;
}

/** Upstreams that names in scopes can mean. */
const UPSTREAMS = ["docker.io", "quay.io"];

function repoOf(name: string): RepoRef | undefined {
  const [first = "", ...rest] = name.split("/");
  if (UPSTREAMS.includes(first)) return { upstream: first, repository: rest.join("/") };
  return /[.:]/.test(first) ? undefined : { upstream: "docker.io", repository: name };
}

export interface AccessBench {
  readonly access: Access;
  readonly clock: ManualClock;
  /** Addresses of documents that were read. */
  readonly read: string[];
  readonly documents: Map<string, unknown>;
  /** Who may pull what; everybody everything, until a test says otherwise. */
  mayPull: (identity: Identity, repo: RepoRef) => boolean;
  identify(authorization: string | undefined, address?: string): Promise<Identity>;
}

export interface BenchOptions {
  readonly clock?: ManualClock;
  /** The key that the storage keeps. */
  readonly key?: string;
  readonly documents?: Map<string, unknown>;
  readonly log?: AccessDeps["log"];
}

/** The parts, put together as compose does, with documents from a map: address to what stands there. */
export function accessBench(config: SignInConfig, options: BenchOptions = {}): AccessBench {
  const { clock = new ManualClock(), key = makeSigningKey(), documents = new Map(), log = silentLog } = options;
  const read: string[] = [];
  const signal = new AbortController().signal;
  const bench: AccessBench & { access: Access | undefined } = {
    access: undefined as unknown as Access,
    clock,
    read,
    documents,
    mayPull: () => true,
    async identify(authorization, address) {
      const { authenticator } = bench.access;
      const presented = { authorization, certificate: undefined, address };
      const known = authenticator.known(presented);
      const found = authenticator.identify(presented, { signal });
      // Whoever is known without waiting is who they are found to be: in every test of signing in.
      if (known !== undefined) expect(await found).toEqual(known);
      return await found;
    },
  };
  const access = createAccess(config, {
    documents: {
      async read(url) {
        read.push(url.href);
        if (!documents.has(url.href)) throw new Error(`${url.href} answers 404`);
        return Buffer.from(JSON.stringify(documents.get(url.href)));
      },
    },
    names: { repoOf },
    mayPull: (identity, repo) => bench.mayPull(identity, repo),
    storedKey: async () => new Secret(key),
    clock,
    log,
  });
  if (access === undefined) throw new Error("nobody signs in by this configuration");
  bench.access = access;
  return bench;
}

/** Writes a file into a folder of its own, and gives its path. */
export async function fileOf(stack: AsyncDisposableStack, name: string, content: string): Promise<string> {
  const path = join(await tempFolder(stack), name);
  await writeFile(path, content);
  return path;
}
