import { describe, expect, test } from "vitest";
import { cacheInfoOf, type ErrorContext, errorAnswer, toOciError } from "../../../src/http/errors.ts";
import { createRouteTable, type RoutedCall, routeRequest } from "../../../src/http/route.ts";
import { OciError } from "../../../src/oci/errors.ts";
import { FillStoppedError } from "../../../src/proxy/fill-errors.ts";
import { RememberedAbsenceError } from "../../../src/proxy/remembered.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";
import { UpstreamError, type UpstreamErrorOptions, type UpstreamFault } from "../../../src/upstream/upstream.ts";

const HEX = "a".repeat(64);
const TABLE = createRouteTable(
  { default: "docker.io", hosts: new Map(), dynamic: { allow: [] } },
  [{ name: "docker.io", type: "dockerhub", aliases: [] }],
  normaliseRepository,
);

const call = (target: string): RoutedCall => routeRequest({ method: "GET", target, host: undefined }, TABLE);

const CALLS = {
  tag: call("/v2/library/nginx/manifests/1.27"),
  digest: call(`/v2/library/nginx/manifests/sha256:${HEX}`),
  blob: call(`/v2/library/nginx/blobs/sha256:${HEX}`),
  tags: call("/v2/library/nginx/tags/list"),
  referrers: call(`/v2/library/nginx/referrers/sha256:${HEX}`),
  nsTag: call("/v2/library/nginx/manifests/1.27?ns=docker.io"),
  nsBlob: call(`/v2/library/nginx/blobs/sha256:${HEX}?ns=docker.io`),
} as const;

function context(name: keyof typeof CALLS | undefined, budgetStatus: 429 | 503 = 503): ErrorContext {
  return { call: name === undefined ? undefined : CALLS[name], budgetStatusOf: () => budgetStatus };
}

function upstreamError(fault: UpstreamFault, options?: UpstreamErrorOptions): UpstreamError {
  return new UpstreamError("docker.io", fault, "docker.io: said this", options);
}

const UNCLEAR = "is unknown to docker.io, or denied by it, which does not say which";

describe("toOciError: what is not there", () => {
  test.each<[string, keyof typeof CALLS, UpstreamError, string, string]>([
    ["tag", "tag", upstreamError("absent"), "MANIFEST_UNKNOWN", "docker.io/library/nginx:1.27 is unknown to docker.io"],
    [
      "manifest",
      "digest",
      upstreamError("absent", { absent: "manifest" }),
      "MANIFEST_UNKNOWN",
      `docker.io/library/nginx@sha256:${HEX} is unknown to docker.io`,
    ],
    [
      "blob",
      "blob",
      upstreamError("absent"),
      "BLOB_UNKNOWN",
      `docker.io/library/nginx@sha256:${HEX} is unknown to docker.io`,
    ],
    [
      "repository, asked for a tag",
      "tag",
      upstreamError("absent", { absent: "repository" }),
      "NAME_UNKNOWN",
      "docker.io/library/nginx is unknown to docker.io",
    ],
    ["tags", "tags", upstreamError("absent"), "NAME_UNKNOWN", "docker.io/library/nginx is unknown to docker.io"],
    [
      "referrers",
      "referrers",
      upstreamError("absent", { absent: "repository" }),
      "UNSUPPORTED",
      `docker.io lists no referrers of docker.io/library/nginx@sha256:${HEX}; they may stand under the referrers tag`,
    ],
    ["denied tag", "tag", upstreamError("denied"), "NAME_UNKNOWN", `docker.io/library/nginx:1.27 ${UNCLEAR}`],
    ["denied tags", "tags", upstreamError("denied"), "NAME_UNKNOWN", `docker.io/library/nginx ${UNCLEAR}`],
    [
      "denied referrers",
      "referrers",
      upstreamError("denied"),
      "UNSUPPORTED",
      `docker.io/library/nginx@sha256:${HEX} ${UNCLEAR}`,
    ],
  ])("%s", (_, asked, err, code, message) => {
    expect(toOciError(err, context(asked))).toMatchObject({ status: 404, code, message, cause: err });
  });
});

