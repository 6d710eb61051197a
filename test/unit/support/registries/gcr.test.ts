import { afterEach, beforeEach, expect, test } from "vitest";
import { artifact, multiArchImage, smallImage } from "../../../support/images.ts";
import { recorder } from "../../../support/recorder/recorder.ts";
import { type GcrDouble, startGcrDouble } from "../../../support/registries/gcr.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, pull, tagsOf } from "./client.ts";

// upstreams.md section 5 "gcr.io and Artifact Registry"; the titles quote its rows.
const image = smallImage("gcr");
const multi = multiArchImage("gcr multi");
const blob = image.blobs[1] ?? image.root;
const KEY = '{\n  "type": "service_account"\n}\n';
const LOGIN = `_json_key:${KEY}`;

let stack: AsyncDisposableStack;
let gar: GcrDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const accounts = [
    { username: "_json_key", password: KEY },
    { username: "oauth2accesstoken", password: "ya29.other", repositories: [] },
  ];
  gar = await startGcrDouble(stack, { artifactRegistry: true, accounts });
  gar.add("p/r/i", image, ["1"]);
  gar.add("p/r/i", multi, ["multi"]);
  gar.add("p/r/secret", image, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

test('Challenge: "realm https://<host>/v2/token, service <host>"', async () => {
  expect(challengeOf(await ask(gar, "/v2/p/r/i/manifests/1"))).toEqual({
    realm: `${gar.url}/v2/token`,
    service: "europe-docker.pkg.dev",
    scope: "repository:p/r/i:pull",
  });
});

test('Token: "GET only; POST 404"; "Anonymous for private/nonexistent: 403 DENIED" with the permission that is missing', async () => {
  expect((await ask(gar, gar.tokenUrl, { method: "POST", body: "grant_type=password" })).status).toBe(404);
  for (const repository of ["p/r/secret", "p/r/absent"]) {
    const reply = await askRealm(gar, await ask(gar, `/v2/${repository}/manifests/1`));
    expect([reply.status, codeOf(reply)]).toEqual([403, "DENIED"]);
    expect(reply.text).toContain("artifactregistry.repositories.downloadArtifacts");
    expect(reply.text).toContain("(or it may not exist)");
  }
});

test('Credentials: "_json_key + raw service-account key JSON (multi-line!)", "sent directly or exchanged at the realm"', async () => {
  expect((await pull(gar, "/v2/p/r/secret/manifests/1", { login: LOGIN })).status).toBe(200);
  expect((await ask(gar, "/v2/p/r/secret/manifests/1", { login: LOGIN })).status).toBe(200);
  const other = await ask(gar, "/v2/p/r/secret/manifests/1", { login: "oauth2accesstoken:ya29.other" });
  expect([other.status, codeOf(other)]).toEqual([403, "DENIED"]);
});

test('Missing: "authenticated, missing repo 404 NAME_UNKNOWN; missing image/tag 404 MANIFEST_UNKNOWN (Failed to fetch)"', async () => {
  const repository = await pull(gar, "/v2/p/r/absent/manifests/1", { login: LOGIN });
  expect([repository.status, codeOf(repository)]).toEqual([404, "NAME_UNKNOWN"]);
  const tag = await pull(gar, "/v2/p/r/i/manifests/none");
  expect([tag.status, codeOf(tag)]).toEqual([404, "MANIFEST_UNKNOWN"]);
  expect(tag.text).toContain('Failed to fetch \\"none\\"');
});

test('tags/list: "Google extras child and manifest (numbers as strings)"; "everything in one page"', async () => {
  gar.add("p/r/many", image, manyTags(300));
  const reply = await pull(gar, "/v2/p/r/many/tags/list?n=10000");
  expect(tagsOf(reply)).toHaveLength(300);
  const { child, manifest } = JSON.parse(reply.text);
  expect(child).toEqual([]);
  expect(manifest[image.root.digest]).toMatchObject({ imageSizeBytes: String(image.root.bytes.length) });
});

test('"No Accept: returns the stored manifest/list as is (no schema1 down-conversion)"', async () => {
  const reply = await pull(gar, "/v2/p/r/i/manifests/multi", { headers: { accept: "*/*" } });
  expect(reply.headers["content-type"]).toBe(multi.root.mediaType);
});

test('Blob: "302 with path-relative Location /artifacts-downloads/… on the same host (no auth needed, ~1000 chars)"; Authorization is harmless', async () => {
  const reply = await pull(gar, `/v2/p/r/i/blobs/${blob.digest}`);
  const location = reply.headers.location ?? "";
  expect(reply.status).toBe(302);
  expect(location).toMatch(/^\/artifacts-downloads\/namespaces\/p\/repositories\/r\/downloads\//);
  expect(location.length).toBeGreaterThan(950);
  expect((await ask(gar, location)).body).toEqual(Buffer.from(blob.bytes));
  expect((await ask(gar, location, { token: "whatever" })).status).toBe(200);
  expect(gar.lines("cdn")).toHaveLength(2);
  expect(gar.leaks()).toEqual([]);
});

test('Blob: "Classic: 302 to storage.googleapis.com signed URL"', async () => {
  const gcr = await startGcrDouble(stack);
  gcr.add("p/i", image, ["1"]);
  expect(challengeOf(await ask(gcr, "/v2/p/i/manifests/1")).service).toBe("gcr.io");
  const location = (await pull(gcr, `/v2/p/i/blobs/${blob.digest}`)).headers.location ?? "";
  expect(location.startsWith(gcr.urlOf("cdn"))).toBe(true);
  // What follows brings credentials to the blob store on purpose.
  recorder.ignore(gcr);
  expect((await ask(gcr, location, { token: "leaked" })).status).toBe(400);
  expect(gcr.leaks()).toHaveLength(1);
  expect((await ask(gcr, location)).body).toEqual(Buffer.from(blob.bytes));
});

test('Referrers: "Supported by AR"', async () => {
  const report = artifact("report", image.root);
  gar.add("p/r/i", report, []);
  const list = JSON.parse((await pull(gar, `/v2/p/r/i/referrers/${image.root.digest}`)).text);
  expect(list.manifests).toMatchObject([{ digest: report.root.digest }]);
});

test('Limits: "429 RESOURCE_EXHAUSTED-style text"', async () => {
  gar.throttled = true;
  const reply = await ask(gar, "/v2/p/r/i/manifests/1");
  expect([reply.status, JSON.parse(reply.text).error.status]).toEqual([429, "RESOURCE_EXHAUSTED"]);
});
