import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { describe, expect, test } from "vitest";
import { classifyAddress } from "../../../src/upstream/address.ts";
import type { UpstreamDeps } from "../../../src/upstream/create.ts";
import type { Lookup } from "../../../src/upstream/transport.ts";
import { createAuthority } from "../../support/certificates.ts";
import type { ScriptEntry, ScriptedServer } from "../../support/scripted-server.ts";
import { brief, credential, failure, manifestReply, o, openUpstream, serve, tag } from "./bench.ts";

const FROM = "/v2/a/manifests/1";

function redirect(location: string | (() => string), status = 307): ScriptEntry {
  return {
    when: { path: FROM },
    reply: () => ({ status, headers: { location: typeof location === "string" ? location : location() } }),
  };
}

/** A look-up over a table; each further look-up of a name takes the next of its answers. */
function lookupTable(table: Readonly<Record<string, readonly string[][]>>): Lookup {
  const asked = new Map<string, number>();
  return async (hostname) => {
    const turn = asked.get(hostname) ?? 0;
    asked.set(hostname, turn + 1);
    const answers = table[hostname] ?? [];
    const addresses = answers[Math.min(turn, answers.length - 1)];
    if (addresses === undefined) throw Object.assign(new Error("not found"), { code: "ENOTFOUND" });
    return addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
  };
}

