import { generateKeyPairSync } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeSigningKey, parseSigningKey } from "../../../src/access/token-keys.ts";
import type { TokenAnswer, TokenQuestion } from "../../../src/access/token-service.ts";
import { Secret } from "../../../src/base/secret.ts";
import {
  type AccessBench,
  accessBench,
  basic,
  claimsOf,
  fileOf,
  htpasswd,
  issuerKey,
  signed,
  signInOf,
  unsigned,
} from "../../support/sign-in.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const o = { signal: new AbortController().signal };
const NGINX = "repository:docker.io/library/nginx:pull";

let stack: AsyncDisposableStack;
let file: string;
let bench: AccessBench;
const key = makeSigningKey();

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  file = await fileOf(stack, "htpasswd", await htpasswd({ alice: "a-s3cret", bob: "b-s3cret" }));
  bench = accessBench(signInOf({ mode: ["htpasswd", "token"], htpasswd: { file } }), { key });
});

afterEach(() => stack.disposeAsync());

function ask(question: Partial<TokenQuestion>, of = bench): Promise<TokenAnswer> {
  const { tokens } = of.access;
  if (tokens === undefined) throw new Error("there is no token service");
  return tokens.answer(
    {
      authorization: undefined,
      certificate: undefined,
      address: undefined,
      password: undefined,
      refreshToken: undefined,
      service: "weir",
      scopes: [NGINX],
      account: undefined,
      offline: false,
      ...question,
    },
    o,
  );
}

const ALICE = { authorization: basic("alice", "a-s3cret") };
const bearer = (token: Secret | string): string => `Bearer ${typeof token === "string" ? token : token.reveal()}`;

describe("a token", () => {
  test("is what the spec's example is: claims, header, lifetime", async () => {
    const { token, lifetimeS, issuedAtMs, granted } = await ask({ ...ALICE, account: "alice" });
    expect(lifetimeS).toBe(300);
    expect(granted).toEqual([{ type: "repository", name: "docker.io/library/nginx", actions: ["pull"] }]);
    const issued = issuedAtMs / 1000;
    expect(claimsOf(token.reveal())).toEqual({
      iss: "weir",
      sub: "alice",
      aud: "weir",
      iat: issued,
      nbf: issued,
      exp: issued + 300,
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
      access: [{ type: "repository", name: "docker.io/library/nginx", actions: ["pull"] }],
      weir: { groups: [], mark: expect.any(String) },
    });
    const header = JSON.parse(Buffer.from(token.reveal().split(".")[0] ?? "", "base64url").toString());
    expect(header).toEqual({ typ: "JWT", alg: "ES256", kid: parseSigningKey(key).kid });
    expect(header.kid).toMatch(/^(?:[A-Z2-7]{4}:){11}[A-Z2-7]{4}$/);
  });

  test("says who its owner is, and what it opens, until it runs out", async () => {
    const { token } = await ask(ALICE);
    expect(await bench.identify(bearer(token), "192.0.2.1")).toEqual({
      account: "alice",
      groups: [],
      via: "token",
      address: "192.0.2.1",
      grants: [{ type: "repository", name: "docker.io/library/nginx", actions: ["pull"] }],
    });
    bench.clock.advance(5 * MINUTE + 59_000);
    expect((await bench.identify(bearer(token))).account).toBe("alice");
    bench.clock.advance(2_000);
    await expect(bench.identify(bearer(token))).rejects.toMatchObject({
      code: "UNAUTHORIZED",
      message: "the token has expired",
      problem: "invalid_token",
      counts: false,
    });
  });

  test("is signed by RS256 with an RSA key", async () => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const rsa = await fileOf(stack, "rsa.pem", privateKey.export({ type: "pkcs1", format: "pem" }).toString());
    const of = accessBench(signInOf({ mode: ["htpasswd", "token"], htpasswd: { file }, token: { key: rsa } }));
    const { token } = await ask(ALICE, of);
    expect(JSON.parse(Buffer.from(token.reveal().split(".")[0] ?? "", "base64url").toString()).alg).toBe("RS256");
    expect((await of.identify(bearer(token))).account).toBe("alice");
  });

  test("of an old key is good while the key is listed", async () => {
    const { token } = await ask(ALICE);
    const next = await fileOf(stack, "next.pem", makeSigningKey());
    const old = await fileOf(stack, "old.pem", key);
    const config = { mode: ["htpasswd", "token"], htpasswd: { file } };
    const rolled = accessBench(signInOf({ ...config, token: { key: next, oldKeys: [old] } }));
    expect((await rolled.identify(bearer(token))).account).toBe("alice");
    const over = accessBench(signInOf({ ...config, token: { key: next } }));
    await expect(over.identify(bearer(token))).rejects.toThrow("signed by a key that does not count here");
  });

  test("stands for the password: another password, or none, ends it at once", async () => {
    const { token } = await ask(ALICE);
    const { token: bobs } = await ask({ authorization: basic("bob", "b-s3cret") });
    expect((await bench.identify(bearer(token))).account).toBe("alice");
    expect((await bench.identify(bearer(bobs))).account).toBe("bob");
    await writeFile(file, await htpasswd({ alice: "another" }));
    bench.clock.advance(1_000);
    await expect(bench.identify(bearer(token))).rejects.toThrow("has another password since");
    await expect(bench.identify(bearer(bobs))).rejects.toThrow("is of somebody who is gone");
  });
});

