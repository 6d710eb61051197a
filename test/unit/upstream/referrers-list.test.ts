import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import type { Referrer } from "../../../src/oci/referrers.ts";
import { headerView } from "../../../src/upstream/header-view.ts";
import {
  collectReferrers,
  type ReferrersPage,
  type ReferrersPageRequest,
  referrersMeaning,
} from "../../../src/upstream/referrers-list.ts";

const INDEX = "application/vnd.oci.image.index.v1+json";
const SUBJECT = digestOf(Buffer.from("subject"));

describe("M12 what an answer to a request for referrers means", () => {
  test.each([
    ["a list", 200, INDEX, true, "list"],
    [
      "a list with parameters and capitals",
      200,
      "Application/vnd.oci.image.index.v1+JSON; charset=utf-8",
      true,
      "list",
    ],
    ["a list from where a redirect led", 200, INDEX, false, "list"],
    ["plain JSON", 200, "application/json", true, "unsupported"],
    ["no type", 200, undefined, true, "unsupported"],
    ["a page", 200, "text/html; charset=utf-8", true, "unsupported"],
    ["GHCR: github.com's page", 200, "text/html", false, "unsupported"],
    ["GHCR: github.com has had enough", 429, "text/html", false, "unsupported"],
    ["github.com is down", 503, "text/html", false, "unsupported"],
    ["405", 405, "application/json", true, "unsupported"],
    ["406", 406, undefined, true, "unsupported"],
    ["404", 404, "text/plain", true, "absent"],
    ["Quay: 400 for an unknown digest", 400, "application/json", true, "absent"],
    ["Quay: nginx's 429 in HTML", 429, "text/html", true, "failure"],
    ["a gateway's page", 502, "text/html", true, "failure"],
    ["trouble behind a redirect", 503, "application/json", false, "failure"],
    ["401", 401, "application/json", true, "failure"],
    ["403", 403, "application/json", true, "failure"],
    ["500", 500, undefined, true, "failure"],
    ["304", 304, undefined, true, "failure"],
  ] as const)("%s", (_, status, type, direct, meaning) => {
    const headers = headerView(type === undefined ? {} : { "content-type": type });
    expect(referrersMeaning({ status, headers, direct })).toBe(meaning);
  });
});

describe("collectReferrers", () => {
  const entry = (name: string): Referrer => ({ mediaType: "a/b", digest: digestOf(Buffer.from(name)), size: 1 });

  async function collect(pages: readonly (ReferrersPage | undefined)[]) {
    const asked: ReferrersPageRequest[] = [];
    const list = await collectReferrers("reg.example", SUBJECT, 100, async (page) => {
      asked.push(page);
      return pages[Math.min(asked.length, pages.length) - 1];
    });
    return { list, asked };
  }

  test("goes from page to page, each with what the others left of the limit", async () => {
    const { list, asked } = await collect([
      { referrers: [entry("a")], bytes: 40, next: { last: "a" } },
      { referrers: [entry("b"), entry("a")], bytes: 50, next: undefined },
    ]);
    expect(list).toEqual([entry("a"), entry("b")]);
    expect(asked).toEqual([
      { query: {}, first: true, maxBytes: 100 },
      { query: { last: "a" }, first: false, maxBytes: 60 },
    ]);
  });

  test("without a first page there is no list", async () => {
    expect((await collect([undefined])).list).toBeUndefined();
  });

  test("pages without end are a bad answer", async () => {
    const endless = collect([{ referrers: [entry("a")], bytes: 0, next: { last: "a" } }]);
    await expect(endless).rejects.toMatchObject({ fault: "bad-answer" });
  });
});