describe("following", () => {
  test.each([301, 302, 303, 307, 308])("%s, for GET and HEAD, relative to what was asked", async (status) => {
    const registry = await serve([
      redirect("../../b/x?q=1", status),
      { when: { path: "/v2/b/x", query: { q: "1" } }, reply: manifestReply },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.getManifest("a", tag("1"), o());
    await upstream.headManifest("a", tag("1"), o());
    expect(registry.lines).toEqual([`GET ${FROM}`, "GET /v2/b/x", `HEAD ${FROM}`, "HEAD /v2/b/x"]);
  });

  test("U3 ten redirects are followed, twenty and a loop are not", async () => {
    const step: ScriptEntry = {
      when: { path: /^\/step\// },
      reply: ({ path }) => {
        const n = Number(path.slice("/step/".length));
        return n === 0 ? manifestReply : { status: 302, headers: { location: `/step/${n - 1}` } };
      },
    };
    const ten = await serve([redirect("/step/9"), step]);
    await openUpstream(ten.url).upstream.headManifest("a", tag("1"), o());
    expect(ten.ledger).toHaveLength(11);

    const twenty = await serve([redirect("/step/19"), step]);
    expect((await failure(openUpstream(twenty.url).upstream.headManifest("a", tag("1"), o()))).fault).toBe(
      "bad-answer",
    );
    expect(twenty.ledger).toHaveLength(11);

    const loop = await serve([redirect(FROM)]);
    expect((await failure(openUpstream(loop.url).upstream.headManifest("a", tag("1"), o()))).fault).toBe("bad-answer");
    expect(loop.ledger).toHaveLength(11);
  });

  test.each([
    ["no Location", undefined, "bad-answer"],
    ["no URL", "http://[", "bad-answer"],
    ["another scheme", "ftp://cdn.example/x", "refused"],
    ["a file", "file:///etc/passwd", "refused"],
  ])("%s is not followed", async (_, location, fault) => {
    const headers = location === undefined ? {} : { location };
    const registry = await serve([{ when: { path: FROM }, reply: { status: 307, headers } }]);
    expect((await failure(openUpstream(registry.url).upstream.headManifest("a", tag("1"), o()))).fault).toBe(fault);
  });

  test("U2 Authorization stays at the registry, also when the way leads back to it", async () => {
    const registry: ScriptedServer = await serve([
      { when: { path: "/token" }, reply: { body: '{"token":"t"}' } },
      {
        when: { path: FROM, headers: { authorization: undefined } },
        reply: { status: 401, headers: { "www-authenticate": 'Bearer realm="/token"' } },
      },
      redirect("/same-origin"),
      {
        when: { path: "/same-origin" },
        reply: () => ({ status: 307, headers: { location: `${other.url.origin}/away` } }),
      },
      { when: { path: "/back" }, reply: manifestReply },
    ]);
    const other = await serve([
      { when: { path: "/away" }, reply: { status: 307, headers: { location: `${registry.url.origin}/back` } } },
    ]);
    const { upstream } = openUpstream(registry.url, {
      credentials: [credential()],
      redirects: { allow: ["127.0.0.1"] },
    });
    await upstream.getManifest("a", tag("1"), o());
    expect(brief(registry.ledger.slice(2))).toEqual([
      `GET ${FROM} Bearer t`,
      "GET /same-origin Bearer t",
      "GET /back -",
    ]);
    expect(brief(other.ledger)).toEqual(["GET /away -"]);
  });

  test("user info in a Location is not turned into credentials", async () => {
    const other = await serve([{ when: { path: "/x" }, reply: manifestReply }]);
    const registry = await serve([redirect(`http://user:pass@127.0.0.1:${other.port}/x`)]);
    const { upstream } = openUpstream(registry.url, { redirects: { allow: ["127.0.0.1"] } });
    await upstream.getManifest("a", tag("1"), o());
    expect(brief(other.ledger)).toEqual(["GET /x -"]);
  });

  test("a 401 or 403 from where a redirect led is that host's trouble, a 404 is an absence", async () => {
    const other = await serve([]);
    const registry = await serve([redirect(() => `${other.url.origin}/x`)]);
    const { upstream } = openUpstream(registry.url, {
      redirects: { allow: ["127.0.0.1"] },
      credentials: [credential()],
    });
    for (const [status, fault] of [
      [401, "status"],
      [403, "status"],
      [404, "absent"],
    ] as const) {
      other.add({ when: { path: "/x" }, reply: { status, headers: { "www-authenticate": 'Basic realm="x"' } } });
      expect((await failure(upstream.getManifest("a", tag("1"), o()))).fault).toBe(fault);
    }
    expect(brief(other.ledger)).toEqual(["GET /x -", "GET /x -", "GET /x -"]);
  });
});

describe("U3 where redirects may not lead", () => {
  async function follow(
    location: string,
    deps: Partial<UpstreamDeps> = {},
    allow: readonly string[] = [],
  ): Promise<ReturnType<typeof failure>> {
    const registry = await serve([redirect(location)]);
    const { upstream } = openUpstream(registry.url, { redirects: { allow } }, deps);
    const error = await failure(upstream.headManifest("a", tag("1"), o()));
    expect(registry.ledger).toHaveLength(1);
    return error;
  }

  test.each([
    "http://127.0.0.1:1/x",
    "http://127.1:1/x",
    "http://2130706433:1/x",
    "http://0x7f.0.0.1:1/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]:1/x",
    "http://[::ffff:127.0.0.1]:1/x",
    "http://[::ffff:a9fe:a9fe]/x",
    "http://[64:ff9b::7f00:1]/x",
    "http://[fe80::1]/x",
    "http://0.0.0.0:1/x",
    "http://[::]:1/x",
    "http://224.0.0.1/x",
  ])("%s", async (location) => {
    const error = await follow(location);
    expect(error).toMatchObject({ fault: "refused", trouble: false });
    expect(error.message).toContain("upstreams.reg.example.redirects.allow");
  });

  test.each([
    ["loopback", ["127.0.0.1"]],
    ["the metadata address", ["169.254.169.254"]],
    ["IPv4 in IPv6", ["::ffff:127.0.0.1"]],
    ["a good and a bad address", ["8.8.8.8", "127.0.0.1"]],
  ])("a name that resolves to %s", async (_, addresses) => {
    const lookup = lookupTable({ "cdn.example": [addresses] });
    expect((await follow("http://cdn.example:1/x", { lookup })).fault).toBe("refused");
  });

  test("a private address, for a public registry", async () => {
    const classify = (ip: string): ReturnType<typeof classifyAddress> =>
      ip === "127.0.0.1" ? "public" : classifyAddress(ip);
    expect((await follow("http://10.0.0.1/x", { classifyAddress: classify })).fault).toBe("refused");
  });

  test("Weir's own listener, as any other on this machine", async () => {
    const listener = await serve([]);
    expect((await follow(`${listener.url.origin}/v2/`)).fault).toBe("refused");
    expect(listener.ledger).toEqual([]);
  });

  test("a name is judged by the address that the connection is made to, not by an earlier look-up", async () => {
    const cdn = await serve([
      { when: { path: "/x" }, reply: { ...manifestReply, headers: { ...manifestReply.headers, connection: "close" } } },
    ]);
    const registry = await serve([redirect(() => `http://cdn.example:${cdn.port}/x`)]);
    // The double's address plays the public one here, so that there is something to connect to.
    const { upstream } = openUpstream(
      registry.url,
      {},
      {
        lookup: lookupTable({ "cdn.example": [["127.0.0.1"], ["169.254.169.254"]] }),
        classifyAddress: (ip) => (ip === "127.0.0.1" ? "public" : classifyAddress(ip)),
      },
    );
    await upstream.headManifest("a", tag("1"), o());
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("refused");
  });

  test("a connection that the operator's own word opened is not used for a redirect", async () => {
    const realm = await serve([{ when: { path: "/token" }, reply: { body: '{"token":"t"}' } }], { host: "127.0.0.2" });
    const registry = await serve([
      redirect(() => `${realm.url.origin}/secret`),
      {
        when: { path: "/v2/a/manifests/2", headers: { authorization: undefined } },
        reply: () => ({ status: 401, headers: { "www-authenticate": `Bearer realm="${realm.url.origin}/token"` } }),
      },
      { when: { path: "/v2/a/manifests/2" }, reply: manifestReply },
    ]);
    const { upstream } = openUpstream(registry.url, { realms: ["127.0.0.2"] });
    await upstream.headManifest("a", tag("2"), o());
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("refused");
    expect(realm.lines).toEqual(["GET /token"]);
  });

  test("what redirects.allow lists is followed: an address, a network, a host", async () => {
    const cdn = await serve([{ when: { path: "/x" }, reply: manifestReply }]);
    for (const [host, allow] of [
      ["127.0.0.1", "127.0.0.1"],
      ["127.0.0.1", "127.0.0.0/8"],
      ["cdn.internal", "cdn.internal"],
    ] as const) {
      const registry = await serve([redirect(`http://${host}:${cdn.port}/x`)]);
      const { upstream } = openUpstream(
        registry.url,
        { redirects: { allow: [allow] } },
        { lookup: lookupTable({ "cdn.internal": [["127.0.0.1"]] }) },
      );
      await upstream.headManifest("a", tag("1"), o());
    }
    expect(cdn.ledger).toHaveLength(3);
  });

  test("a private registry may redirect to private addresses", async () => {
    const cdn = await serve([{ when: { path: "/x" }, reply: manifestReply }], { host: "127.0.0.2" });
    const registry = await serve([redirect(() => `${cdn.url.origin}/x`)]);
    const { upstream } = openUpstream(registry.url, {}, { classifyAddress: () => "private" });
    await upstream.headManifest("a", tag("1"), o());
  });
});

describe("dynamic upstreams", () => {
  test("R2 are dialled at public addresses only", async () => {
    const registry = await serve([]);
    const lookup = lookupTable({ "reg.example": [["127.0.0.1"]] });
    for (const endpoint of [registry.url, new URL(`http://reg.example:${registry.port}`)]) {
      const { upstream } = openUpstream(endpoint, {}, { dynamic: true, lookup });
      const error = await failure(upstream.headManifest("a", tag("1"), o()));
      expect(error.fault).toBe("refused");
      expect(error.message).toContain("must be public");
    }
    expect(registry.ledger).toEqual([]);
  });

  test("at a public address they are like any other", async () => {
    const registry = await serve([{ when: { path: FROM }, reply: manifestReply }]);
    const { upstream } = openUpstream(registry.url, {}, { dynamic: true, classifyAddress: () => "public" });
    await upstream.headManifest("a", tag("1"), o());
  });
});

describe("TLS", () => {
  test("U2 an https registry is trusted by its CA, and never left for plain http", async () => {
    await using stack = new AsyncDisposableStack();
    const authority = await createAuthority(stack);
    const { cert, key } = await authority.issue(["127.0.0.1"]);
    const plain = await serve([]);
    const registry = await serve(
      [
        redirect(() => `${plain.url.origin}/x`),
        {
          when: { path: "/v2/a/manifests/2" },
          reply: () => ({ status: 401, headers: { "www-authenticate": `Bearer realm="${plain.url.origin}/token"` } }),
        },
        { when: { path: "/v2/a/manifests/3" }, reply: manifestReply },
      ],
      { tls: { cert, key } },
    );
    const tls = { ca: authority.caFile, cert: undefined, key: undefined, insecureSkipVerify: false };
    const over = { tls, redirects: { allow: ["127.0.0.1"] }, realms: ["127.0.0.1"] };
    const { upstream } = openUpstream(registry.url, over);
    await upstream.headManifest("a", tag("3"), o());
    expect(await failure(upstream.headManifest("a", tag("1"), o()))).toMatchObject({ fault: "refused" });
    for (const credentials of [[], [credential()]]) {
      const { upstream: asked } = openUpstream(registry.url, { ...over, credentials });
      expect(await failure(asked.headManifest("a", tag("2"), o()))).toMatchObject({ fault: "refused" });
    }
    expect(plain.ledger).toEqual([]);

    const distrusting = openUpstream(registry.url);
    const error = await failure(distrusting.upstream.headManifest("a", tag("3"), o()));
    expect(error).toMatchObject({ fault: "tls", trouble: true });
    const careless = openUpstream(registry.url, { tls: { ...tls, ca: undefined, insecureSkipVerify: true } });
    await careless.upstream.headManifest("a", tag("3"), o());
  });

  test("a certificate for another name is a TLS failure", async () => {
    await using stack = new AsyncDisposableStack();
    const authority = await createAuthority(stack);
    const { cert, key } = await authority.issue(["other.example"]);
    const registry = await serve([], { tls: { cert, key } });
    const tls = { ca: authority.caFile, cert: undefined, key: undefined, insecureSkipVerify: false };
    const { upstream } = openUpstream(registry.url, { tls });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("tls");
  });

  /** HTTPS servers that note which client certificate each request came with. */
  async function askingForCertificates(stack: AsyncDisposableStack) {
    const authority = await createAuthority(stack);
    const server = await authority.issue(["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    const client = await authority.issue(["weir.example"]);
    const shown: string[] = [];
    const listen = async (host: string, status: number, location?: string, challenge?: string): Promise<string> => {
      const options = { cert: server.cert, key: server.key, ca: await readFile(authority.caFile) };
      const https = createServer({ ...options, requestCert: true, rejectUnauthorized: false }, (request, response) => {
        const certificate = (request.socket as TLSSocket).getPeerCertificate();
        shown.push(`${host} ${certificate.subjectaltname ?? "none"}`);
        const headers = { ...(location && { location }), ...(challenge && { "www-authenticate": challenge }) };
        response.writeHead(status, headers).end();
      });
      stack.defer(() => {
        https.closeAllConnections();
        https.close();
      });
      https.listen(0, host);
      await once(https, "listening");
      return `https://${host}:${(https.address() as AddressInfo).port}`;
    };
    const tls = { ca: authority.caFile, cert: client.certFile, key: client.keyFile, insecureSkipVerify: false };
    return { listen, shown, tls };
  }

  test("U2 the client certificate is shown to the registry and to nobody else", async () => {
    await using stack = new AsyncDisposableStack();
    const { listen, shown, tls } = await askingForCertificates(stack);
    const registry = await listen("127.0.0.1", 307, `${await listen("127.0.0.2", 404)}/x`);
    const { upstream } = openUpstream(new URL(registry), { tls, redirects: { allow: ["127.0.0.2"] } });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("absent");
    expect(shown).toEqual(["127.0.0.1 DNS:weir.example", "127.0.0.2 none"]);
  });

  test("U2 nor to a token realm of another host, though the operator lists it", async () => {
    await using stack = new AsyncDisposableStack();
    const { listen, shown, tls } = await askingForCertificates(stack);
    const realm = await listen("127.0.0.2", 503);
    const registry = await listen("127.0.0.1", 401, undefined, `Bearer realm="${realm}/token"`);
    const { upstream } = openUpstream(new URL(registry), { tls, realms: [new URL(realm).host] });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("status");
    expect([...new Set(shown)]).toEqual(["127.0.0.1 DNS:weir.example", "127.0.0.2 none"]);
  });

  test("A1 what a client certificate opens is not public, and nobody is asked whether it is", async () => {
    await using stack = new AsyncDisposableStack();
    const { listen, shown, tls } = await askingForCertificates(stack);
    const { upstream } = openUpstream(new URL(await listen("127.0.0.1", 200)), { tls });
    expect(upstream.hasCredential("a")).toBe(true);
    expect(await upstream.isPublic("a", tag("1"), o())).toBe(false);
    expect(shown).toEqual([]);
  });

  test("U2 and to another endpoint only where that has credentials", async () => {
    await using stack = new AsyncDisposableStack();
    const { listen, shown, tls } = await askingForCertificates(stack);
    const at = async (host: string, credentials: readonly string[]) => {
      const url = new URL(await listen(host, 429));
      return { url, prefix: "", type: "generic", credentials } as const;
    };
    const endpoints = [await at("127.0.0.1", []), await at("127.0.0.2", []), await at("127.0.0.3", ["ci"])];
    const { upstream } = openUpstream(new URL("https://unused.invalid"), {
      tls,
      endpoints,
      credentials: [credential()],
    });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("quota");
    expect(shown).toEqual(["127.0.0.1 DNS:weir.example", "127.0.0.2 none", "127.0.0.3 DNS:weir.example"]);
  });

  test("a TLS file that cannot be read is named with its key", () => {
    const tls = { ca: "/nowhere/ca.pem", cert: undefined, key: undefined, insecureSkipVerify: false };
    expect(() => openUpstream(new URL("https://r.example"), { tls })).toThrow("upstreams.reg.example.tls.ca");
  });
});