describe("without waiting", () => {
  const presented = (authorization: string | undefined) => ({ authorization, certificate: undefined, address: "::1" });

  test("nobody's token is known once it was verified, until it runs out; whose password may change is always asked", async () => {
    bench = accessBench(signInOf({ mode: ["anonymous", "htpasswd", "token"], htpasswd: { file } }), { key });
    const { authenticator } = bench.access;
    const nobodys = bearer((await ask({})).token);
    const alices = bearer((await ask(ALICE)).token);
    expect(authenticator.known(presented(nobodys))).toBeUndefined();
    const found = await bench.identify(nobodys, "::1");
    expect(authenticator.known(presented(nobodys))).toEqual(found);
    expect(found.grants).toHaveLength(1);
    await bench.identify(alices, "::1");
    for (const other of [alices, ALICE.authorization, basic("alice", "wrong"), "Bearer x.y.z", "Negotiate x"]) {
      expect(authenticator.known(presented(other))).toBeUndefined();
    }
    expect(authenticator.known(presented(undefined))).toMatchObject({ via: "anonymous", address: "::1" });
    bench.clock.advance(DAY);
    expect(authenticator.known(presented(nobodys))).toBeUndefined();
  });

  test("nobody is anybody where somebody has to sign in", () => {
    expect(bench.access.authenticator.known(presented(undefined))).toBeUndefined();
  });
});

