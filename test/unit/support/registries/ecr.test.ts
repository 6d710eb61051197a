import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { artifact, smallImage } from "../../../support/images.ts";
import { recorder } from "../../../support/recorder/recorder.ts";
import { type EcrDouble, startEcrDouble } from "../../../support/registries/ecr.ts";
import { type EcrPublicDouble, startEcrPublicDouble } from "../../../support/registries/ecr-public.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, nextOf, pull, tagsOf } from "./client.ts";
import { callAws } from "./sigv4.ts";

// upstreams.md sections 7 "AWS ECR private" and 8 "ECR Public"; the titles quote their rows.
const image = smallImage("ecr");
const blob = image.blobs[1] ?? image.root;
const OWNER = { username: "AKIAOWNER", password: "owner-secret" };
const OTHER = { username: "AKIAOTHER", password: "other-secret", repositories: [] };
const accounts = [OWNER, OTHER];
const TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

let stack: AsyncDisposableStack;
let nowMs: number;

beforeEach(() => {
  stack = new AsyncDisposableStack();
  nowMs = Date.parse("2026-09-01T10:00:00Z");
});

afterEach(() => stack.disposeAsync());

describe("ECR", () => {
  let ecr: EcrDouble;
  let login: string;

  beforeEach(async () => {
    ecr = await startEcrDouble(stack, { accounts, now: () => nowMs });
    ecr.add("app", image, ["1"], "private");
    login = `AWS:${ecr.passwordFor(OWNER)}`;
  });

  const key = { id: OWNER.username, secret: OWNER.password, region: "eu-west-1", service: "ecr" };

  test('Token: "authorizationData[0] = {authorizationToken: base64(AWS:password), expiresAt (≈12 h, epoch s), proxyEndpoint}", SigV4', async () => {
    const { status, json } = await callAws(ecr.apiUrl, TARGET, key);
    expect([status, json]).toEqual([
      200,
      {
        authorizationData: [
          {
            authorizationToken: expect.any(String),
            expiresAt: nowMs / 1000 + 12 * 3600,
            proxyEndpoint: "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com",
          },
        ],
      },
    ]);
    const [data] = json.authorizationData as [{ authorizationToken: string }];
    const authorization = `Basic ${data.authorizationToken}`;
    expect((await ask(ecr, "/v2/app/manifests/1", { headers: { authorization } })).status).toBe(200);
    for (const wrong of [{ secret: "x" }, { id: "AKIANOBODY" }, { region: "us-east-1" }, { service: "ecr-public" }]) {
      expect((await callAws(ecr.apiUrl, TARGET, { ...key, ...wrong })).status).toBe(400);
    }
  });

  test('API throttling: "AWS ThrottlingException"', async () => {
    ecr.throttled = true;
    const { status, json } = await callAws(ecr.apiUrl, TARGET, key);
    expect([status, json.__type]).toEqual([400, "ThrottlingException"]);
  });

  test('Challenge: "401 Basic realm=https://<host>/,service=ecr.amazonaws.com, body text Not Authorized. No Bearer, no anonymous"', async () => {
    const reply = await ask(ecr, "/v2/app/manifests/1");
    expect([reply.status, reply.text.trim(), reply.headers["www-authenticate"]]).toEqual([
      401,
      "Not Authorized",
      `Basic realm="${ecr.url}/",service="ecr.amazonaws.com"`,
    ]);
    expect((await ask(ecr, "/v2/app/manifests/1", { token: "bearer" })).status).toBe(401);
  });

  test('Errors: "No/expired auth 401; expired token also seen as 403", "missing repo 404 NAME_UNKNOWN", "no IAM permission 403 DENIED"', async () => {
    expect(codeOf(await ask(ecr, "/v2/absent/manifests/1", { login }))).toBe("NAME_UNKNOWN");
    const tag = await ask(ecr, "/v2/app/manifests/none", { login });
    expect([tag.status, codeOf(tag)]).toEqual([404, "MANIFEST_UNKNOWN"]);
    expect(tag.text).toContain("Requested image not found");
    expect((await ask(ecr, "/v2/app/manifests/-x", { login })).status).toBe(400);
    const other = await ask(ecr, "/v2/app/manifests/1", { login: `AWS:${ecr.passwordFor(OTHER)}` });
    expect([other.status, codeOf(other)]).toEqual([403, "DENIED"]);
    nowMs += 12 * 3600_000;
    expect((await ask(ecr, "/v2/app/manifests/1", { login })).status).toBe(401);
    const strict = await startEcrDouble(stack, { accounts, now: () => nowMs, expiredStatus: 403 });
    const password = strict.passwordFor(OWNER);
    nowMs += 12 * 3600_000;
    const expired = await ask(strict, "/v2/app/manifests/1", { login: `AWS:${password}` });
    const message = "Your authorization token has expired. Reauthenticate and try again.";
    expect([expired.status, JSON.parse(expired.text)]).toEqual([403, { errors: [{ code: "DENIED", message }] }]);
  });

  test('DCD: "absent on manifest GET, present on HEAD"', async () => {
    const path = "/v2/app/manifests/1";
    expect((await ask(ecr, path, { login })).headers["docker-content-digest"]).toBeUndefined();
    const head = await ask(ecr, path, { login, method: "HEAD" });
    expect(head.headers["docker-content-digest"]).toBe(image.root.digest);
  });

  test('tags/list: "n ≤ 1000; n=1001+ → 405 UNSUPPORTED", "Link relative, last is an opaque token"', async () => {
    ecr.add("many", image, manyTags(5), "private");
    const tooMany = await ask(ecr, "/v2/many/tags/list?n=1001", { login });
    expect([tooMany.status, codeOf(tooMany)]).toEqual([405, "UNSUPPORTED"]);
    expect(tooMany.text).toContain("Member must have value less than or equal to 1000");
    const first = await ask(ecr, "/v2/many/tags/list?n=3", { login });
    const next = nextOf(first) ?? "";
    expect(next).toMatch(/^\/v2\/many\/tags\/list\?last=(?!t000\d&).+&n=3$/);
    expect(tagsOf(await ask(ecr, next, { login }))).toEqual(["t0003", "t0004"]);
  });

  test('Blob: "307 to S3 presigned; no Authorization; Range OK"; S3 says 400 to an Authorization header', async () => {
    const { status, headers } = await ask(ecr, `/v2/app/blobs/${blob.digest}`, { login });
    const location = headers.location ?? "";
    expect([status, location.startsWith(ecr.urlOf("cdn"))]).toEqual([307, true]);
    // What follows brings credentials to the blob store on purpose.
    recorder.ignore(ecr);
    const refused = await ask(ecr, location, { login });
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining("Only one auth mechanism allowed")]);
    const part = await ask(ecr, location, { headers: { range: "bytes=5-" } });
    expect([part.status, part.body]).toEqual([206, Buffer.from(blob.bytes.subarray(5))]);
    nowMs += 60_000;
    expect((await ask(ecr, location)).status).toBe(403);
  });

  test('Referrers: "supported since 2024-06"; throttling: "429 TOOMANYREQUESTS Rate exceeded"', async () => {
    const report = artifact("report", image.root);
    ecr.add("app", report, []);
    const list = await ask(ecr, `/v2/app/referrers/${image.root.digest}`, { login });
    expect(JSON.parse(list.text).manifests).toMatchObject([{ digest: report.root.digest }]);
    const unknown = await ask(ecr, `/v2/app/referrers/${blob.digest}`, { login });
    expect(JSON.parse(unknown.text).manifests).toEqual([]);
    ecr.throttled = true;
    const reply = await ask(ecr, "/v2/app/manifests/1", { login });
    expect([reply.status, codeOf(reply), reply.text]).toEqual([
      429,
      "TOOMANYREQUESTS",
      expect.stringContaining("Rate exceeded"),
    ]);
  });
});

