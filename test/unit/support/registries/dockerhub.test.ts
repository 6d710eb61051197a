import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createAuthority } from "../../../support/certificates.ts";
import { dockerImage, multiArchImage, smallImage } from "../../../support/images.ts";
import { type HttpReply, httpRequest } from "../../../support/network.ts";
import { until } from "../../../support/processes.ts";
import { recorder } from "../../../support/recorder/recorder.ts";
import { type HubDouble, startHubDouble } from "../../../support/registries/dockerhub.ts";
import type { RegistryOptions } from "../../../support/registries/traits.ts";
import { toolTest } from "../../../support/tools.ts";

const FULL_ACCEPT =
  "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*";
const image = smallImage("hub");
const blob = image.blobs[1] ?? image.root;

let stack: AsyncDisposableStack;
let nowMs: number;

beforeEach(() => {
  stack = new AsyncDisposableStack();
  nowMs = Date.parse("2026-09-01T10:00:00Z");
});

afterEach(() => stack.disposeAsync());

async function hubWithImage(options: RegistryOptions = {}): Promise<HubDouble> {
  const hub = await startHubDouble(stack, { now: () => nowMs, ...options });
  hub.add("library/nginx", image, ["1.27"]);
  return hub;
}

async function tokenFor(hub: HubDouble, repository = "library/nginx", login?: string): Promise<string> {
  const scope = encodeURIComponent(`repository:${repository}:pull`);
  const reply = await httpRequest(`${hub.tokenUrl}?service=registry.docker.io&scope=${scope}`, {
    headers: login === undefined ? {} : { authorization: `Basic ${Buffer.from(login).toString("base64")}` },
  });
  return String(JSON.parse(reply.body.toString()).token);
}

