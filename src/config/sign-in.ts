import { resolve } from "node:path";
import { z } from "zod";
import { compileGlob } from "../base/glob.ts";
import type { OidcIssuerConfig, SignInConfig, StateConfig, StorageConfig, TokenServiceConfig } from "./types.ts";
import { checkedBy, choice, duration, filePath, mapping, Refusal, value } from "./values.ts";

/** How clients may show who they are; `anonymous` is that they need not. */
const WAYS = ["anonymous", "htpasswd", "token", "oidc", "mtls"] as const;
type Way = (typeof WAYS)[number];

const WAYS_IN_WORDS = "anonymous, or htpasswd, token, oidc, mtls or several of these";

const mode = value(
  WAYS_IN_WORDS,
  (input): readonly Way[] | undefined => {
    const words = typeof input === "string" ? input.split(/\s*,\s*/) : input;
    if (!Array.isArray(words) || words.length === 0) {
      return undefined;
    }
    // What else stands there is not repeated: it may have come from a variable that holds a secret.
    const ways = words.map((word) => WAYS.find((known) => known === word)).filter((way) => way !== undefined);
    return ways.length === words.length ? ways : undefined;
  },
  {
    anyOf: [{ enum: WAYS }, { type: "array", minItems: 1, items: { enum: WAYS } }, { type: "string", pattern: "[,$]" }],
  },
);

/** What stands in a challenge and in tokens, in quotes. */
const plainText = value(
  "text without quotes, backslashes and control characters, 255 characters at most",
  (input) => (typeof input === "string" && /^[\x20-\x21\x23-\x5b\x5d-\x7e]{1,255}$/.test(input) ? input : undefined),
  { type: "string", minLength: 1 },
);

const httpUrl = value(
  "an address such as https://auth.example/token, without user name or password",
  (input) => (typeof input === "string" ? parseHttpUrl(input) : undefined),
  { type: "string", pattern: "^https?://|\\$\\{" },
);

function parseHttpUrl(input: string): URL | undefined {
  if (!/^https?:\/\/[^/?#@\\\s"]+(?:[/?][^\\\s"#]*)?$/i.test(input) || !URL.canParse(input)) {
    return undefined;
  }
  return new URL(input);
}

/** Kept as it is written, since tokens have it to the letter. */
const issuerAddress = value(
  "an issuer's address such as https://token.actions.githubusercontent.com",
  (input) => (typeof input === "string" && parseHttpUrl(input) !== undefined ? input : undefined),
  { type: "string", pattern: "^https?://|\\$\\{" },
);

/** A file, or where such a file is fetched from. */
const documentPlace = value(
  "a path, or an address such as https://auth.example/jwks.json",
  (input): string | URL | undefined => {
    if (typeof input !== "string" || input === "" || input.includes("\0")) {
      return undefined;
    }
    return /^https?:/i.test(input) ? parseHttpUrl(input) : input;
  },
  { type: "string", minLength: 1 },
);

/** A claim's name, or the names that lead to it: claims may lie in one another, and their names may hold dots. */
const claim = value(
  "a claim's name, or a list of names that lead to it, such as [kubernetes.io, namespace]",
  (input): readonly string[] | undefined => {
    const names = typeof input === "string" ? [input] : input;
    return Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === "string" && name !== "")
      ? names
      : undefined;
  },
  {
    anyOf: [
      { type: "string", minLength: 1 },
      { type: "array", minItems: 1, items: { type: "string" } },
    ],
  },
);

const texts = value(
  "a text, or a list of them",
  (input): readonly string[] | undefined => {
    const all = typeof input === "string" ? [input] : input;
    return Array.isArray(all) && all.length > 0 && all.every((one) => typeof one === "string" && one !== "")
      ? all
      : undefined;
  },
  {
    anyOf: [
      { type: "string", minLength: 1 },
      { type: "array", minItems: 1, items: { type: "string" } },
    ],
  },
);

const demands = value(
  "claims with the text, or a glob, that each has to have, such as {repository_owner: myorg}",
  (input): ReadonlyMap<string, string> | Refusal | undefined => {
    if (typeof input !== "object" || input === null || Array.isArray(input)) {
      return undefined;
    }
    const entries = Object.entries(input as Readonly<Record<string, unknown>>);
    const wanted = new Map<string, string>();
    for (const [name, pattern] of entries) {
      const checked = typeof pattern === "string" && pattern !== "" ? checkedBy(compileGlob, pattern) : undefined;
      if (typeof checked !== "string") {
        return checked ?? new Refusal(`${name}: expected a text or a glob`);
      }
      wanted.set(name, checked);
    }
    return wanted;
  },
  { type: "object", additionalProperties: { type: "string", minLength: 1 } },
);

/** A token's life begins with a pull and may end in it: clients ask for another one. */
const LIFETIME = { min: "1m", max: "1h" } as const;
const REFRESH_LIFETIME = { min: "1h", max: "365d" } as const;

