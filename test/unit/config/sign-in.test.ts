import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseConfig } from "../../../src/config/parse.ts";
import { schemaKeys } from "../../../src/config/schema.ts";
import type { SignInConfig } from "../../../src/config/types.ts";
import { NO_SIGN_IN } from "../../support/callers.ts";

function problems(input: unknown): readonly string[] {
  const result = parseConfig(input, {}, "/srv/weir");
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

function signIn(access: unknown, rest: Readonly<Record<string, unknown>> = {}): SignInConfig {
  const result = parseConfig({ ...rest, access }, {}, "/srv/weir");
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config.access.signIn;
}

const FILE = { file: "people" };
const EXTERNAL = { realm: "https://auth.example/auth", issuer: "Acme", jwks: "keys.json" };
const ISSUER = { issuer: "https://ci.example/", audience: "weir" };

describe("access.mode", () => {
  test("is one word, a list, or a text with commas", () => {
    expect(signIn({})).toEqual(NO_SIGN_IN);
    expect(signIn({ mode: "anonymous" })).toEqual(NO_SIGN_IN);
    expect(signIn({ mode: "htpasswd", htpasswd: FILE })).toEqual({
      ...NO_SIGN_IN,
      anonymous: false,
      htpasswd: { file: "/srv/weir/people" },
    });
    const both = signIn({ mode: ["anonymous", "htpasswd", "token"], htpasswd: FILE });
    expect(both).toMatchObject({ anonymous: true, token: { kind: "built-in", service: "weir", lifetimeMs: 300_000 } });
    const env = { WEIR_ACCESS_MODE: "htpasswd, token", WEIR_ACCESS_HTPASSWD_FILE: "/etc/people" };
    expect(parseConfig({}, env)).toMatchObject({
      ok: true,
      config: {
        access: { signIn: { anonymous: false, htpasswd: { file: "/etc/people" }, token: { kind: "built-in" } } },
      },
    });
  });

  test.each<[string, unknown, string]>([
    ["another word", { mode: "ldap" }, "access.mode: expected anonymous, or htpasswd, token"],
    ["no word", { mode: [] }, "access.mode: expected anonymous, or"],
    ["a number", { mode: 1 }, "access.mode: expected anonymous, or"],
    ["one twice", { mode: ["htpasswd", "htpasswd"], htpasswd: FILE }, "access.mode: names a way to sign in twice"],
    [
      "a way without its section",
      { mode: "htpasswd" },
      "access.htpasswd: is missing, although access.mode has htpasswd",
    ],
    ["oidc without issuers", { mode: "oidc", oidc: { issuers: [] } }, "access.oidc.issuers: is missing"],
    ["mtls without authorities", { mode: "mtls" }, "access.mode: has mtls, which needs server.tls.clientCa"],
    ["a token service for nobody", { mode: "token" }, "access.mode: has token alone: the built-in service has nobody"],
    [
      "a section without effect",
      { htpasswd: FILE },
      "access.htpasswd: has no effect, since access.mode has no htpasswd",
    ],
    ["another section without effect", { mtls: {} }, "access.mtls: has no effect, since access.mode has no mtls"],
  ])("%s is refused", (_, access, message) => {
    expect(problems({ access }).join("\n")).toContain(message);
  });

  test("mtls goes with server.tls.clientCa", () => {
    const server = { tls: { cert: "c", key: "k", clientCa: "ca" } };
    expect(signIn({ mode: "mtls" }, { server }).mtls).toEqual({ account: "cn" });
    expect(signIn({ mode: "mtls", mtls: { account: "uri" } }, { server }).mtls).toEqual({ account: "uri" });
  });
});

describe("access.token", () => {
  const built = (token: Readonly<Record<string, unknown>> = {}) => ({
    mode: ["htpasswd", "token"],
    htpasswd: FILE,
    token,
  });

  test.each<[string, Readonly<Record<string, unknown>>]>([
    ["state.driver is redis", { state: { driver: "redis", redis: { url: "redis://r" } } }],
    ["storage.driver is s3", { storage: { driver: "s3", s3: { bucket: "one-bucket" } } }],
    ["storage.driver is tiered", { storage: { driver: "tiered", s3: { bucket: "one-bucket" } } }],
    ["storage.filesystem.shared is true", { storage: { filesystem: { shared: true }, spool: { dir: "/spool" } } }],
  ])("a key is needed where %s", (why, rest) => {
    const found = problems({ ...rest, access: built() });
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(`access.token.key: is needed, since ${why}: several Weirs`);
    expect(problems({ ...rest, access: built({ key: "key.pem" }) })).toEqual([]);
  });

  test.each<[string, Readonly<Record<string, unknown>>, string]>([
    [
      "a key beside an external service",
      { key: "k", external: EXTERNAL },
      "access.token.key: is the built-in service's",
    ],
    ["old keys beside one", { oldKeys: ["k"], external: EXTERNAL }, "access.token.oldKeys: is the built-in service's"],
    [
      "one without keys",
      { external: { ...EXTERNAL, jwks: undefined } },
      "access.token.external: needs jwks or certificates",
    ],
    [
      "authorities without an address",
      { external: { ...EXTERNAL, ca: "ca" } },
      "access.token.external.ca: has no effect",
    ],
    [
      "a realm that is none",
      { external: { ...EXTERNAL, realm: "auth.example" } },
      "access.token.external.realm: expected an address",
    ],
    [
      "a realm with a password",
      { external: { ...EXTERNAL, realm: "https://a:b@c" } },
      "access.token.external.realm: expected",
    ],
    ["a service with quotes", { service: 'a"b' }, "access.token.service: expected text without quotes"],
    ["a token for a day", { lifetime: "1d" }, "access.token.lifetime: expected a duration from 1m to 1h"],
  ])("%s is refused", (_, token, message) => {
    expect(problems({ access: built(token) }).join("\n")).toContain(message);
  });

  test("an external service stands alone", () => {
    expect(signIn({ mode: "token", token: { service: "Acme registry", external: EXTERNAL } }).token).toEqual({
      kind: "external",
      service: "Acme registry",
      realm: new URL("https://auth.example/auth"),
      issuer: "Acme",
      jwks: "/srv/weir/keys.json",
      certificates: undefined,
      ca: undefined,
    });
  });
});

describe("access.oidc", () => {
  test("has issuers, named to the letter", () => {
    const [issuer] = signIn({ mode: "oidc", oidc: { issuers: [ISSUER] } }).oidc?.issuers ?? [];
    expect(issuer).toEqual({
      issuer: "https://ci.example/",
      audiences: ["weir"],
      jwks: undefined,
      account: ["sub"],
      prefix: "",
      groups: undefined,
      require: new Map(),
      ca: undefined,
      tokenFile: undefined,
    });
  });

  test.each<[string, Readonly<Record<string, unknown>>, string]>([
    ["no audience", { audience: undefined }, "access.oidc.issuers[0].audience: "],
    ["an issuer that is none", { issuer: "ci" }, "access.oidc.issuers[0].issuer: expected an issuer's address"],
    ["a claim that is none", { account: 7 }, "access.oidc.issuers[0].account: expected a claim's name"],
    ["a demand that is none", { require: { a: 7 } }, "access.oidc.issuers[0].require: a: expected a text or a glob"],
    ["a token for a file", { jwks: "k.json", tokenFile: "t" }, "access.oidc.issuers[0].tokenFile: has no effect"],
  ])("%s is refused", (_, changes, message) => {
    expect(problems({ access: { mode: "oidc", oidc: { issuers: [{ ...ISSUER, ...changes }] } } }).join("\n")).toContain(
      message,
    );
  });

  test("an issuer twice is refused", () => {
    expect(problems({ access: { mode: "oidc", oidc: { issuers: [ISSUER, ISSUER] } } }).join("\n")).toContain(
      "access.oidc.issuers[1].issuer: is there twice",
    );
  });
});

test("the examples of docs/access.md are right, and have the keys of an external service", async () => {
  const text = await readFile(new URL("../../../docs/access.md", import.meta.url), "utf8");
  const blocks = text.split("\n\n").filter((block) => /^ {4}(?:access|server):\n/.test(block));
  expect(blocks.length).toBeGreaterThan(4);
  for (const block of blocks) {
    expect([block, problems(parse(block))]).toEqual([block, []]);
  }
  const external = schemaKeys()
    .map(({ path }) => path)
    .filter((path) => path.join(".").startsWith("access.token.external."));
  expect(external.filter((path) => !text.includes(`${path.at(-1)}`))).toEqual([]);
});