async function ask(
  hub: HubDouble,
  path: string,
  token?: string,
  headers: Record<string, string> = {},
  method = "GET",
): Promise<HttpReply> {
  return await httpRequest(`${hub.url}${path}`, {
    method,
    headers: {
      accept: FULL_ACCEPT,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
  });
}

/** Goes to the registry for a redirect and returns where it leads. */
async function signedUrl(hub: HubDouble): Promise<string> {
  const reply = await ask(hub, `/v2/library/nginx/blobs/${blob.digest}`, await tokenFor(hub));
  return reply.headers.location ?? "";
}

describe("authentication", () => {
  test("401 + Bearer with realm, service and scope; on /v2/ no scope; docker-ratelimit-source also on 401", async () => {
    const hub = await hubWithImage();
    const manifest = await ask(hub, "/v2/library/nginx/manifests/1.27");
    expect(manifest.status).toBe(401);
    expect(manifest.headers["www-authenticate"]).toBe(
      `Bearer realm="${hub.tokenUrl}",service="registry.docker.io",scope="repository:library/nginx:pull"`,
    );
    expect(manifest.headers["docker-ratelimit-source"]).toBe("203.0.113.7");
    expect(JSON.parse(manifest.body.toString())).toEqual({
      errors: [
        {
          code: "UNAUTHORIZED",
          message: "authentication required",
          detail: [{ Type: "repository", Class: "", Name: "library/nginx", Action: "pull" }],
        },
      ],
    });
    const ping = await ask(hub, "/v2/");
    expect(ping.headers["www-authenticate"]).toBe(`Bearer realm="${hub.tokenUrl}",service="registry.docker.io"`);
  });

  test("the token server is on another host; token, access_token, expires_in 300, issued_at", async () => {
    const hub = await hubWithImage();
    expect(new URL(hub.tokenUrl).hostname).not.toBe(new URL(hub.url).hostname);
    const reply = await httpRequest(
      `${hub.tokenUrl}?service=registry.docker.io&scope=repository%3Alibrary%2Fnginx%3Apull`,
    );
    const body = JSON.parse(reply.body.toString());
    expect(body).toEqual({
      token: body.access_token,
      access_token: expect.stringMatching(/.+/),
      expires_in: 300,
      issued_at: "2026-09-01T10:00:00.000Z",
    });
  });

  test("service must be registry.docker.io exactly; a bad password is 401 at the token endpoint", async () => {
    const hub = await hubWithImage({ accounts: [{ username: "ci", password: "pat" }] });
    expect((await httpRequest(`${hub.tokenUrl}?service=other`)).status).toBe(400);
    const authorization = `Basic ${Buffer.from("ci:wrong").toString("base64")}`;
    const reply = await httpRequest(`${hub.tokenUrl}?service=registry.docker.io`, { headers: { authorization } });
    expect(reply.status).toBe(401);
  });

  test("POST form OAuth2 is accepted in practice", async () => {
    const hub = await hubWithImage({ accounts: [{ username: "ci", password: "pat" }] });
    hub.add("myorg/app", image, ["1"], "private");
    const reply = await httpRequest(hub.tokenUrl, {
      method: "POST",
      body: "grant_type=password&username=ci&password=pat&service=registry.docker.io&scope=repository:myorg/app:pull",
    });
    const token = String(JSON.parse(reply.body.toString()).access_token);
    expect((await ask(hub, "/v2/myorg/app/manifests/1", token)).status).toBe(200);
  });

  test("a token is issued for an absent or private repository too; the registry then says insufficient_scope", async () => {
    const hub = await hubWithImage({ accounts: [{ username: "ci", password: "pat" }] });
    hub.add("myorg/app", image, ["1"], "private");
    for (const repository of ["x/absent", "myorg/app"]) {
      const reply = await ask(hub, `/v2/${repository}/manifests/1`, await tokenFor(hub, repository));
      expect(reply.status).toBe(401);
      expect(reply.headers["www-authenticate"]).toContain(
        `scope="repository:${repository}:pull",error="insufficient_scope"`,
      );
    }
    const token = await tokenFor(hub, "myorg/app", "ci:pat");
    expect((await ask(hub, "/v2/myorg/app/manifests/1", token)).status).toBe(200);
  });

  test("a token is good for its repository only, and for expires_in only", async () => {
    const hub = await hubWithImage();
    hub.add("library/alpine", smallImage("alpine"), ["3"]);
    const token = await tokenFor(hub);
    const other = await ask(hub, "/v2/library/alpine/manifests/3", token);
    expect(other.headers["www-authenticate"]).toContain('error="insufficient_scope"');
    nowMs += 301_000;
    const late = await ask(hub, "/v2/library/nginx/manifests/1.27", token);
    expect(late.status).toBe(401);
    expect(late.headers["www-authenticate"]).toContain('error="invalid_token"');
  });

  test("_catalog: 401 always; referrers: 404", async () => {
    const hub = await hubWithImage();
    const token = await tokenFor(hub);
    expect((await ask(hub, "/v2/_catalog", token)).status).toBe(401);
    expect((await ask(hub, `/v2/library/nginx/referrers/${image.root.digest}`, token)).status).toBe(404);
  });
});

describe("manifests", () => {
  test("content-type, docker-content-digest, quoted etag; HEAD has the length and no body", async () => {
    const hub = await hubWithImage();
    const token = await tokenFor(hub);
    for (const reference of ["1.27", image.root.digest]) {
      const got = await ask(hub, `/v2/library/nginx/manifests/${reference}`, token);
      expect(got.status).toBe(200);
      expect(got.body).toEqual(Buffer.from(image.root.bytes));
      expect(got.headers["content-type"]).toBe(image.root.mediaType);
      expect(got.headers["docker-content-digest"]).toBe(image.root.digest);
      expect(got.headers.etag).toBe(`"${image.root.digest}"`);
      expect(got.headers["docker-distribution-api-version"]).toBe("registry/2.0");
      const head = await ask(hub, `/v2/library/nginx/manifests/${reference}`, token, {}, "HEAD");
      expect(head.headers["content-length"]).toBe(String(image.root.bytes.length));
      expect(head.body).toHaveLength(0);
    }
  });

  test("missing tag in a readable repo: 404 MANIFEST_UNKNOWN; a type that Accept lacks too", async () => {
    const hub = await hubWithImage();
    hub.add("library/nginx", multiArchImage("hub multi"), ["multi"]);
    hub.add("library/nginx", dockerImage("hub docker"), ["docker"]);
    const token = await tokenFor(hub);
    const absent = await ask(hub, "/v2/library/nginx/manifests/none", token);
    expect([absent.status, JSON.parse(absent.body.toString()).errors[0].code]).toEqual([404, "MANIFEST_UNKNOWN"]);
    const accept = "application/vnd.docker.distribution.manifest.v2+json";
    expect((await ask(hub, "/v2/library/nginx/manifests/multi", token, { accept })).status).toBe(404);
    expect((await ask(hub, "/v2/library/nginx/manifests/docker", token, { accept })).status).toBe(200);
  });

  test("tags/list whole when n is absent, in pages with a relative Link when not", async () => {
    const hub = await hubWithImage();
    hub.add("library/nginx", image, ["1.28", "1.29"]);
    const token = await tokenFor(hub);
    const whole = await ask(hub, "/v2/library/nginx/tags/list", token);
    expect(JSON.parse(whole.body.toString())).toEqual({ name: "library/nginx", tags: ["1.27", "1.28", "1.29"] });
    const first = await ask(hub, "/v2/library/nginx/tags/list?n=2", token);
    expect(first.headers.link).toBe('</v2/library/nginx/tags/list?last=1.28&n=2>; rel="next"');
    const rest = await ask(hub, "/v2/library/nginx/tags/list?last=1.28&n=2", token);
    expect(JSON.parse(rest.body.toString()).tags).toEqual(["1.29"]);
    expect(rest.headers.link).toBeUndefined();
  });
});

describe("rate limits", () => {
  test('"probe without cost: HEAD /v2/ratelimitpreview/test/manifests/latest with a token for that repo"', async () => {
    const hub = await hubWithImage();
    hub.quota = { limit: 100, windowS: 21_600, remaining: 42 };
    const token = await tokenFor(hub, "ratelimitpreview/test");
    const probe = await ask(hub, "/v2/ratelimitpreview/test/manifests/latest", token, {}, "HEAD");
    expect([probe.status, probe.headers["ratelimit-remaining"]]).toEqual([200, "42;w=21600"]);
  });

  test("two accounts with a quota of their own each; whoever has none counts as everybody", async () => {
    const accounts = ["a", "b", "c"].map((username) => ({ username, password: "pat" }));
    const hub = await hubWithImage({ accounts });
    hub.quota = { limit: 100, windowS: 21_600, remaining: 10 };
    hub.quotas.set("a", { limit: 200, windowS: 21_600, remaining: 0 });
    hub.quotas.set("b", { limit: 200, windowS: 21_600, remaining: 5 });
    const seen = [];
    for (const { username } of accounts) {
      const token = await tokenFor(hub, "library/nginx", `${username}:pat`);
      const reply = await ask(hub, "/v2/library/nginx/manifests/1.27", token);
      seen.push([reply.status, reply.headers["ratelimit-remaining"]]);
    }
    expect(seen).toEqual([
      [429, undefined],
      [200, "4;w=21600"],
      [200, "9;w=21600"],
    ]);
  });

  test("ratelimit-limit and -remaining with ;w=; GET lowers it, HEAD does not; absent = unlimited", async () => {
    const hub = await hubWithImage();
    const token = await tokenFor(hub);
    const path = "/v2/library/nginx/manifests/1.27";
    expect((await ask(hub, path, token)).headers["ratelimit-limit"]).toBeUndefined();
    hub.quota = { limit: 100, windowS: 21_600, remaining: 77 };
    expect((await ask(hub, path, token)).headers["ratelimit-remaining"]).toBe("76;w=21600");
    const head = await ask(hub, path, token, {}, "HEAD");
    expect(head.headers["ratelimit-limit"]).toBe("100;w=21600");
    expect(head.headers["ratelimit-remaining"]).toBe("76;w=21600");
  });

  test("pull limit: 429 JSON TOOMANYREQUESTS for manifest GETs, while blobs and HEADs go on", async () => {
    const hub = await hubWithImage();
    const token = await tokenFor(hub);
    hub.quota = { limit: 100, windowS: 21_600, remaining: 0 };
    hub.retryAfterS = 120;
    const refused = await ask(hub, "/v2/library/nginx/manifests/1.27", token);
    expect(refused.status).toBe(429);
    expect(refused.headers["retry-after"]).toBe("120");
    expect(JSON.parse(refused.body.toString()).errors[0]).toEqual({
      code: "TOOMANYREQUESTS",
      message:
        "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
    });
    expect((await ask(hub, "/v2/library/nginx/manifests/1.27", token, {}, "HEAD")).status).toBe(200);
    expect((await ask(hub, `/v2/library/nginx/blobs/${blob.digest}`, token)).status).toBe(307);
  });

  test("abuse limit: every request incl. HEAD, 429 with a non-JSON body", async () => {
    const hub = await hubWithImage();
    const token = await tokenFor(hub);
    hub.abuse = true;
    const refused = await ask(hub, "/v2/library/nginx/manifests/1.27", token);
    expect([refused.status, refused.body.toString()]).toEqual([429, "Too Many Requests"]);
    expect((await ask(hub, "/v2/library/nginx/manifests/1.27", token, {}, "HEAD")).status).toBe(429);
  });
});

describe("blobs", () => {
  test("307 to the CDN on another host, signed, absolute; Range works", async () => {
    const hub = await hubWithImage();
    const url = await signedUrl(hub);
    expect(new URL(url).origin).toBe(hub.urlOf("cdn"));
    expect((await httpRequest(url)).body).toEqual(Buffer.from(blob.bytes));
    const part = await httpRequest(url, { headers: { range: "bytes=10-19" } });
    expect([part.status, part.headers["content-range"]]).toEqual([206, `bytes 10-19/${blob.bytes.length}`]);
    expect(part.body).toEqual(Buffer.from(blob.bytes.subarray(10, 20)));
    const rest = await httpRequest(url, { headers: { range: "bytes=10-" } });
    expect(rest.body).toEqual(Buffer.from(blob.bytes.subarray(10)));
    const beyond = await httpRequest(url, { headers: { range: `bytes=${blob.bytes.length}-` } });
    expect([beyond.status, beyond.headers["content-range"]]).toEqual([416, `bytes */${blob.bytes.length}`]);
  });

  test("the CDN: 400 when Authorization comes along, 403 for HEAD, a changed signature and after expiry", async () => {
    const hub = await hubWithImage();
    const url = await signedUrl(hub);
    // What follows brings credentials to the blob store on purpose.
    recorder.ignore(hub);
    expect((await httpRequest(url, { headers: { authorization: "Bearer x" } })).status).toBe(400);
    expect((await httpRequest(url, { method: "HEAD" })).status).toBe(403);
    expect((await httpRequest(`${url}x`)).status).toBe(403);
    nowMs += 61_000;
    expect((await httpRequest(url)).status).toBe(403);
  });
});

describe("faults", () => {
  test("cut after so many bytes, on the n-th request only", async () => {
    const hub = await hubWithImage();
    hub.fail({ role: "cdn", nth: [1], effect: { kind: "cut", afterBytes: 50 } });
    const url = await signedUrl(hub);
    await expect(httpRequest(url)).rejects.toThrow();
    expect((await httpRequest(url)).body).toEqual(Buffer.from(blob.bytes));
    expect(hub.ledger.filter((entry) => entry.role === "cdn").map((entry) => entry.bytes)).toEqual([
      50,
      blob.bytes.length,
    ]);
  });

  test("cut instead of an answer, until the fault is taken away", async () => {
    const hub = await hubWithImage();
    const heal = hub.fail({ role: "registry", effect: { kind: "cut", afterBytes: 0 } });
    await expect(ask(hub, "/v2/")).rejects.toThrow();
    heal();
    expect((await ask(hub, "/v2/")).status).toBe(401);
  });

  test("a wrong byte at a position of the blob, also within a range", async () => {
    const hub = await hubWithImage();
    hub.fail({ role: "cdn", effect: { kind: "wrong-byte", at: 15 } });
    const url = await signedUrl(hub);
    const expected = Buffer.from(blob.bytes);
    expected[15] = (expected[15] ?? 0) ^ 0xff;
    expect((await httpRequest(url)).body).toEqual(expected);
    const part = await httpRequest(url, { headers: { range: "bytes=10-19" } });
    expect(part.body).toEqual(expected.subarray(10, 20));
  });

  test("a status with headers and body, for one method and path", async () => {
    const hub = await hubWithImage();
    hub.fail({
      role: "registry",
      method: "HEAD",
      path: /manifests/,
      effect: { kind: "status", status: 503, headers: { "retry-after": "7" }, body: "busy" },
    });
    const token = await tokenFor(hub);
    const head = await ask(hub, "/v2/library/nginx/manifests/1.27", token, {}, "HEAD");
    expect([head.status, head.headers["retry-after"]]).toEqual([503, "7"]);
    expect((await ask(hub, "/v2/library/nginx/manifests/1.27", token)).status).toBe(200);
  });

  test("a stall keeps the connection; closing the double ends it", async () => {
    const hub = await hubWithImage();
    hub.fail({ role: "cdn", effect: { kind: "stall", afterBytes: 50 } });
    const stalled = httpRequest(await signedUrl(hub));
    const ended = expect(stalled).rejects.toThrow();
    await hub.close();
    await ended;
  });

  test("a throttled body is whole in the end", async () => {
    const hub = await hubWithImage();
    hub.fail({ role: "cdn", effect: { kind: "throttle", bytesPerSecond: blob.bytes.length * 10 } });
    expect((await httpRequest(await signedUrl(hub))).body).toEqual(Buffer.from(blob.bytes));
  });
});

test("an answer that is held comes when it is let go; until then the request counts as open", async () => {
  const hub = await hubWithImage();
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = hub.fail({ role: "registry", effect: { kind: "hold", until: promise } });
  const asking = ask(hub, "/v2/library/nginx/manifests/1.27");
  await until("the request to arrive", () => hub.ledger.length === 1);
  expect(hub.ledger.map(({ status, open }) => ({ status, open }))).toEqual([{ status: 0, open: true }]);
  end();
  resolve();
  expect((await asking).status).toBe(401);
  await until("the request to be over", () => hub.ledger[0]?.open === false);
});

test("closed, it refuses connections; listening again, it is where it was, and has what it had", async () => {
  const hub = await hubWithImage();
  const { url } = hub;
  await hub.close();
  await expect(ask(hub, "/v2/")).rejects.toMatchObject({ code: "ECONNREFUSED" });
  await hub.listen();
  expect(hub.url).toBe(url);
  expect((await ask(hub, "/v2/library/nginx/manifests/1.27", await tokenFor(hub))).status).toBe(200);
  hub.removeRepository("library/nginx");
  expect((await ask(hub, "/v2/library/nginx/manifests/1.27", await tokenFor(hub))).status).toBe(401);
});

test("the ledger tells role, method, path, authorization, status and bytes of every request", async () => {
  const hub = await hubWithImage();
  await ask(hub, "/v2/library/nginx/manifests/1.27");
  const token = await tokenFor(hub);
  await ask(hub, "/v2/library/nginx/manifests/1.27", token);
  await httpRequest(await signedUrl(hub));
  const hex = blob.digest.slice("sha256:".length);
  expect(hub.lines()).toEqual([
    "registry GET /v2/library/nginx/manifests/1.27 none 401",
    "token GET /token none 200",
    "registry GET /v2/library/nginx/manifests/1.27 bearer 200",
    "token GET /token none 200",
    `registry GET /v2/library/nginx/blobs/${blob.digest} bearer 307`,
    `cdn GET /registry-v2/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data none 200`,
  ]);
  expect(hub.bytes("cdn")).toBe(blob.bytes.length);
  expect(hub.count({ role: "registry", status: 401 })).toBe(1);
  expect(hub.count({ path: /^\/token$/, authorization: "none" })).toBe(2);
});

toolTest(["openssl"], "https with an authority of one's own, on all three hosts", async () => {
  const authority = await createAuthority(stack);
  const hub = await hubWithImage({ tls: await authority.issue(["127.0.0.1", "127.0.0.2", "127.0.0.3"]) });
  const ca = await readFile(authority.caFile);
  for (const url of [`${hub.url}/v2/`, hub.tokenUrl, hub.urlOf("cdn")]) {
    const request = get(url, { ca });
    const [response] = (await once(request, "response")) as [IncomingMessage];
    response.resume();
    expect(url).toMatch(/^https:/);
  }
  expect(hub.lines()).toEqual(["registry GET /v2/ none 401", "token GET /token none 400", "cdn GET / none 403"]);
});