describe("ECR Public", () => {
  let ecr: EcrPublicDouble;

  beforeEach(async () => {
    ecr = await startEcrPublicDouble(stack, { accounts, now: () => nowMs });
    ecr.add("docker/library/nginx", image, ["1"]);
  });

  test('Anonymous token: realm /token/, service public.ecr.aws, "scope aws: not a repository scope" → {token}', async () => {
    const challenged = await ask(ecr, "/v2/docker/library/nginx/manifests/1");
    expect(challengeOf(challenged)).toEqual({ realm: `${ecr.url}/token/`, service: "public.ecr.aws", scope: "aws" });
    const body = JSON.parse((await askRealm(ecr, challenged)).text);
    expect(Object.keys(body)).toEqual(["token"]);
    expect((await ask(ecr, "/v2/docker/library/nginx/manifests/1", { token: body.token })).status).toBe(200);
    const absent = await ask(ecr, "/v2/other/absent/manifests/1", { token: body.token });
    expect([absent.status, codeOf(absent)]).toEqual([404, "NAME_UNKNOWN"]);
  });

  test('Authenticated: "only in us-east-1", "authorizationData is an object, no proxyEndpoint; user AWS"', async () => {
    const key = { id: OWNER.username, secret: OWNER.password, region: "us-east-1", service: "ecr-public" };
    const { json } = await callAws(ecr.apiUrl, "SpencerFrontendService.GetAuthorizationToken", key);
    expect(json).toEqual({
      authorizationData: { authorizationToken: expect.any(String), expiresAt: nowMs / 1000 + 12 * 3600 },
    });
    const login = `AWS:${ecr.passwordFor(OWNER)}`;
    expect((await pull(ecr, "/v2/docker/library/nginx/manifests/1", { login })).status).toBe(200);
    const challenged = await ask(ecr, "/v2/docker/library/nginx/manifests/1");
    expect((await askRealm(ecr, challenged, "AWS:wrong")).status).toBe(401);
  });

  test.each([401, 403] as const)(
    'Blob: "HEAD blob answers 401/403 while GET works" (%i); DCD missing on GET',
    async (status) => {
      const picky = await startEcrPublicDouble(stack, { blobHeadStatus: status });
      picky.add("a/b", image, ["1"]);
      const path = `/v2/a/b/blobs/${blob.digest}`;
      expect((await pull(picky, path, { method: "HEAD" })).status).toBe(status);
      const got = await pull(picky, path);
      expect(got.status).toBe(307);
      expect(got.headers.location).toMatch(new RegExp(`^${picky.urlOf("cdn")}/v2/`));
      expect((await ask(picky, got.headers.location ?? "")).body).toEqual(Buffer.from(blob.bytes));
      expect((await pull(picky, "/v2/a/b/manifests/1")).headers["docker-content-digest"]).toBeUndefined();
    },
  );

  test('Limits: "429 TOOMANYREQUESTS Rate exceeded"; tags/list: "works, n ≤ 1000"', async () => {
    ecr.add("docker/library/nginx", image, manyTags(3));
    const first = await pull(ecr, "/v2/docker/library/nginx/tags/list?n=2");
    expect(tagsOf(first)).toHaveLength(2);
    expect(first.headers.link).toContain("/v2/docker/library/nginx/tags/list?last=");
    expect((await pull(ecr, "/v2/docker/library/nginx/tags/list?n=1001")).status).toBe(405);
    ecr.throttled = true;
    const reply = await ask(ecr, "/v2/docker/library/nginx/manifests/1");
    expect([reply.status, codeOf(reply)]).toEqual([429, "TOOMANYREQUESTS"]);
  });
});
