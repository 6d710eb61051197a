import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { JWTPayload } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { keyId } from "../../../src/access/token-keys.ts";
import { createAuthority } from "../../support/certificates.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import {
  accessBench,
  basic,
  fileOf,
  type IssuerKey,
  issuerKey,
  signed,
  signInOf,
  unsigned,
} from "../../support/sign-in.ts";
import { toolTest } from "../../support/tools.ts";

const HOUR = 3_600_000;
const JWK = { format: "jwk" } as const;

let stack: AsyncDisposableStack;
let clock: ManualClock;

beforeEach(() => {
  stack = new AsyncDisposableStack();
  clock = new ManualClock();
});

afterEach(() => stack.disposeAsync());

const key = issuerKey("one");
const rsa = issuerKey("two", "RS256");
const stranger = issuerKey("one");

const bearer = (token: string): string => `Bearer ${token}`;
const keysOf = (...keys: readonly IssuerKey[]) => ({ keys: keys.map(({ jwk }) => jwk) });

describe("tokens of a token server that serves registries", () => {
  const ACCESS = [{ type: "repository", name: "docker.io/team/app", actions: ["pull", "push"] }];

  function claims(changes: JWTPayload = {}): JWTPayload {
    const now = Math.floor(clock.now() / 1000);
    // As docker_auth writes them.
    const times = { iat: now, nbf: now - 10, exp: now + 900, jti: "6423" };
    return { iss: "Acme auth server", sub: "alice", aud: "Acme registry", access: ACCESS, ...times, ...changes };
  }

  function config(external: Readonly<Record<string, unknown>>) {
    const realm = "https://auth.example/auth";
    const issuer = "Acme auth server";
    return signInOf({ mode: "token", token: { service: "Acme registry", external: { realm, issuer, ...external } } });
  }

  test("are good by the issuer's key set, in a file or at an address, EC and RSA", async () => {
    const file = await fileOf(stack, "jwks.json", JSON.stringify(keysOf(key, rsa)));
    const documents = new Map([["https://auth.example/jwks", keysOf(key, rsa)]]);
    for (const jwks of [file, "https://auth.example/jwks"]) {
      const bench = accessBench(config({ jwks }), { clock, documents });
      for (const by of [key, rsa]) {
        expect(await bench.identify(bearer(await signed(by, claims())))).toMatchObject({
          account: "alice",
          via: "token",
          grants: ACCESS,
        });
      }
      expect(bench.read).toEqual(jwks === file ? [] : [jwks]);
    }
  });

  test("without a subject are anonymous, and open what they list", async () => {
    const documents = new Map([["https://auth.example/jwks", keysOf(key)]]);
    const bench = accessBench(config({ jwks: "https://auth.example/jwks" }), { clock, documents });
    const token = await signed(key, claims({ sub: "" }));
    expect(await bench.identify(bearer(token))).toMatchObject({ account: undefined, via: "token", grants: ACCESS });
  });

  test.each<[string, () => string | Promise<string>, RegExp]>([
    ["of another key with the same name", () => signed(stranger, claims()), /signature that is not its issuer's/],
    ["of a key that is not listed", () => signed(rsa, claims()), /key that its issuer does not list/],
    ["of another issuer", () => signed(key, claims({ iss: "Acme" })), /has not the iss/],
    ["for another registry", () => signed(key, claims({ aud: "other" })), /has not the aud/],
    ["that has run out", () => signed(key, claims({ exp: 1 })), /has expired/],
    ["that nobody has signed", () => unsigned({ alg: "none", kid: "one" }, claims()), /algorithm|understood/],
    [
      "signed with the public key as a secret",
      () => unsigned({ alg: "HS256", kid: "one" }, claims(), "AA"),
      /algorithm/,
    ],
    ["that brings its own key", () => signed(stranger, claims(), { kid: "x", jwk: stranger.jwk }), /does not list/],
    ["that says where its key is", () => signed(stranger, claims(), { kid: "x", jku: "https://evil.example" }), /list/],
  ])("A5 %s is refused", async (_, make, message) => {
    const documents = new Map([["https://auth.example/jwks", keysOf(key)]]);
    const bench = accessBench(config({ jwks: "https://auth.example/jwks" }), { clock, documents });
    await expect(bench.identify(bearer(await make()))).rejects.toThrow(message);
    expect(new Set(bench.read)).toEqual(new Set(["https://auth.example/jwks"].slice(0, bench.read.length)));
  });

  const badPoint = Buffer.alloc(32, 1).toString("base64url");
  test.each<[string, string, Readonly<Record<string, unknown>>]>([
    ["a point that is not on its curve", "ES256", { kty: "EC", crv: "P-256", x: badPoint, y: badPoint }],
    ["a key that is cut off", "EdDSA", { kty: "OKP", crv: "Ed25519", x: "AA" }],
    ["an RSA key of 1024 bits", "RS256", generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export(JWK)],
    ["numbers for texts", "PS512", { kty: "RSA", n: 5, e: {} }],
  ])("A5 that name %s of the issuer's are refused, whoever made them up", async (_, alg, jwk) => {
    const documents = new Map([["https://auth.example/jwks", { keys: [{ ...jwk, kid: "one" }] }]]);
    const bench = accessBench(config({ jwks: "https://auth.example/jwks" }), { clock, documents });
    const token = unsigned({ alg, kid: "one" }, claims(), "AA");
    await expect(bench.identify(bearer(token))).rejects.toMatchObject({
      code: "UNAUTHORIZED",
      problem: "invalid_token",
    });
  });

  test("clients are sent to it", () => {
    const bench = accessBench(config({ jwks: "https://auth.example/jwks" }), { clock });
    expect(bench.access.tokens).toBeUndefined();
    const challenge = { realm: "https://weir.example/auth/token", scope: "repository:a/b:pull", problem: undefined };
    expect(bench.access.authenticator.challenge(challenge)).toBe(
      'Bearer realm="https://auth.example/auth",service="Acme registry",scope="repository:a/b:pull"',
    );
  });

  toolTest(
    ["openssl"],
    "by certificates: of the signer itself under libtrust's name, or an authority's with x5c",
    async () => {
      const authority = await createAuthority(stack);
      const signer = await authority.issue(["auth.example"]);
      const other = await (await createAuthority(stack)).issue(["auth.example"]);
      const expired = await authority.issue(["auth.example"], { expired: true });
      // Certificates are in force from now on, by the machine's clock.
      clock = new ManualClock(Date.now());
      const der = ({ cert }: { readonly cert: string }) => new X509Certificate(cert).raw.toString("base64");
      const sign = (by: typeof signer, header: Readonly<Record<string, unknown>>) =>
        signed({ alg: "ES256", kid: "", private: createPrivateKey(by.key) }, claims(), { kid: "", ...header });

      const direct = accessBench(config({ certificates: signer.certFile }), { clock });
      const kid = keyId(new X509Certificate(signer.cert).publicKey);
      expect(kid).toMatch(/^(?:[A-Z2-7]{4}:){11}[A-Z2-7]{4}$/);
      expect((await direct.identify(bearer(await sign(signer, { kid })))).account).toBe("alice");
      await expect(direct.identify(bearer(await sign(other, { kid })))).rejects.toThrow(
        "signature that is not its issuer's",
      );
      await expect(direct.identify(bearer(await sign(signer, { kid: "x" })))).rejects.toThrow("names no key (kid)");
      // The certificate itself counts, not only what it vouches for.
      expect((await direct.identify(bearer(await sign(signer, { x5c: [der(signer)] })))).account).toBe("alice");

      const bundle = await fileOf(stack, "bundle.pem", `${await readFile(authority.caFile, "utf8")}\n`);
      const vouched = accessBench(config({ certificates: bundle }), { clock });
      expect((await vouched.identify(bearer(await sign(signer, { x5c: [der(signer)] })))).account).toBe("alice");
      for (const [by, x5c] of [
        [other, [der(other)]],
        [expired, [der(expired)]],
        [other, [der(other), der(signer)]],
        // Somebody else's certificate in front of one's own signature.
        [other, [der(signer)]],
        [signer, []],
        [signer, ["AAAA"]],
        [signer, Array.from({ length: 9 }, () => der(signer))],
      ] as const) {
        await expect(vouched.identify(bearer(await sign(by, { x5c })))).rejects.toMatchObject({ code: "UNAUTHORIZED" });
      }
      clock.advance(3 * 24 * HOUR);
      await expect(vouched.identify(bearer(await sign(signer, { x5c: [der(signer)] })))).rejects.toThrow("vouches for");
      const empty = await fileOf(stack, "empty.pem", "nothing");
      expect(() => accessBench(config({ certificates: empty }), { clock })).toThrow(
        `access.token.external.certificates: ${empty} holds no certificate in PEM`,
      );
    },
  );
});

describe("ID tokens", () => {
  const ISSUER = "https://ci.example";
  const KEYS = "https://ci.example/keys";
  const DISCOVERY = "https://ci.example/.well-known/openid-configuration";

  const documents = () =>
    new Map<string, unknown>([
      [DISCOVERY, { issuer: ISSUER, jwks_uri: KEYS }],
      [KEYS, keysOf(key)],
    ]);

  function claims(changes: JWTPayload = {}): JWTPayload {
    const now = Math.floor(clock.now() / 1000);
    return { iss: ISSUER, sub: "repo:acme/app:ref:refs/heads/main", aud: "weir", iat: now, exp: now + 600, ...changes };
  }

  function bench(issuer: Readonly<Record<string, unknown>> = {}, more: readonly unknown[] = []) {
    const issuers = [{ issuer: ISSUER, audience: "weir", ...issuer }, ...more];
    return accessBench(signInOf({ mode: "oidc", oidc: { issuers } }), { clock, documents: documents() });
  }

  test("are good as Bearer, and as the password of the user that says so", async () => {
    const of = bench({ groups: "groups", prefix: "ci:" });
    const token = await signed(key, claims({ groups: ["dev", "ops", 7, { no: "group" }] }));
    const who = {
      account: "ci:repo:acme/app:ref:refs/heads/main",
      groups: ["dev", "ops", "7"],
      via: "oidc",
      grants: undefined,
      address: "192.0.2.1",
    };
    expect(await of.identify(bearer(token), "192.0.2.1")).toEqual(who);
    expect(await of.identify(basic("oidc", token), "192.0.2.1")).toEqual(who);
    await expect(of.identify(basic("alice", token))).rejects.toThrow("user name or the password is wrong");
    expect(of.read).toEqual([DISCOVERY, KEYS]);
  });

  test("of a Kubernetes service account have their claims inside one another", async () => {
    const of = bench({ account: ["kubernetes.io", "serviceaccount", "name"], groups: ["kubernetes.io", "namespace"] });
    const inside = { "kubernetes.io": { namespace: "build", serviceaccount: { name: "puller", uid: "1" } } };
    expect(await of.identify(bearer(await signed(key, claims(inside))))).toMatchObject({
      account: "puller",
      groups: ["build"],
    });
  });

  test.each<[string, JWTPayload, RegExp]>([
    ["for another audience", { aud: "other" }, /has not the aud/],
    ["for one of several others", { aud: ["a", "b"] }, /has not the aud/],
    ["of another issuer", { iss: "https://evil.example" }, /is of no issuer in access\.oidc\.issuers/],
    ["without a subject", { sub: "" }, /no sub that could be an account's name/],
    ["with an endless one", { sub: "a".repeat(256) }, /no sub that could be/],
    ["with a control character in it", { sub: "a\nb" }, /no sub that could be/],
    [
      "of a repository that is not ours",
      { repository_owner: "evil" },
      /a repository_owner that access\.oidc does not take/,
    ],
    ["of no repository", { repository_owner: undefined }, /or has none/],
    ["that have run out", { exp: 1 }, /has expired/],
  ])("%s are refused", async (_, changes, message) => {
    const of = bench({ require: { repository_owner: "acm?" } });
    const token = await signed(key, claims({ repository_owner: "acme", ...changes }));
    await expect(of.identify(bearer(token))).rejects.toThrow(message);
    expect((await of.identify(bearer(await signed(key, claims({ repository_owner: "acme" }))))).account).toBeDefined();
  });

  test("one issuer's key signs nothing of another's", async () => {
    const other = { issuer: "https://other.example", audience: "weir", jwks: "https://other.example/keys" };
    const of = bench({}, [other]);
    of.documents.set("https://other.example/keys", keysOf(stranger));
    expect((await of.identify(bearer(await signed(stranger, claims({ iss: other.issuer }))))).via).toBe("oidc");
    await expect(of.identify(bearer(await signed(key, claims({ iss: other.issuer }))))).rejects.toThrow("signature");
    await expect(of.identify(bearer(await signed(stranger, claims())))).rejects.toThrow("signature");
  });

  test("a new key is found by its first token, and made-up ones ask for keys twice a minute at most", async () => {
    const of = bench();
    await of.identify(bearer(await signed(key, claims())));
    clock.advance(60_000);
    of.documents.set(KEYS, keysOf(key, rsa));
    expect((await of.identify(bearer(await signed(rsa, claims())))).via).toBe("oidc");
    expect(of.read).toEqual([DISCOVERY, KEYS, DISCOVERY, KEYS]);
    const made = await signed(issuerKey("made-up"), claims());
    for (let i = 0; i < 50; i += 1) await expect(of.identify(bearer(made))).rejects.toThrow("does not list");
    expect(of.read).toHaveLength(4);
    clock.advance(30_000);
    for (let i = 0; i < 50; i += 1) await expect(of.identify(bearer(made))).rejects.toThrow("does not list");
    expect(of.read).toHaveLength(6);
  });

  test("keys are asked for once for all, once an hour, and outlast their issuer by a day", async () => {
    const of = bench();
    const token = () => signed(key, claims());
    await Promise.all(Array.from({ length: 20 }, async () => await of.identify(bearer(await token()))));
    expect(of.read).toEqual([DISCOVERY, KEYS]);
    clock.advance(HOUR);
    await of.identify(bearer(await token()));
    expect(of.read).toHaveLength(4);
    of.documents.clear();
    clock.advance(HOUR);
    await of.identify(bearer(await token()));
    await of.identify(bearer(await token()));
    // The look that failed is not repeated for a while.
    expect(of.read).toHaveLength(5);
    clock.advance(23 * HOUR);
    await expect(of.identify(bearer(await token()))).rejects.toMatchObject({ code: "UNAVAILABLE", status: 503 });
    expect(of.read).toHaveLength(6);
  });

  test.each<[string, Map<string, unknown>]>([
    ["nothing", new Map()],
    ["another issuer's document", new Map([[DISCOVERY, { issuer: "https://evil.example", jwks_uri: KEYS }]])],
    ["no address of keys", new Map([[DISCOVERY, { issuer: ISSUER }]])],
    ["an address without TLS", new Map([[DISCOVERY, { issuer: ISSUER, jwks_uri: "http://ci.example/keys" }]])],
    [
      "keys that are none",
      new Map<string, unknown>([
        [DISCOVERY, { issuer: ISSUER, jwks_uri: KEYS }],
        [KEYS, { keys: 1 }],
      ]),
    ],
    [
      "a thousand keys",
      new Map<string, unknown>([
        [DISCOVERY, { issuer: ISSUER, jwks_uri: KEYS }],
        [KEYS, { keys: Array(1000).fill({}) }],
      ]),
    ],
  ])("an issuer that has %s is in trouble, and the client is told to try again", async (_, found) => {
    const issuers = [{ issuer: ISSUER, audience: "weir" }];
    const of = accessBench(signInOf({ mode: "oidc", oidc: { issuers } }), { clock, documents: found });
    await expect(of.identify(bearer(await signed(key, claims())))).rejects.toMatchObject({
      code: "UNAVAILABLE",
      headers: { "retry-after": "5" },
    });
  });

  test("a file that cannot be used stops the start, by its key", async () => {
    const bad = await fileOf(stack, "bad", "{}");
    const create = (issuer: Readonly<Record<string, unknown>>) => () => bench(issuer);
    expect(create({ jwks: bad })).toThrow(`access.oidc.issuers[0].jwks: ${bad} is no JSON Web Key Set`);
    expect(create({ jwks: "/absent" })).toThrow("access.oidc.issuers[0].jwks: /absent does not exist");
    expect(create({ ca: "/absent" })).toThrow("access.oidc.issuers[0].ca: /absent does not exist");
    expect(create({ tokenFile: "/absent" })).toThrow("access.oidc.issuers[0].tokenFile: /absent does not exist");
  });

  test("a secret key in a key set verifies nothing", async () => {
    const of = bench();
    of.documents.set(KEYS, { keys: [{ kty: "oct", kid: "one", k: "c2VjcmV0", alg: "HS256" }] });
    await expect(of.identify(bearer(unsigned({ alg: "HS256", kid: "one" }, claims(), "AA")))).rejects.toThrow(
      "algorithm",
    );
  });
});
