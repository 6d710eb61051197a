/** In what kinds of registries differ as far as it is data, and what a test says about one. */
import type { Hosts, ServerOptions } from "./double-server.ts";

export interface Account {
  readonly username: string;
  password: string;
  /** Private repositories that it may read; all of them if left out. */
  readonly repositories?: readonly string[];
}

export interface RegistryOptions extends ServerOptions {
  /** Who may sign in; looked at anew with every request. */
  readonly accounts?: readonly Account[];
  /** What the token service says, where it does, and keeps to; the kind's own if left out. */
  readonly tokenLifetimeS?: number;
  /** 60 if left out. */
  readonly signatureLifetimeS?: number;
}

/** In what one kind of registry differs from the others, as far as it is data. */
export interface Traits {
  /** DNS names in real life. */
  readonly hosts: Hosts;
  /** Path of the token realm; undefined where there is none. */
  readonly tokenPath: string | undefined;
  readonly service: string | undefined;
  readonly tokenLifetimeS: number;
  /** Whether the token is a JWT, which tells its own lifetime. */
  readonly jwt: boolean;
  /** Whether the token service refuses with an error where nothing of what was asked for can be granted. */
  readonly refusesTokens: boolean;
  /** Whether public repositories can be read without an account. */
  readonly anonymous: boolean;
  /** Whether Basic is taken at the registry too. */
  readonly basic: boolean;
  /** Whether manifests carry an ETag, and `If-None-Match` gets a 304. */
  readonly etag: boolean;
  readonly redirect: 302 | 307;
  /** What a HEAD of a blob gets: the redirect of GET, or an answer of the registry's own. */
  readonly blobHead: "redirect" | "answer";
  /** Answer of the blob store to a request with an Authorization header; undefined where it does no harm. */
  readonly storeRefusal: { readonly status: number; readonly body: string } | undefined;
}

export const SPEC_TRAITS: Traits = {
  hosts: { registry: "registry.example", token: "auth.registry.example", cdn: "blobs.example" },
  tokenPath: "/token",
  service: "registry.example",
  tokenLifetimeS: 300,
  jwt: false,
  refusesTokens: false,
  anonymous: true,
  basic: false,
  etag: true,
  redirect: 307,
  blobHead: "redirect",
  // S3 and what is modelled after it.
  storeRefusal: {
    status: 400,
    body: "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>",
  },
};

/** On whose behalf a request comes. */
export interface Caller {
  readonly account: Account | undefined;
  /** Actions by repository; undefined = whatever the account may do. */
  readonly grants: ReadonlyMap<string, ReadonlySet<string>> | undefined;
}

export interface IssuedToken {
  readonly value: string;
  readonly lifetimeS: number;
  readonly account: Account | undefined;
}
