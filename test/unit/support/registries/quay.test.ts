import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { artifact, multiArchImage, smallImage } from "../../../support/images.ts";
import { type QuayDouble, startQuayDouble } from "../../../support/registries/quay.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, nextOf, pull, tagsOf, tokenFor } from "./client.ts";

// upstreams.md section 4 "quay.io (and self-hosted Quay)"; the titles quote its rows.
const image = smallImage("quay");
const multi = multiArchImage("quay multi");
const blob = image.blobs[1] ?? image.root;
const LOGIN = "ns+robot:secret";

let stack: AsyncDisposableStack;
let quay: QuayDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  quay = await startQuayDouble(stack, { accounts: [{ username: "ns+robot", password: "secret" }] });
  quay.add("coreos/etcd", image, ["v3"]);
  quay.add("coreos/etcd", multi, ["multi"]);
  quay.add("ns/private", image, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

describe("Challenge and Token", () => {
  test('"/v2/ without token: 401, body `true`"; "also present on a 200 of /v2/"; repo routes add the scope', async () => {
    const ping = await ask(quay, "/v2/");
    expect([ping.status, ping.text, challengeOf(ping)]).toEqual([
      401,
      "true",
      { realm: `${quay.url}/v2/auth`, service: "quay.io" },
    ]);
    const token = await tokenFor(quay, "/v2/coreos/etcd/manifests/v3");
    const good = await ask(quay, "/v2/", { token });
    expect([good.status, challengeOf(good).realm]).toEqual([200, `${quay.url}/v2/auth`]);
    expect(challengeOf(await ask(quay, "/v2/coreos/etcd/manifests/v3")).scope).toBe("repository:coreos/etcd:pull");
  });

  test('"Body is only {token} — no expires_in; the JWT is valid 1 h (read exp)"', async () => {
    const reply = await askRealm(quay, await ask(quay, "/v2/coreos/etcd/manifests/v3"));
    const body = JSON.parse(reply.text);
    expect(Object.keys(body)).toEqual(["token"]);
    const { iat, exp } = JSON.parse(Buffer.from(body.token.split(".")[1], "base64url").toString());
    expect(exp - iat).toBe(3600);
  });

  test('"no scope and no credentials → 401. Bad credentials → 401; malformed scope → 400 INVALID_REQUEST. No POST"', async () => {
    const realm = quay.tokenUrl;
    const scope = "scope=repository:coreos/etcd:pull";
    expect((await ask(quay, `${realm}?service=quay.io`)).status).toBe(401);
    const wrong = await ask(quay, `${realm}?service=quay.io&${scope}`, { login: "ns+robot:no" });
    expect([wrong.status, codeOf(wrong)]).toEqual([401, "UNAUTHORIZED"]);
    const odd = await ask(quay, `${realm}?service=quay.io&scope=nonsense`);
    expect([odd.status, codeOf(odd)]).toEqual([400, "INVALID_REQUEST"]);
    expect((await ask(quay, realm, { method: "POST", body: "grant_type=password" })).status).toBe(405);
  });

  test('"Token is issued with fewer actions than asked when denied"; "Missing or private repo: 401 UNAUTHORIZED"', async () => {
    for (const path of ["/v2/ns/private/manifests/1", "/v2/ns/absent/manifests/1"]) {
      const reply = await pull(quay, path);
      expect([reply.status, codeOf(reply)]).toEqual([401, "UNAUTHORIZED"]);
    }
    expect((await pull(quay, "/v2/ns/private/manifests/1", { login: LOGIN })).status).toBe(200);
  });
});

describe("Errors", () => {
  test('"Missing tag 404 MANIFEST_UNKNOWN; deleted/expired tag 404 TAG_EXPIRED"', async () => {
    quay.add("coreos/etcd", image, ["old"]);
    quay.removeTag("coreos/etcd", "old");
    expect(codeOf(await pull(quay, "/v2/coreos/etcd/manifests/none"))).toBe("MANIFEST_UNKNOWN");
    const expired = await pull(quay, "/v2/coreos/etcd/manifests/old");
    expect([expired.status, codeOf(expired)]).toEqual([404, "TAG_EXPIRED"]);
  });

  test('"authorised but gone repo 404 NAME_UNKNOWN; disabled namespace 405 DENIED"', async () => {
    quay.add("coreos/gone", image, ["1"]);
    const token = await tokenFor(quay, "/v2/coreos/gone/manifests/1");
    quay.removeRepository("coreos/gone");
    const gone = await ask(quay, "/v2/coreos/gone/manifests/1", { token });
    expect([gone.status, codeOf(gone)]).toEqual([404, "NAME_UNKNOWN"]);
    quay.disabled.add("coreos");
    const off = await pull(quay, "/v2/coreos/etcd/manifests/v3");
    expect([off.status, codeOf(off)]).toEqual([405, "DENIED"]);
  });
});

describe("Manifests and blobs", () => {
  test('"By tag: if the stored type is not in Accept, quay may convert ⇒ digest differs. By digest: Accept ignored. No ETag. DCD always"', async () => {
    const accept = "application/vnd.oci.image.manifest.v1+json";
    const child = await pull(quay, "/v2/coreos/etcd/manifests/multi", { headers: { accept } });
    expect(child.headers["docker-content-digest"]).toBe(multi.manifests[0]?.digest);
    const old = await pull(quay, "/v2/coreos/etcd/manifests/v3", { headers: { accept: "*/*" } });
    expect(old.headers["content-type"]).toContain("manifest.v1+prettyjws");
    expect(old.headers["docker-content-digest"]).not.toBe(image.root.digest);
    const digest = await pull(quay, `/v2/coreos/etcd/manifests/${multi.root.digest}`, { headers: { accept: "*/*" } });
    expect(digest.headers["docker-content-digest"]).toBe(multi.root.digest);
    expect(digest.headers.etag).toBeUndefined();
  });

  test('"HEAD 200 with Content-Length. GET 302; the redirect itself carries Cache-Control: max-age=31536000"', async () => {
    const path = `/v2/coreos/etcd/blobs/${blob.digest}`;
    const head = await pull(quay, path, { method: "HEAD" });
    expect([head.status, head.headers["content-length"]]).toEqual([200, String(blob.bytes.length)]);
    const got = await pull(quay, path);
    expect([got.status, got.headers["cache-control"]]).toEqual([302, "max-age=31536000"]);
    const bytes = await ask(quay, got.headers.location ?? "", { headers: { range: "bytes=10-19" } });
    expect([bytes.status, bytes.body]).toEqual([206, Buffer.from(blob.bytes.subarray(10, 20))]);
    quay.expireSignatures();
    expect((await ask(quay, got.headers.location ?? "")).status).toBe(403);
  });
});

describe("Lists and limits", () => {
  test('"Page size max 100 (larger n is clamped; n=0 → empty). Link path-relative"', async () => {
    quay.add("coreos/many", image, manyTags(250));
    const first = await pull(quay, "/v2/coreos/many/tags/list?n=5000");
    expect(tagsOf(first)).toHaveLength(100);
    expect(first.headers.link).toBe('</v2/coreos/many/tags/list?n=100&last=t0099>; rel="next"');
    const none = await pull(quay, "/v2/coreos/many/tags/list?n=0");
    expect([tagsOf(none), none.headers.link]).toEqual([[], undefined]);
  });

  test('"Older Quay: absolute URL with opaque next_page= token and 50/page; last had no effect"', async () => {
    const old = await startQuayDouble(stack, { oldPaging: true });
    old.add("coreos/many", image, manyTags(60));
    const first = await pull(old, "/v2/coreos/many/tags/list?last=t0030");
    expect([tagsOf(first).length, tagsOf(first)[0]]).toEqual([50, "t0000"]);
    const next = nextOf(first) ?? "";
    expect(next).toMatch(new RegExp(`^${old.url}/v2/coreos/many/tags/list\\?next_page=`));
    expect(tagsOf(await pull(old, next.slice(old.url.length)))).toEqual(manyTags(60).slice(50));
  });

  test('Referrers: "OCI-Filters-Applied: artifactType; unknown subject digest → 400 MANIFEST_INVALID"', async () => {
    const report = artifact("report", image.root);
    quay.add("coreos/etcd", report, []);
    const type = "application/vnd.weir.test.report.v1";
    const list = await pull(quay, `/v2/coreos/etcd/referrers/${image.root.digest}?artifactType=${type}`);
    expect(list.headers["oci-filters-applied"]).toBe("artifactType");
    expect(JSON.parse(list.text).manifests).toMatchObject([{ digest: report.root.digest, artifactType: type }]);
    const unknown = await pull(quay, `/v2/coreos/etcd/referrers/${smallImage("other").root.digest}`);
    expect([unknown.status, codeOf(unknown)]).toEqual([400, "MANIFEST_INVALID"]);
  });

  test('Limits: "429 with an nginx HTML body and no Retry-After"; _catalog: "anonymous gets an empty list"', async () => {
    expect(JSON.parse((await ask(quay, "/v2/_catalog")).text)).toEqual({ repositories: [] });
    quay.throttled = true;
    const reply = await ask(quay, "/v2/coreos/etcd/manifests/v3");
    expect([reply.status, reply.headers["content-type"], reply.headers["retry-after"]]).toEqual([
      429,
      "text/html",
      undefined,
    ]);
  });
});
