import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { html } from "../../../../src/http/page/html.ts";
import { find, parseHtml, textOf } from "../../../support/html-tree.ts";

test("text is escaped, in content and in attributes", () => {
  const hostile = `<script>alert("1")</script> & 'x' \`y\``;
  const element = find(parseHtml(html`<p title="${hostile}">${hostile}</p>`.toString()), "p");
  expect(element.attributes.get("title")).toBe(hostile);
  expect(element.children).toEqual([hostile]);
});

test("whatever the text is, it comes back as it was, and nothing else is there", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 60 }), (text) => {
      fc.pre(!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text) && text.isWellFormed());
      const root = parseHtml(html`<i title="${text}">${text}</i>`.toString());
      expect(root.children).toEqual([
        { name: "i", attributes: new Map([["title", text]]), children: text === "" ? [] : [text] },
      ]);
    }),
    { seed: 20_260_101 },
  );
});

test.each([
  ["the direction of writing", "exe\u202egpj.txt", "exe�gpj.txt"],
  ["control characters", "a\u0000b\u001bc\u007f\u009b", "a�b�c��"],
  ["invisible ones", "pay\u200bpal\ufeff", "pay�pal�"],
  ["line separators", "a\u2028b", "a�b"],
  ["half characters", "a\ud800b", "a�b"],
  ["line breaks and tabs stay", "a\n\tb", "a\n\tb"],
])("%s become visible", (_name, text, shown) => {
  expect(html`${text}`.toString()).toBe(shown);
});

describe("values", () => {
  test("markup of templates stays, lists are joined, undefined and false leave nothing, zero does not", () => {
    const list = ["<", html`<b>x</b>`, undefined, false, 0, [1, "&"]];
    expect(html`<p>${list}</p>`.toString()).toBe("<p>&lt;<b>x</b>01&amp;</p>");
  });

  test("what only looks like markup is text", () => {
    const forged = { toString: () => "<b>x</b>" };
    expect(html`${forged}`.toString()).toBe("&lt;b&gt;x&lt;/b&gt;");
  });

  test("an attribute without quotes is refused", () => {
    expect(() => html`<a href=${"x onclick=y"}>x</a>`).toThrow("double quotes");
  });
});

test("the tests' reader takes nothing that is not escaped", () => {
  for (const wrong of ["<p>a & b</p>", "<p><script>", "<p>1 < 2</p>", "<p title='x'></p>", "<b></p>", "<p>"]) {
    expect(() => textOf(parseHtml(wrong)), wrong).toThrow();
  }
});