const oidcIssuer = mapping({
  issuer: issuerAddress.describe("The tokens' iss, to the letter; where its keys are is looked up below it."),
  audience: texts.describe("What the tokens' aud has to have, one of several."),
  jwks: documentPlace
    .optional()
    .describe("File or address of the issuer's keys; left out, the issuer's discovery document says where they are."),
  account: claim.prefault("sub").describe("The claim that becomes the account's name."),
  prefix: plainText
    .optional()
    .describe(
      "In front of the account's name, so that it is nobody else's: another issuer's, or one of the htpasswd file.",
    ),
  groups: claim.optional().describe("The claim that lists the account's groups."),
  require: demands.optional().describe("Claims that a token must have, each with a text or a glob."),
  ca: filePath.optional().describe("PEM file with the authorities to trust for the issuer instead of the system's."),
  tokenFile: filePath
    .optional()
    .describe(
      "File with a token that the issuer wants to see before it shows its keys, as a Kubernetes API server does.",
    ),
});

const tokenSchema = mapping({
  service: plainText.prefault("weir").describe("The service, and the tokens' audience, that clients are told."),
  lifetime: duration(LIFETIME).prefault("5m").describe("How long the built-in service's tokens are good for."),
  refreshLifetime: duration(REFRESH_LIFETIME)
    .prefault("30d")
    .describe("How long a client stays signed in by a refresh token of the built-in service."),
  key: filePath
    .optional()
    .describe("PEM file with the key that signs: EC P-256 or RSA from 2048 bits. Left out, one is made and kept."),
  oldKeys: z
    .array(filePath)
    .prefault([])
    .describe("PEM files of keys that signed before, or of their public halves: their tokens are still good."),
  external: mapping({
    realm: httpUrl.describe("Where clients get their tokens."),
    issuer: plainText.describe("The tokens' iss."),
    jwks: documentPlace.optional().describe("File or address of the issuer's keys, as a JSON Web Key Set."),
    certificates: filePath
      .optional()
      .describe("PEM file of certificates: of the issuer itself, or of authorities that its x5c leads to."),
    ca: filePath.optional().describe("PEM file with the authorities to trust for the address of jwks."),
  })
    .optional()
    .describe("A token server that is there already, in place of the built-in service."),
});

/** The keys of `access` that say how clients sign in. */
export const signInKeys = {
  mode: mode
    .prefault("anonymous")
    .describe("How clients sign in: not at all, or by one or several of htpasswd, token, oidc, mtls."),
  htpasswd: mapping({
    file: filePath.describe(
      "File of user names and bcrypt hashes, as htpasswd -B writes it; read again when it changes.",
    ),
  })
    .optional()
    .describe("For the mode htpasswd."),
  token: tokenSchema
    .optional()
    .describe("For the mode token: the built-in service at /auth/token, or an external one."),
  oidc: mapping({
    username: plainText
      .prefault("oidc")
      .describe("The user name with which a client that only knows passwords sends such a token as its password."),
    issuers: z.array(oidcIssuer).prefault([]).describe("Whose tokens are good."),
  })
    .optional()
    .describe("For the mode oidc: ID tokens of Kubernetes, of a CI or of an identity provider."),
  mtls: mapping({
    account: choice(["cn", "subject", "dns", "uri", "email"])
      .prefault("cn")
      .describe("What of a client's certificate becomes the account's name."),
  })
    .optional()
    .describe("For the mode mtls; server.tls.clientCa says which certificates count."),
};

const signInSchema = mapping(signInKeys);
type Parsed = z.output<typeof signInSchema>;

/** What else decides whether a way to sign in can be had. */
export interface SignInSurroundings {
  /** Whether clients are asked for certificates. */
  readonly clientCa: boolean;
  readonly state: StateConfig;
  readonly storage: Pick<StorageConfig, "driver" | "filesystem">;
}

type Report = (path: readonly (string | number)[], message: string) => void;

/** Reports what does not go together. */
export function signInConfig(parsed: Parsed, around: SignInSurroundings, cwd: string, report: Report): SignInConfig {
  const ways = new Set(parsed.mode);
  if (ways.size < parsed.mode.length) {
    report(["mode"], "names a way to sign in twice");
  }
  for (const way of ["htpasswd", "token", "oidc", "mtls"] as const) {
    if (parsed[way] !== undefined && !ways.has(way)) {
      report([way], `has no effect, since access.mode has no ${way}`);
    }
  }
  const file = (path: string): string => resolve(cwd, path);
  const place = (at: string | URL): string | URL => (typeof at === "string" ? file(at) : at);
  return {
    anonymous: ways.has("anonymous"),
    htpasswd: ways.has("htpasswd") ? htpasswdConfig(parsed, file, report) : undefined,
    token: ways.has("token") ? tokenConfig(parsed, around, { ways, file, place }, report) : undefined,
    oidc: ways.has("oidc") ? oidcConfig(parsed, file, place, report) : undefined,
    mtls: ways.has("mtls") ? mtlsConfig(parsed, around, report) : undefined,
  };
}