describe("toOciError: trouble upstream", () => {
  test.each<[UpstreamFault, number]>([
    ["connect", 502],
    ["tls", 502],
    ["status", 502],
    ["bad-answer", 502],
    ["refused", 502],
    ["timeout", 504],
  ])("%s is %i with the upstream and the reason", (fault, status) => {
    expect(toOciError(upstreamError(fault), context("tag"))).toMatchObject({
      status,
      code: "UNAVAILABLE",
      message: "Weir could not get this from its upstream: docker.io: said this",
      detail: { upstream: "docker.io", reason: fault },
      headers: {},
    });
  });

  test("an upstream's status and its wish to be left alone are passed on", () => {
    const told = toOciError(upstreamError("status", { status: 503, retryAfterMs: 2001 }), context("blob"));
    expect(told).toMatchObject({
      status: 502,
      detail: { upstream: "docker.io", reason: "status", status: 503 },
      headers: { "retry-after": "3" },
    });
  });

  test("a refused credential is named by its label", () => {
    expect(toOciError(upstreamError("credential", { status: 401, credential: "ci" }), context("tag"))).toMatchObject({
      status: 502,
      code: "UNAVAILABLE",
      message: "docker.io refuses the credential that Weir is configured with (ci)",
      detail: { upstream: "docker.io", reason: "credential", status: 401, credential: "ci" },
    });
  });

  test.each<[keyof typeof CALLS | undefined, 429 | 503, number]>([
    ["tag", 503, 429],
    ["tags", 503, 429],
    ["nsTag", 503, 503],
    ["nsTag", 429, 429],
    ["blob", 429, 503],
    ["nsBlob", 429, 503],
    [undefined, 503, 429],
  ])("a spent quota, asked for %s with budgetStatus %i, is %i", (asked, budgetStatus, status) => {
    expect(
      toOciError(upstreamError("quota", { status: 429, retryAfterMs: 30_000 }), context(asked, budgetStatus)),
    ).toMatchObject({
      status,
      code: "TOOMANYREQUESTS",
      message: "the pull quota at docker.io is spent",
      detail: { upstream: "docker.io", reason: "quota", status: 429 },
      headers: { "retry-after": "30" },
    });
  });

  test("a spent quota always has a Retry-After", () => {
    expect(toOciError(upstreamError("quota"), context("tag")).headers).toEqual({ "retry-after": "60" });
    expect(toOciError(upstreamError("quota", { retryAfterMs: 0 }), context("tag")).headers).toEqual({
      "retry-after": "1",
    });
  });
});

describe("toOciError: Weir's own", () => {
  test("an OciError is passed as it is", () => {
    const err = new OciError("TAG_INVALID", "no tag");
    expect(toOciError(err, context(undefined))).toBe(err);
  });

  test.each([
    ["no-space", 503, "UNAVAILABLE", "Weir's storage is full"],
    ["unavailable", 503, "UNAVAILABLE", "Weir's storage cannot be reached"],
    ["corrupt", 500, "UNKNOWN", "what Weir holds of this is damaged"],
  ] as const)("storage %s is %i %s, without paths", (fault, status, code, message) => {
    expect(toOciError(new StorageError(fault, "/srv/data/x"), context("blob"))).toMatchObject({
      status,
      code,
      message,
      detail: { reason: fault },
    });
  });

  test("a download that Weir ended itself is a 503 that invites another try", () => {
    expect(toOciError(new FillStoppedError("Weir is stopping"), context("blob"))).toMatchObject({
      status: 503,
      code: "UNAVAILABLE",
      message: "Weir has ended this download: Weir is stopping; try again",
    });
  });

  test.each([[new Error("secret")], [new TypeError("secret")], ["secret"], [undefined]])(
    "%s is a 500 that gives nothing away",
    (err) => {
      const told = toOciError(err, context("tag"));
      expect(told).toMatchObject({ status: 500, code: "UNKNOWN" });
      expect(JSON.stringify([told.message, told.detail])).not.toContain("secret");
    },
  );
});

describe("errorAnswer", () => {
  test("is the envelope, with the error's own headers", () => {
    const answer = errorAnswer(
      new OciError("DENIED", "no", { detail: { key: "access.rules[0]" }, headers: { "retry-after": "1" } }),
    );
    const body = '{"errors":[{"code":"DENIED","message":"no","detail":{"key":"access.rules[0]"}}]}';
    expect(answer).toEqual({
      status: 403,
      headers: { "Content-Type": "application/json", "Content-Length": String(body.length), "retry-after": "1" },
      cache: { outcome: "none" },
      body: Buffer.from(body),
    });
  });
});

describe("cacheInfoOf", () => {
  test.each([
    [upstreamError("status", { status: 503 }), { outcome: "miss", fwdStatus: 503 }],
    [upstreamError("timeout"), { outcome: "miss", detail: "timeout" }],
    [upstreamError("status", { status: 503, breakerOpen: true }), { outcome: "miss", detail: "breaker-open" }],
    [new RememberedAbsenceError("docker.io", "absent", "gone", { status: 404 }), { outcome: "negative" }],
    [new OciError("NAME_INVALID", "x"), { outcome: "none" }],
    [new Error("x"), { outcome: "none" }],
  ])("%s", (err, info) => {
    expect(cacheInfoOf(err)).toEqual(info);
  });
});
