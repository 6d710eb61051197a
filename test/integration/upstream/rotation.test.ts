import { describe, expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import type { UpstreamConfig } from "../../../src/config/types.ts";
import type { ScriptEntry, ScriptedServer } from "../../support/scripted-server.ts";
import {
  type Bench,
  brief,
  challenge,
  credential,
  failure,
  manifestReply,
  o,
  openUpstream,
  serve,
  tag,
} from "./bench.ts";

const basic = (username: string): string => `Basic ${Buffer.from(`${username}:${username}-pw`).toString("base64")}`;

const known = (label: string, repositories?: readonly string[]) =>
  credential({ label, username: label, password: new Secret(`${label}-pw`), repositories });

/** A registry with a token service that takes the passwords of `users` alone, and hands out tokens in their names. */
function bearerRegistry(users: readonly string[]): readonly ScriptEntry[] {
  return [
    ...users.map((user) => ({
      when: { path: "/token", headers: { authorization: basic(user) } },
      reply: { body: JSON.stringify({ token: user }) },
    })),
    { when: { path: "/token" }, reply: { status: 401 } },
    {
      when: { path: /manifests/, headers: { authorization: /^Bearer / } },
      reply: manifestReply,
    },
    { when: { path: /manifests/ }, reply: challenge("/token", "repository:a:pull") },
  ];
}

async function open(
  entries: readonly ScriptEntry[],
  over: Partial<UpstreamConfig>,
): Promise<{ bench: Bench; registry: ScriptedServer }> {
  const registry = await serve(entries);
  return { bench: openUpstream(registry.url, over), registry };
}

describe("U4 a credential that is refused", () => {
  test("at the token service: the same request is answered by the next credential, and the first is left alone", async () => {
    const { bench, registry } = await open(bearerRegistry(["two"]), { credentials: [known("one"), known("two")] });
    const { upstream } = bench;
    await upstream.headManifest("a", tag("1"), o());
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(registry.ledger)).toEqual([
      "HEAD /v2/a/manifests/1 -",
      `GET /token ${basic("one")}`,
      `GET /token ${basic("two")}`,
      "HEAD /v2/a/manifests/1 Bearer two",
      "HEAD /v2/a/manifests/1 Bearer two",
    ]);
    const [one, two] = upstream.credentialStatus();
    expect(one?.parkedUntilMs).toBeGreaterThan(bench.clock.now());
    expect(two?.parkedUntilMs).toBeUndefined();
  });

  test("at the registry by Basic: the same", async () => {
    const { bench, registry } = await open(
      [
        { when: { path: /manifests/, headers: { authorization: basic("two") } }, reply: manifestReply },
        { when: { path: /manifests/ }, reply: { status: 401, headers: { "www-authenticate": 'Basic realm="r"' } } },
      ],
      { credentials: [known("one"), known("two")] },
    );
    await bench.upstream.headManifest("a", tag("1"), o());
    await bench.upstream.headManifest("a", tag("1"), o());
    expect(brief(registry.ledger).map((line) => line.split(" ").slice(2).join(" "))).toEqual([
      "-",
      basic("one"),
      basic("two"),
      basic("two"),
    ]);
  });

  test("and no other to take its place: the error has its label, and the upstream is not asked again for it", async () => {
    const { bench, registry } = await open(bearerRegistry([]), { credentials: [known("one")] });
    const { upstream } = bench;
    const first = await failure(upstream.headManifest("a", tag("1"), o()));
    expect(first).toMatchObject({ fault: "credential", credential: "one", status: 401 });
    const asked = registry.ledger.length;
    for (let i = 0; i < 3; i += 1) {
      const next = await failure(upstream.headManifest("a", tag("1"), o()));
      expect(next).toMatchObject({ fault: "credential", credential: "one" });
      expect(next.retryAfterMs).toBeGreaterThan(0);
    }
    expect(registry.ledger).toHaveLength(asked);
  });

  test("of several that are refused, two are tried for one request, and none of them twice", async () => {
    const { bench, registry } = await open(bearerRegistry(["four"]), {
      credentials: [known("one"), known("two"), known("three"), known("four")],
    });
    const { upstream } = bench;
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).credential).toBe("two");
    await upstream.headManifest("a", tag("1"), o());
    const tokens = registry.ledger.filter(({ path }) => path === "/token");
    expect(tokens.map(({ headers }) => headers.authorization)).toEqual(["one", "two", "three", "four"].map(basic));
  });

  test("others' pulls go on: anonymous ones, and those of other credentials", async () => {
    const { bench } = await open(
      [
        { when: { path: "/token", headers: { authorization: undefined } }, reply: { body: '{"token":"anybody"}' } },
        ...bearerRegistry(["other"]),
      ],
      { credentials: [known("mine", ["mine/*"]), known("other", ["other/*"])] },
    );
    const { upstream } = bench;
    expect((await failure(upstream.headManifest("mine/a", tag("1"), o()))).fault).toBe("credential");
    await upstream.headManifest("other/a", tag("1"), o());
    await upstream.headManifest("public/a", tag("1"), o());
  });

  test("50 requests at once are one refusal: one question of the token service, and a minute's park", async () => {
    const { bench, registry } = await open(bearerRegistry([]), { credentials: [known("one")] });
    const { upstream, clock } = bench;
    const errors = await Promise.all(
      Array.from({ length: 50 }, () => failure(upstream.headManifest("a", tag("1"), o()))),
    );
    expect(errors.map(({ fault }) => fault)).toEqual(Array(50).fill("credential"));
    expect(registry.lines.filter((line) => line === "GET /token")).toHaveLength(1);
    expect((upstream.credentialStatus()[0]?.parkedUntilMs ?? 0) - clock.now()).toBeLessThanOrEqual(60_000);
  });

  test("a repository that is denied to it parks nothing", async () => {
    const { bench } = await open(
      [
        { when: { path: "/token" }, reply: { body: '{"token":"one"}' } },
        { when: { path: "/v2/a/manifests/1", headers: { authorization: "Bearer one" } }, reply: manifestReply },
        { when: { path: /manifests/, headers: { authorization: "Bearer one" } }, reply: { status: 403 } },
        { when: { path: /manifests/ }, reply: challenge("/token", "repository:a:pull") },
      ],
      { credentials: [known("one"), known("two")] },
    );
    expect((await failure(bench.upstream.headManifest("b", tag("1"), o()))).fault).toBe("denied");
    expect(bench.upstream.credentialStatus().map(({ parkedUntilMs }) => parkedUntilMs)).toEqual([undefined, undefined]);
    await bench.upstream.headManifest("a", tag("1"), o());
  });
});
