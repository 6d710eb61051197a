import fc from "fast-check";
import { expect, test } from "vitest";
import { formatNextLink, parseLink } from "../../../src/oci/link.ts";

test.each([
  ["distribution", '</v2/a/tags/list?last=b&n=2>; rel="next"', "/v2/a/tags/list?last=b&n=2", "next"],
  ["without quotes", "</v2/a/tags/list?n=2>; rel=next", "/v2/a/tags/list?n=2", "next"],
  ["without blanks", "</next>;rel=next", "/next", "next"],
  ["with many blanks", ' <  /next  >  ;  rel  =  "next"  ', "/next", "next"],
  ["in upper case", '</next>; REL="next"', "/next", "next"],
  ["absolute", '<https://r.example/v2/a?x=%2C>; rel="next"', "https://r.example/v2/a?x=%2C", "next"],
  ["a comma and a semicolon in the URL", '</a,b;c?d=e,f>; rel="next"', "/a,b;c?d=e,f", "next"],
  ["a quoted comma before", '</next>; title="a, <b>; rel=x"; rel="next"', "/next", "next"],
  ["an escaped quote", '</next>; title="a\\"; rel=x"; rel="next"', "/next", "next"],
  ["two relations", '</next>; rel="next last"', "/next", "next last"],
  ["the first of two", "</next>; rel=next; rel=prev", "/next", "next"],
  ["no relation", "</next>", "/next", undefined],
  ["an unfinished parameter", "</next>; rel", "/next", ""],
  ["a quote never closed", '</next>; rel="next', "/next", "next"],
  ["an empty URL", "<>; rel=next", "", "next"],
])("%s", (_name, header, url, rel) => {
  expect(parseLink(header)).toEqual([expect.objectContaining({ url, rel })]);
});

test("several links and their parameters", () => {
  const links = parseLink('</a>; rel=prev; X=1, </b>; rel="next"; title="t"');
  expect(links.map(({ url, rel }) => [url, rel])).toEqual([
    ["/a", "prev"],
    ["/b", "next"],
  ]);
  expect(links[0]?.parameters.get("x")).toBe("1");
  expect(links[1]?.parameters.get("title")).toBe("t");
});

test.each(["", "rel=next", "</never-closed; rel=next", ">", ",,,"])("%j holds no link", (header) => {
  expect(parseLink(header)).toEqual([]);
});

test("hostile headers stay bounded", () => {
  expect(parseLink("</a>,".repeat(10_000))).toHaveLength(16);
  const [link] = parseLink(`</a>${Array.from({ length: 10_000 }, (_, i) => `;p${i}=x`).join("")}`);
  expect(link?.parameters.size).toBe(16);
});

test("what is written can be read again", () => {
  fc.assert(
    fc.property(fc.webPath(), fc.webQueryParameters(), (path, query) => {
      const url = `${path}?${query}`;
      expect(parseLink(formatNextLink(url))).toEqual([expect.objectContaining({ url, rel: "next" })]);
    }),
  );
});

test("any text is read without throwing", () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[<>;,="\\ a]{0,60}$/));
  fc.assert(
    fc.property(text, (header) => {
      expect(parseLink(header).length).toBeLessThanOrEqual(16);
    }),
  );
});