type Resolve = (path: string) => string;
type Place = (at: string | URL) => string | URL;

function htpasswdConfig({ htpasswd }: Parsed, file: Resolve, report: Report): SignInConfig["htpasswd"] {
  if (htpasswd === undefined) {
    report(["htpasswd"], "is missing, although access.mode has htpasswd; it names the file");
    return undefined;
  }
  return { file: file(htpasswd.file) };
}

function tokenConfig(
  parsed: Parsed,
  around: SignInSurroundings,
  o: { readonly ways: ReadonlySet<Way>; readonly file: Resolve; readonly place: Place },
  report: Report,
): TokenServiceConfig {
  const { service, lifetime, refreshLifetime, key, oldKeys, external } = parsed.token ?? tokenSchema.parse({});
  const about = (name: string) => ["token", ...name.split(".")];
  if (external !== undefined) {
    for (const [name, given] of Object.entries({ key, oldKeys: oldKeys.length > 0 ? oldKeys : undefined })) {
      if (given !== undefined) report(about(name), "is the built-in service's, which access.token.external replaces");
    }
    if (external.jwks === undefined && external.certificates === undefined) {
      report(about("external"), "needs jwks or certificates: without its keys nobody can tell its tokens from others");
    }
    if (external.ca !== undefined && !(external.jwks instanceof URL)) {
      report(about("external.ca"), "has no effect, since access.token.external.jwks is no address");
    }
    return {
      kind: "external",
      service,
      realm: external.realm,
      issuer: external.issuer,
      jwks: external.jwks === undefined ? undefined : o.place(external.jwks),
      certificates: external.certificates === undefined ? undefined : o.file(external.certificates),
      ca: external.ca === undefined ? undefined : o.file(external.ca),
    };
  }
  if (o.ways.size === 1) {
    report(
      ["mode"],
      "has token alone: the built-in service has nobody to give tokens to; add htpasswd, oidc, mtls or anonymous, or name an external service in access.token.external",
    );
  }
  const why = key === undefined ? severalReplicas(around) : undefined;
  if (why !== undefined) {
    report(
      about("key"),
      `is needed, since ${why}: several Weirs that sign with keys of their own would refuse each other's tokens. Make one with openssl ecparam -name prime256v1 -genkey -noout, and give it to all`,
    );
  }
  return {
    kind: "built-in",
    service,
    lifetimeMs: lifetime,
    refreshLifetimeMs: refreshLifetime,
    key: key === undefined ? undefined : o.file(key),
    oldKeys: oldKeys.map(o.file),
  };
}

/** Why there may be several Weirs behind one name; undefined where there cannot be. */
function severalReplicas({ state, storage }: SignInSurroundings): string | undefined {
  if (state.driver === "redis") return "state.driver is redis";
  if (storage.driver !== "filesystem") return `storage.driver is ${storage.driver}`;
  return storage.filesystem.shared ? "storage.filesystem.shared is true" : undefined;
}

function oidcConfig({ oidc }: Parsed, file: Resolve, place: Place, report: Report): SignInConfig["oidc"] {
  if (oidc === undefined || oidc.issuers.length === 0) {
    report(["oidc", "issuers"], "is missing, although access.mode has oidc; it names at least one issuer");
    return undefined;
  }
  return {
    username: oidc.username,
    issuers: oidc.issuers.map((issuer, i): OidcIssuerConfig => {
      const key = ["oidc", "issuers", i];
      if (oidc.issuers.findIndex((other) => other.issuer === issuer.issuer) < i) {
        report([...key, "issuer"], "is there twice; list what differs under one of them");
      }
      const remote = issuer.jwks === undefined || issuer.jwks instanceof URL;
      for (const name of ["ca", "tokenFile"] as const) {
        if (!remote && issuer[name] !== undefined) report([...key, name], "has no effect, since jwks is a file");
      }
      return {
        issuer: issuer.issuer,
        audiences: issuer.audience,
        jwks: issuer.jwks === undefined ? undefined : place(issuer.jwks),
        account: issuer.account,
        prefix: issuer.prefix ?? "",
        groups: issuer.groups,
        require: issuer.require ?? new Map(),
        ca: issuer.ca === undefined ? undefined : file(issuer.ca),
        tokenFile: issuer.tokenFile === undefined ? undefined : file(issuer.tokenFile),
      };
    }),
  };
}

function mtlsConfig({ mtls }: Parsed, { clientCa }: SignInSurroundings, report: Report): SignInConfig["mtls"] {
  if (!clientCa) {
    report(["mode"], "has mtls, which needs server.tls.clientCa: the authorities whose certificates clients show");
  }
  return { account: mtls?.account ?? "cn" };
}