describe("hostile tokens are refused", () => {
  const claims = () => {
    const now = Math.floor(bench.clock.now() / 1000);
    return { iss: "weir", aud: "weir", sub: "alice", iat: now, nbf: now, exp: now + 300, access: [] };
  };
  const own = () => {
    const { alg, kid, private: signer } = parseSigningKey(key);
    return { alg, kid, private: signer };
  };

  test.each<[string, () => string | Promise<string>, RegExp]>([
    [
      "alg none",
      () => unsigned({ typ: "JWT", alg: "none" }, claims()),
      /algorithm that is not accepted|could be understood/,
    ],
    ["alg none with our kid", () => unsigned({ alg: "none", kid: own().kid }, claims(), "AA"), /algorithm|understood/],
    [
      "HS256 with the public key as the secret",
      () => unsigned({ alg: "HS256", kid: own().kid }, claims(), "c2lnbmF0dXJl"),
      /algorithm that is not accepted/,
    ],
    ["another key", () => signed(issuerKey("made-up"), claims()), /signed by a key that does not count/],
    ["another key under our kid", () => signed(issuerKey(own().kid), claims()), /signature that is not its issuer's/],
    ["no kid", () => signed(own(), claims(), { kid: "" }), /signed by a key that does not count/],
    ["another audience", () => signed(own(), { ...claims(), aud: "other" }), /has not the aud/],
    ["another issuer", () => signed(own(), { ...claims(), iss: "other" }), /has not the iss/],
    ["no expiry", () => signed(own(), { iss: "weir", aud: "weir", sub: "alice" }), /has not the exp/],
    [
      "an expiry that is no number",
      () => signed(own(), { ...claims(), exp: "never" as never }),
      /has not the exp|understood/,
    ],
    ["a day ago", () => signed(own(), { ...claims(), exp: claims().exp - 86_400 }), /has expired/],
    ["not yet", () => signed(own(), { ...claims(), nbf: claims().nbf + 61 }), /has not the nbf/],
    [
      "a critical extension",
      () => unsigned({ alg: "ES256", kid: own().kid, crit: ["made-up"], "made-up": 1 }, claims(), "AA"),
      /understood/,
    ],
    ["rubbish", () => "a.b.c", /none that could be understood/],
    ["two parts", () => "e30.e30", /none that could be understood/],
    ["JSON of another kind", () => unsigned({ alg: "ES256", kid: own().kid }, [1, 2], "AA"), /understood|signature/],
    ["30,000 characters", () => "x".repeat(30_000), /none that could be understood/],
  ])("A5 %s", async (_, make, message) => {
    await expect(bench.identify(bearer(await make()))).rejects.toThrow(message);
    await expect(bench.identify(bearer(await make()))).rejects.toMatchObject({ code: "UNAUTHORIZED", status: 401 });
  });

  test("a clock that is a minute off is forgiven", async () => {
    const now = Math.floor(bench.clock.now() / 1000);
    const ahead = await signed(own(), { ...claims(), nbf: now + 59, iat: now + 59 }, { typ: "JWT" });
    expect((await bench.identify(bearer(ahead))).account).toBe("alice");
  });

  test("a refresh token opens nothing by itself, and an access token refreshes nothing", async () => {
    const { token, refreshToken } = await ask({ ...ALICE, offline: true });
    await expect(bench.identify(bearer(refreshToken ?? ""))).rejects.toThrow("has not the typ");
    await expect(ask({ refreshToken: token })).rejects.toThrow("has not the typ");
  });

  test("scopes in a token that are none count for nothing", async () => {
    const access = [
      ...[null, 1, "repository", { type: "repository" }, { type: "repository", name: "docker.io/a", actions: "pull" }],
      { type: "repository", name: "unknown.example/a", actions: ["pull"] },
      { type: "repository", name: "docker.io/b", actions: ["pull"] },
    ];
    const token = await signed(own(), { ...claims(), access }, { typ: "JWT" });
    expect((await bench.identify(bearer(token))).grants).toEqual([
      { type: "repository", name: "docker.io/b", actions: ["pull"] },
    ]);
  });
});

describe("what a token is asked for", () => {
  test("scopes that mean nothing here are passed over, and both spellings of one repository are one", async () => {
    const scopes = [
      // containerd: its own, from the image's name, and that of the challenge.
      "repository:library/nginx:pull repository:docker.io/library/nginx:pull",
      "repository:unknown.example/a:pull",
      "repository(plugin):docker.io/a:pull",
      "aws:ecr:*",
      "not a scope",
      "repository:docker.io/team/app:push,pull,delete",
      "repository:quay.io/all:*",
      "repository:quay.io/nothing:push",
      "registry:catalog:*",
    ];
    const { granted } = await ask({ ...ALICE, scopes });
    expect(granted).toEqual([
      { type: "repository", name: "docker.io/library/nginx", actions: ["pull"] },
      { type: "repository", name: "docker.io/team/app", actions: ["pull"] },
      { type: "repository", name: "quay.io/all", actions: ["pull"] },
      { type: "registry", name: "catalog", actions: ["*"] },
    ]);
  });

  test("only what the rules allow is granted, and the rules hear who asks", async () => {
    const heard: unknown[] = [];
    bench.mayPull = (identity, repo) => {
      heard.push([identity.account, identity.via, identity.address, repo.repository]);
      return repo.upstream === "quay.io";
    };
    const scopes = [NGINX, "repository:quay.io/a:pull"];
    const { granted, token } = await ask({ ...ALICE, address: "192.0.2.1", scopes });
    expect(granted.map(({ name }) => name)).toEqual(["quay.io/a"]);
    expect(claimsOf(token.reveal()).access).toEqual(granted);
    expect(heard).toEqual([
      ["alice", "password", "192.0.2.1", "library/nginx"],
      ["alice", "password", "192.0.2.1", "a"],
    ]);
  });

  test("A5 10,000 scopes are refused with a reason", async () => {
    const scopes = [Array.from({ length: 10_000 }, (_, i) => `repository:docker.io/a${i}:pull`).join(" ")];
    await expect(ask({ ...ALICE, scopes })).rejects.toMatchObject({
      status: 400,
      message: "a token for 10000 scopes was asked for, of 100 at most: ask for several tokens",
    });
  });

  test("another service is refused, and none is this one", async () => {
    await expect(ask({ ...ALICE, service: "registry.example" })).rejects.toMatchObject({ status: 400 });
    expect((await ask({ ...ALICE, service: undefined })).account).toBe("alice");
  });
});

describe("who asks for a token", () => {
  test.each<[string, Partial<TokenQuestion>, RegExp]>([
    ["a wrong password", { authorization: basic("alice", "b-s3cret") }, /user name or the password is wrong/],
    ["nobody's name", { authorization: basic("mallory", "x") }, /user name or the password is wrong/],
    ["an empty name and password", { authorization: basic("", "") }, /user name or the password is wrong/],
    ["no credentials", {}, /sign in with a user name and a password/],
    ["another scheme", { authorization: "Negotiate YII=" }, /neither Basic nor Bearer/],
    ["Basic without a colon", { authorization: `Basic ${Buffer.from("alice").toString("base64")}` }, /neither/],
    ["somebody else's account", { ...ALICE, account: "bob" }, /account names somebody else/],
    [
      "a form's password of somebody else",
      { password: { username: "bob", password: new Secret("a-s3cret") } },
      /wrong/,
    ],
    ["a token instead of a password", { authorization: "Bearer x.y.z" }, /ID tokens are not taken here/],
  ])("%s is refused", async (_, question, message) => {
    await expect(ask(question)).rejects.toThrow(message);
    await expect(ask(question)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
  });

  test("nobody gets a token for nobody where anonymous callers are served, and an account without its password none", async () => {
    const of = accessBench(signInOf({ mode: ["anonymous", "htpasswd", "token"], htpasswd: { file } }), { key });
    const { token, account } = await ask({}, of);
    expect(account).toBeUndefined();
    expect(claimsOf(token.reveal()).sub).toBe("");
    expect(await of.identify(bearer(token))).toMatchObject({ account: undefined, via: "token" });
    await expect(ask({ account: "alice" }, of)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    // Where they are served no more, it is good for nothing.
    await expect(bench.identify(bearer(token))).rejects.toThrow("nobody is served here any more");
  });
});

describe("a refresh token", () => {
  async function signIn(): Promise<Secret> {
    const { refreshToken } = await ask({ ...ALICE, offline: true });
    if (refreshToken === undefined) throw new Error("there is no refresh token");
    return refreshToken;
  }

  test("gets tokens for a month, and no other refresh token", async () => {
    const refreshToken = await signIn();
    bench.clock.advance(29 * DAY);
    const answer = await ask({ refreshToken, offline: true });
    expect(answer.account).toBe("alice");
    expect(answer.refreshToken).toBeUndefined();
    expect((await bench.identify(bearer(answer.token))).account).toBe("alice");
    bench.clock.advance(DAY + 2 * MINUTE);
    await expect(ask({ refreshToken })).rejects.toThrow("has expired");
  });

  test("is given only to those who ask for it", async () => {
    expect((await ask(ALICE)).refreshToken).toBeUndefined();
  });

  test("A5 of an account that is gone, replayed, is refused; so is one from before another password", async () => {
    const refreshToken = await signIn();
    await writeFile(file, await htpasswd({ alice: "another" }));
    bench.clock.advance(1_000);
    await expect(ask({ refreshToken })).rejects.toMatchObject({ code: "UNAUTHORIZED", counts: true });
    await writeFile(file, await htpasswd({ bob: "b" }));
    bench.clock.advance(1_000);
    await expect(ask({ refreshToken })).rejects.toThrow("sign in again");
    // And one who has the name later is another person.
    await writeFile(file, await htpasswd({ alice: "a-s3cret" }));
    bench.clock.advance(1_000);
    await expect(ask({ refreshToken })).rejects.toThrow("sign in again");
  });

  test("of alice is not bob's", async () => {
    const refreshToken = await signIn();
    await expect(ask({ refreshToken, account: "bob" })).rejects.toThrow("account names somebody else");
  });

  test("of another Weir is refused", async () => {
    const other = accessBench(signInOf({ mode: ["htpasswd", "token"], htpasswd: { file } }));
    const { refreshToken } = await ask({ ...ALICE, offline: true }, other);
    await expect(ask({ refreshToken })).rejects.toThrow("signed by a key that does not count here");
  });
});

describe("keys", () => {
  test.each<[string, () => string, RegExp]>([
    [
      "a small RSA key",
      () => pem(generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey),
      /RSA from 2048 bits/,
    ],
    ["another curve", () => pem(generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey), /EC P-256, or RSA/],
    ["Ed25519", () => pem(generateKeyPairSync("ed25519").privateKey), /EC P-256, or RSA/],
    ["no key", () => "hunter2", /no private key in PEM/],
  ])("%s is refused by key and path", async (_, make, message) => {
    const path = await fileOf(stack, "key.pem", make());
    const config = signInOf({ mode: ["htpasswd", "token"], htpasswd: { file }, token: { key: path } });
    expect(() => accessBench(config)).toThrow(message);
    expect(() => accessBench(config)).toThrow(`access.token.key: ${path}`);
    expect(() => accessBench(config)).not.toThrow(/hunter2/);
  });

  test("an old key that is gone is told with its place in the list", async () => {
    const path = await fileOf(stack, "old.pem", key);
    await rm(path);
    const config = signInOf({ mode: ["htpasswd", "token"], htpasswd: { file }, token: { oldKeys: [path] } });
    expect(() => accessBench(config)).toThrow(`access.token.oldKeys[0]: ${path} does not exist`);
  });
});

function pem(key: ReturnType<typeof generateKeyPairSync>["privateKey"]): string {
  return (key as import("node:crypto").KeyObject).export({ type: "pkcs8", format: "pem" }).toString();
}
